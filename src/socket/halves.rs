//! A socket in two halves, for two tasks.

use std::{error::Error, fmt, future::Future, sync::Arc, time::Duration};

use super::{
    Link, RecvError, SendError, SendTimeoutError, Sender, Sending, TryRecvError, TrySendError,
    Values, WebSocket,
};
use crate::{
    handshake::HandshakeRequest,
    words::{
        CloseCode, CloseFrame, Closed, ConnectionId, IntoMessage, InvalidClose, Message, Utf8Bytes,
    },
};

/// The half of a [`WebSocket`] that sends. [`WebSocket::into_split`] makes it.
///
/// The connection is open until both halves are dropped. A dropped `WriteHalf` sends no Close while
/// the [`ReadHalf`] lives: [`close`](Self::close) does.
///
/// It is also a [`Sink`](futures_util::Sink) of messages.
pub struct WriteHalf {
    /// Another part of the same socket, without its values.
    pub(super) socket: WebSocket,
}

/// The half of a [`WebSocket`] that receives. [`WebSocket::into_split`] makes it.
///
/// The connection is open until both halves are dropped. After a `ReadHalf` is dropped, all
/// messages from the peer are discarded, like after [`WebSocket::ignore_incoming`].
///
/// It is also a [`Stream`](futures_util::Stream) of messages.
pub struct ReadHalf {
    pub(super) socket: WebSocket,
    ignoring: Ignoring,
}

/// Discards the peer's messages from its drop on. Its own type, because [`ReadHalf::reunite`] moves the fields out of a
/// [`ReadHalf`], which a type with `Drop` forbids.
struct Ignoring(Option<Arc<Link>>);

impl Drop for Ignoring {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.ignore_incoming();
        }
    }
}

impl WebSocket {
    /// Splits the socket into a half that sends and a half that receives, for two tasks.
    ///
    /// The connection is open until both are dropped. A dropped [`ReadHalf`] discards all messages
    /// from the peer, like [`ignore_incoming`](Self::ignore_incoming).
    /// [`ReadHalf::reunite`] makes a `WebSocket` of them again.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{BoxError, WebSocket};
    ///
    /// async fn clock(socket: WebSocket) -> Result<(), BoxError> {
    ///     let (mut write, mut read) = socket.into_split();
    ///     tokio::spawn(async move {
    ///         loop {
    ///             tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    ///             if write.send("tick").await.is_err() {
    ///                 break;
    ///             }
    ///         }
    ///     });
    ///     while let Some(message) = read.recv().await? {
    ///         println!("{message:?}");
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use = "dropping both halves closes the connection"]
    pub fn into_split(self) -> (WriteHalf, ReadHalf) {
        let socket = Self {
            link: self.link.another(),
            values: Values::default(),
        };
        let ignoring = Ignoring(Some(Arc::clone(&self.link)));
        let read = ReadHalf {
            socket: self,
            ignoring,
        };
        (WriteHalf { socket }, read)
    }
}

impl WriteHalf {
    /// Returns the number of the connection, unique in this process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.socket.id()
    }

    /// Queues one message to be written, like [`WebSocket::send`].
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] once the connection is closing or gone.
    ///
    /// # Cancel safety
    ///
    /// Like [`WebSocket::send`].
    pub fn send(&mut self, message: impl IntoMessage) -> Sending<'_> {
        self.socket.send(message)
    }

    /// Queues one message like [`send`](Self::send), but does not compress it. See
    /// [`WebSocket::send_uncompressed`].
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] once the connection is closing or gone.
    ///
    /// # Cancel safety
    ///
    /// Like [`WebSocket::send`].
    #[cfg(feature = "deflate")]
    pub fn send_uncompressed(&mut self, message: impl IntoMessage) -> Sending<'_> {
        self.socket.send_uncompressed(message)
    }

    /// Queues one message like [`send`](Self::send), and gives up if there is no room for `limit`.
    /// See [`WebSocket::send_timeout`].
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError::Timeout`] and [`SendTimeoutError::Closed`]. Both return the message.
    ///
    /// # Cancel safety
    ///
    /// Like [`WebSocket::send`].
    ///
    /// # Panics
    ///
    /// Panics if it has to wait outside a tokio runtime, or in one without its time driver.
    pub fn send_timeout(
        &mut self,
        message: impl IntoMessage,
        limit: Duration,
    ) -> impl Future<Output = Result<(), SendTimeoutError>> + Send {
        self.socket.send_timeout(message, limit)
    }

    /// Queues one message if there is room for it now.
    ///
    /// # Errors
    ///
    /// Like [`Sender::try_send`]. The error returns the message.
    pub fn try_send(&mut self, message: impl IntoMessage) -> Result<(), TrySendError> {
        self.socket.try_send(message)
    }

    /// Waits until all messages are written that were sent before, like [`WebSocket::flush`].
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the connection has ended before.
    ///
    /// # Cancel safety
    ///
    /// Like [`WebSocket::flush`].
    pub fn flush(&mut self) -> impl Future<Output = Result<(), SendError>> + Send {
        self.socket.flush()
    }

    /// Closes the connection with a code and a reason, and waits for the end, like
    /// [`WebSocket::close`]. The [`ReadHalf`] receives nothing more.
    ///
    /// # Errors
    ///
    /// [`InvalidClose::Reason`] if `reason` is longer than [`CloseFrame::MAX_REASON`] bytes; the
    /// connection then stays open.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future after its first poll leaves the connection closing.
    pub async fn close(
        &mut self,
        code: CloseCode,
        reason: impl Into<Utf8Bytes>,
    ) -> Result<(), InvalidClose> {
        self.socket.close(code, reason).await
    }

    /// Closes the connection like [`close`](Self::close), with a Close that has no code. See
    /// [`WebSocket::close_without_code`].
    ///
    /// # Cancel safety
    ///
    /// Like [`close`](Self::close).
    pub async fn close_without_code(&mut self) {
        self.socket.close_without_code().await;
    }

    /// Waits until the connection has ended, and returns how. The future does not borrow the half.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`. It may be called again.
    pub fn closed(&self) -> impl Future<Output = Closed> + Send + use<> {
        self.socket.closed()
    }

    /// Returns a handle for other tasks, which does not keep the connection open.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.socket.sender()
    }
}

