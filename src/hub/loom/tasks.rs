//! The tasks of a room as threads of a model.

use std::{
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use ::loom::thread::{self, JoinHandle};

use crate::hub::{Shared, state::RoomState};

#[derive(Debug, Default)]
pub(in crate::hub) struct Tasks(StdMutex<Vec<JoinHandle<()>>>);

#[derive(Debug)]
pub(in crate::hub) struct Telling;

impl Telling {
    pub(in crate::hub) fn cancel(&self) {}
}

impl Tasks {
    pub(in crate::hub) fn here() -> Self {
        Self::default()
    }

    pub(in crate::hub) fn try_here() -> Option<Self> {
        Some(Self::default())
    }

    pub(in crate::hub) fn deliver<T: Send + Sync + 'static>(
        &self,
        room: &Arc<RoomState<T>>,
        chunk: usize,
    ) {
        let room = Arc::clone(room);
        let task = thread::spawn(move || {
            loop {
                room.begin(chunk);
                let is_more = room.deliver(chunk);
                if !room.goes_on(chunk, is_more) {
                    break;
                }
            }
        });
        self.running().push(task);
    }

    pub(in crate::hub) fn deliver_to_all<T: Send + Sync + 'static>(
        &self,
        room: &Arc<RoomState<T>>,
        chunks: Vec<usize>,
    ) {
        for chunk in chunks {
            self.deliver(room, chunk);
        }
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
    pub(in crate::hub) fn tell<T>(&self, _: Arc<RoomState<T>>, _: Duration) -> Telling {
        Telling
    }

    /// The rooms of models have no history.
    pub(in crate::hub) fn sweep<T>(&self, _: Arc<Shared<T>>) {}
}
