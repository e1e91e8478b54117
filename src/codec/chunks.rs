//! Bytes that are gathered in buffers of bounded size, which are used again.
//!
//! A large message would else be moved each time its buffer grows, and its memory fetched from the
//! system for each one anew.

use std::{array, cell::RefCell, io::IoSliceMut, mem, vec};

/// The size of a buffer that is used again, and the most that is held ahead. Small where it is to be
/// filled by inputs of a few bytes.
pub(crate) const CHUNK: usize = if cfg!(fuzzing) { 48 } else { 64 * 1024 };
/// So many of them wait on each thread at most, 2 MiB.
const IDLE: usize = 32;

/// So many can be read into at once.
const READ: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer, which waits for its next use when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// All of it can be written to, so that nothing is filled with zeros twice.
    bytes: Vec<u8>,
    filled: usize,
}

impl Chunk {
    /// Makes an empty one of [`CHUNK`] bytes.
    fn full_size() -> Self {
        let idle = POOL.with_borrow_mut(Vec::pop);
        Self {
            bytes: idle.unwrap_or_else(|| vec![0; CHUNK]),
            filled: 0,
        }
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    fn grow(&mut self, size: usize) {
        if size == CHUNK && self.filled == 0 {
            *self = Self::full_size();
        } else if size > self.bytes.len() {
            self.bytes.reserve_exact(size - self.bytes.len());
            self.bytes.resize(size, 0);
        }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.bytes);
        if bytes.len() != CHUNK {
            return;
        }
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
    /// Those behind the last one that are read into at the moment, the first one at the end.
    ahead: Vec<Chunk>,
    /// Bytes in those that are full.
    before: usize,
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.before + self.last.filled
    }

    /// Returns the number of bytes for which there is memory.
    #[cfg(any(test, fuzzing))]
    pub(super) fn capacity(&self) -> usize {
        let ahead = self.ahead.iter().map(|chunk| chunk.bytes.len());
        self.before + self.last.bytes.len() + ahead.sum::<usize>()
    }

    /// Returns where the next bytes belong, which is room for some of `len`. If there was none, it
    /// is made for these bytes and `ahead` more. What is put there is to be told with
    /// [`fill`](Self::fill).
    pub(super) fn room(&mut self, len: usize, ahead: usize) -> &mut [u8] {
        if self.last.filled == CHUNK {
            self.seal(Chunk::default());
        }
        let last = &mut self.last;
        if last.bytes.len() - last.filled < len {
            last.grow((last.filled + len + ahead).min(CHUNK));
        }
        last.room()
    }

    /// Returns as much room as can be read into at once, up to `most` bytes.
    pub(super) fn rooms(&mut self, most: usize) -> Rooms<'_> {
        let mut left = most.saturating_sub(self.room(most, 0).len());
        while left > 0 && self.ahead.len() + 1 < READ {
            let mut chunk = Chunk::default();
            chunk.grow(left.min(CHUNK));
            left -= chunk.bytes.len();
            self.ahead.insert(0, chunk);
        }
        let mut rooms = Rooms::default();
        let mut left = most;
        let chunks = [&mut self.last].into_iter();
        for chunk in chunks.chain(self.ahead.iter_mut().rev()) {
            let room = chunk.room();
            let len = room.len().min(left);
            left -= len;
            rooms.slices[rooms.used] = IoSliceMut::new(&mut room[..len]);
            rooms.used += 1;
        }
        rooms
    }

    /// Takes `len` bytes for filled, each piece of which `finish` may change or refuse.
    pub(super) fn fill<E>(
        &mut self,
        mut len: usize,
        mut finish: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // Given up at the end, whatever that is.
        let mut ahead = mem::take(&mut self.ahead);
        loop {
            let room = self.last.room();
            let filled = len.min(room.len());
            finish(&mut room[..filled])?;
            self.last.filled += filled;
            len -= filled;
            match ahead.pop() {
                Some(next) if len > 0 => self.seal(next),
                _ => return Ok(()),
            }
        }
    }

    /// Gives up buffers that no byte has come into.
    pub(super) fn give_up_room(&mut self) {
        self.ahead = Vec::new();
        if self.last.filled == 0 {
            self.last = Chunk::default();
        }
    }

    fn seal(&mut self, next: Chunk) {
        let full = mem::replace(&mut self.last, next);
        self.before += full.filled;
        self.full.push(full);
    }

    /// Returns the bytes in one piece, of exactly their length, if they are in one buffer.
    pub(super) fn into_single(mut self) -> Result<Vec<u8>, Self> {
        if !self.full.is_empty() {
            return Err(self);
        }
        let mut bytes = mem::take(&mut self.last.bytes);
        bytes.truncate(self.last.filled);
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    /// Gives the buffers away in which the bytes are, none of them empty.
    pub(super) fn into_chunks(self) -> vec::IntoIter<Chunk> {
        let mut chunks = self.full;
        chunks.extend(Some(self.last).filter(|last| last.filled > 0));
        chunks.into_iter()
    }
}

/// Where bytes can be read to.
#[derive(Debug)]
pub(crate) struct Rooms<'a> {
    slices: [IoSliceMut<'a>; READ],
    used: usize,
}

