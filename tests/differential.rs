//! The same sessions for this crate and for tokio-tungstenite, both as a server: what they take,
//! what they refuse and the close codes that they answer with.
//!
//! Where the two are known to differ, [`compare`] says by which rule, whatever the session.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use futures_util::StreamExt;
use support::wire;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    join,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message as Theirs,
        error::ProtocolError,
        protocol::{Role, WebSocketConfig},
    },
};
use tower_websocket::{Config, Message, WebSocket, error::RecvError};
use wire::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT};

const SESSIONS: u32 = 2_000;
const MAX_MESSAGE: usize = 3_000;
const MAX_FRAME: usize = 2_000;

/// The outcome of a session at a server.
#[derive(Debug)]
struct Outcome {
    messages: Vec<Message>,
    end: End,
    /// The rule that the peer broke, for a fault with 1002.
    rule: String,
    /// The code of the Close that the server sent, if it sent one.
    close: Option<Option<u16>>,
}

/// Why no more messages came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// The peer closed.
    Closed,
    /// The stream ended without a Close, maybe within a frame.
    Eof,
    /// The peer broke a rule; the fault, as the code that is for it.
    Refused(u16),
}

#[tokio::test(start_paused = true)]
async fn agrees_with_tungstenite_where_that_follows_the_rules() {
    let mut tally = Tally::default();
    for session in 0..SESSIONS {
        let mut random = Random::new(session);
        let bytes = random.session();
        let pieces = 1 + random.below(3_000);
        let ours = ours(&bytes, pieces).await;
        let theirs = theirs(&bytes, pieces).await;
        assert_codes(&ours, session);
        compare(&ours, &theirs, session, &mut tally);
    }
    // Else the sessions would have become all alike.
    let Tally {
        closed,
        ended,
        refused,
        early,
        lenient,
    } = tally;
    assert!(
        closed > 300 && ended > 100 && refused > 300 && early > 3 && lenient > 20,
        "{tally:?}"
    );
    assert_eq!(closed + ended + refused + early + lenient, SESSIONS);
}

/// How many sessions ended in which way.
#[derive(Debug, Default)]
struct Tally {
    closed: u32,
    ended: u32,
    refused: u32,
    /// Refused by this crate while tungstenite waits for the rest of the frame.
    early: u32,
    /// Refused by this crate alone.
    lenient: u32,
}

fn compare(ours: &Outcome, theirs: &Outcome, session: u32, tally: &mut Tally) {
    let context = || format!("session {session}: {ours:?}, tungstenite {theirs:?}");
    let is_long_form = match &*ours.rule {
        "the length is written in more bytes than it needs" => true,
        // Known from the second byte, whatever the length behind it is.
        "the payload of a control frame is over 125 bytes" => theirs.end != End::Refused(1002),
        _ => false,
    };
    if is_long_form {
        // RFC 6455 §5.2: "the minimal number of bytes MUST be used to encode the length".
        // tungstenite accepts longer encodings, and continues.
        assert!(theirs.messages.starts_with(&ours.messages), "{}", context());
        tally.lenient += 1;
        return;
    }
    assert!(ours.messages == theirs.messages, "{}", context());
    match (ours.end, theirs.end) {
        (End::Closed, End::Closed) => {
            // tungstenite may end without its answer when a pong is still being written.
            if theirs.close.is_some() {
                assert_eq!(ours.close, theirs.close, "{}", context());
            }
            tally.closed += 1;
        }
        // The registry of RFC 6455 §11.7 has 1014 since 2017; tungstenite takes it for an illegal
        // code, and answers with 1002.
        (End::Closed, End::Refused(1002)) => {
            assert_eq!(ours.close, Some(Some(1014)), "{}", context());
            tally.closed += 1;
        }
        (End::Eof, End::Eof) => tally.ended += 1,
        (End::Refused(our_fault), End::Refused(their_fault)) => {
            // A frame may break two rules, and the RFC does not define their order. tungstenite checks the length
            // before the bits that precede it, and the reason of a Close before its code.
            let is_same = match (our_fault, their_fault) {
                (1002, 1009) => true,
                (1002, 1007) => ours.rule == "the close code may not be sent",
                (our_fault, their_fault) => our_fault == their_fault,
            };
            assert!(is_same, "{}", context());
            // It sends a Close only where the peer's had an illegal code (§7.1.7 asks for one
            // whenever a connection is failed).
            if let Some(their_close) = theirs.close {
                assert_eq!(ours.close, Some(their_close), "{}", context());
            }
            tally.refused += 1;
        }
        // We fail the connection at the first wrong byte (§8.1 and §5.5 allow that). tungstenite checks
        // only a complete frame, and this frame was never completed.
        (End::Refused(_), End::Eof) => tally.early += 1,
        _ => panic!("{}", context()),
    }
}

