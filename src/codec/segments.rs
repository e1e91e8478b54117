//! Large payloads that wait to be written, among the small frames that are gathered beside them.

use std::{cell::RefCell, collections::VecDeque, io::IoSlice, mem, slice};

use bytes::{Buf, Bytes};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

/// The most empty lists that wait on a thread for their next use, and the room that they may have
/// together and that one may have, in segments: as many as the default bound of the outbox takes.
const IDLE: usize = 64;
const IDLE_ROOM: usize = 1024;
const LONGEST: usize = 256;
/// The longest head without a mask: two bytes, and eight of length.
const HEAD: usize = 10;

thread_local! {
    static POOL: RefCell<Idle> = const { RefCell::new(Idle { queues: Vec::new(), room: 0 }) };
}

#[derive(Debug)]
struct Idle {
    #[expect(clippy::vec_box, reason = "they move between here and the connections")]
    queues: Vec<Box<Queue>>,
    room: usize,
}

/// A list of buffers that are written as they are, oldest first.
///
/// Its memory is elsewhere, shared by the connections of a thread: it comes with the first segment and
/// goes with the last one.
#[derive(Debug, Default)]
pub(super) struct Segments(Option<Box<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    segments: VecDeque<Segment>,
    /// The sum of [`Segment::before`].
    before: usize,
}

/// A buffer with the head of its frame, and what precedes both.
#[derive(Debug)]
struct Segment {
    /// Gathered bytes that are written before it, and the messages that end in them.
    before: u32,
    messages_before: u32,
    head: Head,
    /// Never empty.
    payload: Bytes,
    /// Messages that end in the payload.
    messages: u32,
}

/// How much a write has taken off.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Taken {
    /// Gathered bytes, also behind the last segment.
    pub(super) gathered: usize,
    pub(super) messages: usize,
}

impl Segments {
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Appends a message behind `gathered` bytes, counted from the first that is not written yet, and
    /// the messages that end in those of them that no segment follows yet.
    pub(super) fn push(
        &mut self,
        gathered: usize,
        messages_before: u32,
        header: &FrameHeader,
        payload: Bytes,
    ) -> usize {
        let queue = self.0.get_or_insert_with(take);
        let before = gathered - queue.before;
        queue.before = gathered;
        let head = Head::new(header, payload.len());
        let len = head.as_bytes().len();
        queue.segments.push_back(Segment {
            before: before as u32,
            messages_before,
            head,
            payload,
            messages: 1,
        });
        len
    }

    /// Puts the bytes that were gathered among the segments and behind them, with the messages that
    /// end behind them.
    pub(super) fn seal(&mut self, mut gathered: Bytes, messages: u32) {
        let queue = self.0.get_or_insert_with(take);
        if queue.before > 0 {
            queue.before = 0;
            let mut sealed = VecDeque::with_capacity(2 * queue.segments.len() + 1);
            for mut segment in queue.segments.drain(..) {
                if segment.before > 0 {
                    let bytes = gathered.split_to(segment.before as usize);
                    sealed.push_back(Segment::sealed(bytes, segment.messages_before));
                    (segment.before, segment.messages_before) = (0, 0);
                }
                sealed.push_back(segment);
            }
            queue.segments = sealed;
        }
        if !gathered.is_empty() {
            let last = Segment::sealed(gathered, messages);
            queue.segments.push_back(last);
        }
    }

    /// Moves all of `other` behind what is here; nothing may be gathered for either.
    pub(super) fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            *self = Self(other.0.take());
        } else if let (Some(queue), Some(other)) = (&mut self.0, &mut other.0) {
            queue.segments.append(&mut other.segments);
        }
        give_back(other.0.take());
    }

    /// Fills the slots with what is written next, and returns how many it took. The bytes that are
    /// `gathered` begin with the first that is not written yet.
    pub(super) fn fill<'a>(&'a self, mut gathered: &'a [u8], slots: &mut [IoSlice<'a>]) -> usize {
        let mut filler = Filler {
            slots: slots.iter_mut(),
            used: 0,
        };
        let segments = self.0.iter().flat_map(|queue| &queue.segments);
        for segment in segments {
            let (before, rest) = gathered.split_at(segment.before as usize);
            gathered = rest;
            let has_room = filler.put(before)
                && filler.put(segment.head.as_bytes())
                && filler.put(&segment.payload);
            if !has_room {
                return filler.used;
            }
        }
        filler.put(gathered);
        filler.used
    }

    /// Takes off `written` bytes.
    #[inline(never)]
    pub(super) fn advance(&mut self, written: usize) -> Taken {
        let (mut taken, mut left) = (Taken::default(), written);
        if let Some(queue) = &mut self.0 {
            while let Some(segment) = queue.segments.front_mut() {
                if !segment.advance(&mut left, &mut taken) {
                    break;
                }
                queue.segments.pop_front();
            }
            queue.before -= taken.gathered;
            if queue.segments.is_empty() {
                give_back(self.0.take());
            }
        }
        taken.gathered += left;
        taken
    }
}

