//! The sending end for other tasks.

use std::{
    fmt,
    future::Future,
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::{
    error::{SendError, TrySendError},
    link::{By, Link},
};
use crate::words::{CloseCode, CloseFrame, Closed, ConnectionId, InvalidClose, Message, Utf8Bytes};

/// Sends to a connection from any task or thread, also after the handler has moved its
/// [`WebSocket`](crate::WebSocket).
///
/// It is cheap to clone. It does not keep the connection open: that lasts as long as the handler
/// or the [`WebSocket`](crate::WebSocket).
///
/// Senders are equal, and hash alike, if they send to the same connection.
///
/// # Examples
///
/// ```
/// use tower_websocket::{BoxError, Sender, WebSocket};
///
/// async fn ticker(sender: Sender) {
///     for tick in 0.. {
///         tokio::time::sleep(std::time::Duration::from_secs(1)).await;
///         if sender.send(format!("tick {tick}")).await.is_err() {
///             break;
///         }
///     }
/// }
///
/// async fn handle(mut socket: WebSocket) -> Result<(), BoxError> {
///     tokio::spawn(ticker(socket.sender()));
///     while socket.recv().await?.is_some() {}
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Sender {
    pub(super) link: Arc<Link>,
}

/// How much waits to be written to a connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Buffered {
    /// Messages of which not all is written, and small ones that were gathered with such a one.
    pub messages: usize,
    /// Bytes of frames. A message that is still to be compressed counts by its length.
    pub bytes: usize,
}

impl Sender {
    /// Returns the number of the connection, unique in this process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.link.id()
    }

    /// Queues one message to be written, as [`WebSocket::send`](crate::WebSocket::send) does.
    ///
    /// It spends tokio's cooperative budget: a task that sends many messages lets other tasks run in
    /// between.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] once the connection is closing or gone.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: the message is wholly queued or not at all. It is dropped with the future
    /// when that happens before there was room.
    pub fn send(
        &self,
        message: impl Into<Message>,
    ) -> impl Future<Output = Result<(), SendError>> + Send {
        self.link.send(message.into(), By::Sender)
    }

    /// Queues one message to be written as [`send`](Self::send) does, but not compressed.
    ///
    /// For messages that hold a secret together with text that others chose, see
    /// [`Deflate`](crate::Deflate#security).
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] once the connection is closing or gone.
    ///
    /// # Cancel safety
    ///
    /// As that of [`send`](Self::send).
    #[cfg(feature = "deflate")]
    pub fn send_uncompressed(
        &self,
        message: impl Into<Message>,
    ) -> impl Future<Output = Result<(), SendError>> + Send {
        self.link.send_uncompressed(message.into(), By::Sender)
    }

    /// Queues one message if there is room for it now.
    ///
    /// # Errors
    ///
    /// Both give the message back.
    ///
    /// - [`TrySendError::Full`]: the peer reads too slowly, and
    ///   [`Config::max_outbox`](crate::Config::max_outbox) is reached, or others wait for room.
    /// - [`TrySendError::Closed`]: the connection is closing or gone.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), TrySendError> {
        self.link.try_send(message.into())
    }

    /// Begins to close the connection with a code and a reason, behind what was sent before.
    ///
    /// [`closed`](Self::closed) waits until that is done. Messages that were not received yet are
    /// discarded. Does nothing to a connection that is closing already.
    ///
    /// # Errors
    ///
    /// [`InvalidClose::Reason`] if `reason` is longer than [`CloseFrame::MAX_REASON`] bytes; then
    /// the connection stays as it is.
    pub fn close(&self, code: CloseCode, reason: impl Into<Utf8Bytes>) -> Result<(), InvalidClose> {
        self.link.close(CloseFrame::new(code, reason)?);
        Ok(())
    }

    /// Waits until the connection has ended, and tells how.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`, and it may be called again.
    pub async fn closed(&self) -> Closed {
        self.link.closed_as().await
    }

    /// Returns how much waits to be written.
    #[must_use]
    pub fn buffered(&self) -> Buffered {
        let load = self.link.buffered();
        Buffered {
            messages: load.messages,
            bytes: load.bytes,
        }
    }
}

impl PartialEq for Sender {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Sender {}

impl Hash for Sender {
    fn hash<S: Hasher>(&self, state: &mut S) {
        self.id().hash(state);
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("id", &self.id())
            .field("buffered", &self.buffered())
            .finish_non_exhaustive()
    }
}
