//! Random streams, valid and invalid: their events, for pieces of any size.

use super::{
    BINARY, CLOSE, CONTINUATION, LIMITS, PING, PONG, Rng, TEXT, at_server, control, decode,
    decode_by, decode_in, push_frame,
};
use crate::{
    codec::{Event, Limits, Rules},
    words::{CloseCode, CloseFrame, Message},
};

#[track_caller]
pub(super) fn assert_same_events_in_pieces(
    bytes: &[u8],
    rules: Rules,
    rng: &mut Rng,
    round: usize,
) {
    let (events, result, _) = decode_by(bytes, rules, || usize::MAX);
    let (by_byte, by_byte_result, proof) = decode_by(bytes, rules, || 1);
    assert_eq!(by_byte_result, result, "round {round}, byte by byte");
    assert!(by_byte == events, "round {round}, byte by byte");
    for largest in [4, 40, 3000] {
        let cut = || 1 + rng.below(largest);
        let (pieces, pieces_result, given) = decode_by(bytes, rules, cut);
        assert_eq!(pieces_result, result, "round {round}, up to {largest}");
        assert!(pieces == events, "round {round}, up to {largest}");
        if result.is_err() {
            let late = given.saturating_sub(proof);
            assert!(late < largest, "round {round}: failed {late} bytes late");
        }
    }
}

pub(super) fn random_message(rng: &mut Rng) -> Message {
    let len = match rng.below(20) {
        0 => 120 + rng.below(10),
        1 => 65_530 + rng.below(10),
        2 => rng.below(5_000),
        _ => rng.below(60),
    };
    if rng.below(2) == 0 {
        return Message::from(rng.bytes(len));
    }
    let alphabet: Vec<char> = "aaaabcé€\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}"
        .chars()
        .collect();
    let mut text = String::new();
    while text.len() < len {
        text.push(alphabet[rng.below(alphabet.len())]);
    }
    Message::from(text)
}

/// Makes a valid stream, and returns its events as well.
pub(super) fn random_session(rng: &mut Rng) -> (Vec<u8>, Vec<Event>) {
    let mut bytes = Vec::new();
    let mut events = Vec::new();
    for _ in 0..rng.below(6) {
        let event = match rng.below(6) {
            0 => {
                let len = rng.below(126);
                Event::Ping(control(&rng.bytes(len)))
            }
            1 => Event::Pong(control(b"")),
            2 => {
                // A control frame between two fragments. Its event comes before that of the message.
                let message = random_message(rng);
                let opcode = if message.is_text() { TEXT } else { BINARY };
                let (front, back) = message.as_bytes().split_at(rng.below(message.len() + 1));
                let payload = rng.bytes(3);
                push_frame(&mut bytes, opcode, false, front);
                push_frame(&mut bytes, PING, true, &payload);
                push_frame(&mut bytes, CONTINUATION, true, back);
                events.push(Event::Ping(control(&payload)));
                events.push(Event::Message(message));
                continue;
            }
            _ => Event::Message(random_message(rng)),
        };
        push_event(&mut bytes, &event, rng);
        events.push(event);
    }
    if rng.below(2) == 0 {
        let close = match rng.below(2) {
            0 => None,
            _ => Some(CloseFrame::new(CloseCode::new(4000).unwrap(), "grüß").unwrap()),
        };
        push_event(&mut bytes, &Event::Close(close.clone()), rng);
        events.push(Event::Close(close));
    }
    (bytes, events)
}

fn push_event(to: &mut Vec<u8>, event: &Event, rng: &mut Rng) {
    match event {
        Event::Ping(payload) => push_frame(to, PING, true, payload),
        Event::Pong(payload) => push_frame(to, PONG, true, payload),
        Event::Close(None) => push_frame(to, CLOSE, true, b""),
        Event::Close(Some(close)) => {
            let code = close.code().get().to_be_bytes();
            let payload = [&code, close.reason().as_bytes()].concat();
            push_frame(to, CLOSE, true, &payload);
        }
        Event::Message(message) => {
            let mut opcode = if message.is_text() { TEXT } else { BINARY };
            let mut rest = message.as_bytes();
            for _ in 0..rng.below(5) {
                let (fragment, more) = rest.split_at(rng.below(rest.len() + 1));
                push_frame(to, opcode, false, fragment);
                rest = more;
                opcode = CONTINUATION;
            }
            push_frame(to, opcode, true, rest);
        }
    }
}

/// Changes a few bytes. About half of the changes are in the first 16 bytes, because heads are there.
pub(super) fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = match rng.below(2) {
            0 => rng.below(bytes.len().min(16)),
            _ => rng.below(bytes.len()),
        };
        match rng.below(4) {
            0 => bytes[at] = rng.next() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, rng.next() as u8),
        }
    }
}

#[test]
fn decodes_what_was_encoded() {
    let mut rng = Rng::new(2);
    for round in 0..1_500 {
        let (bytes, expected) = random_session(&mut rng);
        let (events, result) = decode(&bytes);
        assert_eq!(result, Ok(()), "round {round}");
        assert!(events == expected, "round {round}: {events:?}");
    }
}

#[test]
fn gives_the_same_events_for_pieces_of_a_valid_stream() {
    let mut rng = Rng::new(3);
    for round in 0..400 {
        let (bytes, _) = random_session(&mut rng);
        assert_same_events_in_pieces(&bytes, at_server(LIMITS), &mut rng, round);
    }
}

#[test]
fn gives_the_same_events_for_pieces_of_a_mutated_stream() {
    let mut rng = Rng::new(4);
    let limits = Limits {
        message: 9_000,
        frame: 4_000,
        fragments: 4,
        empty_fragments: 1,
        ..LIMITS
    };
    let mut refused = 0;
    for round in 0..4_000 {
        let (mut bytes, _) = random_session(&mut rng);
        bytes.truncate(20_000);
        mutate(&mut bytes, &mut rng);
        let limits = if round % 2 == 0 { limits } else { LIMITS };
        refused += usize::from(decode_in(&bytes, limits, || usize::MAX).1.is_err());
        assert_same_events_in_pieces(&bytes, at_server(limits), &mut rng, round);
    }
    assert!((1_000..3_700).contains(&refused), "{refused} were refused");
}

#[test]
fn gives_the_same_events_for_pieces_of_noise() {
    let mut rng = Rng::new(5);
    for round in 0..20_000 {
        let len = 1 + rng.below(300);
        let mut noise = rng.bytes(len);
        // Without this, almost all noise is refused at its second byte.
        if round % 4 != 0 {
            noise[0] = [0x81, 0x01, 0x82, 0x02, 0x88, 0x89][rng.below(6)];
            if let Some(second) = noise.get_mut(1) {
                *second = 0x80 | (*second & 0x1f);
            }
        }
        assert_same_events_in_pieces(&noise, at_server(LIMITS), &mut rng, round);
    }
}
