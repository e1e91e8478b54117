//! The limits and waits of a connection.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};

use crate::{
    codec::{Deflate, Deflation, Limits, Load},
    handshake::extension::Unacceptable,
    time::{
        Moment,
        keepalive::Intervals,
        limit::{Shown, lifetime, timeout},
        rate::{Allowance, Rate},
    },
};

/// Limits and waits of a connection, safe as they come.
///
/// Every connection of a layer has the same ones, unless
/// [`Accept::configure`](crate::Accept::configure) changes them for one. How many connections there may be is a setting of
/// [`Connections`](crate::Connections); the waits of the opening handshake are settings of the
/// [`WebSocketLayer`](crate::WebSocketLayer). Sizes are in bytes. Pass [`Duration::MAX`] to disable a
/// timeout that no `without_…` method disables.
///
/// A duration or count below the minimum that its method names counts as that minimum: none ends the
/// connection of a well-behaved peer that is some milliseconds late. `Debug` shows the values in
/// effect.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_websocket::{Config, Echo, WebSocketLayer};
///
/// let config = Config::new()
///     .max_message_size(64 * 1024)
///     .keepalive(Duration::from_secs(60), Duration::from_secs(10));
/// let layer = WebSocketLayer::new(Echo::new()).config(config);
/// ```
#[derive(Clone)]
pub struct Config {
    max_message_size: usize,
    max_frame_size: Option<usize>,
    max_fragments: u32,
    max_empty_fragments: u32,
    assembly_timeout: Duration,
    control_frames: Rate,
    message_rate: Option<Rate>,
    byte_rate: Option<Rate>,
    inbox: Bound,
    outbox: Bound,
    write_timeout: Duration,
    receive_timeout: Duration,
    handler_grace: Duration,
    keepalive: Option<Intervals>,
    first_message_timeout: Option<Duration>,
    max_lifetime: Option<Duration>,
    close_timeout: Duration,
    nodelay: bool,
    notsent_lowat: Option<u32>,
    deflate: Option<Deflate>,
}

/// The options of TCP that a connection's socket gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpOptions {
    pub(crate) nodelay: bool,
    pub(crate) notsent_lowat: Option<u32>,
}

/// How much a queue of messages may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Bound {
    /// Returns whether a message of `len` bytes may be added to two loads. One over the bound may be
    /// when there is nothing else: else it could never be.
    pub(crate) const fn takes(self, one: Load, other: Load, len: usize) -> bool {
        let messages = one.messages + other.messages;
        let bytes = one.bytes + other.bytes;
        (messages == 0 && bytes == 0)
            || (messages < self.messages && bytes.saturating_add(len) <= self.bytes)
    }
}

