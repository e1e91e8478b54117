//! Memberships in rooms of a hub: what a room may queue, and when it may queue more.
//!
//! A room has no queue for each member. It offers shared messages to the connection, which takes as many as fit into
//! the share of rooms. A membership that is behind is woken once these are written, and offers more. So a membership
//! is a [`Waker`]: it is called when the share is free again, and when the connection ends. It is called without the
//! lock.

use std::{mem, sync::atomic::Ordering, task::Waker};

use super::{Link, Stage, State, uncompressed::Shape};
use crate::codec::{Bound, Load, SharedFrames, SharedMessage, Sharing};

/// The share of rooms in the outbox of a connection.
const SHARE: Bound = Bound {
    messages: 64,
    bytes: 64 * 1024,
};

/// The unit of queued bytes.
const UNIT: usize = 16;

/// The memberships of one connection, and what rooms have queued.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    memberships: Memberships,
    /// The number of messages that rooms have queued since all earlier ones were written, and their bytes in [`UNIT`]s.
    /// Both are at most about their [`SHARE`].
    messages: u8,
    units: u16,
    /// The number of memberships that were woken together to offer more, at most 255.
    turns: u8,
    /// The low bits of the number of the last message that a room has queued.
    last: u32,
    /// The bytes of messages that the connection had sent when it lent its stream.
    pub(super) sent_when_lent: u64,
}

impl Rooms {
    fn queued(&self) -> Load {
        Load {
            messages: usize::from(self.messages),
            bytes: usize::from(self.units) * UNIT,
        }
    }

    fn set_queued(&mut self, load: Load) {
        self.messages = u8::try_from(load.messages).unwrap_or(u8::MAX);
        self.units = u16::try_from(load.bytes.div_ceil(UNIT)).unwrap_or(u16::MAX);
    }

    /// Returns whether all that rooms have queued is written, if of `sent` messages these are `unwritten`.
    fn are_written(&self, sent: u64, unwritten: usize) -> bool {
        let since = (sent as u32).wrapping_sub(self.last);
        since as usize >= unwritten
    }
}

/// Most connections are in one room, and then need no further memory for it.
#[derive(Debug, Default)]
enum Memberships {
    #[default]
    None,
    One(Waker),
    Many(Vec<Waker>),
}

impl Memberships {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(all) => all.len(),
        }
    }

    fn push(&mut self, membership: Waker) {
        *self = match mem::take(self) {
            Self::None => Self::One(membership),
            Self::One(first) => Self::Many(vec![first, membership]),
            Self::Many(mut all) => {
                all.push(membership);
                Self::Many(all)
            }
        };
    }

    fn remove(&mut self, membership: &Waker) -> Option<Waker> {
        // A membership is an `Arc`, and `will_wake` may also compare tables of functions, which are not unique.
        let is_it = |own: &Waker| own.data() == membership.data();
        match self {
            Self::One(own) if is_it(own) => match mem::take(self) {
                Self::One(own) => Some(own),
                _ => None,
            },
            Self::Many(all) => {
                let at = all.iter().position(is_it)?;
                let removed = all.swap_remove(at);
                if all.is_empty() {
                    *self = Self::None;
                }
                Some(removed)
            }
            _ => None,
        }
    }

    fn into_wakers(self) -> impl Iterator<Item = Waker> {
        let (one, many) = match self {
            Self::None => (None, Vec::new()),
            Self::One(one) => (Some(one), Vec::new()),
            Self::Many(all) => (None, all),
        };
        one.into_iter().chain(many)
    }
}