impl ReadHalf {
    /// Returns the number of the connection, unique in this process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.socket.id()
    }

    /// Receives the next whole message, or `None` at the end, like [`WebSocket::recv`].
    ///
    /// # Errors
    ///
    /// Like [`WebSocket::recv`]. After any error every later call returns `None`.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: a message is received completely or waits for the next call.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message>, RecvError>> + Send {
        self.socket.recv()
    }

    /// Waits for a message, then receives all that have arrived, at most `limit`, like
    /// [`WebSocket::recv_many`]. Returns their number: 0 at the end, or if `limit` is 0.
    ///
    /// # Errors
    ///
    /// Like [`WebSocket::recv`]. Earlier messages are received first.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: a message is in `messages` or waits for the next call.
    pub fn recv_many(
        &mut self,
        messages: &mut Vec<Message>,
        limit: usize,
    ) -> impl Future<Output = Result<usize, RecvError>> + Send {
        self.socket.recv_many(messages, limit)
    }

    /// Receives the next message if one has arrived.
    ///
    /// # Errors
    ///
    /// Like [`WebSocket::try_recv`].
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        self.socket.try_recv()
    }

    /// Waits until the connection has ended, and returns how. The future does not borrow the half.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`. It may be called again.
    pub fn closed(&self) -> impl Future<Output = Closed> + Send + use<> {
        self.socket.closed()
    }

    /// Returns the first Close of the connection, like [`WebSocket::close_frame`].
    #[must_use]
    pub fn close_frame(&self) -> Option<CloseFrame> {
        self.socket.close_frame()
    }

    /// Returns a handle for other tasks, which does not keep the connection open.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.socket.sender()
    }

    /// Takes the value that was carried from the decision, like [`WebSocket::take_carried`].
    pub fn take_carried<T: Send + 'static>(&mut self) -> Option<T> {
        self.socket.take_carried()
    }

    /// Returns the value that identifies the connection, like [`WebSocket::identity`].
    #[must_use]
    pub fn identity<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.socket.identity()
    }

    /// Returns the request of the opening handshake, like [`WebSocket::request`].
    #[must_use]
    pub fn request(&self) -> &HandshakeRequest {
        self.socket.request()
    }

    /// Returns the subprotocol that was agreed on, if any.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.socket.subprotocol()
    }

    /// Makes a `WebSocket` of the two halves again.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`] if the halves are of different connections. It holds both.
    pub fn reunite(self, write: WriteHalf) -> Result<WebSocket, ReuniteError> {
        if self.id() != write.id() {
            return Err(ReuniteError { write, read: self });
        }
        let Self {
            socket,
            mut ignoring,
        } = self;
        ignoring.0 = None;
        drop(write);
        Ok(socket)
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHalf").finish_non_exhaustive()
    }
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHalf").finish_non_exhaustive()
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.socket.link.leave_as_sink();
    }
}

/// The halves given to [`ReadHalf::reunite`] are of different connections.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReuniteError {
    /// The half that sends.
    pub write: WriteHalf,
    /// The half that receives.
    pub read: ReadHalf,
}

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are of different connections")
    }
}

impl Error for ReuniteError {}
