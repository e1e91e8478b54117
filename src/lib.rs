//! WebSockets for an existing HTTP service: a [`tower`] layer that answers opening handshakes and
//! gives each connection to an async [`Handler`].
//!
//! The inner service gets every other request unchanged. The layer works around any service: axum,
//! hyper, warp, tonic's routes, your own.
//!
//! # An echo beside plain HTTP
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use tower_websocket::{Echo, WebSocketLayer};
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let app = Router::new()
//!         .route("/", get(|| async { "hello over HTTP" }))
//!         .route_service("/ws", WebSocketLayer::new(Echo::new()).into_service());
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(listener, app).await
//! }
//! ```
//!
//! A WebSocket route is like any other route: an auth layer that is added after it sees its handshakes.
//! The layer can also wrap a whole router or service: `.layer(WebSocketLayer::new(Echo::new()).path("/ws"))`.
//! Then **layers added before it do not see handshakes** (in a `ServiceBuilder`: layers added after it).
//! The page [`guide::layers`] has a table of common layers.
//!
//! If a client does not connect, see [`guide::when_it_does_not_connect`]: it lists the causes of each status.
//!
//! # Writing a handler
//!
//! A closure or an `async fn` is a handler. It receives and sends whole messages. The crate answers pings,
//! exchanges Close frames and enforces limits while the handler runs.
//!
//! ```
//! use tower_websocket::{BoxError, WebSocket, WebSocketLayer};
//!
//! async fn shout(mut socket: WebSocket) -> Result<(), BoxError> {
//!     while let Some(message) = socket.recv().await? {
//!         socket.send(message.into_text()?.to_uppercase()).await?;
//!     }
//!     Ok(())
//! }
//!
//! let layer = WebSocketLayer::new(shout).path("/shout");
//! ```
//!
//! With [`decide`], a first closure decides on the request before it is answered. It can check a token,
//! choose a subprotocol, pass the user on to the second closure, or refuse with a status.
//!
//! ```
//! use tower_websocket::{Accept, Error, Refusal, WebSocketLayer, decide};
//!
//! let layer = WebSocketLayer::new(decide(
//!     async |request| {
//!         let user = request.headers.get("x-user").cloned();
//!         Ok((Accept::new(), user.ok_or_else(Refusal::unauthorized)?))
//!     },
//!     async |mut socket, user| {
//!         socket.send(format!("Hello {user:?}")).await?;
//!         Ok::<_, Error>(())
//!     },
//! ));
//! ```
//!
//! A type that implements [`Handler`] can do the same, and can have state and other methods.
//!
//! # Sending from elsewhere
//!
//! [`WebSocket::sender`] returns a [`Sender`] for other tasks and threads, such as a chat room or a ticker.
//! [`Sender::closed`] returns how the connection ended.
//!
//! # How a connection ends
//!
//! A connection ends with a close code that gives the reason
//! ([RFC 6455 §7.4](https://www.rfc-editor.org/rfc/rfc6455#section-7.4)):
//!
//! | Code | When |
//! | --- | --- |
//! | 1000 | the handler returned `Ok`, and its `WebSocket` is dropped |
//! | the handler's | the handler called [`WebSocket::close`], or returned a [`CloseFrame`] as its error |
//! | 1001 | the [`Connections`] were closed, or [`Config::max_lifetime`] has passed |
//! | the peer's | the peer closed first |
//! | 1002 | the peer broke the protocol, or ended its half of the stream without a Close |
//! | 1007 | the peer sent text that is not UTF-8 |
//! | 1008 | the peer exceeded another limit of [`Config`], or the handler took no message in time |
//! | 1009 | the peer sent a message over the size limit |
//! | 1011 | the handler returned another error, or panicked |
//! | 1013 | all connections hold more than [`Connections::max_buffered`], and this one most |
//!
//! A connection is dropped without a close code in three cases: the peer is gone or reads nothing, the time
//! given to [`Connections::shutdown`] has passed, or [`Connections::max_buffered`] is exceeded while a large frame
//! is being written.
//!
//! # Limits and security
//!
//! The defaults are safe. [`Config`] has the limits and timeouts of each connection, and [`Connections`] the
//! limit on their number and, if you set it, on the memory that they hold together. [`OriginPolicy`] decides
//! which web pages may connect: by default those of the same host. Where DNS rebinding matters, name the hosts
//! with [`OriginPolicy::hosts`].
//! [`WebSocketLayer::max_per_peer`] limits the connections of one address, and
//! [`max_per_key`](WebSocketLayer::max_per_key) those of one user. No data from a peer causes a panic or
//! makes memory grow past a limit. The crate has no unsafe code.
//!
//! # In production
//!
//! - [`Config::keepalive`] detects peers that vanish. While the handler takes no messages,
//!   [`Config::receive_timeout`] does. A handler that only sends calls [`WebSocket::ignore_incoming`], and
//!   waits for the end of the connection with [`WebSocket::closed`].
//! - A handler that still runs [`Config::handler_grace`] after its connection ended is dropped.
//! - [`Connections`] counts connections, lists them, and shuts them down gracefully. One registry can hold the
//!   connections of several layers and clients. [`Accept::identify`] gives a connection a value, such as its user,
//!   by which [`Connections::close_where`] finds it.
//! - An [`Observer`] gets an event when a connection opens or closes. The feature `metrics` has one for the crate of
//!   that name, and so for Prometheus. No message calls it.
//! - Each connection has a `tracing` span `websocket` inside of the span of its request, with its number, peer and
//!   path. `WebSocketLayer::make_span` makes one with the user. At debug level the last line, "websocket closed",
//!   says how the connection ended, and what came and went (`RUST_LOG=info,tower_websocket=debug`). What clients cause
//!   is never logged at warn or error level. For an error that a client causes, a handler returns a [`CloseFrame`].
//! - If more than 256 tasks are ready on one saturated worker of tokio's multi-thread runtime, some go to the
//!   global queue, and their connections wait longer. Set `event_interval` of the runtime's builder, or use
//!   current-thread runtimes.
//! - An idle connection of a small handler uses 2.5 KB under axum, whatever it did before. This includes the
//!   request, at its own size, and the values that the server and other layers put into its extensions.
//!   axum's `Router` puts its `OriginalUri` there, which keeps 8 KiB of the server's read buffer in memory.
//!   [`WebSocketLayer::without_request`] frees all of it.
//!
//! # Requirements
//!
//! - A tokio runtime with its time driver. `#[tokio::main]` makes one.
//! - An HTTP server on hyper 1 that supports upgrades: `axum::serve`, or hyper with `with_upgrades`. With any
//!   other server the layer answers 500 or closes the connection, and logs it at error level.
//! - HTTP/1.1. With the feature `http2` also HTTP/2.
//!
//! # Features
//!
//! | Feature | Default | Adds |
//! | --- | --- | --- |
//! | `axum` | no | module `axum`: the extractor `Upgrade`, and axum's extractors in a layer's handler |
//! | `client` | no | module `client`: `connect` and `connect_with` |
//! | `deflate` | no | compressed messages (RFC 7692), once [`Config`] is given a `Deflate` |
//! | `http2` | no | WebSockets over HTTP/2 |
//! | `metrics` | no | module `metrics`: gauges, counters and histograms through the `metrics` crate |
//! | `rustls-tls-native-roots` | no | `client`, and `wss://` in its `connect`: rustls with the roots of the system |
//! | `rustls-tls-webpki-roots` | no | the same with Mozilla's roots, compiled in |
//! | `tracing` | yes | a span for each connection, events for failures |

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "client")]
pub mod client;
mod codec;
mod config;
mod connections;
pub mod error;
#[cfg(tower_websocket_fuzzing)]
#[doc(hidden)]
#[path = "../fuzz/checks/mod.rs"]
pub mod fuzzing;
#[cfg(any(doc, doctest))]
pub mod guide;
mod handler;
mod handshake;
mod layer;
#[cfg(feature = "metrics")]
pub mod metrics;
mod socket;
mod time;
mod words;

#[cfg(feature = "deflate")]
pub use crate::codec::Deflate;
#[doc(inline)]
pub use crate::error::{BoxError, Error};
#[cfg(feature = "http2")]
pub use crate::socket::http2::Http2Executor;
pub use crate::{
    config::Config,
    connections::{
        Connection, Connections, CountedCode, Counts, Ended, Observer, Refused, ShutdownReport,
    },
    handler::{
        Accept, BoxHandler, Decide, Decision, Echo, FnHandler, Handler, IntoHandler, WithState,
        decide, with_state,
    },
    handshake::{
        HandshakeRequest, InvalidOrigin, OriginPolicy, Refusal, TrustedProxies,
        offered_subprotocols,
    },
    layer::{ResponseBody, ResponseFuture, UpgradeRequired, WebSocketLayer, WebSocketService},
    socket::{Buffered, Sender, Traffic, WebSocket},
    words::{CloseCode, CloseFrame, Closed, ConnectionId, Message, Side, Utf8Bytes},
};