/// Every end has its own code (RFC 6455 §7.4.1).
fn assert_codes(ours: &Outcome, session: u32) {
    let expected = match ours.end {
        // The code is the peer's, and `compare` checks it.
        End::Closed => return assert!(ours.close.is_some(), "session {session}: {ours:?}"),
        End::Eof => 1002,
        End::Refused(code) => code,
    };
    assert_eq!(ours.close, Some(Some(expected)), "session {session}");
}

/// Runs a session with this crate as the server.
async fn ours(bytes: &[u8], pieces: usize) -> Outcome {
    let (server, client) = duplex(pieces);
    let config = Config::new()
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_FRAME);
    let mut socket = WebSocket::from_io(server, config);
    let mut rule = String::new();
    let serve = async {
        let mut messages = Vec::new();
        loop {
            match socket.recv().await {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break (messages, End::Closed),
                Err(error) => {
                    if let RecvError::Protocol(broken) = &error {
                        rule = broken.to_string();
                    }
                    break (messages, our_end(&error));
                }
            }
        }
    };
    let ((messages, end), written) = join!(serve, talk(client, bytes));
    let close = close_of(&written).await;
    Outcome {
        messages,
        end,
        rule,
        close,
    }
}

fn our_end(error: &RecvError) -> End {
    match error {
        RecvError::Protocol(_) => End::Refused(1002),
        RecvError::InvalidUtf8 => End::Refused(1007),
        RecvError::TooLarge => End::Refused(1009),
        RecvError::TooManyFragments => End::Refused(1008),
        RecvError::Io(_) => End::Eof,
        error => panic!("{error:?} at a peer that neither floods nor waits"),
    }
}

/// Runs a session with tungstenite as the server.
async fn theirs(bytes: &[u8], pieces: usize) -> Outcome {
    let (server, client) = duplex(pieces);
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_FRAME));
    let serve = async {
        let mut socket = WebSocketStream::from_raw_socket(server, Role::Server, Some(config)).await;
        let mut messages = Vec::new();
        let mut end = None;
        // After a Close it has to be polled until the answer is written.
        while let Some(next) = socket.next().await {
            match next {
                Ok(Theirs::Text(text)) => messages.push(Message::from(text.as_str())),
                Ok(Theirs::Binary(bytes)) => messages.push(Message::from(bytes)),
                Ok(Theirs::Ping(_) | Theirs::Pong(_)) => {}
                // How it reports an illegal code.
                Ok(Theirs::Close(Some(close))) if close.reason == "Protocol violation" => {
                    end = Some(End::Refused(1002));
                }
                Ok(Theirs::Close(_)) => end = Some(End::Closed),
                Ok(Theirs::Frame(_)) => unreachable!("only written, never read"),
                Err(error) => end = end.or(Some(their_end(&error))),
            }
        }
        (messages, end.unwrap())
    };
    let ((messages, end), written) = join!(serve, talk(client, bytes));
    let close = close_of(&written).await;
    Outcome {
        messages,
        end,
        rule: String::new(),
        close,
    }
}

fn their_end(error: &Error) -> End {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Eof,
        Error::Protocol(_) => End::Refused(1002),
        Error::Utf8(_) => End::Refused(1007),
        Error::Capacity(_) => End::Refused(1009),
        error => panic!("{error:?} on a stream in memory"),
    }
}

/// Writes all bytes and ends that half of the stream, as far as the server takes them; returns
/// what it wrote.
async fn talk(client: DuplexStream, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(client);
    let mut written = Vec::new();
    let write = async {
        // A server that has refused what came before may be gone.
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    };
    let (read, ()) = join!(reader.read_to_end(&mut written), write);
    read.unwrap();
    written
}

/// Returns the code of the Close in what a server wrote, which has to be the last frame.
async fn close_of(mut written: &[u8]) -> Option<Option<u16>> {
    let mut close = None;
    while let Some(frame) = wire::read_frame(&mut written).await {
        assert_eq!(close, None, "{frame:?} behind the Close");
        match frame.first {
            first if first == FIN | CLOSE => close = Some(frame.close_code()),
            first => assert_eq!(first, FIN | PONG, "nothing else was to be sent"),
        }
    }
    close
}

