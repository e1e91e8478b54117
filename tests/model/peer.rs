//! The peer: it writes valid and invalid frames in pieces, and the test decides when it reads.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    task::unconstrained,
    time::Instant,
};

use super::{
    oracle::Shared,
    schedule::Random,
    wire::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close, frame, header, plain},
    words::{Fault, peer_message, reason},
};

/// An event that happens when the stream is written up to an offset.
#[derive(Clone, Copy, Debug)]
enum Mark {
    /// A message has ended, or a control frame outside of one.
    Between,
    Message(u32),
    Ping(u32),
    /// The answer to a ping. If it is fresh, no newer ping is under way.
    Pong {
        fresh: bool,
    },
    Violates(Fault),
    Violated,
    Close(Option<u16>),
}

/// The peer's answer to a ping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    Pong,
    /// A pong with another payload.
    WrongPong,
    Message,
}

pub(crate) struct Peer {
    io: Option<DuplexStream>,
    random: Random,
    oracle: Shared,
    /// Bytes to write. The first `written` bytes are already written.
    output: Vec<u8>,
    written: usize,
    /// Bytes of the whole stream that are written.
    offset: usize,
    marks: VecDeque<(usize, Mark)>,
    /// The offset at which the last message ended, or the last control frame outside of one.
    between: usize,
    input: Vec<u8>,
    messages: u32,
    pings: u32,
    /// The answer to pings of this side.
    pub(crate) answers: Answer,
    /// When all tasks slept and neither side had anything left to read.
    rested: Option<Instant>,
    /// It has composed a Close or a violation, or ended the stream.
    pub(crate) ended: bool,
    fin: bool,
    /// It has read our Close, and the end of the stream.
    pub(crate) close_seen: bool,
    pub(crate) eof_seen: bool,
}

/// Polls without tokio's cooperative budget: an exhausted budget would make a stream look empty.
fn poll_now<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let mut poll = poll;
    let future = pin!(unconstrained(poll_fn(|cx| poll(cx))));
    future.poll(&mut Context::from_waker(Waker::noop()))
}

impl Peer {
    pub(crate) fn new(io: DuplexStream, seed: u64, oracle: Shared) -> Self {
        Self {
            io: Some(io),
            random: Random::new(!seed),
            oracle,
            output: Vec::new(),
            written: 0,
            offset: 0,
            marks: VecDeque::new(),
            between: 0,
            input: Vec::new(),
            messages: 0,
            pings: 0,
            answers: Answer::Pong,
            rested: None,
            ended: false,
            fin: false,
            close_seen: false,
            eof_seen: false,
        }
    }

    pub(crate) fn has_output(&self) -> bool {
        self.written < self.output.len()
    }

    /// Writes at most `most` bytes. Returns whether it wrote any.
    pub(crate) fn write(&mut self, most: usize) -> bool {
        let Some(io) = &mut self.io else { return false };
        let end = self.output.len().min(self.written + most);
        if self.fin || end == self.written {
            return false;
        }
        let bytes = &self.output[self.written..end];
        let written = match poll_now(|cx| Pin::new(&mut *io).poll_write(cx, bytes)) {
            Poll::Pending => return false,
            Poll::Ready(Ok(written)) => written,
            // The connection no longer reads.
            Poll::Ready(Err(_)) => {
                self.output.clear();
                self.marks.clear();
                self.written = 0;
                return false;
            }
        };
        self.written += written;
        self.offset += written;
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        let before = self.between;
        let mut oracle = self.oracle.lock();
        oracle.look_at_clock();
        while let Some(&(_, mark)) = self.marks.front().filter(|(at, _)| *at <= self.offset) {
            let at = self.marks.pop_front().map_or(0, |(at, _)| at);
            match mark {
                Mark::Between => self.between = at,
                Mark::Message(number) => oracle.write_message(number),
                Mark::Ping(number) => oracle.write_ping(number),
                Mark::Pong { fresh } => oracle.write_pong(fresh),
                Mark::Violates(fault) => oracle.begin_violation(fault),
                Mark::Violated => oracle.write_violation(),
                Mark::Close(code) => oracle.write_close(code),
            }
        }
        oracle.peer_wrote(self.between == self.offset, self.between > before);
        true
    }

    /// Writes until the pipe is full. Returns whether it wrote any bytes.
    pub(crate) fn write_all(&mut self) -> bool {
        let mut any = false;
        while self.write(usize::MAX / 2) {
            any = true;
        }
        any
    }