/// The result of entering a room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Entered {
    Member,
    /// The connection is in as many rooms as it may be.
    TooMany,
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
        rooms.memberships.push(membership);
        self.is_member.store(true, Ordering::Relaxed);
        Entered::Member
    }

    /// Returns whether the connection is in a room, or was.
    #[inline]
    pub(crate) fn is_member(&self) -> bool {
        self.is_member.load(Ordering::Relaxed)
    }

    /// Returns how the connection shares compressed messages with others, if it does.
    pub(crate) fn sharing(&self) -> Option<Sharing> {
        let state = self.lock();
        let uncompressed = state.uncompressed.as_ref();
        uncompressed.and_then(|uncompressed| uncompressed.sharing())
    }

    /// Removes a membership. A call of its waker that has begun may still come.
    pub(crate) fn leave_room(&self, membership: &Waker) {
        let mut state = self.lock();
        let Some(rooms) = &mut state.rooms else {
            return;
        };
        let left = rooms.memberships.remove(membership);
        let behind = state.waiters.as_mut().and_then(|waiters| {
            let is_it = |own: &Waker| own.data() == membership.data();
            let own = waiters.behind.iter().position(is_it)?;
            Some(waiters.behind.remove(own))
        });
        let all = state.take_unused_rooms();
        let empty_waiters = state.take_empty_waiters();
        drop(state);
        drop((left, behind, all, empty_waiters));
    }

    /// Returns whether the connection has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().stage == Stage::Closed
    }

    /// Returns how much rooms may queue.
    #[inline]
    pub(super) fn share_of_rooms(&self) -> Bound {
        let outbox = self.config.outbox();
        Bound {
            messages: SHARE.messages.min(outbox.messages / 2).max(1),
            bytes: SHARE.bytes.min(outbox.bytes / 2),
        }
    }

    /// Writes or queues as many messages, from the first on, as the share of rooms has room for. If not all,
    /// `membership` is woken later. Returns the number of messages, or `None` if the connection is closing or gone.
    ///
    /// `frames` has all the messages encoded, if connections may share that. `wakers` get those to call without locks.
    pub(crate) fn offer(
        &self,
        messages: &[&SharedMessage],
        frames: Option<&SharedFrames>,
        turn: Turn,
        membership: impl FnOnce() -> Waker,
        wakers: &mut Vec<Waker>,
    ) -> Option<usize> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return None;
        }
        let share = self.share_of_rooms();
        // A write calls memberships that are behind. They must not write within that call.
        let writes = turn == Turn::Live && state.is_lent();
        let (sent, unwritten) = (state.sent(), state.unwritten().messages);
        let rooms = state.rooms.get_or_insert_default();
        if rooms.are_written(sent, unwritten) {
            rooms.set_queued(Load::default());
        }
        let turns = match turn {
            Turn::Live => 1,
            Turn::Behind => usize::from(rooms.turns.max(1)),
        };
        let own_share = Bound {
            messages: (share.messages / turns).max(1),
            bytes: share.bytes / turns,
        };
        let (mut queued, mut own) = (rooms.queued(), Load::default());
        let mut count = 0;
        if let Some(frames) = frames {
            let load = frames.load();
            let fits = share.holds(queued, load) && own_share.holds(Load::default(), load);
            if fits && state.push_shared_frames(frames) {
                queued.messages += load.messages;
                queued.bytes += load.bytes;
                count = messages.len();
            }
        }
        for message in &messages[count..] {
            let shape = state.shape(message);
            let len = match shape {
                Shape::Shared(compressed) => compressed.len(),
                Shape::Plain | Shape::Own => message.len(),
            };
            let fits = share.takes(queued, Load::default(), len)
                && own_share.takes(own, Load::default(), len);
            if !fits {
                break;
            }
            state.push_shared(message, shape);
            for load in [&mut queued, &mut own] {
                load.messages += 1;
                load.bytes += len;
            }
            count += 1;
        }
        if count > 0 {
            state.note_queued(queued);
        }
        if count < messages.len() {
            let waiters = state.waiters.get_or_insert_default();
            waiters.behind.push(membership());
        }
        if count > 0 && writes {
            let is_written = state.write_queued();
            state.after_write(is_written, self.config.outbox(), wakers);
        } else if count > 0 {
            wakers.extend(state.rouse());
        }
        Some(count)
    }
}

