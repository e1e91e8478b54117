//! WebSockets for an existing HTTP service: a [tower](https://docs.rs/tower) layer that answers opening handshakes and
//! gives each connection to an async [`Handler`].
//!
//! The inner service gets every other request unchanged. The layer works around any service: axum,
//! hyper, warp, tonic's routes, your own.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use tower_websocket::{BoxError, WebSocket, WebSocketLayer};
//!
//! async fn shout(mut socket: WebSocket) -> Result<(), BoxError> {
//!     while let Some(message) = socket.recv().await? {
//!         socket.send(message.into_text()?.to_uppercase()).await?;
//!     }
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let app = Router::new()
//!         .route("/", get(|| async { "hello over HTTP" }))
//!         .route_service("/ws", WebSocketLayer::new(shout).into_service());
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(listener, app).await
//! }
//! ```
//!
//! The handler receives and sends whole messages. Meanwhile the crate answers pings, exchanges Close frames and
//! enforces limits.
//!
//! The [`guide`] has one page for each task, and begins with [a first server](guide::start). If a client does not
//! connect, see [the causes of each status](guide::when_it_does_not_connect).
//!
//! # Features
//!
//! | Feature | Default | Adds |
//! | --- | --- | --- |
//! | `axum` | no | module `axum`: the extractor `Upgrade`, and axum's extractors in a layer's handler |
//! | `client` | no | module `client`: `connect` and `connect_with` |
//! | `deflate` | no | compressed messages (RFC 7692), once [`Config`] is given a `Deflate` |
//! | `http2` | no | WebSockets over HTTP/2 |
//! | `hub` | no | module `hub`: rooms with policies for slow members, and who is there; with `json`, a handler for rooms in JSON |
//! | `json` | no | module `json`: `recv_json`, `send_json` and `Message::json` |
//! | `metrics` | no | module `metrics`: gauges, counters and histograms through the `metrics` crate |
//! | `rustls-tls-native-roots` | no | `client`, and `wss://` in its `connect`: rustls with the roots of the system |
//! | `rustls-tls-webpki-roots` | no | the same with Mozilla's roots, compiled in |
//! | `test-util` | no | module `testing`: tests without ports and without real time, and `client` |
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
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "json")]
pub mod json;
mod layer;
#[cfg(feature = "metrics")]
pub mod metrics;
mod socket;
#[cfg(feature = "test-util")]
pub mod testing;
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
    socket::{Buffered, ByteStream, ReadHalf, Sender, Sending, Traffic, WebSocket, WriteHalf},
    words::{CloseCode, CloseFrame, Closed, ConnectionId, IntoMessage, Message, Side, Utf8Bytes},
};
