//! Buffers of [`CHUNK`] bytes for messages in progress, which are used again.
//!
//! An allocator that takes memory of this size from its heap gives the heap back from its top only:
//! one small allocation up there keeps all that was freed below it. So these buffers do not come from
//! the allocator one by one. Each thread has a few, cut from one allocation. When they are all in use,
//! further ones are cut from slabs so large that allocators map them by themselves, and unmap them
//! when they are freed. The pages of a slab become resident as its buffers are written to.

use std::{
    cell::RefCell,
    fmt, mem,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::BytesMut;

/// The size of a buffer. Small where it is to be filled by inputs of a few bytes.
pub(crate) const CHUNK: usize = if cfg!(tower_websocket_fuzzing) {
    48
} else {
    64 * 1024
};
/// The buffers that a thread has of its own and keeps for ever: 2 MiB.
const OWN: usize = 32;
/// The buffers of a slab. glibc's threshold for mapping grows with what is freed, up to 32 MiB: this
/// is more.
const SLAB: usize = 512 + 1;
/// A slab that is not in use is kept for the next time if no more of its buffers than this have ever
/// been used: 1 MiB, once in the process.
const KEPT: usize = 16;

/// A line of the cache.
const LINE: usize = 64;

thread_local! {
    static IDLE: RefCell<Idle> = const { RefCell::new(Idle::new()) };
}

/// The buffers that threads share. A thread locks them when it has no idle buffer of its own, and to give
/// back a buffer that it took from them.
static SHARED: Mutex<Shared> = Mutex::new(Shared::new());

/// The idle buffers of a thread, none of which is part of a slab.
#[derive(Debug)]
struct Idle {
    /// At most [`OWN`], whichever thread they were cut for.
    buffers: Vec<BytesMut>,
    /// The rest of the thread's allocation, once it has one.
    uncut: Option<BytesMut>,
}

#[derive(Debug)]
struct Shared {
    /// Buffers that were dropped on a thread that had enough, or that ended.
    strays: Vec<BytesMut>,
    /// The oldest first, which is used first, so that the others become unused.
    slabs: Vec<Slab>,
    /// The number of the next slab.
    next: u64,
}

#[derive(Debug)]
struct Slab {
    number: u64,
    idle: Vec<BytesMut>,
    /// The rest, which has never been written to.
    uncut: BytesMut,
    /// The number of buffers in use.
    used: usize,
}

/// A buffer of [`CHUNK`] bytes, which waits for its next use when it is dropped. It holds whatever the
/// last use left in it.
pub(super) struct Buffer {
    bytes: BytesMut,
    /// The number of the slab that it is part of.
    slab: Option<u64>,
}

impl Buffer {
    pub(super) fn take() -> Self {
        // Fails when the thread is about to end.
        let own = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            idle.take(|| shared().strays.len())
        });
        let (bytes, slab) = match own.ok().flatten() {
            Some(bytes) => (bytes, None),
            None => shared().take(),
        };
        Self { bytes, slab }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.bytes);
        if let Some(number) = self.slab {
            let unused = shared().give_back(bytes, number);
            // The lock is released by now.
            drop(unused);
            return;
        }
        let mut stray = Some(bytes);
        let _ = IDLE.try_with(|idle| {
            stray = stray
                .take()
                .and_then(|bytes| idle.borrow_mut().give_back(bytes))
        });
        if stray.is_some() {
            shared().strays.extend(stray);
        }
    }
}

// Payloads stay out of logs.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slab = &self.slab;
        f.debug_struct("Buffer").field("slab", slab).finish()
    }
}

impl Idle {
    const fn new() -> Self {
        Self {
            buffers: Vec::new(),
            uncut: None,
        }
    }

    /// Takes a buffer. A thread that never had one gets as many of its own as there are not `strays`.
    fn take(&mut self, strays: impl FnOnce() -> usize) -> Option<BytesMut> {
        self.buffers.pop().or_else(|| {
            let uncut = self.uncut.get_or_insert_with(|| {
                let count = OWN.saturating_sub(strays());
                zeroed(count)
            });
            cut(uncut)
        })
    }

    /// Takes a buffer back, or returns it if there are enough.
    fn give_back(&mut self, bytes: BytesMut) -> Option<BytesMut> {
        if self.buffers.len() >= OWN {
            return Some(bytes);
        }
        self.buffers.push(bytes);
        None
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        shared().strays.append(&mut self.buffers);
    }
}

impl Shared {
    const fn new() -> Self {
        Self {
            strays: Vec::new(),
            slabs: Vec::new(),
            next: 0,
        }
    }

    /// Takes a buffer, and returns it with the number of the slab that it is part of.
    fn take(&mut self) -> (BytesMut, Option<u64>) {
        if let Some(stray) = self.strays.pop() {
            return (stray, None);
        }
        for slab in &mut self.slabs {
            if let Some(bytes) = slab.take() {
                return (bytes, Some(slab.number));
            }
        }
        let number = self.next;
        self.next += 1;
        let mut uncut = zeroed(SLAB);
        let bytes = uncut.split_to(CHUNK);
        self.slabs.push(Slab {
            number,
            idle: Vec::new(),
            uncut,
            used: 1,
        });
        (bytes, Some(number))
    }

