//! Access to single connections: list them, look one up, close some.

use super::{Connections, connection::Connection};
use crate::words::{CloseFrame, ConnectionId};

impl Connections {
    /// Returns the connections that are open now, in no particular order.
    ///
    /// The iterator holds a snapshot: a connection that is opened later is missing, and one that ends later is still
    /// there. Handshakes in progress are left out, and so are connections that are over while their handler still
    /// runs. The call takes time in proportion to the number of connections, and wakes none of them.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Connection> + use<> {
        self.open_connections().into_iter()
    }

    /// Returns the connection with this id, if it is open.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<Connection> {
        let state = self.lock();
        let entry = state.entries.get(&id)?;
        let connection = entry.connection.as_ref()?;
        entry.ended.is_none().then(|| connection.clone())
    }

    /// Closes all connections for which `predicate` returns true, and returns how many it closed.
    ///
    /// They are closed at once, as by [`Connection::close`]: [`shutdown_spread`](Self::shutdown_spread) does not
    /// apply. A connection that is already closing does not count. New connections are still accepted: to log a user
    /// out, first make sure that [`Handler::accept`](crate::Handler::accept) refuses that user.
    ///
    /// `predicate` is called without a lock and may call this registry. It is called for all connections before the
    /// first one is closed, so nothing is closed if it panics. Only the tasks of closed connections are woken.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{CloseCode, CloseFrame, Connections};
    ///
    /// struct User(u64);
    ///
    /// fn log_out(connections: &Connections, user: u64) -> usize {
    ///     connections.close_where(
    ///         |connection| connection.value().is_some_and(|&User(other)| other == user),
    ///         CloseFrame::truncated(CloseCode::of::<4001>(), "logged out"),
    ///     )
    /// }
    /// ```
    #[expect(
        clippy::needless_pass_by_value,
        reason = "like the other methods that close"
    )]
    pub fn close_where(
        &self,
        mut predicate: impl FnMut(&Connection) -> bool,
        frame: CloseFrame,
    ) -> usize {
        let mut chosen = self.open_connections();
        chosen.retain(|connection| predicate(connection));
        let closed = chosen
            .iter()
            .filter(|connection| connection.close(frame.clone()));
        closed.count()
    }

    fn open_connections(&self) -> Vec<Connection> {
        let state = self.lock();
        let open = state.entries.values().filter(|entry| entry.ended.is_none());
        open.filter_map(|entry| entry.connection.clone()).collect()
    }
}
