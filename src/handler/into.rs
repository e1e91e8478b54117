//! Values that a layer accepts as its handler: handlers and functions.

use std::{any::type_name, fmt, future::Future};

use futures_util::TryFutureExt;

use super::Handler;
use crate::{socket::WebSocket, words::BoxError};

/// A value that [`WebSocketLayer::new`](crate::WebSocketLayer::new) takes: a [`Handler`], or a closure or
/// `async fn` from [`WebSocket`] to `Result<(), E>`.
///
/// An async closure that captures something is not a handler: the compiler says that it "captures state". Use
/// [`with_state`](crate::with_state), which passes the state as an argument.
///
/// The compiler infers `M`, which distinguishes the two kinds. The trait is sealed: implement [`Handler`] for your
/// own types.
///
/// # Examples
///
/// A function that takes the same values as the layer:
///
/// ```
/// use tower_websocket::{Error, Handler, IntoHandler, WebSocket, WebSocketLayer};
///
/// fn quiet<H: Handler, M>(handler: impl IntoHandler<M, Handler = H>) -> WebSocketLayer<H> {
///     WebSocketLayer::new(handler).without_request()
/// }
///
/// let layer = quiet(async |mut socket: WebSocket| {
///     socket.send("Hello").await?;
///     Ok::<_, Error>(())
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "this is not a handler of WebSocket connections",
    label = "not a handler",
    note = "a handler is an async function or closure from one `WebSocket` to `Result<(), E>`, or a type that \
            implements `Handler`",
    note = "a closure takes `socket: WebSocket` and ends in `Ok::<_, tower_websocket::Error>(())`",
    note = "for state there is `with_state(state, async |socket, state| ..)`, for a decision before the 101 \
            `decide(..)`, and for axum's extractors `axum::Upgrade`"
)]
pub trait IntoHandler<M>: sealed::Sealed<M> {
    /// The type of the handler. A layer requires that it implements [`Handler`].
    type Handler;

    /// Converts the value into the handler.
    fn into_handler(self) -> Self::Handler;
}

pub(crate) mod sealed {
    /// Closes [`IntoHandler`](super::IntoHandler) to other crates.
    #[expect(unnameable_types, reason = "no other crate implements it")]
    pub trait Sealed<M> {}
}

impl<H: Handler> IntoHandler<()> for H {
    type Handler = H;

    fn into_handler(self) -> H {
        self
    }
}

impl<H: Handler> sealed::Sealed<()> for H {}

// These bounds decide whether a function is a handler. `FnHandler` has the bounds on `Send`, `Sync` and `'static`,
// because there the compiler's own message names the value that is not `Send`. `FnHandler` also has
// `E: Into<BoxError>`, because the compiler cannot prove it for `BoxError` inside a spawned future.
impl<F, R, E> IntoHandler<fn(WebSocket)> for F
where
    F: Fn(WebSocket) -> R,
    R: Future<Output = Result<(), E>>,
{
    type Handler = FnHandler<F>;

    fn into_handler(self) -> FnHandler<F> {
        FnHandler { function: self }
    }
}

impl<F, R, E> sealed::Sealed<fn(WebSocket)> for F
where
    F: Fn(WebSocket) -> R,
    R: Future<Output = Result<(), E>>,
{
}

/// The handler of a closure or an `async fn`, see [`IntoHandler`].
#[derive(Clone)]
pub struct FnHandler<F> {
    function: F,
}

impl<F, R, E> Handler for FnHandler<F>
where
    F: Fn(WebSocket) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError>,
{
    // Not an `async fn`, which would store its arguments in each connection until the end.
    fn handle(&self, socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send {
        (self.function)(socket).err_into()
    }

    fn name(&self) -> &'static str {
        type_name::<F>()
    }
}

impl<F> fmt::Debug for FnHandler<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(type_name::<F>())
    }
}
