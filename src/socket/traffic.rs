//! What went over the connections of a layer, counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counters that many connections add to.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    received: Counter,
    sent: Counter,
    /// What was both.
    repeated: Counter,
    /// See [`touches`](Self::touches).
    touches: AtomicUsize,
    handed_on: AtomicU64,
}

#[derive(Debug, Default)]
struct Counter {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    #[inline]
    fn add(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn get_with(&self, other: &Self) -> (u64, u64) {
        let sum = |a: &AtomicU64, b: &AtomicU64| {
            let (a, b) = (a.load(Ordering::Relaxed), b.load(Ordering::Relaxed));
            a.wrapping_add(b)
        };
        (
            sum(&self.messages, &other.messages),
            sum(&self.bytes, &other.bytes),
        )
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

    /// Counts messages that were received, and sent as they were: both at half the price.
    #[inline]
    pub(crate) fn repeated(&self, messages: usize, bytes: usize) {
        self.repeated.add(messages, bytes);
    }

    /// Counts a handler that returned while its `WebSocket` lives on elsewhere.
    pub(crate) fn handed_on(&self) {
        self.handed_on.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many handlers did.
    pub(crate) fn total_handed_on(&self) -> u64 {
        self.handed_on.load(Ordering::Relaxed)
    }

    /// Notes that a connection that repeats has something else to do; to be called before it is woken.
    pub(crate) fn touch(&self) {
        self.touches.fetch_add(1, Ordering::Release);
    }

    /// Returns how often connections that repeat were given something else to do. While that does not
    /// change, none of them has to look whether it was the one: what all of them need stays in the
    /// cache, while what each needs for itself does not where there are many.
    #[inline]
    pub(crate) fn touches(&self) -> usize {
        self.touches.load(Ordering::Acquire)
    }

    /// Returns the messages and bytes that arrived.
    pub(crate) fn total_received(&self) -> (u64, u64) {
        self.received.get_with(&self.repeated)
    }

    /// Returns the messages and bytes that were sent.
    pub(crate) fn total_sent(&self) -> (u64, u64) {
        self.sent.get_with(&self.repeated)
    }
}
