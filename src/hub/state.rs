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
    chunk::{After, BATCH, Chunk, Lag, Notice, Progress, SEATS, Seat},
    config::{Overflow, RoomConfig},
    counts::{Counters, HubCounts, add},
    ends::Ends,
    error::{JoinError, PublishError},
    history::{Cut, Window},
    log::{Entry, Kind, Limits, Log, Reach, Removed, Replay},
    member::{LeaveReason, Member},
    names::{Key, MemberId},
    position::Position,
    presence::Roster,
    publication::{Publication, Sent},
    recovery::{Listener, Recovery, Resume},
    roster::{Aside, Members},
    tasks::Tasks,
    watch::Queue,
};
use crate::{
    codec::SharedMessage,
    socket::{
        Entered, Link, now,
        sync::{Mutex, MutexGuard},
    },
    words::{CloseCode, catch_panic},
};

thread_local! {
    /// The user's code runs in this thread and makes a part of a message. It may send, but then must not wait for
    /// messages to be made.
    static IS_PREPARING: Cell<bool> = const { Cell::new(false) };
}

pub(super) struct RoomState<T> {
    pub(super) hub: Arc<Shared<T>>,
    name: Arc<str>,
    pub(super) config: RoomConfig<T>,
    members: Mutex<Members<T>>,
    log: Mutex<Log<T>>,
    pub(super) counts: Counters,
    pub(super) tasks: Tasks,
    pub(super) ends: Ends,
}

/// Closes a member that cannot be told that it has missed messages.
const MISSED: CloseCode = CloseCode::of::<4000>();

/// How a connection joins.
#[derive(Debug, Default)]
pub(super) struct Manner {
    pub(super) key: Option<Key>,
    pub(super) is_silent: bool,
    pub(super) is_paused: bool,
    pub(super) resume: Resume,
}

/// A member that has just joined.
pub(super) struct Joined<T> {
    pub(super) member: Arc<Member<T>>,
    pub(super) key: Option<Key>,
    /// In a room with history.
    pub(super) position: Option<Position>,
    pub(super) recovery: Recovery,
    /// How many messages of the past it gets.
    pub(super) replayed: usize,
    /// Who is there, if it is paused.
    pub(super) roster: Option<Roster<T>>,
}

/// The result of joining a room that may just have been removed.
pub(super) enum Joining<T> {
    Joined(Joined<T>),
    /// The room was removed. The value comes back.
    Gone(Arc<T>),
}

impl<T> RoomState<T> {
    pub(super) fn new(
        hub: Arc<Shared<T>>,
        name: Arc<str>,
        config: RoomConfig<T>,
        tasks: Tasks,
    ) -> Self {
        let mut log = Log::default();
        if let Some(limits) = config.history {
            let epoch = hub.next_epoch();
            log.history = Some(Box::new(Window::new(limits, hub.boot, epoch)));
        }
        Self {
            hub,
            name,
            config,
            members: Mutex::new(Members::default()),
            log: Mutex::new(log),
            counts: Counters::default(),
            tasks,
            ends: Ends::default(),
        }
    }

    pub(super) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    #[cfg(all(test, tower_websocket_loom))]
    pub(super) const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(super) fn members(&self) -> MutexGuard<'_, Members<T>> {
        // No code of others runs under the locks.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log<T>> {
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
        counts.history_bytes = log.history.as_ref().map_or(0, |history| history.bytes());
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
        let is_gone = self.end_if_unused(&mut members);
        drop(members);
        drop(watch);
        if is_gone {
            self.end();
        }
    }

    /// Removes a room that nobody has joined from the hub.
    pub(super) fn release(&self) {
        let mut members = self.members();
        let is_gone = self.end_if_unused(&mut members);
        drop(members);
        if is_gone {
            self.end();
        }
    }

    /// Marks a room that nobody needs. Returns whether it has to [end](Self::end).
    pub(super) fn end_if_unused(&self, members: &mut Members<T>) -> bool {
        if !members.is_unused() || members.is_gone || !self.end_history() {
            return false;
        }
        members.is_gone = true;
        true
    }

    /// Removes the room from the hub.
    pub(super) fn end(&self) {
        self.tasks.cancel();
        self.hub.remove(self);
    }
}

