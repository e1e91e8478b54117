//! The history of a room: its newest messages, which have positions.
//!
//! It is a window: the messages at the offsets from `first` to `top`, without a hole. One that cannot be kept empties
//! it, because what is before a hole is of no use to a member that comes back.

#[cfg(test)]
mod tests;

use std::{
    cmp,
    collections::VecDeque,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::{
    position::{Position, tag},
    recovery::{GapReason, Listener, MAX_REPLAY, Parties, Recovery, Replayed, Resume},
};
use crate::time::Moment;

/// How much a room keeps for members that come back: the setting of
/// [`RoomConfig::history`](super::RoomConfig::history).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_websocket::hub::{History, RoomConfig};
///
/// let history = History::new().max_messages(500).max_age(Duration::from_secs(3600));
/// let config: RoomConfig = RoomConfig::new().history(history);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct History {
    messages: usize,
    bytes: usize,
    age: Duration,
}

impl History {
    /// Makes the default settings: 100 messages, 256 KiB, 5 minutes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            messages: 100,
            bytes: 256 * 1024,
            age: Duration::from_secs(300),
        }
    }

    /// Sets the most messages. Default: 100.
    #[must_use]
    pub const fn max_messages(mut self, messages: usize) -> Self {
        self.messages = messages;
        self
    }

    /// Sets the most bytes: the payloads, also in their compressed forms, and 320 for each message. Default: 256 KiB.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets how long a message is kept. Default: 5 minutes.
    ///
    /// A room with history stays for that long after its last message and after its last member, and counts as one of
    /// [`HubConfig::max_rooms`](super::HubConfig::max_rooms).
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    pub(super) const fn age(&self) -> Duration {
        self.age
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

/// A message that is kept.
#[derive(Debug)]
pub(super) struct Kept<E> {
    pub(super) entry: E,
    pub(super) parties: Parties,
    /// Where the payload is in what members get.
    pub(super) payload: Range<usize>,
    pub(super) bytes: usize,
    pub(super) at: Moment,
}

/// The bytes in the histories of all rooms, and their limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget<'a> {
    pub(super) used: &'a AtomicUsize,
    pub(super) max: usize,
}

impl Budget<'_> {
    fn take(self, bytes: usize) -> bool {
        let fits = |used: usize| {
            let sum = used.saturating_add(bytes);
            (sum <= self.max).then_some(sum)
        };
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.is_ok()
    }

    fn give_back(self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Window<E> {
    limits: History,
    /// The run of the node.
    boot: u64,
    epoch: u64,
    /// The offset of the newest message, kept or not; 0 before the first one.
    top: u64,
    /// The number of messages in earlier epochs.
    before: u64,
    kept: VecDeque<Kept<E>>,
    bytes: usize,
    /// When the room was last in use.
    used: Option<Moment>,
}

/// Where a member begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Cut {
    pub(super) recovery: Recovery,
    /// The newest message.
    pub(super) position: Position,
    /// The first message to be replayed, from the first one that is kept, and how many are.
    pub(super) first: usize,
    pub(super) messages: usize,
}

