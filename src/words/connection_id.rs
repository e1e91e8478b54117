//! The number of a connection in logs, observers and the registry.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// The number of a connection, unique in a process.
///
/// [`WebSocket::id`](crate::WebSocket::id), [`Sender::id`](crate::Sender::id) and
/// [`Connection::id`](crate::Connection::id) return the same number. The first connection of a process has the
/// number 1, and each later one the next number. A handshake that is refused by a limit of a key or peer, or by its
/// handler, also uses a number. If several processes write to one log, add the name of the process.
///
/// [`Display`](fmt::Display) writes the number in decimal digits.
///
/// # Examples
///
/// ```
/// use tower_websocket::{Config, WebSocket};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (server, _client) = tokio::io::duplex(1024);
/// let socket = WebSocket::from_io(server, Config::new());
/// assert_eq!(socket.id(), socket.sender().id());
/// # }
/// ```
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// Takes the next number.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the number, for example for a field of a log line that has to be a number in JSON.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_up_and_shows_digits() {
        let (one, other) = (ConnectionId::next(), ConnectionId::next());
        assert!(one < other);
        assert_eq!(one.to_string(), one.get().to_string());
        assert_eq!(format!("{one:?}"), format!("ConnectionId({one})"));
        assert_eq!(format!("{one:>30}").len(), 30);
    }
}
