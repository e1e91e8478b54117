//! From tungstenite and tokio-tungstenite.
//!
//! tokio-tungstenite takes a TCP stream and makes the handshake itself. Here an HTTP server does, so that the WebSocket
//! shares its port, its TLS and its routes with everything else:
//!
//! ```no_run
//! use axum::Router;
//! use tower_websocket::{BoxError, WebSocket, WebSocketLayer};
//!
//! async fn echo(mut socket: WebSocket) -> Result<(), BoxError> {
//!     while let Some(message) = socket.recv().await? {
//!         socket.send(message).await?;
//!     }
//!     Ok(())
//! }
//!
//! # async fn example() -> std::io::Result<()> {
//! let app = Router::new().fallback_service(WebSocketLayer::new(echo).into_service());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! axum::serve(listener, app).await
//! # }
//! ```
//!
//! The same server before:
//!
//! ```no_run
//! use futures_util::{SinkExt, StreamExt};
//! use tokio_tungstenite::accept_async;
//!
//! # async fn example() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! while let Ok((stream, _)) = listener.accept().await {
//!     tokio::spawn(async move {
//!         let Ok(mut socket) = accept_async(stream).await else { return };
//!         while let Some(Ok(message)) = socket.next().await {
//!             if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
//!                 return;
//!             }
//!         }
//!     });
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Server
//!
//! | tokio-tungstenite | here |
//! | --- | --- |
//! | `accept_async(stream)` | a [`WebSocketLayer`](crate::WebSocketLayer) in any server |
//! | `accept_hdr_async(stream, callback)` | [`Handler::accept`](crate::Handler::accept), which may be `async`, or [`decide`](crate::decide) |
//! | `WebSocketStream::from_raw_socket(stream, Role::Server, config)` | [`WebSocket::from_io`](crate::WebSocket::from_io), [`Connections::from_io`](crate::Connections::from_io) |
//! | `WebSocketConfig` | [`Config`](crate::Config) |
//! | `Message::Ping`, `Pong`, `Close`, `Frame` | no variants: [`Message`](crate::Message) is text or binary |
//! | `socket.close(Some(frame))`, then reading to the end | [`socket.close(code, reason)`](crate::WebSocket::close), which waits for the end |
//! | `socket.next()`, `socket.send(message)` | the same ([`Stream`](crate::WebSocket#impl-Stream-for-WebSocket), [`Sink`](crate::WebSocket#impl-Sink%3CMessage%3E-for-WebSocket)), or [`recv`](crate::WebSocket::recv) and [`send`](crate::WebSocket::send) |
//! | `feed` and `flush`, to write several messages at once | [`send`](crate::WebSocket::send): messages that are sent before the handler waits leave in one write |
//! | `split()` and a channel | [`socket.sender()`](crate::WebSocket::sender) |
//!
//! # Client
//!
//! With the feature `client`:
//!
//! | tokio-tungstenite | here |
//! | --- | --- |
//! | `connect_async(url)` | [`client::connect(url)`](crate::client::connect) |
//! | `url.into_client_request()` and header fields | [`client::Handshake::new(url)`](crate::client::Handshake::new), with `header` and `subprotocol` |
//! | `client_async(url, stream)` | [`client::connect_with(url, stream)`](crate::client::connect_with) |
//! | features `rustls-tls-native-roots`, `rustls-tls-webpki-roots` | features of the same names |
//! | `Error::Http(response)` | [`ConnectError::Refused`](crate::client::ConnectError::Refused) |
//!
//! # What behaves differently
//!
//! | | tokio-tungstenite | here |
//! | --- | --- | --- |
//! | Pings and Closes are answered | while somebody polls the socket. | by the connection's own task. |
//! | A dropped socket | 1006 | 1000 |
//! | A message over | 64 MiB (a frame: 16 MiB) is an error. | 1 MiB is refused with 1009. |
//! | A write buffer | is unlimited. | holds 1 MiB, then `send` waits. |
//! | An origin | is not checked. | has to be the server's own. |
//! | Time limits | none | [all ends](super::ends#time-limits-of-an-end), and pings |
//! | Memory of an idle connection | a read buffer of 128 KiB | no buffer |