impl<E> Window<E> {
    pub(super) const fn new(limits: History, boot: u64, epoch: u64) -> Self {
        Self {
            limits,
            boot,
            epoch,
            top: 0,
            before: 0,
            kept: VecDeque::new(),
            bytes: 0,
            used: None,
        }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    const fn at(&self, offset: u64) -> Position {
        Position {
            epoch: self.epoch,
            offset,
            tag: match offset {
                0 => 0,
                _ => tag(self.boot, self.before + offset),
            },
        }
    }

    /// Returns the position of the newest message.
    pub(super) const fn position(&self) -> Position {
        self.at(self.top)
    }

    /// Returns the position of the next message.
    pub(super) const fn next_position(&self) -> Position {
        self.at(self.top + 1)
    }

    /// Returns the offset of the first message that is kept.
    fn first(&self) -> u64 {
        self.top + 1 - self.kept.len() as u64
    }

    /// Adds the next message, as far as there is room. Returns how many messages the limit over all rooms has cost, and
    /// adds to `removed` what has left.
    pub(super) fn push(
        &mut self,
        kept: Kept<E>,
        budget: Budget<'_>,
        removed: &mut impl Extend<E>,
    ) -> u64 {
        self.top += 1;
        self.touch(kept.at);
        let mut refused = 0;
        let fits = kept.bytes <= self.limits.bytes && self.limits.messages > 0;
        while !self.kept.is_empty()
            && (!fits
                || self.kept.len() >= self.limits.messages
                || self.bytes + kept.bytes > self.limits.bytes)
        {
            self.pop(budget, removed);
        }
        if !fits {
            removed.extend([kept.entry]);
            return 0;
        }
        while !budget.take(kept.bytes) {
            refused += 1;
            if !self.pop(budget, removed) {
                removed.extend([kept.entry]);
                return refused;
            }
        }
        self.bytes += kept.bytes;
        let len = self.kept.len();
        if len == self.kept.capacity() {
            // Grows by half: spare capacity is not counted.
            self.kept.reserve_exact((len / 2).max(4));
        }
        self.kept.push_back(kept);
        refused
    }

    /// Counts more bytes for a message, if it is kept, and removes the oldest ones if these are too many.
    pub(super) fn grow(
        &mut self,
        is_at: impl Fn(&E) -> cmp::Ordering,
        bytes: usize,
        budget: Budget<'_>,
        removed: &mut impl Extend<E>,
    ) {
        let Ok(at) = self.kept.binary_search_by(|kept| is_at(&kept.entry)) else {
            return;
        };
        let mut popped = 0;
        while !budget.take(bytes) {
            self.pop(budget, removed);
            popped += 1;
            if popped > at {
                return;
            }
        }
        self.kept[at - popped].bytes += bytes;
        self.bytes += bytes;
        while self.bytes > self.limits.bytes {
            self.pop(budget, removed);
        }
    }

    fn pop(&mut self, budget: Budget<'_>, removed: &mut impl Extend<E>) -> bool {
        let Some(kept) = self.kept.pop_front() else {
            return false;
        };
        self.bytes -= kept.bytes;
        budget.give_back(kept.bytes);
        removed.extend([kept.entry]);
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        true
    }

    /// Removes what is too old. Returns when there may be more to remove.
    pub(super) fn expire(
        &mut self,
        now: Moment,
        budget: Budget<'_>,
        removed: &mut impl Extend<E>,
    ) -> Moment {
        let age = self.limits.age;
        loop {
            match self.kept.front() {
                Some(kept) if now.since(kept.at) >= age => {
                    self.pop(budget, removed);
                }
                Some(kept) => return kept.at + age,
                None => return now + age,
            }
        }
    }

    /// Removes all messages, and begins a new epoch.
    pub(super) fn clear(&mut self, epoch: u64, budget: Budget<'_>, removed: &mut impl Extend<E>) {
        while self.pop(budget, removed) {}
        self.before += self.top;
        self.top = 0;
        self.epoch = epoch;
    }

    /// Records that the room was in use.
    pub(super) fn touch(&mut self, now: Moment) {
        self.used = self.used.max(Some(now));
    }

    /// Returns when a room without members ends; `None` while a message is kept.
    pub(super) fn ends_at(&self, now: Moment) -> Option<Moment> {
        let end = self.used.map_or(now, |used| used + self.limits.age);
        self.kept.is_empty().then_some(end)
    }

    /// Returns the message after a position: its place among those that are kept.
    fn after(&self, position: Position) -> Result<usize, GapReason> {
        let Position { epoch, offset, .. } = position;
        let first = self.first();
        if position.is_unknown() {
            Err(GapReason::Unknown)
        } else if epoch != self.epoch {
            Err(GapReason::Epoch)
        } else if offset > self.top {
            Err(GapReason::Unknown)
        } else if offset < first && offset != self.top && !(offset == 0 && first == 1) {
            // The message itself has to be there, unless it is the newest one of all: nothing has come after that.
            Err(GapReason::Trimmed)
        } else if position != self.at(offset) {
            Err(GapReason::Diverged)
        } else {
            Ok((offset + 1 - first.min(offset + 1)) as usize)
        }
    }

    /// Determines where a member begins.
    pub(super) fn cut(&self, resume: &Resume, listener: &Listener) -> Cut {
        let mut cut = Cut {
            recovery: Recovery::Fresh,
            position: self.position(),
            first: self.kept.len(),
            messages: 0,
        };
        if let Some(position) = resume.position {
            let first = self.after(position);
            match first.and_then(|first| self.replay(first, listener)) {
                Ok(recovered) => return recovered,
                Err(reason) => cut.recovery = Recovery::Gap { reason },
            }
        }
        let mut bytes = 0;
        for (at, kept) in self.kept.iter().enumerate().rev() {
            if listener.gets(&kept.parties) != Replayed::Yes {
                continue;
            }
            bytes += kept.payload.len();
            let most = resume.last.min(MAX_REPLAY.0);
            if cut.messages >= most || bytes > MAX_REPLAY.1 {
                break;
            }
            (cut.first, cut.messages) = (at, cut.messages + 1);
        }
        cut
    }

    /// Returns where a member begins that has missed the messages from a place on, unless these are too many.
    fn replay(&self, first: usize, listener: &Listener) -> Result<Cut, GapReason> {
        let (mut messages, mut withheld, mut bytes) = (0, 0, 0);
        for kept in self.kept.range(first..) {
            match listener.gets(&kept.parties) {
                Replayed::Yes => {
                    messages += 1;
                    bytes += kept.payload.len();
                }
                Replayed::Withheld => withheld += 1,
                Replayed::No => {}
            }
            if messages > MAX_REPLAY.0 || bytes > MAX_REPLAY.1 {
                return Err(GapReason::TooMuch);
            }
        }
        Ok(Cut {
            recovery: Recovery::Recovered { messages, withheld },
            position: self.position(),
            first,
            messages,
        })
    }

    /// Returns the messages after a position, with their positions; without one, all.
    pub(super) fn messages(
        &self,
        after: Option<Position>,
    ) -> Result<impl DoubleEndedIterator<Item = (Position, &Kept<E>)> + ExactSizeIterator, GapReason>
    {
        let first = match after {
            Some(position) => self.after(position)?,
            None => 0,
        };
        Ok(self.with_positions(first))
    }

    /// Returns the messages from the first one on for which `is_before` is false.
    pub(super) fn from(
        &self,
        is_before: impl Fn(&E) -> bool,
    ) -> impl Iterator<Item = (Position, &Kept<E>)> {
        let first = self.kept.partition_point(|kept| is_before(&kept.entry));
        self.with_positions(first)
    }

    /// Returns the messages from a place on, with their positions.
    fn with_positions(
        &self,
        first: usize,
    ) -> impl DoubleEndedIterator<Item = (Position, &Kept<E>)> + ExactSizeIterator {
        let offset = self.first() + first as u64;
        let kept = self.kept.range(first..).enumerate();
        kept.map(move |(at, kept)| (self.at(offset + at as u64), kept))
    }

    pub(super) fn get(&self, at: usize) -> Option<&Kept<E>> {
        self.kept.get(at)
    }
}
