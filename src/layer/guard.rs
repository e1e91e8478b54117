//! Detects outer layers that replace the 101 response.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A flag that is set when the HTTP server sends the body of our 101. If it is not set, an outer layer
/// replaced the response.
///
/// It exists over HTTP/1 only. hyper hands over the connection for any response to a request with `Upgrade`,
/// even for a 403 that replaced our 101. Before hyper sends a body, it calls `is_end_stream`; the body of the
/// 101 then sets the flag. hyper never calls it on a body that was replaced. Reading the body sets the flag
/// as well, because some layers read every body and send the same bytes on. Over HTTP/2 hyper checks the status
/// that is sent, and calls no method of the body.
///
/// The flag is wrong in three cases:
///
/// - A layer replaces only the status and keeps the body: the flag is set.
/// - A layer reads the body and then sends another response: the flag is set.
/// - A layer wraps the body in one that calls it only when polled: the flag is not set, because hyper does not
///   poll the body of a 101.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicBool>);

impl Sent {
    /// Makes a flag that is always set, which disables the check.
    pub(crate) fn unguarded() -> Self {
        let sent = Self::default();
        sent.set();
        sent
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