impl<T: Send + Sync + 'static> RoomState<T> {
    pub(super) fn join(
        self: &Arc<Self>,
        link: &Arc<Link>,
        value: Arc<T>,
        manner: &Manner,
    ) -> Result<Joining<T>, JoinError> {
        let mut aside = Aside::default();
        let mut members = self.members();
        if members.is_gone {
            return Ok(Joining::Gone(value));
        }
        if members.count() >= self.config.max_members {
            return Err(JoinError::RoomFull);
        }
        let place = members.next_place();
        let id = MemberId::new(self.hub.next_serial(), place);
        let member = Arc::new(Member::new(
            id,
            manner.is_silent,
            Arc::clone(link),
            Arc::clone(self),
        ));
        let waker = Waker::from(Arc::clone(&member));
        let ticket = match link.enter_room(self.hub.max_rooms_per_connection, waker) {
            Entered::Ticket(ticket) => ticket,
            refused => {
                drop(members);
                return Err(match refused {
                    Entered::TooMany => JoinError::TooManyMemberships,
                    Entered::Ticket(_) | Entered::Closed => JoinError::Closed,
                });
            }
        };
        member.set_ticket(ticket);
        let has_news = self.config.form.has_news();
        let (cut, removed) = self.seat(&member, has_news, manner);
        members.join(Arc::clone(&member), manner.key.clone(), value, &mut aside);
        let roster = manner.is_paused.then(|| members.roster());
        if has_news {
            members.gathered.wants_roster = true;
        }
        self.tell_later(members);
        aside.run();
        drop(removed);
        add(&self.counts.joined, 1);
        add(&self.hub.counts.joined, 1);
        let replayed = cut.as_ref().map_or(0, |cut| cut.messages);
        if replayed > 0 && !manner.is_paused {
            self.catch_up(id);
        }
        let recovery = self.count_recovery(cut.as_ref(), &manner.resume);
        Ok(Joining::Joined(Joined {
            member,
            key: manner.key.clone(),
            position: cut.map(|cut| cut.position),
            recovery,
            replayed,
            roster,
        }))
    }

    /// Gives a member its place in the log: it gets what comes from now on, and what is replayed to it.
    fn seat(
        &self,
        member: &Arc<Member<T>>,
        needs_roster: bool,
        manner: &Manner,
    ) -> (Option<Cut>, Removed<T>) {
        let mut removed = Removed::default();
        let number = member.id().place() / SEATS;
        let mut log = self.log();
        while log.chunks.len() <= number {
            let chunk = Chunk::new(log.chunks.len());
            log.add_chunk(Arc::new(chunk));
        }
        let chunk = Arc::clone(&log.chunks[number]);
        drop(log);
        let mut seats = chunk.lock();
        let mut log = self.log();
        if seats.members == 0 {
            log.begin_chunk(number);
            seats.next = log.next();
        }
        log.members += 1;
        let end = log.next();
        let mut seat = Seat::new(Arc::clone(member), end, needs_roster);
        let listener = Listener {
            was: manner.resume.was,
            key: manner.key.clone(),
            sees_senders: self.config.form.names_senders(),
        };
        let cut = self.cut(&mut log, &manner.resume, &listener, &mut removed);
        if let Some((cut, from)) = cut.filter(|(cut, _)| cut.messages > 0) {
            seat.replay(from, cut.messages);
            let replay = Replay {
                listener,
                end,
                messages: cut.messages,
                uses_backlog: !matches!(
                    self.config.overflow,
                    Overflow::DropNewest | Overflow::Latest
                ),
            };
            seats.begin_replay(member.id(), replay);
            let addressed = cut.messages as u64;
            add(&self.counts.addressed, addressed);
            add(&self.hub.counts.addressed, addressed);
        }
        if manner.is_paused {
            seat.is_behind = true;
            seat.is_paused = true;
        }
        if seat.is_behind && self.keeps() {
            log.behind += 1;
        }
        drop(log);
        seats.enter(seat);
        (cut.map(|(cut, _)| cut), removed)
    }

    /// Returns where the entries are for a member that is behind.
    fn reach<'a>(&self, replay: Option<&'a Arc<Replay>>) -> Reach<'a> {
        match (replay, self.config.overflow) {
            (Some(replay), _) => Reach::Replay(replay),
            (None, Overflow::CatchUp) => Reach::Both,
            (None, _) => Reach::Backlog,
        }
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
        let replay = seats.replay(id);
        let seat = seats.leave(id);
        let mut log = self.log();
        log.members -= 1;
        if let (0, Some(history)) = (log.members, &mut log.history) {
            history.touch(now());
        }
        if seats.members == 0 {
            log.end_chunk(number);
        }
        if let Some(seat) = seat.as_ref().filter(|seat| seat.is_behind) {
            if self.keeps() {
                log.behind -= 1;
            }
            let left = log.left(seat.next(), self.reach(replay.as_ref()));
            let end = seats.end(replay.as_ref());
            let tally = seat.end(left.take_while(|logged| logged.offset < end));
            self.counts.add(&tally);
            self.hub.counts.add(&tally);
        }
        log.trim(self.limits(), &mut removed);
        drop(log);
        drop(seats);
        let is_gone = self.end_if_unused(&mut members);
        match is_gone {
            true => drop(members),
            false => self.tell_later(members),
        }
        member.link().leave_room(member.ticket());
        member.set_left(reason);
        let _ = catch_panic(|| self.ends.notify(id));
        if is_gone {
            self.end();
        }
        aside.run();
        drop((removed, seat, replay));
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
        let (len, max) = (publication.message.len(), self.config.max_message_size);
        if len > max {
            return Err(PublishError::TooLarge { len, max });
        }
        if self.config.history.is_some() && !publication.is_fleeting {
            return self.publish_kept(publication);
        }
        let Publication {
            message,
            by,
            except,
            key,
            ..
        } = publication;
        let message = self.config.form.message(&self.name, by.as_ref(), message)?;
        let is_left_out = except.is_some_and(|except| self.members().has(except));
        let mut entry = Entry::message(SharedMessage::new(message), except, key);
        if self.config.history.is_some() {
            entry = entry.fleeting();
        }
        let entry = Arc::new(entry);
        let members = self.append(self.log(), entry);
        Ok(self.sent(members, is_left_out, None))
    }

    pub(super) fn sent(
        &self,
        members: usize,
        is_left_out: bool,
        position: Option<Position>,
    ) -> Sent {
        if members > 0 {
            add(&self.counts.sent, 1);
            add(&self.hub.counts.sent, 1);
        }
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
                while self.deliver(chunk) {}
            }
            let mut removed = Removed::default();
            let mut log = self.log();
            log.trim(self.limits(), &mut removed);
            drop(log);
            drop(removed);
        }
        for chunk in chunks.iter() {
            if chunk.schedule() {
                self.tasks.deliver(self, chunk);
            }
        }
        members
    }

    /// Delivers what is new to the members of a chunk, up to 64 entries. Returns whether there is more.
    pub(super) fn deliver(self: &Arc<Self>, chunk: &Chunk<T>) -> bool {
        let entries = self.log().undelivered(chunk.number, BATCH);
        for logged in &entries {
            self.prepare(&logged.entry);
        }
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
        is_more
    }

    /// Offers what waits for a member that was behind.
    pub(super) fn catch_up(self: &Arc<Self>, id: MemberId) {
        let Some(chunk) = self.chunk(id) else {
            return;
        };
        while self.catch_up_once(id, &chunk) == Progress::More {}
    }

    pub(super) fn chunk(&self, id: MemberId) -> Option<Arc<Chunk<T>>> {
        let log = self.log();
        log.chunks.get(id.place() / SEATS).map(Arc::clone)
    }

    fn catch_up_once(self: &Arc<Self>, id: MemberId, chunk: &Chunk<T>) -> Progress {
        let mut after = After::default();
        let mut removed = Removed::default();
        let mut seats = chunk.lock();
        let replay = seats.replay(id);
        let end = seats.end(replay.as_ref());
        let seat = seats.seat(id);
        let Some(seat) = seat.filter(|seat| seat.is_behind && !seat.is_paused) else {
            return Progress::CaughtUp;
        };
        let reach = self.reach(replay.as_ref());
        let log = self.log();
        let from = seat.next();
        let all = || {
            log.left(from, reach)
                .take_while(|logged| logged.offset < end)
        };
        let left = seat.left(all, end, log.is_whole_from(from, reach));
        drop(log);
        let gap = |lost| match self.config.form.gap(&self.name, lost) {
            Some(message) => Notice::Message(SharedMessage::new(message)),
            None if self.config.history.is_some() => Notice::Close(MISSED, "messages were missed"),
            None => Notice::Nothing,
        };
        let progress = seat.catch_up(&left, self.config.overflow, gap, &mut after);
        if progress == Progress::CaughtUp {
            if replay.is_some() {
                seats.end_replay(id);
            }
            if self.keeps() {
                let mut log = self.log();
                log.behind -= 1;
                log.trim(self.limits(), &mut removed);
            }
        }
        drop(seats);
        drop((left, removed, replay));
        self.finish(after);
        progress
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
        for chunk in chunks.iter() {
            if chunk.schedule() {
                self.tasks.deliver(self, chunk);
            }
        }
    }

    pub(super) fn lag(&self, id: MemberId) -> Lag {
        let Some(chunk) = self.chunk(id) else {
            return Lag::default();
        };
        let mut seats = chunk.lock();
        let replay = seats.replay(id);
        let end = seats.end(replay.as_ref());
        let Some(seat) = seats.seat(id) else {
            return Lag::default();
        };
        let log = self.log();
        let left = log.left(seat.next(), self.reach(replay.as_ref()));
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
