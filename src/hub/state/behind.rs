//! Members that are behind: how far, and what they are offered.

use std::sync::Arc;

use super::{
    super::{
        after::After,
        chunk::Chunk,
        config::Overflow,
        counts::Tally,
        log::{Log, Reach, Removed, Replay},
        names::MemberId,
        seat::{Ends, Lag, Notice, Outcome, Seat},
    },
    RoomState,
};
use crate::{codec::SharedMessage, words::CloseCode};

/// Closes a member that cannot be told that it has missed messages.
const MISSED: CloseCode = CloseCode::of::<4000>();

/// Returns where what is left for a member ends.
fn ends(delivered: u64, replay: Option<&Arc<Replay>>) -> Ends {
    let end = delivered.max(replay.map_or(0, |replay| replay.end));
    Ends { end, delivered }
}

impl<T: Send + Sync + 'static> RoomState<T> {
    /// Returns where the entries are for a member that is behind.
    fn reach<'a>(&self, replay: Option<&'a Arc<Replay>>) -> Reach<'a> {
        match (replay, self.settings.overflow) {
            (Some(replay), _) => Reach::Replay(replay),
            (None, Overflow::CatchUp) => Reach::Both,
            (None, _) => Reach::Backlog,
        }
    }

    /// Offers what waits for a member that was behind.
    pub(in crate::hub) fn catch_up(self: &Arc<Self>, id: MemberId) {
        let chunks = self.chunks(&self.log());
        let Some(chunk) = chunks.of(id) else {
            return;
        };
        while self.catch_up_once(id, chunk) == Outcome::More {}
    }

    fn catch_up_once(self: &Arc<Self>, id: MemberId, chunk: &Chunk<T>) -> Outcome {
        let mut after = After::default();
        let mut removed = Removed::default();
        let mut seats = chunk.lock();
        let delivered = seats.next;
        let seat = seats.seat(id);
        let Some(seat) = seat.filter(|seat| seat.is_behind() && !seat.is_paused()) else {
            return Outcome::CaughtUp;
        };
        let replay = seat.replay();
        let ends = ends(delivered, replay.as_ref());
        let reach = self.reach(replay.as_ref());
        let log = self.log();
        let from = seat.next();
        let all = || {
            let left = log.left(from, reach);
            left.take_while(|logged| logged.offset < ends.end)
        };
        let takes_turns = self.settings.overflow == Overflow::Latest && replay.is_none();
        let is_whole = log.is_whole_from(from, reach);
        let left = seat.left(all, ends, is_whole, takes_turns);
        drop(log);
        let gap = |lost| match self.settings.form.gap(self.name(), lost) {
            Some(message) => Notice::Message(SharedMessage::new(message)),
            None if self.settings.has_history() => Notice::Close(MISSED, "messages were missed"),
            None => Notice::Nothing,
        };
        let outcome = seat.catch_up(&left, self.settings.overflow, gap, &mut after);
        let mut log = self.log();
        let line = self.count(&mut log, &after.tally);
        if outcome == Outcome::CaughtUp && self.keeps() {
            log.remove_behind(self.limits());
            log.trim(self.limits(), &mut removed);
        }
        drop(log);
        drop(seats);
        drop((left, removed, replay));
        self.finish(after, line);
        outcome
    }

    /// Returns what became of the messages that waited for a member that leaves.
    pub(super) fn end_of(&self, seat: &Seat<T>, delivered: u64, log: &Log<T>) -> Tally {
        let replay = seat.replay();
        let ends = ends(delivered, replay.as_ref());
        let left = log.left(seat.next(), self.reach(replay.as_ref()));
        seat.end(left.take_while(|logged| logged.offset < ends.end))
    }

    pub(in crate::hub) fn lag(&self, id: MemberId) -> Lag {
        let chunks = self.chunks(&self.log());
        let Some(chunk) = chunks.of(id) else {
            return Lag::default();
        };
        let mut seats = chunk.lock();
        let delivered = seats.next;
        let Some(seat) = seats.seat(id) else {
            return Lag::default();
        };
        let replay = seat.replay();
        let ends = ends(delivered, replay.as_ref());
        let log = self.log();
        let left = log.left(seat.next(), self.reach(replay.as_ref()));
        seat.lag(left.take_while(|logged| logged.offset < ends.end))
    }
}
