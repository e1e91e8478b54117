//! Forgetting old messages, and rooms that are only kept for their history.
//!
//! One task for a hub does so while there is a room with history. A room is looked at when its oldest message expires,
//! and at the latest after the age to which its messages are kept.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::{
        Arc, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering as Atomic},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout_at};

use super::{RoomState, Shared};
use crate::{
    socket::{
        now,
        sync::{Mutex, MutexGuard},
    },
    time::Moment,
};

/// A room is not looked at more often than that.
const INTERVAL: Duration = Duration::from_secs(1);
/// As many rooms may be in the queue before those that have ended are removed from it.
const QUEUED: usize = 64;

/// The rooms with history of a hub.
pub(super) struct Sweep<T> {
    rooms: Mutex<Rooms<T>>,
    /// The rooms that have not ended, also those that are not in the queue yet.
    live: AtomicUsize,
    /// The task was dropped with its runtime, and left rooms with members.
    is_orphaned: AtomicBool,
    /// There is a room that has to be looked at earlier, or no room is left.
    earlier: Notify,
}

struct Rooms<T> {
    due: BinaryHeap<Reverse<Due<T>>>,
    /// At this length, rooms that have ended are removed from the queue.
    full: usize,
    is_running: bool,
}

struct Due<T> {
    at: Moment,
    room: Weak<RoomState<T>>,
}

impl<T> Default for Sweep<T> {
    fn default() -> Self {
        Self {
            rooms: Mutex::new(Rooms {
                due: BinaryHeap::new(),
                full: QUEUED,
                is_running: false,
            }),
            live: AtomicUsize::new(0),
            is_orphaned: AtomicBool::new(false),
            earlier: Notify::new(),
        }
    }
}

impl<T> Sweep<T> {
    fn rooms(&self) -> MutexGuard<'_, Rooms<T>> {
        // No code of others runs under the lock.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a room with history. Call this before the room can end.
    pub(super) fn begin(&self) {
        self.live.fetch_add(1, Atomic::SeqCst);
    }

    /// Records that a room with history has ended. The task ends with the last one.
    pub(super) fn end(&self) {
        if self.live.fetch_sub(1, Atomic::SeqCst) == 1 {
            self.earlier.notify_one();
        }
    }

    /// Returns whether the task was dropped with its runtime, and left rooms with members.
    pub(super) fn is_orphaned(&self) -> bool {
        self.is_orphaned.load(Atomic::Relaxed)
    }

    /// Returns whether a task has to be spawned in the place of one whose runtime has ended. The caller can spawn it.
    pub(super) fn takes_over(&self) -> bool {
        self.is_orphaned.swap(false, Atomic::SeqCst)
            && !std::mem::replace(&mut self.rooms().is_running, true)
    }

    /// Adds a room that was counted. Returns whether a task has to be spawned.
    pub(super) fn add(&self, room: &Arc<RoomState<T>>, age: Duration) -> bool {
        let due = Due {
            at: now() + age,
            room: Arc::downgrade(room),
        };
        let mut rooms = self.rooms();
        if rooms.due.len() >= rooms.full {
            // A room may have ended long before it is due.
            rooms.due.retain(|due| due.0.room.strong_count() > 0);
            rooms.full = QUEUED.max(2 * rooms.due.len());
        }
        let is_first = rooms
            .due
            .peek()
            .is_none_or(|Reverse(first)| due.at < first.at);
        rooms.due.push(Reverse(due));
        let is_new = !std::mem::replace(&mut rooms.is_running, true);
        drop(rooms);
        if is_first && !is_new {
            self.earlier.notify_one();
        }
        is_new
    }

    /// Looks at the rooms that are due. Returns when the next one is, or `None` if there is no room.
    fn run(&self) -> Option<Moment> {
        loop {
            let now = now();
            let mut rooms = self.rooms();
            let first = rooms.due.peek();
            let first = first.filter(|_| self.live.load(Atomic::SeqCst) > 0);
            let Some(Reverse(first)) = first else {
                rooms.is_running = false;
                rooms.due = BinaryHeap::new();
                return None;
            };
            if first.at > now {
                return Some(first.at);
            }
            let due = rooms.due.pop();
            drop(rooms);
            let room = due.and_then(|Reverse(due)| due.room.upgrade());
            let next = room.as_ref().and_then(|room| room.sweep(now));
            if let (Some(room), Some(next)) = (room, next) {
                let due = Due {
                    at: next.max(now + INTERVAL),
                    room: Arc::downgrade(&room),
                };
                self.rooms().due.push(Reverse(due));
            }
        }
    }
}

/// The task. If it is dropped with its runtime, the rooms end that nobody would sweep any more. Those with members are
/// swept by the task that the next join in a runtime spawns.
pub(super) struct Sweeper<T> {
    hub: Arc<Shared<T>>,
    is_complete: bool,
}

impl<T> Sweeper<T> {
    pub(super) const fn new(hub: Arc<Shared<T>>) -> Self {
        Self {
            hub,
            is_complete: false,
        }
    }

    /// Sweeps until there is no room with history.
    pub(super) async fn run(mut self) {
        while let Some(next) = self.hub.sweep.run() {
            let next = Instant::from(next).into();
            let _ = timeout_at(next, self.hub.sweep.earlier.notified()).await;
        }
        self.is_complete = true;
    }
}

impl<T> Drop for Sweeper<T> {
    fn drop(&mut self) {
        if self.is_complete {
            return;
        }
        let sweep = &self.hub.sweep;
        let mut rooms = sweep.rooms();
        rooms.is_running = false;
        let due = std::mem::take(&mut rooms.due);
        drop(rooms);
        for due in due {
            let room = due.0.room.upgrade();
            if room.is_some_and(|room| !room.abandon()) {
                sweep.rooms().due.push(due);
                sweep.is_orphaned.store(true, Atomic::SeqCst);
            }
        }
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}
