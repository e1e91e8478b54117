//! The guard of a 101 against an outer layer that replaces the response.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether the body of our 101 reached the HTTP server: the guard against an outer layer that
/// replaced the response. It is there for HTTP/1 only: over HTTP/2 hyper goes by the status that
/// is sent, and asks no body anything.
///
/// hyper hands over the connection for any response to a request with `Upgrade`, even a 403 that
/// took the place of our 101. It asks the body that it is about to send whether it is at its end;
/// the body of the 101 notes that here, and one that was thrown away is never asked. It notes as well
/// that it is read, which a layer does that collects bodies and sends on what it got.
///
/// Three things cannot be told apart: a layer that replaces the status alone and keeps the body, one that
/// reads the body and then answers something else, and one that wraps the body in one that asks nothing
/// until it is polled, which that of a 101 is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicBool>);

impl Sent {
    /// Makes one that believes in every response.
    pub(crate) fn unguarded() -> Self {
        let sent = Self::default();
        sent.note();
        sent
    }

    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn was_noted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
