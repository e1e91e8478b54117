//! A complete handler for rooms in JSON, made of the public items of this crate.

mod admission;
mod answer;
mod request;
mod session;

use std::{any::Any, fmt, future::Future, pin::Pin, sync::Arc};

use http::request::Parts;
use serde::Serialize;

pub use self::admission::{Admission, Denied};
use self::session::Session;
use crate::{
    Accept, BoxError, Decision, Handler, Refusal, WebSocket,
    hub::{Hub, HubConfig, Json},
};

type Pending<'a, O> = Pin<Box<dyn Future<Output = O> + Send + 'a>>;
type Identify<I> =
    dyn for<'a> Fn(&'a mut Parts) -> Pending<'a, Result<(Accept, I), Refusal>> + Send + Sync;
type Authorize<T, I> =
    dyn Fn(I, Arc<str>) -> Pending<'static, Result<Admission<T>, Denied>> + Send + Sync;

/// A complete [`Handler`] for rooms in JSON, for pages and apps: the subprotocol `rooms.v1.json`.
///
/// Clients join any number of rooms over one connection, send to them, and hear who is there. The
/// [guide](crate::guide::json_rooms) has the protocol in full.
///
/// Two functions decide. One knows the identity `I` of a connection. The other, `authorize`, is asked at each join:
/// it gets a clone of the identity and the name of the room, and returns an [`Admission`] with the member's value `T`,
/// or [`Denied`]. So a client decides on nothing but the rooms that it asks for.
///
/// A clone is cheap, and is the same handler with the same hub.
///
/// # Examples
///
/// Everybody may join each room whose name begins with `public-`:
///
/// ```
/// use tower_websocket::{
///     WebSocketLayer,
///     hub::{Admission, Denied, HubConfig, JsonRooms},
/// };
///
/// let rooms = JsonRooms::new(HubConfig::new(), async |(), room| {
///     match room.starts_with("public-") {
///         true => Ok(Admission::new("a guest")),
///         false => Err(Denied::forbidden()),
///     }
/// });
/// let layer = WebSocketLayer::new(rooms.clone()).path("/rooms");
///
/// // The server sends, too: from any task, to everybody in a room.
/// rooms.hub().room("public-news").send(r#"{"text":"hello"}"#)?;
/// # Ok::<(), tower_websocket::hub::PublishError>(())
/// ```
///
/// The identity is decided before the 101, as by [`decide`](crate::decide):
///
/// ```
/// use tower_websocket::{
///     Accept, Refusal, WebSocketLayer,
///     hub::{Admission, HubConfig, JsonRooms},
/// };
///
/// let rooms = JsonRooms::decide(
///     HubConfig::new(),
///     async |request| {
///         let name = request.headers.get("x-user").and_then(|name| name.to_str().ok());
///         let name = name.ok_or_else(Refusal::unauthorized)?.to_owned();
///         Ok((Accept::new(), name))
///     },
///     async |name, room| {
///         let admission = Admission::new(name.clone()).key(name);
///         Ok(if *room == *"news" { admission.read_only() } else { admission })
///     },
/// );
/// let layer = WebSocketLayer::new(rooms);
/// ```
///
/// A closure that captures something, such as a pool, clones it before an `async` block:
///
/// ```
/// use std::{collections::HashSet, sync::Arc};
/// use tower_websocket::hub::{Admission, Denied, HubConfig, JsonRooms};
///
/// #[derive(Clone)]
/// struct User {
///     id: u64,
/// }
///
/// let allowed = Arc::new(HashSet::from([(7, "staff")]));
/// // A layer has put the user into the extensions of the request.
/// let rooms = JsonRooms::new(HubConfig::new(), move |user: User, room| {
///     let allowed = Arc::clone(&allowed);
///     async move {
///         match allowed.contains(&(user.id, &*room)) {
///             true => Ok(Admission::new(user.id)),
///             false => Err(Denied::forbidden()),
///         }
///     }
/// });
/// ```
pub struct JsonRooms<T = (), I = ()> {
    hub: Hub<T>,
    identify: Arc<Identify<I>>,
    authorize: Arc<Authorize<T, I>>,
}

/// The identity of a connection, from `accept` to `handle`.
struct Identified<I>(I);

