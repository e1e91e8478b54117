//! A room: its log, its members and its chunks, and the ways through their locks.
//!
//! Locks are taken in this order: members, chunk, log, connection; `README.md` has the others. No code of the user runs
//! under one: wakers are called, and payloads and values are dropped, after all are released.

mod behind;
mod history;
mod joins;

use std::{
    cell::Cell,
    fmt, mem,
    sync::{Arc, PoisonError},
};

pub(super) use self::joins::{Joined, Joining, Manner};
use super::{
    Shared,
    after::{After, BATCH},
    chunk::{Chunk, SEATS},
    compression::{Compressed, compress},
    config::{Overflow, RoomConfig, Settings},
    counts::{HubCounts, Tally},
    entry::{Entry, Kind},
    error::PublishError,
    history::Window,
    log::{FurtherChunks, Limits, Log, Removed},
    names::MemberId,
    position::Position,
    presence::Roster,
    publication::{Publication, Sent},
    report::Line,
    roster::{Gathered, Members},
    tasks::Tasks,
};
use crate::{
    codec::SharedMessage,
    socket::{
        now,
        sync::{Mutex, MutexGuard},
    },
};

thread_local! {
    /// The user's code runs in this thread and makes a part of a message. It may send, but then must not wait for
    /// messages to be made.
    static IS_PREPARING: Cell<bool> = const { Cell::new(false) };
}

pub(super) struct RoomState<T> {
    pub(super) hub: Arc<Shared<T>>,
    name: Arc<str>,
    pub(super) settings: Settings<T>,
    members: Mutex<Members<T>>,
    log: Mutex<Log<T>>,
    /// The first members. Most rooms have no others.
    first: Chunk<T>,
    pub(super) tasks: Tasks,
}

/// What is left to deliver to a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Delivered {
    All,
    Some,
    /// Another task compresses the next entry, and schedules the chunk then.
    Busy,
}

/// The chunks of a room at one moment.
pub(super) struct Chunks<'a, T> {
    first: &'a Chunk<T>,
    further: Option<FurtherChunks<T>>,
}

impl<T> Chunks<'_, T> {
    fn get(&self, number: usize) -> Option<&Chunk<T>> {
        match number {
            0 => Some(self.first),
            _ => Some(self.further.as_ref()?.get(number - 1)?),
        }
    }

    pub(super) fn of(&self, id: MemberId) -> Option<&Chunk<T>> {
        self.get(id.place() / SEATS)
    }

    fn iter(&self) -> impl Iterator<Item = &Chunk<T>> {
        let further = self.further.iter().flat_map(|further| further.iter());
        std::iter::once(self.first).chain(further.map(|chunk| &**chunk))
    }
}

impl<T> RoomState<T> {
    pub(super) fn new(
        hub: Arc<Shared<T>>,
        name: Arc<str>,
        config: RoomConfig<T>,
        tasks: Tasks,
    ) -> Self {
        let has_news = config.form.has_news();
        let gathered =
            has_news.then(|| Gathered::new(config.presence_interval, config.max_listed).into());
        let mut log = Log::default();
        if let Some(limits) = config.history {
            let epoch = hub.next_epoch();
            log.set_history(Some(Window::new(limits, hub.boot, epoch)));
        }
        Self {
            hub,
            name,
            settings: Settings::new(config),
            members: Mutex::new(Members::new(gathered)),
            log: Mutex::new(log),
            first: Chunk::default(),
            tasks,
        }
    }

    pub(super) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn members(&self) -> MutexGuard<'_, Members<T>> {
        // No code of others runs under the locks.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log<T>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn chunks<'a>(&'a self, log: &Log<T>) -> Chunks<'a, T> {
        Chunks {
            first: &self.first,
            further: log.further(),
        }
    }

    fn limits(&self) -> Limits<'_> {
        Limits {
            overflow: self.settings.overflow,
            messages: self.settings.max_messages as usize,
            bytes: self.settings.max_bytes,
            all: &self.hub.backlog.0,
            max_all: self.hub.max_backlog,
        }
    }

    /// Counts what was done, and returns what is to be logged.
    pub(super) fn count(&self, log: &mut Log<T>, tally: &Tally) -> Option<Line> {
        log.count(tally);
        match tally.lost | tally.disconnected {
            0 => None,
            _ => log.line(now),
        }
    }

    pub(super) fn log_line(&self, line: Line) {
        line.log(&self.name, self.settings.overflow);
    }

    pub(super) fn len(&self) -> usize {
        self.members().count()
    }

    /// Returns who is there. `then` runs under the lock of the members.
    pub(super) fn snapshot(&self, then: impl FnOnce()) -> Roster<T> {
        let members = self.members();
        then();
        members.roster()
    }

    /// Returns what the room has done so far.
    pub(super) fn done(&self) -> HubCounts {
        self.log().counts(self.settings.overflow)
    }

    /// Takes what the room has done, because it has ended, and what is still to be logged.
    pub(super) fn take_done(&self) -> (HubCounts, Option<Line>) {
        self.log().end(self.settings.overflow)
    }

    pub(super) fn counts(&self) -> HubCounts {
        let mut counts = self.done();
        self.add_present(&mut counts);
        counts
    }

    /// Adds what the room holds.
    pub(super) fn add_present(&self, counts: &mut HubCounts) {
        let members = self.len();
        counts.members += members;
        counts.rooms += usize::from(members > 0);
        let log = self.log();
        counts.backlog_bytes += log.bytes();
        counts.history_bytes += log.history().map_or(0, Window::bytes);
        let chunks = self.chunks(&log);
        drop(log);
        for chunk in chunks.iter() {
            let mut seats = chunk.lock();
            counts.behind += seats.iter_mut().filter(|seat| seat.is_behind()).count();
        }
    }
}

