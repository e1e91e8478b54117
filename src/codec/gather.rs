//! Buffers to gather frames in, shared by the connections of a thread.

use std::cell::RefCell;

/// The most bytes that wait on a thread for their next use, and the most buffers. Several wait, because
/// a message for many connections is queued for all of them before the first one writes it.
const BYTES: usize = 1024 * 1024;
const BUFFERS: usize = 64;
/// A new one has this capacity, and a smaller one does not wait.
const SMALLEST: usize = 1024;

thread_local! {
    static IDLE: RefCell<Idle> = const { RefCell::new(Idle { buffers: Vec::new(), bytes: 0 }) };
}

#[derive(Debug)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// Takes the empty buffer that was given back last, if none before it was larger, or a new one.
pub(super) fn take() -> Vec<u8> {
    // Fails when the thread is about to end.
    let taken = IDLE.try_with(|idle| {
        let mut idle = idle.borrow_mut();
        let buffer = idle.buffers.pop()?;
        idle.bytes -= buffer.capacity();
        Some(buffer)
    });
    let taken = taken.ok().flatten();
    taken.unwrap_or_else(|| Vec::with_capacity(SMALLEST))
}

/// Gives a buffer back, whatever is in it.
pub(super) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() < SMALLEST {
        return;
    }
    buffer.clear();
    let _ = IDLE.try_with(|idle| {
        let mut idle = idle.borrow_mut();
        let bytes = idle.bytes + buffer.capacity();
        if bytes <= BYTES && idle.buffers.len() < BUFFERS {
            idle.bytes = bytes;
            // A small one would be grown where a large one lies below it.
            let top = idle.buffers.last();
            let is_small = top.is_some_and(|top| top.capacity() > buffer.capacity());
            let place = idle.buffers.len() - usize::from(is_small);
            idle.buffers.insert(place, buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_buffer_again_that_was_used_last() {
        assert_eq!(take().capacity(), SMALLEST);
        for len in [SMALLEST - 1, 2000, 4000, 3000] {
            give_back(vec![1; len]);
        }
        for len in [4000, 3000, 2000, SMALLEST] {
            let buffer = take();
            assert_eq!((buffer.len(), buffer.capacity()), (0, len));
        }
    }

    #[test]
    fn keeps_no_more_than_it_may() {
        for _ in 0..2 * BUFFERS {
            give_back(vec![0; 2000]);
        }
        let waiting = |_| take().capacity();
        let small: Vec<usize> = (0..2 * BUFFERS)
            .map(waiting)
            .filter(|&len| len > SMALLEST)
            .collect();
        assert_eq!(small, [2000; BUFFERS]);
        for _ in 0..4 {
            give_back(vec![0; BYTES / 3]);
        }
        let large: Vec<usize> = (0..4).map(waiting).collect();
        assert_eq!(large, [BYTES / 3, BYTES / 3, BYTES / 3, SMALLEST]);
    }
}
