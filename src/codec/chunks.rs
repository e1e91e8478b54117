//! Bytes that are gathered in buffers of bounded size.
//!
//! A large message would else be moved each time its buffer grows.

use std::{array, io::IoSliceMut, mem};

use super::buffers::{Buffer, CHUNK};

/// So many can be read into at once.
const READ: usize = 4;

/// Bytes, and room for more.
#[derive(Debug)]
struct Chunk {
    /// All of it can be written to, so that nothing is filled with zeros twice.
    memory: Memory,
    filled: usize,
}

#[derive(Debug)]
enum Memory {
    /// Less than [`CHUNK`].
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

    fn room(&mut self) -> &mut [u8] {
        let bytes = match &mut self.memory {
            Memory::Small(bytes) => &mut bytes[..],
            Memory::Full(buffer) => buffer,
        };
        &mut bytes[self.filled..]
    }

    fn grow(&mut self, size: usize) {
        if size >= CHUNK {
            let mut full = Self::full_size();
            full.room()[..self.filled].copy_from_slice(self.as_ref());
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
    #[cfg(any(test, tower_websocket_fuzzing))]
    pub(super) fn capacity(&self) -> usize {
        let ahead = self.ahead.iter().map(Chunk::size);
        self.before + self.last.size() + ahead.sum::<usize>()
    }

    /// Returns where the next bytes belong, which is room for some of `len`. If there was none, it
    /// is made for these bytes and `ahead` more. What is put there is to be told with
    /// [`fill`](Self::fill).
    pub(super) fn room(&mut self, len: usize, ahead: usize) -> &mut [u8] {
        if self.last.filled == CHUNK {
            self.seal(Chunk::default());
        }
        let last = &mut self.last;
        if last.size() - last.filled < len && last.size() < CHUNK {
            last.grow(match self.before {
                0 => last.filled + len + ahead,
                // A large message has only whole buffers.
                _ => CHUNK,
            });
        }
        last.room()
    }

    /// Returns as much room as can be read into at once, up to `most` bytes.
    pub(super) fn rooms(&mut self, most: usize) -> Rooms<'_> {
        let mut left = most.saturating_sub(self.room(most, 0).len());
        while left > 0 && self.ahead.len() + 1 < READ {
            left = left.saturating_sub(CHUNK);
            self.ahead.insert(0, Chunk::full_size());
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
        let filled = loop {
            let room = self.last.room();
            let filled = len.min(room.len());
            let finished = finish(&mut room[..filled]);
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
        // Given up at the end, whatever that is. The list is used again.
        self.ahead.clear();
        filled
    }

    /// Gives up buffers that no byte has come into.
    pub(super) fn give_up_room(&mut self) {
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

    /// Takes the bytes in one piece, of exactly their length, if they are in a buffer of their own.
    pub(super) fn take_single(&mut self) -> Option<Vec<u8>> {
        let (true, Memory::Small(bytes)) = (self.full.is_empty(), &mut self.last.memory) else {
            return None;
        };
        let mut bytes = mem::take(bytes);
        bytes.truncate(mem::take(&mut self.last.filled));
        bytes.shrink_to_fit();
        Some(bytes)
    }

    /// Returns the bytes in a buffer, by its number; `None` behind the last that has some.
    pub(super) fn get(&self, number: usize) -> Option<&[u8]> {
        let last = (number == self.full.len()).then_some(&self.last);
        let chunk = self.full.get(number).or(last)?;
        Some(chunk.as_ref()).filter(|bytes| !bytes.is_empty())
    }

    /// Gives a buffer up, whose bytes are not needed any more.
    pub(super) fn give_up(&mut self, number: usize) {
        let chunk = self.full.get_mut(number).unwrap_or(&mut self.last);
        *chunk = Chunk::default();
    }

    /// Gives all buffers up, and keeps the list.
    pub(super) fn clear(&mut self) {
        self.full.clear();
        self.last = Chunk::default();
        self.before = 0;
    }

    /// Returns how many full buffers the list has room for.
    pub(super) fn list_room(&self) -> usize {
        self.full.capacity()
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
    use std::{cell::RefCell, convert::Infallible, thread};

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

    fn joined(chunks: &Chunks) -> Vec<u8> {
        let pieces: Vec<&[u8]> = (0..).map_while(|number| chunks.get(number)).collect();
        pieces.concat()
    }

    #[test]
    fn uses_a_buffer_again_without_what_was_in_it() {
        full(1, b's').give_up(0);
        let mut chunks = Chunks::default();
        chunks.room(CHUNK, 0)[0] = b'n';
        fill(&mut chunks, 1);
        assert_eq!(joined(&chunks), b"n");
    }

    #[test]
    fn has_a_small_buffer_for_what_is_no_large_message() {
        let mut chunks = Chunks::default();
        let mut all = Vec::new();
        for (len, ahead) in [(10, 0), (100, 1000), (CHUNK / 2, CHUNK / 4), (CHUNK, 0)] {
            assert!(matches!(chunks.last.memory, Memory::Small(_)));
            let room = chunks.room(len, ahead);
            let len = len.min(room.len());
            room[..len].fill(len as u8);
            all.extend(vec![len as u8; len]);
            fill(&mut chunks, len);
        }
        assert!(matches!(chunks.last.memory, Memory::Full(_)));
        assert_eq!((chunks.len(), chunks.capacity()), (CHUNK, CHUNK));
        // What is behind it is in a whole one, however little it is.
        chunks.room(1, 0)[0] = 1;
        fill(&mut chunks, 1);
        assert_eq!(chunks.capacity(), 2 * CHUNK);
        all.push(1);
        assert_eq!(joined(&chunks), all);
        chunks.clear();
        assert_eq!((chunks.len(), chunks.capacity()), (0, 0));
        assert_eq!(chunks.get(0), None);
    }

    #[test]
    fn lets_a_thread_end_that_holds_some() {
        thread_local! {
            static HELD: RefCell<Vec<Chunks>> = const { RefCell::new(Vec::new()) };
        }
        // Whichever of the two is taken down first.
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
        assert_eq!(chunks.capacity(), 3 * CHUNK);
        fill(&mut chunks, CHUNK + 3);
        let joined = joined(&chunks);
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
