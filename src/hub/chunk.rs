//! A chunk: up to 128 members of a room, to whom one task delivers.

use std::{
    mem,
    sync::{Arc, PoisonError, atomic::Ordering},
    task::Waker,
};

use super::{
    config::Overflow,
    counts::Tally,
    log::{Entry, Kind, Logged, Replay},
    member::{LeaveReason, Member},
    names::MemberId,
};
use crate::{
    codec::SharedMessage,
    socket::{
        Link, Offered, Turn,
        sync::{AtomicBool, Mutex, MutexGuard},
    },
    words::{CloseCode, CloseFrame, catch_panic},
};

/// The members of a chunk.
pub(super) const SEATS: usize = 128;
/// The most entries that are delivered at once.
pub(super) const BATCH: usize = 64;

#[derive(Debug)]
pub(super) struct Chunk<T> {
    /// Its number in its room.
    pub(super) number: usize,
    seats: Mutex<Seats<T>>,
    /// A task was spawned that has not looked for entries yet.
    scheduled: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Seats<T> {
    /// The first offset that was not delivered.
    pub(super) next: u64,
    seats: Vec<Option<Seat<T>>>,
    pub(super) members: u32,
    /// What is replayed to members that came back.
    replays: Vec<(MemberId, Arc<Replay>)>,
}

/// A member's place in the log.
#[derive(Debug)]
pub(super) struct Seat<T> {
    pub(super) member: Arc<Member<T>>,
    /// The first offset that it has to get.
    next: u64,
    /// Messages that wait for it in the log, with and without a key.
    waiting_with_key: u32,
    waiting: u32,
    /// Messages that it has missed.
    lost: u64,
    /// Those among them of which it was not told yet.
    untold: u64,
    pub(super) is_behind: bool,
    /// It gets the list of members instead of the next news.
    pub(super) needs_roster: bool,
    /// It is behind because it came back, and gets what it has missed.
    pub(super) is_replaying: bool,
    /// It gets nothing until it is started.
    pub(super) is_paused: bool,
}

/// What is left for a member that is behind.
#[derive(Debug)]
pub(super) struct Left<T> {
    /// The first messages that it gets.
    entries: Vec<Logged<T>>,
    /// The offset of the next one, if there are more.
    more: Option<u64>,
    /// The end of what was delivered to its chunk.
    end: u64,
    superseded: u64,
    lost: u64,
}

/// How a member is told that it has missed messages.
#[derive(Debug)]
pub(super) enum Notice {
    Message(SharedMessage),
    Close(CloseCode, &'static str),
    Nothing,
}

/// How far a member that was behind has got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    CaughtUp,
    /// It is woken when there is room for more, or it has left.
    Behind,
    /// There is room for more.
    More,
}

/// Why a member that is too slow is closed.
const TOO_SLOW: &str = "too slow";

/// How far a member is behind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Lag {
    /// The messages that wait for the member in the room's backlog.
    pub behind: u64,
    /// The messages that the member has missed since it joined, because it was too slow.
    pub lost: u64,
}

/// Why a member is closed.
type Closing = (CloseCode, &'static str);

/// What has to be done without the locks.
#[derive(Debug)]
pub(super) struct After<T> {
    wakers: Vec<Waker>,
    left: Vec<(Arc<Member<T>>, Option<Closing>)>,
    /// Payloads may run code of the user when they are dropped.
    pub(super) entries: Vec<Logged<T>>,
    pub(super) tally: Tally,
    /// A member that was behind has to get the list of members.
    pub(super) wants_roster: bool,
}

impl<T> Default for After<T> {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            left: Vec::new(),
            entries: Vec::new(),
            tally: Tally::default(),
            wants_roster: false,
        }
    }
}

impl<T: Send + Sync + 'static> After<T> {
    /// Wakes connections, and removes members that are gone or too slow.
    pub(super) fn run(&mut self) {
        for waker in self.wakers.drain(..) {
            // One that panics must not keep the others asleep.
            let _ = catch_panic(|| waker.wake());
        }
        for (member, close) in self.left.drain(..) {
            let has_left = member.leave(LeaveReason::Closed);
            if let (Some((code, reason)), true) = (close, has_left) {
                self.tally.disconnected += 1;
                let frame = CloseFrame::truncated(code, reason);
                member.link().close(frame);
            }
        }
        self.entries.clear();
    }
}

