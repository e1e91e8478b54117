//! WebSockets for the HTTP service you already have: a [`tower`] layer that answers the opening
//! handshakes and hands each connection to an async [`Handler`].
//!
//! Everything that is not a WebSocket handshake reaches the inner service untouched, so the layer
//! can be put around any service: axum, hyper, warp, tonic's routes, your own.
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
//!         .layer(WebSocketLayer::new(Echo::new()).path("/ws"));
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(listener, app).await
//! }
//! ```
//!
//! # Writing a handler
//!
//! A closure or an `async fn` is a handler. It receives and sends whole messages; what the protocol
//! needs besides is done while it works.
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
//! A type that implements [`Handler`] can also decide on a request before it is answered: check a
//! token, choose a subprotocol, pass the user on to the connection, or refuse with a status.
//! [`WebSocketService`] serves a route of its own, without an inner service.
//!
//! # Sending from elsewhere
//!
//! [`WebSocket::sender`] gives a [`Sender`] for other tasks and threads: a room, a ticker, whoever
//! has something to say to this client. [`Sender::closed`] tells how the connection ended.
//!
//! # How a connection ends
//!
//! Always with a close code that says why
//! ([RFC 6455 §7.4](https://www.rfc-editor.org/rfc/rfc6455#section-7.4)):
//!
//! | Code | When |
//! | --- | --- |
//! | 1000 | the handler returned `Ok` |
//! | its own | the handler called [`WebSocket::close`], or returned a [`CloseFrame`] as its error |
//! | 1001 | [`Connections::close`] was called, or [`Config::max_lifetime`] is over |
//! | the peer's | the peer closed first |
//! | 1002 | the peer broke the protocol, or ended its half of the stream without a Close |
//! | 1007 | the peer sent text that is not UTF-8 |
//! | 1008 | the peer went past another limit of [`Config`] |
//! | 1009 | the peer sent a message over the size limit |
//! | 1011 | the handler returned another error, or panicked |
//!
//! Only a peer that is gone or takes nothing is dropped without one, and what is left when the time
//! given to [`Connections::closed`] is over.
//!
//! # Limits and security
//!
//! The defaults are safe: [`Config`] names every limit and wait, and [`OriginPolicy`] which web
//! pages may connect (those of the same host, unless you say more). What the peer sends never
//! panics and never grows memory past a limit. [`WebSocketLayer::max_per_key`] limits what one
//! user or address may open. The crate has no unsafe code.
//!
//! # In production
//!
//! - Peers that vanish are noticed: [`Config::keepalive`].
//! - [`WebSocketLayer::connections`] counts what goes on, and shuts everything down in order.
//! - Each connection has a `tracing` span, `websocket`, that follows from its request's.
//!
//! # What it needs
//!
//! - A tokio runtime with its time driver, which is what `#[tokio::main]` makes.
//! - An HTTP server on hyper 1 that hands out its connections: `axum::serve` does, and hyper with
//!   `with_upgrades`. One that does not is reported at error level, and the request answered 500
//!   or the connection closed.
//! - HTTP/1.1. A handshake over HTTP/2 is passed to the inner service.
//!
//! # Features
//!
//! | Feature | Default | Adds |
//! | --- | --- | --- |
//! | `tracing` | yes | a span for each connection, events about what fails |

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod admission;
mod close;
mod codec;
mod config;
mod connections;
pub mod error;
mod extension;
mod future;
mod handler;
mod handshake;
mod header;
mod keepalive;
mod layer;
mod message;
mod origin;
mod rate;
mod report;
mod response;
mod service;
mod socket;
mod subprotocol;
mod transport;
mod upgrade;

#[doc(inline)]
pub use crate::error::{BoxError, Error};
pub use crate::{
    close::{CloseCode, CloseFrame, Closed, Side},
    config::Config,
    connections::{Connections, Counts, ShutdownReport},
    future::ResponseFuture,
    handler::{Echo, Handler},
    handshake::{Accept, Refusal},
    layer::WebSocketLayer,
    message::{Message, Utf8Bytes},
    origin::{InvalidOrigin, OriginPolicy},
    response::ResponseBody,
    service::{UpgradeRequired, WebSocketService},
    socket::{Buffered, Sender, WebSocket},
};
