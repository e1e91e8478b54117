//! Large payloads that wait to be written, among the small frames that are gathered beside them.

use std::{collections::VecDeque, io::IoSlice, mem, slice};

use bytes::{Buf, Bytes};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

/// The longest head without a mask: two bytes, and eight of length.
const HEAD: usize = 10;

/// A list of buffers that are written as they are, oldest first.
#[derive(Debug, Default)]
pub(super) struct Segments {
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
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Returns how much memory the list takes, in bytes.
    pub(super) fn room(&self) -> usize {
        self.segments.capacity() * size_of::<Segment>()
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
        let before = gathered - self.before;
        self.before = gathered;
        let head = Head::new(header, payload.len());
        let len = head.as_bytes().len();
        self.segments.push_back(Segment {
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
        if self.before > 0 {
            self.before = 0;
            let mut sealed = VecDeque::with_capacity(2 * self.segments.len() + 1);
            for mut segment in self.segments.drain(..) {
                if segment.before > 0 {
                    let bytes = gathered.split_to(segment.before as usize);
                    sealed.push_back(Segment::sealed(bytes, segment.messages_before));
                    (segment.before, segment.messages_before) = (0, 0);
                }
                sealed.push_back(segment);
            }
            self.segments = sealed;
        }
        if !gathered.is_empty() {
            let last = Segment::sealed(gathered, messages);
            self.segments.push_back(last);
        }
    }

    /// Moves all of `other` behind what is here; nothing may be gathered for either.
    pub(super) fn append(&mut self, other: &mut Self) {
        self.segments.append(&mut other.segments);
    }

    /// Fills the slots with what is written next, and returns how many it took. The bytes that are
    /// `gathered` begin with the first that is not written yet.
    pub(super) fn fill<'a>(&'a self, mut gathered: &'a [u8], slots: &mut [IoSlice<'a>]) -> usize {
        let mut filler = Filler {
            slots: slots.iter_mut(),
            used: 0,
        };
        for segment in &self.segments {
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
        while let Some(segment) = self.segments.front_mut() {
            if !segment.advance(&mut left, &mut taken) {
                break;
            }
            self.segments.pop_front();
        }
        self.before -= taken.gathered;
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
