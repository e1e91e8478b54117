//! Comparisons of messages with text and with bytes, both ways.
//!
//! A text message equals only text, and a binary message only bytes: the peer gave the payload a kind.

use bytes::Bytes;

use super::{Message, Utf8Bytes};

/// Compares with a type, both ways. The variant is the one that may be equal.
macro_rules! compare_with {
    ($variant:ident, $payload:ty, $([$($generics:tt)*] $type:ty),*) => {$(
        impl<$($generics)*> PartialEq<$type> for Message {
            fn eq(&self, other: &$type) -> bool {
                let other: &$payload = other.as_ref();
                matches!(self, Self::$variant(payload) if **payload == *other)
            }
        }

        impl<$($generics)*> PartialEq<Message> for $type {
            fn eq(&self, other: &Message) -> bool {
                other == self
            }
        }
    )*};
}

compare_with!(Text, str, [] str, [] &str, [] String, [] Utf8Bytes);
compare_with!(
    Binary, [u8],
    [] [u8], [] &[u8], [const N: usize] [u8; N], [const N: usize] &[u8; N], [] Vec<u8>, [] Bytes
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether they are equal, and whether they are in the other order.
    fn equal<T>(message: &Message, other: &T) -> [bool; 2]
    where
        T: PartialEq<Message> + ?Sized,
        Message: PartialEq<T>,
    {
        [message == other, other == message]
    }

    #[test]
    fn a_text_message_equals_the_same_text_both_ways() {
        let message = Message::text("abc");
        assert_eq!(equal(&message, "abc"), [true; 2]);
        assert_eq!(equal(&message, &"abc"), [true; 2]);
        assert_eq!(equal(&message, &String::from("abc")), [true; 2]);
        assert_eq!(equal(&message, &Utf8Bytes::from("abc")), [true; 2]);
        assert_eq!(equal(&message, "abd"), [false; 2]);
    }

    #[test]
    fn a_binary_message_equals_the_same_bytes_both_ways() {
        let message = Message::binary("abc");
        assert_eq!(equal(&message, &b"abc"[..]), [true; 2]);
        assert_eq!(equal(&message, &&b"abc"[..]), [true; 2]);
        assert_eq!(equal(&message, b"abc"), [true; 2]);
        assert_eq!(equal(&message, &b"abc"), [true; 2]);
        assert_eq!(equal(&message, &b"abc".to_vec()), [true; 2]);
        assert_eq!(equal(&message, &Bytes::from("abc")), [true; 2]);
        assert_eq!(equal(&message, b"abd"), [false; 2]);
        assert_eq!(equal(&message, b"ab"), [false; 2]);
    }

    #[test]
    fn the_other_kind_is_never_equal() {
        assert_eq!(equal(&Message::text("abc"), b"abc"), [false; 2]);
        assert_eq!(equal(&Message::binary("abc"), "abc"), [false; 2]);
        assert_ne!(Message::text("abc"), Message::binary("abc"));
    }
}
