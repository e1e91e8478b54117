//! The API for pings.

use std::{future::Future, sync::Arc, time::Duration};

use super::{SendError, Sender, WebSocket, WriteHalf, link::Ping};

impl WebSocket {
    /// Sends a ping, and waits for its pong. Returns the round-trip time.
    ///
    /// One ping is pending at a time: calls in the meantime wait for the same pong. The time counts
    /// from the moment at which the ping is queued, behind messages that were sent before. The pong
    /// may come late if the handler does not receive, because reading stops at a full
    /// [inbox](crate::Config::max_inbox). The times at which
    /// [`Config::keepalive`](crate::Config::keepalive) pings, or gives up the peer, stay the same.
    ///
    /// There is no timeout: use `tokio::time::timeout`. Peers limit the rate of pings; this crate
    /// accepts 100 a second by default.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] once the connection is closing or gone. Then no pong can come.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`. The next call waits for the pong of a ping that is still pending. The
    /// future does not borrow the `WebSocket`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio::time::timeout;
    /// use tower_websocket::{Error, WebSocket};
    ///
    /// async fn measure(socket: WebSocket) -> Result<(), Error> {
    ///     let round_trip = timeout(Duration::from_secs(5), socket.ping()).await??;
    ///     println!("{} ms", round_trip.as_millis());
    ///     Ok(())
    /// }
    /// ```
    ///
    /// Source: [RFC 6455 §5.5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.2).
    pub fn ping(&self) -> impl Future<Output = Result<Duration, SendError>> + Send + use<> {
        Ping::new(Arc::clone(&self.link))
    }
}

impl WriteHalf {
    /// Sends a ping, and waits for its pong, like [`WebSocket::ping`]. Returns the round-trip time.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] once the connection is closing or gone. Then no pong can come.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`. The next call waits for the pong of a ping that is still pending. The
    /// future does not borrow the `WriteHalf`.
    pub fn ping(&self) -> impl Future<Output = Result<Duration, SendError>> + Send + use<> {
        self.socket.ping()
    }
}

impl Sender {
    /// Sends a ping, and waits for its pong, like [`WebSocket::ping`]. Returns the round-trip time.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] once the connection is closing or gone. Then no pong can come.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`. The next call waits for the pong of a ping that is still pending. The
    /// future does not borrow the `Sender`.
    pub fn ping(&self) -> impl Future<Output = Result<Duration, SendError>> + Send + use<> {
        Ping::new(Arc::clone(&self.link))
    }
}
