//! The log of a room: what its members have not got yet, each entry once.
//!
//! An entry is kept until every chunk has delivered it and no member is behind, at most up to the room's backlog.
//! Entries that leave are returned to the caller, who drops them without the lock: a payload may run the user's code
//! when it is dropped.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    Chunk,
    config::Overflow,
    history::{Budget, Kept, Window},
    names::{Key, MemberId},
    presence::News,
    recovery::{Listener, Replayed},
};
use crate::{codec::SharedMessage, words::catch_panic};

/// The most keys of a room with [`Overflow::Latest`].
const MAX_KEYS: usize = 1024;
/// What an entry counts in addition to its payload.
const ENTRY: usize = 128;
/// The capacity that an empty log keeps.
const KEPT: usize = 4;

/// What members get.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) kind: Kind<T>,
    pub(super) except: Option<MemberId>,
    key: Option<Key>,
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
    /// It has a key that counts: a newer entry may take its place.
    has_key: bool,
    /// It is the newest one with its key, and is kept until a newer one comes.
    is_newest: bool,
    pub(super) entry: Arc<Entry<T>>,
}

impl<T> Clone for Logged<T> {
    fn clone(&self) -> Self {
        Self {
            offset: self.offset,
            has_key: self.has_key,
            is_newest: self.is_newest,
            entry: Arc::clone(&self.entry),
        }
    }
}

impl<T> Logged<T> {
    const fn plain(offset: u64, entry: Arc<Entry<T>>) -> Self {
        Self {
            offset,
            has_key: false,
            is_newest: false,
            entry,
        }
    }

    /// Returns whether a newer entry may take the place of this one.
    pub(super) const fn has_key(&self) -> bool {
        self.has_key
    }

    /// Returns whether a newer entry has taken its place.
    pub(super) const fn is_superseded(&self) -> bool {
        self.has_key && !self.is_newest
    }
}

#[derive(Debug)]
pub(super) struct Log<T> {
    next: u64,
    entries: VecDeque<Logged<T>>,
    bytes: usize,
    /// An entry below this offset may have left although somebody was behind.
    evicted_below: u64,
    /// For each chunk the first offset that it has not delivered; `u64::MAX` if it is empty.
    cursors: Vec<u64>,
    pub(super) chunks: Arc<Vec<Arc<Chunk<T>>>>,
    /// The members of the room.
    pub(super) members: usize,
    /// The members that are behind and for whom entries are kept.
    pub(super) behind: usize,
    latest: Option<Box<Latest>>,
    pub(super) history: Option<Box<Window<Logged<T>>>>,
}

/// Where the entries are that are left for a member that is behind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reach<'a> {
    /// In the backlog.
    Backlog,
    /// In the history, as far as it reaches back further than the backlog, and in the backlog.
    Both,
    /// In the history, for a member that came back.
    Replay(&'a Replay),
}

/// The messages that are replayed to a member: those that were there when it joined.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    pub(super) listener: Listener,
    /// The offset of the log at its join.
    pub(super) end: u64,
    /// How many they were.
    pub(super) messages: usize,
    /// What comes after that may be in the backlog, too.
    pub(super) uses_backlog: bool,
}

/// The newest entries by key.
#[derive(Debug, Default)]
struct Latest {
    offsets: HashMap<Key, u64>,
    bytes: usize,
}

/// Entries to be dropped without the lock.
#[derive(Debug)]
#[must_use]
pub(super) struct Removed<T>(VecDeque<Logged<T>>);

impl<T> Extend<Logged<T>> for Removed<T> {
    fn extend<I: IntoIterator<Item = Logged<T>>>(&mut self, entries: I) {
        self.0.extend(entries);
    }
}

impl<T> Default for Removed<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

/// The limits on a backlog.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    pub(super) overflow: Overflow,
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// The bytes in all rooms, and their limit.
    pub(super) all: &'a AtomicUsize,
    pub(super) max_all: usize,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self {
            next: 0,
            entries: VecDeque::new(),
            bytes: 0,
            evicted_below: 0,
            cursors: Vec::new(),
            chunks: Arc::default(),
            members: 0,
            behind: 0,
            latest: None,
            history: None,
        }
    }
}

impl<T> Log<T> {
    /// Adds a message to the history, if there is one, as the entry that is appended next. Returns how many messages
    /// the limit over all rooms has cost.
    pub(super) fn keep(
        &mut self,
        kept: Kept<Arc<Entry<T>>>,
        budget: Budget<'_>,
        removed: &mut Removed<T>,
    ) -> u64 {
        let Some(history) = &mut self.history else {
            return 0;
        };
        let Kept {
            entry,
            parties,
            payload,
            bytes,
            at,
        } = kept;
        let entry = Logged::plain(self.next, entry);
        let kept = Kept {
            entry,
            parties,
            payload,
            bytes,
            at,
        };
        history.push(kept, budget, removed)
    }