impl Config {
    /// Makes a configuration with the defaults named at each setting.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_message_size: 1024 * 1024,
            max_frame_size: None,
            max_fragments: 16_384,
            max_empty_fragments: 16,
            assembly_timeout: Duration::from_secs(60),
            control_frames: Rate {
                per_second: 100,
                burst: 200,
            },
            message_rate: None,
            byte_rate: None,
            inbox: Bound {
                messages: 16,
                bytes: 64 * 1024,
            },
            outbox: Bound {
                messages: 1024,
                bytes: 1024 * 1024,
            },
            write_timeout: Duration::from_secs(10),
            receive_timeout: Duration::from_secs(5 * 60),
            handler_grace: Duration::from_secs(30),
            keepalive: Some(Intervals {
                silence: Duration::from_secs(20),
                answer: Duration::from_secs(20),
            }),
            first_message_timeout: None,
            max_lifetime: None,
            close_timeout: Duration::from_secs(5),
            nodelay: true,
            notsent_lowat: None,
            deflate: None,
        }
    }

    /// Caps one incoming message, in bytes, counted after reassembly and decompression.
    ///
    /// A larger message ends the connection with close code 1009
    /// ([RFC 6455 §7.4.1](https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1)): a frame that
    /// declares too much is refused at its head, before its payload is buffered. With 0 only empty
    /// messages pass. Control frames are not limited by it. Default: 1 MiB.
    #[must_use]
    pub const fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// Caps one incoming frame, in bytes of payload.
    ///
    /// A larger one ends the connection with 1009, at its head. A peer that does not fragment can send
    /// no larger message than this. With 0 only empty frames pass. Control frames are not limited by
    /// it. Default: as the message.
    #[must_use]
    pub const fn max_frame_size(mut self, bytes: usize) -> Self {
        self.max_frame_size = Some(bytes);
        self
    }

    /// Caps the frames of one incoming message, and among them those that are empty and not the
    /// last.
    ///
    /// Each frame costs work, however small it is; past either number the connection ends with
    /// 1008. Minimum: 16 frames, and 4 empty ones. Defaults: 16,384 and 16.
    #[must_use]
    pub const fn max_fragments(mut self, frames: u32, empty: u32) -> Self {
        self.max_fragments = at_least(frames, 16);
        self.max_empty_fragments = at_least(empty, 4);
        self
    }

    /// Bounds the time from the first byte of an incoming message to its last.
    ///
    /// Past it the connection ends with 1008. This is also what notices a peer that vanishes in the
    /// middle of a message: [`keepalive`](Self::keepalive) does not judge one that is sending,
    /// because a pong cannot overtake the rest of a frame. Minimum: 50 ms. Default: 60 s.
    #[must_use]
    pub const fn assembly_timeout(mut self, limit: Duration) -> Self {
        self.assembly_timeout = timeout(limit);
        self
    }

    /// Caps the incoming pings and pongs: so many a second in the long run, and `burst` at once.
    ///
    /// Past that the connection ends with 1008. The answers to our own pings are free. Minimum: 1 a
    /// second, 10 at once. Defaults: 100 a second, 200 at once.
    #[must_use]
    pub const fn max_control_frames(mut self, per_second: u32, burst: u32) -> Self {
        self.control_frames = Rate {
            per_second: at_least(per_second, 1),
            burst: at_least(burst, 10),
        };
        self
    }

    /// Caps the incoming messages: so many a second in the long run, and `burst` at once.
    ///
    /// Past that the connection ends with 1008 and
    /// [`RecvError::TooFast`](crate::error::RecvError::TooFast). Messages that came while nothing was read,
    /// because the handler had taken none or the peer read nothing, may come at once afterwards. Minimum:
    /// 1 a second, 10 at once. Default: no cap.
    #[must_use]
    pub const fn max_message_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.message_rate = Some(Rate {
            per_second: at_least(per_second, 1),
            burst: at_least(burst, 10),
        });
        self
    }

    /// Caps the bytes of incoming messages, after decompression: so many a second in the long run, and
    /// `burst` at once.
    ///
    /// A message counts when it is whole, and one that is larger than `burst` is always too much. Otherwise
    /// as [`max_message_rate`](Self::max_message_rate). Default: no cap.
    #[must_use]
    pub const fn max_byte_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.byte_rate = Some(Rate { per_second, burst });
        self
    }

    /// Sets how far reading may be ahead of the handler, in messages and in bytes.
    ///
    /// When either is reached, reading stops at the next message until the handler has received
    /// one; TCP then slows the peer down. Pings before that message are answered, those behind it
    /// wait. Minimum: 1 message of any size. Defaults: 16 messages, 64 KiB.
    #[must_use]
    pub const fn max_inbox(mut self, messages: usize, bytes: usize) -> Self {
        self.inbox = bound(messages, bytes);
        self
    }

    /// Sets how much may wait to be written, in messages and in bytes of frames.
    ///
    /// When either is reached, [`WebSocket::send`](crate::WebSocket::send) waits and
    /// [`Sender::try_send`](crate::Sender::try_send) fails. A message that is still to be compressed counts
    /// by its length. A message that is larger than the bound is taken when nothing else waits. Minimum: 1 message of any size. Defaults: 1,024
    /// messages, 1 MiB.
    #[must_use]
    pub const fn max_outbox(mut self, messages: usize, bytes: usize) -> Self {
        self.outbox = bound(messages, bytes);
        self
    }

    /// Bounds the time for which a peer may take none of what is to be written: `limit` where little
    /// was written, up to 3 × `limit` on a TCP socket and 10 × `limit` on any other stream behind much.
    ///
    /// Past it the connection is dropped without a Close, which could not reach such a peer.
    /// Minimum: 50 ms. Default: 10 s.
    ///
    /// A peer that reads slowly is kept. Sockets, TLS and HTTP/2 take bytes long before the peer reads
    /// them, and report room for more only in large steps. So the bound grows with what the stream has
    /// taken: it is the time in which a peer that reads 512 bytes a second would have read all of
    /// that, at least `limit` and at most:
    ///
    /// - On a TCP socket, 3 × `limit`. With Linux's default receive buffer a step is up to 128 KiB, for
    ///   which the peer has 30 s by default. A peer that reads 5 KB/s is kept.
    /// - On any other stream, 10 × `limit`, because the socket is out of reach. Over HTTP/2 a client
    ///   that reads 1 KiB/s and grants windows of up to 64 KiB is kept. Over TLS a step is a third of
    ///   the socket's send buffer, which Linux lets grow to 4 MiB: a peer that reads 20 KB/s is kept.
    ///   A listener with a send buffer of 256 KiB, such as
    ///   [`TcpSocket::set_send_buffer_size`](tokio::net::TcpSocket::set_send_buffer_size) sets, keeps
    ///   those that read 5 KB/s.
    ///
    /// A slower peer is kept as long as everything fits the buffers. While the connection closes, the
    /// rate is 16 KiB a second instead of 512 bytes.
    #[must_use]
    pub const fn write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = timeout(limit);
        self
    }

    /// Bounds the time for which the handler may take no message while one waits for room in the
    /// [inbox](Self::max_inbox).
    ///
    /// Past it the connection ends with 1008, and a warning names the handler's type and the path:
    /// a peer that went away without a word cannot be told from one that waits, because nothing is
    /// read. The end of a TCP connection, and the reset of a TCP connection or of an HTTP/2 stream,
    /// is noticed within a second meanwhile, on Linux and macOS; that of TLS is not. After the end of a
    /// TCP connection the handler has to take a message every [`handler_grace`](Self::handler_grace),
    /// if that is shorter than `limit`; after the reset of an HTTP/2 stream, or the end of its connection, every
    /// second. A handler that only sends calls
    /// [`WebSocket::ignore_incoming`](crate::WebSocket::ignore_incoming). Minimum: 50 ms. Default:
    /// 5 minutes.
    #[must_use]
    pub const fn receive_timeout(mut self, limit: Duration) -> Self {
        self.receive_timeout = timeout(limit);
        self
    }

    /// Bounds the time for which a handler may go on after its connection is over.
    ///
    /// Past it the handler's future is dropped, and a warning names its type and the path. Meanwhile
    /// it holds no place of
    /// [`Connections::max_connections`](crate::Connections::max_connections). Tasks that the handler has spawned are not
    /// dropped. Minimum: 50 ms. Default: 30 s.
    #[must_use]
    pub const fn handler_grace(mut self, limit: Duration) -> Self {
        self.handler_grace = timeout(limit);
        self
    }

    /// Sets after which silence a peer is pinged, and how long it may take to answer.
    ///
    /// A peer that neither answers with the payload of the ping nor sends anything but pongs is
    /// taken for gone and its connection dropped ([RFC 6455 §5.5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.2)).
    /// Time in which the handler lets nothing be read does not count.
    ///
    /// The peer reads what was written before the ping first. So the answer may take as long as a peer
    /// that reads 512 bytes a second needs for what it cannot have read yet, at least `answer` and at
    /// most 10 × `answer`. Behind messages that
    /// [`Echo`](crate::Echo) sends back the ping may come later by an eighth of the silence. Minimum:
    /// 50 ms each. Defaults: 20 s and 20 s, below the 30 to 60 s after which proxies cut silent
    /// connections.
    #[must_use]
    pub const fn keepalive(mut self, silence: Duration, answer: Duration) -> Self {
        self.keepalive = Some(Intervals {
            silence: timeout(silence),
            answer: timeout(answer),
        });
        self
    }

    /// Sends no pings: a peer that vanished without a word is noticed only when something is sent
    /// to it.
    #[must_use]
    pub const fn without_keepalive(mut self) -> Self {
        self.keepalive = None;
        self
    }

    /// Bounds the time from the opening to the first message, so that connections that nobody uses
    /// do not stay.
    ///
    /// Past it the connection ends with 1008. Minimum: 1 s, because the peer reads the
    /// answer to its handshake first. Default: no bound.
    #[must_use]
    pub const fn first_message_timeout(mut self, limit: Duration) -> Self {
        self.first_message_timeout = Some(lifetime(limit));
        self
    }

    /// Bounds the lifetime of a connection, so that clients spread over the nodes again, or show
    /// that their token is still good.
    ///
    /// Past it the connection is closed with 1001. Minimum: 1 s, so that a peer that keeps
    /// coming back can exchange some messages. Default: no bound.
    #[must_use]
    pub const fn max_lifetime(mut self, limit: Duration) -> Self {
        self.max_lifetime = Some(lifetime(limit));
        self
    }

    /// Bounds the closing handshake, from the first Close until the peer is gone.
    ///
    /// The bound is absolute: a peer that keeps sending does not prolong it. What was waiting to be
    /// written before the Close does, by a second for each whole 16 KiB. Past it the connection is
    /// dropped. Minimum: 50 ms. Default: 5 s.
    #[must_use]
    pub const fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = timeout(limit);
        self
    }

    /// Leaves `TCP_NODELAY` as the server has set it.
    ///
    /// By default it is switched on after the upgrade, where the server's stream is a
    /// [`TcpStream`](tokio::net::TcpStream): Nagle's algorithm, which `axum::serve` leaves on, would
    /// hold back a small message until the one before it is acknowledged, for 40 ms and more.
    /// Streams of other types, such as TLS, are the server's to configure.
    #[must_use]
    pub const fn without_nodelay(mut self) -> Self {
        self.nodelay = false;
        self
    }

    /// Has the system take no more of what is to be written than `bytes` beyond what it has sent
    /// (`TCP_NOTSENT_LOWAT`), on Linux and Android and for TCP streams.
    ///
    /// Without it a peer that reads slowly has up to 4 MiB before it, which the system has taken and nobody
    /// can take back. With 16 KiB, say, messages wait in the [outbox](Self::max_outbox) instead: the handler
    /// notices how slow its peer is, and may leave out what is out of date. It costs one more wake-up of
    /// the connection for each such amount. With 0 the system's own setting counts, which is also the default.
    #[must_use]
    pub const fn notsent_lowat(mut self, bytes: u32) -> Self {
        self.notsent_lowat = Some(bytes);
        self
    }

    /// Returns the options of TCP.
    pub(crate) const fn tcp_options(&self) -> TcpOptions {
        TcpOptions {
            nodelay: self.nodelay,
            notsent_lowat: self.notsent_lowat,
        }
    }

    /// Compresses messages with clients that offer it, or as a client offers it (RFC 7692).
    ///
    /// Default: off.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub const fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    /// Compresses nothing. Default.
    ///
    /// For one connection among others that are compressed:
    /// [`Accept::configure`](crate::Accept::configure).
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn without_deflate(mut self) -> Self {
        self.deflate = None;
        self
    }

    /// Agrees with a client on compression, if that is wanted: with the values of the field by which it
    /// offers extensions. The value that is returned is for the 101.
    pub(crate) fn agree(&self, offers: Vec<HeaderValue>) -> Option<(Deflation, HeaderValue)> {
        let deflate = self.deflate.as_ref()?;
        let offers = offers.into_iter();
        let offers: HeaderMap = offers
            .map(|offer| (SEC_WEBSOCKET_EXTENSIONS, offer))
            .collect();
        deflate.accept(&offers)
    }

    /// Returns the field that offers compression to a server, if that is wanted.
    #[cfg_attr(
        not(feature = "client"),
        allow(dead_code, reason = "only clients offer")
    )]
    pub(crate) fn offer(&self) -> Option<HeaderValue> {
        self.deflate.as_ref()?.offer()
    }

    /// Reads what a server answered to [`offer`](Self::offer), `None` if it declined.
    ///
    /// # Errors
    ///
    /// [`Unacceptable`] if the connection is to be failed (RFC 6455 §4.1).
    #[cfg_attr(
        not(feature = "client"),
        allow(dead_code, reason = "only clients offer")
    )]
    pub(crate) fn confirm(&self, answer: &HeaderMap) -> Result<Option<Deflation>, Unacceptable> {
        match &self.deflate {
            Some(deflate) => deflate.confirm(answer),
            None if answer.contains_key(SEC_WEBSOCKET_EXTENSIONS) => Err(Unacceptable),
            None => Ok(None),
        }
    }

    /// Returns how much a peer may send, from now on, if that is bounded.
    pub(crate) fn allowance(&self, now: Moment) -> Option<Box<Allowance>> {
        Allowance::new(self.message_rate, self.byte_rate, now)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            message: self.max_message_size,
            frame: self.max_frame_size.unwrap_or(self.max_message_size),
            fragments: self.max_fragments,
            empty_fragments: self.max_empty_fragments,
            assembly: Some(self.assembly_timeout),
        }
    }

    pub(crate) const fn control_frames(&self) -> Rate {
        self.control_frames
    }

    pub(crate) const fn inbox(&self) -> Bound {
        self.inbox
    }

    pub(crate) const fn outbox(&self) -> Bound {
        self.outbox
    }

    pub(crate) const fn write_limit(&self) -> Duration {
        self.write_timeout
    }

    pub(crate) const fn receive_limit(&self) -> Duration {
        self.receive_timeout
    }

    pub(crate) const fn handler_limit(&self) -> Duration {
        self.handler_grace
    }

    pub(crate) const fn keepalive_intervals(&self) -> Option<Intervals> {
        self.keepalive
    }

    pub(crate) const fn first_message_limit(&self) -> Option<Duration> {
        self.first_message_timeout
    }

    pub(crate) const fn lifetime_limit(&self) -> Option<Duration> {
        self.max_lifetime
    }

    pub(crate) const fn close_limit(&self) -> Duration {
        self.close_timeout
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows each setting under the name of its method, with the value that counts.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = |rate: Rate| (rate.per_second, rate.burst);
        let keepalive = self.keepalive;
        let keepalive = keepalive.map(|every| (Shown(every.silence), Shown(every.answer)));
        let limits = self.limits();
        f.debug_struct("Config")
            .field("max_message_size", &limits.message)
            .field("max_frame_size", &limits.frame.min(limits.message))
            .field("max_fragments", &(limits.fragments, limits.empty_fragments))
            .field("assembly_timeout", &Shown(self.assembly_timeout))
            .field("max_control_frames", &pair(self.control_frames))
            .field("max_message_rate", &self.message_rate.map(pair))
            .field("max_byte_rate", &self.byte_rate.map(pair))
            .field("max_inbox", &(self.inbox.messages, self.inbox.bytes))
            .field("max_outbox", &(self.outbox.messages, self.outbox.bytes))
            .field("write_timeout", &Shown(self.write_timeout))
            .field("receive_timeout", &Shown(self.receive_timeout))
            .field("handler_grace", &Shown(self.handler_grace))
            .field("keepalive", &keepalive)
            .field(
                "first_message_timeout",
                &self.first_message_timeout.map(Shown),
            )
            .field("max_lifetime", &self.max_lifetime.map(Shown))
            .field("close_timeout", &Shown(self.close_timeout))
            .field("nodelay", &self.nodelay)
            .field("notsent_lowat", &self.notsent_lowat)
            .field("deflate", &self.deflate)
            .finish()
    }
}

