//! What the clones of a hub share: its rooms by name.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    config::{ByName, HubConfig},
    counts::{Counters, add},
    envelope::Form,
    error::JoinError,
    names::is_name,
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

type Rooms<T> = HashMap<Arc<str>, Arc<RoomState<T>>, RandomState>;

pub(super) struct Shared<T> {
    shards: [Mutex<Rooms<T>>; SHARDS],
    hasher: RandomState,
    rooms: AtomicUsize,
    config: ByName<T>,
    form: Option<Form<T>>,
    max_rooms: usize,
    pub(super) max_rooms_per_connection: usize,
    pub(super) max_backlog: usize,
    pub(super) max_history: usize,
    /// The bytes in the histories of all rooms.
    pub(super) history: AtomicUsize,
    pub(super) sweep: Sweep<T>,
    /// A random number for this hub, and those of its epochs.
    pub(super) boot: u64,
    epochs: AtomicU64,
    /// The bytes in the backlogs of all rooms.
    pub(super) backlog: AtomicUsize,
    pub(super) counts: Counters,
    serial: AtomicU64,
}

impl<T> Shared<T> {
    pub(super) fn new(config: HubConfig<T>) -> Self {
        let hasher = RandomState::new();
        Self {
            shards: std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))),
            hasher,
            rooms: AtomicUsize::new(0),
            config: config.rooms,
            form: config.form,
            max_rooms: config.max_rooms,
            max_rooms_per_connection: config.max_rooms_per_connection,
            max_backlog: config.max_backlog,
            max_history: config.max_history,
            history: AtomicUsize::new(0),
            sweep: Sweep::default(),
            boot: RandomState::new().hash_one(0),
            epochs: AtomicU64::new(0),
            backlog: AtomicUsize::new(0),
            counts: Counters::default(),
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
        let shard = self.shards[shard].lock();
        // No code of others runs under the lock.
        shard.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<RoomState<T>>> {
        self.shard(name).get(name).map(Arc::clone)
    }

    /// Removes a room that is gone, unless a new one has its name already.
    pub(super) fn remove(&self, room: &RoomState<T>) {
        let mut rooms = self.shard(room.name());
        let found = rooms.get(&**room.name());
        let is_same = found.is_some_and(|found| std::ptr::eq(&raw const **found, room));
        let removed = is_same.then(|| rooms.remove_entry(&**room.name()));
        if rooms.capacity() > 4 * rooms.len().max(8) {
            rooms.shrink_to_fit();
        }
        drop(rooms);
        if removed.is_some() {
            self.rooms.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Returns all rooms.
    pub(super) fn all(&self) -> Vec<Arc<RoomState<T>>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let rooms = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(rooms.values().map(Arc::clone));
        }
        all
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// Returns the room with this name, and makes it if there is none. `gone` is replaced.
    fn room(
        self: &Arc<Self>,
        name: &Arc<str>,
        gone: Option<&Arc<RoomState<T>>>,
    ) -> Result<Arc<RoomState<T>>, JoinError> {
        let is_gone = |room: &Arc<RoomState<T>>| gone.is_some_and(|gone| Arc::ptr_eq(room, gone));
        if let Some(room) = self.find(name).filter(|room| !is_gone(room)) {
            return Ok(room);
        }
        // The user's code runs without a lock.
        let mut config = (self.config)(name);
        if let Some(form) = &self.form {
            config.form = form.clone();
        }
        let made = RoomState::new(Arc::clone(self), Arc::clone(name), config, Tasks::here());
        let made = Arc::new(made);
        let mut rooms = self.shard(name);
        let replaced = match rooms.get(name) {
            Some(room) if !is_gone(room) => {
                let room = Arc::clone(room);
                drop(rooms);
                return Ok(room);
            }
            Some(_) => rooms.remove(name),
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
        rooms.insert(Arc::clone(name), Arc::clone(&made));
        drop(rooms);
        drop(replaced);
        if let Some(history) = made.config.history {
            if self.sweep.add(&made, history.age()) {
                made.tasks.sweep(Arc::clone(self));
            }
        }
        Ok(made)
    }

    pub(super) fn join(
        self: &Arc<Self>,
        name: &Arc<str>,
        link: &Arc<Link>,
        value: Arc<T>,
        manner: &Manner,
    ) -> Result<Joined<T>, JoinError> {
        let joined = self.try_join(name, link, value, manner);
        if joined.is_err() {
            add(&self.counts.refused, 1);
        }
        joined
    }

    fn try_join(
        self: &Arc<Self>,
        name: &Arc<str>,
        link: &Arc<Link>,
        mut value: Arc<T>,
        manner: &Manner,
    ) -> Result<Joined<T>, JoinError> {
        if !is_name(name) {
            return Err(JoinError::Name);
        }
        let mut gone = None;
        loop {
            let room = self.room(name, gone.as_ref())?;
            match room.join(link, value, manner) {
                Ok(Joining::Joined(joined)) => return Ok(joined),
                Ok(Joining::Gone(own)) => {
                    value = own;
                    gone = Some(room);
                }
                Err(error) => {
                    room.release();
                    return Err(error);
                }
            }
        }
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
