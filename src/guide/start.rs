//! A first server, and the HTTP servers that the crate works with.
//!
//! The [front page](crate) has a whole program for axum. Besides this crate, it needs:
//!
//! ```text
//! cargo add axum
//! cargo add tokio --features full
//! ```
//!
//! A layer goes into a router in one of two ways:
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower_websocket::{Echo, WebSocketLayer};
//!
//! // A route, like any other.
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello over HTTP" }))
//!     .route_service("/ws", WebSocketLayer::new(Echo::new()).into_service());
//!
//! // A layer around all routes. Layers that are added before it do not see handshakes.
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello over HTTP" }))
//!     .layer(WebSocketLayer::new(Echo::new()).path("/ws"));
//! ```
//!
//! [Layers and their order](super::layers) says where to add auth. A third way is axum's own: a function with
//! [extractors](super::handlers#with-axums-extractors).
//!
//! Try it with any client, such as `websocat ws://127.0.0.1:3000/ws`, or in the console of a browser, on a page of the
//! same host:
//!
//! ```text
//! socket = new WebSocket("ws://127.0.0.1:3000/ws");
//! socket.onmessage = (event) => console.log(event.data);
//! socket.onopen = () => socket.send("Hello");
//! ```
//!
//! # What it needs
//!
//! - A tokio runtime with its time driver. `#[tokio::main]` makes one.
//! - An HTTP server on hyper 1 that hands out its connections. hyper does so with `with_upgrades`. With any other
//!   server, such as tonic's own, the layer answers 500 or closes the connection after the 101, and logs the reason at
//!   error level.
//! - HTTP/1.1. With the feature `http2` also [HTTP/2](super::http2).
//!
//! The type `http::request::Parts` of the examples is that of `axum::http`.
//!
//! # Servers
//!
//! Each of these is tested over real connections.
//!
//! | Server | How | Good to know |
//! | --- | --- | --- |
//! | `axum::serve` 0.8 | `route_service("/ws", layer.into_service())` | Also works in nested routers. Plain requests do not pass through it. |
//! | | `Router::layer`, before layers such as auth | Also wraps the fallback, so the path needs no route. |
//! | | the layer around the router, as below | Plain requests keep 0.99 of their rate. |
//! | | `layer` inside a nested router | Sees the path without the prefix. Runs only if a route or a fallback of that router matches. |
//! | hyper 1 | `http1::Builder` with `with_upgrades` | Also works in a proxy: the inner body may be `Incoming`. |
//! | hyper-util | `auto::Builder::serve_connection_with_upgrades` | |
//! | warp 0.4 | `layer.layer(warp::service(filter))` on hyper-util | `warp::serve` takes filters only. |
//! | tonic 0.14 | `Routes::into_axum_router().layer(..)` on `axum::serve` | gRPC works beside it. |
//! | salvo 1 | `Service::new(router).hoop(layer.compat::<ReqBody>())` | A `Router::hoop` needs a route that matches. |
//!
//! `axum::serve` leaves Nagle's algorithm on, which delays small messages by up to 40 ms. The crate
//! [switches it off](crate::Config::without_nodelay) after the upgrade if the server's stream is a `TcpStream`.
//!
//! # Around the whole router
//!
//! `Router::layer` takes 2 to 3 % of the rate of plain requests, because axum boxes each route's service, its future
//! and its body once more. Any other layer with its own body type costs the same. If that matters, give the WebSocket a
//! route, or put the layer around the router:
//!
//! ```no_run
//! use axum::{Router, ServiceExt, body::Body, extract::Request, response::Response};
//! use tokio::net::TcpListener;
//! use tower::{Layer, util::MapResponseLayer};
//! use tower_websocket::{Echo, ResponseBody, WebSocketLayer};
//!
//! async fn serve(listener: TcpListener, router: Router) -> std::io::Result<()> {
//!     let layer = WebSocketLayer::new(Echo::new()).path("/ws");
//!     // `with_state` builds the routes once instead of for every request.
//!     let service = layer.layer(router.with_state(()));
//!     // `axum::serve` needs axum's own body type.
//!     let boxed = |response: Response<ResponseBody<Body>>| response.map(Body::new);
//!     let app = MapResponseLayer::new(boxed).layer(service);
//!     axum::serve(listener, ServiceExt::<Request>::into_make_service(app)).await
//! }
//! ```
