//! The effects of other layers on a WebSocket, and where to add auth.
//!
//! A layer that is added *after* the WebSocket is outside of it: it sees the handshake and the 101. A layer that
//! is added *before* the WebSocket is inside of it: **it does not see handshakes**, because the WebSocket layer
//! answers them first. So add auth after the WebSocket.
//!
//! **In a tower `ServiceBuilder` the order is reversed**: the first layer is the outermost. There, add auth
//! before the WebSocket.
//!
//! ```
//! use axum::{Router, extract::Request, middleware::{Next, from_fn}, response::Response, routing::get};
//! use http::StatusCode;
//! use tower_websocket::{Echo, WebSocketLayer};
//!
//! async fn auth(request: Request, next: Next) -> Result<Response, StatusCode> {
//!     match request.headers().contains_key("authorization") {
//!         true => Ok(next.run(request).await),
//!         false => Err(StatusCode::UNAUTHORIZED),
//!     }
//! }
//!
//! let ws = WebSocketLayer::new(Echo::new());
//!
//! // One route: auth sees its handshakes, like the requests for any other route.
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello over HTTP" }))
//!     .route_service("/ws", ws.clone().into_service())
//!     .layer(from_fn(auth));
//!
//! // A layer around all routes: add auth after it. In the other order, auth would not protect /ws.
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello over HTTP" }))
//!     .layer(ws.path("/ws"))
//!     .layer(from_fn(auth));
//! ```
//!
//! | Where auth is added | A handshake without a token |
//! | --- | --- |
//! | `.route_service("/ws", ..).layer(auth)`, or `.route_layer(auth)` | is refused |
//! | `.layer(ws).layer(auth)` | is refused |
//! | `.nest("/api", routes_with_ws.layer(auth))`, `.merge(routes_with_ws.layer(auth))` | is refused |
//! | `.layer(ServiceBuilder::new().layer(auth).layer(ws))` | is refused |
//! | `.layer(ServiceBuilder::new().layer(ws).layer(auth))` | **connects** |
//! | `.layer(auth).layer(ws)` | **connects** |
//! | `.merge(routes.layer(auth)).layer(ws)` | **connects** |
//! | `.layer(ws).route_layer(auth)` | **connects** |
//!
//! [`Handler::accept`](crate::Handler::accept) sees every handshake, independent of the order of layers.
//!
//! # Layers outside
//!
//! These are tested with axum, tower-http and tower (`tests/layers.rs`). If they are inside, they have no effect
//! on a WebSocket.
//!
//! | Layer | Effect outside |
//! | --- | --- |
//! | `TraceLayer`, `CatchPanicLayer`, `InFlightRequestsLayer` | See the handshake and its 101, but not the connection. The connection has its own span and [counts](crate::Connections::counts). A panic of a handler ends its connection with 1011. |
//! | `CorsLayer` | None: CORS does not apply to WebSockets. See [`OriginPolicy`](crate::OriginPolicy). |
//! | `SetRequestIdLayer`, `PropagateRequestIdLayer`, `PropagateHeaderLayer`, `SetResponseHeaderLayer`, `SetSensitiveHeadersLayer` | As for other requests. Do not override `Connection` or `Upgrade`, because then no client connects. |
//! | `AddExtensionLayer` | The handler sees the extensions in `accept`, and in [`WebSocket::request`](crate::WebSocket::request). |
//! | `ValidateRequestHeaderLayer`, `from_fn` that refuses | Refuse handshakes like other requests. |
//! | `CompressionLayer`, `RequestDecompressionLayer` | None. To compress messages use the feature `deflate`. |
//! | `RequestBodyLimitLayer` | None: a handshake has no body. For messages see [`Config::max_message_size`](crate::Config::max_message_size). |
//! | `TimeoutLayer`, tower's `timeout` | Bound the time of the handshake, and **end with the 101**: they end no connection. See [`Config::max_lifetime`](crate::Config::max_lifetime), and `accept_timeout` of the layer. |
//! | `ConcurrencyLimitLayer`, `GlobalConcurrencyLimitLayer`, `load_shed` | Limit the concurrent handshakes, and **end with the 101**: they do not limit connections. See [`Connections::max_connections`](crate::Connections::max_connections) and [`max_per_key`](crate::WebSocketLayer::max_per_key). |
//! | `buffer`, `rate_limit` | Count handshakes like other requests. |
//! | `NormalizePathLayer` around the whole router | `/ws/` connects to `/ws`. |
//! | `MapResponseBodyLayer` with `Body::new`, `from_fn` that passes the response on | None. |
//! | `from_fn` that reads the body (`to_bytes`) and sends it on: ETags, logs of bodies, rewriting of pages | None. |
//! | `from_fn` or `map_response` that replaces the 101 by another response | The client gets that response, and the handler does not run. |
//! | the same, if it has read the body before, or changes only the status | The client gets that response, but over HTTP/1.1 **the handler runs**. Refuse before the inner service is called. |
//! | `DecompressionLayer`, `ResponseBodyTimeoutLayer`, `CompressionLayer` of everything, `Body::from_stream` | Over HTTP/1.1 the client gets a 101, and then the connection is dropped. This is logged at error level. Add them inside, or see [`insecure_run_behind_any_response`](crate::WebSocketLayer::insecure_run_behind_any_response). |
//! | `from_fn` that makes a new request without the extensions | 500, logged at error level: hyper's handle for the upgrade is one of the extensions. |
//!
//! Session layers, such as tower-sessions, send their cookie with the response: here the 101. So change a session
//! in [`Handler::accept`](crate::Handler::accept). If `handle` changes it, save it there yourself.
//!
//! # Places in axum's `Router`
//!
//! | | |
//! | --- | --- |
//! | `.layer(ws)` before `.route(..)` | connects |
//! | `.layer(ws).fallback(..)` | the fallback answers, also handshakes: the layer is not around a fallback that is added later |
//! | `.route_layer(ws)`, or `.layer(ws)` in a nested router, without a route or fallback for the path | 404: the layer is not reached |
//! | two layers for one path | the one added last answers, because it is the outer one |
//! | `ServiceBuilder::option_layer` | does not compile: use [`WebSocketLayer::enabled`](crate::WebSocketLayer::enabled) |
//! | `layer.layer(router)` in `axum::serve` | does not compile: the body needs `MapResponseLayer`, as [the first page](super::start#around-the-whole-router) shows |
