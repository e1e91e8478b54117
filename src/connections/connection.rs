//! A handle to one connection of a registry.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    handshake::Identity,
    socket::{Buffered, Link, Traffic},
    words::{CloseFrame, ConnectionId, header::Visible},
};

/// A handle to one connection of a [`Connections`](crate::Connections).
///
/// [`Connections::iter`](crate::Connections::iter) and [`get`](crate::Connections::get) return it, and an
/// [`Observer`](crate::Observer) receives it. It is cheap to clone. It does not keep the connection open, but it
/// keeps the value of [`Accept::identify`](crate::Accept::identify) alive.
///
/// # Examples
///
/// The ten connections with the most bytes that wait to be written:
///
/// ```
/// use tower_websocket::{Connection, Connections};
///
/// fn slowest(connections: &Connections) -> Vec<Connection> {
///     let mut all: Vec<_> = connections.iter().collect();
///     all.sort_by_key(|connection| std::cmp::Reverse(connection.buffered().bytes));
///     all.truncate(10);
///     all
/// }
/// ```
#[derive(Clone)]
pub struct Connection {
    pub(super) link: Arc<Link>,
    pub(super) identity: Identity,
}

impl Connection {
    /// Returns the id of the connection, which is unique in this process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.link.id()
    }

    /// Returns the path of its request, without the query. It is empty for a socket made by
    /// [`Connections::from_io`](crate::Connections::from_io).
    ///
    /// On a server, the client chose the path: escape it before you log it.
    #[must_use]
    pub fn path(&self) -> &str {
        self.link.path()
    }

    /// Returns the value of [`Accept::identify`](crate::Accept::identify) or
    /// [`Connections::from_io_with`](crate::Connections::from_io_with), if it has this type.
    #[must_use]
    pub fn value<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.identity.get()
    }

    /// Returns how long ago the connection was opened.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.link.age()
    }

    /// Returns the messages and bytes that wait to be written.
    #[must_use]
    pub fn buffered(&self) -> Buffered {
        let load = self.link.buffered();
        Buffered {
            messages: load.messages,
            bytes: load.bytes,
        }
    }

    /// Returns whether the connection is over. Then nothing waits to be written.
    #[cfg(feature = "metrics")]
    pub(crate) fn is_over(&self) -> bool {
        self.link.ending().is_some()
    }

    /// Returns the messages and bytes that were received and sent so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.link.traffic()
    }

    /// Returns the round-trip time of the last ping of [`Config::keepalive`](crate::Config::keepalive) that was
    /// answered, `None` before the first.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.link.round_trip()
    }

    /// Begins to close the connection, and returns whether it was open.
    ///
    /// Messages that were sent before are written first. Messages that were not received yet are discarded. If the
    /// connection is already closing, this does nothing.
    pub fn close(&self, frame: CloseFrame) -> bool {
        self.link.close_if_open(frame)
    }
}

// Leaves out the value, which may hold secrets.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Visible(self.path().as_bytes());
        f.debug_struct("Connection")
            .field("id", &self.id())
            .field("path", &format_args!("{path}"))
            .finish_non_exhaustive()
    }
}
