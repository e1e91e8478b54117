//! The queue of large payloads to write. Small frames, collected in another buffer, go between them.

use std::{collections::VecDeque, io::IoSlice, mem, slice};

use bytes::{Buf, Bytes};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

/// The length of the longest head without a mask: two bytes, and eight of length.
pub(super) const HEAD: usize = 10;

/// A queue of buffers that are written without a copy, oldest first.
#[derive(Debug, Default)]
pub(super) struct Segments {
    segments: VecDeque<Segment>,
    /// The sum of [`Segment::before`].
    before: usize,
}

/// A buffer with the head of its frame, and the number of collected bytes before it.
#[derive(Debug)]
struct Segment {
    /// Collected bytes to write before this segment, and the number of messages that end in them.
    before: u32,
    messages_before: u32,
    head: Head,
    /// Never empty.
    payload: Bytes,
    /// Messages that end in the payload.
    messages: u32,
}

/// The result of a write.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Written {
    /// Collected bytes that were written, including those after the last segment.
    pub(super) collected: usize,
    /// Messages that are written completely.
    pub(super) messages: usize,
}

impl Segments {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Returns the memory of the queue itself, in bytes.
    pub(super) fn queue_bytes(&self) -> usize {
        self.segments.capacity() * size_of::<Segment>()
    }

    /// Appends a message, and returns the length of its head.
    ///
    /// `collected` is the number of unwritten collected bytes. All of them are written before this message.
    /// `messages_before` is the number of messages that end in them after the last segment.
    pub(super) fn push(
        &mut self,
        collected: usize,
        messages_before: u32,
        header: &FrameHeader,
        payload: Bytes,
    ) -> usize {
        let before = collected - self.before;
        self.before = collected;
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

    /// Appends encoded frames in which this many messages end. For the other arguments see [`push`](Self::push).
    #[cfg(feature = "hub")]
    pub(super) fn push_encoded(
        &mut self,
        collected: usize,
        messages_before: u32,
        frames: Bytes,
        messages: u32,
    ) {
        let before = collected - self.before;
        self.before = collected;
        self.segments.push_back(Segment {
            before: before as u32,
            messages_before,
            ..Segment::sealed(frames, messages)
        });
    }

    /// Returns the bytes to write if they are in one buffer. There must be no collected bytes.
    pub(super) fn only_slice(&self) -> Option<&[u8]> {
        match self.segments.len() {
            1 => self.segments.front()?.only_slice(),
            _ => None,
        }
    }

    /// Makes segments of the `collected` bytes, between the segments and after them. `messages` is the number
    /// of messages that end after the last segment.
    pub(super) fn seal(&mut self, mut collected: Bytes, messages: u32) {
        if self.before > 0 {
            self.before = 0;
            let mut sealed = VecDeque::with_capacity(2 * self.segments.len() + 1);
            for mut segment in self.segments.drain(..) {
                if segment.before > 0 {
                    let bytes = collected.split_to(segment.before as usize);
                    sealed.push_back(Segment::sealed(bytes, segment.messages_before));
                    (segment.before, segment.messages_before) = (0, 0);
                }
                sealed.push_back(segment);
            }
            self.segments = sealed;
        }
        if !collected.is_empty() {
            let last = Segment::sealed(collected, messages);
            self.segments.push_back(last);
        }
    }

    /// Moves all segments of `other` to the end of this queue. Both must be [sealed](Self::seal) before.
    pub(super) fn append(&mut self, other: &mut Self) {
        self.segments.append(&mut other.segments);
    }

    /// Fills the slots with the next bytes to write, and returns the number of used slots. `collected` are the
    /// unwritten collected bytes.
    pub(super) fn fill<'a>(&'a self, mut collected: &'a [u8], slots: &mut [IoSlice<'a>]) -> usize {
        let mut filler = Filler {
            slots: slots.iter_mut(),
            used: 0,
        };
        for segment in &self.segments {
            let (before, rest) = collected.split_at(segment.before as usize);
            collected = rest;
            let has_slots = filler.put(before)
                && filler.put(segment.head.as_bytes())
                && filler.put(&segment.payload);
            if !has_slots {
                return filler.used;
            }
        }
        filler.put(collected);
        filler.used
    }

    /// Removes `bytes` that were written.
    #[inline(never)]
    pub(super) fn advance(&mut self, bytes: usize) -> Written {
        let (mut written, mut left) = (Written::default(), bytes);
        while let Some(segment) = self.segments.front_mut() {
            if !segment.advance(&mut left, &mut written) {
                break;
            }
            self.segments.pop_front();
        }
        self.before -= written.collected;
        written.collected += left;
        written
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

    fn only_slice(&self) -> Option<&[u8]> {
        self.head.as_bytes().is_empty().then_some(&*self.payload)
    }

    /// Subtracts the bytes of this segment from `left`, and returns whether the segment is written completely.
    fn advance(&mut self, left: &mut usize, written: &mut Written) -> bool {
        let before = (*left).min(self.before as usize);
        written.collected += before;
        *left -= before;
        self.before -= before as u32;
        if self.before > 0 {
            return false;
        }
        written.messages += mem::take(&mut self.messages_before) as usize;
        *left -= self.head.advance(*left);
        if *left < self.payload.len() {
            self.payload.advance(mem::take(left));
            return false;
        }
        *left -= self.payload.len();
        written.messages += self.messages as usize;
        true
    }
}

/// The head of a frame, partly written.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: [u8; HEAD],
    written: u8,
    len: u8,
}

impl Head {
    pub(super) fn new(header: &FrameHeader, len: usize) -> Self {
        let mut head = Self::default();
        let mut free = &mut head.bytes[..];
        header
            .format(len as u64, &mut free)
            .expect("the longest head fits");
        head.len = (HEAD - free.len()) as u8;
        head
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.written.into()..self.len.into()]
    }

    /// Removes up to `written` bytes, and returns the number of removed bytes.
    fn advance(&mut self, written: usize) -> usize {
        let removed = written.min(self.as_bytes().len());
        self.written += removed as u8;
        removed
    }
}

/// Puts buffers into slots.
struct Filler<'s, 'a> {
    slots: slice::IterMut<'s, IoSlice<'a>>,
    used: usize,
}

impl<'a> Filler<'_, 'a> {
    /// Puts bytes into the next slot. Returns `false` if there is none. Empty bytes need no slot.
    fn put(&mut self, bytes: &'a [u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let slot = self.slots.next();
        let has_slot = slot.is_some();
        if let Some(slot) = slot {
            *slot = IoSlice::new(bytes);
            self.used += 1;
        }
        has_slot
    }
}
