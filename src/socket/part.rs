//! The parts of a socket that keep its connection open.

use std::{ops::Deref, sync::Arc, thread};

use super::{link::Link, sender::Sender};

/// A part of a socket. The connection is open until its last part is dropped.
#[derive(Debug)]
pub(super) struct Part(Arc<Link>);

impl Part {
    /// Makes the first part of the socket of a connection.
    pub(super) const fn new(link: Arc<Link>) -> Self {
        Self(link)
    }

    /// Makes another part.
    pub(super) fn another(&self) -> Self {
        self.0.add_part();
        Self(Arc::clone(&self.0))
    }

    /// Makes a handle that does not keep the connection open.
    pub(super) fn sender(&self) -> Sender {
        Sender::new(Arc::clone(&self.0))
    }
}

impl Deref for Part {
    type Target = Arc<Link>;

    fn deref(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.abandon(thread::panicking());
    }
}
