//! The messages that a handler receives and sends: whole, text or binary.
//!
//! The crate handles Ping, Pong and Close itself. They are not messages.

use std::{error::Error, fmt};

use bytes::Bytes;

use super::Utf8Bytes;

/// One whole message, after reassembly of its fragments.
///
/// [`WebSocket::send`] takes every type that converts into a message: strings become text, byte
/// buffers become binary.
///
/// # Examples
///
/// ```
/// use tower_websocket::Message;
///
/// assert!(Message::from("Hello").is_text());
/// assert!(Message::from(vec![0xff]).is_binary());
/// ```
///
/// Source: [RFC 6455 §5.6](https://www.rfc-editor.org/rfc/rfc6455#section-5.6).
///
/// [`WebSocket::send`]: crate::WebSocket::send
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
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

    /// Turns the message into its payload, text or binary, without copying it.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl From<Utf8Bytes> for Message {
    fn from(text: Utf8Bytes) -> Self {
        Self::Text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

/// [`Message::into_text`](crate::Message::into_text) was called on a binary message.
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
    fn makes_text_from_strings_and_binary_from_bytes() {
        assert!(Message::from("a").is_text());
        assert!(Message::from(String::from("a")).is_text());
        assert!(Message::from(&b"a"[..]).is_binary());
        assert!(Message::from(Bytes::from_static(b"a")).is_binary());
    }

    #[test]
    fn into_text_fails_for_a_binary_message() {
        assert_eq!(Message::binary("a").into_text(), Err(NotText));
        assert_eq!(Message::text("a").into_text().unwrap(), "a");
    }
}
