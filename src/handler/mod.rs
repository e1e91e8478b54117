//! What a user writes: the [`Handler`] of the connections, and [`Echo`], the one shipped.
//!
//! A handler sees whole data messages. Pings are answered, Close frames exchanged and violations
//! refused beside it, while it works.

mod accept;
mod decide;
mod echo;

use std::{future::Future, sync::Arc};

use http::request::Parts;

pub(crate) use self::accept::Configure;
pub use self::{
    accept::Accept,
    decide::{Decide, Decision, decide},
    echo::Echo,
};
use crate::{handshake::Refusal, socket::WebSocket, words::BoxError};

/// Serves the connections of a [`WebSocketLayer`](crate::WebSocketLayer), one call each.
///
/// A closure or `async fn` from [`WebSocket`] to `Result<(), E>` is a handler, and so is a type
/// that implements this trait, when something has to be decided before the 101 or when it has
/// state. Both methods may be written as `async fn`. Closures best end in
/// [`Error`](crate::Error), which says why.
///
/// # Examples
///
/// A closure:
///
/// ```
/// use tower_websocket::{Error, WebSocket, WebSocketLayer};
///
/// let shout = WebSocketLayer::new(async |mut socket: WebSocket| {
///     while let Some(message) = socket.recv().await? {
///         socket.send(message.into_text()?.to_uppercase()).await?;
///     }
///     Ok::<_, Error>(())
/// });
/// ```
///
/// A closure with state gives each connection a clone of it:
///
/// ```
/// use std::sync::Arc;
/// use tower_websocket::{Error, WebSocket, WebSocketLayer};
///
/// let motd: Arc<str> = "be kind".into();
/// let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
///     let motd = Arc::clone(&motd);
///     async move {
///         socket.send(&*motd).await?;
///         Ok::<_, Error>(())
///     }
/// });
/// ```
///
/// Two closures, of which one decides before the 101, are made a handler by [`decide`].
///
/// A type, which knows its users before it lets them in:
///
/// ```
/// use http::request::Parts;
/// use tower_websocket::{Accept, BoxError, Handler, Refusal, WebSocket};
///
/// struct Desk;
///
/// struct User(String);
///
/// impl Handler for Desk {
///     async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
///         let name = request.headers.get("x-user").and_then(|name| name.to_str().ok());
///         let user = User(name.ok_or_else(Refusal::unauthorized)?.to_owned());
///         Ok(Accept::new().subprotocol("desk.v2").carry(user))
///     }
///
///     async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
///         let User(name) = socket.take_carried().ok_or("accept carries a user")?;
///         socket.send(format!("Hello {name}")).await?;
///         Ok(())
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Decides on a valid handshake, before it is answered.
    ///
    /// [`Accept::carry`] sends a value along to [`handle`](Self::handle). Changes to the request,
    /// its extensions included, are seen in [`WebSocket::request`]. By default everything is
    /// accepted.
    ///
    /// The request has passed the checks of the crate: method, key, version, origin. It is
    /// answered 503 when this takes longer than
    /// [`WebSocketLayer::accept_timeout`](crate::WebSocketLayer::accept_timeout), and 500 when it
    /// panics.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]: a response that is sent as it is, with `Connection: close`; or, by
    /// [`Refusal::close`], a Close behind a handshake that is otherwise accepted.
    ///
    /// Tests need no server to see one: through `tower::ServiceExt::oneshot` a request is refused as it
    /// would be, and one that is accepted is answered 500, because no server has promised its connection.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the client goes away or the time is over.
    fn accept(&self, request: &mut Parts) -> impl Future<Output = Result<Accept, Refusal>> + Send {
        let _ = request;
        std::future::ready(Ok(Accept::new()))
    }

    /// Serves one connection.
    ///
    /// The connection is open as long as the returned future runs or the `WebSocket` lives,
    /// whichever is longer: a handler may move its socket to another task and return `Ok`. The last
    /// of the two closes with 1000, or with 1011 if that is a `WebSocket` dropped in a panic. An error
    /// or a panic of the handler closes with 1011
    /// ([RFC 6455 §7.4.1](https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1)) wherever the socket
    /// is. A connection that is closing already keeps its code. What was sent before is flushed
    /// first.
    ///
    /// The end of the connection does not drop the future at once: [`WebSocket::recv`] and
    /// [`WebSocket::closed`] return, and the handler has
    /// [`Config::handler_grace`](crate::Config::handler_grace) to clean up. Then it is dropped.
    ///
    /// The connection is served in the same task: a handler must not block its thread, least of all
    /// to wait for the socket. What blocks belongs into `tokio::task::spawn_blocking`.
    ///
    /// # Errors
    ///
    /// Whatever the handler calls a failure. A [`CloseFrame`](crate::CloseFrame) is sent as it is. An error of [`WebSocket::recv`] or
    /// [`WebSocket::send`] can be passed on with `?`: it tells of an end that is already decided,
    /// and changes no close code.
    fn handle(&self, socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send;
}

impl<F, R, E> Handler for F
where
    F: Fn(WebSocket) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError>,
{
    async fn handle(&self, socket: WebSocket) -> Result<(), BoxError> {
        self(socket).await.map_err(Into::into)
    }
}

impl<H: Handler> Handler for Arc<H> {
    fn accept(&self, request: &mut Parts) -> impl Future<Output = Result<Accept, Refusal>> + Send {
        H::accept(self, request)
    }

    fn handle(&self, socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send {
        H::handle(self, socket)
    }
}
