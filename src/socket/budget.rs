//! Limits on the work of one poll of a connection's task.

/// The frames and bytes that one poll may take in before it yields to the other tasks of its
/// thread.
const FRAMES: u32 = 64;
const BYTES: u32 = 256 * 1024;
/// The same limit within a large payload. A smaller one would leave a part of the payload in memory
/// for each connection, and out of the cache when the rest arrives. A message of 1 MiB fits, with its head.
const BYTES_WITHIN: u32 = 1024 * 1024 + 16;
/// The bytes that one poll may inflate. It may compress as many again: 256 KiB together.
const SHARE: u32 = 128 * 1024;

/// The frames and bytes that a poll has taken in. They may exceed [`FRAMES`], [`BYTES`] and
/// [`BYTES_WITHIN`] slightly.
#[derive(Debug, Default)]
pub(super) struct Spent {
    frames: u32,
    bytes: u32,
}

impl Spent {
    #[inline]
    pub(super) fn add(&mut self, frames: usize, bytes: usize) {
        let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
        self.frames = self.frames.saturating_add(small(frames));
        self.bytes = self.bytes.saturating_add(small(bytes));
    }

    /// Adds a frame whose bytes were counted by the read. Call it only while
    /// [`is_spent`](Self::is_spent) is false.
    #[inline]
    pub(super) const fn add_frame(&mut self) {
        self.frames += 1;
    }

    #[inline]
    pub(super) const fn is_spent(&self) -> bool {
        self.frames >= FRAMES || self.bytes >= BYTES
    }

    /// Returns whether the limit within a large payload is reached. `unwritten` bytes count as
    /// well: a large answer is written before the next message is read beside it.
    pub(super) fn is_spent_within_large(&self, unwritten: usize) -> bool {
        let bytes = unwritten.saturating_add(self.bytes as usize);
        self.frames >= FRAMES || bytes >= BYTES_WITHIN as usize
    }
}

/// The bytes that a poll may still inflate, or compress.
#[derive(Debug)]
pub(super) struct Budget(u32);

impl Default for Budget {
    fn default() -> Self {
        Self(SHARE)
    }
}

impl Budget {
    pub(super) const fn left(&self) -> usize {
        self.0 as usize
    }

    pub(super) fn set_left(&mut self, left: usize) {
        self.0 = u32::try_from(left).map_or(SHARE, |left| left.min(SHARE));
    }
}
