//! The client of a test.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use http::Response;

use super::wire::Wire;
use crate::socket::WebSocket;

/// The client's end of a connection in memory.
///
/// It dereferences to a [`WebSocket`], so it has all methods of one. Dropping it closes the connection with 1000.
pub struct Client {
    pub(super) socket: WebSocket,
    pub(super) wire: Wire,
    pub(super) response: Response<()>,
}

impl Client {
    /// Returns the handle that makes faults, such as a client that stops reading.
    #[must_use]
    pub fn wire(&self) -> Wire {
        self.wire.clone()
    }

    /// Returns the head of the server's answer, with the fields that [`Accept::header`](crate::Accept::header)
    /// added. After [`WebSocket::pair`], it is a 101 without fields.
    #[must_use]
    pub const fn response(&self) -> &Response<()> {
        &self.response
    }

    /// Returns the socket, for functions that take one.
    #[must_use = "dropping it closes the connection"]
    pub fn into_socket(self) -> WebSocket {
        self.socket
    }
}

impl Deref for Client {
    type Target = WebSocket;

    fn deref(&self) -> &WebSocket {
        &self.socket
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut WebSocket {
        &mut self.socket
    }
}

// The head of the answer may contain secrets.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
