//! The layer: its settings, and the handler that serves its connections.

mod admission;
#[cfg(feature = "axum")]
mod extract;
mod future;
mod guard;
mod handshake;
mod report;
mod response;
mod route;
mod service;
mod shared;
mod span;
mod target;
mod task;
mod upgrade;

use std::{borrow::Cow, fmt, hash::Hash, net::IpAddr, sync::Arc, time::Duration};

use http::request::Parts;
use tower::Layer;

#[cfg(feature = "axum")]
pub use self::extract::NoHandler;
use self::{
    admission::KeyLimit,
    shared::{Settings, Shared},
    span::Peer,
    target::check_path,
};
#[cfg(feature = "axum")]
pub(crate) use self::{extract::Extracted, task::Serve};
pub use self::{
    future::ResponseFuture,
    response::ResponseBody,
    service::{UpgradeRequired, WebSocketService},
};
#[cfg(feature = "tracing")]
use crate::words::ConnectionId;
use crate::{
    config::Config,
    connections::Connections,
    handler::{Echo, Handler, IntoHandler},
    handshake::OriginPolicy,
    time::limit::timeout,
};

/// Adds WebSockets to a service: answers handshakes and passes all other requests to the service.
///
/// By default the layer answers every WebSocket handshake, on any path. It refuses pages of other origins, and
/// applies the limits of [`Config`]. Cloning a layer is cheap. All its clones and services share one handler.
///
/// # Other layers
///
/// A layer that is added *before* this one is inside of it, and does not see handshakes. So add auth after this
/// layer (in a `ServiceBuilder`, where the first layer is outermost: before it). A layer that is added after
/// this one sees the handshake and its 101, but not the connection: a timeout or a concurrency limit ends with
/// the 101. [`guide::layers`](crate::guide::layers) has a table of common layers.
///
/// Over HTTP/1.1 an outer layer can replace the 101 response:
///
/// - If it replaces the body too, the handler does not run. Changing only the status is not enough. Neither is
///   a new body, if the layer has read the old one.
/// - A layer that reads every body and sends the same bytes on does no harm.
/// - A layer that wraps every body without forwarding [`is_end_stream`](http_body::Body::is_end_stream) keeps
///   all handlers from running. This is logged at error level. See
///   [`insecure_run_behind_any_response`](Self::insecure_run_behind_any_response).
///
/// Over HTTP/2 only the status of the response counts.
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_websocket::{Echo, WebSocketLayer};
///
/// // One route.
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello over HTTP" }))
///     .route_service("/ws", WebSocketLayer::new(Echo::new()).into_service());
///
/// // Around all routes. Layers that are added before it do not see handshakes.
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello over HTTP" }))
///     .layer(WebSocketLayer::new(Echo::new()).path("/ws"));
/// ```
pub struct WebSocketLayer<H = Echo> {
    shared: Arc<Shared<H>>,
}

impl<H: Handler> WebSocketLayer<H> {
    /// Makes a layer whose connections are served by `handler`: a [`Handler`], or a closure or `async fn` from
    /// [`WebSocket`](crate::WebSocket) to `Result<(), E>`.
    #[must_use]
    pub fn new<M>(handler: impl IntoHandler<M, Handler = H>) -> Self {
        Self {
            shared: Arc::new(Shared::new(handler)),
        }
    }
}

