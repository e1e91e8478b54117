//! A member's place in the log of its room.
//!
//! A member that gets what is new and has missed nothing has only a pointer to itself here. What else there is to know
//! about a member is in a box.

mod behind;

use std::sync::Arc;

pub(super) use self::behind::{Ends, Notice, Outcome};
use super::{
    after::After,
    config::Overflow,
    counts::Tally,
    entry::{Entry, Logged},
    log::Replay,
    member::Member,
    turns::Turns,
};
use crate::{
    codec::{SharedFrames, SharedMessage},
    socket::{Link, Turn},
};

#[derive(Debug)]
pub(super) struct Seat<T> {
    pub(super) member: Arc<Member<T>>,
    /// `None` if the member [is up to date](Self::is_up_to_date).
    progress: Option<Box<Progress>>,
}

/// Where a member is that has joined in the middle, is behind, or has missed messages.
#[derive(Debug, Default)]
struct Progress {
    /// The first offset that it has to get.
    next: u64,
    /// Messages that wait for it in the log, with and without a key.
    waiting_with_key: u32,
    waiting: u32,
    /// Messages that it has missed.
    lost: u64,
    /// Those among them of which it was not told yet.
    untold: u32,
    is_behind: bool,
    /// It gets the list of members instead of the next news.
    needs_roster: bool,
    /// It gets nothing until it is started.
    is_paused: bool,
    /// It is behind because it came back, and gets what it has missed.
    replay: Option<Arc<Replay>>,
    /// While it is behind, in a room with keys.
    turns: Option<Box<Turns>>,
}

/// How far a member is behind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Lag {
    /// The messages that wait for the member in the room's backlog.
    pub behind: u64,
    /// The messages that the member has missed since it joined, because it was too slow.
    pub lost: u64,
}

impl<T> Seat<T> {
    /// Makes the seat of a new member. It gets the entries from `next` on; its chunk delivers those from `delivered` on.
    pub(super) fn new(
        member: Arc<Member<T>>,
        next: u64,
        delivered: u64,
        needs_roster: bool,
    ) -> Self {
        let is_special = next > delivered || needs_roster;
        let progress = is_special.then(|| {
            Box::new(Progress {
                next,
                needs_roster,
                ..Progress::default()
            })
        });
        Self { member, progress }
    }

    /// Returns whether the member gets all that its chunk delivers, and nothing else has to be known of it.
    pub(super) const fn is_up_to_date(&self) -> bool {
        self.progress.is_none()
    }

    pub(super) fn is_behind(&self) -> bool {
        let progress = self.progress.as_ref();
        progress.is_some_and(|progress| progress.is_behind)
    }

    /// Returns what is replayed to the member.
    pub(super) fn replay(&self) -> Option<Arc<Replay>> {
        let progress = self.progress.as_ref()?;
        progress.replay.clone()
    }

    pub(super) fn needs_roster(&self) -> bool {
        let progress = self.progress.as_ref();
        progress.is_some_and(|progress| progress.needs_roster)
    }

    /// Records that the member has got the list of members.
    pub(super) fn has_got_roster(&mut self) {
        if let Some(progress) = &mut self.progress {
            progress.needs_roster = false;
        }
    }

    /// Returns the first offset that the member has to get, or 0 if it gets all that its chunk delivers.
    pub(super) fn next(&self) -> u64 {
        let progress = self.progress.as_ref();
        progress.map_or(0, |progress| progress.next)
    }

    /// Returns the messages that wait for the member.
    fn waiting(&self) -> u64 {
        let progress = self.progress.as_ref();
        progress.map_or(0, |progress| progress.waiting())
    }

    /// Returns whether the member may get an entry.
    pub(super) fn is_for(&self, logged: &Logged<T>) -> bool {
        let entry: &Entry<T> = &logged.entry;
        let is_after = logged.offset >= self.next() && entry.except != Some(self.member.id());
        is_after && !self.has_taken(logged)
    }

    /// Returns whether the member, which is behind, may get an entry.
    fn waits(&self, logged: &Logged<T>) -> bool {
        let entry: &Entry<T> = &logged.entry;
        self.is_for(logged) && entry.is_message() && !entry.is_fleeting && !logged.is_superseded()
    }

