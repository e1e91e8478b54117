//! The connections one by one: to look at, and to close some of them.

use super::{Connections, connection::Connection};
use crate::words::{CloseFrame, ConnectionId};

impl Connections {
    /// Returns the connections that are open now, in no particular order.
    ///
    /// The iterator has a snapshot: it misses connections that are opened meanwhile, and has some that end meanwhile.
    /// Handshakes on their way, and handlers that go on after their connection is over, are not in it. It takes time
    /// in proportion to the number of connections, and no connection is woken.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Connection> + use<> {
        self.open_connections().into_iter()
    }

    /// Returns the connection with a number, if it is open.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<Connection> {
        let state = self.lock();
        let entry = state.entries.get(&id)?;
        let connection = entry.connection.as_ref()?;
        entry.ended.is_none().then(|| connection.clone())
    }

    /// Closes all connections for which `predicate` is true, and returns how many those were.
    ///
    /// They are closed at once, as by [`Connection::close`]: [`shutdown_spread`](Self::shutdown_spread) is for
    /// shutdowns. A connection that is closing already does not count. New connections are accepted as before, so
    /// whoever logs a user out first makes sure that [`Handler::accept`](crate::Handler::accept) refuses that user.
    ///
    /// `predicate` is called without a lock and may call this registry. All calls come before the first Close: if one
    /// panics, nothing is closed. Only the tasks of the connections that are closed are woken.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{CloseCode, CloseFrame, Connections, error::InvalidClose};
    ///
    /// struct User(u64);
    ///
    /// fn log_out(connections: &Connections, user: u64) -> Result<usize, InvalidClose> {
    ///     let frame = CloseFrame::new(CloseCode::new(4001)?, "logged out")?;
    ///     Ok(connections.close_where(
    ///         |connection| connection.value().is_some_and(|&User(other)| other == user),
    ///         frame,
    ///     ))
    /// }
    /// ```
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as the other calls that close"
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
