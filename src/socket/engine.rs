//! The seam: turns the stream's bytes into events and frames into bytes on the stream.
//!
//! What is read goes through a buffer that all connections of a thread share: it is borrowed for
//! the time of one poll, so an idle connection holds none, and the bytes stay in the cache. What
//! has not been decoded when the poll ends is kept aside.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::codec::{Decoder, Event, Load, Outgoing, Rules, Violation};

/// The size of the shared buffer: what one read can take.
const BUFFER: usize = 64 * 1024;
/// The buffers that one write can take.
const SLICES: usize = 32;

thread_local! {
    /// Empty while a connection has it.
    static SHARED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What arrived.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Whatever it is, it is whole.
    Event(Event),
    /// The end of the stream.
    End,
    /// Something that ends the conversation.
    Violation(Violation),
    /// So many bytes, in which nothing is whole yet or which are not decoded yet.
    Bytes(usize),
}

/// A stream that speaks frames.
#[derive(Debug)]
pub(super) struct Engine<IO> {
    io: IO,
    decoder: Decoder,
    input: Input,
    /// Frames that are being written.
    pub(super) output: Outgoing,
    /// The stream itself may hold back some of what it was given.
    unflushed: bool,
}

/// Bytes that were read and not decoded yet: `buffer[start..end]`.
#[derive(Debug, Default)]
struct Input {
    /// The shared buffer, or a copy of what was left in it.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Engine<IO> {
    pub(super) fn new(io: IO, rules: Rules) -> Self {
        Self {
            io,
            decoder: Decoder::new(rules),
            input: Input::default(),
            output: Outgoing::default(),
            unflushed: false,
        }
    }

    /// Tells whether the stream takes one buffer at a time, so that frames are best contiguous.
    pub(super) fn is_contiguous(&self) -> bool {
        !self.io.is_write_vectored()
    }

    /// Returns what arrived next, reading when all that was read before is decoded.
    pub(super) fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<io::Result<Incoming>> {
        let mut undecoded = &self.input.buffer[self.input.start..self.input.end];
        let decoded = self.decoder.decode(&mut undecoded, now);
        self.input.start = self.input.end - undecoded.len();
        Poll::Ready(Ok(match decoded {
            Ok(Some(event)) => Incoming::Event(event),
            Err(violation) => Incoming::Violation(violation),
            Ok(None) => match ready!(self.poll_read(cx))? {
                0 => Incoming::End,
                bytes => Incoming::Bytes(bytes),
            },
        }))
    }

    /// Tells whether a message is on its way.
    pub(super) fn is_receiving(&self) -> bool {
        self.decoder.deadline().is_some()
    }

    /// Gives what is on its way as much longer, in which nothing was read.
    pub(super) fn excuse(&mut self, longer: Duration) {
        self.decoder.excuse(longer);
    }

    /// Returns when what is on its way becomes too slow.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.decoder.deadline()
    }

    /// Reads bytes, throws them away with what is not decoded yet, and returns how many they were.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = ready!(self.poll_read(cx));
        self.input.start = self.input.end;
        Poll::Ready(read)
    }

    /// Replaces what is left in the buffer by what is read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.borrow();
        let mut buffer = ReadBuf::new(&mut self.input.buffer);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        self.input.end = buffer.filled().len();
        Poll::Ready(Ok(self.input.end))
    }

    /// Writes some of the output. Ready with what that made room for, which is nothing when there
    /// is nothing left to write.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Load>> {
        if self.output.is_empty() {
            if self.unflushed {
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                self.unflushed = false;
            }
            return Poll::Ready(Ok(Load::default()));
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let io = Pin::new(&mut self.io);
        let written = match self.output.slices(&mut slices) {
            [one] => ready!(io.poll_write(cx, one))?,
            many => ready!(io.poll_write_vectored(cx, many))?,
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        Poll::Ready(Ok(self.output.advance(written)))
    }

    /// Tells whether the peer has gone, as far as the stream knows without being read.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Err(error)) => Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        }
    }

    /// Ends the writing half of the stream, which leaves the reading half open.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Gives the shared buffer back; to be called when a poll ends.
    pub(super) fn rest(&mut self) {
        self.input.rest();
    }
}

impl Input {
    /// Makes `buffer` one to read into. What was in it has been decoded.
    fn borrow(&mut self) {
        self.start = 0;
        self.end = 0;
        if self.buffer.len() < BUFFER {
            self.buffer = SHARED.take();
            // Zeroed once a thread, not once a read. Empty also when another connection is being
            // polled further up this very stack.
            self.buffer.resize(BUFFER, 0);
        }
    }

    fn rest(&mut self) {
        if self.buffer.len() < BUFFER {
            return;
        }
        let left = self.buffer[self.start..self.end].to_vec();
        SHARED.set(mem::take(&mut self.buffer));
        self.start = 0;
        self.end = left.len();
        self.buffer = left;
    }
}
