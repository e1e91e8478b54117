//! The limits and waits of one connection.

use std::time::Duration;

/// Limits and waits, safe as they come.
///
/// Every connection of a layer has the same ones. Sizes are in bytes.
///
/// # Examples
///
/// ```
/// use tower_websocket::{Config, Echo, WebSocketLayer};
///
/// let config = Config::new().max_message_size(64 * 1024);
/// let layer = WebSocketLayer::new(Echo::new()).config(config);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    max_message_size: usize,
    accept_timeout: Duration,
    upgrade_timeout: Duration,
    close_timeout: Duration,
}

impl Config {
    /// Makes a configuration with the defaults named at each setting.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_message_size: 1024 * 1024,
            accept_timeout: Duration::from_secs(10),
            upgrade_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
        }
    }

    /// Caps one incoming message, in bytes, counted after reassembly.
    ///
    /// A larger message ends the connection with close code 1009
    /// ([RFC 6455 §7.4.1](https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1)): a frame that
    /// declares too much is refused at its header, before its payload is buffered. Default: 1 MiB.
    #[must_use]
    pub const fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// Bounds the time that [`Handler::accept`](crate::Handler::accept) may take.
    ///
    /// Past it the request is answered 503. Default: 10 s.
    #[must_use]
    pub const fn accept_timeout(mut self, limit: Duration) -> Self {
        self.accept_timeout = limit;
        self
    }

    /// Bounds the wait for the server to hand over the connection after the 101.
    ///
    /// Past it the connection is given up and the failure logged. Default: 10 s.
    #[must_use]
    pub const fn upgrade_timeout(mut self, limit: Duration) -> Self {
        self.upgrade_timeout = limit;
        self
    }

    /// Bounds the closing handshake, from our Close until the peer has answered and gone.
    ///
    /// The bound is absolute: a peer that keeps sending does not prolong it. Past it the
    /// connection is dropped. Default: 5 s.
    #[must_use]
    pub const fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = limit;
        self
    }

    pub(crate) const fn message_limit(&self) -> usize {
        self.max_message_size
    }

    pub(crate) const fn accept_limit(&self) -> Duration {
        self.accept_timeout
    }

    pub(crate) const fn upgrade_limit(&self) -> Duration {
        self.upgrade_timeout
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
