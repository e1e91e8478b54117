//! How much one poll of the task takes in.

/// What one poll of the task may take in before the thread's other tasks get their turn.
const FRAMES: u32 = 64;
const BYTES: u32 = 256 * 1024;
/// The same within a large payload. Left to the next poll, that much of each connection's would be
/// held at once, and would have left the cache when the rest comes.
const BYTES_WITHIN: u32 = 1024 * 1024;
/// What one poll may inflate, and the same again that it may compress. Both together are 256 KiB.
const SHARE: u32 = 128 * 1024;

/// What a poll has taken in, at most a little more than [`FRAMES`] and than [`BYTES`] or
/// [`BYTES_WITHIN`].
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

    /// Adds a frame whose bytes were added when they were read, while it is not enough yet.
    #[inline]
    pub(super) const fn add_frame(&mut self) {
        self.frames += 1;
    }

    #[inline]
    pub(super) const fn is_spent(&self) -> bool {
        self.frames >= FRAMES || self.bytes >= BYTES
    }

    /// Tells whether it is enough also within a large payload. What is `unwritten` counts as well: a
    /// large answer goes before the next message is held beside it.
    pub(super) fn is_spent_within_large(&self, unwritten: usize) -> bool {
        let bytes = unwritten.saturating_add(self.bytes as usize);
        self.frames >= FRAMES || bytes >= BYTES_WITHIN as usize
    }
}

/// What is left of a poll's share of inflating, or of compressing, in bytes.
#[derive(Debug)]
pub(super) struct Share(u32);

impl Default for Share {
    fn default() -> Self {
        Self(SHARE)
    }
}

impl Share {
    pub(super) const fn left(&self) -> usize {
        self.0 as usize
    }

    pub(super) fn set_left(&mut self, left: usize) {
        self.0 = u32::try_from(left).map_or(SHARE, |left| left.min(SHARE));
    }
}
