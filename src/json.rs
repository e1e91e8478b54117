//! Messages as JSON, through `serde` and `serde_json`.
//!
//! [`WebSocket::recv_json`](crate::WebSocket::recv_json) and [`send_json`](crate::WebSocket::send_json) receive and send
//! values, each in a text message. [`Message::json`](crate::Message::json) and
//! [`parse_json`](crate::Message::parse_json) do the same for a message.
//!
//! # Messages that are not the expected JSON
//!
//! A wrong message is the fault of the peer. If a handler returns the error, with `?` or as the source of another
//! error, the connection closes with the code of the fault. The error is logged at debug level.
//!
//! | Message | Error | Close |
//! | --- | --- | --- |
//! | binary | [`JsonError::NotText`] | 1003 |
//! | text that is not JSON, or more or less than one value | [`JsonError::Syntax`] | 1007 |
//! | JSON that does not fit the type | [`JsonError::Shape`] | 1008 |
//!
//! The error does not close the connection by itself. A handler may answer and go on:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tower_websocket::{BoxError, WebSocket, json::RecvJsonError};
//!
//! #[derive(Deserialize)]
//! struct Add {
//!     left: i64,
//!     right: i64,
//! }
//!
//! #[derive(Serialize)]
//! #[serde(rename_all = "snake_case")]
//! enum Answer {
//!     Sum(i64),
//!     Wrong(String),
//! }
//!
//! async fn calculate(mut socket: WebSocket) -> Result<(), BoxError> {
//!     loop {
//!         let answer = match socket.recv_json().await {
//!             Ok(Some(Add { left, right })) => Answer::Sum(left.saturating_add(right)),
//!             Ok(None) => return Ok(()),
//!             Err(RecvJsonError::Json(error)) => Answer::Wrong(error.detail()),
//!             Err(error) => return Err(error.into()),
//!         };
//!         socket.send_json(&answer).await?;
//!     }
//! }
//! ```
//!
//! # Secrets
//!
//! The errors do not quote the message, so they may be logged. The position of a fault is in the text of the source, a
//! [`JsonFault`]. [`JsonError::detail`] returns the description of `serde_json`, which may quote the message.

pub use crate::{
    socket::{RecvJsonError, SendJsonError, SendingJson},
    words::{JsonError, JsonFault, ToJsonError},
};
