//! What a connection reports to the registry that it belongs to.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use super::traffic::Traffic;
use crate::words::ConnectionId;

/// The registry's side. The task of a connection calls it without a lock, and never for a single message.
pub(crate) trait Events: Send + Sync {
    /// The peer has answered a ping after this time.
    fn round_trip(&self, id: ConnectionId, round_trip: Duration);

    /// The connection holds `change` bytes more, or fewer if it is negative.
    fn held(&self, change: isize);

    /// So much came and went since the last call, or since the beginning.
    fn traffic(&self, id: ConnectionId, traffic: Traffic);
}

/// How a connection is known to the registry that it belongs to.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) id: ConnectionId,
    /// Boxed, because few registries ask for events.
    pub(crate) hook: Option<Box<Hook>>,
}

impl Registration {
    /// Makes one for a connection that belongs to no registry.
    pub(crate) fn none() -> Self {
        Self {
            id: ConnectionId::next(),
            hook: None,
        }
    }
}

/// Where the events of a connection go.
pub(crate) struct Hook {
    pub(crate) events: Arc<dyn Events>,
    /// Traffic and round trips are asked for.
    pub(crate) is_observed: bool,
    /// The registry counts the memory of the connection.
    pub(crate) counts: bool,
    /// The connection has to shed its memory.
    pub(super) is_shed: AtomicBool,
}

impl Hook {
    pub(crate) fn new(events: Arc<dyn Events>, is_observed: bool, counts: bool) -> Self {
        Self {
            events,
            is_observed,
            counts,
            is_shed: AtomicBool::new(false),
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").finish_non_exhaustive()
    }
}

/// Reports what comes and goes on a connection, and knows how much of it is reported.
pub(super) struct Meter {
    events: Arc<dyn Events>,
    id: ConnectionId,
    reported: Traffic,
}

impl Meter {
    pub(super) fn new(hook: &Hook, id: ConnectionId) -> Self {
        Self {
            events: Arc::clone(&hook.events),
            id,
            reported: Traffic::default(),
        }
    }

    /// Reports the traffic that is new, if there is any; `total` is that since the beginning.
    pub(super) fn report(&mut self, total: Traffic) {
        let new = total.since(self.reported);
        self.reported = total;
        if new != Traffic::default() {
            self.events.traffic(self.id, new);
        }
    }

    pub(super) fn round_trip(&self, round_trip: Duration) {
        self.events.round_trip(self.id, round_trip);
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("reported", &self.reported)
            .finish_non_exhaustive()
    }
}
