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

use tokio::io::{AsyncRead, ReadBuf};

use super::io::Io;
use crate::codec::{Assembly, Decoder, Event, Load, Next, Outgoing, Rules, Violation, repeat};

/// The size of the shared buffer: what one read can take.
const BUFFER: usize = 64 * 1024;
/// The head of a frame that has 126 bytes and more, but less than 64 KiB.
const HEAD: usize = 8;
/// A line of the cache. What follows such a head is read to the start of one: vectors that lie across
/// two of them are unmasked at half the speed.
const LINE: usize = 64;
/// The buffers that one write can take.
const SLICES: usize = 32;

thread_local! {
    /// To read into; gone while a connection has it.
    static SHARED: Cell<Option<Box<Input>>> = const { Cell::new(None) };
}

/// What arrived.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Whatever it is, it is whole, with so many bytes that were read just now.
    Event(Event, usize),
    /// The end of the stream.
    End,
    /// Something that ends the conversation.
    Violation(Violation),
    /// So many bytes, in which nothing is whole yet or which are not decoded yet.
    Bytes(usize),
}

/// What a read brought.
enum Arrived {
    /// The end of a message, so many bytes.
    Message(Box<Assembly>, usize),
    Other(Incoming),
}

impl Incoming {
    fn assembled(message: Assembly, read: usize) -> Self {
        match message.into_message() {
            Ok(message) => Self::Event(Event::Message(message), read),
            Err(violation) => Self::Violation(violation),
        }
    }
}

/// Messages that were answered with themselves, and the bytes of their payloads.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    pub(super) messages: usize,
    pub(super) received: usize,
    pub(super) sent: usize,
}

/// What came of reading once and repeating in place.
#[derive(Debug)]
pub(super) struct InPlace {
    /// Messages that were repeated.
    pub(super) messages: usize,
    /// Bytes of their payloads.
    pub(super) bytes: usize,
    /// Bytes that were read.
    pub(super) read: usize,
    /// All of it was answered, and all answers are written.
    pub(super) rests: bool,
    /// What came instead of messages, or behind them.
    pub(super) stopped: Option<Box<io::Result<Incoming>>>,
}

impl InPlace {
    #[cold]
    fn stopped(incoming: io::Result<Incoming>) -> Self {
        Self {
            messages: 0,
            bytes: 0,
            read: 0,
            rests: false,
            stopped: Some(Box::new(incoming)),
        }
    }
}

/// The buffer that is shared, taken for the time of one poll.
#[derive(Debug)]
pub(super) struct Lent(Box<Input>);

impl Lent {
    #[inline]
    pub(super) fn take() -> Self {
        let mut slot = None;
        Input::borrowed(&mut slot);
        Self(slot.unwrap_or_default())
    }

    #[inline]
    pub(super) fn give_back(self) {
        SHARED.set(Some(self.0));
    }
}

/// A stream that speaks frames. Its fields are in this order in memory, as those of the driver are.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Engine<IO> {
    io: IO,
    decoder: Decoder,
    /// The stream itself may hold back some of what it was given.
    unflushed: bool,
    /// What was read and is not decoded yet; mostly nothing.
    input: Option<Box<Input>>,
    /// Frames that are being written.
    pub(super) output: Outgoing,
}

