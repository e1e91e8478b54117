//! Messages in, bytes out: frames that wait to be written.
//!
//! The frames lie in memory that the connections of a thread share.

use std::{io::IoSlice, mem};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Control as ControlCode;

use super::{Role, frame_pool, frames::Frames};
use crate::words::{CloseFrame, Message};

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
///
/// Their memory is elsewhere, and shared by the connections of a thread: it comes with the first frame and
/// goes when all are written.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    frames: Option<Box<Frames>>,
    role: Role,
    contiguous: bool,
}

impl Outgoing {
    /// Makes an empty one for the frames of one side. If it is `contiguous`, every payload is copied
    /// whatever its size, for streams that write one buffer at a time.
    pub(crate) const fn new(role: Role, contiguous: bool) -> Self {
        Self {
            frames: None,
            role,
            contiguous,
        }
    }

    /// Queues a message, and leaves an empty one if it is large.
    #[inline(always)]
    pub(crate) fn push(&mut self, message: &mut Message) {
        let contiguous = self.contiguous;
        self.frames().push(message, contiguous);
    }

    /// Queues a message in the form of its `compressed` payload (RFC 7692 §6.1).
    pub(crate) fn push_compressed(&mut self, message: &Message, compressed: &Bytes) {
        let contiguous = self.contiguous;
        self.frames()
            .push_compressed(message, compressed, contiguous);
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
        self.lend();
        self.frames().push_control(code, payload);
    }

    /// Takes over all of `other`, if nothing is queued here.
    #[inline]
    pub(crate) fn swap(&mut self, other: &mut Self) {
        mem::swap(&mut self.frames, &mut other.frames);
    }