    /// Returns whether the member got this entry ahead of older ones.
    fn has_taken(&self, logged: &Logged<T>) -> bool {
        let turns = self.progress.as_ref().and_then(|own| own.turns.as_ref());
        turns.is_some_and(|turns| turns.has(logged))
    }

    /// Records that all up to `end` was delivered, if the member is not behind.
    pub(super) fn delivered_up_to(&mut self, end: u64) {
        let Some(progress) = self.progress.as_mut().filter(|own| !own.is_behind) else {
            return;
        };
        // It may have joined behind these entries.
        progress.next = progress.next.max(end);
        if progress.next == end && progress.lost == 0 && !progress.needs_roster {
            self.progress = None;
        }
    }

    /// Records entries for a member that is behind.
    pub(super) fn miss(&mut self, entries: &[Logged<T>], overflow: Overflow, tally: &mut Tally) {
        tally.addressed += self.record(entries, overflow, tally);
    }

    /// Records that the member has not taken these entries, which were addressed to it.
    pub(super) fn fall_behind(
        &mut self,
        entries: &[Logged<T>],
        overflow: Overflow,
        tally: &mut Tally,
    ) {
        let progress = self.progress.get_or_insert_default();
        if let Some(first) = entries.first() {
            progress.next = progress.next.max(first.offset);
        }
        progress.is_behind = true;
        self.record(entries, overflow, tally);
    }

    /// Returns the number of messages among the entries that are for the member.
    fn record(&mut self, entries: &[Logged<T>], overflow: Overflow, tally: &mut Tally) -> u64 {
        let id = self.member.id();
        let mut messages = 0;
        let progress = self.progress.get_or_insert_default();
        for logged in entries {
            if logged.offset < progress.next || logged.entry.except == Some(id) {
                continue;
            }
            if logged.entry.is_message() {
                messages += 1;
                progress.wait_for(logged, overflow, tally);
            } else {
                progress.needs_roster = true;
            }
        }
        // Nothing is kept for it.
        if let (Some(last), Overflow::DropNewest) = (entries.last(), overflow) {
            progress.next = progress.next.max(last.offset + 1);
        }
        messages
    }

    /// Returns the messages that the member has missed because they left the log.
    fn missed<'a>(&self, left: impl Iterator<Item = &'a Logged<T>>) -> (u64, u64)
    where
        T: 'a,
    {
        let Some(progress) = &self.progress else {
            return (0, 0);
        };
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
            u64::from(progress.waiting_with_key).saturating_sub(with_key),
            u64::from(progress.waiting).saturating_sub(without),
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

    /// Returns how far the member is behind. `left` has the entries that are left for it.
    pub(super) fn lag<'a>(&self, left: impl Iterator<Item = &'a Logged<T>>) -> Lag
    where
        T: 'a,
    {
        let Some(progress) = &self.progress else {
            return Lag::default();
        };
        let (superseded, lost) = match progress.is_behind {
            true => self.missed(left),
            false => (0, 0),
        };
        Lag {
            behind: progress.waiting() - superseded - lost,
            lost: progress.lost + lost,
        }
    }
}

impl Progress {
    fn waiting(&self) -> u64 {
        u64::from(self.waiting) + u64::from(self.waiting_with_key)
    }

    fn lose(&mut self, count: u64, tally: &mut Tally) {
        self.lost += count;
        let untold = u32::try_from(count).unwrap_or(u32::MAX);
        self.untold = self.untold.saturating_add(untold);
        tally.lost += count;
    }

    fn wait_for<T>(&mut self, logged: &Logged<T>, overflow: Overflow, tally: &mut Tally) {
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
}

impl<T: Send + Sync + 'static> Seat<T> {
    /// Offers messages to the connection, with their encoded `frames` if it may share these. Returns how many it took,
    /// or `None` if it is gone.
    pub(super) fn offer(
        &self,
        messages: &[&SharedMessage],
        frames: Option<&SharedFrames>,
        turn: Turn,
        after: &mut After<T>,
    ) -> Option<usize> {
        if messages.is_empty() {
            return Some(0);
        }
        let member = &self.member;
        let link: &Link = member.link();
        let membership = || Arc::clone(member).into();
        let taken = link.offer(messages, frames, turn, membership, &mut after.wakers);
        match taken {
            Some(count) => after.tally.delivered += count as u64,
            None => {
                after.tally.unsent += messages.len() as u64;
                after.left.push((Arc::clone(member), None));
            }
        }
        taken
    }
}
