//! The registry of connections: limits, counts, observers and shutdown.

mod closing;
mod connection;
mod counts;
mod error;
mod listing;
mod memory;
mod notices;
mod observer;
mod permit;
mod sockets;
mod state;

use std::{
    fmt,
    hash::Hash,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::select;
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, timeout},
};

pub(crate) use self::permit::{Opening, Permit};
use self::{
    closing::DelayedCloses,
    memory::Memory,
    observer::Observers,
    state::{Entry, State},
};
pub use self::{
    connection::Connection,
    counts::{CountedCode, Counts, ShutdownReport},
    error::AdmitError,
    observer::{Ended, Observer, Refused},
};
use crate::{
    handshake::HandshakeError,
    socket::{Events, Hook, Registration, Traffic, now, report},
    time::limit::{Shown, clamp},
    words::{CloseCode, CloseFrame, ConnectionId},
};

/// The time that aborted tasks get to end. A handler that is being polled ends only after that poll.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// A registry of connections: limits, counts, lists and closes them.
///
/// [`WebSocketLayer::connections`](crate::WebSocketLayer::connections) returns the handle of a layer's own registry,
/// which has the default settings. For other settings, make a registry with [`new`](Self::new) and pass it to
/// [`WebSocketLayer::connections_in`](crate::WebSocketLayer::connections_in).
///
/// One registry can hold the connections of several layers, of clients (`client::Handshake::connections_in`), and of
/// [`from_io`](Self::from_io). Its limit, counts and shutdown apply to all of them together.
///
/// A clone is cheap: it is one more handle to the same connections and settings. A setting that is changed through
/// one handle applies to all of them at once.
///
/// [The page on shutdown](crate::guide::shutdown) has a server that closes its connections when it ends.
///
/// # Examples
///
/// ```
/// use tower_websocket::{Echo, WebSocketLayer};
///
/// let layer = WebSocketLayer::new(Echo::new());
/// let connections = layer.connections();
/// assert_eq!(connections.counts().open(), 0);
/// ```
#[derive(Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Notified when the last entry is removed.
    emptied: Notify,
    memory: Memory,
}

