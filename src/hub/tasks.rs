//! The tasks of a room: they end when there is nothing to do.
//!
//! A runtime that ends drops its tasks, also those that are spawned on it later. The members of the room may have other
//! runtimes, so a task that is dropped does its work at once.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::{AbortHandle, yield_now},
    time::sleep,
};

use super::{Chunk, RoomState, Shared, sweep::sweep};
use crate::socket::sync::Mutex;

/// Spawns the tasks of a room on the runtime of its first member.
#[derive(Debug)]
pub(super) struct Tasks {
    runtime: Handle,
    /// The task that will tell the members of changes.
    telling: Mutex<Option<AbortHandle>>,
}

impl Tasks {
    /// # Panics
    ///
    /// Outside of a runtime.
    pub(super) fn here() -> Self {
        Self {
            runtime: Handle::current(),
            telling: Mutex::new(None),
        }
    }

    /// Delivers until there is nothing new.
    pub(super) fn deliver<T: Send + Sync + 'static>(
        &self,
        room: &Arc<RoomState<T>>,
        chunk: &Arc<Chunk<T>>,
    ) {
        let delivery = Delivery {
            room: Arc::clone(room),
            chunk: Arc::clone(chunk),
            is_complete: false,
        };
        self.runtime.spawn(delivery.run());
    }

    /// Tells the members of changes after a while. The caller has no lock of the room.
    pub(super) fn tell<T: Send + Sync + 'static>(&self, room: Arc<RoomState<T>>, wait: Duration) {
        let telling = Telling(room);
        let task = self.runtime.spawn(async move {
            if !wait.is_zero() {
                sleep(wait).await;
            }
            drop(telling);
        });
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        *telling = Some(task.abort_handle());
    }

    /// Forgets old messages while there is a room with history.
    pub(super) fn sweep<T: Send + Sync + 'static>(&self, hub: Arc<Shared<T>>) {
        self.runtime.spawn(sweep(hub));
    }

    /// Ends the task that would tell the members of changes: there are none.
    pub(super) fn cancel(&self) {
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let task = telling.take();
        drop(telling);
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// The work of a task that delivers. The publishers rely on it once it is spawned.
struct Delivery<T: Send + Sync + 'static> {
    room: Arc<RoomState<T>>,
    chunk: Arc<Chunk<T>>,
    is_complete: bool,
}

impl<T: Send + Sync + 'static> Delivery<T> {
    async fn run(mut self) {
        self.chunk.begin();
        while self.room.deliver(&self.chunk) {
            yield_now().await;
        }
        self.is_complete = true;
    }
}

impl<T: Send + Sync + 'static> Drop for Delivery<T> {
    fn drop(&mut self) {
        if !self.is_complete {
            self.chunk.begin();
            while self.room.deliver(&self.chunk) {}
        }
    }
}

/// Tells the members of changes when it is dropped. Does nothing in a room that is gone.
struct Telling<T: Send + Sync + 'static>(Arc<RoomState<T>>);

impl<T: Send + Sync + 'static> Drop for Telling<T> {
    fn drop(&mut self) {
        self.0.tell();
    }
}
