//! What went over the connections of a layer, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that many connections add to.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    received: Counter,
    sent: Counter,
}

#[derive(Debug, Default)]
struct Counter {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    fn add(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        let messages = self.messages.load(Ordering::Relaxed);
        (messages, self.bytes.load(Ordering::Relaxed))
    }
}

impl Traffic {
    /// Counts messages that arrived, with the bytes of their payload.
    pub(crate) fn received(&self, messages: usize, bytes: usize) {
        self.received.add(messages, bytes);
    }

    /// Counts messages that were sent, with the bytes of their payload.
    pub(crate) fn sent(&self, messages: usize, bytes: usize) {
        self.sent.add(messages, bytes);
    }

    /// Returns the messages and bytes that arrived.
    pub(crate) fn total_received(&self) -> (u64, u64) {
        self.received.get()
    }

    /// Returns the messages and bytes that were sent.
    pub(crate) fn total_sent(&self) -> (u64, u64) {
        self.sent.get()
    }
}
