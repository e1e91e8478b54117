//! Counts the bytes that this thread has inflated, joined and compressed, for tests.

use std::cell::Cell;

thread_local! {
    static COUNTED: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn add(bytes: usize) {
    COUNTED.set(COUNTED.get() + bytes);
}

/// Returns the number of bytes since the last call.
pub(crate) fn take() -> usize {
    COUNTED.take()
}
