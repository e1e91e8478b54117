//! The entry of one connection, from its handshake to the end of its handler.

use std::{hash::Hash, iter, sync::Arc};

use tokio::task::JoinHandle;

use super::{AdmitError, Connections, connection::Connection, observer::Ended, state::Over};
use crate::{
    codec::Role,
    config::Config,
    handshake::Identity,
    socket::{EndHooks, HandshakeInfo, Link, now},
    time::Moment,
    words::{Closed, ConnectionId},
};

/// Owns an entry of the registry, from the handshake to the end of the handler. Dropping it removes the entry.
pub(crate) struct Permit {
    pub(super) connections: Connections,
    pub(super) id: ConnectionId,
    /// When the handshake began.
    pub(super) began: Moment,
}

/// The facts about a connection when it is opened.
pub(crate) struct Opening {
    pub(crate) role: Role,
    pub(crate) info: HandshakeInfo,
    pub(crate) config: Arc<Config>,
    pub(crate) identity: Identity,
}

impl Permit {
    pub(crate) const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns whether a notice is due in the log of these connections.
    pub(crate) fn is_news(&self, about: impl Hash) -> bool {
        self.connections.is_news(about)
    }

    /// Registers an accepted connection. `spawn` gets the link and this permit, and spawns the task.
    ///
    /// # Errors
    ///
    /// [`AdmitError::ShuttingDown`] if a shutdown began after the permit was given.
    pub(crate) fn spawn(
        self,
        opening: Opening,
        spawn: impl FnOnce(Arc<Link>, Self) -> JoinHandle<()>,
    ) -> Result<Arc<Link>, AdmitError> {
        let connections = self.connections.clone();
        let id = self.id;
        let link = self.register(opening)?;
        let task = spawn(Arc::clone(&link), self).abort_handle();
        let mut state = connections.lock();
        if state.aborting {
            task.abort();
        }
        if let Some(entry) = state.entries.get_mut(&id) {
            entry.task = Some(task);
        }
        Ok(link)
    }

    /// Puts the connection into its entry, and calls the observers.
    fn register(&self, opening: Opening) -> Result<Arc<Link>, AdmitError> {
        let Opening {
            role,
            info,
            config,
            identity,
        } = opening;
        // Cloned once, because another observer may be added before `opened` is called.
        let observers = self.connections.lock().observers.clone();
        let is_observed = observers.count() > 0;
        let registration = self.connections.registration(self.id, is_observed);
        let link = Arc::new(Link::registered(registration, role, info, config));
        let connection = Connection {
            link: Arc::clone(&link),
            identity,
        };
        let mut state = self.connections.lock();
        if state.closing.is_some() {
            drop(state);
            return Err(AdmitError::ShuttingDown);
        }
        state.accepted += 1;
        if let Some(entry) = state.entries.get_mut(&self.id) {
            entry.connection = Some(connection.clone());
            entry.observers = observers.count();
        }
        drop(state);
        if is_observed {
            let handshake = now().since(self.began);
            self.connections.call(&observers, |observer| {
                observer.opened(&connection, handshake);
            });
        }
        Ok(link)
    }

    /// Frees the connection's place: the connection is over. Its handler may still run.
    pub(crate) fn end(&self) {
        let mut state = self.connections.lock();
        let over = state.end(self.id);
        let evicted: Vec<_> = iter::from_fn(|| state.evict()).collect();
        drop(state);
        evicted.iter().for_each(|link| link.evict());
        self.closed(over);
    }

    /// Reports the end of the connection to the observers.
    fn closed(&self, over: Option<Over>) {
        let Some(over) = over else { return };
        let ended = Ended {
            closed: over.closed,
            code: over.code,
            lifetime: over.connection.age(),
            traffic: over.connection.traffic(),
        };
        self.connections.call(&over.observers, |observer| {
            observer.closed(&over.connection, &ended);
        });
    }

    /// Removes the entry: the connection is over and its handler has returned.
    pub(crate) fn finish(&self) {
        self.remove(true);
    }

    /// Removes the entry, if it is still there. `finished` is true if the task ran to its end, false if it was
    /// aborted.
    fn remove(&self, finished: bool) {
        let mut state = self.connections.lock();
        let over = state.end(self.id);
        drop(state);
        self.closed(over);
        let mut state = self.connections.lock();
        let Some(entry) = state.entries.remove(&self.id) else {
            return;
        };
        if let Some(end) = entry.ended {
            state.lingering.remove(&end);
        }
        if let Some(connection) = &entry.connection {
            state.traffic.add(connection.traffic());
            state.handed_on += u64::from(connection.link.was_handed_on());
        }
        if let Some(connection) = entry
            .connection
            .as_ref()
            .filter(|_| state.closing.is_some())
        {
            let ending = connection.link.ending();
            if finished && ending.as_ref().is_some_and(Closed::is_clean) {
                state.report.clean += 1;
            } else {
                state.report.aborted += 1;
            }
        }
        state.shrink();
        let is_last = state.entries.is_empty();
        drop(state);
        if is_last {
            self.connections.shared.emptied.notify_waiters();
        }
        if let Some(connection) = &entry.connection {
            self.connections.stop_counting(&connection.link);
            // The driver ends the link, but a connection that was never handed over has no driver.
            connection.link.abort();
        }
        // Dropped without the lock, because the drop of a waker or of the connection's value may run user code.
        drop(entry);
    }
}

impl EndHooks for Permit {
    fn connection_over(&mut self, _: &Link) {
        self.end();
    }

    fn handler_over(&mut self) {
        self.finish();
    }

    fn handler_outlived(&mut self, link: &Link) -> bool {
        // Once a minute for each handler: each one has a fault of its own.
        self.is_news(("handler_outlived", link.info().handler))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.remove(false);
    }
}
