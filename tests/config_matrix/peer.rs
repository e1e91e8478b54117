//! A peer that keeps to the protocol, and is late.

use std::{pin::pin, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{LATE, PIPE, SECOND};
use crate::support::wire::{
    self, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, TEXT, frame, handshake, plain,
};

/// The reading side of a peer that is late.
struct Reader {
    pub(crate) io: ReadHalf<DuplexStream>,
    /// Received bytes that are not parsed yet.
    pub(crate) bytes: Vec<u8>,
    /// The time at which the rest is read.
    reads_at: Option<Instant>,
}

impl Reader {
    /// Reads the available bytes, after the delay of this peer. Returns false at the end of the stream.
    /// The future may be dropped: a later call continues.
    async fn fill(&mut self) -> bool {
        let at = match self.reads_at {
            Some(at) => at,
            // The rest stays in the pipe, so that it blocks later bytes.
            None => match (&mut self.io).take(1).read_buf(&mut self.bytes).await {
                Ok(1) => *self.reads_at.insert(Instant::now() + LATE),
                _ => return false,
            },
        };
        sleep_until(at).await;
        self.reads_at = None;
        let mut rest = [0; PIPE];
        // There may be no further bytes.
        if let Ok(read) = timeout(Duration::ZERO, self.io.read(&mut rest)).await {
            self.bytes.extend(&rest[..read.unwrap_or(0)]);
        }
        true
    }
}

/// Keeps to the protocol, and is late.
pub(crate) struct Peer {
    reader: Reader,
    writer: WriteHalf<DuplexStream>,
    /// Pings that are answered at the end of a frame.
    owed: Vec<Vec<u8>>,
    within_frame: bool,
    /// The number of pings that arrived since `since`.
    pings: u32,
    since: Instant,
    /// The peer is the server.
    pub(crate) serves: bool,
}

impl Peer {
    pub(crate) fn new(io: DuplexStream) -> Self {
        let (io, writer) = split(io);
        Self {
            reader: Reader {
                io,
                bytes: Vec::new(),
                reads_at: None,
            },
            writer,
            owed: Vec::new(),
            within_frame: false,
            pings: 0,
            since: Instant::now(),
            serves: false,
        }
    }

    pub(crate) fn frame(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        match self.serves {
            true => plain(first, payload),
            false => frame(first, payload),
        }
    }

    /// Writes bytes, and reads while they are not taken.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let mut write = pin!(self.writer.write_all(bytes));
        loop {
            tokio::select! {
                biased;
                written = &mut write => return written.unwrap(),
                more = self.reader.fill() => assert!(more, "the stream ends while it is written to"),
            }
        }
    }

    pub(crate) async fn send(&mut self, first: u8, payload: &[u8]) {
        let frame = self.frame(first, payload);
        self.write(&frame).await;
    }

    /// Reads a head up to the empty line behind it.
    pub(crate) async fn read_head(&mut self) -> String {
        loop {
            if let Some(end) = self
                .reader
                .bytes
                .windows(4)
                .position(|end| end == b"\r\n\r\n")
            {
                let head: Vec<_> = self.reader.bytes.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.reader.fill().await, "the stream ends in a head");
        }
    }

    /// Takes a frame from what was read.
    async fn take(&mut self) -> Option<Frame> {
        let mut rest = &self.reader.bytes[..];
        let frame = match self.serves {
            true => Some(wire::read_masked(&mut rest).await?.0),
            false => wire::read_frame(&mut rest).await,
        };
        let read = self.reader.bytes.len() - rest.len();
        let frame = frame?;
        self.reader.bytes.drain(..read);
        Some(frame)
    }

    /// Reads the next frame that is no ping, and answers those before it. `None` at the end of the
    /// stream. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            let Some(frame) = self.take().await else {
                if !self.reader.fill().await {
                    assert!(self.reader.bytes.is_empty(), "the stream ends in a frame");
                    return None;
                }
                continue;
            };
            if frame.first != FIN | PING {
                return Some(frame);
            }
            self.pings += 1;
            // No more than one in 50 ms, the lowest silence.
            let least = self.pings * Duration::from_millis(50);
            assert!(least < self.since.elapsed() + SECOND, "a flood of pings");
            self.owed.push(frame.payload);
            self.answer().await;
        }
    }

    pub(crate) async fn answer(&mut self) {
        while let (false, Some(ping)) = (self.within_frame, self.owed.pop()) {
            self.send(FIN | PONG, &ping).await;
        }
    }

    /// Waits for `time`, and asserts that no frame arrives except pings.
    async fn pause(&mut self, time: Duration) {
        let next = timeout_at(Instant::now() + time, self.next()).await;
        assert!(next.is_err(), "{} in a pause", shown(&next.unwrap()));
    }

    /// Writes bytes in two halves, the second one late.
    async fn write_in_halves(&mut self, bytes: &[u8]) {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        self.within_frame = true;
        self.write(first).await;
        self.pause(LATE).await;
        self.write(second).await;
        self.within_frame = false;
        self.answer().await;
    }

    pub(crate) async fn expect(&mut self, first: u8, payload: &[u8]) {
        let expected = Some(Frame {
            first,
            payload: payload.to_vec(),
        });
        let next = self.next().await;
        assert!(
            next == expected,
            "{} for {}",
            shown(&next),
            shown(&expected)
        );
    }

    /// Asks for a WebSocket.
    pub(crate) async fn ask(&mut self) {
        self.write_in_halves(handshake("/").as_bytes()).await;
        let head = self.read_head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// Sends what a peer may send, and reads what it gets for it.
    pub(crate) async fn converse(&mut self) {
        let hello = self.frame(FIN | TEXT, b"hello");
        self.write_in_halves(&hello).await;
        self.expect(FIN | TEXT, b"hello").await;

        // As many frames as the lowest setting allows, and as many empty ones that are not the last.
        self.send(TEXT, b"").await;
        for payload in ["", "", "", "a", "b", "c", "d"] {
            self.send(CONTINUATION, payload.as_bytes()).await;
        }
        self.send(FIN | PING, b"between").await;
        self.expect(FIN | PONG, b"between").await;
        for payload in ["e", "f", "g", "h", "i", "j", "k"] {
            self.send(CONTINUATION, payload.as_bytes()).await;
        }
        self.send(FIN | CONTINUATION, b"").await;
        self.expect(FIN | TEXT, b"abcdefghijk").await;

        // More than the stream holds comes back.
        let long = self.frame(FIN | TEXT, &[b'x'; 3 * PIPE]);
        self.write(&long).await;
        self.expect(FIN | TEXT, &[b'x'; 3 * PIPE]).await;
        let burst = self.frame(FIN | TEXT, b"one of many").repeat(20);
        self.write(&burst).await;
        for _ in 0..20 {
            self.expect(FIN | TEXT, b"one of many").await;
        }
    }

    /// Is idle, except for a few control frames.
    pub(crate) async fn rest(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.send(FIN | PONG, b"unasked for").await;
            self.send(FIN | PING, b"there?").await;
            self.expect(FIN | PONG, b"there?").await;
            self.pause(2 * SECOND).await;
        }
    }

    /// Closes behind a last message, which is answered.
    pub(crate) async fn close(&mut self) {
        let close = self.frame(FIN | CLOSE, &1000_u16.to_be_bytes());
        let last = [self.frame(FIN | TEXT, b"last"), close].concat();
        self.write(&last).await;
        self.expect(FIN | TEXT, b"last").await;
        self.expect(FIN | CLOSE, &1000_u16.to_be_bytes()).await;
        self.leave().await;
    }

    /// Waits for a Close with 1001, and answers it.
    pub(crate) async fn is_closed(&mut self) {
        let going_away = 1001_u16.to_be_bytes();
        let next = self.next().await;
        let is_close =
            |next: &Frame| next.first == FIN | CLOSE && next.payload.starts_with(&going_away);
        assert!(
            next.as_ref().is_some_and(is_close),
            "{} for 1001",
            shown(&next)
        );
        self.send(FIN | CLOSE, &going_away).await;
        self.leave().await;
    }

    /// Waits for the end of the stream if it is the server's to come first (RFC 6455 §7.1.1).
    pub(crate) async fn leave(&mut self) {
        if !self.serves {
            let next = self.next().await;
            assert!(next.is_none(), "{} for the end", shown(&next));
        }
    }
}

/// A frame as it is read best.
fn shown(frame: &Option<Frame>) -> String {
    match frame {
        None => "the end".to_owned(),
        Some(Frame { first, payload }) if *first == FIN | CLOSE && payload.len() > 1 => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            format!("Close {code} ({})", payload[2..].escape_ascii())
        }
        Some(Frame { first, payload }) => format!("{first:#x} ({})", payload.escape_ascii()),
    }
}
