//! The tasks of a room as threads of a model.

use std::{
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use ::loom::thread::{self, JoinHandle};

use crate::hub::{Shared, chunk::Chunk, state::RoomState};

#[derive(Debug, Default)]
pub(in crate::hub) struct Tasks(StdMutex<Vec<JoinHandle<()>>>);

impl Tasks {
    pub(in crate::hub) fn here() -> Self {
        Self::default()
    }

    pub(in crate::hub) fn deliver<T: Send + Sync + 'static>(
        &self,
        room: &Arc<RoomState<T>>,
        chunk: &Arc<Chunk<T>>,
    ) {
        let (room, chunk) = (Arc::clone(room), Arc::clone(chunk));
        let task = thread::spawn(move || {
            chunk.begin();
            while room.deliver(&chunk) {}
        });
        self.running().push(task);
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all tasks.
    pub(super) fn wait(&self) {
        loop {
            let task = self.running().pop();
            match task {
                Some(task) => task.join().unwrap(),
                None => return,
            }
        }
    }

    /// The rooms of models have no news.
    pub(in crate::hub) fn tell<T>(&self, _: Arc<RoomState<T>>, _: Duration) {}

    /// The rooms of models have no history.
    pub(in crate::hub) fn sweep<T>(&self, _: Arc<Shared<T>>) {}

    pub(in crate::hub) fn cancel(&self) {}
}
