//! A pool of buffers of [`CHUNK`] bytes, for messages in progress.
//!
//! Allocators take memory of this size from the heap, and return only the top of the heap to the system: one
//! small allocation above keeps all freed memory below it. So these buffers are not allocated one by one. Each
//! thread has a few, cut from one allocation. If all are in use, further buffers are cut from slabs. A slab is
//! so large that allocators map it separately, and unmap it when it is freed. A page of a slab becomes
//! resident when a buffer in it is written to.

use std::{
    cell::RefCell,
    fmt, mem,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::BytesMut;

/// The size of a buffer. It is small for fuzzing, so that short inputs fill it.
pub(crate) const CHUNK: usize = if cfg!(tower_websocket_fuzzing) {
    48
} else {
    64 * 1024
};
/// The number of buffers that a thread keeps: 2 MiB.
const PER_THREAD: usize = 32;
/// The number of buffers in a slab. glibc maps allocations above a threshold, which grows up to 32 MiB. A slab
/// is larger than that.
const PER_SLAB: usize = 512 + 1;
/// One unused slab in the process is kept if at most this many of its buffers were ever used: 1 MiB.
const MAX_KEPT: usize = 16;

/// The size of a cache line.
const CACHE_LINE: usize = 64;

thread_local! {
    static IDLE: RefCell<Idle> = const { RefCell::new(Idle::new()) };
}

/// The buffers that all threads share. A thread locks them if it has no idle buffer itself, and to give back a
/// buffer of a slab.
static SHARED: Mutex<Shared> = Mutex::new(Shared::new());

/// The idle buffers of a thread. None of them is part of a slab.
#[derive(Debug)]
struct Idle {
    /// At most [`PER_THREAD`]. They may have been cut for another thread.
    buffers: Vec<BytesMut>,
    /// The rest of the thread's allocation, or `None` before the first use.
    uncut: Option<BytesMut>,
}

#[derive(Debug)]
struct Shared {
    /// Buffers of threads that ended, or that had enough idle buffers.
    surplus: Vec<BytesMut>,
    /// Oldest first. The oldest slab is used first, so that the others become unused.
    slabs: Vec<Slab>,
    /// The number of the next slab.
    next: u64,
}

#[derive(Debug)]
struct Slab {
    number: u64,
    idle: Vec<BytesMut>,
    /// The rest of the slab, which was never used.
    uncut: BytesMut,
    /// The number of buffers in use.
    used: usize,
}

/// A buffer of [`CHUNK`] bytes. A dropped buffer returns to the pool. A new one contains old data.
pub(super) struct Buffer {
    bytes: BytesMut,
    /// The number of its slab, if it is part of one.
    slab: Option<u64>,
}

impl Buffer {
    pub(super) fn take() -> Self {
        // Fails while the thread ends.
        let own = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            idle.take(|| shared().surplus.len())
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
            // The slab is freed after the lock is released.
            drop(unused);
            return;
        }
        let mut surplus = Some(bytes);
        let _ = IDLE.try_with(|idle| {
            surplus = surplus
                .take()
                .and_then(|bytes| idle.borrow_mut().give_back(bytes))
        });
        if surplus.is_some() {
            shared().surplus.extend(surplus);
        }
    }
}

// Payloads must not appear in logs.
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

    /// Takes a buffer. The first call allocates [`PER_THREAD`] buffers, less the number of `surplus` buffers.
    fn take(&mut self, surplus: impl FnOnce() -> usize) -> Option<BytesMut> {
        self.buffers.pop().or_else(|| {
            let uncut = self.uncut.get_or_insert_with(|| {
                let count = PER_THREAD.saturating_sub(surplus());
                zeroed(count)
            });
            cut(uncut)
        })
    }

    /// Keeps a buffer, or returns it if there are enough.
    fn give_back(&mut self, bytes: BytesMut) -> Option<BytesMut> {
        if self.buffers.len() >= PER_THREAD {
            return Some(bytes);
        }
        self.buffers.push(bytes);
        None
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        shared().surplus.append(&mut self.buffers);
    }
}

impl Shared {
    const fn new() -> Self {
        Self {
            surplus: Vec::new(),
            slabs: Vec::new(),
            next: 0,
        }
    }

    /// Takes a buffer, and returns it with the number of its slab, if it is part of one.
    fn take(&mut self) -> (BytesMut, Option<u64>) {
        if let Some(bytes) = self.surplus.pop() {
            return (bytes, None);
        }
        for slab in &mut self.slabs {
            if let Some(bytes) = slab.take() {
                return (bytes, Some(slab.number));
            }
        }
        let number = self.next;
        self.next += 1;
        let mut uncut = zeroed(PER_SLAB);
        let bytes = uncut.split_to(CHUNK);
        self.slabs.push(Slab {
            number,
            idle: Vec::new(),
            uncut,
            used: 1,
        });
        (bytes, Some(number))
    }

