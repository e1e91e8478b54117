//! The bytes of a message, collected in buffers of bounded size.
//!
//! In a single buffer, a large message would be copied each time the buffer grows.

use std::{array, io::IoSliceMut, mem};

use super::buffers::{Buffer, CHUNK};

/// The maximum number of buffers in one read.
const MAX_READ_BUFFERS: usize = 4;
/// The maximum number of bytes in one read.
pub(super) const MAX_READ: usize = MAX_READ_BUFFERS * CHUNK;

/// A buffer, and the number of bytes in it.
#[derive(Debug)]
struct Chunk {
    /// Initialized over its whole length, so that no part is zeroed twice.
    memory: Memory,
    filled: usize,
}

#[derive(Debug)]
enum Memory {
    /// Smaller than [`CHUNK`].
    Small(Vec<u8>),
    Full(Buffer),
}

impl Chunk {
    fn full_size() -> Self {
        Self {
            memory: Memory::Full(Buffer::take()),
            filled: 0,
        }
    }

    fn size(&self) -> usize {
        match &self.memory {
            Memory::Small(bytes) => bytes.len(),
            Memory::Full(_) => CHUNK,
        }
    }

    fn spare(&mut self) -> &mut [u8] {
        let bytes = match &mut self.memory {
            Memory::Small(bytes) => &mut bytes[..],
            Memory::Full(buffer) => buffer,
        };
        &mut bytes[self.filled..]
    }

    fn grow(&mut self, size: usize) {
        if size >= CHUNK {
            let mut full = Self::full_size();
            full.spare()[..self.filled].copy_from_slice(self.as_ref());
            full.filled = self.filled;
            *self = full;
        } else if let Memory::Small(bytes) = &mut self.memory {
            bytes.reserve_exact(size.saturating_sub(bytes.len()));
            bytes.resize(size.max(bytes.len()), 0);
        }
    }
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            memory: Memory::Small(Vec::new()),
            filled: 0,
        }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        let bytes = match &self.memory {
            Memory::Small(bytes) => bytes,
            Memory::Full(buffer) => &buffer[..],
        };
        &bytes[..self.filled]
    }
}

