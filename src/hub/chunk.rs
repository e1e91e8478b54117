//! A chunk: up to 128 members of a room, to whom one task delivers.

use std::{
    cell::OnceCell,
    hint::black_box,
    sync::{
        PoisonError,
        // Not modelled: models have no compression.
        atomic::{AtomicBool as Flag, Ordering},
    },
};

use super::{
    after::After,
    compression::{Wanted, wanted},
    config::Overflow,
    entry::{Kind, Logged},
    names::MemberId,
    seat::Seat,
};
use crate::{
    codec::{SharedFrames, SharedMessage},
    socket::{
        Turn,
        sync::{AtomicBool, Mutex, MutexGuard},
    },
};

/// The members of a chunk.
pub(super) const SEATS: usize = 128;

/// The members whose memory is fetched together.
const GROUP: usize = 16;

#[derive(Debug)]
pub(super) struct Chunk<T> {
    seats: Mutex<Seats<T>>,
    /// A task was spawned that has not looked for entries yet.
    scheduled: AtomicBool,
    /// A member shares compressed messages, or did.
    shares: Flag,
}

#[derive(Debug)]
pub(super) struct Seats<T> {
    /// The first offset that was not delivered.
    pub(super) next: u64,
    seats: Vec<Option<Seat<T>>>,
    pub(super) members: u32,
    /// The forms in which members share compressed messages. `None` if it has to be computed.
    wanted: Option<Box<[Wanted]>>,
}

impl<T> Default for Chunk<T> {
    fn default() -> Self {
        Self {
            seats: Mutex::new(Seats {
                next: 0,
                seats: Vec::new(),
                members: 0,
                wanted: None,
            }),
            scheduled: AtomicBool::new(false),
            shares: Flag::new(false),
        }
    }
}

impl<T> Chunk<T> {
    /// Notes that a member will enter that shares compressed messages. Call this before its place in the log is
    /// determined.
    pub(super) fn expect_sharing(&self) {
        self.shares.store(true, Ordering::Relaxed);
    }