impl Default for Rooms<'_> {
    fn default() -> Self {
        let slices = array::from_fn(|_| IoSliceMut::new(&mut []));
        Self { slices, used: 0 }
    }
}

impl<'a> Rooms<'a> {
    /// Returns the slices, at least one, none of them empty.
    pub(crate) fn slices(&mut self) -> &mut [IoSliceMut<'a>] {
        &mut self.slices[..self.used]
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, thread};

    use bytes::Bytes;

    use super::*;

    /// Makes some of `count` full buffers, all of the same byte.
    fn full(count: usize, byte: u8) -> Chunks {
        let mut chunks = Chunks::default();
        for _ in 0..count {
            let room = chunks.room(CHUNK, 0);
            assert_eq!(room.len(), CHUNK);
            room.fill(byte);
            fill(&mut chunks, CHUNK);
        }
        chunks
    }

    fn fill(chunks: &mut Chunks, len: usize) {
        let filled = chunks.fill(len, |_| Ok::<_, Infallible>(()));
        filled.unwrap();
    }

    fn single(chunks: Chunks) -> Vec<u8> {
        chunks.into_single().unwrap()
    }

    fn joined(chunks: Chunks) -> Vec<u8> {
        let chunks: Vec<Chunk> = chunks.into_chunks().collect();
        let chunks: Vec<&[u8]> = chunks.iter().map(Chunk::as_ref).collect();
        chunks.concat()
    }

    /// Returns how many buffers wait on this thread, all of them of full size.
    fn idle() -> usize {
        POOL.with_borrow(|pool| {
            let good = |buffer: &Vec<u8>| (buffer.len(), buffer.capacity()) == (CHUNK, CHUNK);
            assert!(pool.iter().all(good));
            pool.len()
        })
    }

    #[test]
    fn uses_a_buffer_again_without_what_was_in_it() {
        let chunks = full(1, b's');
        let place = chunks.last.bytes.as_ptr();
        drop(chunks.into_chunks());
        assert_eq!(idle(), 1);
        let mut chunks = Chunks::default();
        let room = chunks.room(CHUNK, 0);
        assert_eq!(room.as_ptr(), place);
        room[0] = b'n';
        assert_eq!(idle(), 0);
        // Nor is anything of it in what is joined.
        fill(&mut chunks, 1);
        assert_eq!(single(chunks), b"n");
    }

    #[test]
    fn has_as_many_wait_as_it_may_and_none_of_another_size() {
        drop(full(IDLE + 5, 0));
        assert_eq!(idle(), IDLE);
        drop(joined(full(3, 0)));
        assert_eq!(idle(), IDLE);

        let others = full(IDLE, 0);
        assert_eq!(idle(), 0);
        let mut small = Chunks::default();
        for (len, ahead) in [(10, 0), (100, 1000), (CHUNK / 2, CHUNK / 4)] {
            assert!(small.room(len, ahead).len() < CHUNK);
            fill(&mut small, len);
        }
        drop(small.into_chunks());
        // One that has become a message has left.
        drop(single(full(1, 0)));
        assert_eq!(idle(), 0);
        drop(others);
        assert_eq!(idle(), IDLE);
    }

    #[test]
    fn keeps_a_buffer_on_the_thread_that_drops_it() {
        let pieces: Vec<Bytes> = full(3, 7).into_chunks().map(Bytes::from_owner).collect();
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
                HELD.set(full(2, 0).into_chunks().map(Bytes::from_owner).collect());
            });
            assert!(thread.join().is_ok());
        }
    }

    #[test]
    fn reads_into_several_and_keeps_none_ahead() {
        let mut chunks = Chunks::default();
        let mut rooms = chunks.rooms(10 * CHUNK);
        let lens: Vec<usize> = rooms.slices().iter().map(|room| room.len()).collect();
        assert_eq!(lens, [CHUNK; READ]);
        for (number, room) in rooms.slices().iter_mut().enumerate() {
            room.fill(number as u8);
        }
        assert_eq!(chunks.capacity(), READ * CHUNK);
        fill(&mut chunks, CHUNK + 7);
        assert_eq!(chunks.capacity(), 2 * CHUNK);

        let mut rooms = chunks.rooms(CHUNK + 3);
        let lens: Vec<usize> = rooms.slices().iter().map(|room| room.len()).collect();
        assert_eq!(lens, [CHUNK - 7, 10]);
        rooms.slices()[1].fill(9);
        assert_eq!(chunks.capacity(), 2 * CHUNK + 10);
        fill(&mut chunks, CHUNK + 3);
        let joined = joined(chunks);
        assert_eq!(joined.len(), 2 * CHUNK + 10);
        assert_eq!(
            (joined[CHUNK - 1], joined[CHUNK], joined[2 * CHUNK]),
            (0, 1, 9)
        );

        // Nor by what is refused.
        let mut chunks = Chunks::default();
        assert_eq!(chunks.rooms(10 * CHUNK).slices().len(), READ);
        assert_eq!(chunks.fill(1, |_| Err(())), Err(()));
        assert_eq!(chunks.capacity(), CHUNK);

        let mut chunks = Chunks::default();
        assert_eq!(chunks.rooms(5).slices().len(), 1);
        chunks.give_up_room();
        assert_eq!(chunks.capacity(), 0);
    }
}
