//! Properties of all messages and streams, on both sides of a connection.

use std::io::IoSlice;

use tokio_tungstenite::tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

use super::{
    BINARY, CLOSE, CONTINUATION, LIMITS, PING, PONG, Rng, TEXT, control, decode_by,
    sessions::{assert_same_events_in_pieces, mutate, random_message},
};
use crate::{
    codec::{Compression, Deflation, Event, Limits, Mask, Outgoing, Role, Rules},
    words::{CloseCode, CloseFrame},
};

/// The role and the compression for a test.
#[derive(Clone, Copy, Debug)]
struct Setting {
    /// The role of the decoding side.
    role: Role,
    /// `Some` if messages may be compressed.
    deflation: Option<Deflation>,
}

fn settings() -> Vec<Setting> {
    #[cfg(not(feature = "deflate"))]
    let deflations = [None];
    #[cfg(feature = "deflate")]
    let deflations = [None, Some(deflation())];
    let roles = [Role::Server, Role::Client].into_iter();
    roles
        .flat_map(|role| deflations.map(|deflation| Setting { role, deflation }))
        .collect()
}

#[cfg(feature = "deflate")]
pub(super) fn deflation() -> Deflation {
    use crate::{codec::Deflate, handshake::extension::deflate};
    let direction = deflate::Direction {
        window_bits: 12,
        context_takeover: false,
    };
    Deflate::new().min_size(0).agreed(deflate::Terms {
        send: direction,
        receive: direction,
    })
}

impl Setting {
    fn rules(self, limits: Limits) -> Rules {
        Rules {
            role: self.role,
            limits,
            deflation: self.deflation,
        }
    }

    /// Writes a frame of the other side. A client masks it with `key`. `opcode` may include the bit of
    /// compressed messages.
    fn push_frame(self, to: &mut Vec<u8>, opcode: u8, last: bool, payload: &[u8], key: [u8; 4]) {
        let mask = match self.role {
            Role::Server => Some(key),
            Role::Client => None,
        };
        FrameHeader {
            is_final: last,
            rsv1: opcode & COMPRESSED != 0,
            opcode: OpCode::from(opcode & 0xf),
            mask,
            ..FrameHeader::default()
        }
        .format(payload.len() as u64, to)
        .unwrap();
        mask.map_or(Mask::NONE, Mask::new).append(payload, to);
    }

    /// Writes an event in a random number of frames with random masks. Some pongs are between the frames.
    /// Returns the number of these pongs.
    fn push_event(self, to: &mut Vec<u8>, event: &Event, rng: &mut Rng) -> usize {
        let key = |rng: &mut Rng| match rng.below(4) {
            0 => [0; 4],
            _ => [(); 4].map(|()| rng.next() as u8),
        };
        let (mut opcode, payload) = match event {
            Event::Ping(payload) => (PING, payload.to_vec()),
            Event::Pong(payload) => (PONG, payload.to_vec()),
            Event::Close(None) => (CLOSE, Vec::new()),
            Event::Close(Some(close)) => {
                let code = close.code().get().to_be_bytes();
                (CLOSE, [&code, close.reason().as_bytes()].concat())
            }
            Event::Message(message) => {
                let opcode = if message.is_text() { TEXT } else { BINARY };
                let compressed = self
                    .deflation
                    .filter(|deflation| deflation.applies_to(message.len()))
                    .and_then(|deflation| {
                        Compression::new(deflation).compress_at_once(message.as_bytes())
                    });
                match compressed {
                    Some(compressed) => (COMPRESSED | opcode, compressed.to_vec()),
                    None => (opcode, message.as_bytes().to_vec()),
                }
            }
        };
        let mut rest = &payload[..];
        let mut pongs = 0;
        if let Event::Message(_) = event {
            for _ in 0..rng.below(6) {
                let (fragment, more) = rest.split_at(rng.below(rest.len() + 1));
                self.push_frame(to, opcode, false, fragment, key(rng));
                if rng.below(4) == 0 {
                    self.push_frame(to, PONG, true, b"", key(rng));
                    pongs += 1;
                }
                rest = more;
                opcode = CONTINUATION;
            }
        }
        self.push_frame(to, opcode, true, rest, key(rng));
        pongs
    }

    /// Makes a valid stream, and returns its events as well.
    fn session(self, rng: &mut Rng) -> (Vec<u8>, Vec<Event>) {
        let (mut bytes, mut events) = (Vec::new(), Vec::new());
        for event in random_events(rng) {
            let pongs = self.push_event(&mut bytes, &event, rng);
            // The event of a pong between fragments comes before that of the message.
            events.extend((0..pongs).map(|_| Event::Pong(control(b""))));
            events.push(event);
        }
        (bytes, events)
    }
}