    /// Returns the forms in which members share compressed messages.
    pub(super) fn wanted(&self) -> Box<[Wanted]> {
        match self.shares.load(Ordering::Relaxed) {
            true => self.lock().wanted().into(),
            false => Box::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Seats<T>> {
        // No code of others runs under the lock.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a task has to be spawned.
    pub(super) fn schedule(&self) -> bool {
        !self.scheduled.swap(true, Ordering::SeqCst)
    }

    /// Call this before looking for entries: one that comes later schedules a new task.
    pub(super) fn begin(&self) {
        self.scheduled.store(false, Ordering::SeqCst);
    }

    /// Returns whether a task that has found entries goes on, and [begins](Self::begin) again. It does not if there is
    /// nothing more, or if a new task was spawned since it began: then that one goes on.
    pub(super) fn goes_on(&self, is_more: bool) -> bool {
        is_more && self.schedule()
    }
}

impl<T> Seats<T> {
    pub(super) fn enter(&mut self, seat: Seat<T>) {
        let at = seat.member.id().place() % SEATS;
        if self.seats.len() <= at {
            if self.seats.capacity() <= at {
                // Grows by half, because most rooms are small.
                self.seats
                    .reserve_exact((at + 1 - self.seats.len()).max(self.seats.len() / 2));
            }
            self.seats.resize_with(at + 1, || None);
        }
        self.seats[at] = Some(seat);
        self.members += 1;
        self.wanted = None;
    }

    pub(super) fn seat(&mut self, id: MemberId) -> Option<&mut Seat<T>> {
        let seat = self.seats.get_mut(id.place() % SEATS)?.as_mut();
        seat.filter(|seat| seat.member.id() == id)
    }

    pub(super) fn leave(&mut self, id: MemberId) -> Option<Seat<T>> {
        self.seat(id)?;
        let left = self.seats[id.place() % SEATS].take();
        self.members -= 1;
        self.wanted = None;
        if self.members == 0 {
            self.seats = Vec::new();
        }
        left
    }

    fn wanted(&mut self) -> &[Wanted] {
        let seats = self.seats.iter().flatten();
        self.wanted
            .get_or_insert_with(|| wanted(seats.map(|seat| &*seat.member)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Seat<T>> {
        self.seats.iter_mut().flatten()
    }
}

impl<T: Send + Sync + 'static> Seats<T> {
    /// Delivers entries to all members. Returns by how many the number of members that are behind has grown.
    pub(super) fn deliver(
        &mut self,
        entries: &[Logged<T>],
        overflow: Overflow,
        after: &mut After<T>,
    ) -> usize {
        let Some(mut new) = NewEntries::new(entries, overflow) else {
            return 0;
        };
        let (mut written, mut behind) = (0, 0);
        for group in self.seats.chunks_mut(GROUP) {
            fetch(group);
            for seat in group.iter_mut().flatten() {
                // Most members are like this. The code between two writes is short, because the kernel takes the caches.
                let writes = |frames| seat.member.link().write_lent(frames, &mut after.wakers);
                if seat.is_up_to_date() && new.frames().is_some_and(writes) {
                    written += entries.len() as u64;
                } else {
                    behind += usize::from(new.deliver(seat, after));
                }
            }
        }
        after.tally.addressed += written;
        after.tally.delivered += written;
        self.next = new.end;
        behind
    }
}

/// Entries that are new for a chunk.
struct NewEntries<'a, T> {
    entries: &'a [Logged<T>],
    /// The offset of the first one, and the one behind the last.
    first: u64,
    end: u64,
    overflow: Overflow,
    /// The messages, if all entries are messages for all members: most members get exactly these.
    all: Option<Vec<&'a SharedMessage>>,
    /// These, encoded.
    frames: OnceCell<Option<SharedFrames>>,
    own: Picked<'a, T>,
}

impl<'a, T: Send + Sync + 'static> NewEntries<'a, T> {
    /// Returns `None` if there are none.
    fn new(entries: &'a [Logged<T>], overflow: Overflow) -> Option<Self> {
        let is_plain =
            |logged: &Logged<T>| logged.entry.except.is_none() && logged.entry.is_message();
        let all = entries
            .iter()
            .map(|logged| logged.entry.shared().filter(|_| is_plain(logged)));
        Some(Self {
            entries,
            first: entries.first()?.offset,
            end: entries.last()?.offset + 1,
            overflow,
            all: all.collect(),
            frames: OnceCell::new(),
            own: Picked::default(),
        })
    }

    /// Returns the encoded messages, if all members get all and connections may share them.
    #[inline]
    fn frames(&self) -> Option<&SharedFrames> {
        let all = self.all.as_ref()?;
        let frames = self.frames.get_or_init(|| SharedFrames::new(all));
        frames.as_ref()
    }

    /// Delivers to a member. Returns whether it has fallen behind.
    fn deliver(&mut self, seat: &mut Seat<T>, after: &mut After<T>) -> bool {
        let (entries, overflow) = (self.entries, self.overflow);
        if let Some(replay) = seat.replay() {
            // Entries from before its join are in its replay.
            let new = entries.partition_point(|logged| logged.offset < replay.end);
            seat.miss(&entries[new..], Overflow::CatchUp, &mut after.tally);
            return false;
        }
        if seat.is_behind() {
            seat.miss(entries, overflow, &mut after.tally);
            return false;
        }
        if let (Some(all), true) = (&self.all, seat.next() <= self.first) {
            after.tally.addressed += all.len() as u64;
            let taken = seat.offer(all, self.frames(), Turn::Live, after);
            if let Some(taken) = taken.filter(|taken| *taken < all.len()) {
                seat.fall_behind(&entries[taken..], overflow, &mut after.tally);
            }
        } else {
            let own = &mut self.own;
            own.pick(seat, entries);
            after.tally.addressed += own.count(0..own.entries.len());
            let taken = seat.offer(&own.messages, None, Turn::Live, after);
            if taken.is_none() {
                after.tally.unsent -= own.others(0..own.entries.len());
            }
            if let Some(taken) = taken {
                if own.entries[..taken].iter().any(|logged| logged.is_roster()) {
                    seat.has_got_roster();
                }
                after.tally.delivered -= own.others(0..taken);
                if let Some(at) = own.places.get(taken) {
                    seat.fall_behind(&entries[*at..], overflow, &mut after.tally);
                }
            }
        }
        seat.delivered_up_to(self.end);
        seat.is_behind()
    }
}

/// Reads a little of the connections of a group of members. So the processor waits for their memory at the same time,
/// and not for one after the other, as it would between the locks.
fn fetch<T>(seats: &[Option<Seat<T>>]) {
    let seats = seats.iter().flatten();
    black_box(seats.filter(|seat| seat.member.link().is_member()).count());
}

/// The entries for one member.
struct Picked<'a, T> {
    places: Vec<usize>,
    entries: Vec<&'a Logged<T>>,
    messages: Vec<&'a SharedMessage>,
}

impl<T> Default for Picked<'_, T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            entries: Vec::new(),
            messages: Vec::new(),
        }
    }
}

impl<'a, T> Picked<'a, T> {
    fn pick(&mut self, seat: &Seat<T>, entries: &'a [Logged<T>]) {
        self.places.clear();
        self.entries.clear();
        self.messages.clear();
        let mut needs_roster = seat.needs_roster();
        for (at, logged) in entries.iter().enumerate() {
            if !seat.is_for(logged) {
                continue;
            }
            if let Kind::News { news, .. } = &logged.entry.kind {
                if !news.is_for(needs_roster) {
                    continue;
                }
                needs_roster = false;
            }
            if let Some(message) = logged.entry.shared() {
                self.places.push(at);
                self.entries.push(logged);
                self.messages.push(message);
            }
        }
    }

    /// Returns the number of messages that are not news.
    fn count(&self, range: std::ops::Range<usize>) -> u64 {
        let messages = self.entries[range].iter();
        messages.filter(|logged| logged.entry.is_message()).count() as u64
    }

    /// Returns the number of news.
    fn others(&self, range: std::ops::Range<usize>) -> u64 {
        range.len() as u64 - self.count(range)
    }
}

impl<T> Logged<T> {
    fn is_roster(&self) -> bool {
        matches!(&self.entry.kind, Kind::News { news, .. } if news.is_roster())
    }
}
