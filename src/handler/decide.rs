//! A handler made of two functions: the first decides on the handshake, the second serves the connection.

use std::{
    fmt,
    future::{Future, ready},
    marker::PhantomData,
};

use futures_util::{TryFutureExt, future::Either};
use http::request::Parts;

use super::Handler;
use crate::{handler::Accept, handshake::Refusal, socket::WebSocket, words::BoxError};

/// Makes a handler of two functions: `accept` decides on a handshake before the 101, and `handle`
/// serves the connection with the value that `accept` returned.
///
/// `accept` works like [`Handler::accept`] and also returns a value, such as the user, the room or a connection
/// to another server. The value is `Send`, and need be neither `Clone` nor `Sync`. `handle` gets it as an
/// argument.
///
/// # Examples
///
/// ```
/// use tower_websocket::{Accept, Error, Refusal, WebSocketLayer, decide};
///
/// let layer = WebSocketLayer::new(decide(
///     async |request| {
///         let name = request.headers.get("x-user").and_then(|name| name.to_str().ok());
///         let name = name.ok_or_else(Refusal::unauthorized)?.to_owned();
///         Ok((Accept::new().subprotocol("desk.v2"), name))
///     },
///     async |mut socket, name| {
///         socket.send(format!("Hello {name}")).await?;
///         Ok::<_, Error>(())
///     },
/// ));
/// ```
///
/// The compiler refuses an async closure that captures anything ("does not implement `Fn` because it captures
/// state"), also with `move`. Use a closure with an `async` block instead. Before that block, clone the captured
/// state and copy the needed parts of the request, or clone the request:
///
/// ```
/// use std::{collections::HashMap, sync::Arc};
/// use http::request::Parts;
/// use tower_websocket::{Accept, Error, Refusal, WebSocketLayer, decide};
///
/// let users = Arc::new(HashMap::from([("sesame", "Ada")]));
/// let layer = WebSocketLayer::new(decide(
///     move |request: &mut Parts| {
///         let users = Arc::clone(&users);
///         let token = request.uri.query().map(str::to_owned);
///         async move {
///             let user = token.and_then(|token| users.get(&*token).copied());
///             Ok((Accept::new(), user.ok_or_else(Refusal::unauthorized)?))
///         }
///     },
///     async |mut socket, user| {
///         socket.send(user).await?;
///         Ok::<_, Error>(())
///     },
/// ));
/// ```
pub fn decide<A, F, T, R, E>(accept: A, handle: F) -> Decide<A, F, T>
where
    // The first bound lets the compiler infer the types of a closure's arguments. The second one requires a
    // `Send` future.
    A: AsyncFn(&mut Parts) -> Result<(Accept, T), Refusal>,
    A: for<'a> Decision<'a, T> + Send + Sync + 'static,
    F: Fn(WebSocket, T) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError>,
    T: Send + 'static,
{
    Decide {
        accept,
        handle,
        value: PhantomData,
    }
}

/// A function that decides on a handshake, for [`decide`].
///
/// Every async function from `&mut Parts` to `Result<(Accept, T), Refusal>` with a `Send` future implements it.
/// The trait exists because Rust has no other bound for an async function that borrows its argument and
/// returns a [`Send`] future.
#[diagnostic::on_unimplemented(
    message = "this function cannot decide on a handshake",
    note = "it is an async function from `&mut Parts` to `Result<(Accept, T), Refusal>`",
    note = "its future has to be `Send`, and an async closure may not borrow what it captures"
)]
pub trait Decision<'a, T>: Fn(&'a mut Parts) -> Self::Future {
    /// The future of the function.
    type Future: Future<Output = Result<(Accept, T), Refusal>> + Send + 'a;
}

impl<'a, T, A, R> Decision<'a, T> for A
where
    A: Fn(&'a mut Parts) -> R,
    R: Future<Output = Result<(Accept, T), Refusal>> + Send + 'a,
{
    type Future = R;
}

/// The handler that [`decide`] makes of two functions.
pub struct Decide<A, F, T> {
    accept: A,
    handle: F,
    value: PhantomData<fn() -> T>,
}

/// Wraps the value, because the function may also carry a value of type `T` itself.
struct Decided<T>(T);

impl<A, F, T, R, E> Handler for Decide<A, F, T>
where
    A: for<'a> Decision<'a, T> + Send + Sync + 'static,
    F: Fn(WebSocket, T) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError>,
    T: Send + 'static,
{
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        let (accept, value) = (self.accept)(request).await?;
        Ok(accept.carry(Decided(value)))
    }

    // Not an `async fn`, for the reason in `FnHandler`.
    fn handle(&self, mut socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send {
        match socket.take_carried() {
            Some(Decided(value)) => Either::Left((self.handle)(socket, value).err_into()),
            // Only if this method is called with another handler's socket.
            None => {
                let error = "the connection was not accepted by this handler";
                Either::Right(ready(Err(error.into())))
            }
        }
    }
}

impl<A, F, T> fmt::Debug for Decide<A, F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decide").finish_non_exhaustive()
    }
}
