//! A handler made of two functions: one decides, the other one serves.

use std::{fmt, future::Future, marker::PhantomData};

use http::request::Parts;

use super::Handler;
use crate::{handler::Accept, handshake::Refusal, socket::WebSocket, words::BoxError};

/// Makes a handler of two functions: `accept` decides on a handshake before the 101, and `handle`
/// serves the connection with the value that `accept` returned.
///
/// `accept` is what [`Handler::accept`] is to a type, and returns a value besides: the user, the
/// room, a connection to another server. The value is `Send`, and need be neither `Clone` nor
/// `Sync`. `handle` gets it as an argument, so that it cannot be missing.
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
/// The compiler refuses an async closure that captures anything ("does not implement `Fn` because it
/// captures state"), also with `move`. A closure with state gives each handshake a clone of it, and
/// takes out of the request what the future needs, or clones the request:
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
    // The first bound tells the compiler the types of a closure's arguments, the second one that
    // its future is `Send`.
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
/// Every function of that form implements it. It exists because Rust has no other way yet to ask for
/// a [`Send`] future of a function that borrows its argument.
#[diagnostic::on_unimplemented(
    message = "this function cannot decide on a handshake",
    note = "it is an async function from `&mut Parts` to `Result<(Accept, T), Refusal>`",
    note = "its future has to be `Send`, and an async closure may not borrow what it captures"
)]
pub trait Decision<'a, T>: Fn(&'a mut Parts) -> Self::Future {
    /// What the function returns.
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

/// The value on its way, in a type of its own: the function may carry one of type `T` besides.
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

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        // Missing only if somebody calls this method with another handler's socket.
        let Some(Decided(value)) = socket.take_carried() else {
            return Err("the connection was not accepted by this handler".into());
        };
        (self.handle)(socket, value).await.map_err(Into::into)
    }
}

impl<A, F, T> fmt::Debug for Decide<A, F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decide").finish_non_exhaustive()
    }
}
