//! The state of a [`Connections`](super::Connections), behind its lock.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
    num::NonZeroU64,
    sync::Arc,
    time::Duration,
};

use tokio::task::AbortHandle;

use super::{
    ShutdownReport,
    connection::Connection,
    counts::{CountedCode, Ends},
    notices::Notices,
    observer::Observers,
};
use crate::{
    socket::{Link, Traffic},
    words::{CloseFrame, Closed, ConnectionId, Side},
};

/// The entries of all connections, and the counts.
pub(super) struct State {
    /// The limit on `open`, and on the handlers in `lingering`.
    pub(super) max: Option<usize>,
    /// The time over which a shutdown spreads its Closes.
    pub(super) spread: Duration,
    pub(super) entries: HashMap<ConnectionId, Entry, BuildHasherDefault<IdHasher>>,
    /// The number of entries that have not ended: handshakes and open connections.
    pub(super) open: usize,
    /// The connections that are over while their handler may still run, by the number of their end.
    pub(super) lingering: BTreeMap<NonZeroU64, ConnectionId>,
    /// The number of ends so far, plus one.
    pub(super) ends: NonZeroU64,
    /// The sums of `traffic` and `handed_on` over removed entries.
    pub(super) traffic: Traffic,
    pub(super) handed_on: u64,
    /// The Close of the shutdown, once it has begun.
    pub(super) closing: Option<CloseFrame>,
    /// The ends since the shutdown began.
    pub(super) report: ShutdownReport,
    /// The shutdown aborts the tasks that are left.
    pub(super) aborting: bool,
    pub(super) accepted: u64,
    pub(super) refused: BTreeMap<&'static str, u64>,
    pub(super) origins_denied: Notices,
    pub(super) other_refusals: Notices,
    pub(super) closed: Ends,
    pub(super) observers: Observers,
}

/// A handshake, and then its connection until the handler has ended.
#[derive(Default)]
pub(super) struct Entry {
    /// `None` until the handshake is accepted.
    pub(super) connection: Option<Connection>,
    pub(super) task: Option<AbortHandle>,
    /// The number of this end, once the connection is over. `State::ends` counts them.
    pub(super) ended: Option<NonZeroU64>,
    /// The number of observers when the connection was opened. Only these are called.
    pub(super) observers: u32,
}

/// A connection that has just ended, and the observers to call.
pub(super) struct Over {
    pub(super) connection: Connection,
    pub(super) closed: Closed,
    pub(super) code: CountedCode,
    pub(super) observers: Observers,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            max: Some(10_000),
            spread: Duration::from_secs(1),
            entries: HashMap::default(),
            open: 0,
            lingering: BTreeMap::new(),
            ends: NonZeroU64::MIN,
            traffic: Traffic::default(),
            handed_on: 0,
            closing: None,
            report: ShutdownReport::default(),
            aborting: false,
            accepted: 0,
            refused: BTreeMap::new(),
            origins_denied: Notices::default(),
            other_refusals: Notices::default(),
            closed: Ends::default(),
            observers: Observers::default(),
        }
    }

    /// Marks an entry as ended, which frees its place. If the connection has observers, returns the end for them.
    pub(super) fn end(&mut self, id: ConnectionId) -> Option<Over> {
        let entry = self.entries.get_mut(&id)?;
        if entry.ended.is_some() {
            return None;
        }
        entry.ended = Some(self.ends);
        self.lingering.insert(self.ends, id);
        self.ends = self.ends.saturating_add(1);
        self.open -= 1;
        let connection = entry.connection.as_ref()?;
        let closed = connection.link.ending();
        let closed = closed.unwrap_or_else(|| Closed::lost(Side::Local, "never handed over"));
        let code = self.closed.count(&closed);
        (entry.observers > 0).then(|| Over {
            connection: connection.clone(),
            closed,
            code,
            observers: self.observers.first(entry.observers),
        })
    }

    /// Returns the links of all connections, including ended ones whose handler still runs.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        let connections = self.entries.values();
        let connections = connections.filter_map(|entry| entry.connection.as_ref());
        connections
            .map(|connection| Arc::clone(&connection.link))
            .collect()
    }

    /// Frees the table's memory after many connections have ended.
    pub(super) fn shrink(&mut self) {
        let used = self.entries.len().max(64);
        // Half of the table stays free, so that it does not grow and shrink repeatedly.
        if self.entries.capacity() > 4 * used {
            self.entries.shrink_to(2 * used);
        }
    }

    /// Removes the oldest end from `lingering` and returns its link, if `lingering` is over the limit.
    ///
    /// A limit of 0 evicts nothing: it refuses new connections, and those that were open keep their `handler_grace`.
    pub(super) fn evict(&mut self) -> Option<Arc<Link>> {
        self.max
            .filter(|&max| max > 0 && self.lingering.len() > max)?;
        let (_, id) = self.lingering.pop_first()?;
        let connection = self.entries.get(&id)?.connection.as_ref()?;
        Some(Arc::clone(&connection.link))
    }
}

/// A fast hasher for connection ids. It need not resist attacks: no peer chooses an id.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Multiplies by the golden ratio (Knuth), which spreads consecutive numbers.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
