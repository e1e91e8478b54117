//! Text in shared bytes, checked to be UTF-8.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    ops::Deref,
    str::Utf8Error,
    sync::Arc,
};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame;

/// Text in a shared buffer: a [`Bytes`] that is valid UTF-8.
///
/// Dereferences to `str`. Cloning it, or turning it into [`Bytes`], copies nothing. `Debug` shows only the length,
/// because messages may be secret and logs often show it.
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
        write!(f, "Utf8Bytes({} bytes)", self.len())
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

impl From<Box<str>> for Utf8Bytes {
    fn from(text: Box<str>) -> Self {
        text.into_string().into()
    }
}

impl From<Cow<'_, str>> for Utf8Bytes {
    fn from(text: Cow<'_, str>) -> Self {
        text.into_owned().into()
    }
}

impl From<&str> for Utf8Bytes {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<&String> for Utf8Bytes {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Arc<str>> for Utf8Bytes {
    fn from(text: Arc<str>) -> Self {
        (&*text).into()
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

/// Compares with a type of text, both ways.
macro_rules! compare_with {
    ($($text:ty),*) => {$(
        impl PartialEq<$text> for Utf8Bytes {
            fn eq(&self, other: &$text) -> bool {
                let other: &str = other;
                self.as_str() == other
            }
        }

        impl PartialEq<Utf8Bytes> for $text {
            fn eq(&self, other: &Utf8Bytes) -> bool {
                other == self
            }
        }
    )*};
}

compare_with!(str, &str, String);

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
    fn debug_does_not_show_the_text() {
        let text = Utf8Bytes::from("secret");
        assert_eq!(format!("{text:?}"), "Utf8Bytes(6 bytes)");
    }

    #[test]
    fn equals_the_same_text_of_other_types_both_ways() {
        fn equal<T>(text: &Utf8Bytes, other: &T) -> [bool; 2]
        where
            T: PartialEq<Utf8Bytes> + ?Sized,
            Utf8Bytes: PartialEq<T>,
        {
            [text == other, other == text]
        }
        let text = Utf8Bytes::from("grüß");
        assert_eq!(equal(&text, "grüß"), [true; 2]);
        assert_eq!(equal(&text, &"grüß"), [true; 2]);
        assert_eq!(equal(&text, &String::from("grüß")), [true; 2]);
        assert_eq!(equal(&text, "gruss"), [false; 2]);
    }

    #[test]
    fn refuses_text_that_is_not_utf8() {
        assert!(Utf8Bytes::try_from(Bytes::from_static(b"\xff")).is_err());
    }
}
