//! The layer: which requests are answered, by which handler, under which rules.

mod admission;
mod future;
mod guard;
mod handshake;
mod report;
mod response;
mod service;
mod shared;
mod target;
mod task;
mod upgrade;

use std::{borrow::Cow, fmt, hash::Hash, net::IpAddr, sync::Arc, time::Duration};

use http::request::Parts;
use tower::Layer;

use self::{
    admission::KeyLimit,
    shared::{Settings, Shared},
    target::check_path,
};
pub use self::{
    future::ResponseFuture,
    response::ResponseBody,
    service::{UpgradeRequired, WebSocketService},
};
use crate::{
    config::Config,
    connections::Connections,
    handler::{Echo, Handler},
    handshake::OriginPolicy,
    time::limit::wait,
};

/// Adds WebSockets to a service: answers the handshakes, passes everything else on.
///
/// Without further settings every request that asks for a WebSocket is answered, whatever its
/// path; pages of other origins are refused; [`Config`] says what the limits are. Cloning a layer
/// is cheap, and all its clones and services share one handler.
///
/// # Layers around it
///
/// A layer that is added *before* this one is inside of it, and does not see handshakes: auth belongs
/// after it (in a `ServiceBuilder`, where the first layer is outermost, before it). A layer that is added after it sees the handshake and its 101, and nothing of the connection:
/// a timeout or a concurrency limit ends with the 101. [`docs::layers`](crate::docs::layers) has the usual
/// layers in a table.
///
/// If an outer layer replaces the 101 by another response, over HTTP/1.1 the handler does not run. The
/// layer has to replace the body as well: one that changes only the status, or reads the body first, does
/// not keep it from running. Layers that read every body and send on what they have read do no harm. Those
/// that wrap every body without forwarding [`is_end_stream`](http_body::Body::is_end_stream) keep all
/// handlers from running, which is reported at error level: see
/// [`insecure_run_behind_any_response`](Self::insecure_run_behind_any_response).
///
/// Over HTTP/2 the status decides, and none of this matters.
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_websocket::{Echo, WebSocketLayer};
///
/// // A route of its own.
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello over HTTP" }))
///     .route_service("/ws", WebSocketLayer::new(Echo::new()).into_service());
///
/// // Around all routes. What is layered before it does not see handshakes.
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello over HTTP" }))
///     .layer(WebSocketLayer::new(Echo::new()).path("/ws"));
/// ```
pub struct WebSocketLayer<H = Echo> {
    shared: Arc<Shared<H>>,
}

impl<H: Handler> WebSocketLayer<H> {
    /// Makes a layer that serves every connection with `handler`.
    #[must_use]
    pub fn new(handler: H) -> Self {
        Self {
            shared: Arc::new(Shared::new(handler)),
        }
    }
}

impl<H> WebSocketLayer<H> {
    /// Answers handshakes on this path only; call it again to add another one.
    ///
    /// The path is compared whole and as it stands in the request, without the query:
    /// `/ws` is not `/ws/`. In a nested axum router it is the path that the nested router sees. Where a
    /// path has parameters, give the WebSocket a route, as in
    /// `route_service("/rooms/{id}", layer.into_service())`, and read them in
    /// [`accept`](crate::Handler::accept) with axum's extractors: `request.extract::<Path<u32>>().await`
    /// (`axum::RequestPartsExt`).
    ///
    /// A handshake for another path is passed on, with a line in the log at debug level.
    ///
    /// # Panics
    ///
    /// Panics if no request would ever match `path`, or not as it is meant: if it does not start with
    /// `/`; if it has `{`, `}`, `*` or a segment that starts with `:`, which are parameters elsewhere; or
    /// if it has `?`, `#`, a blank, or another character that no path may have.
    #[must_use]
    pub fn path(self, path: impl Into<Cow<'static, str>>) -> Self {
        let path = path.into();
        if let Err(reason) = check_path(&path) {
            panic!("the path {path:?} {reason}");
        }
        self.with(|settings| settings.target.paths.push(path))
    }