impl Segment {
    fn sealed(payload: Bytes, messages: u32) -> Self {
        Self {
            before: 0,
            messages_before: 0,
            head: Head::default(),
            payload,
            messages,
        }
    }

    /// Takes bytes off those that are `left`, and returns whether all of it is written.
    fn advance(&mut self, left: &mut usize, taken: &mut Taken) -> bool {
        let before = (*left).min(self.before as usize);
        taken.gathered += before;
        *left -= before;
        self.before -= before as u32;
        if self.before > 0 {
            return false;
        }
        taken.messages += mem::take(&mut self.messages_before) as usize;
        *left -= self.head.advance(*left);
        if *left < self.payload.len() {
            self.payload.advance(mem::take(left));
            return false;
        }
        *left -= self.payload.len();
        taken.messages += self.messages as usize;
        true
    }
}

/// The head of a frame, or what is left of it.
#[derive(Debug, Default)]
struct Head {
    bytes: [u8; HEAD],
    written: u8,
    len: u8,
}

impl Head {
    fn new(header: &FrameHeader, len: usize) -> Self {
        let mut head = Self::default();
        let mut room = &mut head.bytes[..];
        header
            .format(len as u64, &mut room)
            .expect("there is room for the longest one");
        head.len = (HEAD - room.len()) as u8;
        head
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.written.into()..self.len.into()]
    }

    /// Takes off as many bytes as there are, at most `written`, and returns how many.
    fn advance(&mut self, written: usize) -> usize {
        let taken = written.min(self.as_bytes().len());
        self.written += taken as u8;
        taken
    }
}

/// Puts buffers into slots while there are some.
struct Filler<'s, 'a> {
    slots: slice::IterMut<'s, IoSlice<'a>>,
    used: usize,
}

impl<'a> Filler<'_, 'a> {
    /// Returns whether the bytes had room, which none need.
    fn put(&mut self, bytes: &'a [u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let slot = self.slots.next();
        let has_room = slot.is_some();
        if let Some(slot) = slot {
            *slot = IoSlice::new(bytes);
            self.used += 1;
        }
        has_room
    }
}

#[inline(never)]
fn take() -> Box<Queue> {
    // Fails when the thread is about to end.
    let taken = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        let queue = pool.queues.pop()?;
        pool.room -= queue.segments.capacity();
        Some(queue)
    });
    taken.ok().flatten().unwrap_or_default()
}

/// Keeps an empty one for its next use.
#[inline(never)]
fn give_back(queue: Option<Box<Queue>>) {
    let Some(queue) = queue.filter(|queue| queue.segments.capacity() <= LONGEST) else {
        return;
    };
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        let room = pool.room + queue.segments.capacity();
        if pool.queues.len() < IDLE && room <= IDLE_ROOM {
            pool.room = room;
            pool.queues.push(queue);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Vec<usize> {
        POOL.with_borrow(|pool| {
            assert!(pool.queues.iter().all(|queue| queue.segments.is_empty()));
            let capacities = pool.queues.iter().map(|queue| queue.segments.capacity());
            let capacities: Vec<usize> = capacities.collect();
            assert_eq!(capacities.iter().sum::<usize>(), pool.room);
            capacities
        })
    }

    fn push(segments: &mut Segments, count: usize) {
        for _ in 0..count {
            let payload = Bytes::from_static(b"payload");
            segments.push(0, 0, &FrameHeader::default(), payload);
        }
    }

    #[test]
    fn uses_a_list_again_when_all_of_it_is_written() {
        let mut segments = Segments::default();
        push(&mut segments, 3);
        assert_eq!(segments.advance(3 * 9 - 1).messages, 2);
        assert_eq!((segments.is_empty(), idle().len()), (false, 0));
        let last = segments.advance(2);
        assert_eq!((last.messages, last.gathered), (1, 1));
        assert_eq!((segments.is_empty(), idle().len()), (true, 1));

        push(&mut segments, 1);
        assert_eq!(idle().len(), 0);
        let mut others = Segments::default();
        push(&mut others, 1);
        // Of two that become one, one is empty.
        segments.append(&mut others);
        assert_eq!((others.is_empty(), idle().len()), (true, 1));
    }

    #[test]
    fn keeps_no_more_and_no_longer_lists_than_it_may() {
        let use_at_once = |lists: usize, len: usize| {
            let mut all: Vec<Segments> = (0..lists).map(|_| Segments::default()).collect();
            for segments in &mut all {
                push(segments, len);
            }
            for segments in &mut all {
                assert_eq!(segments.advance(9 * len).messages, len);
            }
            idle()
        };
        assert_eq!(use_at_once(1, LONGEST + 1), []);
        assert_eq!(use_at_once(1, LONGEST), [LONGEST]);
        assert_eq!(use_at_once(5, LONGEST), [LONGEST; IDLE_ROOM / LONGEST]);
        while !idle().is_empty() {
            drop(take());
        }
        assert_eq!(use_at_once(IDLE + 5, 1).len(), IDLE);
    }
}
