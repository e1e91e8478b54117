//! The names of rooms, keys and members.

use std::{fmt, sync::Arc};

/// The longest name of a room, in bytes.
pub(super) const MAX_NAME: usize = 200;
/// The bits of a [`MemberId`] that are the member's place in its room.
const PLACE_BITS: u32 = 20;
/// The bits of a [`MemberId`]. The others are free for what a [`Member`](super::member::Member) has to remember. With a
/// million members a second, a hub has used them up after 25 days without a pause, and then repeats ids.
pub(super) const MEMBER_BITS: u32 = 61;
/// The most members of a room: each has a place.
pub(super) const MAX_PLACES: usize = 1 << PLACE_BITS;

/// Returns whether a room may have this name.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
}

/// A member of a room, unique in its hub.
///
/// A connection has another one in each room, and a new one each time it joins. [`Display`](fmt::Display) writes it in
/// lower-case hexadecimal digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MemberId(u64);

impl MemberId {
    pub(super) const fn new(serial: u64, place: u32) -> Self {
        Self::of_bits(serial << PLACE_BITS | place as u64)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// Reads an id from its bits. There may be others above it.
    pub(super) const fn of_bits(bits: u64) -> Self {
        Self(bits & ((1 << MEMBER_BITS) - 1))
    }

    /// Returns the member's place in the list of its room.
    pub(super) const fn place(self) -> usize {
        self.0 as usize & (MAX_PLACES - 1)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberId({self})")
    }
}

/// A key: of a user in [`Join::key`](super::Join::key), or of the thing that a message is about in
/// [`Publication::latest`](super::Publication::latest). Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(Arc<str>);

impl Key {
    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        Self(key.into())
    }
}

impl From<String> for Key {
    fn from(key: String) -> Self {
        Self(key.into())
    }
}

impl From<Arc<str>> for Key {
    fn from(key: Arc<str>) -> Self {
        Self(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_its_place() {
        for (serial, place) in [(1, 0), (7, 5), (1 << 40, (MAX_PLACES - 1) as u32)] {
            let id = MemberId::new(serial, place);
            assert_eq!(id.place(), place as usize);
            assert_ne!(id, MemberId::new(serial + 1, place));
        }
        assert_eq!(MemberId::new(1, 2).to_string(), "100002");
    }

    #[test]
    fn names_have_1_to_200_bytes() {
        assert!(!is_name("") && is_name("a"));
        assert!(is_name(&"x".repeat(200)) && !is_name(&"x".repeat(201)));
    }
}
