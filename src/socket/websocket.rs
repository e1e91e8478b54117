//! The API of the connection's holder.

use std::{
    fmt,
    future::{Future, poll_fn},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    RecvError, SendError, SendTimeoutError, Sender, Sending, TryRecvError, TrySendError,
    info::{HandshakeInfo, Values},
    link::{Caller, Link},
    part::Part,
    report,
    session::detached,
    setup::{Served, Setup},
};
use crate::{
    codec::Role,
    config::Config,
    handshake::HandshakeRequest,
    words::{
        CloseCode, CloseFrame, Closed, ConnectionId, IntoMessage, InvalidClose, Message, Utf8Bytes,
    },
};

/// One end of an open WebSocket connection.
///
/// Each handler gets one. [`recv`](Self::recv) and [`send`](Self::send) handle whole messages. The
/// connection answers Ping and Close frames on its own while the handler works. A `WebSocket` is
/// also a [`Stream`](futures_util::Stream) and a [`Sink`](futures_util::Sink) of messages.
///
/// The connection is open as long as its handler runs or its `WebSocket` lives, whichever is
/// longer. A handler may move the `WebSocket` to another task and return. A [`Sender`] does not
/// keep the connection open.
///
/// [`into_split`](Self::into_split) makes two halves for two tasks. A second task that only sends
/// can have a [`Sender`] instead. [`into_io`](Self::into_io) makes a stream of bytes.
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
    pub(super) link: Part,
    pub(super) values: Values,
}

