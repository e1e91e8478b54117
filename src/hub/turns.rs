//! What a member that is behind gets first, in a room with keys.
//!
//! A slow link takes a few messages at a time, and meanwhile newer ones take the places of those that wait. If it always
//! took the message that was sent first, a key with frequent updates might never be that one. So there are rounds: in
//! each of them, every key that waits is taken once.

use super::log::{Logged, MAX_KEYS};

/// What a member has got while it is behind.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Messages from this offset on belong to the next round, unless they have a key that was not served in this one.
    round: u64,
    /// The keys that were served, by their places.
    served: Vec<Served>,
}

#[derive(Debug)]
struct Served {
    place: u64,
    /// The offset of the last message with the key.
    offset: u64,
    in_round: bool,
}

impl Turns {
    fn find(&self, place: u64) -> Result<usize, usize> {
        self.served
            .binary_search_by_key(&place, |served| served.place)
    }

    /// Returns whether the member has got this message, ahead of older ones.
    pub(super) fn has<T>(&self, logged: &Logged<T>) -> bool {
        let Some(place) = logged.place() else {
            return false;
        };
        let at = self.find(place);
        at.is_ok_and(|at| self.served[at].offset == logged.offset)
    }

    fn is_of_next_round<T>(&self, logged: &Logged<T>) -> bool {
        match logged.place() {
            Some(place) => self.find(place).is_ok_and(|at| self.served[at].in_round),
            None => logged.offset >= self.round,
        }
    }

    /// Sorts what waits: first this round, then the next one, both in the order of sending. `end` is after the last
    /// offset.
    pub(super) fn sort<T>(&mut self, waiting: &mut [&Logged<T>], end: u64) {
        if waiting.iter().all(|logged| self.is_of_next_round(logged)) {
            self.round = end;
            for served in &mut self.served {
                served.in_round = false;
            }
        }
        waiting.sort_by_key(|logged| self.is_of_next_round(logged));
    }

    /// Records what was taken. `left` has the entries of the log.
    pub(super) fn take<T>(&mut self, taken: &[&Logged<T>], left: &[Logged<T>]) {
        for logged in taken {
            let Some(place) = logged.place() else {
                continue;
            };
            let served = Served {
                place,
                offset: logged.offset,
                in_round: true,
            };
            match self.find(place) {
                Ok(at) => self.served[at] = served,
                Err(at) => self.served.insert(at, served),
            }
        }
        // A key that is not in the log may be again: the entry that supersedes it may not be among `left` yet.
        if self.served.len() > MAX_KEYS {
            let mut live: Vec<u64> = left.iter().filter_map(Logged::place).collect();
            live.sort_unstable();
            self.served
                .retain(|served| live.binary_search(&served.place).is_ok());
        }
    }
}
