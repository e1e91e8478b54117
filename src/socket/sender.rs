//! The API for other tasks: sending, closing, waiting for the end.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use super::{
    error::{SendTimeoutError, TrySendError},
    link::{Caller, Link},
    sending::Sending,
    waiters::Ticket,
};
use crate::words::{
    CloseCode, CloseFrame, Closed, ConnectionId, IntoMessage, InvalidClose, Utf8Bytes,
};

/// Sends to a connection from any task or thread, also after the handler has moved its
/// [`WebSocket`](crate::WebSocket).
///
/// It is cheap to clone. It does not keep the connection open: only the handler and the
/// [`WebSocket`](crate::WebSocket) do.
///
/// Senders are equal, and hash alike, if they send to the same connection. Where one is the key of a map, clippy may
/// report `mutable_key_type`: the number of a connection never changes, so the lint can be allowed, or [`id`](Self::id)
/// be the key.
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
pub struct Sender {
    pub(super) link: Arc<Link>,
    /// Its place among the tasks that wait for room, while it waits as a `Sink`.
    pub(super) place: Option<Ticket>,
}

/// The load that waits to be written to a connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Buffered {
    /// Messages that are not written completely, and small ones that were gathered with one of
    /// them.
    pub messages: usize,
    /// Bytes of frames. A message that is not compressed yet counts with its uncompressed length.
    pub bytes: usize,
}

impl Sender {
    pub(super) const fn new(link: Arc<Link>) -> Self {
        Self { link, place: None }
    }

    /// Returns the number of the connection. It is unique in this process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.link.id()
    }

    /// Queues one message to be written, like [`WebSocket::send`](crate::WebSocket::send).
    ///
    /// It spends tokio's cooperative budget, so a task that sends many messages lets other tasks
    /// run in between.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`](crate::error::SendError::Closed) once the connection is closing or gone.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: the message is queued completely or not at all. If the future is dropped
    /// before there is room, the message is dropped with it.
    pub fn send(&self, message: impl IntoMessage) -> Sending<'_> {
        Sending(self.link.send(message.into(), Caller::Sender))
    }

    /// Queues one message like [`send`](Self::send), but does not compress it.
    ///
    /// Use it for messages that mix a secret with text that others choose; see
    /// [`Deflate`](crate::Deflate#security).
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`](crate::error::SendError::Closed) once the connection is closing or gone.
    ///
    /// # Cancel safety
    ///
    /// Like [`send`](Self::send).
    #[cfg(feature = "deflate")]
    pub fn send_uncompressed(&self, message: impl IntoMessage) -> Sending<'_> {
        Sending(self.link.send_uncompressed(message.into(), Caller::Sender))
    }

    /// Queues one message like [`send`](Self::send), and gives up if there is no room for `limit`.
    ///
    /// The time counts from the first poll that finds no room. It ends when the message is queued,
    /// not when the peer has it. A limit of [`Duration::MAX`] never ends.
    ///
    /// # Errors
    ///
    /// Both return the message.
    ///
    /// - [`SendTimeoutError::Timeout`]: there was no room in time. The connection stays open.
    /// - [`SendTimeoutError::Closed`]: the connection is closing or gone.
    ///
    /// # Cancel safety
    ///
    /// Like [`send`](Self::send).
    ///
    /// # Panics
    ///
    /// Panics if it has to wait outside a tokio runtime, or in one without its time driver.
    pub fn send_timeout(
        &self,
        message: impl IntoMessage,
        limit: Duration,
    ) -> impl Future<Output = Result<(), SendTimeoutError>> + Send {
        self.link
            .send_timeout(message.into(), limit, Caller::Sender)
    }

    /// Queues one message if there is room for it now.
    ///
    /// # Errors
    ///
    /// Both return the message.
    ///
    /// - [`TrySendError::Full`]: [`Config::max_outbox`](crate::Config::max_outbox) is reached
    ///   because the peer reads too slowly, or other tasks wait for room.
    /// - [`TrySendError::Closed`]: the connection is closing or gone.
    pub fn try_send(&self, message: impl IntoMessage) -> Result<(), TrySendError> {
        self.link.try_send(message.into())
    }

    /// Starts to close the connection with a code and a reason, after all queued messages.
    ///
    /// [`closed`](Self::closed) waits for the end. Messages that were not received yet are
    /// discarded. Does nothing if the connection is closing already.
    ///
    /// # Errors
    ///
    /// [`InvalidClose::Reason`] if `reason` is longer than [`CloseFrame::MAX_REASON`] bytes; the
    /// connection then stays open.
    pub fn close(&self, code: CloseCode, reason: impl Into<Utf8Bytes>) -> Result<(), InvalidClose> {
        self.link.close(CloseFrame::new(code, reason)?);
        Ok(())
    }

    /// Starts to close the connection like [`close`](Self::close), with a Close that has no code.
    ///
    /// Use it to pass on a Close without a code, as a gateway does. The peer sees 1005.
    ///
    /// Source: [RFC 6455 §7.1.5](https://www.rfc-editor.org/rfc/rfc6455#section-7.1.5).
    pub fn close_without_code(&self) {
        self.link.close_without_code();
    }

    /// Waits until the connection has ended, and returns how.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`. It may be called again.
    pub async fn closed(&self) -> Closed {
        self.link.wait_closed().await
    }

    /// Returns the load that waits to be written.
    #[must_use]
    pub fn buffered(&self) -> Buffered {
        let load = self.link.buffered();
        Buffered {
            messages: load.messages,
            bytes: load.bytes,
        }
    }
}

#[cfg(feature = "hub")]
impl Sender {
    pub(crate) fn into_link(self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    /// Makes a sender for a model.
    #[cfg(all(test, tower_websocket_loom))]
    pub(crate) fn of(link: &Arc<Link>) -> Self {
        Self::new(Arc::clone(link))
    }
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.link))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(ticket) = self.place {
            self.link.leave_queue(ticket);
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
