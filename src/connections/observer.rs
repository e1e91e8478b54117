//! The events of a registry, for metrics.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use super::{connection::Connection, counts::CountedCode};
use crate::{
    handshake::HandshakeError,
    socket::Traffic,
    words::{Closed, Panicked, catch_panic},
};

/// Receives the events of a [`Connections`](crate::Connections), for example to feed metrics.
///
/// Every method does nothing by default. [`Connections::observer`](crate::Connections::observer) adds an observer.
///
/// For each connection the calls come in this order: [`opened`](Self::opened) once, then any number of
/// [`traffic`](Self::traffic) and [`round_trip`](Self::round_trip), then [`closed`](Self::closed) once. The sum of
/// all `traffic` is the traffic of `closed`. Calls for different connections may run at the same time on several
/// threads.
///
/// The tasks of connections and of requests make these calls. So a method must return soon and must not block. It can
/// add to a counter, or send to a channel. It may call the registry, because no lock is held. A panic is caught and
/// has no effect on the connection. It is logged at error level, at most once a minute. No method is called for each
/// message.
///
/// # Examples
///
/// ```
/// use std::{sync::atomic::{AtomicI64, Ordering}, time::Duration};
/// use tower_websocket::{Connection, Connections, Ended, Observer};
///
/// #[derive(Default)]
/// struct Gauge(AtomicI64);
///
/// impl Observer for Gauge {
///     fn opened(&self, _: &Connection, _: Duration) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
///
///     fn closed(&self, _: &Connection, _: &Ended) {
///         self.0.fetch_sub(1, Ordering::Relaxed);
///     }
/// }
///
/// let connections = Connections::new().observer(Gauge::default());
/// ```
#[expect(unused_variables, reason = "the names are for the documentation")]
pub trait Observer: Send + Sync + 'static {
    /// A handshake was refused.
    fn refused(&self, refused: &Refused<'_>) {}

    /// A connection was opened. `handshake` is the time that its handshake took.
    ///
    /// For a layer, this is the time from the request to the answer, which is not written yet. For a client, it is
    /// the time from the look-up of the host to the server's answer. For
    /// [`Connections::from_io`](crate::Connections::from_io), it is zero. A connection that the HTTP server never
    /// hands over is also reported as opened and closed.
    fn opened(&self, connection: &Connection, handshake: Duration) {}

    /// A ping of [`Config::keepalive`](crate::Config::keepalive) or
    /// [`WebSocket::ping`](crate::WebSocket::ping) was answered after `round_trip`.
    fn round_trip(&self, connection: &Connection, round_trip: Duration) {}

    /// Messages were received or sent since the last call.
    ///
    /// It is called when the timer of the connection fires and at the end, if there was traffic. With the default
    /// keepalive, that is at least every 20 seconds. A connection without keepalive and without other timeouts has no
    /// timer. [`Connection::buffered`] returns the length of the output queue.
    fn traffic(&self, connection: &Connection, traffic: &Traffic) {}

    /// A connection is over. Its handler may still run.
    fn closed(&self, connection: &Connection, ended: &Ended) {}
}

/// Lets the application keep a handle to its observer.
impl<T: Observer + ?Sized> Observer for Arc<T> {
    fn refused(&self, refused: &Refused<'_>) {
        (**self).refused(refused);
    }

    fn opened(&self, connection: &Connection, handshake: Duration) {
        (**self).opened(connection, handshake);
    }

    fn round_trip(&self, connection: &Connection, round_trip: Duration) {
        (**self).round_trip(connection, round_trip);
    }

    fn traffic(&self, connection: &Connection, traffic: &Traffic) {
        (**self).traffic(connection, traffic);
    }

    fn closed(&self, connection: &Connection, ended: &Ended) {
        (**self).closed(connection, ended);
    }
}

/// A handshake that was refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    error: &'a HandshakeError,
    path: &'a str,
}

impl<'a> Refused<'a> {
    pub(super) const fn new(error: &'a HandshakeError, path: &'a str) -> Self {
        Self { error, path }
    }

    /// Returns the reason.
    #[must_use]
    pub const fn error(&self) -> &'a HandshakeError {
        self.error
    }

    /// Returns a short name of the reason: [`HandshakeError::label`], one of a fixed set.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        self.error.label()
    }

    /// Returns the status that the client was answered with.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.error.status()
    }

    /// Returns the path of the request, without the query. The client chose it, so do not use it as a label of a
    /// metric.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }
}

/// How a connection ended, its lifetime and its traffic.
#[derive(Clone, Debug)]
pub struct Ended {
    pub(super) closed: Closed,
    pub(super) code: CountedCode,
    pub(super) lifetime: Duration,
    pub(super) traffic: Traffic,
}

impl Ended {
    /// Returns which side ended it, and with which Close.
    #[must_use]
    pub const fn closed(&self) -> &Closed {
        &self.closed
    }

    /// Returns the code under which [`Counts::closed`](crate::Counts::closed) counts it, one of a bounded set.
    #[must_use]
    pub const fn code(&self) -> CountedCode {
        self.code
    }

    /// Returns the time from its opening to its end.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Returns the traffic of the whole connection.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }
}

/// The observers of a registry, or of one connection. A connection has those that were added before it was opened.
#[derive(Clone, Default)]
pub(super) struct Observers {
    all: Arc<[Arc<dyn Observer>]>,
    /// The number of observers that are called: the first ones of `all`.
    count: u32,
}

impl Observers {
    pub(super) fn add(&mut self, observer: impl Observer) {
        let added: Arc<dyn Observer> = Arc::new(observer);
        self.all = self.all.iter().cloned().chain([added]).collect();
        self.count += 1;
    }

    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Returns the first `count` observers.
    pub(super) fn first(&self, count: u32) -> Self {
        let all = Arc::clone(&self.all);
        Self { all, count }
    }

    /// Calls each observer, and returns the last panic.
    #[must_use]
    pub(super) fn call(&self, call: impl Fn(&dyn Observer)) -> Option<Panicked> {
        let called = self.all.iter().take(self.count as usize);
        called.fold(None, |last, observer| {
            catch_panic(|| call(&**observer)).err().or(last)
        })
    }
}
