//! The tasks of a room: they end when there is nothing to do.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    task::{AbortHandle, yield_now},
    time::sleep,
};

use super::RoomState;

/// Spawns the tasks of a room on the runtime of its first member.
#[derive(Debug)]
pub(super) struct Tasks(Handle);

/// A task that will tell the members of changes.
#[derive(Debug)]
pub(super) struct Telling(AbortHandle);

impl Telling {
    /// Ends the task: there is nobody to tell.
    pub(super) fn cancel(&self) {
        self.0.abort();
    }
}

impl Tasks {
    /// # Panics
    ///
    /// Outside of a runtime.
    pub(super) fn here() -> Self {
        Self(Handle::current())
    }

    /// Delivers to the members of a chunk until there is nothing new.
    pub(super) fn deliver<T: Send + Sync + 'static>(&self, room: &Arc<RoomState<T>>, chunk: usize) {
        let room = Arc::clone(room);
        self.0.spawn(async move {
            room.begin(chunk);
            while room.deliver(chunk) {
                yield_now().await;
            }
        });
    }

    /// Tells the members of changes after a while.
    pub(super) fn tell<T: Send + Sync + 'static>(
        &self,
        room: Arc<RoomState<T>>,
        wait: Duration,
    ) -> Telling {
        let task = self.0.spawn(async move {
            if !wait.is_zero() {
                sleep(wait).await;
            }
            room.tell();
        });
        Telling(task.abort_handle())
    }
}
