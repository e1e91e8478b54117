//! The limit on the memory that all connections of a registry hold together.

use std::{
    cmp::Reverse,
    sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering},
};

use super::Connections;
use crate::socket::Link;

/// The value of `Memory::max` without a limit.
const NONE: usize = usize::MAX;

/// The memory that all connections hold.
#[derive(Debug)]
pub(super) struct Memory {
    max: AtomicUsize,
    /// The sum of the connections' counts. It may be negative for a moment, because changes arrive out of order.
    held: AtomicIsize,
    /// A thread is closing the connections that hold most.
    is_relieving: AtomicBool,
}

impl Memory {
    pub(super) const fn new() -> Self {
        Self {
            max: AtomicUsize::new(NONE),
            held: AtomicIsize::new(0),
            is_relieving: AtomicBool::new(false),
        }
    }

    pub(super) fn max(&self) -> Option<usize> {
        let max = self.max.load(Ordering::Relaxed);
        (max != NONE).then_some(max)
    }

    pub(super) fn held(&self) -> usize {
        usize::try_from(self.held.load(Ordering::Relaxed)).unwrap_or_default()
    }

    fn add(&self, change: isize) {
        if change != 0 {
            self.held.fetch_add(change, Ordering::Relaxed);
        }
    }

    fn is_over(&self) -> bool {
        self.max().is_some_and(|max| self.held() > max)
    }
}

impl Connections {
    /// Limits the memory that all connections hold together, in bytes: unwritten messages, messages that wait for
    /// the handler, and messages in progress.
    ///
    /// Past the limit, the connection that holds most is closed with 1013, then the next one if that is not enough.
    /// Its unwritten messages are dropped, and so are the messages that its handler has not received. Then
    /// [`recv`](crate::WebSocket::recv) returns `None`, and [`close_frame`](crate::WebSocket::close_frame) the 1013.
    /// If part of a frame is written and at most 64 KiB of it are left, the rest is written before the Close. If
    /// more is left, the connection is dropped without a Close. A closed connection counts as 0. Other connections
    /// lose no messages.
    ///
    /// The limit counts connections that are opened after this call.
    /// [`Counts::buffered`](crate::Counts::buffered) returns the sum. Default: no limit.
    ///
    /// # How much to allow
    ///
    /// With the default limits of [`Config`](crate::Config) one connection holds at most 1 MiB of unwritten messages,
    /// 64 KiB that wait for the handler, and one message of 1 MiB that arrives: 2,112 KiB. The 10,000 connections of
    /// [`max_connections`](Self::max_connections) hold at most 20.1 GiB. Leave room for memory that is not counted:
    ///
    /// - Messages that the handler has received or not sent yet, requests, and the values of
    ///   [`Accept::identify`](crate::Accept::identify).
    /// - Less than 4 KiB for each connection. The count of a connection changes in steps of 4 KiB, so small messages
    ///   cost nothing. For 10,000 connections the sum may be off by 40 MiB.
    /// - Changes since the task of a connection last slept or yielded, because the connection is counted then. For a
    ///   moment, the sum may exceed the limit by as much as the limits of [`Config`](crate::Config) allow.
    /// - The buffers of a compressed connection, see `Deflate`.
    /// - Freed memory that the allocator keeps.
    ///
    /// # Cost
    ///
    /// A connection writes to the shared sum only when its own count changes. When the limit is passed, the registry
    /// counts all connections, in time proportional to their number.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::Connections;
    ///
    /// let connections = Connections::new().max_buffered(2 << 30);
    /// ```
    #[must_use]
    pub fn max_buffered(self, bytes: usize) -> Self {
        self.shared
            .memory
            .max
            .store(bytes.min(NONE - 1), Ordering::Relaxed);
        self
    }

    /// Adds the change of a connection's count. Closes connections if the sum is past the limit.
    pub(super) fn add_held(&self, change: isize) {
        let memory = &self.shared.memory;
        memory.add(change);
        if change < 0 {
            return;
        }
        // One thread at a time: another thread that passes the limit returns at once.
        while memory.is_over() && !memory.is_relieving.swap(true, Ordering::AcqRel) {
            let has_closed = self.relieve();
            // Acquires the changes of threads that have returned at once.
            memory.is_relieving.swap(false, Ordering::AcqRel);
            if !has_closed {
                break;
            }
        }
    }

    /// Removes a connection from the sum, permanently.
    pub(super) fn stop_counting(&self, link: &Link) {
        self.shared.memory.add(link.stop_counting());
    }

    /// Counts all connections, then closes the largest ones until the sum is within the limit. Returns whether it
    /// closed any.
    fn relieve(&self) -> bool {
        let memory = &self.shared.memory;
        let links = self.lock().links();
        let mut all: Vec<_> = links
            .into_iter()
            .map(|link| {
                let (held, change) = link.count_held();
                memory.add(change);
                (held, link)
            })
            .filter(|(held, _)| *held > 0)
            .collect();
        all.sort_unstable_by_key(|(held, _)| Reverse(*held));
        let mut has_closed = false;
        for (_, link) in all {
            if !memory.is_over() {
                break;
            }
            let change = link.shed();
            memory.add(change);
            has_closed |= change < 0;
        }
        has_closed
    }
}
