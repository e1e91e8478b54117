//! The registry of connections: how many there may be, what they do, and how they are ended.

mod closing;
mod connection;
mod counts;
mod error;
mod listing;
mod notices;
mod observer;
mod permit;
mod sockets;
mod state;

use std::{
    fmt,
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
    closing::Left,
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

/// How long tasks that were aborted may take to be gone: their handlers may be in the middle of a
/// poll.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// A registry of connections: limits, counts, lists and closes them.
///
/// [`WebSocketLayer::connections`](crate::WebSocketLayer::connections) returns the handle that the
/// layer made for itself, with the default settings. For other settings, make one with
/// [`new`](Self::new) and give it to
/// [`WebSocketLayer::connections_in`](crate::WebSocketLayer::connections_in). One registry may have the
/// connections of several layers, those of clients (`client::Handshake::connections_in`), and sockets made by
/// [`from_io`](Self::from_io): its limit, its counts and a shutdown are for all of them together.
///
/// A clone is cheap and a handle to the same connections. They share their settings, too: a setting
/// that is changed through any handle counts for all of them, at once.
///
/// # Examples
///
/// A server that on Ctrl-C takes no new connections, closes those it has with 1001, and waits for
/// them at most 30 seconds:
///
/// ```no_run
/// use std::time::Duration;
/// use axum::Router;
/// use tower_websocket::{Echo, WebSocketLayer};
///
/// # async fn example() -> std::io::Result<()> {
/// let layer = WebSocketLayer::new(Echo::new()).path("/ws");
/// let connections = layer.connections();
/// let app = Router::new().layer(layer);
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
///
/// let closing = connections.clone();
/// let interrupted = async move {
///     let _ = tokio::signal::ctrl_c().await;
///     closing.close();
/// };
/// axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
/// let report = connections.shutdown(Duration::from_secs(30)).await;
/// println!("{} closed, {} aborted", report.clean, report.aborted);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Told when the last connection has ended.
    emptied: Notify,
}