impl<H> WebSocketLayer<H> {
    /// Answers handshakes on this path only. Call it several times for several paths.
    ///
    /// The whole path is compared with that of the request, without the query: `/ws` is not `/ws/`. In a nested
    /// axum router it is the path that the nested router sees. For a path with parameters use a route,
    /// `route_service("/rooms/{id}", layer.into_service())`, and read the parameters in
    /// [`accept`](crate::Handler::accept) with axum's extractors: `request.extract::<Path<u32>>().await`
    /// (`axum::RequestPartsExt`).
    ///
    /// A handshake for another path is passed to the inner service and logged at debug level.
    ///
    /// # Panics
    ///
    /// Panics if `path` can match no request, or looks like a pattern:
    ///
    /// - It does not start with `/`.
    /// - It has `{`, `}`, `*` or a segment that starts with `:`. Routers use these for parameters.
    /// - It has `?`, `#`, a space, or another character that is not allowed in a path.
    #[must_use]
    pub fn path(self, path: impl Into<Cow<'static, str>>) -> Self {
        let path = path.into();
        if let Err(reason) = check_path(&path) {
            panic!("the path {path:?} {reason}");
        }
        self.with(|settings| settings.target.paths.push(path))
    }

    /// Answers only handshakes for which `matches` returns true. If a [`path`](Self::path) is set, it has to
    /// match as well. A second call replaces the first predicate.
    ///
    /// Other handshakes are passed to the inner service. To refuse handshakes, use
    /// [`Handler::accept`](crate::Handler::accept). `matches` is called for handshakes only. Over HTTP/2 these
    /// include handshakes for other protocols (RFC 8441 §4). If `matches` panics, the request is answered 500.
    #[must_use]
    pub fn matching(self, matches: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.target.predicate = Some(Arc::new(matches)))
    }

    /// Sets which web pages may connect. Others are answered 403, with a text that names the origin and the
    /// host. Default: [`OriginPolicy::same_host`].
    #[must_use]
    pub fn origin(self, policy: OriginPolicy) -> Self {
        self.with(|settings| settings.origins = policy)
    }

    /// Adds a subprotocol that the handler supports. Call it several times, in order of preference.
    ///
    /// The first one that the client offered is chosen. If the client offered none of them, none is chosen, and
    /// a browser that offered others closes the connection. [`require_subprotocol`](Self::require_subprotocol)
    /// refuses the handshake instead. [`Accept::subprotocol`](crate::Accept::subprotocol) names the
    /// subprotocols of a single connection.
    #[must_use]
    pub fn subprotocol(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with(|settings| {
            let names = settings.subprotocols.iter().cloned();
            settings.subprotocols = names.chain([name.into()]).collect();
        })
    }

    /// Refuses a handshake with 400 if it offers none of the subprotocols of this layer, or of
    /// [`Accept::subprotocol`](crate::Accept::subprotocol). Default: it is accepted without a subprotocol.
    ///
    /// [`Accept::require_subprotocol`](crate::Accept::require_subprotocol) does the same for a single
    /// connection.
    #[must_use]
    pub fn require_subprotocol(self) -> Self {
        self.with(|settings| settings.requires_subprotocol = true)
    }

    /// Sets the limits and timeouts of each connection. Default: [`Config::new`].
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        self.with(|settings| settings.config = Arc::new(config))
    }

    /// Caps the target and the header fields of a handshake, in bytes: the length of the target plus all names
    /// and values.
    ///
    /// A larger head is answered 431, with a text that names the largest field (RFC 6585 §5). Long cookies,
    /// Kerberos tickets and tokens in the query need more than the default. The head stays in memory until the
    /// connection ends, unless [`without_request`](Self::without_request) drops it. Default: 16 KiB.
    ///
    /// The HTTP server has its own limits, and answers 431 without a text. hyper accepts 100 fields and some
    /// 400 KiB over HTTP/1.1. Over HTTP/2 it accepts 16 KiB; hyper's `max_header_list_size` raises that.
    #[must_use]
    pub fn max_head_size(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_head_size = bytes)
    }

    /// Bounds the time that [`Handler::accept`](crate::Handler::accept) may take.
    ///
    /// After that time the request is answered 503. Minimum: 50 ms. Default: 10 s.
    #[must_use]
    pub fn accept_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.accept_timeout = timeout(limit))
    }

    /// Bounds the time that the server may take to hand over the connection after the 101.
    ///
    /// After that time the connection is dropped and the failure logged. Minimum: 50 ms. Default: 10 s.
    #[must_use]
    pub fn upgrade_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.upgrade_timeout = timeout(limit))
    }

    /// Counts the connections of this layer in `connections`, and applies its limit on their number.
    /// [`connections`](Self::connections) returns a clone of the handle.
    ///
    /// Default: a [`Connections::new`] for this layer and its clones only.
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

    /// Allows at most `max` open connections with the same key, such as the user or the tenant. Call it again to
    /// limit by another key as well.
    ///
    /// `key` gets the request after [`Handler::accept`](crate::Handler::accept), with the extensions that
    /// `accept` added. A handshake over the limit is answered 429. The connection counts until it ends.
    ///
    /// **A request for which `key` returns `None` is not limited.** For each limit, the first such request is
    /// logged at warn level. To limit by address, use [`max_per_peer`](Self::max_per_peer), which refuses these
    /// requests.
    ///
    /// The key's `Hash` and `Eq` run outside of any lock of this crate. If they or `key` panic, the request is
    /// answered 500.
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
    /// // `accept` refuses requests without a user, so there is always a key.
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

    /// Allows at most `max` open connections from one peer. A handshake over the limit is answered 429.
    ///
    /// `peer` returns the address of the peer. The server has put it into the request's extensions; behind a
    /// proxy use a header field that the proxy sets and clients cannot set. `peer` gets the request after
    /// [`Handler::accept`](crate::Handler::accept). The connection counts until it ends.
    ///
    /// An IPv4 address counts as one peer, also if it is mapped into IPv6 (`::ffff:192.0.2.1`). Of an IPv6
    /// address only the first 64 bits count, because a provider's customer has at least a /64 and can use a new
    /// address for each connection.
    ///
    /// **A handshake for which `peer` returns `None` is refused** with 500 and
    /// [`HandshakeError::UnknownPeer`](crate::error::HandshakeError::UnknownPeer). The server is then not set up
    /// to provide addresses, and the limit could not work. For each limit, the first such handshake is logged at
    /// error level.
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
    /// // Plain `axum::serve(listener, app)` adds no `ConnectInfo`.
    /// axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
    /// # }
    /// ```
    #[must_use]
    pub fn max_per_peer(
        self,
        max: usize,
        peer: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        let peer: Peer = Arc::new(peer);
        self.with(|settings| {
            settings.spans.peer.get_or_insert_with(|| Arc::clone(&peer));
            let limit = KeyLimit::by_peer(max, move |request| peer(request));
            settings.key_limits.push(limit);
        })
    }

    /// Sets the function that returns the address of a request's peer, for the field `peer` of the connection's span.
    ///
    /// The server has put the address into the request's extensions; behind a proxy use a header field that the proxy
    /// sets and clients cannot set. `peer` gets the request after [`Handler::accept`](crate::Handler::accept), and is
    /// called if a subscriber takes the span. If it panics, the request is answered 500.
    ///
    /// Default: the function of the first [`max_per_peer`](Self::max_per_peer), without one no field `peer`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::extract::ConnectInfo;
    /// use tower_websocket::{Echo, WebSocketLayer};
    ///
    /// let layer = WebSocketLayer::new(Echo::new()).peer(|request| {
    ///     let peer = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
    ///     Some(peer.ip())
    /// });
    /// ```
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn peer(self, peer: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.spans.peer = Some(Arc::new(peer)))
    }

    /// Makes the `tracing` span of each connection with a function, for example to add the user to every line.
    ///
    /// The function gets the number of the connection and the request after
    /// [`Handler::accept`](crate::Handler::accept), with the extensions that `accept` added. It runs inside of the
    /// span that serves the request. If it panics, the request is answered 500.
    ///
    /// By default the span is named `websocket`. It is at info level and has the fields `id` (the
    /// [`ConnectionId`]), `peer` (see [`peer`](Self::peer)) and `path`. The path has no query, and other characters
    /// than visible ASCII are escaped. The span is a child of the request's span, so formatters put the fields of
    /// both on every line. The request's span then ends with the connection. If an exporter reports a span only when
    /// its children have ended, or the memory of such a span matters, make one with `parent: None`, as the second
    /// example does.
    ///
    /// The connection's task enters the span once each time it is polled. With `tracing-subscriber` this costs about
    /// as much as 4 % of receiving and sending one small message. [`Span::none`](tracing::Span::none) costs nothing,
    /// but then the lines of a connection have none of these fields.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{Echo, WebSocketLayer};
    /// use tracing::info_span;
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// let layer = WebSocketLayer::new(Echo::new()).make_span(|id, request| {
    ///     let user = request.extensions.get::<User>().map(|user| user.0.as_str());
    ///     info_span!("websocket", id = id.get(), path = request.uri.path(), user)
    /// });
    /// ```
    ///
    /// A span that only follows from that of the request:
    ///
    /// ```
    /// use tower_websocket::{Echo, WebSocketLayer};
    /// use tracing::{Span, info_span};
    ///
    /// let layer = WebSocketLayer::new(Echo::new()).make_span(|id, request| {
    ///     let span = info_span!(parent: None, "websocket", id = id.get(), path = request.uri.path());
    ///     span.follows_from(Span::current());
    ///     span
    /// });
    /// ```
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn make_span(
        self,
        make: impl Fn(ConnectionId, &Parts) -> tracing::Span + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.spans.make = Some(Arc::new(make)))
    }

    /// Drops each request once its handshake is answered. For handlers that do not read it.
    ///
    /// [`WebSocket::request`](crate::WebSocket::request) then has the method, path and version, but no query, no
    /// header fields and no extensions. Under axum's `Router` this saves 9 KB for each connection: axum's
    /// `OriginalUri` keeps the server's read buffer in memory. To keep a part of the request, use
    /// [`Accept::carry`](crate::Accept::carry). [`Accept::without_request`](crate::Accept::without_request) does
    /// the same for a single connection. Default: the request is kept until the connection ends.
    #[must_use]
    pub fn without_request(self) -> Self {
        self.with(|settings| settings.drops_request = true)
    }

    /// Runs handlers over HTTP/1.1 even if an outer layer replaces the 101 by another response.
    ///
    /// hyper hands over the connection of any request with `Upgrade`, also if the response is not the 101. So by
    /// default the crate runs a handler only after the body of its 101 was sent or read. A layer that wraps
    /// every body without forwarding [`is_end_stream`](http_body::Body::is_end_stream) looks like one that
    /// replaced the response. Then no handler runs, which is logged at error level. Add that layer inside of
    /// this one, or around other routes only. Use this method only if neither is possible: it disables the
    /// check.
    ///
    /// **The handler then runs even after a refusal.** In this example the client gets a 403, keeps the
    /// connection, and can exchange messages with the handler:
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
    /// A layer that refuses before it calls the inner service is safe, because this layer then never sees the
    /// handshake. Over HTTP/2 this method has no effect: only the status counts there. Each call logs a warning.
    ///
    /// Default: off.
    #[must_use]
    pub fn insecure_run_behind_any_response(self) -> Self {
        report::unguarded();
        self.with(|settings| settings.unguarded = true)
    }

    /// Returns a handle that counts and closes the connections of this layer and its clones: the one given to
    /// [`connections_in`](Self::connections_in), or else the layer's own.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.shared.connections.clone()
    }

    /// Switches the layer on or off. If it is off, every request goes to the inner service. Default: on.
    #[must_use]
    pub fn enabled(self, enabled: bool) -> Self {
        self.with(|settings| settings.enabled = enabled)
    }

    /// Makes a service without an inner service, for a separate route.
    ///
    /// Requests that are not WebSocket handshakes are answered 426. Handshakes for another [`path`](Self::path),
    /// or refused by [`matching`](Self::matching), are answered 404. The text of the answer gives the reason.
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
