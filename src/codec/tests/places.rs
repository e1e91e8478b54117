//! Large payloads that are read to their place, and messages that are answered in theirs.

use std::{io::IoSliceMut, time::Instant};

use super::{
    BINARY, LIMITS, MIB, Rng, TEXT, at_server, decode_by, decoder, push_frame,
    sessions::{mutate, random_session},
};
use crate::codec::{Decoder, Event, Limits, Outgoing, Role, Rules, Violation};

/// Copies as much as there is and fits, and returns how much that is.
fn fill(rooms: &mut [IoSliceMut<'_>], mut bytes: &[u8]) -> usize {
    assert!(rooms.iter().all(|room| !room.is_empty()));
    let before = bytes.len();
    for room in rooms {
        let (front, rest) = bytes.split_at(bytes.len().min(room.len()));
        room[..front.len()].copy_from_slice(front);
        bytes = rest;
    }
    before - bytes.len()
}

/// Decodes as [`decode_by`] does, and reads what has a place there.
///
/// Returns the number of pieces that had one as well.
fn decode_placed(
    bytes: &[u8],
    rules: Rules,
    mut piece: impl FnMut() -> usize,
) -> (Vec<Event>, Result<(), Violation>, usize) {
    let now = Instant::now();
    let mut decoder = Decoder::new(rules);
    let (mut events, mut places, mut rest) = (Vec::new(), 0, bytes);
    while !rest.is_empty() {
        let (mut input, others) = rest.split_at(piece().min(rest.len()));
        while let Some(mut rooms) = decoder.place() {
            let placed = fill(rooms.slices(), input);
            if placed == 0 {
                decoder.rest();
                break;
            }
            places += 1;
            input = &input[placed..];
            match decoder.placed(placed, now) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    events.push(Event::Message(message.into_message().unwrap()));
                }
                Err(violation) => return (events, Err(violation), places),
            }
            assert!(decoder.capacity() <= rules.limits.message);
        }
        rest = others;
        loop {
            match decoder.decode(&mut input, now) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    let is_last = matches!(event, Event::Close(_));
                    events.push(event);
                    if is_last {
                        return (events, Ok(()), places);
                    }
                }
                Err(violation) => return (events, Err(violation), places),
            }
        }
    }
    (events, Ok(()), places)
}

fn large(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let len = 30_000 + rng.below(300_000);
    let is_text = rng.below(2) == 0;
    let mut payload = match is_text {
        true => "é€a".repeat(len / 6).into_bytes(),
        false => rng.bytes(len),
    };
    if is_text && rng.below(4) == 0 {
        let at = rng.below(payload.len());
        payload[at] = 0xff;
    }
    push_frame(bytes, if is_text { TEXT } else { BINARY }, true, &payload);
}

#[test]
fn decodes_the_same_whether_it_is_read_to_its_place_or_not() {
    let mut rng = Rng::new(11);
    let (mut placed, mut refused) = (0, 0);
    for round in 0..300 {
        let mut bytes = random_session(&mut rng).0;
        bytes.truncate(rng.below(3000));
        if round % 4 > 0 {
            bytes.clear();
        }
        for _ in 0..rng.below(4) {
            large(&mut rng, &mut bytes);
        }
        if round % 8 == 0 {
            mutate(&mut bytes, &mut rng);
        }
        for most in [5000, 70_000, 400_000] {
            let rules = at_server(LIMITS);
            let (events, result, _) = decode_by(&bytes, rules, || usize::MAX);
            let (others, other, places) = decode_placed(&bytes, rules, || 1 + rng.below(most));
            assert_eq!(other, result, "round {round}, up to {most}");
            assert!(others == events, "round {round}, up to {most}");
            placed += places;
            refused += usize::from(result.is_err());
        }
    }
    assert!(placed > 1000 && refused > 50, "{placed} {refused}");
}

#[test]
fn has_a_place_only_for_what_is_to_be_expected() {
    const LEN: usize = MIB / 2;
    let mut bytes = Vec::new();
    push_frame(&mut bytes, BINARY, true, &vec![7; LEN]);
    let head = bytes.len() - LEN;
    let now = Instant::now();
    let mut decoder = decoder(LIMITS);
    // A peer that has sent next to nothing has no room made for it.
    let mut few = &bytes[..head + 1000];
    assert_eq!(decoder.decode(&mut few, now), Ok(None));
    assert!(decoder.place().is_none());
    let mut more = &bytes[head + 1000..][..99_000];
    assert_eq!(decoder.decode(&mut more, now), Ok(None));
    let mut rooms = decoder.place().unwrap();
    let room: usize = rooms.slices().iter().map(|room| room.len()).sum();
    assert!(
        room > 3 * 64 * 1024,
        "four buffers can be read into at once"
    );
    // Those that are not are not kept.
    let few = fill(rooms.slices(), &bytes[head + 100_000..][..1]);
    assert!(matches!(decoder.placed(few, now), Ok(None)));
    assert!(decoder.capacity() <= 100_001 + 64 * 1024);
    // What nothing is read to is given up.
    let mut rest = &bytes[head + 100_001..][..31_071];
    assert_eq!(decoder.decode(&mut rest, now), Ok(None));
    assert!(decoder.place().is_some());
    assert!(decoder.capacity() > 3 * 64 * 1024);
    decoder.rest();
    assert_eq!(decoder.capacity(), 2 * 64 * 1024);
    // The end of a payload comes with what is behind it.
    let mut rest = &bytes[head + 131_072..bytes.len() - 1000];
    assert_eq!(decoder.decode(&mut rest, now), Ok(None));
    assert!(decoder.place().is_none());
}

#[test]
fn refuses_what_is_placed_too_late() {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, BINARY, true, &[7; 100_000]);
    let now = Instant::now();
    let mut decoder = decoder(LIMITS);
    let mut input = &bytes[..50_000];
    assert_eq!(decoder.decode(&mut input, now), Ok(None));
    let mut rooms = decoder.place().unwrap();
    assert_eq!(fill(rooms.slices(), &bytes[50_000..50_100]), 100);
    let late = now + LIMITS.assembly.unwrap();
    assert_eq!(decoder.placed(100, late).unwrap_err(), Violation::TooSlow);
}

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
