//! From `axum::extract::ws`.
//!
//! With the feature `axum`, a server's imports and the heads of its loops change. The arms for Ping, Pong and Close are
//! removed:
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, response::Response, routing::any};
//! use tower_websocket::{Error, Message, axum::Upgrade};
//!
//! async fn ws(upgrade: Upgrade) -> Response {
//!     upgrade.on_upgrade(async |mut socket| {
//!         while let Some(message) = socket.recv().await? {
//!             match message {
//!                 Message::Text(text) => socket.send(text.to_uppercase()).await?,
//!                 Message::Binary(bytes) => socket.send(bytes).await?,
//!             }
//!         }
//!         Ok::<_, Error>(())
//!     })
//! }
//!
//! let app: Router = Router::new().route("/ws", any(ws));
//! # }
//! ```
//!
//! The same server before:
//!
//! ```
//! use axum::{
//!     Router, extract::ws::{Message, WebSocketUpgrade}, response::Response, routing::any,
//! };
//!
//! async fn ws(upgrade: WebSocketUpgrade) -> Response {
//!     upgrade.on_upgrade(async |mut socket| {
//!         while let Some(Ok(message)) = socket.recv().await {
//!             let sent = match message {
//!                 Message::Text(text) => {
//!                     socket.send(Message::Text(text.to_uppercase().into())).await
//!                 }
//!                 Message::Binary(bytes) => socket.send(Message::Binary(bytes)).await,
//!                 Message::Ping(_) | Message::Pong(_) => Ok(()),
//!                 Message::Close(_) => return,
//!             };
//!             if sent.is_err() {
//!                 return;
//!             }
//!         }
//!     })
//! }
//!
//! let app: Router = Router::new().route("/ws", any(ws));
//! ```
//!
//! # What changes
//!
//! `tests/from_axum.rs` has three servers like axum's examples `websockets`, `chat` and `websockets-http2`, each
//! written for both. It runs the same test against both, and checks that only the lines of this table differ:
//!
//! | | `axum::extract::ws` | here |
//! | --- | --- | --- |
//! | import | `axum::extract::ws::{Message, WebSocket, WebSocketUpgrade}` | `tower_websocket::{Message, WebSocket, axum::Upgrade}` |
//! | loop | `while let Some(Ok(message)) = socket.recv().await` | `while let Some(message) = socket.recv().await?`, or `while let Ok(Some(message))` without `?` |
//! | loop over the `Stream` | `while let Some(Ok(message)) = receiver.next().await` | the same |
//! | in a `match` | `Some(Ok(..))`, `Some(Err(..))`, `None` | `Ok(Some(..))`, `Err(..)`, `Ok(None)` |
//! | arms for Ping, Pong and Close | `Message::Ping(_) => ..` | removed |
//! | to close with a code | `sender.send(Message::Close(Some(CloseFrame { code, reason })))` | [`socket.close(code, reason)`](crate::WebSocket::close), or [`sender().close(code, reason)`](crate::Sender::close) |
//!
//! The chat needs only the imports (`axum::Upgrade as WebSocketUpgrade` keeps the name). Other code stays:
//! `Message::Text(text.into())`, `socket.split()`, functions that return nothing, extractors beside `Upgrade`, and
//! `any`.
//!
//! | `axum::extract::ws` | here |
//! | --- | --- |
//! | `Message::Close(frame)` of the client | [`socket.close_frame()`](crate::WebSocket::close_frame), or [`closed().await`](crate::WebSocket::closed) |
//! | `protocols(["a", "b"])` | `subprotocol("a").subprotocol("b")` |
//! | `requested_protocols()` | [`offered_subprotocols(&headers)`](crate::offered_subprotocols) |
//! | `protocol()` of the socket | [`subprotocol()`](crate::WebSocket::subprotocol) |
//! | `max_message_size`, `max_frame_size` | [`configure(..)`](crate::axum::Upgrade::configure) for one connection, or [`UpgradeSettings`](crate::axum::UpgradeSettings) for all |
//! | `read_buffer_size`, `write_buffer_size` | not needed: an idle connection has no buffers |
//! | `max_write_buffer_size` | [`Config::max_outbox`](crate::Config::max_outbox) |
//! | `on_failed_upgrade` | the [log](super::logs_and_metrics#lines), and an [`Observer`](crate::Observer) |
//! | `Message::Ping(bytes)`, and the time to its Pong | [`socket.ping().await`](crate::WebSocket::ping) |
//! | `Message::Close(None)` | [`close_without_code()`](crate::WebSocket::close_without_code) |
//! | `split()` | the same, or [`into_split()`](crate::WebSocket::into_split), whose halves have all methods |
//! | a task and a channel to send from elsewhere | [`socket.sender()`](crate::WebSocket::sender) |
//!
//! # What behaves differently
//!
//! | | `axum::extract::ws` | here |
//! | --- | --- | --- |
//! | A page of another origin | connects | 403: [`OriginPolicy`](crate::OriginPolicy) |
//! | The function returns. | The connection is dropped: 1006. | It is closed: 1000. |
//! | The client closes while the function does something else. | The Close is answered by the next `recv`. If there is none, the client sees 1006. | It is answered within a second. |
//! | The function fails or panics. | 1006 | 1011 |
//! | The socket moves to another task. | The connection stays open. | the same |
//! | A machine that is gone | is noticed when data is sent. | is pinged after 20 s of silence. |
//! | A message over | 64 MiB (a frame: 16 MiB) is an error. | 1 MiB is refused with 1009. |
//! | A client that reads nothing | The queue is unlimited. | `send` waits from 1 MiB on. The connection is dropped after [`write_timeout`](crate::Config::write_timeout). |
//! | The number of connections | is unlimited. | 10,000, then 503 |
//! | A function that only sends | | has to call [`ignore_incoming`](super::push_only). |
//! | A shutdown | | [one call](super::shutdown) |