/// The bit in the first frame of a compressed message (RFC 7692 §6).
const COMPRESSED: u8 = 0x40;

fn random_events(rng: &mut Rng) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..rng.below(6) {
        events.push(match rng.below(6) {
            kind @ (0 | 1) => {
                let len = rng.below(126);
                let payload = control(&rng.bytes(len));
                match kind {
                    0 => Event::Ping(payload),
                    _ => Event::Pong(payload),
                }
            }
            _ => Event::Message(random_message(rng)),
        });
    }
    if rng.below(2) == 0 {
        events.push(Event::Close(match rng.below(3) {
            0 => None,
            _ => {
                let code = [1000, 1001, 1014, 3000, 4999][rng.below(5)];
                let reason = "é".repeat(rng.below(62));
                Some(CloseFrame::new(CloseCode::new(code).unwrap(), reason).unwrap())
            }
        }));
    }
    events
}

#[test]
fn decodes_events_in_any_frames_with_any_mask() {
    let mut rng = Rng::new(11);
    for setting in settings() {
        for round in 0..200 {
            let (bytes, expected) = setting.session(&mut rng);
            let mut cut = || 1 + rng.below(5_000);
            let (events, result, _) = decode_by(&bytes, setting.rules(LIMITS), &mut cut);
            assert_eq!(result, Ok(()), "{setting:?}, round {round}");
            assert!(events == expected, "{setting:?}, round {round}");
        }
    }
}

#[test]
fn decodes_sent_events_for_writes_of_any_size() {
    let mut rng = Rng::new(12);
    for round in 0..400 {
        let (sends, receives) = match round % 2 {
            0 => (Role::Server, Role::Client),
            _ => (Role::Client, Role::Server),
        };
        let rules = Rules {
            role: receives,
            limits: LIMITS,
            deflation: None,
        };
        let sent = random_events(&mut rng);
        let contiguous = rng.below(2) == 0;
        let mut outgoing = Outgoing::new(sends, contiguous);
        let mut written = Vec::new();
        for event in &sent {
            match event {
                Event::Message(message) => outgoing.push(&mut message.clone()),
                Event::Ping(payload) => outgoing.push_ping(payload),
                Event::Pong(payload) => outgoing.push_pong(payload),
                Event::Close(close) => outgoing.push_close(close.as_ref()),
            }
            // Some bytes are written before the next event is queued.
            for _ in 0..rng.below(3) {
                write_some(&mut outgoing, &mut written, 1 + rng.below(9_000));
            }
        }
        while !outgoing.is_empty() {
            write_some(&mut outgoing, &mut written, 1 + rng.below(70_000));
        }
        let mut cut = || 1 + rng.below(5_000);
        let (events, result, _) = decode_by(&written, rules, &mut cut);
        assert_eq!(result, Ok(()), "round {round}");
        assert!(events == sent, "round {round}, contiguous: {contiguous}");
    }
}

fn write_some(outgoing: &mut Outgoing, written: &mut Vec<u8>, at_most: usize) {
    let mut slices = [IoSlice::new(&[]); 3];
    let slices = outgoing.slices(&mut slices);
    let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
    let before = written.len();
    written.extend(bytes.take(at_most));
    let _ = outgoing.advance(written.len() - before);
}

#[test]
fn gives_the_same_events_for_pieces_on_both_sides() {
    let mut rng = Rng::new(13);
    let tight = Limits {
        message: 9_000,
        frame: 4_000,
        fragments: 4,
        empty_fragments: 1,
        ..LIMITS
    };
    let (mut accepted, mut refused) = (0, 0);
    for setting in settings() {
        for round in 0..300 {
            let (mut bytes, _) = setting.session(&mut rng);
            match round % 3 {
                0 => {}
                1 => mutate(&mut bytes, &mut rng),
                _ => {
                    let len = 2 + rng.below(300);
                    bytes = rng.bytes(len);
                    // Without this, almost all noise is refused at its second byte.
                    bytes[0] = [0x81, 0x01, 0x82, 0x02, 0x88, 0x89, 0xc1, 0x41][rng.below(8)];
                    let masked = if setting.role == Role::Server {
                        0x80
                    } else {
                        0
                    };
                    bytes[1] = masked | (bytes[1] & 0x1f);
                }
            }
            bytes.truncate(20_000);
            let rules = setting.rules(if round % 2 == 0 { LIMITS } else { tight });
            assert_same_events_in_pieces(&bytes, rules, &mut rng, round);
            match decode_by(&bytes, rules, || usize::MAX).1 {
                Ok(()) => accepted += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(
        accepted > 100 && refused > 100,
        "{accepted} were accepted and {refused} refused"
    );
}