impl State {
    /// Takes the state of rooms if the connection is in none. What rooms have queued counts until it is written, also
    /// for later memberships.
    pub(super) fn take_unused_rooms(&mut self) -> Option<Box<Rooms>> {
        let (sent, unwritten) = (self.sent(), self.unwritten().messages);
        let is_lent = self.lent.is_some();
        let is_unused = |rooms: &mut Box<Rooms>| {
            rooms.memberships.len() == 0 && !is_lent && rooms.are_written(sent, unwritten)
        };
        self.rooms.take_if(is_unused)
    }

    /// Returns the wakers of memberships that are behind, if all messages of rooms are written.
    #[cold]
    pub(super) fn take_memberships_behind(&mut self) -> Vec<Waker> {
        let (sent, unwritten) = (self.sent(), self.unwritten().messages);
        let (Some(rooms), Some(waiters)) = (&mut self.rooms, &mut self.waiters) else {
            return Vec::new();
        };
        if waiters.behind.is_empty() || !rooms.are_written(sent, unwritten) {
            return Vec::new();
        }
        rooms.turns = u8::try_from(waiters.behind.len()).unwrap_or(u8::MAX);
        let behind = mem::take(&mut waiters.behind);
        // An empty queue of waiters holds nothing of the user, so it may be dropped with the lock.
        drop(self.take_empty_waiters());
        behind
    }

    /// Takes all memberships, because the connection ends.
    pub(super) fn take_memberships(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let rooms = self.rooms.take();
        let memberships = rooms.map(|rooms| rooms.memberships).unwrap_or_default();
        memberships.into_wakers()
    }

    /// Returns how a message is sent.
    fn shape<'a>(&self, shared: &'a SharedMessage) -> Shape<'a> {
        let uncompressed = self.uncompressed.as_ref();
        uncompressed.map_or(Shape::Plain, |uncompressed| uncompressed.shape(shared))
    }

    fn push_shared(&mut self, shared: &SharedMessage, shape: Shape<'_>) {
        self.traffic.messages_sent += 1;
        self.traffic.bytes_sent += shared.len() as u64;
        let message = shared.message();
        if let Some(uncompressed) = &mut self.uncompressed {
            if let Shape::Shared(payload) = shape {
                uncompressed.saved += shared.len().saturating_sub(payload.len()) as u64;
            }
            let is_queued = match shape {
                Shape::Shared(payload) => uncompressed.push_compressed(message.is_text(), payload),
                Shape::Plain => uncompressed.push(&mut message.clone(), false),
                Shape::Own => uncompressed.push(&mut message.clone(), true),
            };
            if is_queued {
                return;
            }
        }
        self.acquire_memory_to_share();
        match shape {
            Shape::Shared(payload) => self.outbox.push_compressed(message.is_text(), payload),
            Shape::Plain | Shape::Own => self.outbox.push_shared(shared),
        }
    }

    /// Returns `false` if the messages have to be queued one by one.
    fn push_shared_frames(&mut self, frames: &SharedFrames) -> bool {
        if self.uncompressed.is_some() {
            return false;
        }
        self.acquire_memory_to_share();
        let is_queued = self.outbox.push_shared_frames(frames);
        if is_queued {
            self.count_sent(frames.load());
        }
        is_queued
    }

    pub(super) const fn count_sent(&mut self, load: Load) {
        self.traffic.messages_sent += load.messages as u64;
        self.traffic.bytes_sent += load.bytes as u64;
    }

    /// Records what rooms have queued, after all that was sent.
    pub(super) fn note_queued(&mut self, queued: Load) {
        let last = self.sent();
        if let Some(rooms) = &mut self.rooms {
            rooms.set_queued(queued);
            rooms.last = last as u32;
        }
    }

    fn acquire_memory_to_share(&mut self) {
        if self.writing.is_empty() {
            // Only while output flows, as for other messages.
            self.outbox.acquire_memory();
        }
    }
}
