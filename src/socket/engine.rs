//! The seam: turns the stream's bytes into events and frames into bytes on the stream.
//!
//! What is read goes through a buffer that all connections of a thread share: it is borrowed for
//! the time of one poll, so an idle connection holds none, and the bytes stay in the cache. What
//! has not been decoded when the poll ends is kept aside.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::codec::{Decoder, Event, Load, Next, Outgoing, Rules, Violation};

/// The size of the shared buffer: what one read can take.
const BUFFER: usize = 64 * 1024;
/// A shared buffer that has grown beyond this is not kept.
const GATHERED: usize = 512 * 1024;
/// The buffers that one write can take.
const SLICES: usize = 32;

thread_local! {
    /// To read into; gone while a connection has it.
    static SHARED: Cell<Option<Box<Input>>> = const { Cell::new(None) };
    /// To gather frames in, as well.
    static GATHER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
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

/// Messages that were answered with themselves, and the bytes of their payloads.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    pub(super) messages: usize,
    pub(super) received: usize,
    pub(super) sent: usize,
}

/// A stream that speaks frames.
#[derive(Debug)]
pub(super) struct Engine<IO> {
    io: IO,
    decoder: Decoder,
    /// What was read and is not decoded yet; mostly nothing.
    input: Option<Box<Input>>,
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
    /// Makes one for a stream of which `early` has been read already.
    pub(super) fn new(io: IO, early: &[u8], rules: Rules) -> Self {
        Self {
            io,
            output: Outgoing::new(rules.role),
            decoder: Decoder::new(rules),
            input: Input::holding(early),
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
        let mut undecoded = self.input.as_deref().map_or(&[][..], Input::bytes);
        let decoded = self.decoder.decode(&mut undecoded, now);
        let left = undecoded.len();
        self.keep(left);
        match decoded {
            Ok(Some(event)) => Poll::Ready(Ok(Incoming::Event(event))),
            Err(violation) => Poll::Ready(Ok(Incoming::Violation(violation))),
            Ok(None) => self.poll_bytes(cx),
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        Poll::Ready(Ok(match ready!(self.poll_read(cx))? {
            0 => Incoming::End,
            bytes => Incoming::Bytes(bytes),
        }))
    }

    /// Answers messages that are whole in what was read, at most `most`, with themselves, text
    /// behind `prefix`, and counts them in `repeated`; then does as
    /// [`poll_incoming`](Self::poll_incoming) does.
    ///
    /// Nothing is allocated for such a message, and it is copied once, from the one shared buffer
    /// to the other.
    pub(super) fn poll_repeated(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        prefix: &str,
        most: usize,
        repeated: &mut Repeated,
    ) -> Poll<io::Result<Incoming>> {
        self.output.lend(|| GATHER.take());
        let mut undecoded = self.input.as_deref().map_or(&[][..], Input::bytes);
        let stopped = loop {
            if repeated.messages == most {
                break Some(Incoming::Bytes(0));
            }
            match self.decoder.next(&mut undecoded, now) {
                Ok(None) => break None,
                Ok(Some(Next::Event(event))) => break Some(Incoming::Event(event)),
                Ok(Some(Next::Whole(whole))) => match self.output.repeat(whole, prefix) {
                    Ok(sent) => {
                        repeated.messages += 1;
                        repeated.received += whole.len();
                        repeated.sent += sent;
                    }
                    Err(violation) => break Some(Incoming::Violation(violation)),
                },
                Err(violation) => break Some(Incoming::Violation(violation)),
            }
        };
        let left = undecoded.len();
        self.keep(left);
        match stopped {
            Some(incoming) => Poll::Ready(Ok(incoming)),
            None => self.poll_bytes(cx),
        }
    }

    /// Returns how many bytes were inflated since the last call.
    pub(super) fn take_inflated(&mut self) -> usize {
        self.decoder.take_inflated()
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
        self.keep(0);
        Poll::Ready(read)
    }

    /// Replaces what is left in the buffer by what is read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let input = Input::borrowed(&mut self.input);
        let mut buffer = ReadBuf::new(&mut input.buffer);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        input.end = buffer.filled().len();
        Poll::Ready(Ok(input.end))
    }

    /// Takes all but the last `left` bytes of the input for decoded.
    fn keep(&mut self, left: usize) {
        if let Some(input) = &mut self.input {
            input.start = input.end - left;
        }
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

    /// Gives the shared buffers back; to be called when a poll ends.
    pub(super) fn rest(&mut self) {
        if let Some(input) = self.input.take() {
            self.input = input.rest();
        }
        if let Some(buffer) = self.output.give_back() {
            if buffer.capacity() <= GATHERED {
                GATHER.set(buffer);
            }
        }
    }
}

impl Input {
    /// Makes one of bytes that are there already, if there are any.
    fn holding(bytes: &[u8]) -> Option<Box<Self>> {
        let input = Self {
            buffer: bytes.to_vec(),
            start: 0,
            end: bytes.len(),
        };
        (!bytes.is_empty()).then(|| Box::new(input))
    }

    /// Makes `slot` one to read into. What was in it has been decoded.
    fn borrowed(slot: &mut Option<Box<Self>>) -> &mut Self {
        if slot.as_ref().is_none_or(|input| !input.is_shared()) {
            *slot = SHARED.take();
        }
        let input = slot.get_or_insert_default();
        input.start = 0;
        input.end = 0;
        // Zeroed once a thread, not once a read. Empty also when another connection is being
        // polled further up this very stack.
        input.buffer.resize(BUFFER, 0);
        input
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn is_shared(&self) -> bool {
        self.buffer.len() >= BUFFER
    }

    /// Gives the buffer back if it is the shared one, and returns what was left in it.
    fn rest(self: Box<Self>) -> Option<Box<Self>> {
        if !self.is_shared() {
            return (self.start < self.end).then_some(self);
        }
        let left = Self::holding(self.bytes());
        SHARED.set(Some(self));
        left
    }
}
