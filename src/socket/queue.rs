//! Those who wait for room, and whose turn it is.

use std::collections::VecDeque;

/// How often the first who waits may not ask for room before it loses its turn.
const OPPORTUNITIES: usize = 16;

/// A place in the queue.
pub(super) type Ticket = u64;

/// Those who wait for room to send, in the order in which they get it: else a large message might
/// never find room among small ones.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Ticket>,
    next: Ticket,
    /// How often room was made, or asked for by others, since the first of them has asked for it.
    missed: usize,
}

impl Queue {
    /// Adds somebody behind all others.
    pub(super) fn join(&mut self) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.waiting.push_back(ticket);
        ticket
    }

    pub(super) fn leave(&mut self, ticket: Ticket) {
        if self.waiting.front() == Some(&ticket) {
            self.missed = 0;
        }
        self.waiting.retain(|other| *other != ticket);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Tells whether room may be given to the holder of `ticket`, or to somebody without one.
    ///
    /// That is the first who waits, unless it seems to be a future that nobody polls, which must
    /// not keep all others waiting.
    pub(super) fn is_turn_of(&mut self, ticket: Option<Ticket>) -> bool {
        let is_first = ticket.is_some() && self.waiting.front() == ticket.as_ref();
        if is_first {
            self.missed = 0;
        }
        is_first || self.is_empty() || self.missed >= OPPORTUNITIES
    }

    /// Notes that there was something to ask for.
    pub(super) const fn miss(&mut self) {
        self.missed += 1;
    }
}
