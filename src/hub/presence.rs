//! Who is in a room: what is said about members, inside and outside.

use std::{fmt, sync::Arc};

use super::names::{Key, MemberId};

/// Who is in a room: a member, or all members with the same key.
pub struct Presence<T> {
    id: MemberId,
    key: Option<Key>,
    value: Arc<T>,
}

impl<T> Presence<T> {
    pub(super) const fn new(id: MemberId, key: Option<Key>, value: Arc<T>) -> Self {
        Self { id, key, value }
    }

    /// Returns the member. With a key, this is the oldest one that is still there.
    #[must_use]
    pub const fn id(&self) -> MemberId {
        self.id
    }

    /// Returns the key with which it joined ([`Join::key`](super::Join::key)).
    #[must_use]
    pub const fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Returns its value: that of its join, or of the last [`Membership::set`](super::Membership::set).
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }
}

impl<T> Clone for Presence<T> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            key: self.key.clone(),
            value: Arc::clone(&self.value),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Presence<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("id", &self.id)
            .field("key", &self.key)
            .field("value", &self.value)
            .finish()
    }
}

/// The members of a room at one moment. Members with the same key are one.
pub struct Roster<T> {
    members: Vec<Presence<T>>,
}

impl<T> Roster<T> {
    pub(super) const fn new(members: Vec<Presence<T>>) -> Self {
        Self { members }
    }

    pub(super) fn into_members(self) -> Vec<Presence<T>> {
        self.members
    }

    /// Returns the members, in no particular order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Presence<T>> {
        self.members.iter()
    }

    /// Returns the number of members. Those with the same key count as one, silent ones not at all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the member with this key.
    #[must_use]
    pub fn by_key(&self, key: &str) -> Option<&Presence<T>> {
        let has_key = |member: &&Presence<T>| member.key().is_some_and(|own| own.as_str() == key);
        self.members.iter().find(has_key)
    }
}

impl<T> Clone for Roster<T> {
    fn clone(&self) -> Self {
        Self {
            members: self.members.clone(),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Roster<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.members).finish()
    }
}

/// What members are told about each other.
#[derive(Debug)]
pub(super) enum News<T> {
    /// The changes since the last news.
    Changes {
        joined: Vec<Presence<T>>,
        updated: Vec<Presence<T>>,
        left: Vec<(MemberId, Option<Key>)>,
    },
    /// All members. `is_for_all`: also for members that had a list, which is not true any more.
    Roster {
        members: Vec<Presence<T>>,
        is_for_all: bool,
    },
    /// The number of members of a room that is too large for more.
    Number { members: usize, is_roster: bool },
}

impl<T> News<T> {
    /// Returns the number of members that are named.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Changes {
                joined,
                updated,
                left,
            } => joined.len() + updated.len() + left.len(),
            Self::Roster { members, .. } => members.len(),
            Self::Number { .. } => 0,
        }
    }

    /// Returns whether this is for a member that does, or does not, need all members.
    pub(super) const fn is_for(&self, needs_roster: bool) -> bool {
        let is_for_all = matches!(
            self,
            Self::Roster {
                is_for_all: true,
                ..
            }
        );
        is_for_all || self.is_roster() == needs_roster
    }

    /// Returns whether this says all that a member has to know.
    pub(super) const fn is_roster(&self) -> bool {
        matches!(
            self,
            Self::Roster { .. }
                | Self::Number {
                    is_roster: true,
                    ..
                }
        )
    }
}