/// Bytes that were read and not decoded yet: `buffer[start..end]`.
#[derive(Debug, Default)]
struct Input {
    /// The shared buffer, or a copy of what was left in it.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<IO: Io> Engine<IO> {
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
        if self.input.is_some() || !self.decoder.is_between_messages() {
            let mut undecoded = self.input.as_deref().map_or(&[][..], Input::bytes);
            let decoded = self.decoder.decode(&mut undecoded, now);
            let left = undecoded.len();
            self.keep(left);
            match decoded {
                Ok(Some(event)) => return Poll::Ready(Ok(Incoming::Event(event, 0))),
                Err(violation) => return Poll::Ready(Ok(Incoming::Violation(violation))),
                Ok(None) => {}
            }
        }
        Poll::Ready(Ok(match ready!(self.poll_bytes(cx, now))? {
            Arrived::Message(message, read) => Incoming::assembled(*message, read),
            Arrived::Other(incoming) => incoming,
        }))
    }

    /// Reads, a large payload to its place.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<Arrived>> {
        let Some(mut rooms) = self.decoder.place() else {
            return Poll::Ready(Ok(Arrived::Other(match ready!(self.poll_read(cx))? {
                0 => Incoming::End,
                bytes => Incoming::Bytes(bytes),
            })));
        };
        let read = self.io.poll_read_vectored(cx, rooms.slices());
        // Nothing has come: not yet, never again, or with an error.
        if !matches!(read, Poll::Ready(Ok(1..))) {
            self.decoder.give_up_place();
        }
        let read = ready!(read)?;
        if read == 0 {
            return Poll::Ready(Ok(Arrived::Other(Incoming::End)));
        }
        Poll::Ready(Ok(match self.decoder.placed(read, now) {
            Ok(Some(message)) => Arrived::Message(message, read),
            Ok(None) => Arrived::Other(Incoming::Bytes(read)),
            Err(violation) => Arrived::Other(Incoming::Violation(violation)),
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
        self.output.lend();
        let mut undecoded = self.input.as_deref().map_or(&[][..], Input::bytes);
        let mut assembled = None;
        let stopped = loop {
            if repeated.messages == most {
                break Some(Incoming::Bytes(0));
            }
            match self.decoder.next(&mut undecoded, now) {
                Ok(None) => break None,
                Ok(Some(Next::Event(event))) => break Some(Incoming::Event(event, 0)),
                Ok(Some(Next::Whole(whole))) => match self.output.repeat(whole, prefix) {
                    Ok(sent) => {
                        repeated.messages += 1;
                        repeated.received += whole.len();
                        repeated.sent += sent;
                    }
                    Err(violation) => break Some(Incoming::Violation(violation)),
                },
                Ok(Some(Next::Assembled(message))) => {
                    assembled = Some(message);
                    break None;
                }
                Err(violation) => break Some(Incoming::Violation(violation)),
            }
        };
        let left = undecoded.len();
        self.keep(left);
        if let Some(incoming) = stopped {
            return Poll::Ready(Ok(incoming));
        }
        let arrived = match assembled {
            Some(message) => Arrived::Message(message, 0),
            None => ready!(self.poll_bytes(cx, now))?,
        };
        Poll::Ready(Ok(match arrived {
            Arrived::Message(message, read) => {
                self.repeat_assembled(*message, read, prefix, repeated)
            }
            Arrived::Other(incoming) => incoming,
        }))
    }

    /// Answers a message with itself, as it is if it is written so.
    fn repeat_assembled(
        &mut self,
        message: Assembly,
        read: usize,
        prefix: &str,
        repeated: &mut Repeated,
    ) -> Incoming {
        let len = message.len();
        let is_prefixed = message.is_text() && !prefix.is_empty();
        // Where one buffer is written at a time, each piece is a write of its own.
        if is_prefixed || (self.is_contiguous() && len < BUFFER) {
            return Incoming::assembled(message, read);
        }
        self.output.push_assembled(message);
        repeated.messages += 1;
        repeated.received += len;
        repeated.sent += len;
        Incoming::Bytes(read)
    }

    /// Tells whether the rest of a large payload is to come, which costs little to take.
    pub(super) fn is_within_large(&self) -> bool {
        self.decoder.is_within_large()
    }

    /// Returns how long messages may be that are [repeated in place](Self::poll_in_place), if they may
    /// be so: everything that was read is decoded and everything that was sent is written, after
    /// [`rest`](Self::rest).
    pub(super) fn in_place_limit(&self) -> Option<usize> {
        let is_written = self.output.is_empty() && !self.unflushed;
        let is_at_rest = self.input.is_none() && is_written;
        self.decoder.usual_limit().filter(|_| is_at_rest)
    }

    /// Reads once, into a buffer that was [lent](Lent::take), and answers messages with themselves,
    /// at most `most` of `limit` bytes or less, in place, as [`poll_repeated`](Self::poll_repeated) does
    /// otherwise.
    ///
    /// Messages have to be [allowed](Self::in_place_limit) that, and are so again if what came
    /// [rests](InPlace::rests). If it does not, the buffer is for [`take`](Self::take): there is more to
    /// decode in it, or what the stream did not take is to be written.
    // Of the engine it needs nothing but the stream.
    #[inline(always)]
    pub(super) fn poll_in_place(
        &mut self,
        cx: &mut Context<'_>,
        Lent(input): &mut Lent,
        limit: usize,
        texts: bool,
        most: usize,
    ) -> Poll<InPlace> {
        let read = match ready!(input.poll_fill(&mut self.io, cx)) {
            Ok(0) => return Poll::Ready(InPlace::stopped(Ok(Incoming::End))),
            Ok(read) => read,
            Err(error) => return Poll::Ready(InPlace::stopped(Err(error))),
        };
        let bytes = &mut input.buffer[input.start..input.end];
        let repeats = repeat(bytes, limit, texts, most);
        let frames = &bytes[repeats.frames];
        input.start += repeats.taken;
        let mut is_flushed = true;
        if !frames.is_empty() {
            // Errors are left to be met again, so that a Close behind the messages is heard first.
            let written = match self.io.poll_write_eagerly(cx, frames) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(_)) | Poll::Pending => 0,
            };
            // What is not written is not flushed.
            is_flushed = written == frames.len()
                && matches!(Pin::new(&mut self.io).poll_flush(cx), Poll::Ready(Ok(())));
            if !is_flushed {
                self.unflushed = true;
                let rest = &frames[written..];
                if !rest.is_empty() {
                    self.output.push_frames(rest, repeats.messages);
                }
            }
        }
        let violation = repeats.violation.map(Incoming::Violation);
        Poll::Ready(InPlace {
            messages: repeats.messages,
            bytes: repeats.bytes,
            read,
            rests: violation.is_none() && repeats.taken == read && is_flushed,
            stopped: violation.map(|violation| Box::new(Ok(violation))),
        })
    }

    /// Takes over a buffer with what is left in it.
    pub(super) fn take(&mut self, Lent(input): Lent) {
        self.input = Some(input);
    }

    /// Returns the work of inflating since the last call, in bytes.
    pub(super) fn take_work(&mut self) -> usize {
        self.decoder.take_work()
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
        Input::borrowed(&mut self.input).poll_fill(&mut self.io, cx)
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
        let written = match self.output.slices(&mut slices) {
            [one] => ready!(self.io.poll_write_eagerly(cx, one))?,
            many => ready!(Pin::new(&mut self.io).poll_write_vectored(cx, many))?,
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        Poll::Ready(Ok(self.output.advance(written)))
    }

    /// Writes some of the output to a socket that tokio takes for full, and returns what that made
    /// room for: nothing if the socket is full.
    pub(super) fn write_without_readiness(&mut self) -> io::Result<Load> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let written = self
            .io
            .write_without_readiness(self.output.slices(&mut slices))?;
        self.unflushed |= written > 0;
        Ok(self.output.advance(written))
    }

    /// Ready when the peer has ended its half of the stream, with an error when it is gone, as far
    /// as the stream knows without being read.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_gone(cx)
    }

    /// Returns whether the stream is one of TCP.
    pub(super) fn is_tcp(&self) -> bool {
        self.io.tcp().is_some()
    }

    /// Returns whether a frame of a message comes next in what was read.
    pub(super) fn is_data_next(&self) -> bool {
        let input = self.input.as_deref().map_or(&[][..], Input::bytes);
        self.decoder.is_data_next(input)
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
        self.output.give_back();
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
    #[inline]
    fn borrowed(slot: &mut Option<Box<Self>>) -> &mut Self {
        if slot.as_ref().is_none_or(|input| !input.is_shared()) {
            *slot = SHARED.take();
        }
        let input = slot.get_or_insert_default();
        // Zeroed once a thread, not once a read. Empty also when another connection is being
        // polled further up this very stack.
        input.buffer.resize(LINE + BUFFER, 0);
        input
    }

    /// Reads once, in place of what was there.
    #[inline]
    fn poll_fill(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let start = self.buffer[HEAD..].as_ptr().align_offset(LINE).min(LINE);
        (self.start, self.end) = (start, start);
        let mut buffer = ReadBuf::new(&mut self.buffer[start..start + BUFFER]);
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        self.end = start + read;
        Poll::Ready(Ok(read))
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn is_shared(&self) -> bool {
        self.buffer.len() >= LINE + BUFFER
    }

    /// Gives the buffer back if it is the shared one, and returns what was left in it.
    #[inline]
    fn rest(self: Box<Self>) -> Option<Box<Self>> {
        if !self.is_shared() {
            return (!self.is_empty()).then_some(self);
        }
        let left = Self::holding(self.bytes());
        SHARED.set(Some(self));
        left
    }
}
