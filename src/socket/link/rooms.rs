//! Memberships in rooms of a hub: what a room may queue, and when it may queue more.
//!
//! A room has no queue for each member. It offers shared messages to the connection, which takes as many as fit into
//! the share of rooms. A membership that is behind is woken once these are written, and offers more. So a membership
//! is a [`Waker`]: it is called when the share is free again, and when the connection ends. It is called without the
//! lock.

use std::task::Waker;

use super::{Link, Stage, State};
use crate::codec::{Bound, Load, SharedMessage};

/// The share of rooms in the outbox of a connection.
const SHARE: Bound = Bound {
    messages: 64,
    bytes: 64 * 1024,
};

/// The memberships of one connection.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    memberships: Vec<(u32, Waker)>,
    entered: u32,
    /// The number of memberships that were woken together to offer more.
    turns: u32,
    /// What rooms have queued since all of that was written.
    queued: Load,
    /// The number of the last message that a room has queued.
    last: u64,
}

/// The result of entering a room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Entered {
    /// The ticket of the membership, for [`Link::leave_room`].
    Ticket(u32),
    /// The connection is in as many rooms as it may be.
    TooMany,
    Closed,
}

/// The result of an offer.
#[derive(Debug)]
#[must_use = "the connection has to be woken"]
pub(crate) enum Offered {
    Taken {
        /// The number of messages that were queued, from the first on. If it is not all of them, the membership is
        /// woken when there is room again.
        count: usize,
        /// Wakes the connection's task.
        connection: Option<Waker>,
    },
    /// The connection is closing or gone.
    Closed,
}

/// Why messages are offered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// They are new.
    Live,
    /// The membership was behind. It shares the room with others that are behind.
    Behind,
}

impl Link {
    /// Adds a membership, if there are fewer than `max`.
    pub(crate) fn enter_room(&self, max: usize, membership: Waker) -> Entered {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            drop(state);
            return Entered::Closed;
        }
        let rooms = state.rooms.get_or_insert_default();
        if rooms.memberships.len() >= max {
            drop(state);
            return Entered::TooMany;
        }
        rooms.entered = rooms.entered.wrapping_add(1);
        let ticket = rooms.entered;
        if rooms.memberships.capacity() == 0 {
            // Most connections are in one room.
            rooms.memberships.reserve_exact(1);
        }
        rooms.memberships.push((ticket, membership));
        Entered::Ticket(ticket)
    }

    /// Removes a membership. A call of its waker that has begun may still come.
    pub(crate) fn leave_room(&self, ticket: u32) {
        let mut state = self.lock();
        let Some(rooms) = &mut state.rooms else {
            return;
        };
        let found = rooms.memberships.iter().position(|(own, _)| *own == ticket);
        let left = found.map(|at| rooms.memberships.swap_remove(at).1);
        let behind = match (&left, &mut state.waiters) {
            (Some(left), Some(waiters)) => {
                let own = waiters.behind.iter().position(|own| own.will_wake(left));
                own.map(|at| waiters.behind.remove(at))
            }
            _ => None,
        };
        // What rooms have queued counts until it is written, also for later memberships.
        let written = state.sent() - state.unwritten().messages as u64;
        let all = state
            .rooms
            .take_if(|rooms| rooms.memberships.is_empty() && rooms.last <= written);
        drop(state);
        drop((left, behind, all));
    }

    /// Returns whether the connection has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().stage == Stage::Closed
    }

    /// Queues as many messages, from the first on, as the share of rooms has room for. If not all, `membership` is
    /// woken later.
    pub(crate) fn offer(
        &self,
        messages: &[&SharedMessage],
        turn: Turn,
        membership: impl FnOnce() -> Waker,
    ) -> Offered {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Offered::Closed;
        }
        let written = state.sent() - state.unwritten().messages as u64;
        let rooms = state.rooms.get_or_insert_default();
        if written >= rooms.last {
            rooms.queued = Load::default();
        }
        let turns = match turn {
            Turn::Live => 1,
            Turn::Behind => rooms.turns.max(1) as usize,
        };
        let outbox = self.config.outbox();
        let share = Bound {
            messages: SHARE.messages.min(outbox.messages / 2).max(1),
            bytes: SHARE.bytes.min(outbox.bytes / 2),
        };
        let own_share = Bound {
            messages: (share.messages / turns).max(1),
            bytes: share.bytes / turns,
        };
        let (mut queued, mut own) = (rooms.queued, Load::default());
        let mut count = 0;
        for message in messages {
            let len = message.len();
            let fits = share.takes(queued, Load::default(), len)
                && own_share.takes(own, Load::default(), len);
            if !fits {
                break;
            }
            state.push_shared(message);
            for load in [&mut queued, &mut own] {
                load.messages += 1;
                load.bytes += len;
            }
            count += 1;
        }
        let last = state.sent();
        if let (Some(rooms), true) = (&mut state.rooms, count > 0) {
            rooms.queued = queued;
            rooms.last = last;
        }
        if count < messages.len() {
            let waiters = state.waiters.get_or_insert_default();
            waiters.behind.push(membership());
        }
        if count == 0 {
            return Offered::Taken {
                count,
                connection: None,
            };
        }
        state.dirty = true;
        let connection = match std::mem::take(&mut state.asleep) {
            true => state.connection.take(),
            false => None,
        };
        Offered::Taken { count, connection }
    }
}

impl State {
    /// Returns the wakers of memberships that are behind, if all messages of rooms are written.
    #[cold]
    pub(super) fn take_memberships_behind(&mut self) -> Vec<Waker> {
        let written = self.sent() - self.unwritten().messages as u64;
        let (Some(rooms), Some(waiters)) = (&mut self.rooms, &mut self.waiters) else {
            return Vec::new();
        };
        if waiters.behind.is_empty() || written < rooms.last {
            return Vec::new();
        }
        rooms.turns = u32::try_from(waiters.behind.len()).unwrap_or(u32::MAX);
        std::mem::take(&mut waiters.behind)
    }

    /// Takes all memberships, because the connection ends.
    pub(super) fn take_memberships(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let rooms = self.rooms.take();
        let memberships = rooms.map(|rooms| rooms.memberships).unwrap_or_default();
        memberships.into_iter().map(|(_, waker)| waker)
    }

    fn push_shared(&mut self, shared: &SharedMessage) {
        let len = shared.len();
        if let Some(uncompressed) = &mut self.uncompressed {
            let mut message = shared.message().clone();
            if uncompressed.push(&mut message, true) {
                self.count_sent(len);
                return;
            }
        }
        self.count_sent(len);
        if self.writing.is_empty() {
            // Only while output flows, as for other messages.
            self.outbox.acquire_memory();
        }
        self.outbox.push_shared(shared);
    }

    const fn count_sent(&mut self, len: usize) {
        self.traffic.messages_sent += 1;
        self.traffic.bytes_sent += len as u64;
    }
}