const fn at_least(count: u32, least: u32) -> u32 {
    if count < least { least } else { count }
}

/// A queue that takes nothing would hang its connection.
const fn bound(messages: usize, bytes: usize) -> Bound {
    Bound {
        messages: if messages == 0 { 1 } else { messages },
        bytes: if bytes == 0 { 1 } else { bytes },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: [Duration; 2] = [Duration::ZERO, Duration::from_nanos(1)];

    #[test]
    fn raises_counts_below_the_minimum() {
        let counts = (at_least(15, 16), at_least(16, 16), at_least(17, 16));
        assert_eq!(counts, (16, 16, 17));
    }

    /// What is printed is what counts, in the order of the methods and under their names.
    #[test]
    fn prints_the_values_that_count() {
        let printed = format!("{:?}", Config::new().max_message_size(2000));
        assert_eq!(
            printed,
            "Config { max_message_size: 2000, max_frame_size: 2000, max_fragments: (16384, 16), \
             assembly_timeout: 60s, max_control_frames: (100, 200), max_message_rate: None, \
             max_byte_rate: None, max_inbox: (16, 65536), \
             max_outbox: (1024, 1048576), write_timeout: 10s, receive_timeout: 300s, \
             handler_grace: 30s, keepalive: Some((20s, 20s)), \
             first_message_timeout: None, max_lifetime: None, close_timeout: 5s, nodelay: true, \
             notsent_lowat: None, deflate: None }"
        );
        for tiny in TINY {
            let config = Config::new()
                .max_frame_size(usize::MAX)
                .max_fragments(0, 0)
                .assembly_timeout(tiny)
                .max_control_frames(0, 0)
                .max_message_rate(0, 0)
                .max_byte_rate(0, 7)
                .max_inbox(0, 0)
                .max_outbox(0, 0)
                .write_timeout(tiny)
                .receive_timeout(tiny)
                .handler_grace(tiny)
                .keepalive(tiny, Duration::MAX)
                .first_message_timeout(tiny)
                .max_lifetime(Duration::MAX)
                .close_timeout(tiny)
                .without_nodelay()
                .notsent_lowat(0);
            assert_eq!(
                format!("{config:?}"),
                "Config { max_message_size: 1048576, max_frame_size: 1048576, \
                 max_fragments: (16, 4), assembly_timeout: 50ms, max_control_frames: (1, 10), \
                 max_message_rate: Some((1, 10)), max_byte_rate: Some((0, 7)), \
                 max_inbox: (1, 1), max_outbox: (1, 1), write_timeout: 50ms, \
                 receive_timeout: 50ms, handler_grace: 50ms, \
                 keepalive: Some((50ms, unlimited)), first_message_timeout: Some(1s), \
                 max_lifetime: Some(unlimited), close_timeout: 50ms, nodelay: false, \
                 notsent_lowat: Some(0), deflate: None }"
            );
        }
    }
}
