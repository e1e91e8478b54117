//! Limits on size, work and budget.

use super::{
    BINARY, CONTINUATION, FIN, KIB, TEXT, compress, decode, decoder, events_of, frame, noise,
};
use crate::{
    codec::{
        Decoder, Event, Limits, Violation,
        deflate::counted,
        tests::{LIMITS, MIB, Rng},
    },
    time::Moment,
    words::Message,
};

#[test]
fn limits_the_inflated_size() {
    let limits = Limits {
        message: 100_000,
        frame: 100_000,
        ..LIMITS
    };
    for (message, name) in [(vec![b'x'; 100_001], "zeros"), (noise(100_001), "noise")] {
        for fragment in [1, 20, 60_000] {
            let bytes_of = |message: &[u8]| {
                let payload = compress(message, 6);
                let mut first = BINARY;
                let mut bytes = Vec::new();
                let mut pieces = payload
                    .chunks(fragment.max(payload.len() / 1000))
                    .peekable();
                while let Some(piece) = pieces.next() {
                    let fin = if pieces.peek().is_none() { FIN } else { 0 };
                    bytes.extend(frame(fin | first, piece));
                    first = CONTINUATION;
                }
                bytes
            };
            let full = &message[1..];
            let events = events_of(&mut decoder(false, limits), &bytes_of(full), || 7777);
            assert!(
                events == Ok(vec![Event::Message(Message::binary(full.to_vec()))]),
                "{name}"
            );
            let over = events_of(&mut decoder(false, limits), &bytes_of(&message), || 7777);
            assert!(over == Err(Violation::TooLarge), "{name}");
        }
    }
}

#[test]
fn stops_a_decompression_bomb_at_the_limit() {
    let bomb = frame(FIN | BINARY, &compress(&vec![0; 8 * MIB], 9));
    assert!(bomb.len() < 9 * KIB);
    let mut decoder = decoder(false, LIMITS);
    let mut taken = 0;
    for piece in bomb.chunks(100) {
        let mut input = piece;
        match decoder.decode(&mut input, Moment::now()) {
            Ok(None) => assert!(decoder.capacity() <= MIB),
            Ok(Some(event)) => panic!("{event:?}"),
            Err(violation) => {
                assert_eq!(violation, Violation::TooLarge);
                assert!(decoder.capacity() <= MIB);
                assert!(taken < 1200, "{taken} bytes");
                return;
            }
        }
        taken += piece.len();
    }
    panic!("not refused");
}

#[test]
fn limits_the_compressed_size_at_the_head() {
    let needed = MIB + MIB / 8 + KIB;
    let head = |len: usize| {
        let mut head = vec![FIN | BINARY, 127];
        head.extend((len as u64).to_be_bytes());
        head
    };
    assert_eq!(decode(&head(needed)), Ok(vec![]));
    assert_eq!(decode(&head(needed + 1)), Err(Violation::TooLarge));
    // The bytes of earlier frames count as well, even if they inflate to nothing.
    let nothing = [0, 0, 0, 0xff, 0xff].repeat(100_000);
    let first = frame(BINARY, &nothing);
    let rest = |len: usize| {
        let mut bytes = first.clone();
        bytes.extend(&head(len));
        bytes[first.len()] = FIN;
        bytes
    };
    let left = needed - nothing.len();
    let decode = |bytes: &[u8]| events_of(&mut decoder(false, LIMITS), bytes, || 999);
    assert_eq!(decode(&rest(left)), Ok(vec![]));
    assert_eq!(decode(&rest(left + 1)), Err(Violation::TooLarge));
    // A frame limit below the message limit applies to the compressed bytes.
    let limits = Limits {
        frame: 1000,
        ..LIMITS
    };
    let over = events_of(
        &mut decoder(false, limits),
        &frame(FIN | BINARY, &[0; 1001]),
        || 99,
    );
    assert_eq!(over, Err(Violation::TooLarge));
}

#[test]
fn counts_inflated_bytes_and_received_bytes_as_work() {
    let mut decoder = decoder(false, LIMITS);
    assert_eq!(decoder.take_work(), 0);
    let payload = compress(&[0; 100_000], 6);
    events_of(&mut decoder, &frame(FIN | BINARY, &payload), || 99).unwrap();
    // The last 256 are for the final block that the decoder appends.
    let work = 100_000 + 4 * payload.len() + 256;
    assert_eq!(decoder.take_work(), work);
    events_of(&mut decoder, &frame(FIN | 1, b"plain"), || 99).unwrap();
    assert_eq!(decoder.take_work(), 0);
}

/// Decodes like [`events_of`], with a new budget for each call. Asserts that no call exceeds it. Returns the
/// number of pauses as well.
fn events_with_budgets(
    decoder: &mut Decoder,
    bytes: &[u8],
    piece: usize,
    mut budget: impl FnMut() -> usize,
) -> (Result<Vec<Event>, Violation>, usize) {
    let now = Moment::now();
    let (mut events, mut pauses) = (Vec::new(), 0);
    for mut input in bytes.chunks(piece) {
        loop {
            let budget = budget();
            decoder.set_budget(budget);
            counted::take();
            let decoded = decoder.decode(&mut input, now);
            let spent = counted::take();
            assert!(spent <= budget, "{spent} bytes of {budget}");
            match decoded {
                Ok(Some(event)) => events.push(event),
                Ok(None) if decoder.is_paused() => pauses += 1,
                Ok(None) => break,
                Err(violation) => return (Err(violation), pauses),
            }
        }
        assert!(input.is_empty());
    }
    (Ok(events), pauses)
}

#[test]
fn pauses_do_not_change_the_result() {
    let limits = Limits {
        message: 900_000,
        ..LIMITS
    };
    let text = "wörld and more of the same, ".repeat(20_000).into_bytes();
    let mut cut = compress(&text, 6);
    cut.truncate(cut.len() - 3);
    let mut not_text = text.clone();
    let last = not_text.len() - 1;
    not_text[last] = 0xff;
    let mut finished = Vec::new();
    for _ in 0..25 {
        // A stream with a final block, and another one.
        finished.extend([0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
        finished.extend(compress(&text[..29 * 1000], 6));
        finished.extend([0, 0, 0xff, 0xff, 3, 0]);
    }
    let mut rng = Rng::new(5);
    for (name, first, payload) in [
        ("zeros", BINARY, compress(&vec![0; 900_000], 6)),
        ("noise", BINARY, compress(&noise(300_000), 6)),
        ("text", TEXT, compress(&text, 6)),
        ("stored", TEXT, compress(&text, 0)),
        ("several streams", TEXT, finished),
        ("cut", TEXT, cut),
        ("not text", TEXT, compress(&not_text, 6)),
        ("too large", BINARY, compress(&vec![0; 900_001], 6)),
    ] {
        let middle = payload.len() / 2;
        let mut bytes = frame(first, &payload[..middle]);
        bytes.extend(frame(FIN | 9, b"ping"));
        bytes.extend(frame(FIN | CONTINUATION, &payload[middle..]));
        bytes.extend(frame(FIN | 1, b"next"));
        for takeover in [false, true] {
            let expected = events_of(&mut decoder(takeover, limits), &bytes, || bytes.len());
            for piece in [bytes.len(), 1000, 1] {
                let budget = || KIB * (64 + rng.below(64)) + rng.below(KIB);
                let mut decoder = decoder(takeover, limits);
                let (events, pauses) = events_with_budgets(&mut decoder, &bytes, piece, budget);
                assert!(events == expected, "{name}, {piece} at once, {takeover}");
                assert!(pauses > 1 || piece < bytes.len(), "{name} did not pause");
            }
        }
    }
}
