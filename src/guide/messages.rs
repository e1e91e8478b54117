//! Messages and JSON.
//!
//! A message is text or bytes, and always whole:
//!
//! ```
//! use tower_websocket::{BoxError, Message, WebSocket};
//!
//! async fn sizes(mut socket: WebSocket) -> Result<(), BoxError> {
//!     while let Some(message) = socket.recv().await? {
//!         match message {
//!             Message::Text(text) => {
//!                 socket.send(format!("{} characters", text.chars().count())).await?;
//!             }
//!             Message::Binary(bytes) => socket.send(bytes.slice(..bytes.len() / 2)).await?,
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! [`send`](crate::WebSocket::send) takes all types of text and bytes: [`Message`](crate::Message) has the table. To
//! accept text only, write `message.into_text()?`, which closes with 1003 if the message is binary.
//!
//! # JSON
//!
//! With the feature `json`, a protocol is two types of `serde`:
//!
//! ```
//! # #[cfg(feature = "json")] {
//! use serde::{Deserialize, Serialize};
//! use tower_websocket::{BoxError, WebSocket};
//!
//! #[derive(Deserialize)]
//! #[serde(tag = "type", rename_all = "snake_case")]
//! enum Request {
//!     Roll { sides: u32 },
//!     Leave,
//! }
//!
//! #[derive(Serialize)]
//! #[serde(tag = "type", rename_all = "snake_case")]
//! enum Reply {
//!     Rolled { eyes: u32 },
//! }
//!
//! async fn dice(mut socket: WebSocket) -> Result<(), BoxError> {
//!     // `{"type":"roll","sides":6}`
//!     while let Some(request) = socket.recv_json().await? {
//!         match request {
//!             Request::Roll { sides } => {
//!                 socket.send_json(&Reply::Rolled { eyes: sides.min(4) }).await?;
//!             }
//!             Request::Leave => break,
//!         }
//!     }
//!     Ok(())
//! }
//! # }
//! ```
//!
//! - With `?`, a message that is not the expected JSON closes with 1003, 1007 or 1008.
//!   [The module](crate::json) has the table, and a handler that answers and goes on.
//! - For a room, make the message once with [`Message::json`](crate::Message::json), and send its clones.
//! - [`Message::parse_json`](crate::Message::parse_json) borrows from a message, which saves allocations.
//!
//! # A stream of bytes
//!
//! [`into_io`](crate::WebSocket::into_io) makes an `AsyncRead` and `AsyncWrite` of the binary messages, for tunnels and
//! for protocols that run on any stream.
//!
//! # Facts
//!
//! - Pings, pongs and Closes are not messages. The connection answers them.
//! - Fragments are joined. A message has at most [`Config::max_message_size`](crate::Config::max_message_size), 1 MiB
//!   by default, after decompression. A sent message is one frame, and has no limit.
//! - Messages arrive in order. Success of `send` means that a message is queued, not that the peer has it: the protocol
//!   has no acknowledgement.
//! - Text is checked to be UTF-8. Text that is not closes with 1007 before the handler sees it.
//! - For many small messages, [`recv_many`](crate::WebSocket::recv_many) takes all that have arrived.
