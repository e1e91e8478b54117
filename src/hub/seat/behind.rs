//! A member that is behind: what is left for it, and what of that it gets.

use std::sync::Arc;

use super::{
    super::{
        after::{After, BATCH},
        config::Overflow,
        counts::Tally,
        entry::Logged,
        log::Replay,
        turns::Turns,
    },
    Progress, Seat,
};
use crate::{codec::SharedMessage, socket::Turn, words::CloseCode};

/// What is left for a member that is behind.
#[derive(Debug)]
pub(in crate::hub) struct Left<T> {
    /// The first messages that it gets, in the order of sending; all entries if it takes turns.
    entries: Vec<Logged<T>>,
    /// The offset of the next one, if there are more.
    more: Option<u64>,
    end: u64,
    delivered: u64,
    superseded: u64,
    lost: u64,
}

/// Where what is left for a member ends.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Ends {
    /// The end of what the member has to get, or may get by a replay.
    pub(in crate::hub) end: u64,
    /// The end of what was delivered to its chunk.
    pub(in crate::hub) delivered: u64,
}

/// How a member is told that it has missed messages.
#[derive(Debug)]
pub(in crate::hub) enum Notice {
    Message(SharedMessage),
    Close(CloseCode, &'static str),
    Nothing,
}

/// How far a member that was behind has got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::hub) enum Outcome {
    CaughtUp,
    /// It is woken when there is room for more, or it has left.
    Behind,
    /// There is room for more.
    More,
}

/// Why a member that is too slow is closed.
const TOO_SLOW: &str = "too slow";

impl<T> Seat<T> {
    /// Makes it wait for the messages of a replay, which begins at an offset.
    pub(in crate::hub) fn begin_replay(&mut self, from: u64, replay: Replay) {
        let progress = self.progress.get_or_insert_default();
        progress.next = from;
        progress.waiting = replay.messages as u32;
        progress.is_behind = true;
        progress.replay = Some(Arc::new(replay));
    }

    /// Records that `taken` messages of a replay that has not begun were taken out, and that the others are lost.
    pub(in crate::hub) fn skip_replay(&mut self, replay: &Replay, taken: usize) -> Tally {
        let mut tally = Tally {
            delivered: taken as u64,
            ..Tally::default()
        };
        let progress = self.progress.get_or_insert_default();
        progress.waiting -= replay.messages as u32;
        progress.lose((replay.messages - taken) as u64, &mut tally);
        progress.next = replay.end;
        tally
    }

    /// Delivers nothing to the member until it is started. It gets what comes from `next` on.
    pub(in crate::hub) fn pause(&mut self, next: u64) {
        let progress = self.progress.get_or_insert_default();
        if !progress.is_behind {
            progress.next = next;
        }
        progress.is_behind = true;
        progress.is_paused = true;
    }

    pub(in crate::hub) fn start(&mut self) {
        if let Some(progress) = &mut self.progress {
            progress.is_paused = false;
        }
    }

    pub(in crate::hub) fn is_paused(&self) -> bool {
        let progress = self.progress.as_ref();
        progress.is_some_and(|progress| progress.is_paused)
    }

    /// Returns what is left for it. `all` has the entries that are left, from its place up to the end; `is_whole` if
    /// none of them is missing. With `takes_turns` it may get them in another order, so it needs all.
    pub(in crate::hub) fn left<'a, I: Iterator<Item = &'a Logged<T>>>(
        &self,
        all: impl Fn() -> I,
        ends: Ends,
        is_whole: bool,
        takes_turns: bool,
    ) -> Left<T>
    where
        T: 'a,
    {
        let (superseded, lost) = match is_whole {
            true => (0, 0),
            false => self.missed(all()),
        };
        let mut left = Left {
            entries: Vec::new(),
            more: None,
            end: ends.end,
            delivered: ends.delivered,
            superseded,
            lost,
        };
        if takes_turns {
            left.entries = all().cloned().collect();
            return left;
        }
        let mut waiting = all().filter(|logged| self.waits(logged));
        left.entries = waiting.by_ref().take(BATCH).cloned().collect();
        left.more = waiting.next().map(|logged| logged.offset);
        left
    }
}

