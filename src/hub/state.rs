//! A room: its log, its members and its chunks, and the ways through their locks.
//!
//! Locks are taken in this order: members, chunk, log, connection. No code of the user runs under one: wakers are
//! called, and payloads and values are dropped, after all are released.

use std::{
    cell::Cell,
    fmt, mem,
    sync::{Arc, PoisonError},
    task::Waker,
};

use super::{
    Shared,
    chunk::{After, BATCH, Chunk, Lag, SEATS, Seat},
    compression::{Compressed, compress},
    config::{Overflow, RoomConfig},
    counts::{Counters, HubCounts, add},
    error::{JoinError, PublishError},
    log::{Entry, Kind, Limits, Log, Removed},
    member::{LeaveReason, Member},
    names::{Key, MemberId},
    presence::Roster,
    publication::{Publication, Sent},
    roster::{Aside, Members},
    tasks::Tasks,
    watch::Queue,
};
use crate::{
    codec::{SharedMessage, Sharing},
    socket::{
        Entered, Link, now,
        sync::{Mutex, MutexGuard},
    },
    words::catch_panic,
};

thread_local! {
    /// The user's code runs in this thread and makes a part of a message. It may send, but then must not wait for
    /// messages to be made.
    static IS_PREPARING: Cell<bool> = const { Cell::new(false) };
}

pub(super) struct RoomState<T> {
    pub(super) hub: Arc<Shared<T>>,
    name: Arc<str>,
    config: RoomConfig<T>,
    members: Mutex<Members<T>>,
    log: Mutex<Log<T>>,
    counts: Counters,
    tasks: Tasks,
}

/// What is left to deliver to a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Delivered {
    All,
    Some,
    /// Another task compresses the next entry, and schedules the chunk then.
    Busy,
}

/// The result of joining a room that may just have been removed.
pub(super) enum Joining<T> {
    Joined(Arc<Member<T>>),
    /// The room was removed. The value comes back.
    Gone(Arc<T>, Option<Key>),
}

impl<T> RoomState<T> {
    pub(super) fn new(
        hub: Arc<Shared<T>>,
        name: Arc<str>,
        config: RoomConfig<T>,
        tasks: Tasks,
    ) -> Self {
        Self {
            hub,
            name,
            config,
            members: Mutex::new(Members::default()),
            log: Mutex::new(Log::default()),
            counts: Counters::default(),
            tasks,
        }
    }

    pub(super) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    #[cfg(all(test, tower_websocket_loom))]
    pub(super) const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    fn members(&self) -> MutexGuard<'_, Members<T>> {
        // No code of others runs under the locks.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log<T>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> Limits<'_> {
        let (messages, bytes) = self.config.backlog;
        Limits {
            overflow: self.config.overflow,
            messages,
            bytes,
            all: &self.hub.backlog,
            max_all: self.hub.max_backlog,
        }
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

    pub(super) fn counts(&self) -> HubCounts {
        let mut counts = self.counts.read();
        counts.members = self.len();
        counts.rooms = usize::from(counts.members > 0);
        let log = self.log();
        counts.backlog_bytes = log.bytes();
        let chunks = Arc::clone(&log.chunks);
        drop(log);
        for chunk in chunks.iter() {
            let mut seats = chunk.lock();
            counts.behind += seats.iter_mut().filter(|seat| seat.is_behind).count();
        }
        counts
    }

    pub(super) fn remove_watch(&self, queue: &Arc<Queue<T>>) {
        let mut members = self.members();
        let watch = members.remove_watch(queue);
        let is_gone = Self::end_if_unused(&mut members);
        drop(members);
        drop(watch);
        if is_gone {
            self.end();
        }
    }

    /// Removes a room that nobody has joined from the hub.
    pub(super) fn release(&self) {
        let mut members = self.members();
        let is_gone = Self::end_if_unused(&mut members);
        drop(members);
        if is_gone {
            self.end();
        }
    }

    /// Marks a room that nobody needs. Returns whether it has to [end](Self::end).
    fn end_if_unused(members: &mut Members<T>) -> bool {
        members.is_unused() && !mem::replace(&mut members.is_gone, true)
    }

    /// Removes the room from the hub.
    fn end(&self) {
        self.tasks.cancel();
        self.hub.remove(self);
    }
}

