//! The limits and waits of a layer's connections.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};

use crate::{
    codec::{Deflate, Deflation, Limits},
    extension::Unacceptable,
    keepalive::Intervals,
    rate::Rate,
};

/// A wait that long is none, and any moment plus it can still be told.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Limits and waits, safe as they come.
///
/// Every connection of a layer has the same ones. Sizes are in bytes. A wait that shall never end
/// is [`Duration::MAX`], where there is no method that says so by name.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_websocket::{Config, Echo, WebSocketLayer};
///
/// let config = Config::new()
///     .max_message_size(64 * 1024)
///     .max_connections(500)
///     .keepalive(Duration::from_secs(60), Duration::from_secs(10));
/// let layer = WebSocketLayer::new(Echo::new()).config(config);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    max_message_size: usize,
    max_frame_size: Option<usize>,
    max_fragments: u32,
    max_empty_fragments: u32,
    assembly_timeout: Duration,
    control_frames: Rate,
    inbox: Bound,
    outbox: Bound,
    write_timeout: Duration,
    keepalive: Option<Intervals>,
    accept_timeout: Duration,
    upgrade_timeout: Duration,
    first_message_timeout: Option<Duration>,
    max_lifetime: Option<Duration>,
    close_timeout: Duration,
    max_connections: Option<usize>,
    shutdown_spread: Duration,
    nodelay: bool,
    deflate: Option<Deflate>,
}

