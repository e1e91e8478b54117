//! Comparison with tungstenite.

use std::io::{self, Read, Write};

use tokio_tungstenite::tungstenite::{
    self,
    error::ProtocolError,
    protocol::{self, WebSocketConfig},
};

use super::{
    LIMITS, Rng, at_server, control, decode,
    direct_reads::{decode_with_direct_reads, push_large},
    sessions::random_session,
};
use crate::{
    codec::{Event, Limits, Violation, hold_turn},
    words::{CloseCode, CloseFrame, Message},
};

/// Decodes a stream with tungstenite. Returns the events, and whether it refused the rest.
fn decode_by_tungstenite(bytes: &[u8], limits: Limits) -> (Vec<Event>, bool) {
    struct Peer<'a>(&'a [u8]);
    impl Read for Peer<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Peer<'_> {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.message))
        .max_frame_size(Some(limits.frame));
    let mut socket =
        protocol::WebSocket::from_raw_socket(Peer(bytes), protocol::Role::Server, Some(config));
    let mut events = Vec::new();
    loop {
        events.push(match socket.read() {
            Ok(protocol::Message::Text(text)) => Event::Message(Message::from(text.as_str())),
            Ok(protocol::Message::Binary(bytes)) => Event::Message(Message::from(bytes)),
            Ok(protocol::Message::Ping(payload)) => Event::Ping(control(&payload)),
            Ok(protocol::Message::Pong(payload)) => Event::Pong(control(&payload)),
            // tungstenite reports an illegal code this way.
            Ok(protocol::Message::Close(Some(close))) if close.reason == "Protocol violation" => {
                return (events, true);
            }
            Ok(protocol::Message::Close(close)) => {
                events.push(Event::Close(close.map(|close| {
                    let code = CloseCode::new(close.code.into()).unwrap();
                    CloseFrame::new(code, close.reason.as_str()).unwrap()
                })));
                return (events, false);
            }
            Ok(protocol::Message::Frame(_)) => unreachable!("`read` never returns it"),
            Err(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (events, false);
            }
            Err(_) => return (events, true),
        });
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Both {
    Accept,
    Refuse,
    /// We refuse a frame that tungstenite still waits for.
    RefuseEarly,
    /// We refuse a frame that tungstenite accepts.
    Differ,
}

/// Asserts that our result is the same as that of tungstenite, or differs in a known way.
fn compare(bytes: &[u8], ours: &[Event], result: Result<(), Violation>, round: usize) -> Both {
    let (theirs, refused) = decode_by_tungstenite(bytes, LIMITS);
    match result {
        Ok(()) => {
            assert!(!refused, "round {round}: only tungstenite refuses");
            assert!(ours == theirs, "round {round}");
            Both::Accept
        }
        // tungstenite accepts a length in too many bytes.
        Err(Violation::Protocol(why)) if why.contains("more bytes") => {
            assert!(theirs.starts_with(ours), "round {round}");
            Both::Differ
        }
        // tungstenite finds some errors only at the end of a frame.
        Err(violation) => {
            assert!(ours == theirs, "round {round}: {violation:?}");
            match refused {
                true => Both::Refuse,
                false => Both::RefuseEarly,
            }
        }
    }
}

#[test]
fn agrees_with_tungstenite() {
    let mut rng = Rng::new(7);
    let (mut both, mut early) = (0, 0);
    for round in 0..4_000 {
        let (mut bytes, _) = random_session(&mut rng);
        if bytes.is_empty() {
            continue;
        }
        for _ in 0..rng.below(3) {
            let at = rng.below(bytes.len().min(40));
            bytes[at] ^= 1 << rng.below(8);
        }
        let (ours, result) = decode(&bytes);
        match compare(&bytes, &ours, result, round) {
            Both::Refuse => both += 1,
            Both::RefuseEarly => early += 1,
            Both::Accept | Both::Differ => {}
        }
    }
    assert!(both > 700 && early < both / 4, "{both} and {early}");
}

#[test]
fn agrees_with_tungstenite_on_direct_reads() {
    let mut rng = Rng::new(8);
    let (mut accepted, mut refused, mut direct) = (0, 0, 0);
    for round in 0..150 {
        let mut bytes = Vec::new();
        for _ in 0..=rng.below(3) {
            push_large(&mut rng, &mut bytes);
        }
        if round % 3 == 0 {
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        }
        let max = [20_000, 70_000, 300_000][round % 3];
        let _turn = (round % 2 == 0).then(hold_turn);
        let (ours, result, direct_reads) =
            decode_with_direct_reads(&bytes, at_server(LIMITS), || 1 + rng.below(max));
        match compare(&bytes, &ours, result, round) {
            Both::Accept => accepted += 1,
            Both::Refuse => refused += 1,
            Both::RefuseEarly | Both::Differ => {}
        }
        direct += direct_reads;
    }
    assert!(
        accepted > 50 && refused > 20 && direct > 500,
        "{accepted} {refused} {direct}"
    );
}