impl<T: Send + Sync + 'static> RoomState<T> {
    /// Returns whether the log keeps entries for members that are behind.
    fn keeps(&self) -> bool {
        self.settings.overflow != Overflow::DropNewest
    }

    pub(super) fn publish(
        self: &Arc<Self>,
        publication: Publication,
    ) -> Result<Sent, PublishError> {
        let len = publication.message.len();
        let max = self.settings.max_message_size as usize;
        if len > max {
            return Err(PublishError::TooLarge { len, max });
        }
        let has_history = self.settings.has_history();
        if has_history && !publication.is_fleeting {
            return self.publish_kept(publication);
        }
        let Publication {
            message,
            by,
            except,
            key,
            ..
        } = publication;
        let form = &self.settings.form;
        let message = form.message(&self.name, by.as_ref(), message)?;
        let is_left_out = except.is_some_and(|except| self.members().has(except));
        let mut entry = Entry::message(SharedMessage::new(message), except, key);
        if has_history {
            entry = entry.fleeting();
        }
        let members = self.append(self.log(), Arc::new(entry));
        Ok(Self::sent(members, is_left_out, None))
    }

    pub(super) fn sent(members: usize, is_left_out: bool, position: Option<Position>) -> Sent {
        Sent {
            members_here: members.saturating_sub(usize::from(is_left_out)),
            position,
        }
    }

    /// Appends an entry to the log, and has it delivered. Returns the number of members.
    pub(super) fn append(
        self: &Arc<Self>,
        mut log: MutexGuard<'_, Log<T>>,
        entry: Arc<Entry<T>>,
    ) -> usize {
        let members = log.members as usize;
        if members == 0 {
            drop(log);
            return 0;
        }
        log.count_sent();
        let mut removed = log.push(entry, self.limits());
        let chunks = self.chunks(&log);
        let waits_for_chunks = log.trim(self.limits(), &mut removed);
        drop(log);
        drop(removed);
        if waits_for_chunks && !IS_PREPARING.get() {
            // This task is faster than those of the chunks, so it does their work.
            for number in 0..chunks.iter().count() {
                self.deliver_all(number);
            }
            let mut removed = Removed::default();
            let mut log = self.log();
            log.trim(self.limits(), &mut removed);
            drop(log);
            drop(removed);
        }
        self.schedule(&chunks);
        members
    }

    /// Spawns a task for each chunk that has none yet.
    fn schedule(self: &Arc<Self>, chunks: &Chunks<'_, T>) {
        let due = chunks.iter().enumerate();
        let mut due = due.filter(|(_, chunk)| chunk.schedule());
        let Some((first, _)) = due.next() else { return };
        let others: Vec<_> = due.map(|(number, _)| number).collect();
        self.tasks.deliver(self, first);
        match others[..] {
            [] => {}
            [second] => self.tasks.deliver(self, second),
            _ => self.tasks.deliver_to_all(self, others),
        }
    }

    /// Call this before delivering: an entry that comes later schedules a new task.
    pub(super) fn begin(&self, number: usize) {
        let chunks = self.chunks(&self.log());
        if let Some(chunk) = chunks.get(number) {
            chunk.begin();
        }
    }

    /// Call this after delivering. Returns whether the task of the chunk goes on, and [begins](Self::begin) again.
    pub(super) fn goes_on(&self, number: usize, is_more: bool) -> bool {
        let chunks = self.chunks(&self.log());
        let chunk = chunks.get(number);
        chunk.is_some_and(|chunk| chunk.goes_on(is_more))
    }

    /// Delivers everything, and waits for other tasks that compress for the same members.
    fn deliver_all(self: &Arc<Self>, number: usize) {
        loop {
            match self.deliver_some(number) {
                Delivered::All => return,
                Delivered::Some => {}
                Delivered::Busy => std::thread::yield_now(),
            }
        }
    }

    /// Delivers what is new to the members of a chunk, up to 64 entries. Returns whether its task has more to do.
    pub(super) fn deliver(self: &Arc<Self>, number: usize) -> bool {
        self.deliver_some(number) == Delivered::Some
    }

    fn deliver_some(self: &Arc<Self>, number: usize) -> Delivered {
        let log = self.log();
        let mut entries = log.undelivered(number, BATCH);
        let chunks = self.chunks(&log);
        drop(log);
        let Some(chunk) = chunks.get(number) else {
            return Delivered::All;
        };
        for logged in &entries {
            self.prepare(&logged.entry);
        }
        let compressed = compress(&chunk.wanted(), &entries);
        self.note_compressed(&compressed);
        let more = match compressed.is_busy {
            true => Delivered::Busy,
            false => Delivered::Some,
        };
        if compressed.ready == 0 && !entries.is_empty() {
            return more;
        }
        entries.truncate(compressed.ready);
        let mut after = After::default();
        let mut removed = Removed::default();
        let mut seats = chunk.lock();
        // Another task may have delivered the first ones.
        let is_new = entries.partition_point(|logged| logged.offset < seats.next);
        let new = &entries[is_new..];
        let behind = seats.deliver(new, self.settings.overflow, &mut after);
        let next = seats.next;
        let mut log = self.log();
        let line = self.count(&mut log, &after.tally);
        if self.keeps() {
            log.add_behind(behind, self.limits());
        }
        let is_more = log.delivered_up_to(number, next);
        log.trim(self.limits(), &mut removed);
        if let Overflow::Disconnect(code) = self.settings.overflow {
            let evicted_below = log.evicted_below();
            let left = |from| {
                let left = log.after(from);
                left.take_while(|logged| logged.offset < next)
                    .cloned()
                    .collect()
            };
            for seat in seats.iter_mut().filter(|seat| seat.is_behind()) {
                seat.disconnect(code, evicted_below, left, &mut after);
            }
        }
        let is_more = is_more && seats.members > 0;
        drop(log);
        drop(seats);
        drop(removed);
        self.finish(after, line);
        match is_more {
            true => more,
            false => Delivered::All,
        }
    }

    /// Counts what was compressed, and schedules the chunks that wait for it.
    fn note_compressed(self: &Arc<Self>, compressed: &Compressed) {
        if compressed.made.is_empty() {
            return;
        }
        let mut removed = Removed::default();
        let mut log = self.log();
        for (offset, bytes) in &compressed.made {
            log.add_compressed(*offset, *bytes, self.limits());
            log.grow_kept(*offset, *bytes, self.budget(), &mut removed);
        }
        let chunks = self.chunks(&log);
        drop(log);
        drop(removed);
        if compressed.is_awaited {
            self.schedule(&chunks);
        }
    }

    fn finish(self: &Arc<Self>, mut after: After<T>, line: Option<Line>) {
        after.run();
        if let Some(line) = line {
            self.log_line(line);
        }
        if after.wants_roster {
            let mut members = self.members();
            if let Some(gathered) = &mut members.gathered {
                gathered.wants_roster = true;
            }
            self.tell_later(members);
        }
    }

    /// Makes the message of an entry, if that was not done yet. It runs the user's code.
    fn prepare(&self, entry: &Entry<T>) {
        if let Kind::News { news, message } = &entry.kind {
            message.get_or_init(|| {
                let was_preparing = IS_PREPARING.replace(true);
                let message = self.settings.form.news(&self.name, news);
                IS_PREPARING.set(was_preparing);
                Some(SharedMessage::new(message?))
            });
        }
    }

    /// Has the members told of changes once it is time. Releases the lock: a runtime that has ended drops the task at
    /// once, which then tells them.
    fn tell_later(self: &Arc<Self>, mut members: MutexGuard<'_, Members<T>>) {
        let Some(gathered) = &mut members.gathered else {
            return;
        };
        if gathered.has_news() && !mem::replace(&mut gathered.is_due, true) {
            let wait = gathered.wait(now());
            drop(members);
            let telling = self.tasks.tell(Arc::clone(self), wait);
            let mut members = self.members();
            if members.is_gone {
                drop(members);
                telling.cancel();
            } else if let Some(gathered) = &mut members.gathered {
                gathered.telling = gathered.is_due.then_some(telling);
            }
        }
    }

    /// Tells the members of changes.
    pub(super) fn tell(self: &Arc<Self>) {
        let mut members = self.members();
        if members.is_gone {
            return;
        }
        let news = members.take_news(now());
        let entries = news.into_iter().map(|news| Arc::new(Entry::news(news)));
        let entries: Vec<_> = entries.collect();
        let mut removed = Vec::new();
        let mut log = self.log();
        if log.members > 0 && !entries.is_empty() {
            log.rare_counters().presence_messages += entries.len() as u64;
            for entry in &entries {
                removed.push(log.push(Arc::clone(entry), self.limits()));
            }
        }
        let chunks = self.chunks(&log);
        drop(log);
        drop(members);
        drop(removed);
        for entry in &entries {
            self.prepare(entry);
        }
        self.schedule(&chunks);
    }
}

impl<T> fmt::Debug for RoomState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomState")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
