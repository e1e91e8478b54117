//! A handler from a function and its state.

use std::{fmt, future::Future};

use futures_util::TryFutureExt;

use super::Handler;
use crate::{socket::WebSocket, words::BoxError};

/// Makes a handler from a function and the state that all its connections share.
///
/// The function gets a clone of `state` for each connection, so `state` is usually an `Arc`, a `&'static`
/// reference, the sender of a channel, or a pool. An async closure cannot capture such a value: the compiler says
/// "does not implement `Fn` because it captures state". Here the closure takes it as an argument.
///
/// # Examples
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use tower_websocket::{Error, WebSocketLayer, with_state};
///
/// let visits = Arc::new(AtomicU64::new(0));
/// let layer = WebSocketLayer::new(with_state(visits, async |mut socket, visits| {
///     let before = visits.fetch_add(1, Ordering::Relaxed);
///     socket.send(format!("{before} before you")).await?;
///     Ok::<_, Error>(())
/// }));
/// ```
pub fn with_state<S, F, R, E>(state: S, handle: F) -> WithState<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(WebSocket, S) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError>,
{
    WithState { state, handle }
}

/// The handler that [`with_state`] returns.
#[derive(Clone)]
pub struct WithState<S, F> {
    state: S,
    handle: F,
}

impl<S, F, R, E> Handler for WithState<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(WebSocket, S) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError>,
{
    // Not an `async fn`, for the reason in `FnHandler`.
    fn handle(&self, socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send {
        (self.handle)(socket, self.state.clone()).err_into()
    }
}

impl<S, F> fmt::Debug for WithState<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithState").finish_non_exhaustive()
    }
}
