//! UTF-8 validation of text that arrives in pieces
//! ([RFC 6455 §8.1](https://www.rfc-editor.org/rfc/rfc6455#section-8.1)).

use std::str;

/// The bytes are not UTF-8, and no further bytes can make them valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct InvalidUtf8;

/// Checks the beginning of a text. An incomplete character at the end is not an error.
pub(super) fn check_start(text: &[u8]) -> Result<(), InvalidUtf8> {
    match str::from_utf8(text) {
        Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
        _ => Ok(()),
    }
}

/// From this length on, the check with SIMD is faster than that of std.
const MIN_SIMD: usize = 64;

/// Checks a whole text.
pub(super) fn check(text: &[u8]) -> Result<&str, InvalidUtf8> {
    if text.len() < MIN_SIMD {
        str::from_utf8(text).map_err(|_| InvalidUtf8)
    } else {
        simdutf8::basic::from_utf8(text).map_err(|_| InvalidUtf8)
    }
}

/// Validates a text piece by piece. It keeps the bytes of an incomplete character between the pieces.
#[derive(Debug, Default)]
pub(super) struct Validator {
    // The first 1 to 3 bytes of a character. The fourth is stored only during a push.
    partial: [u8; 4],
    partial_len: usize,
}

impl Validator {
    /// Checks the next bytes. They may start or end within a character.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        self.push_to(bytes, |_| {})
    }

    /// Checks the next bytes, which may start or end within a character. Passes the complete characters to
    /// `to`.
    pub(super) fn push_to(
        &mut self,
        mut bytes: &[u8],
        mut to: impl FnMut(&str),
    ) -> Result<(), InvalidUtf8> {
        while self.partial_len > 0 {
            let Some((&next, rest)) = bytes.split_first() else {
                return Ok(());
            };
            bytes = rest;
            // In bounds: four bytes are either a character or invalid.
            self.partial[self.partial_len] = next;
            self.partial_len += 1;
            match str::from_utf8(&self.partial[..self.partial_len]) {
                Ok(character) => {
                    to(character);
                    self.partial_len = 0;
                }
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                Err(_) => {}
            }
        }
        let (whole, partial) = bytes.split_at(start_of_partial(bytes));
        to(check(whole)?);
        check_start(partial)?;
        self.partial[..partial.len()].copy_from_slice(partial);
        self.partial_len = partial.len();
        Ok(())
    }

    /// Fails if the text ends within a character.
    pub(super) const fn finish(&self) -> Result<(), InvalidUtf8> {
        if self.partial_len > 0 {
            return Err(InvalidUtf8);
        }
        Ok(())
    }
}

/// Returns the start of the last character if it is incomplete, otherwise the length.
///
/// This checks only the first byte of the last character. The caller checks all other bytes.
fn start_of_partial(bytes: &[u8]) -> usize {
    for available in 1..=bytes.len().min(3) {
        let start = bytes.len() - available;
        let needed = match bytes[start] {
            0x80..=0xbf => continue,
            0x00..=0x7f => 1,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
        };
        if needed > available {
            return start;
        }
        break;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::Rng;

    fn in_pieces(bytes: &[u8], mut piece: impl FnMut() -> usize) -> (Validator, Result<(), usize>) {
        let mut text = Validator::default();
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + piece()).min(bytes.len());
            if text.push(&bytes[at..end]).is_err() {
                return (text, Err(end));
            }
            at = end;
        }
        (text, Ok(()))
    }

    #[test]
    fn fails_at_the_first_byte_that_proves_the_text_invalid() {
        for (bytes, at) in [
            (&b"a\x80"[..], 2),
            (b"\xc0\x80", 1),
            (b"\xc1\xbf", 1),
            (b"\xc3(", 2),
            (b"\xe0\x80\x80", 2),
            (b"\xed\xa0\x80", 2),
            (b"\xe2\x82a", 3),
            (b"\xf0\x80\x80\x80", 2),
            (b"\xf0\x9f\x98a", 4),
            (b"\xf4\x90\x80\x80", 2),
            (b"\xf5\x80\x80\x80", 1),
            (b"\xff", 1),
        ] {
            let (_, result) = in_pieces(bytes, || 1);
            assert_eq!(result, Err(at), "{bytes:x?}");
            assert!(
                Validator::default().push(bytes).is_err(),
                "{bytes:x?} at once"
            );
        }
    }

    #[test]
    fn refuses_an_incomplete_character_at_the_end() {
        for bytes in [&b"\xc3"[..], b"\xe2\x82", b"\xf0\x9f\x98"] {
            let mut text = Validator::default();
            text.push(bytes).unwrap();
            assert_eq!(text.finish(), Err(InvalidUtf8), "{bytes:x?}");
        }
    }

    #[test]
    fn agrees_with_std_on_random_bytes_in_random_pieces() {
        let mut rng = Rng::new(1);
        // Bytes at the bounds of the ranges in the definition.
        let palette = *b"a\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3\xf4\xf5\xff";
        let (mut accepted, mut refused) = (0, 0);
        for round in 0..60_000 {
            let mut bytes = Vec::new();
            while bytes.len() < 1 + round % 24 {
                match rng.below(8) {
                    0 => bytes.push(palette[rng.below(palette.len())]),
                    1 => bytes.extend("é".bytes()),
                    2 => bytes.extend("€".bytes()),
                    3 => bytes.extend("\u{d7ff}\u{10ffff}".bytes()),
                    _ => bytes.push(b'a'),
                }
            }
            let expected = str::from_utf8(&bytes);
            let (text, result) = in_pieces(&bytes, || 1 + rng.below(5));
            let text = result.map_err(|_| InvalidUtf8).and_then(|()| text.finish());
            assert_eq!(text.is_ok(), expected.is_ok(), "{bytes:x?}");
            // Byte by byte, the error comes exactly at the byte that proves the text invalid.
            if let (_, Err(at)) = in_pieces(&bytes, || 1) {
                assert!(check_start(&bytes[..at]).is_err(), "{bytes:x?}");
                assert!(check_start(&bytes[..at - 1]).is_ok(), "{bytes:x?}");
            }
            *(if expected.is_ok() {
                &mut accepted
            } else {
                &mut refused
            }) += 1;
        }
        assert!(accepted > 1_000 && refused > 1_000);
    }
}