impl<T, I> JsonRooms<T, I>
where
    T: Serialize + Send + Sync + 'static,
    I: Clone + Send + Sync + 'static,
{
    /// Makes a handler, and its hub. Its rooms have the envelope [`Json::serialized`], whatever `config` says.
    ///
    /// A layer or middleware puts the identity into the extensions of the request. A request without one is refused
    /// with 401. The identity `()` needs nothing: everybody is accepted. With [`serve`](Self::serve), the caller
    /// has the identity instead.
    #[must_use]
    pub fn new<F, R>(config: HubConfig<T>, authorize: F) -> Self
    where
        F: Fn(I, Arc<str>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Admission<T>, Denied>> + Send + 'static,
    {
        Self::make(config, from_extensions, authorize)
    }

    /// Makes a handler like [`new`](Self::new), with a function that decides on the handshake and returns the
    /// identity, as that of [`decide`](crate::decide).
    ///
    /// The subprotocol `rooms.v1.json` is added to the [`Accept`], behind those that `accept` has added.
    #[must_use]
    pub fn decide<A, F, R>(config: HubConfig<T>, accept: A, authorize: F) -> Self
    where
        // The first bound lets the compiler infer the types of a closure's arguments.
        A: AsyncFn(&mut Parts) -> Result<(Accept, I), Refusal>,
        A: for<'a> Decision<'a, I> + Send + Sync + 'static,
        F: Fn(I, Arc<str>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Admission<T>, Denied>> + Send + 'static,
    {
        Self::make(config, accept, authorize)
    }

    fn make<A, F, R>(config: HubConfig<T>, accept: A, authorize: F) -> Self
    where
        A: for<'a> Decision<'a, I> + Send + Sync + 'static,
        F: Fn(I, Arc<str>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Admission<T>, Denied>> + Send + 'static,
    {
        Self {
            hub: Hub::with(config.envelope(Json::serialized())),
            identify: Arc::new(move |request| Box::pin(accept(request))),
            authorize: Arc::new(move |identity, room| Box::pin(authorize(identity, room))),
        }
    }
}

/// Returns the identity that a layer has put into the extensions.
fn from_extensions<I: Clone + Send + Sync + 'static>(
    request: &mut Parts,
) -> std::future::Ready<Result<(Accept, I), Refusal>> {
    let unit = (&() as &dyn Any).downcast_ref::<I>();
    let identity = request.extensions.get::<I>().or(unit).cloned();
    let identity = identity.ok_or_else(Refusal::unauthorized);
    std::future::ready(identity.map(|identity| (Accept::new(), identity)))
}

impl<T, I> JsonRooms<T, I>
where
    T: Send + Sync + 'static,
    I: Clone + Send + Sync + 'static,
{
    /// The subprotocol: `rooms.v1.json`.
    pub const SUBPROTOCOL: &'static str = "rooms.v1.json";

    /// Returns the hub: to send to rooms, to see who is there, to remove members.
    ///
    /// Messages to its rooms are texts that are JSON, such as those of [`Message::json`](crate::Message::json).
    /// A binary message would be passed on as it is, and no client of the protocol understands it.
    #[must_use]
    pub const fn hub(&self) -> &Hub<T> {
        &self.hub
    }

    /// Serves one connection, whose identity the caller knows. For handlers of your own, and for axum's extractors:
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::{extract::{Path, State}, response::Response};
    /// use tower_websocket::{axum::Upgrade, hub::JsonRooms};
    ///
    /// async fn rooms(
    ///     Path(user): Path<u64>,
    ///     State(rooms): State<JsonRooms<u64, u64>>,
    ///     upgrade: Upgrade,
    /// ) -> Response {
    ///     upgrade
    ///         .subprotocol(JsonRooms::<u64, u64>::SUBPROTOCOL)
    ///         .on_upgrade(async move |socket| rooms.serve(socket, user).await)
    /// }
    /// # }
    /// ```
    ///
    /// It returns when the connection ends. Its errors are those of the socket, and those of a client that breaks the
    /// protocol: a handler that returns them closes with 1003, 1007 or 1008.
    ///
    /// # Errors
    ///
    /// [`RecvError`](crate::error::RecvError), [`SendError`](crate::error::SendError) and
    /// [`JsonError`](crate::json::JsonError), boxed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves all rooms, and closes the connection.
    pub async fn serve(&self, socket: WebSocket, identity: I) -> Result<(), BoxError> {
        Session::new(self, socket, identity).serve().await
    }
}

impl<T, I> Handler for JsonRooms<T, I>
where
    T: Send + Sync + 'static,
    I: Clone + Send + Sync + 'static,
{
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        let (accept, identity) = (self.identify)(request).await?;
        let accept = accept.subprotocol(Self::SUBPROTOCOL);
        Ok(accept.carry(Identified(identity)))
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        // It is missing only if this method is called with another handler's socket.
        let Some(Identified(identity)) = socket.take_carried() else {
            return Err("the connection was not accepted by this handler".into());
        };
        self.serve(socket, identity).await
    }
}

impl<T, I> Clone for JsonRooms<T, I> {
    fn clone(&self) -> Self {
        Self {
            hub: self.hub.clone(),
            identify: Arc::clone(&self.identify),
            authorize: Arc::clone(&self.authorize),
        }
    }
}

impl<T, I> fmt::Debug for JsonRooms<T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonRooms")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}
