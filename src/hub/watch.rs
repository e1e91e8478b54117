//! Watching a room from outside: a snapshot of its members, then each change.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::Stream;

use super::{
    RoomState,
    member::LeaveReason,
    presence::{Presence, Roster},
};
use crate::socket::sync::{Mutex, MutexGuard};

/// The most events that wait for a [`Watch`].
const MAX_EVENTS: usize = 1024;

/// A change of a room's members.
#[non_exhaustive]
pub enum Event<T> {
    /// All members. The first event, and again in the place of events when more than 1,024 were not received.
    Snapshot(Roster<T>),
    /// Someone has come: a member without a key, or the first one with its key.
    Joined(Presence<T>),
    /// The value has changed, or the oldest member with the key has left and another one is there.
    Updated(Presence<T>),
    /// Someone has gone: a member without a key, or the last one with its key.
    Left {
        /// Who has gone.
        presence: Presence<T>,
        /// Why.
        reason: LeaveReason,
    },
}

impl<T> Clone for Event<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Snapshot(roster) => Self::Snapshot(roster.clone()),
            Self::Joined(presence) => Self::Joined(presence.clone()),
            Self::Updated(presence) => Self::Updated(presence.clone()),
            Self::Left { presence, reason } => Self::Left {
                presence: presence.clone(),
                reason: *reason,
            },
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(roster) => f.debug_tuple("Snapshot").field(roster).finish(),
            Self::Joined(presence) => f.debug_tuple("Joined").field(presence).finish(),
            Self::Updated(presence) => f.debug_tuple("Updated").field(presence).finish(),
            Self::Left { presence, reason } => f
                .debug_struct("Left")
                .field("presence", presence)
                .field("reason", reason)
                .finish(),
        }
    }
}

/// A stream of the changes of a room's members, from [`Room::watch`](super::Room::watch).
///
/// The first item is a [`Event::Snapshot`] of the moment in which it is received, and the events that follow are exactly
/// what has changed since. A watch that is not read holds at most 1,024 events; then its next item is a new snapshot. It
/// never ends.
///
/// # Cancel safety
///
/// Dropping the future of the next item loses nothing.
pub struct Watch<T> {
    room: Arc<RoomState<T>>,
    queue: Arc<Queue<T>>,
}

/// The events that a watch has not received.
pub(super) struct Queue<T>(Mutex<Events<T>>);

struct Events<T> {
    /// `None` if the next event is a snapshot.
    events: Option<VecDeque<Event<T>>>,
    waker: Option<Waker>,
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, Events<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event. Returns the waker to call, and what to drop, without a lock.
    pub(super) fn push(&self, event: &Event<T>) -> (Option<Waker>, Option<VecDeque<Event<T>>>) {
        let mut state = self.lock();
        let mut dropped = None;
        if let Some(events) = &mut state.events {
            if events.len() < MAX_EVENTS {
                events.push_back(event.clone());
            } else {
                dropped = state.events.take();
            }
        }
        (state.waker.take(), dropped)
    }

    /// Begins to collect events after a snapshot. The lock of the room's roster is held.
    fn begin(&self) {
        self.lock().events = Some(VecDeque::new());
    }
}

impl<T: Send + Sync + 'static> Watch<T> {
    pub(super) fn new(room: Arc<RoomState<T>>) -> Option<Self> {
        let queue = Arc::new(Queue(Mutex::new(Events {
            events: None,
            waker: None,
        })));
        let is_open = room.add_watch(&queue);
        is_open.then_some(Self { room, queue })
    }
}

impl<T: Send + Sync + 'static> Stream for Watch<T> {
    type Item = Event<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event<T>>> {
        let mut state = self.queue.lock();
        let Some(events) = &mut state.events else {
            drop(state);
            let roster = self.room.snapshot(|| self.queue.begin());
            return Poll::Ready(Some(Event::Snapshot(roster)));
        };
        if let Some(event) = events.pop_front() {
            return Poll::Ready(Some(event));
        }
        let is_same = |waker: &Waker| waker.will_wake(cx.waker());
        let replaced = match state.waker.as_ref().is_some_and(is_same) {
            true => None,
            false => state.waker.replace(cx.waker().clone()),
        };
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        self.room.remove_watch(&self.queue);
    }
}

impl<T> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("room", &self.room.name())
            .finish_non_exhaustive()
    }
}
