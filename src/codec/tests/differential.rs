//! The same streams, decoded by tungstenite.

use std::io::{self, Read, Write};

use tokio_tungstenite::tungstenite::{
    self,
    error::ProtocolError,
    protocol::{self, WebSocketConfig},
};

use super::{LIMITS, Rng, control, decode, sessions::random_session};
use crate::{
    close::{CloseCode, CloseFrame},
    codec::{Event, Limits, Violation},
    message::Message,
};

/// What tungstenite makes of the same bytes: the events, and whether it refused the rest.
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
            // How it reports an illegal code.
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
            Ok(protocol::Message::Frame(_)) => unreachable!("only written, never read"),
            Err(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (events, false);
            }
            Err(_) => return (events, true),
        });
    }
}

#[test]
fn agrees_with_tungstenite_where_that_follows_the_rules() {
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
        let (theirs, refused) = decode_by_tungstenite(&bytes, LIMITS);
        let (ours, result) = decode(&bytes);
        match result {
            Ok(()) => {
                assert!(!refused, "round {round}: only tungstenite refuses");
                assert!(ours == theirs, "round {round}");
            }
            // Lengths in too many bytes it takes, and goes on.
            Err(Violation::Protocol(why)) if why.contains("more bytes") => {
                assert!(theirs.starts_with(&ours), "round {round}");
            }
            // Some faults it sees only at the end of a frame, which may never come.
            Err(violation) => {
                assert!(ours == theirs, "round {round}: {violation:?}");
                *(if refused { &mut both } else { &mut early }) += 1;
            }
        }
    }
    assert!(both > 700 && early < both / 4, "{both} and {early}");
}
