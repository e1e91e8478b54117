//! Text in shared bytes, checked to be UTF-8.

use std::{borrow::Borrow, fmt, ops::Deref, str::Utf8Error};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame;

/// Text in a shared buffer: a [`Bytes`] that is valid UTF-8.
///
/// Dereferences to `str`. Cloning it, or turning it into [`Bytes`], copies nothing.
// Turning bytes into `str` without a second check needs unsafe code. This crate forbids it, so the type
// of tungstenite does it.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Utf8Bytes(frame::Utf8Bytes);

impl Utf8Bytes {
    /// Makes a value from a static string, without copying it.
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

// `Borrow` requires that Hash, Eq and Ord agree with those of `str`. Those of the inner type do.
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
    fn converts_between_text_and_bytes_without_a_copy() {
        let bytes = Bytes::from_static("grüß".as_bytes());
        let text = Utf8Bytes::try_from(bytes.clone()).unwrap();
        assert_eq!(Bytes::from(text).as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn refuses_text_that_is_not_utf8() {
        assert!(Utf8Bytes::try_from(Bytes::from_static(b"\xff")).is_err());
    }
}