    /// Takes back a buffer of a slab. Returns the slab if it has to be freed.
    fn give_back(&mut self, bytes: BytesMut, number: u64) -> Option<Slab> {
        let at = self.slabs.iter().position(|slab| slab.number == number)?;
        let slab = &mut self.slabs[at];
        slab.idle.push(bytes);
        slab.used -= 1;
        if slab.used > 0 {
            return None;
        }
        // Now all buffers that were ever used are idle.
        let is_large = slab.idle.len() > MAX_KEPT;
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

/// Allocates `count` buffers. Each begins at a cache line, which makes copying and unmasking faster.
fn zeroed(count: usize) -> BytesMut {
    if count == 0 {
        return BytesMut::new();
    }
    let mut bytes = BytesMut::zeroed(count * CHUNK + CACHE_LINE);
    let before = bytes.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE);
    let mut bytes = bytes.split_off(before);
    bytes.truncate(count * CHUNK);
    bytes
}

fn cut(uncut: &mut BytesMut) -> Option<BytesMut> {
    (!uncut.is_empty()).then(|| uncut.split_to(CHUNK))
}

fn shared() -> MutexGuard<'static, Shared> {
    // The state is valid after a panic: no change can panic halfway.
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_the_buffers_of_a_thread_from_one_allocation() {
        let mut idle = Idle::new();
        let mut taken: Vec<BytesMut> = (0..PER_THREAD).filter_map(|_| idle.take(|| 0)).collect();
        assert_eq!(taken.len(), PER_THREAD);
        assert!(idle.take(|| 0).is_none());
        let first = taken[0].as_ptr() as usize;
        assert_eq!(first % CACHE_LINE, 0);
        for (number, bytes) in taken.iter_mut().enumerate() {
            assert_eq!(bytes.len(), CHUNK);
            assert_eq!(bytes.as_ptr() as usize, first + number * CHUNK);
            bytes.fill(7);
        }
        let surplus = taken[0].clone();
        for bytes in taken {
            assert!(idle.give_back(bytes).is_none());
        }
        // The number of idle buffers is limited, and their content is not cleared.
        assert!(idle.give_back(surplus).is_some());
        assert_eq!(idle.take(|| 0).unwrap()[..], [7; CHUNK]);
        assert_eq!(idle.buffers.len(), PER_THREAD - 1);
    }

    #[test]
    fn allocates_fewer_buffers_if_there_is_a_surplus() {
        for (surplus, own) in [(0, PER_THREAD), (30, 2), (PER_THREAD, 0), (40, 0)] {
            let mut idle = Idle::new();
            let taken = (0..2 * PER_THREAD)
                .map_while(|_| idle.take(|| surplus))
                .count();
            assert_eq!(taken, own, "{surplus} surplus buffers");
        }
        let mut shared = Shared::new();
        shared.surplus.push(BytesMut::zeroed(CHUNK));
        assert_eq!(shared.take().1, None);
        assert_eq!(shared.take().1, Some(0));
    }

    #[test]
    fn frees_an_unused_slab() {
        let mut shared = Shared::new();
        let taken: Vec<_> = (0..2 * PER_SLAB).map(|_| shared.take()).collect();
        assert_eq!(shared.slabs.len(), 2);
        let (mut second, mut first): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|(_, slab)| *slab == Some(1));
        assert_eq!((first.len(), second.len()), (PER_SLAB, PER_SLAB));
        // With one buffer of each in use, the next one comes from the first slab.
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
    fn keeps_one_slab_that_was_hardly_used() {
        let mut shared = Shared::new();
        for (count, kept) in [(1, true), (MAX_KEPT, true), (MAX_KEPT + 1, false)] {
            let taken: Vec<_> = (0..count).map(|_| shared.take()).collect();
            assert_eq!(shared.slabs.len(), 1);
            let freed = taken
                .into_iter()
                .filter_map(|(bytes, slab)| shared.give_back(bytes, slab.unwrap()));
            assert_eq!(freed.count(), usize::from(!kept), "{count} used");
            assert_eq!(shared.slabs.len(), usize::from(kept));
        }
        // Only one of several unused slabs is kept.
        let mut taken: Vec<_> = (0..=PER_SLAB).map(|_| shared.take()).collect();
        let (last, slab) = taken.pop().unwrap();
        assert!(shared.give_back(last, slab.unwrap()).is_none());
        let freed = taken
            .into_iter()
            .filter_map(|(bytes, slab)| shared.give_back(bytes, slab.unwrap()));
        assert_eq!(freed.count(), 1);
        assert_eq!(shared.slabs.len(), 1);
    }
}