impl<T: Send + Sync + 'static> RoomState<T> {
    pub(super) fn join(
        self: &Arc<Self>,
        link: &Arc<Link>,
        value: Arc<T>,
        key: Option<Key>,
        is_silent: bool,
    ) -> Result<Joining<T>, JoinError> {
        let mut aside = Aside::default();
        let mut members = self.members();
        if members.is_gone {
            return Ok(Joining::Gone(value, key));
        }
        if members.count() >= self.config.max_members {
            return Err(JoinError::RoomFull);
        }
        let place = members.next_place();
        let id = MemberId::new(self.hub.next_serial(), place);
        let member = Arc::new(Member::new(
            id,
            is_silent,
            Arc::clone(link),
            Arc::clone(self),
        ));
        let waker = Waker::from(Arc::clone(&member));
        let (ticket, sharing) = match link.enter_room(self.hub.max_rooms_per_connection, waker) {
            Entered::Ticket { ticket, sharing } => (ticket, sharing),
            refused => {
                drop(members);
                return Err(match refused {
                    Entered::TooMany => JoinError::TooManyMemberships,
                    Entered::Ticket { .. } | Entered::Closed => JoinError::Closed,
                });
            }
        };
        member.set_ticket(ticket);
        let has_news = self.config.form.has_news();
        self.seat(&member, has_news, sharing);
        members.join(Arc::clone(&member), key, value, &mut aside);
        if has_news {
            members.gathered.wants_roster = true;
        }
        self.tell_later(members);
        aside.run();
        add(&self.counts.joined, 1);
        add(&self.hub.counts.joined, 1);
        Ok(Joining::Joined(member))
    }

    /// Gives a member its place in the log: it gets what comes from now on.
    fn seat(&self, member: &Arc<Member<T>>, needs_roster: bool, sharing: Option<Sharing>) {
        let number = member.id().place() / SEATS;
        let mut log = self.log();
        while log.chunks.len() <= number {
            let chunk = Chunk::new(log.chunks.len());
            log.add_chunk(Arc::new(chunk));
        }
        let chunk = Arc::clone(&log.chunks[number]);
        drop(log);
        if sharing.is_some() {
            chunk.expect_sharing();
        }
        let mut seats = chunk.lock();
        let mut log = self.log();
        if seats.members == 0 {
            log.begin_chunk(number);
            seats.next = log.next();
        }
        log.members += 1;
        let seat = Seat::new(Arc::clone(member), log.next(), needs_roster, sharing);
        drop(log);
        seats.enter(seat);
    }

    /// Removes a member. Returns whether it was one.
    pub(super) fn leave(self: &Arc<Self>, id: MemberId, reason: LeaveReason) -> bool {
        let mut aside = Aside::default();
        let mut removed = Removed::default();
        let mut members = self.members();
        let Some((member, value)) = members.leave(id, reason, &mut aside) else {
            return false;
        };
        let number = id.place() / SEATS;
        let chunk = Arc::clone(&self.log().chunks[number]);
        let mut seats = chunk.lock();
        let seat = seats.leave(id);
        let mut log = self.log();
        log.members -= 1;
        if seats.members == 0 {
            log.end_chunk(number);
        }
        if let Some(seat) = seat.as_ref().filter(|seat| seat.is_behind) {
            if self.keeps() {
                log.behind -= 1;
            }
            let left = log.after(0);
            let tally = seat.end(left.take_while(|logged| logged.offset < seats.next));
            self.counts.add(&tally);
            self.hub.counts.add(&tally);
        }
        log.trim(self.limits(), &mut removed);
        drop(log);
        drop(seats);
        let is_gone = Self::end_if_unused(&mut members);
        match is_gone {
            true => drop(members),
            false => self.tell_later(members),
        }
        member.link().leave_room(member.ticket());
        if is_gone {
            self.end();
        }
        aside.run();
        drop((removed, seat));
        // The connection may have to leave other rooms, too.
        let _ = catch_panic(|| drop(value));
        true
    }

    /// Returns whether the log keeps entries for members that are behind.
    fn keeps(&self) -> bool {
        self.config.overflow != Overflow::DropNewest
    }

    pub(super) fn set(self: &Arc<Self>, id: MemberId, value: Arc<T>) -> bool {
        let mut aside = Aside::default();
        let mut members = self.members();
        let is_member = members.has(id);
        let old = members.set(id, value, &mut aside);
        self.tell_later(members);
        aside.run();
        drop(old);
        is_member
    }

    pub(super) fn add_watch(&self, queue: &Arc<Queue<T>>) -> bool {
        let mut members = self.members();
        if members.is_gone {
            return false;
        }
        members.add_watch(Arc::clone(queue));
        true
    }

    pub(super) fn publish(
        self: &Arc<Self>,
        publication: Publication,
    ) -> Result<Sent, PublishError> {
        let Publication {
            message,
            by,
            except,
            key,
        } = publication;
        let (len, max) = (message.len(), self.config.max_message_size);
        if len > max {
            return Err(PublishError::TooLarge { len, max });
        }
        let message = self.config.form.message(&self.name, by, message)?;
        let is_left_out = except.is_some_and(|except| self.members().has(except));
        let entry = Entry::message(SharedMessage::new(message), except, key);
        let members = self.append(Arc::new(entry));
        if members > 0 {
            add(&self.counts.sent, 1);
            add(&self.hub.counts.sent, 1);
        }
        Ok(Sent {
            members_here: members.saturating_sub(usize::from(is_left_out)),
        })
    }

    /// Appends an entry to the log, and has it delivered. Returns the number of members.
    fn append(self: &Arc<Self>, entry: Arc<Entry<T>>) -> usize {
        let mut log = self.log();
        let members = log.members;
        if members == 0 {
            drop(log);
            return 0;
        }
        let mut removed = log.push(entry, self.limits());
        let chunks = Arc::clone(&log.chunks);
        let waits_for_chunks = log.trim(self.limits(), &mut removed);
        drop(log);
        drop(removed);
        if waits_for_chunks && !IS_PREPARING.get() {
            // This task is faster than those of the chunks, so it does their work.
            for chunk in chunks.iter() {
                self.deliver_all(chunk);
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

    /// Delivers everything, and waits for other tasks that compress for the same members.
    fn deliver_all(self: &Arc<Self>, chunk: &Chunk<T>) {
        loop {
            match self.deliver_some(chunk) {
                Delivered::All => return,
                Delivered::Some => {}
                Delivered::Busy => std::thread::yield_now(),
            }
        }
    }

    /// Delivers what is new to the members of a chunk, up to 64 entries. Returns whether its task has more to do.
    pub(super) fn deliver(self: &Arc<Self>, chunk: &Chunk<T>) -> bool {
        self.deliver_some(chunk) == Delivered::Some
    }

    fn deliver_some(self: &Arc<Self>, chunk: &Chunk<T>) -> Delivered {
        let mut entries = self.log().undelivered(chunk.number, BATCH);
        for logged in &entries {
            self.prepare(&logged.entry);
        }
        let compressed = compress(chunk, &entries);
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
        let behind = seats.deliver(new, self.config.overflow, &mut after);
        let next = seats.next;
        let mut log = self.log();
        if self.keeps() {
            log.behind += behind;
        }
        let is_more = log.delivered_up_to(chunk.number, next);
        log.trim(self.limits(), &mut removed);
        if let Overflow::Disconnect(code) = self.config.overflow {
            let evicted_below = log.evicted_below();
            let left = |from| {
                let left = log.after(from);
                left.take_while(|logged| logged.offset < next)
                    .cloned()
                    .collect()
            };
            for seat in seats.iter_mut() {
                seat.disconnect(code, evicted_below, left, &mut after);
            }
        }
        let is_more = is_more && seats.members > 0;
        drop(log);
        drop(seats);
        drop(removed);
        self.finish(after);
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
        let number = compressed.made.len() as u64;
        add(&self.counts.compressions, number);
        add(&self.hub.counts.compressions, number);
        let mut log = self.log();
        for (offset, bytes) in &compressed.made {
            log.add_compressed(*offset, *bytes, self.limits());
        }
        let chunks = Arc::clone(&log.chunks);
        drop(log);
        if compressed.is_awaited {
            self.schedule(&chunks);
        }
    }

    /// Has each chunk deliver what is new.
    fn schedule(self: &Arc<Self>, chunks: &[Arc<Chunk<T>>]) {
        for chunk in chunks {
            if chunk.schedule() {
                self.tasks.deliver(self, chunk);
            }
        }
    }

    /// Offers what waits for a member that was behind.
    pub(super) fn catch_up(self: &Arc<Self>, id: MemberId) {
        let mut after = After::default();
        let mut removed = Removed::default();
        let log = self.log();
        let Some(chunk) = log.chunks.get(id.place() / SEATS).map(Arc::clone) else {
            return;
        };
        drop(log);
        let mut seats = chunk.lock();
        let end = seats.next;
        let Some(seat) = seats.seat(id).filter(|seat| seat.is_behind) else {
            return;
        };
        let left: Vec<_> = match self.keeps() {
            false => Vec::new(),
            true => {
                let log = self.log();
                let left = log.after(0);
                left.take_while(|logged| logged.offset < end)
                    .cloned()
                    .collect()
            }
        };
        let gap = |lost| {
            let message = self.config.form.gap(&self.name, lost)?;
            Some(SharedMessage::new(message))
        };
        if seat.catch_up(&left, end, self.config.overflow, gap, &mut after) && self.keeps() {
            let mut log = self.log();
            log.behind -= 1;
            log.trim(self.limits(), &mut removed);
        }
        drop(seats);
        drop((left, removed));
        self.finish(after);
    }

    fn finish(self: &Arc<Self>, mut after: After<T>) {
        after.run();
        self.counts.add(&after.tally);
        self.hub.counts.add(&after.tally);
        if after.wants_roster {
            let mut members = self.members();
            members.gathered.wants_roster = true;
            self.tell_later(members);
        }
    }

    /// Makes the message of an entry, if that was not done yet. It runs the user's code.
    fn prepare(&self, entry: &Entry<T>) {
        if let Kind::News { news, message } = &entry.kind {
            message.get_or_init(|| {
                let was_preparing = IS_PREPARING.replace(true);
                let message = self.config.form.news(&self.name, news);
                IS_PREPARING.set(was_preparing);
                let message = message?;
                add(&self.counts.presence_messages, 1);
                add(&self.hub.counts.presence_messages, 1);
                Some(SharedMessage::new(message))
            });
        }
    }

    /// Has the members told of changes once it is time. Releases the lock: a runtime that has ended drops the task at
    /// once, which then tells them.
    fn tell_later(self: &Arc<Self>, mut members: MutexGuard<'_, Members<T>>) {
        if !self.config.form.has_news() {
            members.forget_changes();
            return;
        }
        if members.has_news() && !mem::replace(&mut members.gathered.is_due, true) {
            let wait = members.wait(self.config.presence_interval, now());
            drop(members);
            self.tasks.tell(Arc::clone(self), wait);
            let is_gone = self.members().is_gone;
            if is_gone {
                self.tasks.cancel();
            }
        }
    }

    /// Tells the members of changes.
    pub(super) fn tell(self: &Arc<Self>) {
        let mut members = self.members();
        if members.is_gone {
            return;
        }
        let news = members.take_news(self.config.max_listed, now());
        let entries = news.into_iter().map(|news| Arc::new(Entry::news(news)));
        let entries: Vec<_> = entries.collect();
        let mut removed = Vec::new();
        let mut log = self.log();
        if log.members > 0 {
            for entry in &entries {
                removed.push(log.push(Arc::clone(entry), self.limits()));
            }
        }
        let chunks = Arc::clone(&log.chunks);
        drop(log);
        drop(members);
        drop(removed);
        for entry in &entries {
            self.prepare(entry);
        }
        self.schedule(&chunks);
    }

    pub(super) fn lag(&self, id: MemberId) -> Lag {
        let chunk = self.log().chunks.get(id.place() / SEATS).map(Arc::clone);
        let Some(chunk) = chunk else {
            return Lag::default();
        };
        let mut seats = chunk.lock();
        let end = seats.next;
        let Some(seat) = seats.seat(id) else {
            return Lag::default();
        };
        let log = self.log();
        let left = log.after(0);
        seat.lag(left.take_while(|logged| logged.offset < end))
    }
}

impl<T> fmt::Debug for RoomState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomState")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
