//! Counts of messages and their bytes.

/// The number of messages that were received and sent, and of their bytes.
///
/// Only payloads of messages are counted, at their uncompressed size: no frame heads and no control frames.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    pub(crate) messages_received: u64,
    pub(crate) bytes_received: u64,
    pub(crate) messages_sent: u64,
    pub(crate) bytes_sent: u64,
}

impl Traffic {
    /// Returns how many messages arrived.
    #[must_use]
    pub const fn messages_received(&self) -> u64 {
        self.messages_received
    }

    /// Returns how many bytes of messages arrived.
    #[must_use]
    pub const fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Returns how many messages were sent. A message counts as soon as it is queued to be written.
    #[must_use]
    pub const fn messages_sent(&self) -> u64 {
        self.messages_sent
    }

    /// Returns how many bytes of messages were sent. They count as soon as the message is queued to be written.
    #[must_use]
    pub const fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    pub(crate) const fn add(&mut self, other: Self) {
        self.messages_received += other.messages_received;
        self.bytes_received += other.bytes_received;
        self.messages_sent += other.messages_sent;
        self.bytes_sent += other.bytes_sent;
    }

    /// Returns the traffic since `earlier`.
    pub(crate) const fn since(self, earlier: Self) -> Self {
        Self {
            messages_received: self.messages_received - earlier.messages_received,
            bytes_received: self.bytes_received - earlier.bytes_received,
            messages_sent: self.messages_sent - earlier.messages_sent,
            bytes_sent: self.bytes_sent - earlier.bytes_sent,
        }
    }
}
