//! The log of a room: what its members have not got yet, each entry once.
//!
//! An entry is kept until every chunk has delivered it and no member is behind, at most up to the room's backlog.
//! Entries that leave are returned to the caller, who drops them without the lock: a payload may run the user's code
//! when it is dropped.

mod reach;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

pub(super) use self::reach::{Reach, Replay};
use super::{
    Chunk,
    config::Overflow,
    counts::{Counters, HubCounts, RareCounters, Tally},
    entry::{Entry, Logged},
    history::Window,
    names::{Key, MemberId},
    report::{Line, Missed},
};
use crate::time::Moment;

/// The most keys of a room with [`Overflow::Latest`].
pub(super) const MAX_KEYS: usize = 1024;
/// The bytes in a log that the hub does not count while no member is behind. So rooms whose members keep up share no
/// counter.
const UNCOUNTED: usize = 16 * 1024;
/// The capacity that an empty log keeps.
const KEPT: usize = 4;

#[derive(Debug)]
pub(super) struct Log<T> {
    next: u64,
    entries: VecDeque<Logged<T>>,
    bytes: usize,
    /// The first offset that the first chunk has not delivered; `u64::MAX` if it is empty.
    cursor: u64,
    /// The chunks after the first one. Most rooms have none.
    further: Option<Box<Further<T>>>,
    /// The members of the room.
    pub(super) members: u32,
    counters: Counters,
    /// Slow members, history, and rare counts: boxed, because most rooms do not need it.
    rare: Option<Box<Rare<T>>>,
}

/// The chunks of a room after its first one.
#[derive(Debug)]
struct Further<T> {
    chunks: FurtherChunks<T>,
    /// Their cursors, as that of the first one.
    cursors: Vec<u64>,
}

pub(super) type FurtherChunks<T> = Arc<Vec<Arc<Chunk<T>>>>;

/// What a log knows about members that are or were slow, and its history.
#[derive(Debug)]
struct Rare<T> {
    /// The members that are behind and for whom entries are kept.
    behind: usize,
    /// The bytes of this room in the count of the hub.
    counted: usize,
    /// An entry below this offset may have left although somebody was behind.
    evicted_below: u64,
    latest: Option<Latest>,
    /// In a room with history.
    history: Option<Box<Window<Logged<T>>>>,
    /// The keys of silent members, in a room with history: a replay asks whom a message has left out.
    silent_keys: BTreeMap<MemberId, Key>,
    counters: RareCounters,
    missed: Missed,
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self {
            behind: 0,
            counted: 0,
            evicted_below: 0,
            latest: None,
            history: None,
            silent_keys: BTreeMap::new(),
            counters: RareCounters::default(),
            missed: Missed::default(),
        }
    }
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
            cursor: u64::MAX,
            further: None,
            members: 0,
            counters: Counters::default(),
            rare: None,
        }
    }
}