    /// Takes back a buffer of a slab, and returns the slab if it is to be freed.
    fn give_back(&mut self, bytes: BytesMut, number: u64) -> Option<Slab> {
        let at = self.slabs.iter().position(|slab| slab.number == number)?;
        let slab = &mut self.slabs[at];
        slab.idle.push(bytes);
        slab.used -= 1;
        if slab.used > 0 {
            return None;
        }
        // All that were ever used are idle.
        let is_large = slab.idle.len() > KEPT;
        let unused = self.slabs.iter().filter(|slab| slab.used == 0).count();
        (is_large || unused > 1).then(|| self.slabs.remove(at))
    }
}

impl Slab {
    fn take(&mut self) -> Option<BytesMut> {
        let bytes = self.idle.pop().or_else(|| cut(&mut self.uncut))?;
        self.used += 1;
        Some(bytes)
    }
}

/// Makes memory for so many buffers, each of which begins at the start of a cache line: the kernel
/// copies to it, and unmasking goes through it, in whole lines.
fn zeroed(count: usize) -> BytesMut {
    if count == 0 {
        return BytesMut::new();
    }
    let mut bytes = BytesMut::zeroed(count * CHUNK + LINE);
    let before = bytes.as_ptr().align_offset(LINE).min(LINE);
    let mut bytes = bytes.split_off(before);
    bytes.truncate(count * CHUNK);
    bytes
}

fn cut(uncut: &mut BytesMut) -> Option<BytesMut> {
    (!uncut.is_empty()).then(|| uncut.split_to(CHUNK))
}

fn shared() -> MutexGuard<'static, Shared> {
    // Nothing panics halfway through a change.
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_the_buffers_of_a_thread_from_one_allocation() {
        let mut idle = Idle::new();
        let mut taken: Vec<BytesMut> = (0..OWN).filter_map(|_| idle.take(|| 0)).collect();
        assert_eq!(taken.len(), OWN);
        assert!(idle.take(|| 0).is_none());
        let first = taken[0].as_ptr() as usize;
        assert_eq!(first % LINE, 0);
        for (number, bytes) in taken.iter_mut().enumerate() {
            assert_eq!(bytes.len(), CHUNK);
            assert_eq!(bytes.as_ptr() as usize, first + number * CHUNK);
            bytes.fill(7);
        }
        let stray = taken[0].clone();
        for bytes in taken {
            assert!(idle.give_back(bytes).is_none());
        }
        // What waits is bounded, and nothing is done to it.
        assert!(idle.give_back(stray).is_some());
        assert_eq!(idle.take(|| 0).unwrap()[..], [7; CHUNK]);
        assert_eq!(idle.buffers.len(), OWN - 1);
    }

    #[test]
    fn makes_no_buffers_for_a_thread_that_others_have_left() {
        for (strays, own) in [(0, OWN), (30, 2), (OWN, 0), (40, 0)] {
            let mut idle = Idle::new();
            let taken = (0..2 * OWN).map_while(|_| idle.take(|| strays)).count();
            assert_eq!(taken, own, "{strays} strays");
        }
        let mut shared = Shared::new();
        shared.strays.push(BytesMut::zeroed(CHUNK));
        assert_eq!(shared.take().1, None);
        assert_eq!(shared.take().1, Some(0));
    }

    #[test]
    fn frees_a_slab_of_which_nothing_is_in_use() {
        let mut shared = Shared::new();
        let taken: Vec<_> = (0..2 * SLAB).map(|_| shared.take()).collect();
        assert_eq!(shared.slabs.len(), 2);
        let (mut second, mut first): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|(_, slab)| *slab == Some(1));
        assert_eq!((first.len(), second.len()), (SLAB, SLAB));
        // Of both there is one, and the first is used for what comes.
        for taken in [&mut second, &mut first] {
            for (bytes, slab) in taken.drain(1..) {
                assert!(shared.give_back(bytes, slab.unwrap()).is_none());
            }
        }
        let (bytes, slab) = shared.take();
        assert_eq!(slab, Some(0));
        first.push((bytes, slab));
        let mut freed = Vec::new();
        for (bytes, slab) in second.into_iter().chain(first) {
            freed.extend(shared.give_back(bytes, slab.unwrap()));
        }
        let freed: Vec<u64> = freed.iter().map(|slab| slab.number).collect();
        assert_eq!(freed, [1, 0]);
        assert!(shared.slabs.is_empty());
    }

    #[test]
    fn keeps_a_slab_that_was_hardly_used() {
        let mut shared = Shared::new();
        for (count, kept) in [(1, true), (KEPT, true), (KEPT + 1, false)] {
            let taken: Vec<_> = (0..count).map(|_| shared.take()).collect();
            assert_eq!(shared.slabs.len(), 1);
            let freed = taken
                .into_iter()
                .filter_map(|(bytes, slab)| shared.give_back(bytes, slab.unwrap()));
            assert_eq!(freed.count(), usize::from(!kept), "{count} used");
            assert_eq!(shared.slabs.len(), usize::from(kept));
        }
        // Of several only one.
        let mut taken: Vec<_> = (0..=SLAB).map(|_| shared.take()).collect();
        let (last, slab) = taken.pop().unwrap();
        assert!(shared.give_back(last, slab.unwrap()).is_none());
        let freed = taken
            .into_iter()
            .filter_map(|(bytes, slab)| shared.give_back(bytes, slab.unwrap()));
        assert_eq!(freed.count(), 1);
        assert_eq!(shared.slabs.len(), 1);
    }
}