/// Bytes in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    full: Vec<Chunk>,
    last: Chunk,
    /// Further buffers for a read in progress, in reverse order.
    ahead: Vec<Chunk>,
    /// The number of bytes in `full`.
    before: usize,
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.before + self.last.filled
    }

    /// Returns the number of allocated bytes.
    #[cfg(any(test, tower_websocket_fuzzing))]
    pub(super) fn capacity(&self) -> usize {
        let ahead = self.ahead.iter().map(Chunk::size);
        self.before + self.last.size() + ahead.sum::<usize>()
    }

    /// Returns spare capacity for the next `len` bytes, or for some of them. If there is too little, allocates
    /// for these bytes and `ahead` more. The caller must report written bytes with [`fill`](Self::fill).
    pub(super) fn spare(&mut self, len: usize, ahead: usize) -> &mut [u8] {
        if self.last.filled == CHUNK {
            self.seal(Chunk::default());
        }
        let last = &mut self.last;
        if last.size() - last.filled < len && last.size() < CHUNK {
            last.grow(match self.before {
                0 => last.filled + len + ahead,
                // A large message has only buffers of full size.
                _ => CHUNK,
            });
        }
        last.spare()
    }

    /// Returns buffers to read up to `max` bytes into, as many as one read can fill.
    pub(super) fn read_buffers(&mut self, max: usize) -> ReadBuffers<'_> {
        let mut left = max.saturating_sub(self.spare(max, 0).len());
        while left > 0 && self.ahead.len() + 1 < MAX_READ_BUFFERS {
            left = left.saturating_sub(CHUNK);
            self.ahead.insert(0, Chunk::full_size());
        }
        let mut buffers = ReadBuffers::default();
        let mut left = max;
        let chunks = [&mut self.last].into_iter();
        for chunk in chunks.chain(self.ahead.iter_mut().rev()) {
            let spare = chunk.spare();
            let len = spare.len().min(left);
            left -= len;
            buffers.slices[buffers.used] = IoSliceMut::new(&mut spare[..len]);
            buffers.used += 1;
        }
        buffers
    }

    /// Adds `len` bytes that were written to the spare capacity. `finish` may change or refuse each piece.
    pub(super) fn fill<E>(
        &mut self,
        mut len: usize,
        mut finish: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let filled = loop {
            let spare = self.last.spare();
            let filled = len.min(spare.len());
            let finished = finish(&mut spare[..filled]);
            if finished.is_err() {
                break finished;
            }
            self.last.filled += filled;
            len -= filled;
            match self.ahead.pop() {
                Some(next) if len > 0 => self.seal(next),
                _ => break Ok(()),
            }
        };
        // The unused buffers return to the pool.
        self.ahead.clear();
        filled
    }

    /// Frees empty buffers.
    pub(super) fn free_spare(&mut self) {
        self.ahead.clear();
        if self.last.filled == 0 {
            self.last = Chunk::default();
        }
    }

    fn seal(&mut self, next: Chunk) {
        let full = mem::replace(&mut self.last, next);
        self.before += full.filled;
        self.full.push(full);
    }

    /// Takes the bytes as one vector of exactly their length, if they are in one small buffer.
    pub(super) fn take_single(&mut self) -> Option<Vec<u8>> {
        let (true, Memory::Small(bytes)) = (self.full.is_empty(), &mut self.last.memory) else {
            return None;
        };
        let mut bytes = mem::take(bytes);
        bytes.truncate(mem::take(&mut self.last.filled));
        bytes.shrink_to_fit();
        Some(bytes)
    }

    /// Returns the bytes in the buffer with this number, or `None` after the last buffer with bytes.
    pub(super) fn get(&self, number: usize) -> Option<&[u8]> {
        let last = (number == self.full.len()).then_some(&self.last);
        let chunk = self.full.get(number).or(last)?;
        Some(chunk.as_ref()).filter(|bytes| !bytes.is_empty())
    }

    /// Frees the buffer with this number.
    pub(super) fn free(&mut self, number: usize) {
        let chunk = self.full.get_mut(number).unwrap_or(&mut self.last);
        *chunk = Chunk::default();
    }

    /// Frees all buffers, and keeps the list.
    pub(super) fn clear(&mut self) {
        self.full.clear();
        self.last = Chunk::default();
        self.before = 0;
    }

    /// Returns the capacity of the list of full buffers.
    pub(super) fn list_capacity(&self) -> usize {
        self.full.capacity()
    }
}

/// Buffers to read bytes into.
#[derive(Debug)]
pub(crate) struct ReadBuffers<'a> {
    slices: [IoSliceMut<'a>; MAX_READ_BUFFERS],
    used: usize,
}

impl Default for ReadBuffers<'_> {
    fn default() -> Self {
        let slices = array::from_fn(|_| IoSliceMut::new(&mut []));
        Self { slices, used: 0 }
    }
}

impl<'a> ReadBuffers<'a> {
    /// Returns the slices. There is at least one, and none is empty.
    pub(crate) fn slices(&mut self) -> &mut [IoSliceMut<'a>] {
        &mut self.slices[..self.used]
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, convert::Infallible, thread};

    use super::*;

    /// Makes `count` full buffers, filled with `byte`.
    fn full(count: usize, byte: u8) -> Chunks {
        let mut chunks = Chunks::default();
        for _ in 0..count {
            let spare = chunks.spare(CHUNK, 0);
            assert_eq!(spare.len(), CHUNK);
            spare.fill(byte);
            fill(&mut chunks, CHUNK);
        }
        chunks
    }

    fn fill(chunks: &mut Chunks, len: usize) {
        let filled = chunks.fill(len, |_| Ok::<_, Infallible>(()));
        filled.unwrap();
    }

    fn joined(chunks: &Chunks) -> Vec<u8> {
        let pieces: Vec<&[u8]> = (0..).map_while(|number| chunks.get(number)).collect();
        pieces.concat()
    }