    /// Leaves out an offset: nobody is there who would get the entry.
    pub(super) fn skip(&mut self) {
        self.next += 1;
    }

    /// Returns the offset from which on the backlog takes the place of the history.
    fn backlog_from(&self, reach: Reach<'_>) -> u64 {
        let first = self.entries.front().map_or(self.next, |front| front.offset);
        match reach {
            Reach::Backlog => 0,
            Reach::Both => first,
            Reach::Replay(replay) if replay.uses_backlog => first.max(replay.end),
            Reach::Replay(_) => u64::MAX,
        }
    }

    /// Returns the entries from an offset on that are left for a member that is behind.
    pub(super) fn left<'a>(
        &'a self,
        offset: u64,
        reach: Reach<'a>,
    ) -> Box<dyn Iterator<Item = &'a Logged<T>> + 'a> {
        let backlog_from = self.backlog_from(reach);
        let backlog = self.after(offset.max(backlog_from));
        let (Some(history), true) = (&self.history, backlog_from > 0) else {
            return Box::new(backlog);
        };
        let is_replayed = move |kept: &&Kept<Logged<T>>| match reach {
            Reach::Replay(replay) if kept.entry.offset < replay.end => {
                replay.listener.gets(&kept.parties) == Replayed::Yes
            }
            _ => true,
        };
        let kept = history.from(move |logged| logged.offset < offset);
        let kept = kept.map(|(_, kept)| kept);
        let kept = kept.take_while(move |kept| kept.entry.offset < backlog_from);
        let kept = kept.filter(is_replayed).map(|kept| &kept.entry);
        Box::new(kept.chain(backlog))
    }

    /// Returns whether all entries from an offset on are certainly left. False is no statement.
    pub(super) fn is_whole_from(&self, offset: u64, reach: Reach<'_>) -> bool {
        let history = self.history.as_ref();
        let kept = history.and_then(|history| history.get(0));
        let is_kept = kept.is_some_and(|kept| kept.entry.offset <= offset);
        match reach {
            // Entries with keys leave from the middle.
            Reach::Backlog => false,
            Reach::Both | Reach::Replay(_) => is_kept || self.backlog_from(reach) <= offset,
        }
    }

    /// Returns the offset of the next entry.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn evicted_below(&self) -> u64 {
        self.evicted_below
    }

    /// Adds a chunk without members.
    pub(super) fn add_chunk(&mut self, chunk: Arc<Chunk<T>>) {
        Arc::make_mut(&mut self.chunks).push(chunk);
        self.cursors.push(u64::MAX);
    }

    /// Records that a chunk has its first member.
    pub(super) fn begin_chunk(&mut self, chunk: usize) {
        self.cursors[chunk] = self.next;
    }

    /// Appends an entry.
    pub(super) fn push(&mut self, entry: Arc<Entry<T>>, limits: Limits<'_>) -> Removed<T> {
        let mut removed = Removed::default();
        let offset = self.next;
        self.next += 1;
        let bytes = entry.bytes();
        let has_key = match &entry.key {
            Some(key) if limits.overflow == Overflow::Latest => {
                self.supersede(key, offset, bytes, limits, &mut removed)
            }
            _ => false,
        };
        self.add_bytes(bytes, limits);
        self.entries.push_back(Logged {
            offset,
            has_key,
            is_newest: has_key,
            entry,
        });
        removed
    }

    /// Removes the older entry with this key. Returns whether the new one is kept as the latest.
    fn supersede(
        &mut self,
        key: &Key,
        offset: u64,
        bytes: usize,
        limits: Limits<'_>,
        removed: &mut Removed<T>,
    ) -> bool {
        let delivered = self.delivered();
        let latest = self.latest.get_or_insert_default();
        let old = latest.offsets.remove(key);
        if let Some(at) = old.and_then(|old| find(&self.entries, old)) {
            latest.bytes -= self.entries[at].entry.bytes();
            self.entries[at].is_newest = false;
            // Members that keep up get both.
            if self.entries[at].offset < delivered {
                removed.0.extend(self.entries.remove(at));
            }
        }
        let has_room = latest.offsets.len() < MAX_KEYS && latest.bytes + bytes <= limits.bytes;
        if has_room {
            latest.offsets.insert(key.clone(), offset);
            latest.bytes += bytes;
        }
        for Logged { entry, .. } in &removed.0 {
            self.bytes -= entry.bytes();
            limits.all.fetch_sub(entry.bytes(), Ordering::Relaxed);
        }
        has_room
    }

    fn add_bytes(&mut self, bytes: usize, limits: Limits<'_>) {
        self.bytes += bytes;
        limits.all.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the first offset that a chunk has not delivered.
    fn delivered(&self) -> u64 {
        let slowest = self.cursors.iter().copied().min();
        slowest.unwrap_or(u64::MAX).min(self.next)
    }

    /// Removes what nobody needs, and what exceeds the backlog. Returns whether it still exceeds the backlog because
    /// of a chunk that has not delivered.
    pub(super) fn trim(&mut self, limits: Limits<'_>, removed: &mut Removed<T>) -> bool {
        let delivered = self.delivered();
        if self.behind == 0 {
            self.remove_front(delivered, limits, removed);
            return self.is_over(limits);
        }
        while self.is_over(limits) {
            let first = self.entries.iter().position(|logged| !logged.is_newest);
            let Some(first) = first.filter(|at| self.entries[*at].offset < delivered) else {
                // If only keyed entries are left, these have limits of their own.
                return self.delivered() < self.next;
            };
            if let Some(logged) = self.entries.remove(first) {
                self.evicted_below = logged.offset + 1;
                self.remove_bytes(logged.entry.bytes(), limits);
                removed.0.push_back(logged);
            }
        }
        false
    }

    fn is_over(&self, limits: Limits<'_>) -> bool {
        self.entries.len() > limits.messages.saturating_add(self.keys())
            || self.bytes > limits.bytes.saturating_add(self.keyed_bytes())
            || limits.all.load(Ordering::Relaxed) > limits.max_all
    }

    fn keys(&self) -> usize {
        let latest = self.latest.as_ref();
        latest.map_or(0, |latest| latest.offsets.len())
    }

    fn keyed_bytes(&self) -> usize {
        self.latest.as_ref().map_or(0, |latest| latest.bytes)
    }

    /// Removes all entries below an offset.
    fn remove_front(&mut self, below: u64, limits: Limits<'_>, removed: &mut Removed<T>) {
        if below == self.next {
            self.remove_bytes(self.bytes, limits);
            self.latest = None;
            let entries = mem::take(&mut self.entries);
            match removed.0.is_empty() {
                true => removed.0 = entries,
                false => removed.0.extend(entries),
            }
            return;
        }
        while let Some(logged) = self.entries.pop_front_if_below(below) {
            self.remove_bytes(logged.entry.bytes(), limits);
            self.forget_key(&logged);
            removed.0.push_back(logged);
        }
        if self.entries.capacity() > KEPT.max(4 * self.entries.len()) {
            self.entries.shrink_to(KEPT.max(2 * self.entries.len()));
        }
    }

    fn remove_bytes(&mut self, bytes: usize, limits: Limits<'_>) {
        self.bytes -= bytes;
        limits.all.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn forget_key(&mut self, logged: &Logged<T>) {
        let (Some(latest), Some(key), true) =
            (&mut self.latest, &logged.entry.key, logged.is_newest)
        else {
            return;
        };
        latest.offsets.remove(key);
        latest.bytes -= logged.entry.bytes();
    }

    /// Returns up to `max` entries that the chunk has to deliver.
    pub(super) fn undelivered(&self, chunk: usize, max: usize) -> Vec<Logged<T>> {
        let cursor = self.cursors[chunk];
        let entries = self.after(cursor);
        entries.take(max).cloned().collect()
    }

    /// Returns the entries from an offset on.
    pub(super) fn after(&self, offset: u64) -> impl Iterator<Item = &Logged<T>> {
        let first = self
            .entries
            .partition_point(|logged| logged.offset < offset);
        self.entries.range(first..)
    }

    /// Moves the cursor of a chunk. Returns whether there is more to deliver.
    pub(super) fn delivered_up_to(&mut self, chunk: usize, offset: u64) -> bool {
        if self.cursors[chunk] != u64::MAX {
            self.cursors[chunk] = offset;
        }
        offset < self.next
    }

    /// Records that a chunk has no member any more.
    pub(super) fn end_chunk(&mut self, chunk: usize) {
        self.cursors[chunk] = u64::MAX;
    }
}

/// Returns where the entry with this offset is.
fn find<T>(entries: &VecDeque<Logged<T>>, offset: u64) -> Option<usize> {
    entries
        .binary_search_by_key(&offset, |logged| logged.offset)
        .ok()
}

trait PopFront<T> {
    fn pop_front_if_below(&mut self, offset: u64) -> Option<Logged<T>>;
}

impl<T> PopFront<T> for VecDeque<Logged<T>> {
    fn pop_front_if_below(&mut self, offset: u64) -> Option<Logged<T>> {
        self.front().filter(|logged| logged.offset < offset)?;
        self.pop_front()
    }
}
