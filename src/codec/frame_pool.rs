//! A pool of memory for outgoing frames, shared by the connections of a thread.

use std::cell::{Cell, RefCell};

use super::{Role, frames::Frames};

/// The maximum number of bytes of [`FIRST`].
const MAX_FIRST: usize = 64 * 1024;
/// The maximum number of bytes of [`IDLE`]. One entry is not enough: a message for many connections is queued for all
/// of them before the first one writes it.
const MAX_BYTES: usize = 960 * 1024;
/// The capacity of a new entry. Entries with less are not kept.
const MIN_CAPACITY: usize = 1024;
/// The maximum size of a queue of segments that is kept, in bytes. The default bound of the outbox needs less.
const MAX_QUEUE_BYTES: usize = 16 * 1024;

thread_local! {
    /// The entry that is used next. It is the only one as long as each connection writes before the next one sends.
    static FIRST: Cell<Option<Box<Frames>>> = const { Cell::new(None) };
    static IDLE: RefCell<Idle> = const { RefCell::new(Idle { frames: Vec::new(), bytes: 0 }) };
}

#[derive(Debug)]
struct Idle {
    #[expect(clippy::vec_box, reason = "they move between the pool and connections")]
    frames: Vec<Box<Frames>>,
    bytes: usize,
}

/// Takes the first entry, else the last idle one, or makes a new one.
#[inline(never)]
pub(super) fn take(role: Role) -> Box<Frames> {
    // Fails while the thread ends.
    let first = FIRST.try_with(Cell::take).ok().flatten();
    let mut frames = first.unwrap_or_else(take_idle);
    frames.role = role;
    frames
}

#[cold]
fn take_idle() -> Box<Frames> {
    let taken = IDLE.try_with(|idle| {
        let mut idle = idle.borrow_mut();
        let frames = idle.frames.pop()?;
        idle.bytes -= bytes(&frames);
        Some(frames)
    });
    let taken = taken.ok().flatten();
    taken.unwrap_or_else(|| Box::new(Frames::new(Role::default(), MIN_CAPACITY)))
}

/// Gives memory back. No frame may be queued in it.
#[inline(never)]
pub(super) fn give_back(mut frames: Box<Frames>) {
    let capacity = frames.tail.capacity();
    if capacity < MIN_CAPACITY {
        return;
    }
    if frames.segments.queue_bytes() > MAX_QUEUE_BYTES {
        frames.clear();
    }
    if bytes(&frames) > MAX_FIRST {
        return give_back_idle(frames);
    }
    let first = FIRST.try_with(Cell::take).ok().flatten();
    // A small entry would have to grow, so the larger of the two is used first.
    let (first, other) = match first {
        Some(first) if first.tail.capacity() >= capacity => (first, Some(frames)),
        other => (frames, other),
    };
    let _ = FIRST.try_with(|slot| slot.set(Some(first)));
    if let Some(other) = other {
        give_back_idle(other);
    }
}

#[cold]
fn give_back_idle(frames: Box<Frames>) {
    let _ = IDLE.try_with(|idle| {
        let mut idle = idle.borrow_mut();
        let bytes = idle.bytes + bytes(&frames);
        if bytes <= MAX_BYTES {
            idle.bytes = bytes;
            // As above: the larger one stays last, and is used first.
            let capacity = frames.tail.capacity();
            let last = idle.frames.last();
            let is_small = last.is_some_and(|last| last.tail.capacity() > capacity);
            let index = idle.frames.len() - usize::from(is_small);
            idle.frames.insert(index, frames);
        }
    });
}

fn bytes(frames: &Frames) -> usize {
    frames.tail.capacity() + frames.segments.queue_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(capacity: usize) -> Box<Frames> {
        Box::new(Frames::new(Role::Client, capacity))
    }

    fn taken() -> usize {
        take(Role::Server).tail.capacity()
    }

    #[test]
    fn takes_the_larger_of_the_last_entries_first() {
        assert_eq!(taken(), MIN_CAPACITY);
        for capacity in [MIN_CAPACITY - 1, 2000, 4000, 3000] {
            give_back(frames(capacity));
        }
        for capacity in [4000, 3000, 2000, MIN_CAPACITY] {
            let frames = take(Role::Server);
            assert_eq!((frames.tail.len(), frames.tail.capacity()), (0, capacity));
        }
    }

    #[test]
    fn limits_the_idle_bytes() {
        let entries = MAX_BYTES / 2000;
        for _ in 0..2 * entries {
            give_back(frames(2000));
        }
        let small = (0..2 * entries).filter(|_| taken() > MIN_CAPACITY);
        // And the first one.
        assert_eq!(small.count(), entries + 1);
        let third = MAX_BYTES / 3;
        for _ in 0..4 {
            give_back(frames(third));
        }
        let large: Vec<usize> = (0..4).map(|_| taken()).collect();
        assert_eq!(large, [third, third, third, MIN_CAPACITY]);
    }
}
