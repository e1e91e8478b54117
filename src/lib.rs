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
//!         .route_service("/ws", WebSocketLayer::new(Echo::new()).into_service());
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(listener, app).await
//! }
//! ```
//!
//! A route of its own is one that auth sees if it is layered after it, like any other. The layer can also be
//! put around a whole router or service, `.layer(WebSocketLayer::new(Echo::new()).path("/ws"))`: **what is
//! layered before it does not see handshakes** (in a `ServiceBuilder`: what is layered after it). The page [`docs::layers`] has the usual layers in a table.
//!
//! If it does not connect, the page [`docs::when_it_does_not_connect`] has the causes of each status.
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
//! Two closures can also [`decide`] on a request before it is answered: check a token, choose a
//! subprotocol, pass the user on to the connection, or refuse with a status.
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
//! So can a type that implements [`Handler`], which may have state and other methods.
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
//! | 1000 | the handler returned `Ok`, and its `WebSocket` is dropped |
//! | its own | the handler called [`WebSocket::close`], or returned a [`CloseFrame`] as its error |
//! | 1001 | the [`Connections`] were closed, or [`Config::max_lifetime`] is over |
//! | the peer's | the peer closed first |
//! | 1002 | the peer broke the protocol, or ended its half of the stream without a Close |
//! | 1007 | the peer sent text that is not UTF-8 |
//! | 1008 | the peer went past another limit of [`Config`], or the handler took no message in time |
//! | 1009 | the peer sent a message over the size limit |
//! | 1011 | the handler returned another error, or panicked |
//!
//! Only a peer that is gone or takes nothing is dropped without one, and what is left when the time
//! given to [`Connections::shutdown`] is over.
//!
//! # Limits and security
//!
//! The defaults are safe: [`Config`] names the limits and waits of each connection, [`Connections`]
//! how many there may be, and [`OriginPolicy`] which web pages may connect (those of the same host,
//! unless you say more; [`OriginPolicy::hosts`] names the hosts, where DNS rebinding matters). What the peer
//! sends never panics and never grows memory past a limit.
//! [`WebSocketLayer::max_per_peer`] limits what one address may open,
//! [`max_per_key`](WebSocketLayer::max_per_key) what one user. The crate has no unsafe code.
//!
//! # In production
//!
//! - Peers that vanish are noticed: [`Config::keepalive`], and behind a handler that takes no messages
//!   [`Config::receive_timeout`]. A handler that only sends calls [`WebSocket::ignore_incoming`], and
//!   learns of the end by [`WebSocket::closed`].
//! - A handler that goes on after its connection is over is dropped after [`Config::handler_grace`].
//! - [`Connections`] counts what goes on, and shuts everything down in order. One can have the connections of
//!   several layers and clients. [`Accept::identify`] gives a connection a value of yours, by which
//!   [`Connections::close_where`] finds it: to log a user out, for one.
//! - An [`Observer`] is told when connections open and close, for metrics. It is never called for a message.
//! - Each connection has a `tracing` span, `websocket`, that follows from its request's.
//! - On one saturated worker of tokio's multi-thread runtime more than 256 ready tasks overflow into
//!   the global queue, and some connections wait: set `event_interval` of the runtime's builder, or
//!   use current-thread runtimes.
//! - An idle connection of a small handler holds 2.5 KB under axum, whatever it did before. In it is the
//!   request, in as many bytes as it has, and what the server and other layers have put into its
//!   extensions. axum's `Router` puts its `OriginalUri` there, which keeps 8 KiB of the server's read
//!   buffer. [`WebSocketLayer::without_request`] drops all of it.
//!
//! # What it needs
//!
//! - A tokio runtime with its time driver, which is what `#[tokio::main]` makes.
//! - An HTTP server on hyper 1 that hands out its connections: `axum::serve` does, and hyper with
//!   `with_upgrades`. One that does not is reported at error level, and the request answered 500
//!   or the connection closed.
//! - HTTP/1.1, or with the feature `http2` HTTP/2 as well.
//!
//! # HTTP/2
//!
//! Browsers that have a connection of HTTP/2 to a site open their WebSockets on it, as streams beside
//! the requests ([RFC 8441](https://www.rfc-editor.org/rfc/rfc8441)), if the server has told them that
//! they may. With the feature `http2` the same layer and the same handler answer these: an extended
//! CONNECT for `websocket` goes through the same rules and is answered 200, one for another protocol
//! 501, and a plain CONNECT is the inner service's. [`WebSocket::request`] tells the version. Without
//! the feature all of them are the inner service's.
//!
//! Browsers speak HTTP/2 over TLS only, where the server has named `h2` by ALPN: `examples/http2` does, and
//! `axum::serve` has no TLS. Behind a proxy that ends TLS and speaks HTTP/2 in plain, `axum::serve` with axum's
//! feature `http2` needs nothing more. With hyper and hyper-util the server
//! has to be told, and the settings are worth a thought:
//!
//! ```
//! # #[cfg(feature = "http2")] {
//! use hyper_util::{rt::TokioTimer, server::conn::auto};
//! use tower_websocket::Http2Executor;
//!
//! let mut server = auto::Builder::new(Http2Executor::new());
//! server
//!     .http2()
//!     .timer(TokioTimer::new())
//!     .enable_connect_protocol()
//!     .max_concurrent_streams(200)
//!     .initial_stream_window_size(64 * 1024)
//!     .initial_connection_window_size(200 * 64 * 1024)
//!     .max_send_buf_size(64 * 1024);
//! # }
//! ```
//!
//! | Setting | hyper's default | Why |
//! | --- | --- | --- |
//! | `enable_connect_protocol` | off | Without it a browser opens a connection of HTTP/1.1 for each WebSocket. |
//! | `max_concurrent_streams` | 200 | A WebSocket is a stream for as long as it is open. A client that has used them up waits for one to end. |
//! | `initial_stream_window_size` | 1 MiB | What a client may send ahead of a handler that does not receive, for each of its sockets. 64 KiB also bound its speed, to 64 KiB for each round trip. |
//! | `initial_connection_window_size` | 1 MiB | What all of these together may take. With the defaults *one* handler that does not receive can keep every other request and socket of its client from being heard, which is what `axum::serve` has. It is best as much as all streams may take, and at least 4 MiB. |
//! | `max_send_buf_size` | 400 KiB | What is kept of each stream for a client that grants large windows and does not read its connection; beside [`Config::max_outbox`]. |
//!
//! If the client resets a stream, its connection ends at once, or within a second while nothing is
//! read from it. One whose
//! client takes nothing is given up after [`Config::write_timeout`], and the others on its connection
//! go on.
//!
//! With `Http2Executor` a stream that is given up is reset with CANCEL, a second later if it was ended
//! behind its Close, unless a layer has requests answered in a task of its own. With hyper-util's
//! `TokioExecutor`, and under `axum::serve`, which has an executor of its own, hyper ends such a
//! stream as if the server had finished. If its client takes nothing, hyper keeps up to 64 KiB for it
//! until the client reads, resets it, or ends the connection; and a server that shuts down gracefully
//! waits for that. So bound its wait there, as in `timeout(limit, server).await`.
//!
//! `cookie` fields, of which HTTP/2 may send one for each cookie, are joined to one before
//! [`Handler::accept`] sees them. An extended CONNECT with a `content-length` is refused with 400: h2 would hold
//! the WebSocket's bytes to it. hyper 1.12 ends the whole connection where that length is not 0, with all
//! other WebSockets on it; this crate is not asked then.
//!
//! # Features
//!
//! | Feature | Default | Adds |
//! | --- | --- | --- |
//! | `client` | no | module `client`: `connect` and `connect_with` |
//! | `deflate` | no | compressed messages (RFC 7692), once [`Config`] is given a `Deflate` |
//! | `http2` | no | WebSockets over HTTP/2 |
//! | `rustls-tls-native-roots` | no | `client`, and `wss://` in its `connect`: rustls with the roots of the system |
//! | `rustls-tls-webpki-roots` | no | the same with Mozilla's roots, compiled in |
//! | `tracing` | yes | a span for each connection, events about what fails |

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(feature = "client")]
pub mod client;
mod codec;
mod config;
mod connections;
#[cfg(any(doc, doctest))]
pub mod docs;
pub mod error;
#[cfg(tower_websocket_fuzzing)]
#[doc(hidden)]
#[path = "../fuzz/checks/mod.rs"]
pub mod fuzzing;
mod handler;
mod handshake;
mod layer;
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
    handler::{Accept, Decide, Decision, Echo, Handler, decide},
    handshake::{
        HandshakeRequest, InvalidOrigin, OriginPolicy, Refusal, TrustedProxies,
        offered_subprotocols,
    },
    layer::{ResponseBody, ResponseFuture, UpgradeRequired, WebSocketLayer, WebSocketService},
    socket::{Buffered, Sender, Traffic, WebSocket},
    words::{CloseCode, CloseFrame, Closed, ConnectionId, Message, Side, Utf8Bytes},
};
