//! Bytes that were read and are not decoded yet.
//!
//! All connections of a thread read into one shared buffer. A connection borrows it for one poll,
//! so an idle connection holds no buffer and the bytes stay in the cache. Bytes that are not
//! decoded at the end of the poll are copied to a buffer of the connection.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

/// The size of the shared buffer, and so the most bytes of one read.
const BUFFER: usize = 64 * 1024;
/// The head of a masked frame whose payload has between 126 bytes and 64 KiB.
const HEAD: usize = 8;
/// The size of a cache line. The payload after such a head starts at the beginning of a line:
/// unmasking is twice as fast there as across two lines.
const CACHE_LINE: usize = 64;

thread_local! {
    /// Empty while a connection has borrowed the buffer.
    static SHARED: Cell<Option<Box<Input>>> = const { Cell::new(None) };
}

/// Bytes that were read and not decoded yet: `buffer[start..end]`.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The shared buffer, or the connection's copy of bytes that were left in it.
    buffer: Vec<u8>,
    /// Where reads begin, if this is the shared buffer.
    base: Option<usize>,
    start: usize,
    end: usize,
    /// Holds small messages that arrive together. Messages of different connections never share it.
    slab: BytesMut,
}

impl Input {
    /// Makes an input of `bytes`, or `None` if they are empty.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Box<Self>> {
        let input = Self {
            buffer: bytes.to_vec(),
            base: None,
            start: 0,
            end: bytes.len(),
            slab: BytesMut::new(),
        };
        (!bytes.is_empty()).then(|| Box::new(input))
    }

    /// Borrows the shared buffer.
    pub(super) fn shared() -> Box<Self> {
        SHARED.take().unwrap_or_else(Self::new_shared)
    }

    /// Makes a shared buffer, on the first use on this thread, and when a connection further up this stack has borrowed
    /// it. So the buffer is zeroed once a thread, not once a read.
    #[cold]
    fn new_shared() -> Box<Self> {
        let buffer = vec![0; CACHE_LINE + BUFFER];
        let to_line = buffer[HEAD..].as_ptr().align_offset(CACHE_LINE);
        Box::new(Self {
            buffer,
            base: Some(to_line.min(CACHE_LINE)),
            ..Self::default()
        })
    }

    /// Reads once. The bytes replace the previous ones.
    pub(super) fn poll_fill(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let start = self.base.unwrap_or(0);
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

    /// Drops all but the last `left` bytes: they are decoded.
    pub(super) const fn keep_last(&mut self, left: usize) {
        self.start = self.end - left;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    const fn is_shared(&self) -> bool {
        self.base.is_some()
    }

    /// Gives the shared buffer back if `slot` holds it, and leaves a copy of the bytes that are not
    /// decoded.
    pub(super) fn end_poll(slot: &mut Option<Box<Self>>) {
        let Some(input) = slot.take() else { return };
        match (input.is_shared(), input.is_empty()) {
            (true, true) => input.give_back(),
            (true, false) => {
                *slot = Self::from_bytes(input.bytes());
                input.give_back();
            }
            (false, true) => {}
            (false, false) => *slot = Some(input),
        }
    }

    /// Gives the shared buffer back and drops the bytes in it.
    pub(super) fn give_back(mut self: Box<Self>) {
        if self.is_shared() {
            if self.slab.capacity() > 0 {
                self.slab = BytesMut::new();
            }
            SHARED.set(Some(self));
        }
    }

    /// Takes the shared buffer out of `slot` if all its bytes are decoded. A private copy in that
    /// state is dropped.
    pub(super) fn take_empty(slot: &mut Option<Box<Self>>) -> Option<Box<Self>> {
        let empty = slot.take_if(|input| input.is_empty())?;
        empty.is_shared().then_some(empty)
    }
}
