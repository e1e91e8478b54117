//! What a [`Connections`](super::Connections) knows of its connections.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
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

/// The entries of all connections, and what is counted.
pub(super) struct State {
    /// As many may be open.
    pub(super) max: Option<usize>,
    /// The time over which a shutdown spreads its Closes.
    pub(super) spread: Duration,
    pub(super) entries: HashMap<ConnectionId, Entry, BuildHasherDefault<Numbered>>,
    /// How many of the entries have a connection that is not over.
    pub(super) open: usize,
    /// The handlers that go on after their connection is over, in the order of these ends.
    pub(super) lingering: BTreeMap<u64, ConnectionId>,
    pub(super) ends: u64,
    /// Of the connections whose handler has ended as well.
    pub(super) traffic: Traffic,
    pub(super) handed_on: u64,
    /// They are being closed, with this Close.
    pub(super) closing: Option<CloseFrame>,
    pub(super) report: ShutdownReport,
    /// Those that are left are being aborted.
    pub(super) aborting: bool,
    pub(super) accepted: u64,
    pub(super) refused: BTreeMap<&'static str, u64>,
    pub(super) origins_denied: Notices,
    pub(super) other_refusals: Notices,
    pub(super) closed: Ends,
    pub(super) observers: Observers,
}

/// A connection, or a handshake on the way to one, until its handler has ended as well.
#[derive(Default)]
pub(super) struct Entry {
    /// There is one once the handshake is accepted.
    pub(super) connection: Option<Connection>,
    pub(super) task: Option<AbortHandle>,
    /// The connection is over: it was the so-manieth end.
    pub(super) ended: Option<u64>,
    /// How many observers were there when the connection was opened.
    pub(super) observers: u32,
}

/// A connection that has just ended, and those who are told.
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
            ends: 0,
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

    /// Notes that the connection of an entry is over, so that its place is free. Returns what its observers
    /// are told, if there are any.
    pub(super) fn end(&mut self, id: ConnectionId) -> Option<Over> {
        let entry = self.entries.get_mut(&id)?;
        if entry.ended.is_some() {
            return None;
        }
        entry.ended = Some(self.ends);
        self.lingering.insert(self.ends, id);
        self.ends += 1;
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

    /// Frees the table's memory after many connections have ended.
    pub(super) fn shrink(&mut self) {
        let used = self.entries.len().max(64);
        // Half of it stays free, so that the table does not grow and shrink in turn.
        if self.entries.capacity() > 4 * used {
            self.entries.shrink_to(2 * used);
        }
    }

    /// Takes the handler that has gone on longest off the list, if there are too many.
    pub(super) fn evict(&mut self) -> Option<Arc<Link>> {
        self.max.filter(|&max| self.lingering.len() > max)?;
        let (_, id) = self.lingering.pop_first()?;
        let connection = self.entries.get(&id)?.connection.as_ref()?;
        Some(Arc::clone(&connection.link))
    }
}

/// Hashes the numbers that connections have here, which nobody else chooses.
#[derive(Default)]
pub(super) struct Numbered(u64);

impl Hasher for Numbered {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // By the golden ratio (Knuth), which spreads numbers that follow each other.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
