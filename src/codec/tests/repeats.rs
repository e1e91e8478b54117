//! Messages that are answered in their place.

use std::{io::IoSlice, time::Instant};

use super::{
    BINARY, CONTINUATION, LIMITS, Rng, TEXT, at_server, decode_by, decoder, push_frame,
    sessions::{mutate, random_session},
};
use crate::codec::{Decoder, Event, Limits, Load, Next, Outgoing, Role, repeat};

/// What a server answers that repeats, by the encoder.
fn answers(events: &[Event]) -> Vec<u8> {
    let mut outgoing = Outgoing::new(Role::Server);
    for event in events {
        let Event::Message(message) = event else {
            panic!("no message: {event:?}");
        };
        outgoing.push(message, true);
    }
    let mut written = Vec::new();
    while !outgoing.is_empty() {
        let mut slices = [IoSlice::new(&[])];
        let slice = outgoing.slices(&mut slices)[0].to_vec();
        outgoing.advance(slice.len());
        written.extend(slice);
    }
    written
}

#[test]
fn repeats_in_place_what_is_whole_and_usual_and_leaves_the_rest() {
    let mut rng = Rng::new(12);
    let (mut repeated, mut refused, mut left) = (0, 0, 0);
    for round in 0..1000 {
        let mut bytes = Vec::new();
        for _ in 0..rng.below(12) {
            let len = [rng.below(126), 126, rng.below(300), rng.below(70_000)][rng.below(4)];
            match rng.below(9) {
                0 => push_frame(&mut bytes, TEXT, true, "é".repeat(len / 2).as_bytes()),
                1 => push_frame(&mut bytes, TEXT, true, &vec![b'a'; len]),
                2 if round % 5 == 0 => push_frame(&mut bytes, TEXT, true, b"\xc3"),
                3 if round % 3 == 0 => bytes.extend(random_session(&mut rng).0),
                _ => {
                    let payload = rng.bytes(len);
                    push_frame(&mut bytes, BINARY, true, &payload);
                }
            }
        }
        bytes.truncate(bytes.len() - rng.below(bytes.len() / 4 + 1));
        if round % 7 == 0 {
            mutate(&mut bytes, &mut rng);
        }
        let texts = rng.below(3) > 0;
        let most = [3, usize::MAX][rng.below(2)];
        let rules = at_server(Limits {
            frame: 60_000,
            ..LIMITS
        });
        let limit = Decoder::new(rules).usual_limit().unwrap();
        let mut input = bytes.clone();
        let repeats = repeat(&mut input, limit, texts, most);

        assert!(
            input[repeats.taken..] == bytes[repeats.taken..],
            "round {round}"
        );
        let (events, result, _) = decode_by(&bytes[..repeats.taken], rules, || usize::MAX);
        assert_eq!(result.err(), repeats.violation, "round {round}");
        assert!(input[repeats.frames] == answers(&events), "round {round}");
        assert_eq!(events.len(), repeats.messages, "round {round}");
        let is_text = |event: &Event| matches!(event, Event::Message(message) if message.is_text());
        assert!(texts || !events.iter().any(is_text), "round {round}");
        // What is left is nothing that it could have taken.
        let rest = decode_by(&bytes[repeats.taken..], rules, || usize::MAX);
        if let (Some(Event::Message(message)), None) = (rest.0.first(), repeats.violation) {
            let is_usual = bytes[repeats.taken] & 0x80 != 0
                && message.len() < 0x1_0000
                && (texts || !message.is_text())
                && bytes[repeats.taken] & 0xf < 3;
            assert!(!is_usual || repeats.messages == most, "round {round}");
        }
        repeated += repeats.messages;
        refused += usize::from(repeats.violation.is_some());
        left += usize::from(repeats.taken < bytes.len());
    }
    assert!(
        repeated > 1000 && refused > 20 && left > 500,
        "{repeated} {refused} {left}"
    );
}

#[test]
fn nothing_may_be_repeated_at_a_client_or_within_a_message() {
    let mut at_client = at_server(LIMITS);
    at_client.role = Role::Client;
    assert_eq!(Decoder::new(at_client).usual_limit(), None);

    let mut whole = Vec::new();
    push_frame(&mut whole, BINARY, false, b"first of two");
    push_frame(&mut whole, CONTINUATION, true, b"second");
    for len in 0..=whole.len() {
        let mut begun = decoder(LIMITS);
        let _ = begun.decode(&mut &whole[..len], Instant::now());
        let is_between = len == 0 || len == whole.len();
        assert_eq!(begun.usual_limit().is_some(), is_between, "{len} bytes");
    }
}