impl Connections {
    /// Makes an empty registry. Each setting below names its default.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_websocket::{Connections, Echo, WebSocketLayer};
    ///
    /// let connections = Connections::new()
    ///     .max_connections(500)
    ///     .shutdown_spread(Duration::from_secs(5));
    /// let layer = WebSocketLayer::new(Echo::new()).connections_in(&connections);
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new()),
                emptied: Notify::new(),
                memory: Memory::new(),
            }),
        }
    }

    /// Limits the number of open connections, including handshakes in progress.
    ///
    /// Past the limit, handshakes are answered 503 with `Retry-After`. A lower limit ends no connection that is
    /// already open. 0 refuses every handshake; [`without_max_connections`](Self::without_max_connections) removes
    /// the limit. Default: 10,000.
    ///
    /// Handlers that still run after their connection is over are limited separately, to the same number. When there
    /// are more, the handler whose connection ended first is dropped. A limit of 0 drops no handler: it only refuses
    /// new connections.
    #[must_use]
    pub fn max_connections(self, connections: usize) -> Self {
        self.lock().max = Some(connections);
        self
    }

    /// Removes the limit on connections. Then only file descriptors and memory limit them.
    #[must_use]
    pub fn without_max_connections(self) -> Self {
        self.lock().max = None;
        self
    }

    /// Sets the time over which [`close`](Self::close) and [`shutdown`](Self::shutdown) spread the Closes, so that
    /// the clients do not all reconnect at the same moment.
    ///
    /// Each connection is closed at a random moment within this time. With [`Duration::ZERO`] all are closed at once.
    /// A shutdown that has begun keeps the value that it began with. Default: 1 s.
    #[must_use]
    pub fn shutdown_spread(self, window: Duration) -> Self {
        self.lock().spread = clamp(Duration::ZERO, window);
        self
    }

    /// Adds an observer of future connections and future refused handshakes.
    ///
    /// It is not called for connections that are already open. Several observers are called in the order in which
    /// they were added. Default: none.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{Connections, Observer, Refused};
    ///
    /// struct Print;
    ///
    /// impl Observer for Print {
    ///     fn refused(&self, refused: &Refused<'_>) {
    ///         println!("{} {}", refused.status(), refused.label());
    ///     }
    /// }
    ///
    /// let connections = Connections::new().observer(Print);
    /// ```
    #[must_use]
    pub fn observer(self, observer: impl Observer) -> Self {
        self.lock().observers.add(observer);
        self
    }

    /// Closes all connections with 1001, and refuses new ones with 503 from now on.
    ///
    /// Messages that were sent before are written first. Messages that were not received yet are discarded. The
    /// Closes are spread over [`shutdown_spread`](Self::shutdown_spread).
    ///
    /// This method returns at once. [`wait`](Self::wait) waits for the connections to end, and
    /// [`shutdown`](Self::shutdown) aborts those that do not end in time.
    pub fn close(&self) {
        self.close_with(CloseFrame::without_reason(CloseCode::GOING_AWAY));
    }

    /// Closes all connections as [`close`](Self::close) does, with a code and reason of your choice, such as
    /// [`CloseCode::SERVICE_RESTART`].
    ///
    /// This does nothing once the connections are being closed: the first Close stays.
    pub fn close_with(&self, frame: CloseFrame) {
        let mut state = self.lock();
        if state.closing.is_some() {
            return;
        }
        state.closing = Some(frame.clone());
        let spread = state.spread;
        let links = state.links();
        drop(state);
        match Handle::try_current() {
            Ok(runtime) => {
                let connections = self.clone();
                let delayed = DelayedCloses::new(links, frame, spread);
                runtime.spawn(async move {
                    let closing = pin!(delayed.close());
                    // Ends early if the connections end before, for example because they are aborted.
                    select(closing, pin!(connections.wait())).await;
                });
            }
            Err(_) => links.iter().for_each(|link| link.close(frame.clone())),
        }
    }

    /// Waits until no connections and no handshakes are left.
    ///
    /// A connection is gone when its closing handshake is complete and its handler has returned. This method closes
    /// nothing and aborts nothing, so it may wait forever. Call [`close`](Self::close) first, or
    /// [`shutdown`](Self::shutdown) instead.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: dropping the future changes nothing. Several tasks may wait at once.
    pub async fn wait(&self) {
        loop {
            let emptied = self.shared.emptied.notified();
            if self.lock().entries.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Closes all connections, waits for them at most `grace`, then aborts those that are left.
    ///
    /// Aborting takes at most one second.
    ///
    /// The connections are closed with 1001, as by [`close`](Self::close). If `close` or
    /// [`close_with`](Self::close_with) was called before, the Closes of that call are used. A connection is gone
    /// when its closing handshake is complete and its handler has returned.
    ///
    /// Aborting drops the handler. The peer then sees the connection end without a Close, unless the Close was sent
    /// before. So choose a `grace` that is longer than [`shutdown_spread`](Self::shutdown_spread) and
    /// [`Config::close_timeout`](crate::Config::close_timeout) together. With [`Duration::MAX`] nothing is aborted.
    ///
    /// The report counts all connections that ended since the first call of `close`, `close_with` or `shutdown`.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`. When the future is dropped, new connections stay refused and the open ones continue to
    /// close. If it is dropped within `grace`, nothing is aborted. A later call waits for its own `grace`.
    pub async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        self.close();
        if timeout(grace, self.wait()).await.is_err() {
            self.abort();
            let _ = timeout(ABORT_GRACE, self.wait()).await;
        }
        let state = self.lock();
        let mut report = state.report;
        // These are aborted, but their handlers are still being polled. They end after that poll.
        let entries = state.entries.values();
        let left = entries.filter(|entry| entry.connection.is_some());
        report.aborted += left.count() as u64;
        report
    }

    fn abort(&self) {
        let mut state = self.lock();
        state.aborting = true;
        for entry in state.entries.values() {
            if let Some(task) = &entry.task {
                task.abort();
            }
        }
    }

    /// Returns what the connections have done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        let (mut traffic, mut handed_on) = (state.traffic, state.handed_on);
        for entry in state.entries.values() {
            if let Some(connection) = &entry.connection {
                traffic.add(connection.traffic());
                handed_on += u64::from(connection.link.was_handed_on());
            }
        }
        Counts {
            open: state.open,
            buffered: self.shared.memory.held(),
            lingering: state.lingering.len(),
            handed_on,
            accepted: state.accepted,
            refused: state.refused.clone(),
            closed: state.closed.clone(),
            traffic,
        }
    }

    /// Admits one more connection.
    pub(crate) fn admit(&self) -> Result<Permit, AdmitError> {
        let mut state = self.lock();
        if state.closing.is_some() {
            return Err(AdmitError::ShuttingDown);
        }
        if state.max.is_some_and(|max| state.open >= max) {
            return Err(AdmitError::Full);
        }
        let id = ConnectionId::next();
        state.entries.insert(id, Entry::default());
        state.open += 1;
        Ok(Permit {
            connections: self.clone(),
            id,
            began: now(),
        })
    }

    /// Makes the registration of a connection. It has a hook only if it is observed or its memory is counted.
    fn registration(&self, id: ConnectionId, is_observed: bool) -> Registration {
        let counts = self.shared.memory.max().is_some();
        let hook = (is_observed || counts).then(|| {
            let events: Arc<dyn Events> = Arc::new(self.clone());
            Box::new(Hook::new(events, is_observed, counts))
        });
        Registration { id, hook }
    }

    /// Counts a refused handshake for `path` and calls the observers. Returns whether it is logged at info level.
    pub(crate) fn refused(&self, error: &HandshakeError, path: &str) -> bool {
        let now = Instant::now().into_std();
        let mut state = self.lock();
        let observers = state.observers.clone();
        *state.refused.entry(error.label()).or_default() += 1;
        let is_news = match error {
            HandshakeError::OriginDenied { origin, .. } => {
                state.origins_denied.is_due(origin.as_bytes(), now)
            }
            // A handler may refuse most requests, so each of its statuses is logged once a minute.
            HandshakeError::Refused { status } => state.other_refusals.is_due(status, now),
            error => state.other_refusals.is_due(error.label(), now),
        };
        drop(state);
        let refused = Refused::new(error, path);
        self.call(&observers, |observer| observer.refused(&refused));
        is_news
    }

    /// Calls observers and reports their panics. The caller does not hold the lock.
    fn call(&self, observers: &Observers, call: impl Fn(&dyn Observer)) {
        if let Some(panicked) = observers.call(call) {
            report::observer_panicked(&panicked, self.is_news("observer_panicked"));
        }
    }

    /// Calls the observers of a connection.
    fn call_for(&self, id: ConnectionId, call: impl Fn(&Connection, &dyn Observer)) {
        let state = self.lock();
        let entry = state.entries.get(&id);
        let observed = entry.and_then(|entry| {
            let connection = entry.connection.clone()?;
            Some((connection, state.observers.first(entry.observers)))
        });
        drop(state);
        if let Some((connection, observers)) = observed {
            self.call(&observers, |observer| call(&connection, observer));
        }
    }

    /// Returns whether a notice is due. Each is due at most once a minute.
    pub(crate) fn is_news(&self, about: impl Hash) -> bool {
        let now = Instant::now().into_std();
        self.lock().other_refusals.is_due(about, now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, so the lock is never poisoned.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events for Connections {
    fn held(&self, change: isize) {
        self.add_held(change);
    }

    fn round_trip(&self, id: ConnectionId, round_trip: Duration) {
        self.call_for(id, |connection, observer| {
            observer.round_trip(connection, round_trip);
        });
    }

    fn traffic(&self, id: ConnectionId, traffic: Traffic) {
        self.call_for(id, |connection, observer| {
            observer.traffic(connection, &traffic);
        });
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        let state = self.lock();
        let (max, spread) = (state.max, state.spread);
        drop(state);
        f.debug_struct("Connections")
            .field("max_connections", &max)
            .field("shutdown_spread", &Shown(spread))
            .field("max_buffered", &self.shared.memory.max())
            .field("counts", &counts)
            .finish_non_exhaustive()
    }
}
