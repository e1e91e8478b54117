//! Types that convert into messages: text becomes a text message, bytes become a binary one.

use std::{borrow::Cow, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{Message, Utf8Bytes};

macro_rules! from_text {
    ($($text:ty),*) => {$(
        impl From<$text> for Message {
            fn from(text: $text) -> Self {
                Self::Text(text.into())
            }
        }
    )*};
}

from_text!(
    Utf8Bytes,
    String,
    Box<str>,
    Cow<'_, str>,
    &str,
    &String,
    Arc<str>
);

macro_rules! from_bytes {
    ($($type:ty: |$bytes:ident| $convert:expr;)*) => {$(
        impl From<$type> for Message {
            fn from($bytes: $type) -> Self {
                Self::Binary($convert)
            }
        }
    )*};
}

from_bytes! {
    Bytes: |bytes| bytes;
    BytesMut: |bytes| bytes.freeze();
    Vec<u8>: |bytes| bytes.into();
    Box<[u8]>: |bytes| bytes.into();
    Cow<'_, [u8]>: |bytes| bytes.into_owned().into();
    Arc<[u8]>: |bytes| Bytes::from_owner(bytes);
    &[u8]: |bytes| Bytes::copy_from_slice(bytes);
    &Vec<u8>: |bytes| Bytes::copy_from_slice(bytes);
}

impl<const N: usize> From<[u8; N]> for Message {
    fn from(bytes: [u8; N]) -> Self {
        Self::from(&bytes)
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: impl Into<Message>) {
        assert_eq!(text.into(), Message::text("grüß"));
    }

    fn binary(bytes: impl Into<Message>) {
        assert_eq!(bytes.into(), Message::binary(&b"abc"[..]));
    }

    #[test]
    fn makes_a_text_message_from_each_type_of_text() {
        let string = String::from("grüß");
        text(&string);
        text(string);
        text("grüß");
        text(Box::<str>::from("grüß"));
        text(Arc::<str>::from("grüß"));
        text(Cow::Borrowed("grüß"));
        text(Cow::<str>::Owned(String::from("grüß")));
        text(Utf8Bytes::from("grüß"));
    }

    #[test]
    fn makes_a_binary_message_from_each_type_of_bytes() {
        binary(b"abc");
        binary(*b"abc");
        binary(&b"abc"[..]);
        let vec = b"abc".to_vec();
        binary(&vec);
        binary(vec);
        binary(Bytes::from_static(b"abc"));
        binary(BytesMut::from(&b"abc"[..]));
        binary(Box::<[u8]>::from(&b"abc"[..]));
        binary(Arc::<[u8]>::from(&b"abc"[..]));
        binary(Cow::Borrowed(&b"abc"[..]));
        binary(Cow::<[u8]>::Owned(b"abc".to_vec()));
    }

    #[test]
    fn copies_no_buffer_that_it_owns() {
        let text = String::from("a text");
        let at = text.as_ptr();
        assert_eq!(Message::from(text).as_bytes().as_ptr(), at);
        let boxed: Box<str> = "a text".into();
        let at = boxed.as_ptr();
        assert_eq!(Message::from(boxed).as_bytes().as_ptr(), at);
        let vec = vec![1, 2, 3];
        let at = vec.as_ptr();
        assert_eq!(Message::from(vec).as_bytes().as_ptr(), at);
        let shared: Arc<[u8]> = [1, 2, 3].into();
        let at = shared.as_ptr();
        assert_eq!(Message::from(shared).as_bytes().as_ptr(), at);
        let buffer = BytesMut::from(&b"abc"[..]);
        let at = buffer.as_ptr();
        assert_eq!(Message::from(buffer).as_bytes().as_ptr(), at);
    }
}