    #[test]
    fn a_reused_buffer_shows_no_old_bytes() {
        full(1, b's').free(0);
        let mut chunks = Chunks::default();
        chunks.spare(CHUNK, 0)[0] = b'n';
        fill(&mut chunks, 1);
        assert_eq!(joined(&chunks), b"n");
    }

    #[test]
    fn uses_a_small_buffer_for_a_small_message() {
        let mut chunks = Chunks::default();
        let mut all = Vec::new();
        for (len, ahead) in [(10, 0), (100, 1000), (CHUNK / 2, CHUNK / 4), (CHUNK, 0)] {
            assert!(matches!(chunks.last.memory, Memory::Small(_)));
            let spare = chunks.spare(len, ahead);
            let len = len.min(spare.len());
            spare[..len].fill(len as u8);
            all.extend(vec![len as u8; len]);
            fill(&mut chunks, len);
        }
        assert!(matches!(chunks.last.memory, Memory::Full(_)));
        assert_eq!((chunks.len(), chunks.capacity()), (CHUNK, CHUNK));
        // The next buffer has full size, even for one byte.
        chunks.spare(1, 0)[0] = 1;
        fill(&mut chunks, 1);
        assert_eq!(chunks.capacity(), 2 * CHUNK);
        all.push(1);
        assert_eq!(joined(&chunks), all);
        chunks.clear();
        assert_eq!((chunks.len(), chunks.capacity()), (0, 0));
        assert_eq!(chunks.get(0), None);
    }

    #[test]
    fn a_thread_that_holds_buffers_can_end() {
        thread_local! {
            static HELD: RefCell<Vec<Chunks>> = const { RefCell::new(Vec::new()) };
        }
        // The two thread locals are dropped in either order.
        for held_first in [true, false] {
            let thread = thread::spawn(move || {
                if held_first {
                    HELD.with_borrow_mut(Vec::clear);
                }
                drop(full(1, 0));
                HELD.set(vec![full(2, 0)]);
            });
            assert!(thread.join().is_ok());
        }
    }

    #[test]
    fn reads_into_several_buffers_and_frees_the_unused_ones() {
        let mut chunks = Chunks::default();
        let mut buffers = chunks.read_buffers(10 * CHUNK);
        let lens: Vec<usize> = buffers.slices().iter().map(|slice| slice.len()).collect();
        assert_eq!(lens, [CHUNK; MAX_READ_BUFFERS]);
        for (number, slice) in buffers.slices().iter_mut().enumerate() {
            slice.fill(number as u8);
        }
        assert_eq!(chunks.capacity(), MAX_READ_BUFFERS * CHUNK);
        fill(&mut chunks, CHUNK + 7);
        assert_eq!(chunks.capacity(), 2 * CHUNK);

        let mut buffers = chunks.read_buffers(CHUNK + 3);
        let lens: Vec<usize> = buffers.slices().iter().map(|slice| slice.len()).collect();
        assert_eq!(lens, [CHUNK - 7, 10]);
        buffers.slices()[1].fill(9);
        assert_eq!(chunks.capacity(), 3 * CHUNK);
        fill(&mut chunks, CHUNK + 3);
        let joined = joined(&chunks);
        assert_eq!(joined.len(), 2 * CHUNK + 10);
        assert_eq!(
            (joined[CHUNK - 1], joined[CHUNK], joined[2 * CHUNK]),
            (0, 1, 9)
        );

        // A refused piece frees them, too.
        let mut chunks = Chunks::default();
        assert_eq!(
            chunks.read_buffers(10 * CHUNK).slices().len(),
            MAX_READ_BUFFERS
        );
        assert_eq!(chunks.fill(1, |_| Err(())), Err(()));
        assert_eq!(chunks.capacity(), CHUNK);

        let mut chunks = Chunks::default();
        assert_eq!(chunks.read_buffers(5).slices().len(), 1);
        chunks.free_spare();
        assert_eq!(chunks.capacity(), 0);
    }
}
