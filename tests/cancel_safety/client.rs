//! A client that writes and reads at random, and a ledger of the messages in both directions.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    task::yield_now,
};
use tower_websocket::Message;

use crate::support::{
    schedule::Random,
    wire::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close, frame},
};

/// The indices of the senders: the socket, clones of its sender, tasks, and the client.
pub(crate) const SOCKET: u8 = 0;
pub(crate) const CLONES: [u8; 3] = [1, 2, 3];
pub(crate) const TASKS: u8 = 4;
pub(crate) const SENDERS: usize = 20;
pub(crate) const CLIENT: u8 = 0x7f;

/// The messages that were accepted, and the ones that arrived.
pub(crate) struct Ledger {
    pub(crate) steps: usize,
    /// The number of attempts to send. Each message has the number of its attempt.
    attempts: u32,
    /// Messages of each sender that were accepted and have not reached the client.
    pub(crate) accepted: [VecDeque<u32>; SENDERS],
    /// The number of messages of the client that were received.
    pub(crate) received: u32,
    /// The handler has returned.
    pub(crate) returned: bool,
}

pub(crate) type Shared = Arc<Mutex<Ledger>>;

impl Ledger {
    pub(crate) fn new() -> Shared {
        Arc::new(Mutex::new(Self {
            steps: 0,
            attempts: 0,
            accepted: Default::default(),
            received: 0,
            returned: false,
        }))
    }

    pub(crate) fn attempt(&mut self, sender: u8) -> (u32, Message) {
        self.attempts += 1;
        (self.attempts, message(sender, self.attempts))
    }

    pub(crate) fn accept(&mut self, sender: u8, number: u32) {
        self.accepted[usize::from(sender)].push_back(number);
    }

    /// Notes a message that the server received. It has to be the next one of the client.
    pub(crate) fn receive(&mut self, received: &Message) {
        assert_eq!(received, &message(CLIENT, self.received));
        self.received += 1;
    }

    /// Notes a message that the client read. It has to be the next one of its sender.
    pub(crate) fn arrive(&mut self, first: u8, payload: &[u8]) {
        let (sender, number) = name(payload);
        let expected = self.accepted[usize::from(sender)].pop_front();
        assert_eq!(Some(number), expected, "of sender {sender}");
        let expected = message(sender, number);
        assert_eq!(payload, expected.as_bytes());
        let opcode = if expected.is_text() { TEXT } else { BINARY };
        assert_eq!(first, FIN | opcode);
    }
}

/// Builds a message that holds its sender and number. Its length and type depend on both.
pub(crate) fn message(sender: u8, number: u32) -> Message {
    static PATTERN: LazyLock<Vec<u8>> =
        LazyLock::new(|| (b'a'..=b'z').cycle().take(6000).collect());
    let mix = number.wrapping_mul(0x9e37_79b1) ^ u32::from(sender);
    let len = match mix >> 24 {
        0 if mix & 3 == 0 => 4096 + mix % 500,
        0..8 => 120 + mix % 300,
        _ => mix % 40,
    };
    let start = usize::from(mix.to_be_bytes()[1]);
    let mut payload = vec![sender];
    // Bytes of seven bits are UTF-8.
    payload.extend((0..5).map(|digit| u8::try_from(number >> (7 * digit) & 0x7f).unwrap()));
    payload.extend_from_slice(&PATTERN[start..start + usize::try_from(len).unwrap()]);
    if number % 2 == 0 {
        String::from_utf8(payload).unwrap().into()
    } else {
        payload.into()
    }
}

/// Returns the sender and the number of a message.
fn name(payload: &[u8]) -> (u8, u32) {
    let digits = payload[1..6].iter().rev();
    let number = digits.fold(0, |number, digit| number << 7 | u32::from(*digit));
    (payload[0], number)
}

/// A client that writes and reads a few bytes at a time.
pub(crate) struct Client {
    io: DuplexStream,
    random: Random,
    ledger: Shared,
    pub(crate) messages: u32,
    pings: u32,
    pongs: u32,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    /// The client has sent its Close.
    closing: bool,
    /// The code of the server's Close.
    pub(crate) closed: Option<Option<u16>>,
}

