//! Bytes that are gathered in buffers of bounded size, which are used again.
//!
//! A large message would else be moved each time its buffer grows, and its memory fetched from the
//! system for each one anew.

use std::{array, cell::RefCell, io::IoSliceMut, mem};

use bytes::Bytes;

/// The size of a buffer that is used again. Small where it is to be filled by inputs of a few bytes.
const CHUNK: usize = if cfg!(fuzzing) { 48 } else { 64 * 1024 };
/// So many of them wait on each thread at most, 2 MiB.
const IDLE: usize = 32;

/// So many can be read into at once.
const READ: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer, which waits for its next use when it is dropped.
#[derive(Debug, Default)]
struct Chunk {
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
        loop {
            let room = self.last.room();
            let filled = len.min(room.len());
            finish(&mut room[..filled])?;
            self.last.filled += filled;
            len -= filled;
            match self.ahead.pop() {
                Some(next) if len > 0 => self.seal(next),
                _ => break,
            }
        }
        self.ahead = Vec::new();
        Ok(())
    }

    /// Gives the room away that no byte has come into.
    pub(super) fn rest(&mut self) {
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

    /// Returns the bytes in one piece, of exactly their length.
    pub(super) fn join(mut self) -> Vec<u8> {
        if self.full.is_empty() {
            let mut bytes = mem::take(&mut self.last.bytes);
            bytes.truncate(self.last.filled);
            bytes.shrink_to_fit();
            return bytes;
        }
        let mut bytes = Vec::with_capacity(self.len());
        // Each is given away as soon as it is copied.
        for chunk in self.full {
            bytes.extend_from_slice(chunk.as_ref());
        }
        bytes.extend_from_slice(self.last.as_ref());
        bytes
    }

    /// Returns the bytes in the pieces in which they are.
    pub(super) fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        let last = Some(self.last).filter(|last| last.filled > 0);
        self.full.into_iter().chain(last).map(Bytes::from_owner)
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
