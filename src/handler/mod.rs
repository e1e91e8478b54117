//! The [`Handler`] trait, and the handler [`Echo`].
//!
//! A handler sees whole data messages. While it runs, the crate answers pings, exchanges Close frames and
//! refuses violations of the protocol.

mod accept;
mod boxed;
mod decide;
mod echo;
mod into;
mod state;

use std::{any::type_name, future::Future, sync::Arc};

use http::request::Parts;

pub(crate) use self::accept::Configure;
pub use self::{
    accept::Accept,
    boxed::BoxHandler,
    decide::{Decide, Decision, decide},
    echo::Echo,
    into::{FnHandler, IntoHandler},
    state::{WithState, with_state},
};
use crate::{handshake::Refusal, socket::WebSocket, words::BoxError};

/// Serves the connections of a [`WebSocketLayer`](crate::WebSocketLayer), one call each.
///
/// A type that implements this trait can have state, and can decide on requests before the 101. Both methods may be
/// written as `async fn`. A layer also takes a closure or `async fn` from [`WebSocket`] to `Result<(), E>`
/// ([`IntoHandler`]). The best error type for a closure is [`Error`](crate::Error); its page gives the reason.
///
/// An `Arc`, a `Box` and a `&'static` reference of a handler are handlers. [`BoxHandler`] is a handler whose type is
/// erased.
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
/// use tower_websocket::{Error, WebSocketLayer, with_state};
///
/// let motd: Arc<str> = "be kind".into();
/// let layer = WebSocketLayer::new(with_state(motd, async |mut socket, motd| {
///     socket.send(&*motd).await?;
///     Ok::<_, Error>(())
/// }));
/// ```
///
/// [`decide`] makes a handler of two closures. The first one decides before the 101.
///
/// A type that refuses requests without a user:
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `Handler`",
    note = "a closure or an async function is a handler where a layer takes one: `WebSocketLayer::new(..)`, \
            `WebSocketService::new(..)`, `BoxHandler::new(..)`"
)]
pub trait Handler: Send + Sync + 'static {
    /// Decides on a valid handshake, before it is answered.
    ///
    /// [`Accept::carry`] passes a value to [`handle`](Self::handle). [`WebSocket::request`] shows all changes
    /// to the request, also to its extensions. The default implementation accepts every handshake.
    ///
    /// The crate has already checked the method, key, version and origin. The request is answered 503 if this
    /// method takes longer than [`WebSocketLayer::accept_timeout`](crate::WebSocketLayer::accept_timeout), and
    /// 500 if it panics.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]. Its response is sent unchanged, with `Connection: close`. A [`Refusal::close`] instead
    /// accepts the handshake and then sends a Close.
    ///
    /// Tests need no server: call the service with `tower::ServiceExt::oneshot`. A refused request gets its
    /// refusal. An accepted request gets a 500, because there is no server to upgrade the connection.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the client disconnects or the timeout passes.
    fn accept(&self, request: &mut Parts) -> impl Future<Output = Result<Accept, Refusal>> + Send {
        let _ = request;
        std::future::ready(Ok(Accept::new()))
    }

    /// Serves one connection.
    ///
    /// The connection is open until the returned future is ready and the `WebSocket` is dropped. So a handler
    /// may move its socket to another task and return `Ok`. The connection then closes with 1000, or with 1011
    /// if a panic drops the `WebSocket`. An error or a panic of the handler closes with 1011
    /// ([RFC 6455 §7.4.1](https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1)) at once, even if another task
    /// has the socket. A connection that is already closing keeps its code. Messages sent before the end are
    /// flushed first.
    ///
    /// The end of the connection does not drop the future at once. [`WebSocket::recv`] and
    /// [`WebSocket::closed`] return, and the handler has
    /// [`Config::handler_grace`](crate::Config::handler_grace) to clean up. Then the future is dropped.
    ///
    /// The same task runs the handler and the connection. So a handler must not block its thread, and above all
    /// must not block to wait for the socket. Use `tokio::task::spawn_blocking` for blocking calls.
    ///
    /// # Errors
    ///
    /// Any failure of the handler can be returned with `?`:
    ///
    /// - A [`CloseFrame`](crate::CloseFrame) is sent to the peer unchanged, unless it is only the source of another
    ///   error.
    /// - Errors of [`WebSocket::recv`] and [`WebSocket::send`] do not change the close code: it is already decided.
    /// - [`NotText`](crate::error::NotText) and the errors of the feature `json` are for messages of the wrong kind or
    ///   shape. They close with 1003, 1007 or 1008, also as the source of another error.
    ///
    /// `anyhow::Error` hides all of these: see [`Error`](crate::Error).
    fn handle(&self, socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Returns the handler's name in the log. Default: the name of its type. For a closure or an `async fn`, this is
    /// the name of the function.
    fn name(&self) -> &'static str {
        type_name::<Self>()
    }
}

/// Implements [`Handler`] for a pointer to one.
macro_rules! impl_for_pointers {
    ($($pointer:ty),*) => {$(
        impl<H: Handler> Handler for $pointer {
            fn accept(
                &self,
                request: &mut Parts,
            ) -> impl Future<Output = Result<Accept, Refusal>> + Send {
                H::accept(self, request)
            }

            fn handle(
                &self,
                socket: WebSocket,
            ) -> impl Future<Output = Result<(), BoxError>> + Send {
                H::handle(self, socket)
            }

            fn name(&self) -> &'static str {
                H::name(self)
            }
        }
    )*};
}

impl_for_pointers!(Arc<H>, Box<H>, &'static H);
