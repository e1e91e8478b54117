//! Direct reads of large payloads.

use crate::time::Moment;

use super::{
    BINARY, CONTINUATION, LIMITS, MIB, PING, Rng, TEXT, at_server, decode_by, decoder, push_frame,
    sessions::{mutate, random_session},
};
use crate::codec::{Decoder, Event, ReadInto, Rules, Violation, hold_turn};

/// Decodes like [`decode_by`], with direct reads. Returns the number of direct reads as well.
pub(super) fn decode_with_direct_reads(
    bytes: &[u8],
    rules: Rules,
    mut piece: impl FnMut() -> usize,
) -> (Vec<Event>, Result<(), Violation>, usize) {
    let now = Moment::now();
    let mut decoder = Decoder::new(rules);
    let (mut events, mut direct_reads, mut rest) = (Vec::new(), 0, bytes);
    while !rest.is_empty() {
        let (mut input, others) = rest.split_at(piece().min(rest.len()));
        while let Some(mut memory) = decoder.direct_read() {
            let read = memory.fill(input);
            if read == 0 {
                decoder.cancel_direct_read();
                break;
            }
            direct_reads += 1;
            input = &input[read..];
            match decoder.finish_direct_read(read, now) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    events.push(Event::Message(message.into_message().unwrap()));
                }
                Err(violation) => return (events, Err(violation), direct_reads),
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
                        return (events, Ok(()), direct_reads);
                    }
                }
                Err(violation) => return (events, Err(violation), direct_reads),
            }
        }
    }
    (events, Ok(()), direct_reads)
}

/// Writes a message that is large enough for direct reads, in one frame or in fragments. Pings follow some of
/// the fragments.
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
fn direct_reads_do_not_change_the_events() {
    let mut rng = Rng::new(11);
    let (mut direct, mut refused) = (0, 0);
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
        for max in [5000, 70_000, 400_000] {
            // Some messages go to their final buffers, the others are gathered.
            let _turn = (rng.below(3) > 0).then(hold_turn);
            let (others, other, direct_reads) =
                decode_with_direct_reads(&bytes, rules, || 1 + rng.below(max));
            assert_eq!(other, result, "round {round}, up to {max}");
            assert!(others == events, "round {round}, up to {max}");
            direct += direct_reads;
            refused += usize::from(result.is_err());
        }
    }
    assert!(direct > 300 && refused > 15, "{direct} {refused}");
}

#[test]
fn allows_direct_reads_only_in_the_middle_of_a_large_payload() {
    const LEN: usize = MIB / 2;
    let mut bytes = Vec::new();
    push_frame(&mut bytes, BINARY, true, &vec![7; LEN]);
    let head = bytes.len() - LEN;
    let now = Moment::now();
    let mut decoder = decoder(LIMITS);
    let _turn = hold_turn();
    // Too few bytes have arrived.
    let mut few = &bytes[..head + 1000];
    assert_eq!(decoder.decode(&mut few, now), Ok(None));
    assert!(decoder.direct_read().is_none());
    let mut more = &bytes[head + 1000..][..99_000];
    assert_eq!(decoder.decode(&mut more, now), Ok(None));
    let Some(ReadInto::Gathered(mut buffers)) = decoder.direct_read() else {
        panic!("no buffers");
    };
    let len: usize = buffers.slices().iter().map(|buffer| buffer.len()).sum();
    assert!(len > 3 * 64 * 1024, "one read has four buffers");
    // The unused buffers are freed.
    let few = ReadInto::Gathered(buffers).fill(&bytes[head + 100_000..][..1]);
    assert!(matches!(decoder.finish_direct_read(few, now), Ok(None)));
    assert!(decoder.capacity() <= 100_001 + 64 * 1024);
    // Cancelling frees all of them.
    let mut rest = &bytes[head + 100_001..][..31_071];
    assert_eq!(decoder.decode(&mut rest, now), Ok(None));
    assert!(decoder.direct_read().is_some());
    assert!(decoder.capacity() > 3 * 64 * 1024);
    decoder.cancel_direct_read();
    assert_eq!(decoder.capacity(), 2 * 64 * 1024);
    // Too few bytes are missing.
    let mut rest = &bytes[head + 131_072..bytes.len() - 1000];
    assert_eq!(decoder.decode(&mut rest, now), Ok(None));
    assert!(decoder.direct_read().is_none());
}

#[test]
fn refuses_a_direct_read_after_the_deadline() {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, BINARY, true, &[7; 100_000]);
    let now = Moment::now();
    let mut decoder = decoder(LIMITS);
    let _turn = hold_turn();
    let mut input = &bytes[..50_000];
    assert_eq!(decoder.decode(&mut input, now), Ok(None));
    let mut memory = decoder.direct_read().unwrap();
    assert_eq!(memory.fill(&bytes[50_000..50_100]), 100);
    let late = now + LIMITS.assembly;
    assert_eq!(
        decoder.finish_direct_read(100, late).unwrap_err(),
        Violation::TooSlow
    );
}

#[test]
fn one_message_is_read_into_its_final_buffer() {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, BINARY, true, &[7; 200_000]);
    let now = Moment::now();
    let (mut first, mut second) = (decoder(LIMITS), decoder(LIMITS));
    for decoder in [&mut first, &mut second] {
        assert_eq!(decoder.decode(&mut &bytes[..50_000], now), Ok(None));
    }
    let memory = second.direct_read();
    assert!(matches!(memory, Some(ReadInto::Gathered(_))));
    second.cancel_direct_read();
    // A direct read may return fewer bytes than it could, or none.
    let mut read = 50_000;
    for len in [0, 1000, 149_000] {
        let mut memory = first.direct_read().unwrap();
        assert!(matches!(memory, ReadInto::Final(_)));
        assert_eq!(memory.fill(&bytes[read..][..len]), len);
        match len {
            0 => first.cancel_direct_read(),
            _ => assert!(first.finish_direct_read(len, now).unwrap().is_none()),
        }
        read += len;
        assert_eq!(first.capacity(), 200_000);
    }
    // Too few bytes are missing for another one.
    assert!(first.direct_read().is_none());
    let message = first.decode(&mut &bytes[read..], now).unwrap();
    let Some(Event::Message(message)) = message else {
        panic!("{message:?} is not a message");
    };
    assert_eq!(message.as_bytes(), [7; 200_000]);
    // The turn is free.
    assert_eq!(first.decode(&mut &bytes[..50_000], now), Ok(None));
    assert!(matches!(first.direct_read(), Some(ReadInto::Final(_))));
    // Also if the message never ends.
    drop(first);
    let mut third = decoder(LIMITS);
    assert_eq!(third.decode(&mut &bytes[..50_000], now), Ok(None));
    assert!(matches!(third.direct_read(), Some(ReadInto::Final(_))));
}

#[test]
fn a_text_in_its_final_buffer_is_not_read_directly() {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, TEXT, true, &[b'a'; 200_000]);
    let now = Moment::now();
    let mut decoder = decoder(LIMITS);
    assert_eq!(decoder.decode(&mut &bytes[..50_000], now), Ok(None));
    assert!(decoder.direct_read().is_none());
    let turn = hold_turn();
    assert_eq!(decoder.decode(&mut &bytes[50_000..60_000], now), Ok(None));
    assert!(decoder.direct_read().is_none());
    drop(turn);
}
