//! Amounts of messages, and limits on them.

/// An amount of outgoing data, in messages and in bytes of their frames.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Load {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Load {
    pub(crate) const fn is_empty(self) -> bool {
        self.bytes == 0
    }
}

/// The capacity of a message queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Bound {
    /// Returns whether a message of `len` bytes fits in addition to both loads. An empty queue takes a message of
    /// any size. Otherwise a message larger than the bound could never be queued.
    pub(crate) const fn takes(self, one: Load, other: Load, len: usize) -> bool {
        let messages = one.messages + other.messages;
        let bytes = one.bytes + other.bytes;
        (messages == 0 && bytes == 0) || (messages < self.messages && bytes + len <= self.bytes)
    }

    /// Returns whether both loads together are within the bound.
    #[cfg(feature = "hub")]
    #[inline]
    pub(crate) const fn holds(self, one: Load, other: Load) -> bool {
        one.messages + other.messages <= self.messages && one.bytes + other.bytes <= self.bytes
    }
}