    /// Queues all of `other` behind what is queued here.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            self.swap(other);
        } else if let Some(mut others) = other.frames.take_if(|frames| !frames.load().is_empty()) {
            self.frames().append(&mut others);
            others.clear();
            frame_pool::give_back(others);
        }
    }

    /// Returns how much is queued.
    #[inline]
    pub(crate) fn load(&self) -> Load {
        let frames = self.frames.as_ref();
        frames.map_or(Load::default(), |frames| frames.load())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.load().is_empty()
    }

    /// Returns the bytes to write next, in as many slices as there are and fit; at least one unless
    /// it is empty.
    pub(crate) fn slices<'a, 's>(&'a self, slices: &'s mut [IoSlice<'a>]) -> &'s [IoSlice<'a>] {
        let used = match &self.frames {
            Some(frames) => frames.segments.fill(frames.unwritten_tail(), slices),
            None => 0,
        };
        &slices[..used]
    }

    /// Returns the bytes to write next, if they are all that there are and lie in one piece.
    #[inline]
    pub(crate) fn only_slice(&self) -> Option<&[u8]> {
        let frames = self.frames.as_ref()?;
        let is_all = frames.segments.is_empty();
        is_all.then(|| frames.unwritten_tail())
    }

    /// Takes off `written` bytes, and returns what that makes room for.
    #[inline]
    pub(crate) fn advance(&mut self, written: usize) -> Load {
        let frames = self.frames.as_mut();
        frames.map_or(Load::default(), |frames| frames.advance(written))
    }

    /// Takes shared memory to gather frames in, if there is none.
    #[inline]
    pub(crate) fn lend(&mut self) {
        if self.frames.is_none() {
            self.frames = Some(frame_pool::take(self.role));
        }
    }

    /// Gives the shared memory back, or what of it is not in use. What is queued is kept.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        let Some(frames) = &mut self.frames else {
            return;
        };
        if frames.load().is_empty() {
            self.frames
                .take()
                .into_iter()
                .for_each(frame_pool::give_back);
        } else if frames.tail.capacity() > 2 * frames.tail.len() {
            let used = frames.tail.as_slice().to_vec();
            let mut unused = Box::new(Frames::default());
            unused.tail = mem::replace(&mut frames.tail, used);
            unused.clear();
            frame_pool::give_back(unused);
        }
    }

    #[inline]
    fn frames(&mut self) -> &mut Frames {
        let role = self.role;
        self.frames
            .get_or_insert_with(|| Box::new(Frames::new(role, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::{
            Mask,
            frames::{LARGE, SEGMENT},
        },
        words::CloseCode,
    };

    fn contiguous() -> Outgoing {
        Outgoing::new(Role::Server, true)
    }

    fn tail(outgoing: &Outgoing) -> &[u8] {
        outgoing.frames.as_ref().map_or(&[], |frames| &frames.tail)
    }

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
            outgoing.push(&mut Message::binary(vec![7; len]));
            let (written, _) = drain(&mut outgoing, usize::MAX);
            assert_eq!(&written[..head.len()], head, "length {len}");
            assert_eq!(&written[head.len()..], vec![7; len], "length {len}");
        }
    }

    #[test]
    fn gathers_small_frames_in_one_slice() {
        let mut outgoing = Outgoing::default();
        for _ in 0..64 {
            outgoing.push(&mut Message::text("x".repeat(32)));
        }
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(outgoing.slices(&mut slices).len(), 1);
    }

    #[test]
    fn does_not_copy_a_large_payload_unless_it_has_to() {
        let payload = Bytes::from(vec![1; LARGE]);
        let mut outgoing = Outgoing::default();
        outgoing.push(&mut Message::Binary(payload.clone()));
        let mut slices = [IoSlice::new(&[]); 4];
        let slices = outgoing.slices(&mut slices);
        assert_eq!(slices.len(), 2);
        assert_eq!(slices[1].as_ptr(), payload.as_ptr());

        let mut outgoing = contiguous();
        outgoing.push(&mut Message::Binary(payload));
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(outgoing.slices(&mut slices).len(), 1);
    }

    #[test]
    fn writes_large_payloads_between_small_frames_in_one_write() {
        let payload = Bytes::from(vec![1; LARGE]);
        let mut outgoing = Outgoing::default();
        for text in ["a", "b"] {
            outgoing.push(&mut Message::text(text));
            outgoing.push(&mut Message::Binary(payload.clone()));
        }
        outgoing.push_ping(b"");
        let mut slices = [IoSlice::new(&[]); 8];
        let slices = outgoing.slices(&mut slices);
        let small: Vec<&[u8]> = slices
            .iter()
            .map(|slice| &**slice)
            .filter(|slice| slice.len() < LARGE)
            .collect();
        let head = [0x82, 126, 0x10, 0].as_slice();
        assert_eq!(small, [b"\x81\x01a", head, b"\x81\x01b", head, b"\x89\0"]);
        for at in [2, 5] {
            assert_eq!(slices[at].as_ptr(), payload.as_ptr(), "slice {at}");
        }
        // A message has ended when all of its bytes are written.
        let (mut ended, mut load) = (Vec::new(), outgoing.load());
        while !outgoing.is_empty() {
            let made = outgoing.advance(1);
            load.bytes -= made.bytes;
            if made.messages > 0 {
                ended.push((load.bytes, made.messages));
            }
        }
        let frame = 4 + LARGE;
        assert_eq!(
            ended,
            [(2 * frame + 5, 1), (frame + 5, 1), (frame + 2, 1), (2, 1)]
        );
    }

    #[test]
    fn keeps_the_order_when_the_buffer_is_full_or_moved() {
        let fill = |outgoing: &mut Outgoing| {
            for number in 0..300_usize {
                let len = [1000, LARGE, 500, 7, LARGE + 1][number % 5];
                let payload = vec![number as u8; len];
                outgoing.push(&mut Message::binary(payload));
            }
        };
        let mut whole = contiguous();
        fill(&mut whole);
        fill(&mut whole);
        let load = whole.load();
        let (whole, _) = drain(&mut whole, usize::MAX);
        for at_once in [1, 333, 4099, 70_000] {
            let mut outgoing = Outgoing::default();
            fill(&mut outgoing);
            let bytes = 999;
            let mut written = whole[..bytes].to_vec();
            let mut room = outgoing.advance(bytes);
            let mut more = Outgoing::default();
            fill(&mut more);
            outgoing.append(&mut more);
            assert!(more.is_empty() && more.frames.is_none());
            outgoing.give_back();
            let (rest, made) = drain(&mut outgoing, at_once);
            written.extend(rest);
            room.messages += made.messages;
            room.bytes += made.bytes;
            assert!(written == whole, "{at_once} at once");
            assert_eq!(room, load, "{at_once} at once");
        }
    }

    #[test]
    fn writes_the_same_bytes_whatever_a_write_takes() {
        let fill = |contiguous| {
            let mut outgoing = Outgoing::new(Role::Server, contiguous);
            for len in [0, 1, 5000, 3, 200_000, 4096, 10] {
                outgoing.push(&mut Message::binary(vec![b'm'; len]));
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
        first.push(&mut Message::text("first"));
        let _ = first.advance(3);
        let mut second = Outgoing::default();
        second.push(&mut Message::text("second"));
        first.append(&mut second);
        assert!(second.is_empty());
        let (written, room) = drain(&mut first, 1);
        assert_eq!(written, b"irst\x81\x06second");
        assert_eq!(room.messages, 2);
    }

    fn capacity(outgoing: &Outgoing) -> Option<usize> {
        let frames = outgoing.frames.as_ref();
        frames.map(|frames| frames.tail.capacity())
    }

    #[test]
    fn keeps_no_shared_buffer_for_a_few_bytes_that_wait() {
        let mut outgoing = Outgoing {
            frames: Some(Box::new(Frames::new(Role::Server, SEGMENT))),
            ..Outgoing::default()
        };
        outgoing.push(&mut Message::text("x".repeat(100)));
        let _ = outgoing.advance(1);
        outgoing.give_back();
        assert_eq!(capacity(&outgoing), Some(102));
        let (written, room) = drain(&mut outgoing, 10);
        assert_eq!((written.len(), room.messages), (101, 1));
        // The next one has it again.
        outgoing.give_back();
        outgoing.lend();
        assert_eq!(capacity(&outgoing), Some(SEGMENT));
    }

    #[test]
    fn keeps_nothing_of_what_was_appended_elsewhere() {
        for queued in [0, 1] {
            let mut first = Outgoing::default();
            for _ in 0..queued {
                first.push(&mut Message::text("first"));
            }
            let mut second = Outgoing::default();
            second.push(&mut Message::binary(vec![1; LARGE]));
            first.append(&mut second);
            assert!(second.frames.is_none());
        }
    }

    #[test]
    fn keeps_nothing_when_it_is_empty() {
        let mut outgoing = Outgoing::default();
        for _ in 0..100 {
            outgoing.push(&mut Message::binary(vec![0; 3000]));
        }
        let _ = drain(&mut outgoing, usize::MAX);
        outgoing.give_back();
        assert!(outgoing.frames.is_none());
    }

    /// Also where the memory is used by both sides of a thread in turn.
    #[test]
    fn uses_memory_again_without_what_was_in_it() {
        for role in [Role::Server, Role::Client, Role::Server] {
            let mut outgoing = Outgoing::new(role, false);
            outgoing.lend();
            assert!(outgoing.is_empty());
            outgoing.push(&mut Message::text("small"));
            outgoing.push(&mut Message::binary(vec![0; LARGE]));
            let half = outgoing.load().bytes / 2;
            let _ = outgoing.advance(half);
            // As at the end of a connection that was lost.
            let mut frames = outgoing.frames.take().unwrap();
            frames.clear();
            frame_pool::give_back(frames);
            outgoing.lend();
            assert!(outgoing.is_empty());
            outgoing.push_ping(b"");
            let len = if role == Role::Client { 6 } else { 2 };
            assert_eq!(drain(&mut outgoing, usize::MAX).0.len(), len);
            outgoing.give_back();
        }
    }

    /// Splits what a client wrote into the heads of its frames, without the keys, and the payloads.
    fn unmasked(mut bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            assert_ne!(bytes[1] & 0x80, 0, "not masked");
            let (width, len) = match bytes[1] & 0x7f {
                126 => (2, u16::from_be_bytes([bytes[2], bytes[3]]).into()),
                127 => (8, usize::from_be_bytes(bytes[2..10].try_into().unwrap())),
                len => (0, len.into()),
            };
            let (head, rest) = bytes.split_at(2 + width);
            let (key, rest) = rest.split_at(4);
            let (payload, rest) = rest.split_at(len);
            let mut payload = payload.to_vec();
            Mask::new(key.try_into().unwrap()).apply(&mut payload);
            frames.push((head.to_vec(), payload));
            bytes = rest;
        }
        frames
    }

    #[test]
    fn masks_what_a_client_sends() {
        let mut outgoing = Outgoing::new(Role::Client, false);
        let payload = |len: usize| -> Vec<u8> { (0..len).map(|at| at as u8).collect() };
        let cases = [
            (0, vec![0x82, 0x80]),
            (125, vec![0x82, 0x80 | 125]),
            (126, vec![0x82, 0x80 | 126, 0, 126]),
            (LARGE, vec![0x82, 0x80 | 126, 0x10, 0]),
            (SEGMENT, vec![0x82, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for (len, _) in &cases {
            outgoing.push(&mut Message::binary(payload(*len)));
        }
        outgoing.push_ping(b"ping");
        outgoing.push_close(None);
        let load = outgoing.load();
        let (written, room) = drain(&mut outgoing, usize::MAX);
        assert_eq!((room, load.bytes), (load, written.len()));
        let mut frames = unmasked(&written);
        assert_eq!(frames.pop(), Some((vec![0x88, 0x80], vec![])));
        assert_eq!(frames.pop(), Some((vec![0x89, 0x84], b"ping".to_vec())));
        let cases = cases.map(|(len, head)| (head, payload(len)));
        assert!(frames == cases, "other frames than were pushed");
    }

    #[test]
    fn gathers_masked_frames_without_moving_them_again_and_again() {
        let mut outgoing = Outgoing::new(Role::Client, false);
        let mut moves = 0;
        let mut place = tail(&outgoing).as_ptr();
        for _ in 0..1000 {
            outgoing.push(&mut Message::text("x".repeat(32)));
            moves += usize::from(tail(&outgoing).as_ptr() != place);
            place = tail(&outgoing).as_ptr();
        }
        assert!(moves < 20, "{moves} moves");
    }
}
