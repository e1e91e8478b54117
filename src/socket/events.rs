//! The events that a connection reports to its registry.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use super::traffic::Traffic;
use crate::words::ConnectionId;

/// Receives the events. The task of a connection calls it without a lock, and not for each message.
pub(crate) trait Events: Send + Sync {
    /// The peer has answered a ping. `round_trip` is the time from the ping to the answer.
    fn round_trip(&self, id: ConnectionId, round_trip: Duration);

    /// The connection holds `change` bytes more, or fewer if it is negative.
    fn held(&self, change: isize);

    /// `traffic` is the traffic since the last call, or since the connection was opened.
    fn traffic(&self, id: ConnectionId, traffic: Traffic);
}

/// The id of a connection, and the hook through which it reports to a registry.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) id: ConnectionId,
    /// `None` if the connection is not observed and its memory is not counted. Boxed, because `None` is usual.
    pub(crate) hook: Option<Box<Hook>>,
}

impl Registration {
    /// Makes the registration of a connection without a registry.
    pub(crate) fn none() -> Self {
        Self {
            id: ConnectionId::next(),
            hook: None,
        }
    }
}

/// The receiver of a connection's events.
pub(crate) struct Hook {
    pub(crate) events: Arc<dyn Events>,
    /// The connection reports its traffic and round trips.
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

/// Reports the traffic of a connection. It remembers how much it has reported.
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

    /// Reports the traffic since the last report, if there is any. `total` is all traffic of the connection.
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