    /// Reads at most `most` bytes. Returns whether it read any.
    pub(crate) fn read(&mut self, most: usize) -> bool {
        let Some(io) = &mut self.io else { return false };
        if self.eof_seen {
            return false;
        }
        let mut bytes = [0; 4096];
        let most = most.min(bytes.len());
        let mut buffer = ReadBuf::new(&mut bytes[..most]);
        if poll_now(|cx| Pin::new(&mut *io).poll_read(cx, &mut buffer)).is_pending() {
            return false;
        }
        let filled = buffer.filled();
        if filled.is_empty() {
            self.eof_seen = true;
            self.oracle.lock().see_eof();
            return false;
        }
        self.oracle.lock().peer_read(filled.len());
        self.input.extend_from_slice(filled);
        while self.take_frame() {}
        true
    }

    /// Reads all available bytes. Returns whether it read any.
    pub(crate) fn read_all(&mut self) -> bool {
        let mut any = false;
        while self.read(usize::MAX) {
            any = true;
        }
        any
    }

    fn take_frame(&mut self) -> bool {
        let (head, len) = match *self.input {
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            [_, 127, 0, 0, 0, 0, a, b, c, d, ..] => (10, u32::from_be_bytes([a, b, c, d]) as usize),
            [_, len @ 0..126, ..] => (2, usize::from(len)),
            _ => return false,
        };
        if self.input.len() < head + len {
            return false;
        }
        let rest = self.input.split_off(head + len);
        let frame = std::mem::replace(&mut self.input, rest);
        let (first, payload) = (frame[0], &frame[head..]);
        let mut oracle = self.oracle.lock();
        oracle.ensure(!self.close_seen, |_| "a frame follows the Close".to_owned());
        if first == FIN | PONG {
            let number = payload.try_into().map_or(0, u32::from_be_bytes);
            oracle.pong(number);
        } else if first == FIN | CLOSE {
            self.close_seen = true;
            let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            oracle.see_close(code, payload.get(2..).unwrap_or_default());
        } else if first == FIN | PING {
            oracle.note("peer reads a ping", 0);
            let rested = self.rested.filter(|rested| oracle.last_heard() < *rested);
            drop(oracle);
            match self.answers {
                _ if self.ended => {}
                Answer::Message => self.compose_message(),
                Answer::WrongPong => self.compose_pong(),
                Answer::Pong => {
                    let fresh = rested.is_some();
                    self.output.extend(self::frame(FIN | PONG, payload));
                    self.mark(Mark::Pong { fresh });
                }
            }
        } else {
            let is_data = first == FIN | TEXT || first == FIN | BINARY;
            oracle.ensure(is_data, |_| format!("a frame begins with {first:x}"));
            oracle.arrive(first == FIN | TEXT, payload);
        }
        true
    }

    /// All tasks sleep, and the peer has read everything; with `has_room` so has the connection.
    pub(crate) fn rest(&mut self, has_room: bool) {
        self.rested = (has_room && !self.has_output()).then(Instant::now);
    }

    /// Marks the end of the composed bytes.
    fn mark(&mut self, mark: Mark) {
        let at = self.offset + self.output.len() - self.written;
        self.marks.push_back((at, mark));
    }

    pub(crate) fn compose_message(&mut self) {
        if self.ended {
            return;
        }
        let oracle = self.oracle.lock();
        let (frames, empty) = oracle.limits().fragments;
        let message = peer_message(self.messages, oracle.limits().largest);
        drop(oracle);
        let mut opcode = if message.is_text() { TEXT } else { BINARY };
        let mut rest = message.as_bytes();
        let mut empties = 0;
        let cuts = self.random.pick(&[0, 0, 0, 1, 2, 5]);
        for _ in 0..cuts.min(frames as usize - 1) {
            let mut cut = self.random.below(rest.len() + 1);
            if self.random.below(8) == 0 {
                cut = 0;
            }
            if cut == 0 {
                if empties == empty {
                    continue;
                }
                empties += 1;
            }
            let (fragment, after) = rest.split_at(cut);
            rest = after;
            self.output.extend(frame(opcode, fragment));
            opcode = CONTINUATION;
            if self.random.below(3) == 0 {
                self.push_ping();
            }
        }
        self.output.extend(frame(FIN | opcode, rest));
        self.mark(Mark::Message(self.messages));
        self.mark(Mark::Between);
        self.messages += 1;
    }

    pub(crate) fn compose_ping(&mut self) {
        if !self.ended {
            self.push_ping();
            self.mark(Mark::Between);
        }
    }

    fn push_ping(&mut self) {
        self.pings += 1;
        let ping = frame(FIN | PING, &self.pings.to_be_bytes());
        self.output.extend(ping);
        self.mark(Mark::Ping(self.pings));
    }

