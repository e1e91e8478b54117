//! The handle by which a test disturbs a connection.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::pipe::{Connection, lock};

/// A handle to a connection in memory, which makes the faults of a network and of a bad client.
///
/// [`Client::wire`](super::Client::wire) returns it. Clones are handles to the same connection. A fault takes effect at
/// once, also after the [`Client`](super::Client) was moved to another task. None of the methods waits.
///
/// Each direction holds 64 KiB. Then its writer waits until the other side reads.
///
/// # Examples
///
/// A client that stops reading is dropped after [`Config::write_timeout`](crate::Config::write_timeout):
///
/// ```
/// use tower_websocket::{WebSocket, error::SendError};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let (mut server, client) = WebSocket::pair();
/// client.wire().pause_reading();
/// let failure = loop {
///     if let Err(error) = server.send(vec![0; 10_000]).await {
///         break error;
///     }
/// };
/// assert_eq!(failure, SendError::Closed);
/// # }
/// ```
#[derive(Clone)]
pub struct Wire(Arc<Mutex<Connection>>);

impl Wire {
    pub(super) const fn new(connection: Arc<Mutex<Connection>>) -> Self {
        Self(connection)
    }

    /// Stops the client from reading, like a client that hangs or has no network.
    ///
    /// After 64 KiB the server cannot write any more. The client answers no pings and no Close, because it does
    /// not see them. It still writes.
    pub fn pause_reading(&self) {
        lock(&self.0).down.pause(true);
    }

    /// Ends [`pause_reading`](Self::pause_reading).
    pub fn resume_reading(&self) {
        lock(&self.0).down.pause(false);
    }

    /// Slows the client's reads down: at most `bytes` bytes, then the next ones after `every`.
    ///
    /// Minimum: 1 byte. tokio's clock rounds `every` up to whole milliseconds. With [`Duration::ZERO`] there is no
    /// wait. With [`usize::MAX`], a read takes all bytes that have arrived. A later call replaces the speed. Default:
    /// without limit.
    pub fn read_slowly(&self, bytes: usize, every: Duration) {
        lock(&self.0).down.slow_down(bytes, every);
    }

    /// Slows the client's writes down: at most `bytes` bytes arrive at the server, then the next ones after `every`.
    ///
    /// The values are as for [`read_slowly`](Self::read_slowly). With 1 byte and [`Duration::ZERO`] the server
    /// reads each byte on its own, without a wait.
    pub fn write_slowly(&self, bytes: usize, every: Duration) {
        lock(&self.0).up.slow_down(bytes, every);
    }

    /// Breaks the connection, as a reset of TCP does: both sides get
    /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset), and bytes that are on their way are lost.
    pub fn cut(&self) {
        lock(&self.0).cut();
    }

    /// Ends the client's half of the stream without a Close. The client still reads.
    ///
    /// The server reads the end after the bytes before it. Bytes that the client writes later do not arrive.
    pub fn half_close(&self) {
        lock(&self.0).up.end();
    }

    /// Sends bytes to the server as they are, after those that the client has written.
    ///
    /// They can be a frame or garbage, and may exceed the 64 KiB. Frames of a client have to be masked
    /// ([RFC 6455 §5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.3)): `b"\x89\x80\0\0\0\0"` is a ping
    /// without a payload. After [`half_close`](Self::half_close) or [`cut`](Self::cut) they do not arrive.
    pub fn send_raw(&self, bytes: impl AsRef<[u8]>) {
        lock(&self.0).up.put(bytes.as_ref());
    }

    /// Sets whether the client answers pings that the server sends from now on. Default: `true`.
    ///
    /// Messages of the client still arrive, and show the server that it is alive.
    pub fn answer_pings(&self, answers: bool) {
        lock(&self.0).filter.is_on = !answers;
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}
