//! The queue of frames to write.
//!
//! Small frames are collected in one buffer, so that all frames of one poll leave in one write. A large payload
//! is not copied, if the stream can write several buffers at once and the payload need not be masked. The same
//! write contains small frames and large payloads, in order.

use std::mem;

use bytes::{Buf, Bytes};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control as ControlCode, Data, OpCode},
};

use super::{Load, Mask, Role, segments::Segments};
use crate::words::Message;

/// From this size on, copying a payload costs more than writing it as a separate buffer.
pub(super) const LARGE: usize = 4 * 1024;
/// The size limit of a collecting buffer. Growing a larger one would copy it again and again.
pub(super) const SEGMENT: usize = 64 * 1024;
/// The same limit for streams that write one buffer at a time, such as those of HTTP/2: the size of a DATA
/// frame. A segment is freed only when all of it is written.
const CONTIGUOUS_SEGMENT: usize = 16 * 1024;
/// The length of the longest head: two bytes, eight of length, four of mask.
const MAX_HEAD: usize = 14;
/// The maximum spare capacity of a sealed buffer.
const MAX_SPARE: usize = 1024;

/// Frames in the order of writing.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) role: Role,
    /// Large payloads, and sealed buffers.
    pub(super) segments: Segments,
    /// The collected small frames. Parts of it are written before and between the segments.
    pub(super) tail: Vec<u8>,
    /// Queued messages that end in the segments, or in the tail before a segment. The others end in the tail behind them.
    before_tail: usize,
    /// The number of bytes of the tail that are written.
    tail_written: usize,
    load: Load,
}

impl Frames {
    /// Makes an empty queue with this capacity for collected bytes.
    pub(super) fn new(role: Role, capacity: usize) -> Self {
        Self {
            role,
            tail: Vec::with_capacity(capacity),
            ..Self::default()
        }
    }

    /// Makes one with the rest of a frame. The rest counts as no message.
    pub(super) fn holding(role: Role, rest: Vec<u8>) -> Self {
        let load = Load {
            messages: 0,
            bytes: rest.len(),
        };
        Self {
            role,
            tail: rest,
            load,
            ..Self::default()
        }
    }

    /// Returns the amount of queued data.
    #[inline]
    pub(super) const fn load(&self) -> Load {
        self.load
    }

    /// Returns the collected bytes that are not written yet.
    #[inline]
    pub(super) fn unwritten_tail(&self) -> &[u8] {
        &self.tail[self.tail_written..]
    }

    /// Returns the number of messages that end in the tail after the last segment.
    const fn tail_messages(&self) -> u32 {
        (self.load.messages - self.before_tail) as u32
    }

    /// Drops all queued frames, and keeps the collecting buffer.
    pub(super) fn clear(&mut self) {
        self.tail.clear();
        self.segments = Segments::default();
        (self.before_tail, self.tail_written) = (0, 0);
        self.load = Load::default();
    }

    // Inlined, because a call is a noticeable cost for a small message.
    #[inline(always)]
    pub(super) fn push(&mut self, message: &mut Message, contiguous: bool) {
        let payload = message.as_bytes();
        let len = payload.len();
        // Fast path: the message is small and fits into the tail.
        let end = self.tail.len() + len + 4;
        let segment = if contiguous {
            CONTIGUOUS_SEGMENT
        } else {
            SEGMENT
        };
        if self.role == Role::Server && len < LARGE && end <= self.tail.capacity() && end < segment
        {
            let first = if message.is_text() { 0x81 } else { 0x82 };
            let [high, low] = (len as u16).to_be_bytes();
            let head = if len < 126 {
                self.tail.extend_from_slice(&[first, low]);
                2
            } else {
                self.tail.extend_from_slice(&[first, 126, high, low]);
                4
            };
            self.tail.extend_from_slice(payload);
            self.load.messages += 1;
            self.load.bytes += head + len;
            return;
        }
        self.push_slow(message, contiguous);
    }

    #[inline(never)]
    fn push_slow(&mut self, message: &mut Message, contiguous: bool) {
        let header = data_header(message.is_text());
        if self.is_kept(message.len(), contiguous) {
            let empty = Message::Binary(Bytes::new());
            self.push_large(&header, mem::replace(message, empty).into_bytes());
        } else {
            self.push_small(&header, message.as_bytes(), contiguous);
        }
    }

    pub(super) fn push_compressed(&mut self, is_text: bool, compressed: &Bytes, contiguous: bool) {
        let header = FrameHeader {
            rsv1: true,
            ..data_header(is_text)
        };
        if self.is_kept(compressed.len(), contiguous) {
            self.push_large(&header, compressed.clone());
        } else {
            self.push_small(&header, compressed, contiguous);
        }
    }

    /// Queues a message that other connections send, too. A large payload is shared with them.
    #[cfg(feature = "hub")]
    pub(super) fn push_shared(&mut self, shared: &super::SharedMessage, contiguous: bool) {
        let message = shared.message();
        let len = message.len();
        if self.role != Role::Server {
            self.push_small(
                &data_header(message.is_text()),
                message.as_bytes(),
                contiguous,
            );
        } else if self.is_kept(len, contiguous) {
            self.push_large(&data_header(message.is_text()), shared.payload());
        } else {
            self.reserve(len, contiguous);
            let head = shared.head();
            self.tail.extend_from_slice(head);
            self.tail.extend_from_slice(message.as_bytes());
            self.load.messages += 1;
            self.load.bytes += head.len() + len;
            if self.tail.len() >= SEGMENT {
                self.seal();
            }
        }
    }

