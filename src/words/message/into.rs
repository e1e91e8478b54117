//! The types that functions for sending take as a message.

use super::Message;

/// A type that [`WebSocket::send`](crate::WebSocket::send) takes: every type that converts into a [`Message`].
///
/// A type of the application becomes one by `impl From<ItsType> for Message`. Other values are sent as text
/// (`to_string`), or as JSON with the feature `json`.
///
/// # Examples
///
/// ```
/// use tower_websocket::{BoxError, Message, WebSocket};
///
/// struct Price(f64);
///
/// impl From<Price> for Message {
///     fn from(price: Price) -> Self {
///         Message::text(price.0.to_string())
///     }
/// }
///
/// async fn quote(mut socket: WebSocket) -> Result<(), BoxError> {
///     socket.send(Price(9.95)).await?;
///     Ok(())
/// }
/// ```
// A trait beside `Into`, so that the compiler's error says what to do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    label = "neither text nor bytes",
    note = "a message is text or bytes: send `value.to_string()`, a string or bytes; or with the feature `json` \
            `send_json(&value)`; or write `impl From<YourType> for tower_websocket::Message`"
)]
pub trait IntoMessage: Into<Message> {}

#[diagnostic::do_not_recommend]
impl<T: Into<Message>> IntoMessage for T {}