impl<T> Chunk<T> {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            seats: Mutex::new(Seats {
                next: 0,
                seats: Vec::new(),
                members: 0,
                replays: Vec::new(),
            }),
            scheduled: AtomicBool::new(false),
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
    }

    pub(super) fn seat(&mut self, id: MemberId) -> Option<&mut Seat<T>> {
        let seat = self.seats.get_mut(id.place() % SEATS)?.as_mut();
        seat.filter(|seat| seat.member.id() == id)
    }

    pub(super) fn leave(&mut self, id: MemberId) -> Option<Seat<T>> {
        self.seat(id)?;
        self.end_replay(id);
        let left = self.seats[id.place() % SEATS].take();
        self.members -= 1;
        if self.members == 0 {
            self.seats = Vec::new();
        }
        left
    }

    pub(super) fn begin_replay(&mut self, id: MemberId, replay: Replay) {
        self.replays.push((id, Arc::new(replay)));
    }

    pub(super) fn replay(&self, id: MemberId) -> Option<Arc<Replay>> {
        find_replay(&self.replays, id).map(Arc::clone)
    }

    /// Returns the end of what a member has to get, or may get by a replay.
    pub(super) fn end(&self, replay: Option<&Arc<Replay>>) -> u64 {
        self.next.max(replay.map_or(0, |replay| replay.end))
    }

    pub(super) fn end_replay(&mut self, id: MemberId) {
        self.replays.retain(|(own, _)| *own != id);
        if self.replays.is_empty() {
            self.replays = Vec::new();
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Seat<T>> {
        self.seats.iter_mut().flatten()
    }
}

fn find_replay(replays: &[(MemberId, Arc<Replay>)], id: MemberId) -> Option<&Arc<Replay>> {
    let found = replays.iter().find(|(own, _)| *own == id);
    found.map(|(_, replay)| replay)
}

impl<T: Send + Sync + 'static> Seats<T> {
    /// Delivers entries to all members. Returns by how many the number of members that are behind has grown.
    pub(super) fn deliver(
        &mut self,
        entries: &[Logged<T>],
        overflow: Overflow,
        after: &mut After<T>,
    ) -> usize {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return 0;
        };
        let (first, end) = (first.offset, last.offset + 1);
        let is_plain =
            |logged: &Logged<T>| logged.entry.except.is_none() && logged.entry.is_message();
        // What a member without anything special gets.
        let all: Option<Vec<&SharedMessage>> = entries
            .iter()
            .map(|logged| logged.entry.shared().filter(|_| is_plain(logged)))
            .collect();
        let mut own = Picked::default();
        let before = self.iter_mut().filter(|seat| seat.is_behind).count();
        let mut behind = 0;
        for seat in self.seats.iter_mut().flatten() {
            if seat.is_replaying {
                // What was there when it joined is replayed.
                let replay = find_replay(&self.replays, seat.member.id());
                let joined = replay.map_or(0, |replay| replay.end);
                let new = entries.partition_point(|logged| logged.offset < joined);
                seat.miss(&entries[new..], Overflow::CatchUp, &mut after.tally);
            } else if seat.is_behind {
                seat.miss(entries, overflow, &mut after.tally);
            } else if let (Some(all), true) = (&all, seat.next <= first) {
                let count = all.len() as u64;
                after.tally.addressed += count;
                let taken = seat.offer(all, Turn::Live, after);
                if let Some(taken) = taken.filter(|taken| *taken < all.len()) {
                    seat.fall_behind(&entries[taken..], overflow, &mut after.tally);
                }
            } else {
                own.pick(seat, entries);
                after.tally.addressed += own.count(0..own.entries.len());
                let messages = mem::take(&mut own.messages);
                let taken = seat.offer(&messages, Turn::Live, after);
                if taken.is_none() {
                    after.tally.unsent -= own.others(0..own.entries.len());
                }
                if let Some(taken) = taken {
                    if own.entries[..taken].iter().any(|logged| logged.is_roster()) {
                        seat.needs_roster = false;
                    }
                    after.tally.delivered -= own.others(0..taken);
                    if let Some(at) = own.places.get(taken) {
                        seat.fall_behind(&entries[*at..], overflow, &mut after.tally);
                    }
                }
            }
            if !seat.is_behind {
                // It may have joined behind these entries.
                seat.next = seat.next.max(end);
            }
            behind += usize::from(seat.is_behind);
        }
        self.next = end;
        behind - before
    }
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
        let mut needs_roster = seat.needs_roster;
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

impl<T> Seat<T> {
    pub(super) const fn new(member: Arc<Member<T>>, next: u64, needs_roster: bool) -> Self {
        Self {
            member,
            next,
            waiting_with_key: 0,
            waiting: 0,
            lost: 0,
            untold: 0,
            is_behind: false,
            needs_roster,
            is_replaying: false,
            is_paused: false,
        }
    }

    /// Makes it wait for the messages of a replay.
    pub(super) fn replay(&mut self, from: u64, messages: usize) {
        self.next = from;
        self.waiting = messages as u32;
        self.is_behind = true;
        self.is_replaying = true;
    }

