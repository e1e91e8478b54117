//! The messages that a handler receives and sends: whole, text or binary.
//!
//! The crate handles Ping, Pong and Close itself. They are not messages.

mod compare;
mod convert;
mod into;

use std::{error::Error, fmt};

use bytes::Bytes;

pub use self::into::IntoMessage;
use super::Utf8Bytes;

/// One whole message, after reassembly of its fragments.
///
/// There are two kinds, text and binary, and there will be no third: Ping, Pong and Close never reach the application,
/// so a `match` needs no arms for them.
///
/// # Conversions
///
/// [`WebSocket::send`] takes every type that converts into a message ([`IntoMessage`]). For other values, use
/// `to_string`, `format!`, or `Message::json` of the feature `json`.
///
/// | | Text | Binary |
/// | --- | --- | --- |
/// | not copied | `String`, `Box<str>`, [`Utf8Bytes`] | `Vec<u8>`, `Box<[u8]>`, `Arc<[u8]>`, [`Bytes`], `BytesMut` |
/// | copied if borrowed | `Cow<str>` | `Cow<[u8]>` |
/// | copied | `&str`, `&String`, `Arc<str>` | `&[u8]`, `&Vec<u8>`, `[u8; N]`, `&[u8; N]` |
///
/// Clones of a `Message` share its payload. To send one message to many connections, make it once and clone it.
///
/// # Comparisons
///
/// A message compares with strings and with bytes, in either order. A text message never equals bytes, and a binary
/// message never equals text. To compare payloads only, use [`as_bytes`](Self::as_bytes).
///
/// # Secrets
///
/// `Debug` shows the kind and the length, not the payload, because messages may be secret and logs often show it.
///
/// # Examples
///
/// ```
/// use tower_websocket::Message;
///
/// let text = Message::from("Hello");
/// assert_eq!(text, "Hello");
/// assert_ne!(text, b"Hello");
/// assert_eq!(format!("{text:?}"), "Text(5 bytes)");
/// assert_eq!(Message::from(vec![0xff]), [0xff]);
/// ```
///
/// Source: [RFC 6455 §5.6](https://www.rfc-editor.org/rfc/rfc6455#section-5.6).
///
/// [`WebSocket::send`]: crate::WebSocket::send
#[derive(Clone, Eq, Hash, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "RFC 6455 defines exactly two kinds of data"
)]
pub enum Message {
    /// Text, valid UTF-8.
    Text(Utf8Bytes),
    /// Bytes. The application defines their meaning.
    Binary(Bytes),
}

impl Message {
    /// Makes a text message.
    #[must_use]
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::Text(text.into())
    }

    /// Makes a binary message.
    #[must_use]
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// Returns whether this is a text message.
    #[must_use]
    pub const fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Returns whether this is a binary message.
    #[must_use]
    pub const fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }

    /// Returns the length of the payload in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Returns whether the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Returns the text, or `None` if this is a binary message.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// Returns the payload as bytes, for text and binary alike.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Turns the message into its text, without copying it.
    ///
    /// # Errors
    ///
    /// [`NotText`] if this is a binary message, even if its bytes are valid UTF-8: the peer marked it
    /// as binary.
    pub fn into_text(self) -> Result<Utf8Bytes, NotText> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Binary(_) => Err(NotText),
        }
    }

    /// Puts a prefix before text. A binary message stays as it is.
    pub(crate) fn with_prefix(self, prefix: &str) -> Self {
        match self {
            Self::Text(text) if !prefix.is_empty() => Self::from([prefix, &*text].concat()),
            unchanged => unchanged,
        }
    }

    /// Returns a part of the message, without copying it. The part of a text has to be a text.
    #[cfg(feature = "hub")]
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> Self {
        if range == (0..self.len()) {
            return self.clone();
        }
        let is_text = self.is_text();
        let bytes = self.clone().into_bytes().slice(range);
        match is_text {
            true => Utf8Bytes::try_from(bytes).map_or_else(|_| Self::text(""), Self::Text),
            false => Self::Binary(bytes),
        }
    }

    /// Turns the message into its payload, text or binary, without copying it.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_text() { "Text" } else { "Binary" };
        write!(f, "{kind}({} bytes)", self.len())
    }
}

/// A message is binary, but text was expected, for example by [`Message::into_text`](crate::Message::into_text).
///
/// A handler that returns this error, also as the source of another error, closes the connection with 1003: the peer
/// sent the wrong kind of message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct NotText;

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message is binary, not text")
    }
}

impl Error for NotText {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_kind_and_length_but_no_payload() {
        assert_eq!(format!("{:?}", Message::text("secret")), "Text(6 bytes)");
        assert_eq!(
            format!("{:#?}", Message::binary("secret")),
            "Binary(6 bytes)"
        );
    }

    #[test]
    fn both_kinds_are_seen_as_bytes() {
        for message in [Message::text("abc"), Message::binary("abc")] {
            let bytes: &[u8] = message.as_ref();
            assert_eq!(bytes, b"abc", "{message:?}");
        }
    }

    #[test]
    fn into_text_fails_for_a_binary_message() {
        assert_eq!(Message::binary("a").into_text(), Err(NotText));
        assert_eq!(Message::text("a").into_text().unwrap(), "a");
    }
}
