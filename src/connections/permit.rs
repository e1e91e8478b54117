//! The entry of one connection, from its handshake to the end of its handler.

use std::{future::Future, iter, sync::Arc};

use super::Connections;
use crate::{
    codec::Role,
    config::Config,
    handshake::HandshakeError,
    socket::{Link, report::Name},
    words::Closed,
};

/// An entry among the connections of a layer, from the handshake until everything has ended.
pub(crate) struct Permit {
    pub(super) connections: Connections,
    pub(super) id: u64,
}

impl Permit {
    /// Spawns the task of an accepted connection, which is given the link to work with and this
    /// permit to hold.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::ShuttingDown`] if the layer began to shut down meanwhile.
    pub(crate) fn spawn<F>(
        self,
        config: Arc<Config>,
        name: Name,
        serve: impl FnOnce(Arc<Link>, Self) -> F,
    ) -> Result<(), HandshakeError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let connections = self.connections.clone();
        let id = self.id;
        let link = Arc::new(Link::new(Role::Server, name, config));
        let mut state = connections.lock();
        if state.closing.is_some() {
            drop(state);
            return Err(HandshakeError::ShuttingDown);
        }
        state.accepted += 1;
        if let Some(entry) = state.entries.get_mut(&id) {
            entry.link = Some(Arc::clone(&link));
        }
        drop(state);
        let task = tokio::spawn(serve(link, self)).abort_handle();
        let mut state = connections.lock();
        if state.aborting {
            task.abort();
        }
        if let Some(entry) = state.entries.get_mut(&id) {
            entry.task = Some(task);
        }
        Ok(())
    }

    /// Gives the place among the connections back: the connection is over, and its handler may go on.
    pub(crate) fn end(&self) {
        let mut state = self.connections.lock();
        state.end(self.id);
        let evicted: Vec<_> = iter::from_fn(|| state.evict()).collect();
        drop(state);
        evicted.iter().for_each(|link| link.evict());
    }

    /// Removes the entry after all has come to its end.
    pub(crate) fn finish(&self) {
        self.remove(true);
    }

    /// Removes the entry, once: `finished` says that the task came to its end, rather than to be
    /// aborted.
    fn remove(&self, finished: bool) {
        let mut state = self.connections.lock();
        state.end(self.id);
        let Some(entry) = state.entries.remove(&self.id) else {
            return;
        };
        if let Some(end) = entry.ended {
            state.lingering.remove(&end);
        }
        if let Some(link) = &entry.link {
            state.traffic.add(link.traffic());
        }
        if let Some(link) = entry.link.as_ref().filter(|_| state.closing.is_some()) {
            if finished && link.ending().as_ref().is_some_and(Closed::is_clean) {
                state.report.clean += 1;
            } else {
                state.report.aborted += 1;
            }
        }
        let is_last = state.entries.is_empty();
        drop(state);
        if is_last {
            self.connections.shared.emptied.notify_waiters();
        }
        // Dropped without the lock: its link may own wakers.
        drop(entry);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.remove(false);
    }
}
