//! The tasks of a room: they end when there is nothing to do.

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
        let (room, chunk) = (Arc::clone(room), Arc::clone(chunk));
        self.runtime.spawn(async move {
            chunk.begin();
            while room.deliver(&chunk) {
                yield_now().await;
            }
        });
    }

    /// Tells the members of changes after a while.
    pub(super) fn tell<T: Send + Sync + 'static>(&self, room: Arc<RoomState<T>>, wait: Duration) {
        let task = self.runtime.spawn(async move {
            if !wait.is_zero() {
                sleep(wait).await;
            }
            room.tell();
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
