//! A connection after its handshake: the end that a handler holds, and what serves the wire.
//!
//! | File | Decides |
//! | --- | --- |
//! | this one | what a handler can do: [`WebSocket`] |
//! | `events` | what the registry learns of a connection |
//! | `traffic` | how messages are counted |
//! | `sender` | what other tasks can do: [`Sender`] |
//! | `link` | what the ends of a connection share, and who wakes whom |
//! | `inbox` | what waits for the handler |
//! | `waiters` | whose turn it is to send when there was no room |
//! | `setup` | what is known about a connection before it is served |
//! | `session` | how a handler and a connection run side by side in one task |
//! | `driver` | when to read, write, close and give up; the end in a file of its own |
//! | `receiver` | what was read, and what it decodes to |
//! | `input` | the buffers that connections share |
//! | `error` | why nothing is received or sent any more |
//! | `engine` | how a stream is read and written |
//! | `budget` | how much one poll may do |
//! | `io` | how a stream is read and written best |
//! | `timer` | one timer for all that a connection waits for |

mod budget;
#[cfg(all(test, feature = "deflate", not(tower_websocket_loom)))]
mod compressing_tests;
mod driver;
mod engine;
mod error;
mod events;
pub(crate) mod http2;
mod inbox;
mod input;
mod io;
mod link;
#[cfg(test)]
#[cfg(tower_websocket_loom)]
mod loom;
mod receiver;
pub(crate) mod report;
mod sender;
mod session;
mod setup;
mod sync;
mod timer;
mod traffic;
mod transport;
mod waiters;

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};

use self::link::By;
pub use self::{
    error::{RecvError, SendError, TryRecvError, TrySendError},
    sender::{Buffered, Sender},
    traffic::Traffic,
};
pub(crate) use self::{
    events::{Events, Hook, Registration},
    link::Link,
    session::{Occupies, Session, catch, detached_in, serve},
    setup::{Served, Setup},
    timer::now,
    transport::Transport,
};
use crate::{
    codec::Role,
    config::Config,
    handshake::{Carried, HandshakeRequest, Identity},
    socket::report::Name,
    words::{CloseCode, CloseFrame, Closed, ConnectionId, InvalidClose, Message, Utf8Bytes},
};

/// One end of an open WebSocket connection.
///
/// A handler is given one; [`recv`](Self::recv) and [`send`](Self::send) whole messages. Ping, pong
/// and Close frames are answered beside it while the handler works. It is a [`Stream`] and a
/// [`Sink`] of messages as well.
///
/// The connection is open as long as its handler runs or its `WebSocket` lives, whichever is longer:
/// a handler may move the `WebSocket` to another task and return. A [`Sender`] does not keep the
/// connection open.
///
/// With `futures_util`'s `StreamExt` and `SinkExt` it can be split into two halves for two tasks. The
/// halves have no [`sender`](Self::sender), [`closed`](Self::closed) or
/// [`ignore_incoming`](Self::ignore_incoming): call them before, or give the second task a [`Sender`]
/// instead of a half.
///
/// # Examples
///
/// ```
/// use tower_websocket::{BoxError, WebSocket};
///
/// async fn count(mut socket: WebSocket) -> Result<(), BoxError> {
///     let mut messages = 0;
///     while let Some(_message) = socket.recv().await? {
///         messages += 1;
///         socket.send(format!("{messages} so far")).await?;
///     }
///     Ok(())
/// }
/// ```
pub struct WebSocket {
    link: Arc<Link>,
    introduction: Box<Introduction>,
}

/// What is known from the opening handshake.
#[derive(Default)]
pub(crate) struct Introduction {
    pub(crate) request: HandshakeRequest,
    pub(crate) subprotocol: Option<Box<str>>,
    pub(crate) carried: Carried,
    pub(crate) identity: Identity,
}

