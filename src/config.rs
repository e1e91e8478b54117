//! The limits and timeouts of a connection.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};

use crate::{
    codec::{Bound, Deflate, Deflation, Limits},
    handshake::extension::Unacceptable,
    time::{
        Moment,
        keepalive::Intervals,
        limit::{Shown, lifetime, timeout},
        rate::{Allowance, Rate},
    },
};

/// Limits and timeouts of a connection, with safe defaults.
///
/// All connections of a layer have the same settings.
/// [`Accept::configure`](crate::Accept::configure) changes them for one connection. The limit on the number
/// of connections is a setting of [`Connections`](crate::Connections). The timeouts of the opening handshake
/// are settings of the [`WebSocketLayer`](crate::WebSocketLayer). Sizes are in bytes. Pass [`Duration::MAX`]
/// to disable a timeout that has no `without_…` method.
///
/// Each method names its minimum. A smaller duration or count is raised to that minimum, because it could
/// end the connection of a correct peer that is a few milliseconds late. `Debug` shows the values in effect.
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
    limits: Limits,
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

/// The TCP options for a connection's socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpOptions {
    pub(crate) nodelay: bool,
    #[cfg_attr(
        not(any(target_os = "android", target_os = "linux")),
        expect(dead_code, reason = "only Linux has it")
    )]
    pub(crate) notsent_lowat: Option<u32>,
}

