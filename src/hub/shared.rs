//! What the clones of a hub share: its rooms by name.

use std::{
    borrow::Borrow,
    collections::{HashSet, hash_map::RandomState},
    hash::{BuildHasher, Hash, Hasher},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    config::{ByName, HubConfig},
    counts::HubCounts,
    ends::Ends,
    envelope::Form,
    error::JoinError,
    names::is_name,
    presence::Card,
    report::Line,
    state::{Joined, Joining, Manner, RoomState},
    sweep::Sweep,
    tasks::Tasks,
    watch::Watch,
};
use crate::socket::{
    Link,
    sync::{Mutex, MutexGuard},
};

/// The parts of the table of rooms, each with a lock of its own.
// One in models: loom has to see the same locks in each run, and the hashes differ.
const SHARDS: usize = if cfg!(all(test, tower_websocket_loom)) {
    1
} else {
    64
};

/// A part of the table of rooms. It has cache lines of its own, so that publishers of other rooms do not wait for them.
#[repr(align(128))]
struct Shard<T>(Mutex<Rooms<T>>);

struct Rooms<T> {
    by_name: HashSet<Named<T>, RandomState>,
    /// The counts of the rooms that have ended, and of joins for which there was no room.
    ended: HubCounts,
}

/// A room in the table, found by its name.
struct Named<T>(Arc<RoomState<T>>);

impl<T> Borrow<str> for Named<T> {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl<T> Hash for Named<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        str::hash(self.0.name(), state);
    }
}

impl<T> PartialEq for Named<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl<T> Eq for Named<T> {}

/// A room that was removed from the table.
#[must_use = "it is dropped, and its last line is logged, without a lock"]
struct Removed<T> {
    room: Arc<RoomState<T>>,
    line: Option<Line>,
}

impl<T> Rooms<T> {
    /// Removes a room that is gone, and keeps its counts.
    fn remove(&mut self, room: &RoomState<T>) -> Option<Removed<T>> {
        let found = self.by_name.get(&**room.name())?;
        if !std::ptr::eq(&raw const *found.0, room) {
            return None;
        }
        let Named(room) = self.by_name.take(&**room.name())?;
        let (counts, line) = room.take_done();
        self.ended += counts;
        Some(Removed { room, line })
    }
}

impl<T> Removed<T> {
    fn finish(self) {
        if self.room.settings.has_history() {
            self.room.hub.sweep.end();
        }
        if let Some(line) = self.line {
            self.room.log_line(line);
        }
    }
}

pub(super) struct Shared<T> {
    shards: [Shard<T>; SHARDS],
    hasher: RandomState,
    config: ByName<T>,
    form: Option<Form<T>>,
    max_rooms: usize,
    pub(super) max_rooms_per_connection: usize,
    pub(super) max_backlog: usize,
    pub(super) backlog: Backlog,
    pub(super) max_history: usize,
    /// The bytes in the histories of all rooms.
    pub(super) history: AtomicUsize,
    pub(super) sweep: Sweep<T>,
    /// A random number for this hub, and those of its epochs.
    pub(super) boot: u64,
    epochs: AtomicU64,
    pub(super) ends: Ends,
    rooms: AtomicUsize,
    serial: AtomicU64,
}

/// The bytes in the backlogs of all rooms, without what a room in which nobody is behind may have. All publishers read
/// it, so it has a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Backlog(pub(super) AtomicUsize);

impl<T> Shared<T> {
    pub(super) fn new(config: HubConfig<T>) -> Self {
        let hasher = RandomState::new();
        let shard = |_| {
            Shard(Mutex::new(Rooms {
                by_name: HashSet::with_hasher(hasher.clone()),
                ended: HubCounts::default(),
            }))
        };
        Self {
            shards: std::array::from_fn(shard),
            hasher,
            config: config.rooms,
            form: config.form,
            max_rooms: config.max_rooms,
            max_rooms_per_connection: config.max_rooms_per_connection,
            max_backlog: config.max_backlog,
            backlog: Backlog::default(),
            max_history: config.max_history,
            history: AtomicUsize::new(0),
            sweep: Sweep::default(),
            boot: RandomState::new().hash_one(0),
            epochs: AtomicU64::new(0),
            ends: Ends::default(),
            rooms: AtomicUsize::new(0),
            serial: AtomicU64::new(0),
        }
    }

    /// Returns the next number of a member.
    pub(super) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns a random number for a history, which is never 0.
    pub(super) fn next_epoch(&self) -> u64 {
        let number = self.epochs.fetch_add(1, Ordering::Relaxed);
        RandomState::new().hash_one(number).max(1)
    }