impl Connections {
    /// Makes a handle to connections that are still to come, with the defaults named at each
    /// setting.
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
            }),
        }
    }

    /// Caps the open connections, of which a handshake counts as one. Handlers that go on after their
    /// connection is over are counted apart, up to the same number.
    ///
    /// Past it handshakes are answered 503 with `Retry-After`. Of the handlers that go on after their
    /// connection is over, the one that has gone on longest is dropped when there are more. A lower
    /// limit ends no connection that is open already. 0 refuses every handshake;
    /// [`without_max_connections`](Self::without_max_connections) removes the limit.
    /// Default: 10,000.
    #[must_use]
    pub fn max_connections(self, connections: usize) -> Self {
        self.lock().max = Some(connections);
        self
    }

    /// Accepts any number of connections; file descriptors and memory set the limit then.
    #[must_use]
    pub fn without_max_connections(self) -> Self {
        self.lock().max = None;
        self
    }

    /// Sets the time over which [`close`](Self::close) and [`shutdown`](Self::shutdown) spread the
    /// Closes, so that the clients do not all come back in the same moment.
    ///
    /// Each connection is closed at a random moment of it; with [`Duration::ZERO`] all are closed at
    /// once. Once a shutdown has begun this changes nothing. Default: 1 s.
    #[must_use]
    pub fn shutdown_spread(self, window: Duration) -> Self {
        self.lock().spread = clamp(Duration::ZERO, window);
        self
    }

    /// Adds an observer of the connections and refused handshakes that are still to come.
    ///
    /// It is told of every connection that is opened from now on, and of none that is open already. Several
    /// observers are called in the order in which they were added. Default: none.
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
    /// What was sent before is flushed first; what was not received yet is discarded. The Closes
    /// are spread over [`shutdown_spread`](Self::shutdown_spread). Returns at once;
    /// [`wait`](Self::wait) waits, and [`shutdown`](Self::shutdown) ends what is left.
    pub fn close(&self) {
        self.close_with(CloseFrame::without_reason(CloseCode::GOING_AWAY));
    }

    /// Closes all connections as [`close`](Self::close) does, with a code and reason of choice,
    /// such as [`CloseCode::SERVICE_RESTART`]. Only the first call counts.
    pub fn close_with(&self, frame: CloseFrame) {
        let mut state = self.lock();
        if state.closing.is_some() {
            return;
        }
        state.closing = Some(frame.clone());
        let spread = state.spread;
        let links: Vec<_> = state
            .entries
            .values()
            .filter_map(|entry| entry.connection.as_ref())
            .map(|connection| Arc::clone(&connection.link))
            .collect();
        drop(state);
        match Handle::try_current() {
            Ok(runtime) => {
                let connections = self.clone();
                let left = Left::new(links, frame, spread);
                runtime.spawn(async move {
                    let closing = pin!(left.close());
                    // Whoever aborts the connections has nothing left to wait for.
                    select(closing, pin!(connections.wait())).await;
                });
            }
            Err(_) => links.iter().for_each(|link| link.close(frame.clone())),
        }
    }

    /// Waits until no connection is left, nor a handshake on the way to one.
    ///
    /// A connection is left until its closing handshake is complete and its handler has returned.
    /// This closes nothing and aborts nothing, and waits for ever where nothing ends the
    /// connections: call [`close`](Self::close) first, or [`shutdown`](Self::shutdown) instead.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: dropping the future changes nothing, and several may wait at once.
    pub async fn wait(&self) {
        loop {
            let emptied = self.shared.emptied.notified();
            if self.lock().entries.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Closes all connections, waits for them at most `grace`, then aborts those that are left,
    /// which takes a second at the most.
    ///
    /// They are closed as [`close`](Self::close) does it, with 1001, unless `close` or
    /// [`close_with`](Self::close_with) was called before: then the Closes of that call are waited
    /// for. A connection is left until its closing handshake is complete and its handler has
    /// returned. The handlers that are aborted are dropped, and their peers see the connection end
    /// without a Close if it had not been sent; so `grace` is best longer than
    /// [`shutdown_spread`](Self::shutdown_spread) and
    /// [`Config::close_timeout`](crate::Config::close_timeout) together. With [`Duration::MAX`]
    /// nothing is aborted.
    ///
    /// The report counts from the first call on that closed the connections.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: new connections stay refused and the open ones go on closing when the
    /// future is dropped. Dropped within `grace` it aborts nothing. It may be called again, with a
    /// `grace` that counts from then.
    pub async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        self.close();
        if timeout(grace, self.wait()).await.is_err() {
            self.abort();
            let _ = timeout(ABORT_GRACE, self.wait()).await;
        }
        let state = self.lock();
        let mut report = state.report;
        // Handlers that are still in the middle of a poll end with it.
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

    /// Makes what the link of a connection knows of this registry.
    fn registration(&self, id: ConnectionId) -> Registration {
        let is_observed = self.lock().observers.count() > 0;
        let hook = is_observed.then(|| {
            let events: Arc<dyn Events> = Arc::new(self.clone());
            Box::new(Hook { events })
        });
        Registration { id, hook }
    }

    /// Counts a handshake for `path` that was refused, and returns whether its log line is at info level.
    pub(crate) fn refused(&self, error: &HandshakeError, path: &str) -> bool {
        let now = Instant::now().into_std();
        let mut state = self.lock();
        let observers = state.observers.clone();
        *state.refused.entry(error.label()).or_default() += 1;
        let is_news = match error {
            HandshakeError::OriginDenied { origin, .. } => {
                state.origins_denied.is_due(origin.as_bytes(), now)
            }
            // The handler may refuse most of what it is asked: each status is news once.
            HandshakeError::Refused { status } => state.other_refusals.is_due(status, now),
            error => state.other_refusals.is_due(error.label(), now),
        };
        drop(state);
        let refused = Refused::new(error, path);
        self.call(&observers, |observer| observer.refused(&refused));
        is_news
    }

    /// Calls observers, without the lock, and reports their panics.
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

    /// Returns whether something that clients do was not told within a minute.
    pub(crate) fn is_news(&self, about: &'static str) -> bool {
        let now = Instant::now().into_std();
        self.lock().other_refusals.is_due(about, now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so the state is whole whatever a thread did.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events for Connections {
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
            .field("counts", &counts)
            .finish_non_exhaustive()
    }
}