impl WebSocket {
    /// Takes over a stream on which the opening handshake is already done, as its server.
    ///
    /// A task is spawned that serves the connection until the `WebSocket` is dropped; dropping it
    /// closes with 1000, or with 1011 when that happens in a panic. [`request`](Self::request) is
    /// an empty one, there is no subprotocol, and nothing is compressed.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime, or in one without its time driver.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{Config, WebSocket};
    ///
    /// # async fn example() {
    /// let (server, _client) = tokio::io::duplex(1024);
    /// let socket = WebSocket::from_io(server, Config::new());
    /// # }
    /// ```
    ///
    /// Source: [RFC 6455 §5](https://www.rfc-editor.org/rfc/rfc6455#section-5).
    #[must_use = "dropping it closes the connection"]
    pub fn from_io<IO>(io: IO, config: Config) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = Arc::new(config);
        let name = Name {
            handler: "WebSocket::from_io",
            path: "".into(),
        };
        let link = Link::new(Role::Server, name, Arc::clone(&config));
        let link = Arc::new(link);
        let served = Served {
            io,
            early: Bytes::new(),
            link: Arc::clone(&link),
            setup: Setup::new(config),
        };
        tokio::spawn(session::detached(served));
        Self::new(link, Box::default())
    }

    /// Takes over a stream on which the opening handshake is already done, as its client.
    ///
    /// `early` has been read from it behind the handshake.
    #[cfg(feature = "client")]
    pub(crate) fn dialled<IO>(
        io: IO,
        early: Bytes,
        setup: Setup,
        introduction: Introduction,
    ) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let name = Name {
            handler: "client",
            path: introduction.request.path().into(),
        };
        let link = Link::new(Role::Client, name, Arc::clone(&setup.config));
        let link = Arc::new(link);
        let span = crate::socket::report::connection(introduction.request.path());
        let served = Served {
            io,
            early,
            link: Arc::clone(&link),
            setup,
        };
        tokio::spawn(span.around(session::detached(served)));
        Self::new(link, Box::new(introduction))
    }

    pub(crate) const fn new(link: Arc<Link>, introduction: Box<Introduction>) -> Self {
        Self { link, introduction }
    }

    /// Returns the number of the connection, unique in this process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.link.id()
    }

    /// Receives the next whole message, or `None` once the peer has closed the connection or
    /// [`close`](Self::close) was called.
    ///
    /// Messages that arrived before the end are delivered first.
    ///
    /// # Errors
    ///
    /// - [`RecvError::Protocol`]: the peer broke a framing rule; it is told so with 1002.
    /// - [`RecvError::InvalidUtf8`]: text that is not UTF-8; the peer is told with 1007.
    /// - [`RecvError::TooLarge`]: past [`Config::max_message_size`]; the peer is told with 1009.
    /// - [`RecvError::TooManyFragments`], [`TooManyFinalBlocks`](RecvError::TooManyFinalBlocks),
    ///   [`TooSlow`](RecvError::TooSlow), [`TooFast`](RecvError::TooFast), [`TooManyControlFrames`](RecvError::TooManyControlFrames),
    ///   [`NoFirstMessage`](RecvError::NoFirstMessage), [`NotReceived`](RecvError::NotReceived): past
    ///   another limit of [`Config`]; the peer is told with 1008.
    /// - [`RecvError::Unresponsive`], [`Stalled`](RecvError::Stalled): the peer is gone, or as good
    ///   as that, and no Close is sent.
    /// - [`RecvError::Io`]: the connection is gone. Where only the peer's half of the stream has
    ///   ended, it is told with 1002.
    ///
    /// After any of them every later call returns `None`.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: a message is wholly received or waits for the next call.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message>, RecvError>> + Send {
        poll_fn(|cx| self.link.poll_recv(cx))
    }

    /// Waits for a message, and receives as many as have come by then: at most `limit`, appended to
    /// `messages`. Returns how many there were, 0 at the end and if `limit` is 0.
    ///
    /// For a handler that answers many small messages: what it sends is written when it waits again.
    ///
    /// # Errors
    ///
    /// As those of [`recv`](Self::recv). Messages that came before are received first.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: a message is in `messages` or waits for the next call.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{BoxError, WebSocket};
    ///
    /// async fn echo(mut socket: WebSocket) -> Result<(), BoxError> {
    ///     let mut messages = Vec::new();
    ///     while socket.recv_many(&mut messages, 64).await? > 0 {
    ///         for message in messages.drain(..) {
    ///             socket.send(message).await?;
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn recv_many(
        &mut self,
        messages: &mut Vec<Message>,
        limit: usize,
    ) -> impl Future<Output = Result<usize, RecvError>> + Send {
        poll_fn(move |cx| self.link.poll_recv_many(messages, limit, cx))
    }

    /// Receives the next message if one has come.
    ///
    /// # Errors
    ///
    /// - [`TryRecvError::Empty`]: none has come yet, as far as the connection's task has read.
    /// - [`TryRecvError::Ended`]: [`recv`](Self::recv) would return `None`.
    /// - [`TryRecvError::Failed`]: `recv` would fail in this way.
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        self.link.try_recv()
    }

    /// Queues one message to be written.
    ///
    /// Returns at once while [`Config::max_outbox`] has room for it, else when there is some. That
    /// it returned does not say that the peer got the message: nothing in the protocol does.
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
        &mut self,
        message: impl Into<Message>,
    ) -> impl Future<Output = Result<(), SendError>> + Send {
        self.link.send(message.into(), By::Holder)
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
        &mut self,
        message: impl Into<Message>,
    ) -> impl Future<Output = Result<(), SendError>> + Send {
        self.link.send_uncompressed(message.into(), By::Holder)
    }

    /// Closes the connection with a code and a reason, and waits until that is done.
    ///
    /// What was sent before is flushed first; messages that were not received yet are discarded.
    /// Returns when the peer has answered the Close, is gone, or has let
    /// [`Config::close_timeout`] pass. Does nothing to a connection that is closing already, but
    /// wait.
    ///
    /// # Errors
    ///
    /// [`InvalidClose::Reason`] if `reason` is longer than [`CloseFrame::MAX_REASON`] bytes; then
    /// the connection stays as it is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future after its first poll leaves the connection closing.
    ///
    /// Source: [RFC 6455 §7.1.2](https://www.rfc-editor.org/rfc/rfc6455#section-7.1.2).
    pub async fn close(
        &mut self,
        code: CloseCode,
        reason: impl Into<Utf8Bytes>,
    ) -> Result<(), InvalidClose> {
        self.link.close(CloseFrame::new(code, reason)?);
        self.link.closed_as().await;
        Ok(())
    }

    /// Waits until the connection has ended, and returns how.
    ///
    /// The future does not borrow the `WebSocket`, so that it can stand beside
    /// [`send`](Self::send) in a `select!`. A handler that only sends learns by it that its peer has
    /// gone, or by the error of its next `send`.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`, and it may be called again.
    ///
    /// # Examples
    ///
    /// A feed, which receives nothing:
    ///
    /// ```
    /// use tokio::sync::broadcast::{self, error::RecvError};
    /// use tower_websocket::{BoxError, WebSocket};
    ///
    /// async fn feed(
    ///     mut socket: WebSocket,
    ///     mut news: broadcast::Receiver<String>,
    /// ) -> Result<(), BoxError> {
    ///     socket.ignore_incoming();
    ///     let closed = socket.closed();
    ///     tokio::pin!(closed);
    ///     loop {
    ///         tokio::select! {
    ///             line = news.recv() => match line {
    ///                 Ok(line) => socket.send(line).await?,
    ///                 Err(RecvError::Lagged(_)) => {}
    ///                 Err(RecvError::Closed) => return Ok(()),
    ///             },
    ///             _ = &mut closed => return Ok(()),
    ///         }
    ///     }
    /// }
    /// ```
    pub fn closed(&self) -> impl Future<Output = Closed> + Send + use<> {
        let link = Arc::clone(&self.link);
        async move { link.closed_as().await }
    }

    /// Discards the messages that came and those that will come, within the limits of [`Config`].
    ///
    /// For a handler that only sends: messages that nobody receives fill the
    /// [inbox](Config::max_inbox), and then neither the peer's pings nor its Close are seen.
    /// [`recv`](Self::recv) waits for the end of the connection from now on.
    pub fn ignore_incoming(&mut self) {
        self.link.ignore();
    }

    /// Returns the first Close of the connection, whichever side sent it; `None` while the
    /// connection is open, and if it ended without a Close or the first one had no code.
    ///
    /// It can be read as soon as [`recv`](Self::recv) has returned `None`.
    ///
    /// Source: [RFC 6455 §7.1.5](https://www.rfc-editor.org/rfc/rfc6455#section-7.1.5).
    #[must_use]
    pub fn close_frame(&self) -> Option<CloseFrame> {
        self.link.first_close()
    }

    /// Returns an end for other tasks to send with, which is also told how the connection ended.
    #[must_use]
    pub fn sender(&self) -> Sender {
        Sender {
            link: Arc::clone(&self.link),
        }
    }

    /// Returns the time that the last ping of [`Config::keepalive`] took to be answered, `None`
    /// before there was one.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.link.round_trip()
    }

    /// Takes the value that the decision on the handshake sent along with
    /// [`Accept::carry`](crate::Accept::carry).
    ///
    /// Returns `None` if no value of this type was carried, or if it was taken already.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{BoxError, WebSocket};
    ///
    /// struct User(String);
    ///
    /// async fn greet(mut socket: WebSocket) -> Result<(), BoxError> {
    ///     let User(name) = socket.take_carried().ok_or("accept carries a user")?;
    ///     socket.send(format!("Hello {name}")).await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn take_carried<T: Send + 'static>(&mut self) -> Option<T> {
        self.introduction.carried.take()
    }

    /// Returns the value that [`Accept::identify`](crate::Accept::identify) gave to the connection, if it gave one
    /// of this type. [`Connection::value`](crate::Connection::value) returns the same one.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{BoxError, WebSocket};
    ///
    /// struct User(String);
    ///
    /// async fn greet(mut socket: WebSocket) -> Result<(), BoxError> {
    ///     let User(name) = socket.identity().ok_or("accept identifies the user")?;
    ///     let greeting = format!("Hello {name}");
    ///     socket.send(greeting).await?;
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn identity<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.introduction.identity.get()
    }

    /// Returns the request of the opening handshake, with what
    /// [`Handler::accept`](crate::Handler::accept) left in it; on the client's side, as it was sent.
    ///
    /// It has method, path and version alone if
    /// [`WebSocketLayer::without_request`](crate::WebSocketLayer::without_request) or
    /// [`Accept::without_request`](crate::Accept::without_request) was called.
    #[must_use]
    pub fn request(&self) -> &HandshakeRequest {
        &self.introduction.request
    }

    /// Returns the subprotocol that was agreed on, if any
    /// ([RFC 6455 §1.9](https://www.rfc-editor.org/rfc/rfc6455#section-1.9)).
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.introduction.subprotocol.as_deref()
    }
}

// The request's query and the subprotocol may hold the user's secrets, and logs show this.
impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").finish_non_exhaustive()
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        self.link.abandon(std::thread::panicking());
    }
}

/// Yields what [`WebSocket::recv`] returns: messages, at most one error, then the end.
impl Stream for WebSocket {
    type Item = Result<Message, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.link.poll_recv(cx).map(Result::transpose)
    }
}

/// Queues what it is fed as [`WebSocket::send`] does.
///
/// Messages leave on their own, also without a flush. `poll_flush` is ready when all of them are
/// written to the connection that were sent before it was polled first, and `poll_close` when the connection
/// is closed, with 1000. A flush that is dropped is gone on with by the next one: that waits for what the
/// `WebSocket` sent meanwhile, but not for what a [`Sender`] did.
impl Sink<Message> for WebSocket {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.link.poll_room(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SendError> {
        self.link.push(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.link.poll_flushed(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.link
            .close(CloseFrame::without_reason(CloseCode::NORMAL));
        self.link.poll_ended(cx)
    }
}
