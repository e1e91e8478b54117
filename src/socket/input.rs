//! Bytes that were read and are not decoded yet.
//!
//! What is read goes through a buffer that all connections of a thread share: it is borrowed for
//! the time of one poll, so an idle connection holds none, and the bytes stay in the cache. Bytes
//! that are not decoded when the poll ends are copied aside.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

/// The size of the shared buffer: the most that one read can bring.
const BUFFER: usize = 64 * 1024;
/// The head of a frame that has 126 bytes and more, but less than 64 KiB.
const HEAD: usize = 8;
/// A line of the cache. The payload behind such a head is read to the start of one: vectors that lie
/// across two of them are unmasked at half the speed.
const CACHE_LINE: usize = 64;

thread_local! {
    /// Gone while a connection has it.
    static SHARED: Cell<Option<Box<Input>>> = const { Cell::new(None) };
}

/// Bytes that were read and not decoded yet: `buffer[start..end]`.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The shared buffer, or a copy of what was left in it.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// For small messages that come together. Those of several connections never share it.
    slab: BytesMut,
}

impl Input {
    /// Makes one of bytes that are there already, if there are any.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Box<Self>> {
        let input = Self {
            buffer: bytes.to_vec(),
            start: 0,
            end: bytes.len(),
            slab: BytesMut::new(),
        };
        (!bytes.is_empty()).then(|| Box::new(input))
    }

    /// Takes the shared buffer, to read into.
    pub(super) fn shared() -> Box<Self> {
        let mut input = SHARED.take().unwrap_or_default();
        // Zeroed once a thread, not once a read. Empty also when another connection is being
        // polled further up this very stack.
        input.buffer.resize(CACHE_LINE + BUFFER, 0);
        input
    }

    /// Reads once, in place of what was there.
    pub(super) fn poll_fill(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let start = self.buffer[HEAD..]
            .as_ptr()
            .align_offset(CACHE_LINE)
            .min(CACHE_LINE);
        (self.start, self.end) = (start, start);
        let mut buffer = ReadBuf::new(&mut self.buffer[start..start + BUFFER]);
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        self.end = start + read;
        Poll::Ready(Ok(read))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Returns the bytes that are not decoded yet, and the buffer for small messages among them.
    pub(super) fn bytes_and_slab(&mut self) -> (&[u8], &mut BytesMut) {
        (&self.buffer[self.start..self.end], &mut self.slab)
    }

    /// Takes all but the last `left` bytes for decoded.
    pub(super) const fn keep_last(&mut self, left: usize) {
        self.start = self.end - left;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn is_shared(&self) -> bool {
        self.buffer.len() >= CACHE_LINE + BUFFER
    }

    /// Gives the shared buffer back if `slot` has it, and leaves a copy of what was left in it.
    pub(super) fn end_poll(slot: &mut Option<Box<Self>>) {
        let Some(input) = slot.take() else { return };
        if input.is_shared() {
            *slot = Self::from_bytes(input.bytes());
            input.give_back();
        } else if !input.is_empty() {
            *slot = Some(input);
        }
    }

    /// Gives the shared buffer back, without what is in it.
    pub(super) fn give_back(mut self: Box<Self>) {
        if self.is_shared() {
            if self.slab.capacity() > 0 {
                self.slab = BytesMut::new();
            }
            SHARED.set(Some(self));
        }
    }

    /// Takes the buffer out of `slot` if there is nothing in it, and it can be read into.
    pub(super) fn take_empty(slot: &mut Option<Box<Self>>) -> Option<Box<Self>> {
        let empty = slot.take_if(|input| input.is_empty())?;
        empty.is_shared().then_some(empty)
    }
}