impl Client {
    pub(crate) fn new(io: DuplexStream, seed: u64, ledger: Shared) -> Self {
        Self {
            io,
            random: Random::new(!seed),
            ledger,
            messages: 0,
            pings: 0,
            pongs: 0,
            output: Vec::new(),
            written: 0,
            input: Vec::new(),
            closing: false,
            closed: None,
        }
    }

    /// Writes, reads or yields once.
    pub(crate) async fn step(&mut self) {
        self.ledger.lock().unwrap().steps += 1;
        let mut cx = Context::from_waker(Waker::noop());
        let most = self.random.pick(&[1, 3, 20, 500]);
        match self.random.below(5) {
            0 | 1 => {
                if self.output.is_empty() {
                    self.compose();
                }
                let _ = self.poll_write(&mut cx, most);
            }
            2 | 3 => drop(self.poll_read(&mut cx, most)),
            _ => yield_now().await,
        }
    }

    /// Adds the next message to the output, in one or more frames, with pings between them.
    fn compose(&mut self) {
        let message = message(CLIENT, self.messages);
        self.messages += 1;
        let mut opcode = if message.is_text() { TEXT } else { BINARY };
        let mut rest = message.as_bytes();
        for _ in 0..self.random.pick(&[0, 0, 1, 2, 5]) {
            let (fragment, after) = rest.split_at(self.random.below(rest.len() + 1));
            rest = after;
            self.output.extend(frame(opcode, fragment));
            opcode = CONTINUATION;
            if self.random.below(2) == 0 {
                self.pings += 1;
                self.output
                    .extend(frame(FIN | PING, &self.pings.to_be_bytes()));
            }
        }
        self.output.extend(frame(FIN | opcode, rest));
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<()> {
        let end = self.output.len().min(self.written + most);
        let bytes = &self.output[self.written..end];
        // The server may drop the stream after its Close.
        let written = match Pin::new(&mut self.io).poll_write(cx, bytes) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(written) if self.closed.is_some() => written.unwrap_or(bytes.len()),
            Poll::Ready(written) => written.unwrap(),
        };
        self.written += written;
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        Poll::Ready(())
    }

    /// Reads some bytes, and returns whether there were any.
    fn poll_read(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<bool> {
        let mut bytes = [0; 500];
        let mut buffer = ReadBuf::new(&mut bytes[..most]);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut buffer);
        read.map(|read| {
            read.unwrap();
            self.input.extend_from_slice(buffer.filled());
            while self.take_frame() {}
            !buffer.filled().is_empty()
        })
    }

    fn take_frame(&mut self) -> bool {
        let (head, len) = match *self.input {
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            [_, len @ 0..126, ..] => (2, usize::from(len)),
            _ => return false,
        };
        if self.input.len() < head + len {
            return false;
        }
        assert_eq!(self.closed, None, "nothing follows a Close");
        let payload = &self.input[head..head + len];
        match self.input[0] {
            first if first == FIN | PONG => {
                let number = u32::from_be_bytes(payload.try_into().unwrap());
                // A pong may answer several pings.
                assert!(self.pongs < number && number <= self.pings);
                self.pongs = number;
            }
            first if first == FIN | CLOSE => {
                let code = payload.get(..2);
                self.closed = Some(code.map(|code| u16::from_be_bytes(code.try_into().unwrap())));
            }
            first => self.ledger.lock().unwrap().arrive(first, payload),
        }
        self.input.drain(..head + len);
        true
    }

    /// Writes the rest of the output, then closes with `code` or answers the Close of the server, and
    /// reads to the end.
    pub(crate) async fn finish(&mut self, code: Option<u16>) {
        if let Some(code) = code {
            self.output.extend(close(code, ""));
            self.closing = true;
        }
        poll_fn(|cx| {
            loop {
                if self.closed.is_some() && !self.closing {
                    self.output.extend(close(1000, ""));
                    self.closing = true;
                }
                let mut idle = true;
                if !self.output.is_empty() && self.poll_write(cx, 500).is_ready() {
                    idle = false;
                }
                match self.poll_read(cx, 500) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(()),
                    Poll::Pending if idle => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
        })
        .await;
    }
}
