//! The tasks of a room: they end when there is nothing to do.
//!
//! A runtime that ends drops its tasks, also those that are spawned on it later. The members of the room may have other
//! runtimes, so a task that is dropped does its work at once.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    task::{AbortHandle, yield_now},
    time::sleep,
};

use super::{RoomState, Shared, sweep::Sweeper};

/// Spawns the tasks of a room on the runtime of its first member.
#[derive(Debug)]
pub(super) struct Tasks(Handle);

/// A task that will tell the members of changes.
#[derive(Debug)]
pub(super) struct Telling(AbortHandle);

impl Telling {
    /// Ends the task: there is nobody to tell. The caller has no lock of the room.
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

    /// Returns `None` outside of a runtime.
    pub(super) fn try_here() -> Option<Self> {
        Handle::try_current().ok().map(Self)
    }

    /// Delivers to the members of a chunk until there is nothing new.
    pub(super) fn deliver<T: Send + Sync + 'static>(&self, room: &Arc<RoomState<T>>, chunk: usize) {
        self.0.spawn(Delivery::new(room, chunk).run());
    }

    /// Delivers to the members of several chunks. The caller spawns one task, which spawns the others: sending takes no
    /// time in proportion to the members.
    pub(super) fn deliver_to_all<T: Send + Sync + 'static>(
        &self,
        room: &Arc<RoomState<T>>,
        chunks: Vec<usize>,
    ) {
        let chunks = chunks.into_iter();
        let deliveries: Vec<_> = chunks.map(|chunk| Delivery::new(room, chunk)).collect();
        self.0.spawn(async move {
            for delivery in deliveries {
                tokio::spawn(delivery.run());
            }
        });
    }

    /// Tells the members of changes after a while. The caller has no lock of the room.
    pub(super) fn tell<T: Send + Sync + 'static>(
        &self,
        room: Arc<RoomState<T>>,
        wait: Duration,
    ) -> Telling {
        let news = News(room);
        let task = self.0.spawn(async move {
            if !wait.is_zero() {
                sleep(wait).await;
            }
            drop(news);
        });
        Telling(task.abort_handle())
    }

    /// Forgets old messages while there is a room with history.
    pub(super) fn sweep<T: Send + Sync + 'static>(&self, hub: Arc<Shared<T>>) {
        self.0.spawn(Sweeper::new(hub).run());
    }
}

/// The work of a task that delivers. The publishers rely on it once it is spawned.
struct Delivery<T: Send + Sync + 'static> {
    room: Arc<RoomState<T>>,
    chunk: usize,
    is_complete: bool,
}

impl<T: Send + Sync + 'static> Delivery<T> {
    fn new(room: &Arc<RoomState<T>>, chunk: usize) -> Self {
        Self {
            room: Arc::clone(room),
            chunk,
            is_complete: false,
        }
    }

    async fn run(mut self) {
        loop {
            self.room.begin(self.chunk);
            let is_more = self.room.deliver(self.chunk);
            if !self.room.goes_on(self.chunk, is_more) {
                break;
            }
            yield_now().await;
        }
        self.is_complete = true;
    }
}

impl<T: Send + Sync + 'static> Drop for Delivery<T> {
    fn drop(&mut self) {
        if !self.is_complete {
            self.room.begin(self.chunk);
            while self.room.deliver(self.chunk) {}
        }
    }
}

/// Tells the members of changes when it is dropped. Does nothing in a room that is gone.
struct News<T: Send + Sync + 'static>(Arc<RoomState<T>>);

impl<T: Send + Sync + 'static> Drop for News<T> {
    fn drop(&mut self) {
        self.0.tell();
    }
}
