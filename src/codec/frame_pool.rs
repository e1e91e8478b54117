//! Memory for frames that wait to be written, shared by the connections of a thread.

use std::cell::RefCell;

use super::{Role, frames::Frames};

/// The most bytes that wait on a thread for their next use, and in how many places. Several wait, because
/// a message for many connections is queued for all of them before the first one writes it.
const BYTES: usize = 1024 * 1024;
const PLACES: usize = 64;
/// A new one gathers so many bytes, and one with room for fewer does not wait.
const SMALLEST: usize = 1024;
/// The longest list of segments that waits, in bytes: longer than the default bound of the outbox takes.
const LONGEST: usize = 16 * 1024;

thread_local! {
    static IDLE: RefCell<Idle> = const { RefCell::new(Idle { frames: Vec::new(), bytes: 0 }) };
}

#[derive(Debug)]
struct Idle {
    #[expect(clippy::vec_box, reason = "they move between here and the connections")]
    frames: Vec<Box<Frames>>,
    bytes: usize,
}

/// Takes the memory that was given back last, if none before it was larger, or new one.
#[inline(never)]
pub(super) fn take(role: Role) -> Box<Frames> {
    // Fails when the thread is about to end.
    let taken = IDLE.try_with(|idle| {
        let mut idle = idle.borrow_mut();
        let mut frames = idle.frames.pop()?;
        idle.bytes -= bytes(&frames);
        frames.role = role;
        Some(frames)
    });
    let taken = taken.ok().flatten();
    taken.unwrap_or_else(|| Box::new(Frames::new(role, SMALLEST)))
}

/// Gives memory back in which nothing is queued.
#[inline(never)]
pub(super) fn give_back(mut frames: Box<Frames>) {
    if frames.tail.capacity() < SMALLEST {
        return;
    }
    if frames.segments.room() > LONGEST {
        frames.clear();
    }
    let _ = IDLE.try_with(|idle| {
        let mut idle = idle.borrow_mut();
        let bytes = idle.bytes + bytes(&frames);
        if bytes <= BYTES && idle.frames.len() < PLACES {
            idle.bytes = bytes;
            // A small one would be grown where a large one lies below it.
            let room = frames.tail.capacity();
            let top = idle.frames.last();
            let is_small = top.is_some_and(|top| top.tail.capacity() > room);
            let place = idle.frames.len() - usize::from(is_small);
            idle.frames.insert(place, frames);
        }
    });
}

fn bytes(frames: &Frames) -> usize {
    frames.tail.capacity() + frames.segments.room()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(room: usize) -> Box<Frames> {
        Box::new(Frames::new(Role::Client, room))
    }

    fn taken() -> usize {
        take(Role::Server).tail.capacity()
    }

    #[test]
    fn gives_the_memory_again_that_was_used_last() {
        assert_eq!(taken(), SMALLEST);
        for room in [SMALLEST - 1, 2000, 4000, 3000] {
            give_back(frames(room));
        }
        for room in [4000, 3000, 2000, SMALLEST] {
            let frames = take(Role::Server);
            assert_eq!((frames.tail.len(), frames.tail.capacity()), (0, room));
        }
    }

    #[test]
    fn keeps_no_more_than_it_may() {
        for _ in 0..2 * PLACES {
            give_back(frames(2000));
        }
        let small: Vec<usize> = (0..2 * PLACES)
            .map(|_| taken())
            .filter(|&room| room > SMALLEST)
            .collect();
        assert_eq!(small, [2000; PLACES]);
        for _ in 0..4 {
            give_back(frames(BYTES / 3));
        }
        let large: Vec<usize> = (0..4).map(|_| taken()).collect();
        assert_eq!(large, [BYTES / 3, BYTES / 3, BYTES / 3, SMALLEST]);
    }
}
