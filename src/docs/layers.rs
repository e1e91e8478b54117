//! What other layers do around a WebSocket, and where auth belongs.
//!
//! A layer that is added *after* the WebSocket is outside of it: it sees the handshake, and the 101 that
//! answers it. A layer that is added *before* is inside: **it does not see handshakes**, because these are
//! answered before they get there. So auth goes after.
//!
//! **In a tower `ServiceBuilder` it is the other way round**: what is added first is outermost. There auth goes
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
//! // A route of its own: auth sees its handshakes, like the requests for any other route.
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello over HTTP" }))
//!     .route_service("/ws", ws.clone().into_service())
//!     .layer(from_fn(auth));
//!
//! // As a layer around the routes: auth has to come after it. The other way round, /ws would be open.
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
//! [`Handler::accept`](crate::Handler::accept) sees every handshake, wherever the layer is.
//!
//! # Layers outside
//!
//! These are tested with axum, tower-http and tower (`tests/layers.rs`). Inside, none of them has an
//! effect on a WebSocket.
//!
//! | Layer | Effect outside |
//! | --- | --- |
//! | `TraceLayer`, `CatchPanicLayer`, `InFlightRequestsLayer` | See the handshake and its 101, and nothing of the connection: it has a span and [counts](crate::Connections::counts) of its own. A panic of a handler ends its connection with 1011. |
//! | `CorsLayer` | None: browsers do not ask it about WebSockets. See [`OriginPolicy`](crate::OriginPolicy). |
//! | `SetRequestIdLayer`, `PropagateRequestIdLayer`, `PropagateHeaderLayer`, `SetResponseHeaderLayer`, `SetSensitiveHeadersLayer` | As for other requests. Do not override `Connection` or `Upgrade`: then no client connects. |
//! | `AddExtensionLayer` | The handler finds the extensions in `accept`, and in [`WebSocket::request`](crate::WebSocket::request). |
//! | `ValidateRequestHeaderLayer`, `from_fn` that refuses | Decide on handshakes. |
//! | `CompressionLayer`, `RequestDecompressionLayer` | None. Messages are compressed by the feature `deflate`. |
//! | `RequestBodyLimitLayer` | None: a handshake has no body. For messages see [`Config::max_message_size`](crate::Config::max_message_size). |
//! | `TimeoutLayer`, tower's `timeout` | Bound the answer to the handshake, and **end with the 101**: no connection is cut. See [`Config::max_lifetime`](crate::Config::max_lifetime), and `accept_timeout` of the layer. |
//! | `ConcurrencyLimitLayer`, `GlobalConcurrencyLimitLayer`, `load_shed` | Bound the handshakes on their way, and **end with the 101**: connections are not limited. See [`Connections::max_connections`](crate::Connections::max_connections) and [`max_per_key`](crate::WebSocketLayer::max_per_key). |
//! | `buffer`, `rate_limit` | Count handshakes like other requests. |
//! | `NormalizePathLayer` around the whole | `/ws/` connects to `/ws`. |
//! | `MapResponseBodyLayer` with `Body::new`, `from_fn` that passes the response on | None. |
//! | `from_fn` that reads the body (`to_bytes`) and sends it on: ETags, logs of bodies, rewriting of pages | None. |
//! | `from_fn` or `map_response` that answers something else in the place of the 101 | The client gets that, and the handler does not run. |
//! | the same, if it read the body before, or changed only the status | The client gets that, and over HTTP/1.1 **the handler runs**: refuse before the inner service is called. |
//! | `DecompressionLayer`, `ResponseBodyTimeoutLayer`, `CompressionLayer` of everything, `Body::from_stream` | Over HTTP/1.1 a 101, and then the connection is dropped, with a line at error level. Put them inside, or see [`insecure_run_behind_any_response`](crate::WebSocketLayer::insecure_run_behind_any_response). |
//! | `from_fn` that makes a new request without the extensions | 500, with a line at error level: the server's promise of the connection was among them. |
//!
//! Sessions, such as those of tower-sessions, write their cookie when the response leaves, which is the 101.
//! So change a session in [`Handler::accept`](crate::Handler::accept); in `handle` save it yourself.
//!
//! # Places in axum's `Router`
//!
//! | | |
//! | --- | --- |
//! | `.layer(ws)` before `.route(..)` | connects |
//! | `.layer(ws).fallback(..)` | 404: no layer is around a fallback that is added later |
//! | `.route_layer(ws)`, or `.layer(ws)` in a nested router, without a route or fallback for the path | 404: the layer is not reached |
//! | two layers for one path | the outer one, which was added last, answers |
//! | `ServiceBuilder::option_layer` | does not compile: use [`WebSocketLayer::enabled`](crate::WebSocketLayer::enabled) |
//! | `layer.layer(router)` in `axum::serve` | does not compile: the body needs `MapResponseLayer`, as the README shows |
