//! Large payloads that are read to their place.

use std::io::IoSliceMut;

use crate::time::Moment;

use super::{
    BINARY, CONTINUATION, LIMITS, MIB, PING, Rng, TEXT, at_server, decode_by, decoder, push_frame,
    sessions::{mutate, random_session},
};
use crate::codec::{Decoder, Event, Rules, Violation};

/// Copies as much as there is and fits, and returns how much that is.
pub(super) fn fill(rooms: &mut [IoSliceMut<'_>], mut bytes: &[u8]) -> usize {
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
pub(super) fn decode_placed(
    bytes: &[u8],
    rules: Rules,
    mut piece: impl FnMut() -> usize,
) -> (Vec<Event>, Result<(), Violation>, usize) {
    let now = Moment::now();
    let mut decoder = Decoder::new(rules);
    let (mut events, mut places, mut rest) = (Vec::new(), 0, bytes);
    while !rest.is_empty() {
        let (mut input, others) = rest.split_at(piece().min(rest.len()));
        while let Some(mut rooms) = decoder.place() {
            let placed = fill(rooms.slices(), input);
            if placed == 0 {
                decoder.give_up_place();
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

/// Writes a message that has places, whole or in fragments with a ping behind some of them.
pub(super) fn push_large(rng: &mut Rng, bytes: &mut Vec<u8>) {
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
    let mut opcode = if is_text { TEXT } else { BINARY };
    let mut rest = &payload[..];
    for _ in 0..rng.below(4) {
        let (fragment, more) = rest.split_at(rng.below(rest.len() + 1));
        push_frame(bytes, opcode, false, fragment);
        if rng.below(2) == 0 {
            push_frame(bytes, PING, true, b"between");
        }
        (opcode, rest) = (CONTINUATION, more);
    }
    push_frame(bytes, opcode, true, rest);
}

#[test]
fn decodes_the_same_whether_it_is_read_to_its_place_or_not() {
    let mut rng = Rng::new(11);
    let (mut placed, mut refused) = (0, 0);
    for round in 0..64 {
        let mut bytes = random_session(&mut rng).0;
        bytes.truncate(rng.below(3000));
        if round % 4 > 0 {
            bytes.clear();
        }
        for _ in 0..rng.below(4) {
            push_large(&mut rng, &mut bytes);
        }
        if round % 8 == 0 {
            mutate(&mut bytes, &mut rng);
        }
        let rules = at_server(LIMITS);
        let (events, result, _) = decode_by(&bytes, rules, || usize::MAX);
        for most in [5000, 70_000, 400_000] {
            let (others, other, places) = decode_placed(&bytes, rules, || 1 + rng.below(most));
            assert_eq!(other, result, "round {round}, up to {most}");
            assert!(others == events, "round {round}, up to {most}");
            placed += places;
            refused += usize::from(result.is_err());
        }
    }
    assert!(placed > 300 && refused > 15, "{placed} {refused}");
}

#[test]
fn has_a_place_only_for_what_is_to_be_expected() {
    const LEN: usize = MIB / 2;
    let mut bytes = Vec::new();
    push_frame(&mut bytes, BINARY, true, &vec![7; LEN]);
    let head = bytes.len() - LEN;
    let now = Moment::now();
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
    decoder.give_up_place();
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
    let now = Moment::now();
    let mut decoder = decoder(LIMITS);
    let mut input = &bytes[..50_000];
    assert_eq!(decoder.decode(&mut input, now), Ok(None));
    let mut rooms = decoder.place().unwrap();
    assert_eq!(fill(rooms.slices(), &bytes[50_000..50_100]), 100);
    let late = now + LIMITS.assembly.unwrap();
    assert_eq!(decoder.placed(100, late).unwrap_err(), Violation::TooSlow);
}
