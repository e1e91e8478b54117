//! What is in the log of a room: messages, and news about members.

use std::{
    mem,
    sync::{Arc, OnceLock},
};

use super::{
    names::{Key, MemberId},
    presence::News,
};
use crate::{codec::SharedMessage, words::catch_panic};

/// What an entry counts in addition to its payload.
const ENTRY: usize = 128;

/// A message or news, and to whom it goes.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) kind: Kind<T>,
    pub(super) except: Option<MemberId>,
    pub(super) key: Option<Key>,
    /// It is not kept for members that are behind.
    pub(super) is_fleeting: bool,
}

#[derive(Debug)]
pub(super) enum Kind<T> {
    Message(SharedMessage),
    /// News about members. The message is made without a lock, by the first who needs it.
    News {
        news: News<T>,
        message: OnceLock<Option<SharedMessage>>,
    },
    /// It is being dropped.
    Gone,
}

/// Payloads and values may run code of the user when they are dropped, in the task that is the last to have the entry.
/// If that code panics, the task goes on.
impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        let kind = mem::replace(&mut self.kind, Kind::Gone);
        let _ = catch_panic(|| drop(kind));
    }
}

impl<T> Entry<T> {
    pub(super) const fn message(
        message: SharedMessage,
        except: Option<MemberId>,
        key: Option<Key>,
    ) -> Self {
        Self {
            kind: Kind::Message(message),
            except,
            key,
            is_fleeting: false,
        }
    }

    pub(super) const fn fleeting(mut self) -> Self {
        self.is_fleeting = true;
        self
    }

    pub(super) const fn news(news: News<T>) -> Self {
        Self {
            kind: Kind::News {
                news,
                message: OnceLock::new(),
            },
            except: None,
            key: None,
            is_fleeting: false,
        }
    }

    /// Returns what is written, or `None` if it is nothing or was not made yet.
    pub(super) fn shared(&self) -> Option<&SharedMessage> {
        match &self.kind {
            Kind::Message(message) => Some(message),
            Kind::News { message, .. } => message.get()?.as_ref(),
            Kind::Gone => None,
        }
    }

    pub(super) const fn is_message(&self) -> bool {
        matches!(self.kind, Kind::Message(_))
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Message(message) => message.len() + ENTRY,
            Kind::News { news, .. } => news.len() * ENTRY + ENTRY,
            Kind::Gone => 0,
        }
    }
}

/// An entry in its place.
#[derive(Debug)]
pub(super) struct Logged<T> {
    pub(super) offset: u64,
    /// It has a key that counts, so a newer entry may supersede it. This is the offset of the first entry with the key
    /// since none was in the log.
    pub(super) place: Option<u64>,
    /// It is the newest one with its key, and is kept until a newer one comes.
    pub(super) is_newest: bool,
    /// The bytes of its compressed forms. Kept up to date in the log only.
    pub(super) compressed: u32,
    pub(super) entry: Arc<Entry<T>>,
}

impl<T> Clone for Logged<T> {
    fn clone(&self) -> Self {
        Self {
            offset: self.offset,
            place: self.place,
            is_newest: self.is_newest,
            compressed: self.compressed,
            entry: Arc::clone(&self.entry),
        }
    }
}

impl<T> Logged<T> {
    /// Puts an entry into its place, without regard to its key.
    pub(super) const fn plain(offset: u64, entry: Arc<Entry<T>>) -> Self {
        Self {
            offset,
            place: None,
            is_newest: false,
            compressed: 0,
            entry,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.entry.bytes() + self.compressed as usize
    }

    /// Returns whether a newer entry may supersede this one.
    pub(super) const fn has_key(&self) -> bool {
        self.place.is_some()
    }

    /// Returns a number that entries with the same key have in common, and no others.
    pub(super) const fn place(&self) -> Option<u64> {
        self.place
    }

    /// Returns whether a newer entry has taken its place.
    pub(super) const fn is_superseded(&self) -> bool {
        self.has_key() && !self.is_newest
    }
}