    /// Composes a pong that answers no ping.
    pub(crate) fn compose_pong(&mut self) {
        if !self.ended {
            self.output.extend(frame(FIN | PONG, b"unasked"));
            self.mark(Mark::Between);
        }
    }

    pub(crate) fn compose_close(&mut self, code: Option<u16>) {
        if self.ended {
            return;
        }
        self.ended = true;
        let close = match code {
            Some(code) => close(code, reason(code)),
            None => frame(FIN | CLOSE, b""),
        };
        self.output.extend(close);
        self.mark(Mark::Close(code));
        self.mark(Mark::Between);
    }

    /// Composes frames that break a rule.
    pub(crate) fn compose_violation(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        let (bytes, fault) = self.violation();
        let at = self.offset + self.output.len() - self.written;
        self.marks.push_back((at + 1, Mark::Violates(fault)));
        self.output.extend(bytes);
        self.mark(Mark::Violated);
    }

    fn violation(&mut self) -> (Vec<u8>, Fault) {
        let oracle = self.oracle.lock();
        let largest = oracle.limits().message;
        let (frames, empty) = oracle.limits().fragments;
        drop(oracle);
        // A frame that is refused at its head needs no payload.
        let head = |first, len| [&header(first, len, true)[..], &[1, 2, 3, 4]].concat();
        match self.random.below(19) {
            0 => (plain(FIN | TEXT, b"unmasked"), Fault::Protocol),
            1 => (frame(FIN | 0x3, b"what is it"), Fault::Protocol),
            2 => (frame(FIN | 0xb, b"what is it"), Fault::Protocol),
            3 => (frame(FIN | TEXT | 0x40, b"compressed"), Fault::Protocol),
            4 => (frame(PING, b"more follows"), Fault::Protocol),
            5 => (head(FIN | PING, 126), Fault::Protocol),
            6 => (frame(FIN | CONTINUATION, b"of what"), Fault::Protocol),
            7 => {
                let twice = [frame(TEXT, b"one"), frame(FIN | TEXT, b"two")];
                (twice.concat(), Fault::Protocol)
            }
            8 => (frame(FIN | CLOSE, &[3]), Fault::Protocol),
            9 => (close(1005, ""), Fault::Protocol),
            10 => (
                [&[FIN | BINARY, 0xfe, 0, 5][..], &[0; 9]].concat(),
                Fault::Protocol,
            ),
            11 => (
                [&[FIN | BINARY, 0xff, 0x80][..], &[0; 11]].concat(),
                Fault::Protocol,
            ),
            12 => (frame(FIN | CLOSE, &[3, 0xe8, 0xc3, 0x28]), Fault::Utf8),
            13 => (frame(FIN | TEXT, b"caf\xff"), Fault::Utf8),
            14 => (frame(FIN | TEXT, b"caf\xc3"), Fault::Utf8),
            15 => {
                let torn = [frame(TEXT, b"caf\xe2"), frame(FIN | CONTINUATION, b"\x28")];
                (torn.concat(), Fault::Utf8)
            }
            16 => (head(FIN | BINARY, largest + 1), Fault::TooLarge),
            17 => {
                let sum = [frame(BINARY, b"some"), head(CONTINUATION, largest - 3)];
                (sum.concat(), Fault::TooLarge)
            }
            _ => {
                let many = self.random.below(2) == 0;
                let (count, payload) = if many {
                    (frames, &b"x"[..])
                } else {
                    (empty, &b""[..])
                };
                let mut bytes = Vec::new();
                for number in 0..=count {
                    let opcode = if number == 0 { TEXT } else { CONTINUATION };
                    bytes.extend(frame(opcode, payload));
                }
                (bytes, Fault::Fragments)
            }
        }
    }

    /// Composes random bytes after a Close or a violation.
    pub(crate) fn compose_noise(&mut self) {
        if self.ended {
            let len = self.random.pick(&[1, 10, 300]);
            let noise = std::iter::repeat_with(|| self.random.next() as u8);
            self.output.extend(noise.take(len));
        }
    }

    /// Ends its half of the stream, maybe in the middle of a frame.
    pub(crate) fn shut_down(&mut self) {
        let Some(io) = &mut self.io else { return };
        if !self.fin && poll_now(|cx| Pin::new(&mut *io).poll_shutdown(cx)).is_ready() {
            self.fin = true;
            self.ended = true;
            self.output.clear();
            self.marks.clear();
            self.written = 0;
            self.oracle.lock().shut_down();
        }
    }

    /// Drops the stream.
    pub(crate) fn reset(&mut self) {
        if self.io.take().is_some() {
            self.ended = true;
            self.output.clear();
            self.marks.clear();
            self.oracle.lock().reset();
        }
    }
}
