//! Bytes that are gathered in buffers of bounded size, which are used again.
//!
//! A large message would else be moved each time its buffer grows, and its memory fetched from the
//! system for each one anew.

use std::{cell::RefCell, mem};

use bytes::Bytes;

/// The size of a buffer that is used again. Small where it is to be filled by inputs of a few bytes.
const CHUNK: usize = if cfg!(fuzzing) { 48 } else { 64 * 1024 };
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

    /// Gives the room away that no byte has come into.
    pub(super) fn rest(&mut self) {
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

    /// Returns the bytes in the pieces in which they are.
    pub(super) fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        let last = Some(self.last).filter(|last| !last.0.is_empty());
        self.full.into_iter().chain(last).map(Bytes::from_owner)
    }
}
