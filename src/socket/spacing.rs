//! Unused bytes in the small blocks of memory that live as long as their connection.
//!
//! tokio aligns tasks and sockets to 128 bytes. glibc cuts such a block out of a larger one, and leaves gaps of at most
//! 144 bytes beside it. If a block that lives long fills a gap, the larger block cannot be joined again when the aligned
//! one is freed, and the next aligned block needs new memory. So these blocks are larger than the gaps.

/// The largest block that fits into a gap, in bytes, on 64-bit targets.
const LARGEST_IN_A_GAP: usize = 136;

/// Fills up a block by `WORDS` times eight bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spacing<const WORDS: usize> {
    _unused: [u64; WORDS],
}

impl<const WORDS: usize> Spacing<WORDS> {
    pub(super) const NEW: Self = Self {
        _unused: [0; WORDS],
    };
}

/// Returns whether the block of a `T` is too large for a gap. Always true on other than 64-bit targets, where blocks and
/// gaps have other sizes.
pub(super) const fn is_too_large_for_a_gap<T>() -> bool {
    cfg!(not(target_pointer_width = "64")) || size_of::<T>() > LARGEST_IN_A_GAP
}