    /// Records that `taken` messages of a replay that has not begun were taken out, and that the others are lost.
    pub(super) fn skip_replay(&mut self, replay: &Replay, taken: usize) -> Tally {
        let mut tally = Tally {
            delivered: taken as u64,
            ..Tally::default()
        };
        self.waiting -= replay.messages as u32;
        self.lose((replay.messages - taken) as u64, &mut tally);
        self.next = replay.end;
        tally
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Returns the messages that wait for the member.
    fn waiting(&self) -> u64 {
        u64::from(self.waiting) + u64::from(self.waiting_with_key)
    }

    /// Returns whether the member may get an entry.
    fn is_for(&self, logged: &Logged<T>) -> bool {
        let entry: &Entry<T> = &logged.entry;
        logged.offset >= self.next && entry.except != Some(self.member.id())
    }

    /// Returns whether the member, which is behind, may get an entry.
    fn waits(&self, logged: &Logged<T>) -> bool {
        let entry: &Entry<T> = &logged.entry;
        self.is_for(logged) && entry.is_message() && !entry.is_fleeting && !logged.is_superseded()
    }

    fn lose(&mut self, count: u64, tally: &mut Tally) {
        self.lost += count;
        self.untold += count;
        tally.lost += count;
    }

    /// Records entries for a member that is behind.
    fn miss(&mut self, entries: &[Logged<T>], overflow: Overflow, tally: &mut Tally) {
        for logged in entries {
            if !self.is_for(logged) {
                continue;
            }
            if !logged.entry.is_message() {
                self.needs_roster = true;
                continue;
            }
            tally.addressed += 1;
            self.wait_for(logged, overflow, tally);
        }
        self.skip_lost(entries, overflow);
    }

    /// Moves a member on for which nothing is kept.
    fn skip_lost(&mut self, entries: &[Logged<T>], overflow: Overflow) {
        if let (Some(last), Overflow::DropNewest) = (entries.last(), overflow) {
            self.next = self.next.max(last.offset + 1);
        }
    }

    fn wait_for(&mut self, logged: &Logged<T>, overflow: Overflow, tally: &mut Tally) {
        match overflow {
            _ if logged.entry.is_fleeting => {
                self.lost += 1;
                tally.lost += 1;
            }
            Overflow::DropNewest => self.lose(1, tally),
            // In the history there are no newest ones by key.
            Overflow::CatchUp => self.waiting += 1,
            _ if logged.has_key() => self.waiting_with_key += 1,
            _ => self.waiting += 1,
        }
    }

    /// Records that the member has not taken these entries, which were addressed to it.
    fn fall_behind(&mut self, entries: &[Logged<T>], overflow: Overflow, tally: &mut Tally) {
        if let Some(first) = entries.first() {
            self.next = self.next.max(first.offset);
        }
        for logged in entries {
            if !self.is_for(logged) {
                continue;
            }
            match logged.entry.is_message() {
                true => self.wait_for(logged, overflow, tally),
                false => self.needs_roster = true,
            }
        }
        self.skip_lost(entries, overflow);
        self.is_behind = true;
    }

    /// Returns the messages that the member has missed because they left the log.
    fn missed<'a>(&self, left: impl Iterator<Item = &'a Logged<T>>) -> (u64, u64)
    where
        T: 'a,
    {
        let (mut with_key, mut without) = (0, 0);
        for logged in left {
            if self.waits(logged) {
                match logged.has_key() {
                    true => with_key += 1,
                    false => without += 1,
                }
            }
        }
        (
            u64::from(self.waiting_with_key).saturating_sub(with_key),
            u64::from(self.waiting).saturating_sub(without),
        )
    }

    /// Returns what became of the messages that waited for a member that has left. `left` has the entries that are left
    /// for it.
    pub(super) fn end<'a>(&self, left: impl Iterator<Item = &'a Logged<T>>) -> Tally
    where
        T: 'a,
    {
        let (superseded, lost) = self.missed(left);
        Tally {
            superseded,
            lost,
            unsent: self.waiting() - superseded - lost,
            ..Tally::default()
        }
    }

    /// Returns what is left for it. `all` has the entries that are left, from its place up to `end`; `is_whole` if
    /// none of them is missing.
    pub(super) fn left<'a, I: Iterator<Item = &'a Logged<T>>>(
        &self,
        all: impl Fn() -> I,
        end: u64,
        is_whole: bool,
    ) -> Left<T>
    where
        T: 'a,
    {
        let (superseded, lost) = match is_whole {
            true => (0, 0),
            false => self.missed(all()),
        };
        let mut waiting = all().filter(|logged| self.waits(logged));
        let entries = waiting.by_ref().take(BATCH).cloned().collect();
        Left {
            entries,
            more: waiting.next().map(|logged| logged.offset),
            end,
            superseded,
            lost,
        }
    }

    /// Returns how far the member is behind. `left` has the entries that are left for it.
    pub(super) fn lag<'a>(&self, left: impl Iterator<Item = &'a Logged<T>>) -> Lag
    where
        T: 'a,
    {
        let (superseded, lost) = match self.is_behind {
            true => self.missed(left),
            false => (0, 0),
        };
        Lag {
            behind: self.waiting() - superseded - lost,
            lost: self.lost + lost,
        }
    }
}

