//! Messages that are answered in their place.

use std::time::Instant;

use super::{
    BINARY, LIMITS, Rng, TEXT, at_server, decode_by, decoder, push_frame,
    sessions::{mutate, random_session},
};
use crate::codec::{Decoder, Event, Limits, Outgoing, Role};

/// What a server answers that repeats.
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
        let mut slices = [std::io::IoSlice::new(&[])];
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
    for round in 0..3000 {
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
        let mut input = bytes.clone();
        let repeats = Decoder::new(rules).repeat(&mut input, texts, most);

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
        repeated > 5000 && refused > 50 && left > 1000,
        "{repeated} {refused} {left}"
    );
}

#[test]
fn repeats_nothing_at_a_client_or_within_a_message() {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, BINARY, true, b"whole");
    let mut at_client = at_server(LIMITS);
    at_client.role = Role::Client;
    let repeats = Decoder::new(at_client).repeat(&mut bytes.clone(), true, 9);
    assert_eq!((repeats.messages, repeats.taken), (0, 0));

    let mut begun = decoder(LIMITS);
    let mut first = Vec::new();
    push_frame(&mut first, BINARY, false, b"first of two");
    assert_eq!(begun.decode(&mut &first[..], Instant::now()), Ok(None));
    let repeats = begun.repeat(&mut bytes, true, 9);
    assert_eq!((repeats.messages, repeats.taken), (0, 0));
}
