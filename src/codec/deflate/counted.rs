//! How many bytes the thread has inflated, put in one piece, and compressed, for tests.

use std::cell::Cell;

thread_local! {
    static COUNTED: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn add(bytes: usize) {
    COUNTED.set(COUNTED.get() + bytes);
}

/// Returns the bytes since the last call.
pub(crate) fn take() -> usize {
    COUNTED.take()
}
