//! Members and watches that come and go.

use std::{sync::Arc, task::Waker};

use super::{
    super::{
        chunk::{Chunk, SEATS},
        config::Overflow,
        counts::Tally,
        error::JoinError,
        history::Cut,
        log::{Removed, Replay},
        member::{LeaveReason, Member},
        names::{Key, MemberId},
        position::Position,
        presence::{Card, Roster},
        recovery::{Listener, Recovery, Resume},
        report::Line,
        roster::{Aside, Members},
        seat::Seat,
        watch::Queue,
    },
    RoomState,
};
use crate::{
    socket::{Entered, Link, now},
    words::catch_panic,
};

/// How a connection joins.
#[derive(Debug, Default)]
pub(in crate::hub) struct Manner {
    pub(in crate::hub) key: Option<Key>,
    pub(in crate::hub) is_silent: bool,
    pub(in crate::hub) is_paused: bool,
    pub(in crate::hub) resume: Resume,
}

/// A member that has just joined.
pub(in crate::hub) struct Joined<T> {
    pub(in crate::hub) member: Arc<Member<T>>,
    pub(in crate::hub) key: Option<Key>,
    /// In a room with history.
    pub(in crate::hub) position: Option<Position>,
    pub(in crate::hub) recovery: Recovery,
    /// How many messages of the past it gets.
    pub(in crate::hub) replayed: usize,
    /// Who is there, if it is paused.
    pub(in crate::hub) roster: Option<Roster<T>>,
}

/// The result of joining a room that may just have been removed.
pub(in crate::hub) enum Joining<T> {
    Joined(Joined<T>),
    /// The room was removed. The card comes back.
    Gone(Option<Arc<Card<T>>>),
}

