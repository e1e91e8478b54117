//! Messages in, bytes out: frames that wait to be written.
//!
//! Small frames are gathered in one buffer, so that all that is sent in one turn leaves in one
//! write. Large payloads are kept as they are, where the stream can write several buffers at once.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control as ControlCode, Data, OpCode},
};

use crate::{close::CloseFrame, message::Message};

/// From this size on, copying a payload costs more than writing it as a buffer of its own.
const LARGE: usize = 4 * 1024;
/// A gathering buffer of this size is not grown: a larger one would be moved again and again.
const SEGMENT: usize = 64 * 1024;
/// The same for streams that write one buffer at a time, those of HTTP/2 among them: what a DATA
/// frame takes. What is written of a segment is held until all of it is.
const CONTIGUOUS: usize = 16 * 1024;
/// The longest head that a frame has, a mask included.
const MAX_HEADER: usize = 14;
/// As much of a gathering buffer is kept unused: for the next turn, or by one that is sealed.
const KEPT: usize = 1024;

/// An amount of outgoing data, in messages and bytes of frames.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Load {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Load {
    pub(crate) const fn is_empty(self) -> bool {
        self.bytes == 0
    }
}

/// Frames in the order in which they are written.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Whole buffers, oldest first, each with the messages that end in it.
    segments: VecDeque<(Bytes, usize)>,
    /// The newest frames.
    tail: Vec<u8>,
    tail_messages: usize,
    /// How much of the tail is written; segments are shortened instead.
    tail_written: usize,
    load: Load,
}

impl Outgoing {
    /// Queues a message. With `contiguous` its payload is copied whatever its size, for streams
    /// that write one buffer at a time.
    pub(crate) fn push(&mut self, message: &Message, contiguous: bool) {
        let opcode = match message {
            Message::Text(_) => Data::Text,
            Message::Binary(_) => Data::Binary,
        };
        let len = message.len();
        self.make_room(len, contiguous);
        self.push_header(OpCode::Data(opcode), len);
        if len < LARGE || contiguous {
            self.tail.extend_from_slice(message.as_bytes());
            self.tail_messages += 1;
            if self.tail.len() >= SEGMENT {
                self.seal();
            }
        } else {
            self.seal();
            self.segments.push_back((message.clone().into_bytes(), 1));
        }
        self.load.messages += 1;
        self.load.bytes += len;
    }

    /// Queues a ping.
    pub(crate) fn push_ping(&mut self, payload: &[u8]) {
        self.push_control(ControlCode::Ping, payload);
    }

    /// Queues a pong.
    pub(crate) fn push_pong(&mut self, payload: &[u8]) {
        self.push_control(ControlCode::Pong, payload);
    }

    /// Queues a Close, empty without a `frame` (RFC 6455 §5.5.1).
    pub(crate) fn push_close(&mut self, frame: Option<&CloseFrame>) {
        match frame {
            None => self.push_control(ControlCode::Close, &[]),
            Some(frame) => {
                let code = frame.code().get().to_be_bytes();
                let payload = [&code, frame.reason().as_bytes()].concat();
                self.push_control(ControlCode::Close, &payload);
            }
        }
    }

    fn push_control(&mut self, code: ControlCode, payload: &[u8]) {
        self.push_header(OpCode::Control(code), payload.len());
        self.tail.extend_from_slice(payload);
        self.load.bytes += payload.len();
    }

    fn push_header(&mut self, opcode: OpCode, len: usize) {
        let header = FrameHeader {
            opcode,
            ..FrameHeader::default()
        };
        let before = self.tail.len();
        header
            .format(len as u64, &mut self.tail)
            .expect("a vector takes every write");
        self.load.bytes += self.tail.len() - before;
    }