    /// Queues messages that other connections send, too, without a copy.
    #[cfg(feature = "hub")]
    pub(super) fn push_shared_frames(&mut self, shared: &super::SharedFrames) {
        let collected = self.tail.len() - self.tail_written;
        let messages_before = self.tail_messages();
        let (frames, messages) = (shared.frames(), shared.load().messages);
        self.load.messages += messages;
        self.before_tail = self.load.messages;
        self.load.bytes += frames.len();
        self.segments
            .push_encoded(collected, messages_before, frames, messages as u32);
    }

    /// Returns whether a payload is written without a copy.
    fn is_kept(&self, len: usize, contiguous: bool) -> bool {
        len >= LARGE && !contiguous && self.role == Role::Server
    }

    fn push_large(&mut self, header: &FrameHeader, payload: Bytes) {
        let collected = self.tail.len() - self.tail_written;
        let messages = self.tail_messages();
        let len = payload.len();
        let head = self.segments.push(collected, messages, header, payload);
        self.load.messages += 1;
        self.before_tail = self.load.messages;
        self.load.bytes += head + len;
    }

    fn push_small(&mut self, header: &FrameHeader, payload: &[u8], contiguous: bool) {
        self.reserve(payload.len(), contiguous);
        let mask = self.push_data_header(header, payload.len());
        self.push_payload(payload, mask);
        self.load.messages += 1;
        self.load.bytes += payload.len();
        if self.tail.len() >= SEGMENT {
            self.seal();
        }
    }

    pub(super) fn push_control(&mut self, code: ControlCode, payload: &[u8]) {
        let header = FrameHeader {
            opcode: OpCode::Control(code),
            ..FrameHeader::default()
        };
        let mask = self.push_header(&header, payload.len());
        self.push_payload(payload, mask);
        self.load.bytes += payload.len();
    }

    /// Appends the head of a message in one frame, and returns the mask for its payload.
    #[inline]
    fn push_data_header(&mut self, header: &FrameHeader, len: usize) -> Option<Mask> {
        let first = 0x80 | u8::from(header.rsv1) << 6 | u8::from(header.opcode);
        match u16::try_from(len) {
            // Heads of two or four bytes are written here, without a call.
            Ok(len) if self.role == Role::Server && len < 126 => {
                self.tail.extend_from_slice(&[first, len as u8]);
                self.load.bytes += 2;
                None
            }
            Ok(len) if self.role == Role::Server => {
                let [high, low] = len.to_be_bytes();
                self.tail.extend_from_slice(&[first, 126, high, low]);
                self.load.bytes += 4;
                None
            }
            _ => self.push_header(header, len),
        }
    }

    /// Appends a head, and returns the mask for its payload.
    fn push_header(&mut self, header: &FrameHeader, len: usize) -> Option<Mask> {
        let mask = match self.role {
            Role::Server => None,
            Role::Client => Some(Mask::random()),
        };
        let header = FrameHeader {
            mask: mask.map(Mask::key),
            ..header.clone()
        };
        let before = self.tail.len();
        header
            .format(len as u64, &mut self.tail)
            .expect("a write to a vector does not fail");
        self.load.bytes += self.tail.len() - before;
        mask
    }

    fn push_payload(&mut self, payload: &[u8], mask: Option<Mask>) {
        match mask {
            None => self.tail.extend_from_slice(payload),
            Some(mut mask) => {
                // This makes the buffer grow in large steps. `append` reserves just enough for this payload.
                self.tail.reserve(payload.len());
                mask.append(payload, &mut self.tail);
            }
        }
    }

    pub(super) fn append(&mut self, other: &mut Self) {
        self.seal();
        other.seal();
        self.segments.append(&mut other.segments);
        self.load.messages += other.load.messages;
        self.load.bytes += other.load.bytes;
        self.before_tail = self.load.messages;
        (other.load, other.before_tail) = (Load::default(), 0);
    }

    /// Reserves capacity in the tail for a message. A large tail gets exactly the capacity of a segment,
    /// because doubling would allocate nearly twice the queued bytes.
    fn reserve(&mut self, len: usize, contiguous: bool) {
        let more = len + MAX_HEAD;
        let segment = match contiguous {
            true => CONTIGUOUS_SEGMENT,
            false if len < LARGE => SEGMENT,
            false => return,
        };
        if contiguous && self.tail.len() + more > segment {
            self.seal();
        }
        let used = self.tail.len();
        if used + more > self.tail.capacity().max(segment / 2) {
            self.tail
                .reserve_exact(more.max(segment.saturating_sub(used)));
        } else {
            self.tail.reserve(more);
        }
    }

    /// Moves the tail into the segments.
    fn seal(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let mut tail = mem::take(&mut self.tail);
        if tail.capacity() - tail.len() > MAX_SPARE {
            tail.shrink_to_fit();
        }
        let mut sealed = Bytes::from(tail);
        sealed.advance(mem::take(&mut self.tail_written));
        let messages = self.tail_messages();
        self.before_tail = self.load.messages;
        self.segments.seal(sealed, messages);
    }

    #[inline]
    pub(super) fn advance(&mut self, written: usize) -> Load {
        let tail_messages = self.tail_messages();
        let mut messages = 0;
        if self.segments.is_empty() {
            self.tail_written += written;
        } else {
            let done = self.segments.advance(written);
            messages = done.messages;
            self.before_tail -= messages;
            self.tail_written += done.collected;
        }
        if self.tail_written == self.tail.len() {
            // All collected bytes are written, so the remaining segments have none before them.
            messages += tail_messages as usize;
            self.tail_written = 0;
            self.tail.clear();
        }
        self.load.messages -= messages;
        self.load.bytes -= written;
        Load {
            messages,
            bytes: written,
        }
    }
}

pub(super) fn data_header(is_text: bool) -> FrameHeader {
    FrameHeader {
        opcode: OpCode::Data(if is_text { Data::Text } else { Data::Binary }),
        ..FrameHeader::default()
    }
}