    fn shard(&self, name: &str) -> MutexGuard<'_, Rooms<T>> {
        let shard = self.hasher.hash_one(name) as usize % SHARDS;
        let Shard(shard) = &self.shards[shard];
        // No code of others runs under the lock.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<RoomState<T>>> {
        let rooms = self.shard(name);
        let Named(room) = rooms.by_name.get(name)?;
        Some(Arc::clone(room))
    }

    /// Removes a room that is gone, unless a new one has its name already.
    pub(super) fn remove(&self, room: &RoomState<T>) {
        let mut rooms = self.shard(room.name());
        let removed = rooms.remove(room);
        let (len, capacity) = (rooms.by_name.len(), rooms.by_name.capacity());
        if capacity > 4 * len.max(8) {
            rooms.by_name.shrink_to_fit();
        }
        drop(rooms);
        if let Some(removed) = removed {
            self.rooms.fetch_sub(1, Ordering::Relaxed);
            removed.finish();
        }
    }

    /// Returns all rooms.
    pub(super) fn all(&self) -> Vec<Arc<RoomState<T>>> {
        self.counted().1
    }

    /// Returns what all rooms have done, and those that there are. A room is counted either as one of these or as ended.
    fn counted(&self) -> (HubCounts, Vec<Arc<RoomState<T>>>) {
        let (mut counts, mut all) = (HubCounts::default(), Vec::new());
        for Shard(shard) in &self.shards {
            let rooms = shard.lock().unwrap_or_else(PoisonError::into_inner);
            counts += rooms.ended;
            for Named(room) in &rooms.by_name {
                counts += room.done();
                all.push(Arc::clone(room));
            }
        }
        (counts, all)
    }

    pub(super) fn counts(&self) -> HubCounts {
        let (mut counts, all) = self.counted();
        for room in all {
            room.add_present(&mut counts);
        }
        counts.totalled()
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// Returns the room with this name, and makes it if there is none. `gone` is replaced.
    fn room(
        self: &Arc<Self>,
        name: &Arc<str>,
        gone: Option<&Arc<RoomState<T>>>,
    ) -> Result<Arc<RoomState<T>>, JoinError> {
        let here = self.sweep.is_orphaned().then(Tasks::try_here).flatten();
        if let Some(tasks) = here.filter(|_| self.sweep.takes_over()) {
            tasks.sweep(Arc::clone(self));
        }
        let is_gone = |room: &Arc<RoomState<T>>| gone.is_some_and(|gone| Arc::ptr_eq(room, gone));
        if let Some(room) = self.find(name).filter(|room| !is_gone(room)) {
            return Ok(room);
        }
        // The user's code runs without a lock.
        let mut config = (self.config)(name);
        if let Some(form) = &self.form {
            config.form = form.clone();
        }
        let history = config.history;
        let made = RoomState::new(Arc::clone(self), Arc::clone(name), config, Tasks::here());
        let made = Arc::new(made);
        let mut rooms = self.shard(name);
        let found = rooms.by_name.get(&**name);
        let replaced = match found.map(|Named(room)| Arc::clone(room)) {
            Some(room) if !is_gone(&room) => {
                drop(rooms);
                return Ok(room);
            }
            Some(room) => rooms.remove(&room),
            None => {
                let was = self.rooms.fetch_add(1, Ordering::Relaxed);
                if was >= self.max_rooms {
                    self.rooms.fetch_sub(1, Ordering::Relaxed);
                    drop(rooms);
                    return Err(JoinError::TooManyRooms);
                }
                None
            }
        };
        if history.is_some() {
            self.sweep.begin();
        }
        rooms.by_name.insert(Named(Arc::clone(&made)));
        drop(rooms);
        if let Some(replaced) = replaced {
            replaced.finish();
        }
        if let Some(history) = history {
            if self.sweep.add(&made, history.age()) {
                made.tasks.sweep(Arc::clone(self));
            }
        }
        Ok(made)
    }

    /// Has a connection join a room. Without a card it is silent.
    pub(super) fn join(
        self: &Arc<Self>,
        name: &Arc<str>,
        link: &Arc<Link>,
        mut card: Option<Arc<Card<T>>>,
        manner: &Manner,
    ) -> Result<Joined<T>, JoinError> {
        if !is_name(name) {
            return Err(self.refuse(name, JoinError::Name));
        }
        let mut gone = None;
        loop {
            let room = match self.room(name, gone.as_ref()) {
                Ok(room) => room,
                Err(error) => return Err(self.refuse(name, error)),
            };
            match room.join(link, card, manner) {
                Ok(Joining::Joined(joined)) => return Ok(joined),
                Ok(Joining::Gone(own)) => {
                    card = own;
                    gone = Some(room);
                }
                Err(error) => {
                    room.release();
                    return Err(error);
                }
            }
        }
    }

    /// Counts a join for which there is no room.
    fn refuse(&self, name: &str, error: JoinError) -> JoinError {
        self.shard(name).ended.refused_by.add(&error);
        error
    }

    pub(super) fn watch(self: &Arc<Self>, name: &Arc<str>) -> Result<Watch<T>, JoinError> {
        if !is_name(name) {
            return Err(JoinError::Name);
        }
        let mut gone = None;
        loop {
            let room = self.room(name, gone.as_ref())?;
            if let Some(watch) = Watch::new(Arc::clone(&room)) {
                return Ok(watch);
            }
            gone = Some(room);
        }
    }
}