    /// Queues all of `other` behind what is queued here.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.seal();
        other.seal();
        self.segments.append(&mut other.segments);
        self.load.messages += other.load.messages;
        self.load.bytes += other.load.bytes;
        other.load = Load::default();
    }

    /// Makes room at the tail for a message: exactly what a segment takes, once it is no longer
    /// small. Doubled, it would hold nearly twice as much as is queued.
    fn make_room(&mut self, len: usize, contiguous: bool) {
        let more = len + MAX_HEADER;
        let segment = match contiguous {
            true => CONTIGUOUS,
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
        }
    }

    /// Makes the tail a segment.
    fn seal(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let mut tail = std::mem::take(&mut self.tail);
        if tail.capacity() - tail.len() > KEPT {
            tail.shrink_to_fit();
        }
        let mut sealed = Bytes::from(tail);
        sealed.advance(std::mem::take(&mut self.tail_written));
        let messages = std::mem::take(&mut self.tail_messages);
        self.segments.push_back((sealed, messages));
    }

    /// Returns how much is queued.
    pub(crate) const fn load(&self) -> Load {
        self.load
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.load.is_empty()
    }

    /// Returns the bytes to write next, in as many slices as there are and fit; at least one unless
    /// it is empty.
    pub(crate) fn slices<'a, 's>(&'a self, slices: &'s mut [IoSlice<'a>]) -> &'s [IoSlice<'a>] {
        let tail = &self.tail[self.tail_written..];
        let tail = (!tail.is_empty()).then_some(tail);
        let segments = self.segments.iter().map(|(segment, _)| &**segment);
        let mut used = 0;
        for (slot, bytes) in slices.iter_mut().zip(segments.chain(tail)) {
            *slot = IoSlice::new(bytes);
            used += 1;
        }
        &slices[..used]
    }

    /// Takes off `written` bytes, and returns what that makes room for.
    pub(crate) fn advance(&mut self, written: usize) -> Load {
        let mut messages = 0;
        let mut left = written;
        while let Some((segment, ends)) = self.segments.front_mut() {
            if left < segment.len() {
                segment.advance(left);
                left = 0;
                break;
            }
            left -= segment.len();
            messages += *ends;
            self.segments.pop_front();
        }
        self.tail_written += left;
        if self.segments.is_empty() && self.tail_written == self.tail.len() {
            messages += std::mem::take(&mut self.tail_messages);
            self.tail_written = 0;
            self.tail.clear();
            // An idle connection keeps next to nothing.
            if self.tail.capacity() > KEPT {
                self.tail = Vec::new();
            }
            self.segments.shrink_to(0);
        }
        self.load.messages -= messages;
        self.load.bytes -= written;
        Load {
            messages,
            bytes: written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::CloseCode;

    /// Writes everything, `at_once` bytes at a time, and returns what was written and made room.
    fn drain(outgoing: &mut Outgoing, at_once: usize) -> (Vec<u8>, Load) {
        let mut written = Vec::new();
        let mut room = Load::default();
        while !outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let slices = outgoing.slices(&mut slices);
            let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
            let chunk: Vec<u8> = bytes.take(at_once).collect();
            written.extend_from_slice(&chunk);
            let made = outgoing.advance(chunk.len());
            room.messages += made.messages;
            room.bytes += made.bytes;
        }
        (written, room)
    }

    #[test]
    fn writes_heads_of_all_three_lengths() {
        for (len, head) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut outgoing = Outgoing::default();
            outgoing.push(&Message::binary(vec![7; len]), false);
            let (written, _) = drain(&mut outgoing, usize::MAX);
            assert_eq!(&written[..head.len()], head, "length {len}");
            assert_eq!(&written[head.len()..], vec![7; len], "length {len}");
        }
    }

    #[test]
    fn gathers_small_frames_in_one_slice() {
        let mut outgoing = Outgoing::default();
        for _ in 0..64 {
            outgoing.push(&Message::text("x".repeat(32)), false);
        }
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(outgoing.slices(&mut slices).len(), 1);
    }

    #[test]
    fn does_not_copy_a_large_payload_unless_it_has_to() {
        let payload = Bytes::from(vec![1; LARGE]);
        let mut outgoing = Outgoing::default();
        outgoing.push(&Message::Binary(payload.clone()), false);
        let mut slices = [IoSlice::new(&[]); 4];
        let slices = outgoing.slices(&mut slices);
        assert_eq!(slices.len(), 2);
        assert_eq!(slices[1].as_ptr(), payload.as_ptr());

        let mut outgoing = Outgoing::default();
        outgoing.push(&Message::Binary(payload), true);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(outgoing.slices(&mut slices).len(), 1);
    }

    #[test]
    fn writes_the_same_bytes_whatever_a_write_takes() {
        let fill = |contiguous| {
            let mut outgoing = Outgoing::default();
            for len in [0, 1, 5000, 3, 200_000, 4096, 10] {
                outgoing.push(&Message::binary(vec![b'm'; len]), contiguous);
                outgoing.push_ping(b"ping");
            }
            outgoing.push_close(Some(&CloseFrame::new(CloseCode::NORMAL, "bye").unwrap()));
            outgoing
        };
        let load = fill(false).load();
        let (whole, _) = drain(&mut fill(true), usize::MAX);
        assert_eq!(load.bytes, whole.len());
        for at_once in [1, 2, 7, 4095, 4096, 70_000] {
            let (written, room) = drain(&mut fill(false), at_once);
            assert!(written == whole, "{at_once} at once");
            assert_eq!(room, load, "{at_once} at once");
        }
    }

    #[test]
    fn appends_behind_what_is_half_written() {
        let mut first = Outgoing::default();
        first.push(&Message::text("first"), false);
        let _ = first.advance(3);
        let mut second = Outgoing::default();
        second.push(&Message::text("second"), false);
        first.append(&mut second);
        assert!(second.is_empty());
        let (written, room) = drain(&mut first, 1);
        assert_eq!(written, b"irst\x81\x06second");
        assert_eq!(room.messages, 2);
    }

    #[test]
    fn keeps_nothing_large_when_it_is_empty() {
        let mut outgoing = Outgoing::default();
        for _ in 0..100 {
            outgoing.push(&Message::binary(vec![0; 3000]), false);
        }
        let _ = drain(&mut outgoing, usize::MAX);
        assert!(outgoing.tail.capacity() <= KEPT);
        assert_eq!(outgoing.segments.capacity(), 0);
    }
}
