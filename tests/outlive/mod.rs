//! The matrix of connections that must not outlive their peer. A case is a kind of stream, the peer's
//! messages, the peer's end, and the handler's behaviour. Each case has an expected end.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod handler;
pub(crate) mod network;

use std::{fmt, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tower_websocket::{Closed, Config, Message, Side, error::RecvError};

use self::handler::Behaviour;
use super::wire::{self, BINARY, FIN, PING, PONG, frame, read_frame};

/// The default capacity of the inbox, in messages and bytes.
const INBOX: (usize, usize) = (16, 64 * 1024);
/// The code with which a peer closes.
pub(crate) const BYE: u16 = 4000;

/// The transport of the WebSocket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stream {
    Tcp,
    Tls,
    /// One stream of an HTTP/2 connection over TCP.
    Http2,
    /// A pipe in memory.
    Pipe,
}

/// The messages that a peer sends before it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sent {
    Small(u8),
    One64KiB,
    Three30KiB,
    Three30KiBAndOneSmall,
}

impl Sent {
    const ALL: [Self; 7] = [
        Self::Small(15),
        Self::Small(16),
        Self::Small(17),
        Self::Small(40),
        Self::One64KiB,
        Self::Three30KiB,
        Self::Three30KiBAndOneSmall,
    ];

    fn lengths(self) -> Vec<usize> {
        const KIB: usize = 1024;
        match self {
            Self::Small(number) => vec![1; number.into()],
            Self::One64KiB => vec![64 * KIB],
            Self::Three30KiB => vec![30 * KIB; 3],
            Self::Three30KiBAndOneSmall => vec![30 * KIB, 30 * KIB, 30 * KIB, 1],
        }
    }

    pub(crate) fn messages(self) -> usize {
        self.lengths().len()
    }

    /// Returns the number of messages that fit into the inbox while none is received.
    fn fitting(self) -> usize {
        let (mut messages, mut bytes) = (0, 0);
        for length in self.lengths() {
            if messages == INBOX.0 || bytes >= INBOX.1 {
                break;
            }
            messages += 1;
            bytes += length;
        }
        messages
    }

    /// Returns the frames, with a ping after the messages that fit into the inbox. If the handler receives
    /// nothing and a message follows the ping, reading has stopped by the time of the pong.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, length) in (0..).zip(self.lengths()) {
            if usize::from(number) == self.fitting() {
                bytes.extend(frame(FIN | PING, b"here?"));
            }
            bytes.extend(frame(FIN | BINARY, &vec![number; length]));
        }
        if self.fitting() == self.messages() {
            bytes.extend(frame(FIN | PING, b"here?"));
        }
        bytes
    }

    /// Asserts that these are the first of the messages, or all of them.
    fn assert_received(self, received: &[Message], all: bool) {
        let lengths = self.lengths();
        if all {
            assert_eq!(received.len(), lengths.len(), "messages received");
        }
        for ((number, length), message) in (0_u8..).zip(lengths).zip(received) {
            let bytes = message.as_bytes();
            assert_eq!(bytes.len(), length, "length of message {number}");
            let is_itself = bytes.iter().all(|&byte| byte == number);
            assert!(is_itself, "message {number} is {:?}", bytes.first());
        }
    }
}

/// How a peer ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Close,
    /// The end of the peer's half: a FIN of TCP, `close_notify` and FIN of TLS, END_STREAM of HTTP/2.
    /// The peer keeps reading.
    Fin,
    /// A FIN of the TCP connection below TLS or HTTP/2. The peer keeps reading.
    BareFin,
    /// The socket is closed: a FIN of TCP, and a reset when something is sent later.
    Gone,
    /// A reset of the TCP connection; a pipe is dropped.
    Reset,
    /// RST_STREAM of HTTP/2.
    StreamReset,
    /// The peer neither writes nor reads.
    Silence,
}

impl End {
    fn of(stream: Stream) -> &'static [Self] {
        use End::{BareFin, Close, Fin, Gone, Reset, Silence, StreamReset};
        match stream {
            Stream::Tcp => &[Close, Fin, Gone, Reset, Silence],
            Stream::Tls => &[Close, Fin, BareFin, Gone, Reset, Silence],
            Stream::Pipe => &[Close, Fin, Reset, Silence],
            Stream::Http2 => &[Close, Fin, BareFin, Reset, StreamReset, Silence],
        }
    }

    /// Returns whether the peer reads until the server has ended, too.
    pub(crate) fn reads_on(self) -> bool {
        matches!(self, Self::Close | Self::Fin | Self::BareFin)
    }
}

/// One connection of the matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) stream: Stream,
    pub(crate) sent: Sent,
    pub(crate) end: End,
    pub(crate) behaviour: Behaviour,
}

/// The event that ends a connection at the latest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bound {
    /// The end is read.
    Read,
    /// No ping is answered.
    Keepalive,
    /// A check of the stream, once a second, finds that the peer has gone.
    Probe,
    /// The same check finds it. Then the handler has to take a message within `Config::handler_grace`.
    ProbeAndGrace,
    ReceiveTimeout,
}

/// Names the connections that failed, if there are any.
pub(crate) fn assert_none(mut failed: Vec<String>) {
    failed.sort();
    let number = failed.len();
    assert!(failed.is_empty(), "{number} failed:\n{}", failed.join("\n"));
}

/// Runs the try of a connection, and returns a line with its name if it fails.
pub(crate) async fn attempt(cell: Cell, check: impl Future<Output = ()>) -> Option<String> {
    let checked = AssertUnwindSafe(check).catch_unwind().await;
    checked.err().map(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("{cell}: {}", text.unwrap_or("it panicked"))
    })
}

