//! Bytes that are gathered in buffers of bounded size, which are used again.
//!
//! A large message would else be moved each time its buffer grows, and its memory fetched from the
//! system for each one anew.

use std::{cell::RefCell, mem};

use bytes::Bytes;

/// The size of a buffer that is used again, and the most that is held ahead. Small where it is to be
/// filled by inputs of a few bytes.
pub(crate) const CHUNK: usize = if cfg!(fuzzing) { 48 } else { 64 * 1024 };
/// So many of them wait on each thread at most, 2 MiB.
const IDLE: usize = 32;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer, which waits for its next use when it is dropped.
#[derive(Debug, Default)]
struct Chunk(Vec<u8>);

impl Chunk {
    /// Makes an empty one with room for [`CHUNK`] bytes.
    fn full_size() -> Self {
        let idle = POOL.with_borrow_mut(Vec::pop);
        Self(idle.unwrap_or_else(|| Vec::with_capacity(CHUNK)))
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut bytes = mem::take(&mut self.0);
        if bytes.capacity() != CHUNK {
            return;
        }
        bytes.clear();
        // Fails when the thread is about to end.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < IDLE {
                pool.push(bytes);
            }
        });
    }
}

/// Bytes in the order in which they arrived.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    full: Vec<Chunk>,
    last: Chunk,
    /// Bytes in those that are full.
    before: usize,
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.before + self.last.0.len()
    }

    /// Returns the number of bytes for which there is memory.
    #[cfg(any(test, fuzzing))]
    pub(super) fn capacity(&self) -> usize {
        self.before + self.last.0.capacity()
    }

    /// Returns the buffer that the next bytes belong into, with room for some of `len` bytes, and
    /// how much room it has. If there was none, it is made for these bytes and `ahead` more.
    pub(super) fn room(&mut self, len: usize, ahead: usize) -> (&mut Vec<u8>, usize) {
        if self.last.0.len() >= CHUNK {
            self.before += self.last.0.len();
            self.full.push(mem::take(&mut self.last));
        }
        let last = &mut self.last.0;
        if last.capacity() - last.len() < len && last.capacity() < CHUNK {
            let size = (last.len() + len + ahead).min(CHUNK);
            if size == CHUNK && last.is_empty() {
                self.last = Chunk::full_size();
            } else {
                last.reserve_exact(size - last.len());
            }
        }
        let last = &mut self.last.0;
        let room = last.capacity() - last.len();
        (last, room)
    }

    /// Returns the last `len` bytes, which were appended at once.
    pub(super) fn newest(&mut self, len: usize) -> &mut [u8] {
        let start = self.last.0.len() - len;
        &mut self.last.0[start..]
    }

    /// Gives up a buffer that no byte has come into.
    pub(super) fn give_up_room(&mut self) {
        if self.last.0.is_empty() {
            self.last = Chunk::default();
        }
    }

    /// Returns the bytes in one piece, of exactly their length.
    pub(super) fn join(mut self) -> Vec<u8> {
        if self.full.is_empty() {
            let mut bytes = mem::take(&mut self.last.0);
            bytes.shrink_to_fit();
            return bytes;
        }
        let mut bytes = Vec::with_capacity(self.len());
        // Each is given away as soon as it is copied.
        for chunk in self.full {
            bytes.extend_from_slice(&chunk.0);
        }
        bytes.extend_from_slice(&self.last.0);
        bytes
    }

    /// Returns the pieces in which the bytes are.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.full.iter().chain([&self.last]).map(Chunk::as_ref)
    }

    /// Gives the bytes away in the pieces in which they are, none of them empty.
    pub(super) fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        let last = Some(self.last).filter(|last| !last.0.is_empty());
        self.full.into_iter().chain(last).map(Bytes::from_owner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Makes some of `count` full buffers, all of the same byte.
    fn full(count: usize, byte: u8) -> Chunks {
        let mut chunks = Chunks::default();
        for _ in 0..count {
            let (buffer, room) = chunks.room(CHUNK, 0);
            assert_eq!((buffer.len(), room), (0, CHUNK));
            buffer.resize(CHUNK, byte);
        }
        chunks
    }

    /// Returns how many buffers wait on this thread. All of them are empty and of full size.
    fn idle() -> usize {
        POOL.with_borrow(|pool| {
            let good = |buffer: &Vec<u8>| buffer.is_empty() && buffer.capacity() == CHUNK;
            assert!(pool.iter().all(good));
            pool.len()
        })
    }

    #[test]
    fn uses_a_buffer_again_without_what_was_in_it() {
        let mut chunks = full(1, b's');
        let place = chunks.newest(CHUNK).as_ptr();
        drop(chunks.into_pieces());
        assert_eq!(idle(), 1);
        let mut chunks = Chunks::default();
        let (buffer, _) = chunks.room(CHUNK, 0);
        assert_eq!((buffer.as_ptr(), buffer.len()), (place, 0));
        assert_eq!(idle(), 0);
        // Nor is anything of it in what is joined.
        buffer.push(b'n');
        assert_eq!(chunks.join(), b"n");
    }

    #[test]
    fn has_as_many_wait_as_it_may_and_none_of_another_size() {
        drop(full(IDLE + 5, 0));
        assert_eq!(idle(), IDLE);
        drop(full(3, 0).join());
        assert_eq!(idle(), IDLE);

        let others = full(IDLE, 0);
        assert_eq!(idle(), 0);
        let mut small = Chunks::default();
        for (len, ahead) in [(10, 0), (100, 1000), (CHUNK / 2, CHUNK / 4)] {
            let (buffer, room) = small.room(len, ahead);
            assert!(room < CHUNK);
            buffer.extend(vec![1; len]);
        }
        drop(small.into_pieces());
        // One that has become a message has left.
        drop(full(1, 0).join());
        assert_eq!(idle(), 0);
        drop(others);
        assert_eq!(idle(), IDLE);
    }

    #[test]
    fn keeps_a_buffer_on_the_thread_that_drops_it() {
        let pieces: Vec<Bytes> = full(3, 7).into_pieces().collect();
        let clones = pieces.clone();
        let there = thread::spawn(move || {
            drop(clones);
            let clones_only = idle();
            drop(pieces);
            (clones_only, idle())
        });
        assert_eq!((there.join().unwrap(), idle()), ((0, 3), 0));
    }

    #[test]
    fn lets_a_thread_end_that_holds_some() {
        thread_local! {
            static HELD: RefCell<Vec<Bytes>> = const { RefCell::new(Vec::new()) };
        }
        // Whichever of the two is taken down first.
        for held_first in [true, false] {
            let thread = thread::spawn(move || {
                if held_first {
                    HELD.with_borrow_mut(Vec::clear);
                }
                drop(full(1, 0));
                HELD.set(full(2, 0).into_pieces().collect());
            });
            assert!(thread.join().is_ok());
        }
    }
}
