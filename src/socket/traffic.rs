//! Counts of messages and their bytes.

/// The number of received and sent messages, and the number of their bytes.
///
/// Bytes are those of the uncompressed payloads. Frame heads and control frames are not counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    pub(crate) messages_sent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) messages_received: u64,
    pub(crate) bytes_received: u64,
}

impl Traffic {
    /// Returns the number of messages that were received.
    #[must_use]
    pub const fn messages_received(&self) -> u64 {
        self.messages_received
    }

    /// Returns the number of bytes of received messages.
    #[must_use]
    pub const fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Returns the number of messages that were sent. A message counts as soon as it is queued to be written.
    #[must_use]
    pub const fn messages_sent(&self) -> u64 {
        self.messages_sent
    }

    /// Returns the number of bytes of sent messages. A message counts as soon as it is queued to be written.
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
