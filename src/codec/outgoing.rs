//! The encoder: makes the bytes to write from messages and control frames.
//!
//! The bytes are in memory that the connections of a thread share.

#[cfg(test)]
mod tests;

use std::{io::IoSlice, mem};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Control as ControlCode;

use super::{Load, Role, frame_pool, frames::Frames};
use crate::words::{CloseFrame, Message};

/// The queue of outgoing frames of a connection.
///
/// Its memory is taken from the pool of the thread and given back when all frames are written.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    frames: Option<Box<Frames>>,
    role: Role,
    contiguous: bool,
}

impl Outgoing {
    /// Makes an empty queue for this role. If `contiguous`, payloads of every size are copied, for streams that
    /// write one buffer at a time.
    pub(crate) const fn new(role: Role, contiguous: bool) -> Self {
        Self {
            frames: None,
            role,
            contiguous,
        }
    }

    /// Queues a message. The payload of a large one is moved, which leaves an empty message.
    #[inline(always)]
    pub(crate) fn push(&mut self, message: &mut Message) {
        let contiguous = self.contiguous;
        self.frames().push(message, contiguous);
    }

    /// Queues a message that other connections send, too.
    #[cfg(feature = "hub")]
    #[inline]
    pub(crate) fn push_shared(&mut self, shared: &super::SharedMessage) {
        let contiguous = self.contiguous;
        self.frames().push_shared(shared, contiguous);
    }

    /// Queues messages that other connections send, too, without a copy. Returns `false` if the stream needs one, or
    /// if a copy costs less.
    #[cfg(feature = "hub")]
    pub(crate) fn push_shared_frames(&mut self, shared: &super::SharedFrames) -> bool {
        if self.contiguous || self.role != Role::Server || !shared.are_worth_sharing() {
            return false;
        }
        self.frames().push_shared_frames(shared);
        true
    }

    /// Queues messages that other connections send, too. Their first `written` bytes are written already.
    #[cfg(feature = "hub")]
    pub(crate) fn push_rest(&mut self, shared: &super::SharedFrames, written: usize) {
        self.frames().push_shared_frames(shared);
        self.advance(written);
    }

    /// Queues a message by its `compressed` payload (RFC 7692 §6.1). A large payload is shared.
    pub(crate) fn push_compressed(&mut self, is_text: bool, compressed: &Bytes) {
        let contiguous = self.contiguous;
        self.frames()
            .push_compressed(is_text, compressed, contiguous);
    }

    /// Queues a ping.
    pub(crate) fn push_ping(&mut self, payload: &[u8]) {
        self.push_control(ControlCode::Ping, payload);
    }

    /// Queues a pong.
    pub(crate) fn push_pong(&mut self, payload: &[u8]) {
        self.push_control(ControlCode::Pong, payload);
    }

    /// Queues a Close. It has no payload if there is no `frame` (RFC 6455 §5.5.1).
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
        self.acquire_memory();
        self.frames().push_control(code, payload);
    }

    /// Swaps the queued frames with those of `other`.
    #[inline]
    pub(crate) fn swap(&mut self, other: &mut Self) {
        mem::swap(&mut self.frames, &mut other.frames);
    }

    /// Moves all frames of `other` to the end of this queue.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            self.swap(other);
        } else if let Some(mut others) = other.frames.take_if(|frames| !frames.load().is_empty()) {
            self.frames().append(&mut others);
            others.clear();
            frame_pool::give_back(others);
        }
    }

    /// Returns the amount of queued data.
    #[inline]
    pub(crate) fn load(&self) -> Load {
        let frames = self.frames.as_ref();
        frames.map_or(Load::default(), |frames| frames.load())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.load().is_empty()
    }

    /// Fills `slices` with the next bytes to write, and returns the used ones. There is at least one unless the
    /// queue is empty.
    pub(crate) fn slices<'a, 's>(&'a self, slices: &'s mut [IoSlice<'a>]) -> &'s [IoSlice<'a>] {
        let used = match &self.frames {
            Some(frames) => frames.segments.fill(frames.unwritten_tail(), slices),
            None => 0,
        };
        &slices[..used]
    }

    /// Returns the bytes to write if all of them are collected: no payload is kept as it was sent.
    #[inline]
    pub(crate) fn collected(&self) -> Option<&[u8]> {
        match &self.frames {
            None => Some(&[]),
            Some(frames) if frames.segments.is_empty() => Some(frames.unwritten_tail()),
            Some(_) => None,
        }
    }

    /// Returns all bytes to write if they are in one buffer.
    #[inline]
    pub(crate) fn only_slice(&self) -> Option<&[u8]> {
        let frames = self.frames.as_ref()?;
        let tail = frames.unwritten_tail();
        if frames.segments.is_empty() {
            return Some(tail);
        }
        match tail.is_empty() {
            true => frames.segments.only_slice(),
            false => None,
        }
    }

    /// Removes `written` bytes, and returns the amount of data that is no longer queued.
    #[inline]
    pub(crate) fn advance(&mut self, written: usize) -> Load {
        let frames = self.frames.as_mut();
        frames.map_or(Load::default(), |frames| frames.advance(written))
    }

    /// Drops all output except for its first `bytes`, which must be the rest of one frame.
    pub(crate) fn keep(&mut self, bytes: usize) {
        let Some(mut frames) = self.frames.take() else {
            return;
        };
        let mut slices = [IoSlice::new(&[]); 4];
        let used = frames.segments.fill(frames.unwritten_tail(), &mut slices);
        let mut rest = Vec::with_capacity(bytes);
        for slice in &slices[..used] {
            let missing = bytes - rest.len();
            rest.extend_from_slice(&slice[..slice.len().min(missing)]);
        }
        frames.clear();
        frame_pool::give_back(frames);
        if !rest.is_empty() {
            self.frames = Some(Box::new(Frames::holding(self.role, rest)));
        }
    }

    /// Takes memory from the pool, if there is none yet.
    #[inline]
    pub(crate) fn acquire_memory(&mut self) {
        if self.frames.is_none() {
            self.frames = Some(frame_pool::take(self.role));
        }
    }

    /// Gives unused memory back to the pool. A few queued bytes are copied to a buffer of their size.
    #[inline(always)]
    pub(crate) fn release_memory(&mut self) {
        if self.frames.is_some() {
            self.release_frames();
        }
    }

    fn release_frames(&mut self) {
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