impl Progress {
    /// Counts what it has missed.
    fn miss_left<T>(&mut self, left: &Left<T>, tally: &mut Tally) {
        self.waiting_with_key -= left.superseded as u32;
        self.waiting -= left.lost as u32;
        tally.superseded += left.superseded;
        self.lose(left.lost, tally);
    }

    /// Counts messages that it has got.
    fn take<T>(&mut self, taken: &[&Logged<T>]) {
        for logged in taken {
            match logged.has_key() {
                true => self.waiting_with_key -= 1,
                false => self.waiting -= 1,
            }
        }
    }
}

impl<T: Send + Sync + 'static> Seat<T> {
    /// Closes the connection of a member that is behind and has missed a message.
    pub(in crate::hub) fn disconnect(
        &mut self,
        code: CloseCode,
        evicted_below: u64,
        left: impl Fn(u64) -> Vec<Logged<T>>,
        after: &mut After<T>,
    ) {
        // A replay does not come from the backlog.
        if self.replay().is_some() || self.next() >= evicted_below {
            return;
        }
        let left = left(self.next());
        let (_, lost) = self.missed(left.iter());
        after.entries.extend(left);
        if lost > 0 {
            let member = Arc::clone(&self.member);
            after.left.push((member, Some((code, TOO_SLOW))));
        }
        // It is judged again when the next entry leaves.
        if let Some(progress) = &mut self.progress {
            progress.next = evicted_below;
        }
    }

    /// Offers what is left for a member that is behind. `gap` makes the notice for a number of lost messages.
    ///
    /// With [`Overflow::Disconnect`], a member that has missed a message is not offered what came after it: its
    /// connection is closed.
    pub(in crate::hub) fn catch_up(
        &mut self,
        left: &Left<T>,
        overflow: Overflow,
        gap: impl FnOnce(u64) -> Notice,
        after: &mut After<T>,
    ) -> Outcome {
        if let (Overflow::Disconnect(code), true) = (overflow, left.lost > 0) {
            // No task of the chunk has looked at it since. What waits is counted when it leaves.
            let member = Arc::clone(&self.member);
            after.left.push((member, Some((code, TOO_SLOW))));
            return Outcome::Behind;
        }
        let progress = self.progress.get_or_insert_default();
        progress.miss_left(left, &mut after.tally);
        let gap = match progress.untold {
            0 => None,
            untold => match gap(untold.into()) {
                Notice::Message(message) => Some(message),
                Notice::Nothing => None,
                Notice::Close(code, reason) => {
                    let member = Arc::clone(&self.member);
                    after.left.push((member, Some((code, reason))));
                    return Outcome::Behind;
                }
            },
        };
        let waiting = left.entries.iter().filter(|logged| self.waits(logged));
        let mut waiting: Vec<&Logged<T>> = waiting.collect();
        let progress = self.progress.get_or_insert_default();
        if waiting.iter().any(|logged| logged.has_key()) {
            let turns = progress
                .turns
                .get_or_insert_with(|| Turns::new(left.end).into());
            turns.sort(&mut waiting, left.end);
        }
        let messages = waiting.iter().filter_map(|logged| logged.entry.shared());
        let messages: Vec<&SharedMessage> = gap.iter().chain(messages).collect();
        let Some(mut taken) = self.offer(&messages, None, Turn::Behind, after) else {
            // It is removed, which counts what waits.
            after.tally.unsent -= messages.len() as u64;
            return Outcome::Behind;
        };
        let is_all = taken == messages.len();
        let progress = self.progress.get_or_insert_default();
        if gap.is_some() && taken > 0 {
            progress.untold = 0;
            taken -= 1;
            after.tally.delivered -= 1;
            after.tally.gaps_told += 1;
        }
        let (taken, rest) = waiting.split_at(taken);
        progress.take(taken);
        let next = rest.iter().map(|logged| logged.offset).min();
        let next = next.or(left.more).unwrap_or(left.end);
        progress.next = progress.next.max(next);
        if let Some(turns) = &mut progress.turns {
            turns.take(taken, &left.entries);
        }
        match (is_all, left.more) {
            (false, _) => Outcome::Behind,
            (true, Some(_)) => Outcome::More,
            (true, None) => {
                progress.is_behind = false;
                progress.replay = None;
                progress.turns = None;
                after.wants_roster |= progress.needs_roster;
                self.delivered_up_to(left.delivered);
                Outcome::CaughtUp
            }
        }
    }
}