impl<T> Log<T> {
    /// Returns the offset of the next entry.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn evicted_below(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.evicted_below)
    }

    /// Returns the chunks after the first one.
    pub(super) fn further(&self) -> Option<FurtherChunks<T>> {
        let further = self.further.as_ref()?;
        Some(Arc::clone(&further.chunks))
    }

    /// Adds chunks without members until there is one with this number.
    pub(super) fn add_chunks(&mut self, number: usize) {
        if number == 0 {
            return;
        }
        let further = self.further.get_or_insert_with(|| {
            Box::new(Further {
                chunks: Arc::default(),
                cursors: Vec::new(),
            })
        });
        while further.cursors.len() < number {
            Arc::make_mut(&mut further.chunks).push(Arc::default());
            further.cursors.push(u64::MAX);
        }
    }

    fn cursor(&self, chunk: usize) -> u64 {
        let further = self.further.as_ref().filter(|_| chunk > 0);
        further.map_or(self.cursor, |further| further.cursors[chunk - 1])
    }

    fn cursor_mut(&mut self, chunk: usize) -> &mut u64 {
        match (&mut self.further, chunk) {
            (Some(further), 1..) => &mut further.cursors[chunk - 1],
            _ => &mut self.cursor,
        }
    }

    /// Records that a chunk has its first member.
    pub(super) fn begin_chunk(&mut self, chunk: usize) {
        *self.cursor_mut(chunk) = self.next;
    }

    /// Records that a member has come.
    pub(super) const fn join(&mut self) {
        self.members += 1;
        self.counters.joined += 1;
    }

    /// Records that more members are behind, for whom entries are kept.
    pub(super) fn add_behind(&mut self, members: usize, limits: Limits<'_>) {
        if members > 0 {
            self.rare.get_or_insert_default().behind += members;
            self.settle(limits);
        }
    }

    /// Records that a member is not behind any more.
    pub(super) fn remove_behind(&mut self, limits: Limits<'_>) {
        if let Some(rare) = &mut self.rare {
            rare.behind -= 1;
        }
        self.settle(limits);
    }

    fn behind(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.behind)
    }

    /// Returns the bytes that the hub has to count.
    fn to_count(&self) -> usize {
        match self.behind() {
            0 => self.bytes.saturating_sub(UNCOUNTED),
            _ => self.bytes,
        }
    }

    /// Returns the bytes that the hub counts.
    fn counted(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.counted)
    }

    /// Has the hub count this room again.
    fn settle(&mut self, limits: Limits<'_>) {
        let (before, now) = (self.counted(), self.to_count());
        if now == before {
            return;
        }
        self.rare.get_or_insert_default().counted = now;
        match now > before {
            true => limits.all.fetch_add(now - before, Ordering::Relaxed),
            false => limits.all.fetch_sub(before - now, Ordering::Relaxed),
        };
    }

    /// Counts what was done.
    pub(super) fn count(&mut self, tally: &Tally) {
        self.counters.add(tally);
        if tally.is_rare() {
            let rare = self.rare.get_or_insert_default();
            rare.counters.add(tally);
            rare.missed.add(tally.lost, tally.disconnected);
        }
    }

    pub(super) const fn count_sent(&mut self) {
        self.counters.sent += 1;
    }

    /// Returns the counters of what happens in few rooms.
    pub(super) fn rare_counters(&mut self) -> &mut RareCounters {
        &mut self.rare.get_or_insert_default().counters
    }

    /// Returns the next line of the log about slow members, if it is due.
    pub(super) fn line(&mut self, now: impl FnOnce() -> Moment) -> Option<Line> {
        let rare = self.rare.as_mut()?;
        rare.missed.due(now)
    }

    pub(super) fn counts(&self, overflow: Overflow) -> HubCounts {
        let rare = self.rare.as_ref().map(|rare| &rare.counters);
        self.counters.read(rare, overflow)
    }

    /// Takes the counts and the last line, because the room has ended: nothing will be counted any more.
    pub(super) fn end(&mut self, overflow: Overflow) -> (HubCounts, Option<Line>) {
        let counts = self.counts(overflow);
        self.counters = Counters::default();
        let line = self.rare.take().and_then(|mut rare| rare.missed.rest());
        (counts, line)
    }

    /// Appends an entry. The hub counts it with the next [`trim`](Self::trim): often an older one of its length leaves
    /// then, and publishers of other rooms need not wait for the counter.
    pub(super) fn push(&mut self, entry: Arc<Entry<T>>, limits: Limits<'_>) -> Removed<T> {
        let mut removed = Removed::default();
        let offset = self.next;
        self.next += 1;
        let bytes = entry.bytes();
        let place = match &entry.key {
            Some(key) if limits.overflow == Overflow::Latest => {
                self.supersede(key, offset, bytes, limits, &mut removed)
            }
            _ => None,
        };
        self.bytes += bytes;
        self.entries.push_back(Logged {
            offset,
            place,
            is_newest: place.is_some(),
            compressed: 0,
            entry,
        });
        removed
    }

    /// Removes the older entry with this key. Returns the place of the new one, if that is kept as the latest.
    fn supersede(
        &mut self,
        key: &Key,
        offset: u64,
        bytes: usize,
        limits: Limits<'_>,
        removed: &mut Removed<T>,
    ) -> Option<u64> {
        let mut place = offset;
        let delivered = self.delivered();
        let rare = self.rare.get_or_insert_default();
        let latest = rare.latest.get_or_insert_default();
        let old = latest.offsets.remove(key);
        if let Some(at) = old.and_then(|old| find(&self.entries, old)) {
            latest.bytes -= self.entries[at].bytes();
            self.entries[at].is_newest = false;
            place = self.entries[at].place.unwrap_or(offset);
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
        self.bytes -= removed.0.iter().map(Logged::bytes).sum::<usize>();
        has_room.then_some(place)
    }

    /// Counts the compressed forms that an entry got, if it has not left.
    pub(super) fn add_compressed(&mut self, offset: u64, bytes: usize, limits: Limits<'_>) {
        self.rare_counters().compressions += 1;
        let Some(at) = find(&self.entries, offset) else {
            return;
        };
        let logged = &mut self.entries[at];
        let before = logged.compressed;
        let added = u32::try_from(bytes).unwrap_or(u32::MAX);
        logged.compressed = before.saturating_add(added);
        let added = (logged.compressed - before) as usize;
        let latest = self.rare.as_mut().and_then(|rare| rare.latest.as_mut());
        if let (Some(latest), true) = (latest, logged.is_newest) {
            latest.bytes += added;
        }
        self.bytes += added;
        self.settle(limits);
    }

    /// Returns the first offset that a chunk has not delivered.
    fn delivered(&self) -> u64 {
        let further = self.further.iter().flat_map(|further| &further.cursors);
        let slowest = further.copied().fold(self.cursor, u64::min);
        slowest.min(self.next)
    }

    /// Removes what nobody needs, and what exceeds the backlog. Returns whether it still exceeds the backlog because
    /// of a chunk that has not delivered.
    pub(super) fn trim(&mut self, limits: Limits<'_>, removed: &mut Removed<T>) -> bool {
        let delivered = self.delivered();
        let is_over = match self.behind() {
            0 => {
                self.remove_front(delivered, removed);
                self.is_over(limits)
            }
            _ => !self.evict(delivered, limits, removed) && delivered < self.next,
        };
        self.settle(limits);
        is_over
    }

    /// Removes the oldest entries while the log exceeds the backlog. Returns whether it could remove enough.
    fn evict(&mut self, delivered: u64, limits: Limits<'_>, removed: &mut Removed<T>) -> bool {
        while self.is_over(limits) {
            // If only keyed entries are left, these have limits of their own.
            let first = self.entries.iter().position(|logged| !logged.is_newest);
            let Some(first) = first.filter(|at| self.entries[*at].offset < delivered) else {
                return false;
            };
            if let Some(logged) = self.entries.remove(first) {
                self.rare.get_or_insert_default().evicted_below = logged.offset + 1;
                self.bytes -= logged.bytes();
                removed.0.push_back(logged);
            }
        }
        true
    }

    fn is_over(&self, limits: Limits<'_>) -> bool {
        let latest = self.latest();
        let (keys, keyed_bytes) =
            latest.map_or((0, 0), |latest| (latest.offsets.len(), latest.bytes));
        self.entries.len() > limits.messages.saturating_add(keys)
            || self.bytes > limits.bytes.saturating_add(keyed_bytes)
            || self.all(limits.all) > limits.max_all
    }

    /// Returns the bytes in all rooms, with those of this one that the hub has not counted yet.
    fn all(&self, counted: &AtomicUsize) -> usize {
        let others = counted
            .load(Ordering::Relaxed)
            .saturating_sub(self.counted());
        others + self.to_count()
    }

    fn latest(&self) -> Option<&Latest> {
        self.rare.as_ref()?.latest.as_ref()
    }

    /// Removes all entries below an offset.
    fn remove_front(&mut self, below: u64, removed: &mut Removed<T>) {
        if below == self.next {
            self.bytes = 0;
            if let Some(rare) = &mut self.rare {
                rare.latest = None;
            }
            let entries = mem::take(&mut self.entries);
            match removed.0.is_empty() {
                true => removed.0 = entries,
                false => removed.0.extend(entries),
            }
            return;
        }
        while let Some(logged) = self.entries.pop_front_if_below(below) {
            self.bytes -= logged.bytes();
            self.forget_key(&logged);
            removed.0.push_back(logged);
        }
        if self.entries.capacity() > KEPT.max(4 * self.entries.len()) {
            self.entries.shrink_to(KEPT.max(2 * self.entries.len()));
        }
    }

    fn forget_key(&mut self, logged: &Logged<T>) {
        let latest = self.rare.as_mut().and_then(|rare| rare.latest.as_mut());
        let (Some(latest), Some(key), true) = (latest, &logged.entry.key, logged.is_newest) else {
            return;
        };
        latest.offsets.remove(key);
        latest.bytes -= logged.bytes();
    }

    /// Returns up to `max` entries that the chunk has to deliver.
    pub(super) fn undelivered(&self, chunk: usize, max: usize) -> Vec<Logged<T>> {
        let entries = self.after(self.cursor(chunk));
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
        let cursor = self.cursor_mut(chunk);
        if *cursor != u64::MAX {
            *cursor = offset;
        }
        offset < self.next
    }

    /// Records that a chunk has no member any more.
    pub(super) fn end_chunk(&mut self, chunk: usize) {
        *self.cursor_mut(chunk) = u64::MAX;
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