impl Config {
    /// Makes a configuration with the default that each method names.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            limits: Limits {
                message: 1024 * 1024,
                frame: usize::MAX,
                fragments: 16_384,
                empty_fragments: 16,
                assembly: Duration::from_secs(60),
            },
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
    /// ([RFC 6455 §7.4.1](https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1)). A frame whose head declares
    /// too many bytes is refused before its payload is buffered. With 0 only empty messages are allowed.
    /// Control frames are not limited. Default: 1 MiB.
    #[must_use]
    pub const fn max_message_size(mut self, bytes: usize) -> Self {
        self.limits.message = bytes;
        self
    }

    /// Caps one incoming frame, in bytes of payload.
    ///
    /// A larger frame ends the connection with 1009 as soon as its head is read. This also limits the messages
    /// of a peer that does not fragment. With 0 only empty frames are allowed. Control frames are not limited.
    /// Default: [`max_message_size`](Self::max_message_size).
    #[must_use]
    pub const fn max_frame_size(mut self, bytes: usize) -> Self {
        self.limits.frame = bytes;
        self
    }

    /// Caps the frames of one incoming message, and the empty frames before its last one.
    ///
    /// Even an empty frame costs CPU time. A message over either limit ends the connection with 1008. Minimum:
    /// 16 frames, and 4 empty ones. Defaults: 16,384 and 16.
    #[must_use]
    pub const fn max_fragments(mut self, frames: u32, empty: u32) -> Self {
        self.limits.fragments = at_least(frames, 16);
        self.limits.empty_fragments = at_least(empty, 4);
        self
    }

    /// Bounds the time from the first byte of an incoming message to its last.
    ///
    /// A slower message ends the connection with 1008. This timeout also detects a peer that vanishes in the
    /// middle of a message: [`keepalive`](Self::keepalive) does not apply there, because a pong cannot
    /// overtake the rest of a frame. Minimum: 50 ms. Default: 60 s.
    #[must_use]
    pub const fn assembly_timeout(mut self, limit: Duration) -> Self {
        self.limits.assembly = timeout(limit);
        self
    }

    /// Caps the incoming pings and pongs: `per_second` on average, and `burst` at once.
    ///
    /// More of them end the connection with 1008. Answers to our own pings do not count. Minimum: 1 a
    /// second, 10 at once. Defaults: 100 a second, 200 at once.
    #[must_use]
    pub const fn max_control_frames(mut self, per_second: u32, burst: u32) -> Self {
        self.control_frames = Rate {
            per_second: at_least(per_second, 1),
            burst: at_least(burst, 10),
        };
        self
    }

    /// Caps the incoming messages: `per_second` on average, and `burst` at once.
    ///
    /// More of them end the connection with 1008 and
    /// [`RecvError::TooFast`](crate::error::RecvError::TooFast). Reading pauses while the handler takes no
    /// messages, or while the peer reads nothing. The messages that `per_second` allows in such a pause may
    /// arrive at once after it. Minimum: 1 a second, 10 at once. Default: no cap.
    #[must_use]
    pub const fn max_message_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.message_rate = Some(Rate {
            per_second: at_least(per_second, 1),
            burst: at_least(burst, 10),
        });
        self
    }

    /// Caps the bytes of incoming messages, after decompression: `per_second` on average, and `burst` at once.
    ///
    /// A message is counted when it is complete. A message larger than `burst` always exceeds the cap. In all
    /// other respects this works like [`max_message_rate`](Self::max_message_rate). No minimum. Default: no cap.
    #[must_use]
    pub const fn max_byte_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.byte_rate = Some(Rate { per_second, burst });
        self
    }

    /// Caps the messages that are read before the handler receives them, in messages and in bytes.
    ///
    /// At either limit reading stops at the next message, until the handler receives one. TCP then slows the
    /// peer down. Pings before that message are answered; pings after it wait. Minimum: 1 message of any size.
    /// Defaults: 16 messages, 64 KiB.
    #[must_use]
    pub const fn max_inbox(mut self, messages: usize, bytes: usize) -> Self {
        self.inbox = bound(messages, bytes);
        self
    }

    /// Caps the messages that wait to be written, in messages and in bytes of frames.
    ///
    /// At either limit [`WebSocket::send`](crate::WebSocket::send) waits and
    /// [`Sender::try_send`](crate::Sender::try_send) fails. Before a message is compressed, its uncompressed
    /// length counts. A message larger than the limit is accepted if no other message waits. Minimum: 1 message
    /// of any size. Defaults: 1,024 messages, 1 MiB.
    #[must_use]
    pub const fn max_outbox(mut self, messages: usize, bytes: usize) -> Self {
        self.outbox = bound(messages, bytes);
        self
    }

    /// Bounds the time without write progress, while the peer takes no data.
    ///
    /// After little data the bound is `limit`. After much data it is up to 3 × `limit` on a TCP socket, and up
    /// to 10 × `limit` on any other stream. After that time the connection is dropped without a Close, which
    /// could not reach such a peer. Minimum: 50 ms. Default: 10 s.
    ///
    /// A peer that reads slowly stays connected. Sockets, TLS and HTTP/2 accept bytes long before the peer
    /// reads them, and report free space only in large steps. So the bound grows with the bytes that the stream
    /// has accepted: it is the time in which a peer that reads 512 bytes a second would read all of them. It is
    /// at least `limit` and at most:
    ///
    /// - On a TCP socket, 3 × `limit`. With Linux's default receive buffer a step is up to 128 KiB, and by
    ///   default the peer has 30 s to read it. A peer that reads 5 KB/s stays connected.
    /// - On any other stream, 10 × `limit`, because the crate has no access to the socket. An HTTP/2 client
    ///   that reads 1 KiB/s stays connected, if it grants windows of up to 64 KiB. Over TLS a step is a third
    ///   of the socket's send buffer, which grows to 4 MiB on Linux: a peer that reads 20 KB/s stays connected.
    ///   With a send buffer of 256 KiB, set with
    ///   [`TcpSocket::set_send_buffer_size`](tokio::net::TcpSocket::set_send_buffer_size) on the listener,
    ///   5 KB/s is enough.
    ///
    /// A slower peer stays connected while all data fits the buffers. While the connection closes, the rate is
    /// 16 KiB a second instead of 512 bytes.
    #[must_use]
    pub const fn write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = timeout(limit);
        self
    }

    /// Bounds the time in which the handler takes no message although the [inbox](Self::max_inbox) is full and
    /// another message waits.
    ///
    /// After that time the connection ends with 1008, and a warning names the handler's type and the path.
    /// The reason: while nothing is read, a peer that vanished looks like a peer that waits. Minimum: 50 ms.
    /// Default: 5 minutes.
    ///
    /// A handler that only sends calls [`WebSocket::ignore_incoming`](crate::WebSocket::ignore_incoming).
    ///
    /// While nothing is read, some ends of the stream are still detected within a second:
    ///
    /// - On Linux and macOS, the end of a TCP connection. From then on the handler has to take a message every
    ///   [`handler_grace`](Self::handler_grace), if that is shorter than `limit`.
    /// - On Linux and macOS, the reset of a TCP connection.
    /// - The reset of an HTTP/2 stream, or the end of its connection. From then on the handler has to take a
    ///   message every second.
    ///
    /// The end of a TLS connection is not detected.
    #[must_use]
    pub const fn receive_timeout(mut self, limit: Duration) -> Self {
        self.receive_timeout = timeout(limit);
        self
    }

    /// Bounds the time for which a handler may run after its connection ended.
    ///
    /// After that time the handler's future is dropped, and a warning names its type and the path. A handler
    /// in this state does not count towards
    /// [`Connections::max_connections`](crate::Connections::max_connections). Tasks that the handler spawned
    /// are not dropped. Minimum: 50 ms. Default: 30 s.
    #[must_use]
    pub const fn handler_grace(mut self, limit: Duration) -> Self {
        self.handler_grace = timeout(limit);
        self
    }

    /// Pings a peer after `silence` without data from it, and drops the connection if no answer arrives within
    /// `answer`.
    ///
    /// An answer is a pong with the ping's payload, or any frame except a pong. A peer that sends no answer is
    /// considered gone ([RFC 6455 §5.5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.2)). Time in which
    /// reading is paused for the handler does not count.
    ///
    /// The peer has to read all earlier data before it reads the ping. So the wait for the answer grows with the
    /// bytes that the peer may not have read yet: it is the time in which a peer that reads 512 bytes a second
    /// would read them. It is at least `answer` and at most 10 × `answer`.
    ///
    /// Minimum: 50 ms each.
    /// Defaults: 20 s and 20 s, because proxies cut silent connections after 30 to 60 s.
    #[must_use]
    pub const fn keepalive(mut self, silence: Duration, answer: Duration) -> Self {
        self.keepalive = Some(Intervals {
            silence: timeout(silence),
            answer: timeout(answer),
        });
        self
    }

    /// Sends no pings. A peer that vanished is then detected only when data is sent to it.
    #[must_use]
    pub const fn without_keepalive(mut self) -> Self {
        self.keepalive = None;
        self
    }

    /// Bounds the time from the opening handshake to the first message, to end unused connections.
    ///
    /// After that time the connection ends with 1008. Minimum: 1 s, because the peer reads the answer to its
    /// handshake first. Default: no bound.
    #[must_use]
    pub const fn first_message_timeout(mut self, limit: Duration) -> Self {
        self.first_message_timeout = Some(lifetime(limit));
        self
    }

    /// Bounds the lifetime of a connection. Clients then reconnect: to another node, or with a new token.
    ///
    /// After that time the connection is closed with 1001. Minimum: 1 s, which leaves a peer that always
    /// reconnects time for some messages. Default: no bound.
    #[must_use]
    pub const fn max_lifetime(mut self, limit: Duration) -> Self {
        self.max_lifetime = Some(lifetime(limit));
        self
    }

    /// Bounds the closing handshake, from the first Close to the end of the connection.
    ///
    /// After that time the connection is dropped. Data from the peer does not extend the time. Data that waits
    /// to be written before the Close extends it by one second for each whole 16 KiB. Minimum: 50 ms.
    /// Default: 5 s.
    #[must_use]
    pub const fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = timeout(limit);
        self
    }

    /// Leaves `TCP_NODELAY` as the server has set it.
    ///
    /// By default it is switched on after the upgrade, if the server's stream is a
    /// [`TcpStream`](tokio::net::TcpStream). `axum::serve` leaves Nagle's algorithm on, which delays a small
    /// message until the previous one is acknowledged: by 40 ms and more. On streams of other types, such as
    /// TLS, the server has to set the option.
    #[must_use]
    pub const fn without_nodelay(mut self) -> Self {
        self.nodelay = false;
        self
    }

    /// Limits the unsent bytes in the socket's send buffer (`TCP_NOTSENT_LOWAT`). Only for TCP streams on Linux
    /// and Android.
    ///
    /// Without this limit the send buffer for a slow peer holds up to 4 MiB, and these bytes cannot be
    /// withdrawn. With a limit, such as 16 KiB, messages wait in the [outbox](Self::max_outbox) instead. The
    /// handler then notices that its peer is slow, and can skip outdated messages. The cost is one more wake-up
    /// of the connection for each `bytes` written. Default: 0, the setting of the system.
    #[must_use]
    pub const fn notsent_lowat(mut self, bytes: u32) -> Self {
        self.notsent_lowat = Some(bytes);
        self
    }

    pub(crate) const fn tcp_options(&self) -> TcpOptions {
        TcpOptions {
            nodelay: self.nodelay,
            notsent_lowat: self.notsent_lowat,
        }
    }

    /// Compresses messages (RFC 7692). A server accepts the offers of its clients; a client offers it.
    ///
    /// Default: off.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub const fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    /// Switches compression off. Default.
    ///
    /// Use it in [`Accept::configure`](crate::Accept::configure) to switch compression off for one connection.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn without_deflate(mut self) -> Self {
        self.deflate = None;
        self
    }

    /// Negotiates compression with a client, unless it is off. `offers` are the values of the client's
    /// `Sec-WebSocket-Extensions`. The returned value is for the 101.
    pub(crate) fn agree(&self, offers: Vec<HeaderValue>) -> Option<(Deflation, HeaderValue)> {
        let deflate = self.deflate.as_ref()?;
        let offers = offers.into_iter();
        let offers: HeaderMap = offers
            .map(|offer| (SEC_WEBSOCKET_EXTENSIONS, offer))
            .collect();
        deflate.accept(&offers)
    }

    /// Returns the `Sec-WebSocket-Extensions` of a client, or `None` if compression is off.
    #[cfg_attr(
        not(feature = "client"),
        allow(dead_code, reason = "only clients offer")
    )]
    pub(crate) fn offer(&self) -> Option<HeaderValue> {
        self.deflate.as_ref()?.offer()
    }

    /// Reads the server's answer to [`offer`](Self::offer). Returns `None` if the server declined.
    ///
    /// # Errors
    ///
    /// [`Unacceptable`] if the client has to fail the connection (RFC 6455 §4.1).
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

    /// Returns the rate limiter for incoming messages, or `None` without rate limits.
    pub(crate) fn allowance(&self, now: Moment) -> Option<Box<Allowance>> {
        Allowance::new(self.message_rate, self.byte_rate, now)
    }

    pub(crate) const fn control_frames(&self) -> Rate {
        self.control_frames
    }

    pub(crate) const fn inbox(&self) -> Bound {
        self.inbox
    }

    pub(crate) const fn limits(&self) -> Limits {
        self.limits
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

/// Shows each setting under the name of its method, with the value in effect.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = |rate: Rate| (rate.per_second, rate.burst);
        let keepalive = self.keepalive;
        let keepalive = keepalive.map(|every| (Shown(every.silence), Shown(every.answer)));
        let limits = self.limits;
        f.debug_struct("Config")
            .field("max_message_size", &limits.message)
            .field("max_frame_size", &limits.frame.min(limits.message))
            .field("max_fragments", &(limits.fragments, limits.empty_fragments))
            .field("assembly_timeout", &Shown(limits.assembly))
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

/// Raises zeros to 1: a queue without capacity would hang its connection.
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

    #[test]
    fn as_ref_of_a_shared_configuration_needs_no_type() {
        let shared = std::sync::Arc::new(Config::new());
        // This does not compile if the crate implements `AsRef` of another type for `Arc<Config>`.
        let own = shared.as_ref().clone().max_inbox(1, 1);
        assert_eq!(own.inbox.messages, 1);
    }

    #[test]
    fn debug_shows_the_values_in_effect() {
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