/// xorshift64*: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn new(seed: u32) -> Self {
        let seed = u64::from(seed) + 1;
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(high).unwrap() % end
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Makes what a client sends: mostly a valid session, often with a fault.
    fn session(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..self.below(6) {
            match self.below(8) {
                0 => {
                    let payload = self.payload(126);
                    bytes.extend(wire::frame(FIN | PING, &payload));
                }
                1 => bytes.extend(self.frame_as_it_comes()),
                _ => self.message(&mut bytes),
            }
        }
        if self.below(3) > 0 {
            bytes.extend(self.close());
            if self.below(4) == 0 {
                self.message(&mut bytes);
            }
        }
        if !bytes.is_empty() && self.below(3) == 0 {
            for _ in 0..=self.below(2) {
                // Mostly near the front, where the first heads are.
                let at = self.below(bytes.len());
                let at = if self.below(2) == 0 { at } else { at.min(20) };
                match self.below(3) {
                    0 => bytes[at] = self.byte(),
                    1 => bytes[at] ^= 1 << self.below(8),
                    _ => bytes.truncate(bytes.len() - at.min(8)),
                }
                if bytes.is_empty() {
                    break;
                }
            }
        }
        bytes
    }

    /// A message in some frames, with pings between them.
    fn message(&mut self, bytes: &mut Vec<u8>) {
        let mut opcode = self.pick(&[TEXT, TEXT, BINARY]);
        let payload = match opcode {
            TEXT => self.text(),
            _ => self.payload(200),
        };
        let mut rest = &payload[..];
        for _ in 0..self.below(4) {
            let (fragment, more) = rest.split_at(self.below(rest.len() + 1));
            bytes.extend(wire::frame(opcode, fragment));
            if self.below(3) == 0 {
                bytes.extend(wire::frame(FIN | PING, b"between"));
            }
            rest = more;
            opcode = CONTINUATION;
        }
        bytes.extend(wire::frame(FIN | opcode, rest));
    }

    /// Returns a text. One in ten is not valid UTF-8.
    fn text(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..self.below(60) {
            let character = self.pick(&["a", "b", "é", "€", "\u{7ff}", "\u{10ffff}"]);
            text.extend(character.as_bytes());
        }
        if self.below(10) == 0 {
            let fault = self.pick(&[
                &b"\xff"[..],
                b"\xc0\x80",
                b"\xed\xa0\x80",
                b"\xf4\x90",
                b"\xe2\x82",
            ]);
            text.extend(fault);
            if self.below(2) == 0 {
                text.extend(b" and more");
            }
        }
        text
    }

    fn payload(&mut self, longest: usize) -> Vec<u8> {
        let len = match self.below(12) {
            // About the limits, of a frame and of its length in one byte.
            0 => MAX_FRAME - 2 + self.below(4),
            1 => 124 + self.below(4),
            _ => self.below(longest),
        };
        (0..len).map(|_| self.byte()).collect()
    }

    /// A frame with any opcode and any reserved bits, its length written in any way, masked or not.
    fn frame_as_it_comes(&mut self) -> Vec<u8> {
        let first = match self.below(3) {
            0 => self.byte(),
            1 => self.byte() & 0x8f,
            _ => FIN | self.pick(&[TEXT, BINARY]),
        };
        let payload = self.payload(60);
        let len = payload.len();
        let is_masked = self.below(6) > 0;
        let masked = if is_masked { 0x80 } else { 0 };
        let mut frame = vec![first];
        match self.below(3) {
            0 => {
                frame.push(masked | 126);
                frame.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
            1 => {
                frame.push(masked | 127);
                let top = if self.below(4) == 0 { 1 << 63 } else { 0 };
                frame.extend((u64::try_from(len).unwrap() | top).to_be_bytes());
            }
            _ => frame = wire::header(first, len, is_masked),
        }
        if is_masked {
            frame.extend([0; 4]);
        }
        frame.extend(payload);
        frame
    }

    fn close(&mut self) -> Vec<u8> {
        match self.below(8) {
            0 => wire::frame(FIN | CLOSE, b""),
            1 => wire::frame(FIN | CLOSE, b"\x03"),
            2 => wire::close(1000, "bye"),
            3 => wire::frame(FIN | CLOSE, b"\x03\xe8caf\xc3"),
            4 => {
                let code = self.pick(&[999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535]);
                wire::close(code, "")
            }
            5 => wire::close(1014, "gateway"),
            _ => {
                let code = self.pick(&[1001, 1002, 1003, 1007, 1011, 1013, 3000, 3999, 4000, 4999]);
                wire::close(code, "grüß")
            }
        }
    }
}