    /// Answers the handshakes for which `matches` is true, and which have the
    /// [`path`](Self::path), if one is given; a second call replaces the first one's predicate.
    ///
    /// It is asked for handshakes only, over HTTP/2 also for those of other protocols (RFC 8441 §4),
    /// and decides who answers them. What
    /// decides whether they are let in belongs into
    /// [`Handler::accept`](crate::Handler::accept). A panic in it is answered 500.
    #[must_use]
    pub fn matching(self, matches: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.target.predicate = Some(Arc::new(matches)))
    }

    /// Sets which pages may connect: others are answered 403, with a text that names origin and host.
    /// Default: [`OriginPolicy::same_host`].
    #[must_use]
    pub fn origin(self, policy: OriginPolicy) -> Self {
        self.with(|settings| settings.origins = policy)
    }

    /// Names a subprotocol that the handler speaks; call it again for the next best.
    ///
    /// The first one that the client offered is chosen; none if it offered none of them, which
    /// [`require_subprotocol`](Self::require_subprotocol) refuses. Browsers give up a connection if
    /// they offered some and none is chosen.
    /// [`Accept::subprotocol`](crate::Accept::subprotocol) decides for a single connection.
    #[must_use]
    pub fn subprotocol(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with(|settings| {
            let names = settings.subprotocols.iter().cloned();
            settings.subprotocols = names.chain([name.into()]).collect();
        })
    }

    /// Refuses handshakes with 400 that offer none of the subprotocols of this layer, or of
    /// [`Accept::subprotocol`](crate::Accept::subprotocol). Default: they are accepted without one.
    ///
    /// [`Accept::require_subprotocol`](crate::Accept::require_subprotocol) does it for a single
    /// connection.
    #[must_use]
    pub fn require_subprotocol(self) -> Self {
        self.with(|settings| settings.requires_subprotocol = true)
    }

    /// Sets limits and waits of each connection. Default: [`Config::new`].
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        self.with(|settings| settings.config = Arc::new(config))
    }

    /// Caps the target and the header fields of a handshake, in bytes: names, values and the target's
    /// length together.
    ///
    /// A larger head is answered 431, with a text that names the field that has most of it (RFC 6585 §5).
    /// Long cookies, Kerberos tickets and tokens in the query need more than the default. What a handshake
    /// carries is kept as long as its connection, unless
    /// [`without_request`](Self::without_request) drops it. Default: 16 KiB.
    ///
    /// The HTTP server has limits of its own, and answers 431 without a text. hyper takes 100 fields and
    /// some 400 KiB over HTTP/1.1, and over HTTP/2 16 KiB: raise that by hyper's `max_header_list_size`.
    #[must_use]
    pub fn max_head_size(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_head_size = bytes)
    }

    /// Bounds the time that [`Handler::accept`](crate::Handler::accept) may take.
    ///
    /// Past it the request is answered 503. Minimum: 50 ms. Default: 10 s.
    #[must_use]
    pub fn accept_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.accept_timeout = wait(limit))
    }

    /// Bounds the wait for the server to hand over the connection after the 101.
    ///
    /// Past it the connection is given up and the failure logged. Minimum: 50 ms. Default: 10 s.
    #[must_use]
    pub fn upgrade_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.upgrade_timeout = wait(limit))
    }

    /// Takes the connections of this layer in among `connections`, which has the limit on their
    /// number. Default: [`Connections::new`], which belongs to this layer and its clones alone.
    ///
    /// The layer keeps a clone of the handle: [`connections`](Self::connections) returns it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{Connections, Echo, WebSocketLayer};
    ///
    /// let connections = Connections::new().max_connections(500);
    /// let layer = WebSocketLayer::new(Echo::new()).connections_in(&connections);
    /// ```
    #[must_use]
    pub fn connections_in(mut self, connections: &Connections) -> Self {
        Arc::make_mut(&mut self.shared).connections = connections.clone();
        self
    }

    /// Allows at most `max` connections at once that share a key, such as the user or the tenant;
    /// call it again to limit by another key, too.
    ///
    /// `key` sees the request after [`Handler::accept`](crate::Handler::accept), with what that
    /// put into the extensions. Past the limit a handshake is answered 429. The place is given back
    /// when the connection is over.
    ///
    /// **A request for which `key` returns `None` is not limited.** The first one is logged at warn
    /// level, once for each limit. [`max_per_peer`](Self::max_per_peer) refuses instead, and is the
    /// method for addresses.
    ///
    /// The key's `Hash` and `Eq` run outside of any lock of this crate. A panic in them, or in
    /// `key`, is answered 500.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::request::Parts;
    /// use tower_websocket::{Accept, BoxError, Handler, Refusal, WebSocket, WebSocketLayer};
    ///
    /// struct Desk;
    ///
    /// #[derive(Clone, Eq, Hash, PartialEq)]
    /// struct User(String);
    ///
    /// impl Handler for Desk {
    ///     async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
    ///         let name = request.headers.get("x-user").and_then(|name| name.to_str().ok());
    ///         let user = User(name.ok_or_else(Refusal::unauthorized)?.to_owned());
    ///         request.extensions.insert(user);
    ///         Ok(Accept::new())
    ///     }
    ///
    ///     async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
    ///         while let Some(message) = socket.recv().await? {
    ///             socket.send(message).await?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// // `accept` lets nobody in without a user, so there is always a key.
    /// let layer = WebSocketLayer::new(Desk)
    ///     .max_per_key(3, |request| request.extensions.get::<User>().cloned());
    /// ```
    #[must_use]
    pub fn max_per_key<K>(
        self,
        max: usize,
        key: impl Fn(&Parts) -> Option<K> + Send + Sync + 'static,
    ) -> Self
    where
        K: Eq + Hash + Send + Sync + 'static,
    {
        self.with(|settings| settings.key_limits.push(KeyLimit::by_key(max, key)))
    }

    /// Allows at most `max` connections at once from one peer; past that a handshake is answered
    /// 429.
    ///
    /// `peer` returns the address of a request's peer: what the server has put into the extensions,
    /// or behind a proxy what the proxy says in a field that clients cannot set. It sees the request
    /// after [`Handler::accept`](crate::Handler::accept). The place is given back when connection
    /// and handler have ended.
    ///
    /// An IPv4 address is a peer, also where it is mapped into IPv6 (`::ffff:192.0.2.1`). Of an IPv6
    /// address only the first 64 bits count, because one customer of a provider has a /64 at least
    /// and may use a new address of it for each connection.
    ///
    /// **A handshake for which `peer` returns `None` is refused** with 500 and
    /// [`HandshakeError::UnknownPeer`](crate::error::HandshakeError::UnknownPeer): the server is not
    /// set up to provide addresses, and a limit that counts nobody protects nobody. The first one is
    /// logged at error level, once for each limit.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::net::SocketAddr;
    /// use axum::{Router, extract::ConnectInfo};
    /// use tokio::net::TcpListener;
    /// use tower_websocket::{Echo, WebSocketLayer};
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let layer = WebSocketLayer::new(Echo::new()).path("/ws").max_per_peer(10, |request| {
    ///     let peer = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
    ///     Some(peer.ip())
    /// });
    /// let app = Router::new().layer(layer);
    /// let listener = TcpListener::bind("127.0.0.1:3000").await?;
    /// // Plain `axum::serve(listener, app)` leaves `ConnectInfo` out.
    /// axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
    /// # }
    /// ```
    #[must_use]
    pub fn max_per_peer(
        self,
        max: usize,
        peer: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.key_limits.push(KeyLimit::by_peer(max, peer)))
    }

    /// Drops each request once its handshake is answered, for handlers that do not read it.
    ///
    /// [`WebSocket::request`](crate::WebSocket::request) then has the method, the path and the
    /// version, and neither query, header fields nor extensions. Under axum's `Router` a connection
    /// then holds 9 KB less, most of which is the read buffer that axum's `OriginalUri` is a slice of.
    /// [`Accept::without_request`](crate::Accept::without_request) does it for a single connection,
    /// and [`Accept::carry`](crate::Accept::carry) keeps what is needed. Default: the request is
    /// kept as long as the connection.
    #[must_use]
    pub fn without_request(self) -> Self {
        self.with(|settings| settings.drops_request = true)
    }

    /// Runs handlers over HTTP/1.1 whatever response an outer layer sends in the place of the 101.
    ///
    /// hyper hands over the connection of any request with `Upgrade`, also when the response is not the
    /// 101. So the crate runs a handler only once the body of its 101 was sent or read. A layer that wraps
    /// every body in one that does not forward [`is_end_stream`](http_body::Body::is_end_stream) looks like
    /// one that replaced the response, and no handler ever runs behind it; the log says so at error level.
    /// Put that layer inside of this one, or around other routes only. Where neither is possible, this gives
    /// the guard up.
    ///
    /// **The handler then also runs behind a refusal.** Here the client gets a 403, keeps the connection,
    /// and talks to the handler all the same:
    ///
    /// ```
    /// use axum::{Router, middleware::map_response, response::Response};
    /// use http::StatusCode;
    /// use tower_websocket::{Echo, WebSocketLayer};
    ///
    /// async fn refuse(_: Response) -> StatusCode {
    ///     StatusCode::FORBIDDEN
    /// }
    ///
    /// let open = WebSocketLayer::new(Echo::new()).insecure_run_behind_any_response();
    /// let app: Router = Router::new()
    ///     .route_service("/ws", open.into_service())
    ///     .layer(map_response(refuse));
    /// ```
    ///
    /// A layer that refuses before it calls the inner service is safe: then nothing is accepted. Over
    /// HTTP/2 the status decides, and this changes nothing. A warning is logged when it is called.
    ///
    /// Default: guarded.
    #[must_use]
    pub fn insecure_run_behind_any_response(self) -> Self {
        report::unguarded();
        self.with(|settings| settings.unguarded = true)
    }

    /// Returns a handle to all connections of this layer and its clones, to count and to close
    /// them: the one given to [`connections_in`](Self::connections_in), or the layer's own.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.shared.connections.clone()
    }

    /// Switches the layer on or off. Switched off it passes every request on. Default: on.
    #[must_use]
    pub fn enabled(self, enabled: bool) -> Self {
        self.with(|settings| settings.enabled = enabled)
    }

    /// Makes a service without an inner one, for a route of its own.
    ///
    /// Other requests are answered with a text that says why: 426 if they do not ask for a WebSocket,
    /// and 404 if they ask for another [`path`](Self::path), or are not those of
    /// [`matching`](Self::matching).
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::Router;
    /// use tower_websocket::{Echo, WebSocketLayer};
    ///
    /// let echo = WebSocketLayer::new(Echo::new()).subprotocol("chat").into_service();
    /// let app: Router = Router::new().route_service("/ws", echo);
    /// ```
    #[must_use]
    pub fn into_service(self) -> WebSocketService<UpgradeRequired, H> {
        let paths = self.shared.settings.target.paths.as_slice().into();
        self.layer(UpgradeRequired::at(paths))
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut Arc::make_mut(&mut self.shared).settings);
        self
    }
}

impl Default for WebSocketLayer {
    fn default() -> Self {
        Self::new(Echo::new())
    }
}

impl<H> Clone for WebSocketLayer<H> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<H> fmt::Debug for WebSocketLayer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketLayer")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

impl<S, H> Layer<S> for WebSocketLayer<H> {
    type Service = WebSocketService<S, H>;

    fn layer(&self, inner: S) -> Self::Service {
        WebSocketService::with(inner, Arc::clone(&self.shared))
    }
}