/// How much a queue of messages may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
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
            inbox: Bound {
                messages: 16,
                bytes: 64 * 1024,
            },
            outbox: Bound {
                messages: 1024,
                bytes: 1024 * 1024,
            },
            write_timeout: Duration::from_secs(10),
            keepalive: Some(Intervals {
                silence: Duration::from_secs(20),
                answer: Duration::from_secs(20),
            }),
            accept_timeout: Duration::from_secs(10),
            upgrade_timeout: Duration::from_secs(10),
            first_message_timeout: None,
            max_lifetime: None,
            close_timeout: Duration::from_secs(5),
            max_connections: Some(10_000),
            shutdown_spread: Duration::from_secs(1),
            nodelay: true,
            deflate: None,
        }
    }

    /// Caps one incoming message, in bytes, counted after reassembly and decompression.
    ///
    /// A larger message ends the connection with close code 1009
    /// ([RFC 6455 §7.4.1](https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1)): a frame that
    /// declares too much is refused at its head, before its payload is buffered. Default: 1 MiB.
    #[must_use]
    pub const fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// Caps one incoming frame, in bytes of payload.
    ///
    /// A larger one ends the connection with 1009, at its head. Default: as the message.
    #[must_use]
    pub const fn max_frame_size(mut self, bytes: usize) -> Self {
        self.max_frame_size = Some(bytes);
        self
    }

    /// Caps the frames of one incoming message, and among them those that are empty and not the
    /// last.
    ///
    /// Each frame costs work, however small it is; past either number the connection ends with
    /// 1008. Defaults: 16,384 and 16.
    #[must_use]
    pub const fn max_fragments(mut self, frames: u32, empty: u32) -> Self {
        self.max_fragments = frames;
        self.max_empty_fragments = empty;
        self
    }

    /// Bounds the time from the first byte of an incoming message to its last.
    ///
    /// Past it the connection ends with 1008. This is also what notices a peer that vanishes in the
    /// middle of a message: [`keepalive`](Self::keepalive) does not judge one that is sending,
    /// because a pong cannot overtake the rest of a frame. Default: 60 s.
    #[must_use]
    pub const fn assembly_timeout(mut self, limit: Duration) -> Self {
        self.assembly_timeout = wait(limit);
        self
    }

    /// Caps the incoming pings and pongs: so many a second in the long run, and `burst` at once.
    /// The answers to our own pings count as well.
    ///
    /// Past that the connection ends with 1008. Defaults: 100 a second, 200 at once.
    #[must_use]
    pub const fn max_control_frames(mut self, per_second: u32, burst: u32) -> Self {
        self.control_frames = Rate { per_second, burst };
        self
    }

    /// Sets how far reading may be ahead of the handler, in messages and in bytes.
    ///
    /// When either is reached, nothing is read until the handler has received a message; TCP then
    /// slows the peer down. Pings behind what is not read wait as well. At least one message is
    /// always taken. Defaults: 16 messages, 64 KiB.
    #[must_use]
    pub const fn max_inbox(mut self, messages: usize, bytes: usize) -> Self {
        self.inbox = bound(messages, bytes);
        self
    }

    /// Sets how much may wait to be written, in messages and in bytes of frames.
    ///
    /// When either is reached, [`WebSocket::send`](crate::WebSocket::send) waits and
    /// [`Sender::try_send`](crate::Sender::try_send) fails. A message that is larger than the
    /// bound is taken when nothing else waits. Defaults: 1,024 messages, 1 MiB.
    #[must_use]
    pub const fn max_outbox(mut self, messages: usize, bytes: usize) -> Self {
        self.outbox = bound(messages, bytes);
        self
    }

    /// Bounds the time for which a peer may take none of what is to be written.
    ///
    /// Past it the connection is dropped without a Close, which could not reach such a peer.
    /// Default: 10 s.
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
        self.write_timeout = wait(limit);
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
    /// [`Echo`](crate::Echo) sends back the ping may come later by an eighth of the silence. Defaults:
    /// 20 s and 20 s, below the 30 to 60 s after which proxies cut silent connections.
    #[must_use]
    pub const fn keepalive(mut self, silence: Duration, answer: Duration) -> Self {
        self.keepalive = Some(Intervals {
            silence: wait(silence),
            answer: wait(answer),
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

    /// Bounds the time that [`Handler::accept`](crate::Handler::accept) may take.
    ///
    /// Past it the request is answered 503. Default: 10 s.
    #[must_use]
    pub const fn accept_timeout(mut self, limit: Duration) -> Self {
        self.accept_timeout = wait(limit);
        self
    }

    /// Bounds the wait for the server to hand over the connection after the 101.
    ///
    /// Past it the connection is given up and the failure logged. Default: 10 s.
    #[must_use]
    pub const fn upgrade_timeout(mut self, limit: Duration) -> Self {
        self.upgrade_timeout = wait(limit);
        self
    }

    /// Bounds the time from the opening to the first message, so that connections that nobody uses
    /// do not stay.
    ///
    /// Past it the connection ends with 1008. Default: no bound.
    #[must_use]
    pub const fn first_message_timeout(mut self, limit: Duration) -> Self {
        self.first_message_timeout = Some(wait(limit));
        self
    }

    /// Bounds the lifetime of a connection, so that clients spread over the nodes again, or show
    /// that their token is still good.
    ///
    /// Past it the connection is closed with 1001. Default: no bound.
    #[must_use]
    pub const fn max_lifetime(mut self, limit: Duration) -> Self {
        self.max_lifetime = Some(wait(limit));
        self
    }

    /// Bounds the closing handshake, from the first Close until the peer is gone.
    ///
    /// The bound is absolute: a peer that keeps sending does not prolong it. What was waiting to be
    /// written before the Close does, by a second for each whole 16 KiB. Past it the connection is
    /// dropped. Default: 5 s.
    #[must_use]
    pub const fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = wait(limit);
        self
    }

    /// Caps the connections of the layer with all its clones, from the handshake until connection
    /// and handler have ended.
    ///
    /// Past it handshakes are answered 503 with `Retry-After`. Default: 10,000.
    #[must_use]
    pub const fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Accepts any number of connections; file descriptors and memory set the limit then.
    #[must_use]
    pub const fn without_max_connections(mut self) -> Self {
        self.max_connections = None;
        self
    }

    /// Sets over which time [`Connections::close`](crate::Connections::close) spreads the Closes,
    /// so that the clients do not all come back in the same moment.
    ///
    /// Each connection is closed at a random moment of it. Default: 1 s.
    #[must_use]
    pub const fn shutdown_spread(mut self, window: Duration) -> Self {
        self.shutdown_spread = wait(window);
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

    pub(crate) const fn nodelay(&self) -> bool {
        self.nodelay
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

    /// Agrees with a client on compression, if that is wanted; the field is for the 101.
    pub(crate) fn agree(&self, offers: &HeaderMap) -> Option<(Deflation, HeaderValue)> {
        self.deflate.as_ref()?.accept(offers)
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

    pub(crate) const fn keepalive_intervals(&self) -> Option<Intervals> {
        self.keepalive
    }

    pub(crate) const fn accept_limit(&self) -> Duration {
        self.accept_timeout
    }

    pub(crate) const fn upgrade_limit(&self) -> Duration {
        self.upgrade_timeout
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

    pub(crate) const fn connection_limit(&self) -> Option<usize> {
        self.max_connections
    }

    pub(crate) const fn spread(&self) -> Duration {
        self.shutdown_spread
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

/// Longer waits would overflow the clock when they are added to it.
pub(crate) const fn wait(limit: Duration) -> Duration {
    if limit.as_secs() > FOREVER.as_secs() {
        FOREVER
    } else {
        limit
    }
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
    use std::time::Instant;

    use super::*;

    #[test]
    fn can_add_every_wait_to_the_clock() {
        let config = Config::new()
            .assembly_timeout(Duration::MAX)
            .keepalive(Duration::MAX, Duration::MAX)
            .close_timeout(Duration::MAX);
        let intervals = config.keepalive_intervals().unwrap();
        for wait in [
            intervals.silence,
            intervals.answer,
            config.close_limit(),
            config.limits().assembly.unwrap(),
        ] {
            assert!(Instant::now().checked_add(wait).is_some());
        }
    }
}