/// Returns all connections of the matrix over a kind of stream.
pub(crate) fn cells(stream: Stream) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &end in End::of(stream) {
        for behaviour in Behaviour::ALL {
            for sent in Sent::ALL {
                cells.push(Cell {
                    stream,
                    sent,
                    end,
                    behaviour,
                });
            }
        }
    }
    cells
}

impl Cell {
    /// Returns whether a message waits for room that is never made.
    fn is_crowded(self) -> bool {
        self.sent.fitting() < self.sent.messages() && !self.behaviour.takes()
    }

    pub(crate) fn bound(self) -> Bound {
        match (self.is_crowded(), self.stream, self.end) {
            (false, _, End::Silence) => Bound::Keepalive,
            (false, ..) => Bound::Read,
            (true, Stream::Tcp, End::Fin | End::Gone) => Bound::ProbeAndGrace,
            (true, Stream::Tcp, End::Reset) => Bound::Probe,
            (true, Stream::Http2, End::BareFin | End::Reset | End::StreamReset) => Bound::Probe,
            (true, ..) => Bound::ReceiveTimeout,
        }
    }

    /// Returns settings with which only the bound ends the connection during the test.
    pub(crate) fn config(self) -> Config {
        const NEVER: Duration = Duration::from_secs(60 * 60);
        const SHORT: Duration = Duration::from_millis(100);
        let config = Config::new()
            .without_keepalive()
            .write_timeout(NEVER)
            .receive_timeout(NEVER)
            .handler_grace(NEVER)
            // A peer that reads on ends the closing, too.
            .close_timeout(if self.end.reads_on() {
                NEVER
            } else {
                2 * SHORT
            });
        let config = match self.bound() {
            Bound::Read | Bound::Probe => config,
            Bound::Keepalive => config.keepalive(SHORT, SHORT),
            Bound::ProbeAndGrace => config.handler_grace(SHORT),
            Bound::ReceiveTimeout => config.receive_timeout(2 * SHORT),
        };
        match self.behaviour.returns() {
            true => config,
            false => config.handler_grace(SHORT),
        }
    }

    /// Asserts that the connection ended for the right reason, and what the peer read of that.
    pub(crate) fn assert_closed(self, closed: &Closed, read: Option<&Reading>) {
        let code = closed.code().map(u16::from);
        // Sending to a peer that has gone may fail before the bound is reached.
        let fails = matches!(self.end, End::Gone | End::Reset) && self.behaviour.sends();
        if !fails || code.is_some() || closed.side() == Side::Local {
            assert_eq!((closed.side(), code), self.closed(), "how it ended");
        }
        let Some(read) = read else { return };
        assert_eq!(read.code, self.code(), "what the peer read");
        let answered = (0..)
            .zip(&read.answers)
            .all(|(number, &byte)| number == byte);
        assert!(answered, "answers in order: {:?}", read.answers);
    }

    /// Returns which side ended the connection, and the code of the first Close.
    fn closed(self) -> (Side, Option<u16>) {
        match (self.bound(), self.end) {
            (Bound::Read, End::Close) => (Side::Remote, Some(BYE)),
            (Bound::ReceiveTimeout, _) => (Side::Local, Some(1008)),
            (Bound::Keepalive, _) => (Side::Local, None),
            (Bound::Read | Bound::Probe | Bound::ProbeAndGrace, _) => (Side::Remote, None),
        }
    }

    /// Returns the code of the Close that the peer reads, if it can.
    fn code(self) -> Option<u16> {
        match (self.bound(), self.end) {
            (Bound::ReceiveTimeout, _) => Some(1008),
            // An HTTP/2 stream cannot send without its connection, and TLS is dropped if it was ended
            // without `close_notify`.
            (_, End::BareFin) => None,
            (Bound::Read, End::Close) => Some(BYE),
            _ => Some(1002),
        }
    }

    /// Asserts the messages that the handler received (`all` that were sent, or the first of them), and its end.
    pub(crate) fn assert_seen(self, seen: &handler::Seen, all: bool) {
        assert_eq!(
            seen.returned,
            self.behaviour.returns(),
            "returned by itself"
        );
        if !self.behaviour.receives() {
            return;
        }
        let is_told = match (&seen.over, self.end) {
            (Some(Ok(())), End::Close) => true,
            (Some(Err(RecvError::Unresponsive)), End::Silence) => true,
            (Some(Err(RecvError::Io(_))), end) => !matches!(end, End::Close | End::Silence),
            _ => false,
        };
        assert!(is_told, "the end was received as {:?}", seen.over);
        self.sent.assert_received(&seen.received, all);
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            stream,
            sent,
            end,
            behaviour,
        } = self;
        write!(f, "{stream:?}: {sent:?}, {end:?}, {behaviour:?}")
    }
}

/// The data that a peer read until the server ended.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// The handler's answers, each the number of a message that it received.
    pub(crate) answers: Vec<u8>,
    /// The code of the Close.
    pub(crate) code: Option<u16>,
}

impl Reading {
    /// Reads up to a pong, and asserts that it arrives.
    pub(crate) async fn until_pong(&mut self, stream: &mut (impl AsyncRead + Unpin)) {
        loop {
            let frame = read_frame(stream).await.expect("no pong came");
            if frame.first == FIN | PONG {
                return;
            }
            self.take(frame);
        }
    }

    /// Reads until the server has ended.
    pub(crate) async fn until_end(&mut self, stream: &mut (impl AsyncRead + Unpin)) {
        while let Some(frame) = read_frame(stream).await {
            if frame.first == FIN | wire::CLOSE {
                self.code = frame.close_code();
                break;
            }
            self.take(frame);
        }
        // Errors end it, too.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }

    fn take(&mut self, frame: wire::Frame) {
        if frame.first == FIN | BINARY {
            self.answers.extend(frame.payload);
        }
    }
}