/// Writes a frame as a server does, by the book.
fn answer(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16;
    let mut frame = vec![0x80 | opcode];
    match len {
        0..=125 => frame.push(len as u8),
        _ => {
            frame.push(126);
            frame.extend(len.to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

#[test]
fn repeats_every_length_behind_every_other_byte_for_byte() {
    let payload = |len: usize| -> Vec<u8> { (0..len).map(|at| (at % 127) as u8).collect() };
    let others = [0, 1, 31, 32, 33, 125, 126, 127, 300];
    let pairs = (0..300).flat_map(|first| others.map(|second| (first, second)));
    for (first, second) in pairs.chain([(65_535, 65_535), (65_534, 126), (5, 65_535)]) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (opcode, len) in [(TEXT, first), (BINARY, second), (TEXT, 3)] {
            push_frame(&mut bytes, opcode, true, &payload(len));
            expected.extend(answer(opcode, &payload(len)));
        }
        let whole = bytes.len();
        // The start of a head, left as it is.
        bytes.extend([0x82, 0xfe, 0x01]);
        let repeats = repeat(&mut bytes, LIMITS.message, true, usize::MAX);
        let case = format!("{first} and {second}");
        assert_eq!((repeats.messages, repeats.taken), (3, whole), "{case}");
        assert_eq!(repeats.bytes, first + second + 3, "{case}");
        assert!(bytes[repeats.frames] == expected, "{case}");
        assert_eq!(bytes[whole..], [0x82, 0xfe, 0x01], "{case}");
    }
}

#[test]
fn repeats_what_is_whole_wherever_the_input_ends() {
    for len in [0, 5, 125, 126, 200] {
        let payload = vec![b'a'; len];
        let mut bytes = Vec::new();
        for _ in 0..3 {
            push_frame(&mut bytes, TEXT, true, &payload);
        }
        let one = bytes.len() / 3;
        for end in 0..=bytes.len() {
            for most in 0..=4 {
                let whole = most.min(end / one);
                let mut input = bytes[..end].to_vec();
                let repeats = repeat(&mut input, LIMITS.message, true, most);
                let case = format!("{end} bytes of frames of {one}, at most {most}");
                assert_eq!(
                    (repeats.messages, repeats.taken),
                    (whole, whole * one),
                    "{case}"
                );
                let expected = answer(TEXT, &payload).repeat(whole);
                assert!(input[repeats.frames] == expected, "{case}");
                assert!(input[whole * one..] == bytes[whole * one..end], "{case}");
            }
        }
    }
}

#[test]
fn leaves_what_is_over_a_limit_or_of_another_form() {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, BINARY, true, &[7; 1000]);
    for (message, frame, messages) in [(1000, 1000, 1), (999, 1000, 0), (1000, 999, 0)] {
        let limits = Limits {
            message,
            frame,
            ..LIMITS
        };
        let limit = decoder(limits).usual_limit().unwrap();
        let repeats = repeat(&mut bytes.clone(), limit, true, 9);
        assert_eq!(repeats.messages, messages, "limits {message} and {frame}");
    }
    let key = [1, 2, 3, 4];
    for head in [
        // A length in more bytes than it needs, no mask, a reserved bit, an opcode that is no start.
        &[0x82, 0xfe, 0, 125][..],
        &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 126],
        &[0x82, 0x05],
        &[0xc2, 0x85],
        &[0x80, 0x85],
        &[0x02, 0x85],
        &[0x89, 0x85],
    ] {
        let mut bytes = [head, &key, &[0; 200]].concat();
        let before = bytes.clone();
        let repeats = repeat(&mut bytes, LIMITS.message, true, 9);
        assert_eq!((repeats.messages, repeats.taken), (0, 0), "{head:x?}");
        assert!(repeats.frames.is_empty() && bytes == before, "{head:x?}");
    }
}

/// Decodes a stream in pieces, and queues what was put together in the pieces in which it is, else
/// as a copy.
fn push_all(bytes: &[u8], pieces: usize, to: &mut Outgoing) {
    let now = Instant::now();
    let mut decoder = decoder(LIMITS);
    for mut input in bytes.chunks(pieces) {
        while let Some(next) = decoder.next(&mut input, now).unwrap() {
            match next {
                Next::Assembled(message) => {
                    assert!(message.capacity() <= 2 * message.len());
                    to.push_assembled(*message);
                }
                Next::Whole(whole) => drop(to.repeat(whole, "").unwrap()),
                Next::Event(event) => panic!("no message: {event:?}"),
            }
        }
    }
}

#[test]
fn writes_what_was_put_together_like_what_is_copied() {
    let mut rng = Rng::new(13);
    for round in 0..150 {
        let mut bytes = Vec::new();
        for _ in 0..rng.below(8) {
            let len = [0, rng.below(20), rng.below(9000), rng.below(200_000)][rng.below(4)];
            let payload = rng.bytes(len);
            let (front, back) = payload.split_at(rng.below(len + 1));
            match rng.below(3) {
                0 => push_frame(&mut bytes, BINARY, true, &payload),
                _ => {
                    push_frame(&mut bytes, BINARY, false, front);
                    push_frame(&mut bytes, CONTINUATION, true, back);
                }
            }
        }
        let (events, result, _) = decode_by(&bytes, at_server(LIMITS), || usize::MAX);
        assert_eq!(result, Ok(()), "round {round}");
        let mut outgoing = Outgoing::new(Role::Server);
        push_all(&bytes, 1 + rng.below(80_000), &mut outgoing);

        let load = outgoing.load();
        assert_eq!(load.messages, events.len(), "round {round}");
        let (mut written, mut room) = (Vec::new(), Load::default());
        while !outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let slices = outgoing.slices(&mut slices);
            let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
            let before = written.len();
            written.extend(bytes.take(1 + rng.below(90_000)));
            let made = outgoing.advance(written.len() - before);
            room.messages += made.messages;
            room.bytes += made.bytes;
        }
        assert!(written == answers(&events), "round {round}");
        assert_eq!((room, load.bytes), (load, written.len()), "round {round}");
    }
}

#[test]
fn gathers_small_messages_that_were_put_together() {
    let mut bytes = Vec::new();
    for _ in 0..50 {
        push_frame(&mut bytes, BINARY, false, b"first");
        push_frame(&mut bytes, CONTINUATION, true, b"second");
    }
    let mut outgoing = Outgoing::new(Role::Server);
    push_all(&bytes, usize::MAX, &mut outgoing);
    let mut slices = [IoSlice::new(&[]); 4];
    let slices = outgoing.slices(&mut slices);
    assert_eq!(slices.len(), 1);
    assert!(*slices[0] == answer(BINARY, b"firstsecond").repeat(50));
}