impl<T: Send + Sync + 'static> RoomState<T> {
    pub(in crate::hub) fn join(
        self: &Arc<Self>,
        link: &Arc<Link>,
        card: Option<Arc<Card<T>>>,
        manner: &Manner,
    ) -> Result<Joining<T>, JoinError> {
        let mut aside = Aside::default();
        let mut members = self.members();
        if members.is_gone {
            return Ok(Joining::Gone(card));
        }
        if members.count() >= self.settings.max_members() {
            return Err(self.refuse(JoinError::RoomFull));
        }
        let place = members.next_place();
        let id = MemberId::new(self.hub.next_serial(), place);
        let member = Arc::new(Member::new(id, Arc::clone(link), Arc::clone(self)));
        let waker = Waker::from(Arc::clone(&member));
        let refused = match link.enter_room(self.hub.max_rooms_per_connection, waker) {
            Entered::Member => None,
            Entered::TooMany => Some(JoinError::TooManyMemberships),
            Entered::Closed => Some(JoinError::Closed),
        };
        if let Some(error) = refused {
            let error = self.refuse(error);
            drop(members);
            return Err(error);
        }
        let needs_roster = members.gathered.is_some();
        let (cut, recovery, removed) = self.seat(&member, needs_roster, manner);
        members.join(Arc::clone(&member), card, &mut aside);
        let roster = manner.is_paused.then(|| members.roster());
        if let Some(gathered) = &mut members.gathered {
            gathered.wants_roster = true;
        }
        self.tell_later(members);
        aside.run();
        drop(removed);
        let replayed = cut.as_ref().map_or(0, |cut| cut.messages);
        if replayed > 0 && !manner.is_paused {
            self.catch_up(id);
        }
        Ok(Joining::Joined(Joined {
            member,
            key: manner.key.clone(),
            position: cut.map(|cut| cut.position),
            recovery,
            replayed,
            roster,
        }))
    }

    /// Counts a join that fails. The lock of the members is held: the room has not ended.
    fn refuse(&self, error: JoinError) -> JoinError {
        self.log().rare_counters().refused_by.add(&error);
        error
    }

    /// Gives a member its place in the log: it gets what comes from now on, and what is replayed to it.
    fn seat(
        &self,
        member: &Arc<Member<T>>,
        needs_roster: bool,
        manner: &Manner,
    ) -> (Option<Cut>, Recovery, Removed<T>) {
        let mut removed = Removed::default();
        let number = member.id().place() / SEATS;
        let mut log = self.log();
        log.add_chunks(number);
        let chunks = self.chunks(&log);
        drop(log);
        let Some(chunk) = chunks.get(number) else {
            return (None, Recovery::Fresh, removed);
        };
        if member.link().sharing().is_some() {
            chunk.expect_sharing();
        }
        let mut seats = chunk.lock();
        let mut log = self.log();
        if seats.members == 0 {
            log.begin_chunk(number);
            seats.next = log.next();
        }
        log.join();
        let end = log.next();
        let mut seat = Seat::new(Arc::clone(member), end, seats.next, needs_roster);
        let listener = Listener {
            was: manner.resume.was,
            key: manner.key.clone(),
            sees_senders: self.settings.form.names_senders(),
        };
        let cut = self.cut(&mut log, &manner.resume, &listener, &mut removed);
        let recovery =
            Self::count_recovery(&mut log, cut.as_ref().map(|(cut, _)| cut), &manner.resume);
        if let Some((cut, from)) = cut.filter(|(cut, _)| cut.messages > 0) {
            let replay = Replay {
                listener,
                end,
                messages: cut.messages,
                uses_backlog: !matches!(
                    self.settings.overflow,
                    Overflow::DropNewest | Overflow::Latest
                ),
            };
            seat.begin_replay(from, replay);
            log.count(&Tally {
                addressed: cut.messages as u64,
                ..Tally::default()
            });
        }
        if let (Some(key), true, Some(_)) = (&manner.key, manner.is_silent, &cut) {
            log.set_silent_key(member.id(), key.clone());
        }
        if manner.is_paused {
            seat.pause(end);
        }
        if seat.is_behind() && self.keeps() {
            log.add_behind(1, self.limits());
        }
        drop(log);
        seats.enter(seat);
        (cut.map(|(cut, _)| cut), recovery, removed)
    }

    /// Removes a member, perhaps because it is too slow. Returns whether it was one.
    pub(in crate::hub) fn leave(
        self: &Arc<Self>,
        id: MemberId,
        reason: LeaveReason,
        is_too_slow: bool,
    ) -> bool {
        let mut aside = Aside::default();
        let mut removed = Removed::default();
        let mut members = self.members();
        let Some((member, card)) = members.leave(id, reason, &mut aside) else {
            return false;
        };
        let chunks = self.chunks(&self.log());
        let (seat, line) = match chunks.of(id) {
            Some(chunk) => self.unseat(chunk, id, is_too_slow, &mut removed),
            None => (None, None),
        };
        let is_gone = self.end_if_unused(&mut members);
        match is_gone {
            true => drop(members),
            false => self.tell_later(members),
        }
        let waker = Waker::from(Arc::clone(&member));
        member.link().leave_room(&waker);
        if member.set_left(reason) {
            // It wakes tasks of the user.
            let _ = catch_panic(|| self.hub.ends.notify(id));
        }
        if is_gone {
            self.end();
        }
        aside.run();
        if let Some(line) = line {
            self.log_line(line);
        }
        drop((removed, seat));
        // The connection may have to leave other rooms, too.
        let _ = catch_panic(|| drop(card));
        true
    }

    /// Takes a member's place in the log from it.
    fn unseat(
        &self,
        chunk: &Chunk<T>,
        id: MemberId,
        is_too_slow: bool,
        removed: &mut Removed<T>,
    ) -> (Option<Seat<T>>, Option<Line>) {
        let mut seats = chunk.lock();
        let seat = seats.leave(id);
        let mut log = self.log();
        log.members -= 1;
        log.remove_silent_key(id);
        if let (0, Some(history)) = (log.members, log.history_mut()) {
            history.touch(now());
        }
        if seats.members == 0 {
            log.end_chunk(id.place() / SEATS);
        }
        let mut tally = Tally::default();
        if let Some(seat) = seat.as_ref().filter(|seat| seat.is_behind()) {
            if self.keeps() {
                log.remove_behind(self.limits());
            }
            tally = self.end_of(seat, seats.next, &log);
        }
        tally.disconnected += u64::from(is_too_slow);
        let line = self.count(&mut log, &tally);
        log.trim(self.limits(), removed);
        (seat, line)
    }

    pub(in crate::hub) fn set(self: &Arc<Self>, id: MemberId, value: T) -> bool {
        let card = Arc::new(Card { key: None, value });
        let mut aside = Aside::default();
        let mut members = self.members();
        let is_member = members.has(id);
        let old = members.set(id, card, &mut aside);
        self.tell_later(members);
        aside.run();
        drop(old);
        is_member
    }

    pub(in crate::hub) fn add_watch(&self, queue: &Arc<Queue<T>>) -> bool {
        let mut members = self.members();
        if members.is_gone {
            return false;
        }
        members.add_watch(Arc::clone(queue));
        true
    }
}

impl<T> RoomState<T> {
    pub(in crate::hub) fn remove_watch(&self, queue: &Arc<Queue<T>>) {
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
    pub(in crate::hub) fn release(&self) {
        let mut members = self.members();
        let is_gone = self.end_if_unused(&mut members);
        drop(members);
        if is_gone {
            self.end();
        }
    }

    /// Marks a room that nobody needs. Returns whether it has to [end](Self::end).
    pub(in crate::hub) fn end_if_unused(&self, members: &mut Members<T>) -> bool {
        if !members.is_unused() || members.is_gone || !self.end_history() {
            return false;
        }
        members.is_gone = true;
        true
    }

    /// Removes the room from the hub.
    pub(in crate::hub) fn end(&self) {
        let mut members = self.members();
        let telling = members.gathered.as_mut().and_then(|own| own.telling.take());
        drop(members);
        if let Some(telling) = telling {
            telling.cancel();
        }
        self.hub.remove(self);
    }
}
