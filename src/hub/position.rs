//! A place in the history of a room.
//!
//! It has three numbers: the epoch of the history, the offset of an entry, and the entry's tag, which is a hash of the
//! entry's identity. A history that has lost its end and grown again has other entries at the same offsets. Their tags
//! differ, so such a position is found out.

use std::{convert::Infallible, fmt, str::FromStr};

/// The bits of a digit in base 32.
const BITS: u32 = 5;
/// The most digits of a number.
const DIGITS: usize = 64_usize.div_ceil(BITS as usize);
/// The longest position as text, in bytes.
pub(super) const MAX_LEN: usize = 3 * DIGITS + 2;

/// A place in the history of a room: behind one message, and in front of the next one.
///
/// A client keeps the position of the last message that it has got, and hands it to
/// [`Join::resume`](super::Join::resume) when it comes back. It is a text of up to 48 characters without a meaning for
/// the client. [`Display`](fmt::Display) writes it, and it is read from any text: a text that no room has written is
/// read as well, and resuming there is [`GapReason::Unknown`](super::GapReason::Unknown). So a client cannot cause an
/// error. With the feature `json` it is a string for serde, too.
///
/// # Examples
///
/// ```
/// use tower_websocket::hub::Position;
///
/// let position = Position::from("3e1vnm2eq8e1h-c-9qk0ulb5g0t6f");
/// assert_eq!(position.to_string(), "3e1vnm2eq8e1h-c-9qk0ulb5g0t6f");
/// assert!(!position.is_unknown());
/// assert!(Position::from("the last one").is_unknown());
/// ```
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Position {
    /// Never 0 in a room.
    pub(super) epoch: u64,
    pub(super) offset: u64,
    pub(super) tag: u64,
}

impl Position {
    /// The result of reading a text that is no position.
    const UNKNOWN: Self = Self {
        epoch: 0,
        offset: 0,
        tag: 0,
    };

    /// Returns whether this was read from a text that no room has written.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.epoch == 0
    }

    /// Appends the text.
    pub(super) fn push_to(&self, out: &mut String) {
        push_number(out, self.epoch);
        out.push('-');
        push_number(out, self.offset);
        out.push('-');
        push_number(out, self.tag);
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let mut numbers = text.split('-').map(number);
        let mut next = || numbers.next().flatten();
        let (epoch, offset, tag) = (next()?, next()?, next()?);
        let read = Self { epoch, offset, tag };
        (numbers.next().is_none() && epoch != 0).then_some(read)
    }
}

fn push_number(out: &mut String, number: u64) {
    let bits = (u64::BITS - number.leading_zeros()).max(1);
    for at in (0..bits.div_ceil(BITS)).rev() {
        let digit = (number >> (at * BITS)) as u32 & ((1 << BITS) - 1);
        out.extend(char::from_digit(digit, 1 << BITS));
    }
}

/// Reads a number in its only notation: lower case, without leading zeros.
fn number(text: &str) -> Option<u64> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'v');
    let is_canonical = text == "0" || !text.starts_with('0');
    if !is_canonical || text.is_empty() || !text.as_bytes().iter().all(is_digit) {
        return None;
    }
    u64::from_str_radix(text, 1 << BITS).ok()
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::with_capacity(MAX_LEN);
        self.push_to(&mut out);
        f.pad(&out)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

impl From<&str> for Position {
    fn from(text: &str) -> Self {
        Self::read(text).unwrap_or(Self::UNKNOWN)
    }
}

impl From<&String> for Position {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<String> for Position {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl FromStr for Position {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

#[cfg(feature = "json")]
impl serde::Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "json")]
impl<'de> serde::Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl serde::de::Visitor<'_> for Text {
            type Value = Position;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a position as text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Position, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// Returns the tag of an entry: a hash of its identity, which is the run of the node and a number.
pub(super) const fn tag(boot: u64, number: u64) -> u64 {
    mix(boot ^ mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// Mixes all bits. Each value has another result (the end of SplitMix64).
const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [u64; 8] = [0, 1, 31, 32, 1 << 60, (1 << 60) - 1, u64::MAX - 1, u64::MAX];

    #[test]
    fn is_read_as_it_was_written_in_at_most_48_bytes() {
        const { assert!(MAX_LEN <= 48) };
        for epoch in EDGES.into_iter().filter(|epoch| *epoch != 0) {
            for offset in EDGES {
                for tag in EDGES {
                    let position = Position { epoch, offset, tag };
                    let text = position.to_string();
                    assert!(text.len() <= MAX_LEN, "{text}");
                    assert_eq!(Position::from(&text), position, "{text}");
                }
            }
        }
    }

    #[test]
    fn other_texts_are_unknown() {
        let long = "1".repeat(1000);
        for text in [
            "",
            "-",
            "--",
            "---",
            "1",
            "1-1",
            "1-1-1-1",
            "1-1-1-",
            "-1-1-1",
            "1--1",
            " 1-1-1",
            "1-1-1 ",
            "1-1-1\n",
            "1-w-1",
            "1-A-1",
            "1-+1-1",
            "1-01-1",
            "00-1-1",
            "0-1-1",
            "0-0-0",
            "g000000000000-1-1",
            "1-g000000000000-1",
            "1-1-vvvvvvvvvvvvv",
            "1-1-ä",
            "null",
            "1-1-\u{0}",
            "１-1-1",
            &long,
        ] {
            assert_eq!(Position::from(text), Position::UNKNOWN, "{text:?}");
            assert!(Position::from(text).is_unknown());
        }
    }

    #[test]
    fn tags_differ() {
        let mut tags = std::collections::HashSet::new();
        for boot in 0..100 {
            for number in 1..1000 {
                assert!(tags.insert(tag(boot, number)));
            }
        }
    }
}
