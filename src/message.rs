//! What a handler receives and sends: whole messages, text or binary.
//!
//! Ping, pong and Close are the crate's business and have no value here.

use std::{borrow::Borrow, error::Error, fmt, ops::Deref, str::Utf8Error};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame;

/// One whole message, after reassembly of its fragments.
///
/// Anything that converts into a message can be passed to [`WebSocket::send`]: strings become
/// text, byte buffers become binary.
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
    reason = "RFC 6455 knows two kinds of data, so a match is whole"
)]
pub enum Message {
    /// Text, valid UTF-8.
    Text(Utf8Bytes),
    /// Bytes whose meaning the application decides.
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

    /// Tells whether this is a text message.
    #[must_use]
    pub const fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Tells whether this is a binary message.
    #[must_use]
    pub const fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }

    /// Returns the length of the payload in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Tells whether the payload is empty.
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

    /// Returns the payload of either kind as bytes.
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
    /// [`NotText`] if this is a binary message, even one that holds valid UTF-8: the peer said
    /// that it is not text.
    pub fn into_text(self) -> Result<Utf8Bytes, NotText> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Binary(_) => Err(NotText),
        }
    }

    /// Puts a prefix before text, and leaves binary alone.
    pub(crate) fn behind(self, prefix: &str) -> Self {
        match self {
            Self::Text(text) if !prefix.is_empty() => Self::from([prefix, &*text].concat()),
            unchanged => unchanged,
        }
    }

    /// Turns a message of either kind into its payload, without copying it.
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

/// Text in a shared buffer: a [`Bytes`] that is known to be UTF-8.
///
/// Dereferences to `str`. Cloning it, or turning it into [`Bytes`], copies nothing.
// tungstenite's type is inside because turning checked bytes into `str` again and again without
// checking takes unsafe code, which that crate has and this one forbids itself.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Utf8Bytes(frame::Utf8Bytes);

impl Utf8Bytes {
    /// Makes a value from a string that lives as long as the program, without copying it.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(frame::Utf8Bytes::from_static(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Deref for Utf8Bytes {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Utf8Bytes {
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for Utf8Bytes {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

// Hash, Eq and Ord of the inner type are those of `str`, as Borrow asks for.
impl Borrow<str> for Utf8Bytes {
    fn borrow(&self) -> &str {
        self
    }
}

impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl From<String> for Utf8Bytes {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Utf8Bytes {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl TryFrom<Bytes> for Utf8Bytes {
    type Error = Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        frame::Utf8Bytes::try_from(bytes).map(Self)
    }
}

impl From<Utf8Bytes> for Bytes {
    fn from(text: Utf8Bytes) -> Self {
        text.0.into()
    }
}

impl PartialEq<str> for Utf8Bytes {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Utf8Bytes {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_kind_of_what_it_is_made_from() {
        assert!(Message::from("a").is_text());
        assert!(Message::from(String::from("a")).is_text());
        assert!(Message::from(&b"a"[..]).is_binary());
        assert!(Message::from(Bytes::from_static(b"a")).is_binary());
    }

    #[test]
    fn refuses_to_call_binary_text() {
        assert_eq!(Message::binary("a").into_text(), Err(NotText));
        assert_eq!(Message::text("a").into_text().unwrap(), "a");
    }

    #[test]
    fn does_not_copy_between_text_and_bytes() {
        let bytes = Bytes::from_static("grüß".as_bytes());
        let text = Utf8Bytes::try_from(bytes.clone()).unwrap();
        assert_eq!(Bytes::from(text).as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn refuses_text_that_is_not_utf8() {
        assert!(Utf8Bytes::try_from(Bytes::from_static(b"\xff")).is_err());
    }
}