impl<T: Send + Sync + 'static> Seat<T> {
    /// Offers messages to the connection. Returns how many it took, or `None` if it is gone.
    fn offer(
        &self,
        messages: &[&SharedMessage],
        turn: Turn,
        after: &mut After<T>,
    ) -> Option<usize> {
        if messages.is_empty() {
            return Some(0);
        }
        let member = &self.member;
        let link: &Link = member.link();
        match link.offer(messages, turn, || Arc::clone(member).into()) {
            Offered::Taken { count, connection } => {
                after.wakers.extend(connection);
                after.tally.delivered += count as u64;
                Some(count)
            }
            Offered::Closed => {
                after.tally.unsent += messages.len() as u64;
                after.left.push((Arc::clone(member), None));
                None
            }
        }
    }

    /// Closes the connection of a member that has missed a message.
    pub(super) fn disconnect(
        &mut self,
        code: CloseCode,
        evicted_below: u64,
        left: impl Fn(u64) -> Vec<Logged<T>>,
        after: &mut After<T>,
    ) {
        // A replay does not come from the backlog.
        if !self.is_behind || self.is_replaying || self.next >= evicted_below {
            return;
        }
        let left = left(self.next);
        let (_, lost) = self.missed(left.iter());
        after.entries.extend(left);
        if lost > 0 {
            let member = Arc::clone(&self.member);
            after.left.push((member, Some((code, TOO_SLOW))));
        }
        // It is judged again when the next entry leaves.
        self.next = evicted_below;
    }

    /// Offers what is left for a member that is behind. `gap` makes the notice for a number of lost messages.
    ///
    /// With [`Overflow::Disconnect`], a member that has missed a message is not offered what came after it: its
    /// connection is closed.
    pub(super) fn catch_up(
        &mut self,
        left: &Left<T>,
        overflow: Overflow,
        gap: impl FnOnce(u64) -> Notice,
        after: &mut After<T>,
    ) -> Progress {
        if let (Overflow::Disconnect(code), true) = (overflow, left.lost > 0) {
            // No task of the chunk has looked at it since. What waits is counted when it leaves.
            let member = Arc::clone(&self.member);
            after.left.push((member, Some((code, TOO_SLOW))));
            return Progress::Behind;
        }
        self.miss_left(left, &mut after.tally);
        let gap = match self.untold {
            0 => None,
            untold => match gap(untold) {
                Notice::Message(message) => Some(message),
                Notice::Nothing => None,
                Notice::Close(code, reason) => {
                    let member = Arc::clone(&self.member);
                    after.left.push((member, Some((code, reason))));
                    return Progress::Behind;
                }
            },
        };
        let mut messages: Vec<&SharedMessage> = gap.iter().collect();
        for logged in &left.entries {
            if let Kind::Message(message) = &logged.entry.kind {
                messages.push(message);
            }
        }
        let Some(mut taken) = self.offer(&messages, Turn::Behind, after) else {
            // It is removed, which counts what waits.
            after.tally.unsent -= messages.len() as u64;
            return Progress::Behind;
        };
        let is_all = taken == messages.len();
        if gap.is_some() && taken > 0 {
            self.untold = 0;
            taken -= 1;
            after.tally.delivered -= 1;
            after.tally.gaps_told += 1;
        }
        self.take(&left.entries[..taken]);
        let next = left.entries.get(taken).map(|logged| logged.offset);
        self.next = next.or(left.more).unwrap_or(left.end).max(self.next);
        match (is_all, left.more) {
            (false, _) => Progress::Behind,
            (true, Some(_)) => Progress::More,
            (true, None) => {
                self.end_behind(after);
                Progress::CaughtUp
            }
        }
    }

    fn end_behind(&mut self, after: &mut After<T>) {
        self.is_behind = false;
        self.is_replaying = false;
        after.wants_roster |= self.needs_roster;
    }

    /// Counts what it has missed.
    fn miss_left(&mut self, left: &Left<T>, tally: &mut Tally) {
        self.waiting_with_key -= left.superseded as u32;
        self.waiting -= left.lost as u32;
        tally.superseded += left.superseded;
        self.lose(left.lost, tally);
    }

    /// Counts messages that it has got.
    fn take(&mut self, entries: &[Logged<T>]) {
        for logged in entries {
            match logged.has_key() {
                true => self.waiting_with_key -= 1,
                false => self.waiting -= 1,
            }
        }
    }
}