impl WebSocket {
    /// Serves a stream on which the opening handshake is already done, as the server side.
    ///
    /// Spawns a task that serves the connection until the `WebSocket` is dropped. Dropping it
    /// closes with 1000, or with 1011 during a panic. [`request`](Self::request) is empty, there is
    /// no subprotocol, and messages are not compressed.
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
        let info = HandshakeInfo {
            handler: "WebSocket::from_io",
            ..HandshakeInfo::default()
        };
        let setup = Setup::new(Arc::new(config));
        let handshake = (info, Values::default());
        Self::take_over(Role::Server, io, Bytes::new(), setup, handshake)
    }

    /// Serves a stream on which the opening handshake is already done, in a task of its own.
    ///
    /// `early` are bytes that were read from it after the handshake.
    pub(crate) fn take_over<IO>(
        role: Role,
        io: IO,
        early: Bytes,
        setup: Setup,
        (info, values): (HandshakeInfo, Values),
    ) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let link = Link::new(role, info, Arc::clone(&setup.config));
        let link = Arc::new(link);
        let span = report::connection(link.id(), || None, link.path());
        let served = Served {
            io,
            early,
            link: Arc::clone(&link),
            setup,
        };
        span.spawn(detached(served));
        Self::new(link, values)
    }

    pub(crate) const fn new(link: Arc<Link>, values: Values) -> Self {
        Self {
            link: Part::new(link),
            values,
        }
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
    /// - [`RecvError::Protocol`]: the peer broke a framing rule; a Close with 1002 is sent.
    /// - [`RecvError::InvalidUtf8`]: text that is not UTF-8; a Close with 1007 is sent.
    /// - [`RecvError::TooLarge`]: past [`Config::max_message_size`]; a Close with 1009 is sent.
    /// - [`RecvError::TooManyFragments`], [`TooManyFinalBlocks`](RecvError::TooManyFinalBlocks),
    ///   [`TooSlow`](RecvError::TooSlow), [`TooFast`](RecvError::TooFast),
    ///   [`TooManyControlFrames`](RecvError::TooManyControlFrames),
    ///   [`NoFirstMessage`](RecvError::NoFirstMessage), [`NotReceived`](RecvError::NotReceived):
    ///   past another limit of [`Config`]; a Close with 1008 is sent.
    /// - [`RecvError::Unresponsive`], [`Stalled`](RecvError::Stalled): the peer does not respond or
    ///   does not read; no Close is sent.
    /// - [`RecvError::Io`]: the connection is gone. If only the peer's half of the stream has
    ///   ended, a Close with 1002 is sent.
    ///
    /// After any error every later call returns `None`.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: a message is received completely or waits for the next call.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message>, RecvError>> + Send {
        poll_fn(|cx| self.link.poll_recv(cx))
    }

    /// Waits for a message, then receives all that have arrived, at most `limit`, and appends them
    /// to `messages`. Returns their number: 0 at the end, or if `limit` is 0.
    ///
    /// Use it to answer many small messages: the answers are written together when the handler
    /// waits again.
    ///
    /// # Errors
    ///
    /// Like [`recv`](Self::recv). Earlier messages are received first.
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

    /// Receives the next message if one has arrived.
    ///
    /// # Errors
    ///
    /// - [`TryRecvError::Empty`]: no message has arrived, as far as the connection's task has read.
    /// - [`TryRecvError::Ended`]: [`recv`](Self::recv) would return `None`.
    /// - [`TryRecvError::Failed`]: `recv` would return this error.
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        self.link.try_recv()
    }

    /// Queues one message to be written.
    ///
    /// Waits while [`Config::max_outbox`] has no room for it. Success does not mean that the peer
    /// has received the message: the protocol has no acknowledgement.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] once the connection is closing or gone.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: the message is queued completely or not at all. If the future is dropped
    /// before there is room, the message is dropped with it.
    pub fn send(&mut self, message: impl IntoMessage) -> Sending<'_> {
        Sending(self.link.send(message.into(), Caller::Holder))
    }

    /// Queues one message like [`send`](Self::send), but does not compress it.
    ///
    /// Use it for messages that mix a secret with text that others choose; see
    /// [`Deflate`](crate::Deflate#security).
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] once the connection is closing or gone.
    ///
    /// # Cancel safety
    ///
    /// Like [`send`](Self::send).
    #[cfg(feature = "deflate")]
    pub fn send_uncompressed(&mut self, message: impl IntoMessage) -> Sending<'_> {
        Sending(self.link.send_uncompressed(message.into(), Caller::Holder))
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
        &mut self,
        message: impl IntoMessage,
        limit: Duration,
    ) -> impl Future<Output = Result<(), SendTimeoutError>> + Send {
        self.link
            .send_timeout(message.into(), limit, Caller::Holder)
    }

    /// Queues one message if there is room for it now.
    ///
    /// # Errors
    ///
    /// Like [`Sender::try_send`]. The error returns the message.
    pub fn try_send(&mut self, message: impl IntoMessage) -> Result<(), TrySendError> {
        self.link.try_send(message.into())
    }

    /// Waits until all messages are written that were sent before.
    ///
    /// Messages are written on their own. Use it to learn that the operating system has them: their
    /// peer may not have received them yet.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the connection has ended before.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`. A flush that is dropped is continued by the next one, which also waits
    /// for messages that the `WebSocket` has sent since.
    pub fn flush(&mut self) -> impl Future<Output = Result<(), SendError>> + Send {
        poll_fn(|cx| self.link.poll_flushed(cx))
    }

    /// Closes the connection with a code and a reason, and waits for the end.
    ///
    /// Queued messages are written first. Messages that were not received yet are discarded.
    /// Returns when the peer has answered the Close, is gone, or [`Config::close_timeout`] has
    /// passed. If the connection is closing already, only waits.
    ///
    /// # Errors
    ///
    /// [`InvalidClose::Reason`] if `reason` is longer than [`CloseFrame::MAX_REASON`] bytes; the
    /// connection then stays open.
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
        self.link.wait_closed().await;
        Ok(())
    }

    /// Closes the connection like [`close`](Self::close), with a Close that has no code.
    ///
    /// Use it to pass on a Close without a code, as a gateway does. The peer sees 1005.
    ///
    /// # Cancel safety
    ///
    /// Like [`close`](Self::close).
    ///
    /// Source: [RFC 6455 §7.1.5](https://www.rfc-editor.org/rfc/rfc6455#section-7.1.5).
    pub async fn close_without_code(&mut self) {
        self.link.close_without_code();
        self.link.wait_closed().await;
    }

    /// Waits until the connection has ended, and returns how.
    ///
    /// The future does not borrow the `WebSocket`, so a `select!` can contain it beside
    /// [`send`](Self::send). A handler that only sends needs it to notice early that its peer has
    /// gone. Otherwise the next `send` fails.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`. It may be called again.
    ///
    /// # Examples
    ///
    /// A feed that receives no messages:
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
        async move { link.wait_closed().await }
    }

    /// Discards all messages from the peer, those that have arrived and later ones. The limits of
    /// [`Config`] still apply.
    ///
    /// Call it in a handler that only sends. Messages that are not received fill the
    /// [inbox](Config::max_inbox), and then the connection reads neither pings nor a Close. After
    /// the call [`recv`](Self::recv) waits for the end of the connection.
    pub fn ignore_incoming(&mut self) {
        self.link.ignore_incoming();
    }

    /// Returns the first Close of the connection, from either side. Returns `None` while the
    /// connection is open, if it ended without a Close, and if the first Close had no code.
    ///
    /// It is available once [`recv`](Self::recv) has returned `None`.
    ///
    /// Source: [RFC 6455 §7.1.5](https://www.rfc-editor.org/rfc/rfc6455#section-7.1.5).
    #[must_use]
    pub fn close_frame(&self) -> Option<CloseFrame> {
        self.link.first_close()
    }

    /// Returns a handle for other tasks, which can send, close, and wait for the end.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.link.sender()
    }

    /// Returns the round-trip time of the last answered ping of [`Config::keepalive`] or
    /// [`ping`](Self::ping), or `None` before there was one.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.link.round_trip()
    }

    /// Takes the value that [`Handler::accept`](crate::Handler::accept) passed on with
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
        self.values.take_carried()
    }

    /// Returns the value that [`Accept::identify`](crate::Accept::identify) gave to the connection, if it has this
    /// type. [`Connection::value`](crate::Connection::value) returns the same value.
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
        self.values.identity()
    }

    /// Returns the request of the opening handshake, including changes by
    /// [`Handler::accept`](crate::Handler::accept). On the client side this is the request that was
    /// sent.
    ///
    /// After [`WebSocketLayer::without_request`](crate::WebSocketLayer::without_request) or
    /// [`Accept::without_request`](crate::Accept::without_request) it has only method, path and
    /// version.
    #[must_use]
    pub fn request(&self) -> &HandshakeRequest {
        &self.link.info().request
    }

    /// Returns the subprotocol that was agreed on, if any
    /// ([RFC 6455 §1.9](https://www.rfc-editor.org/rfc/rfc6455#section-1.9)).
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.link.info().subprotocol.as_deref()
    }
}

// Logs show this, and the request's query and the subprotocol may hold the user's secrets.
impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").finish_non_exhaustive()
    }
}
