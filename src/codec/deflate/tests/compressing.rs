//! The compressor, and the decoder on its output.

use std::task::Poll;

use bytes::Bytes;

use super::{BINARY, CONTINUATION, FIN, KIB, decoder, deflation, events_of, frame, noise};
use crate::{
    codec::{
        Decoder, Event, Role, Rules,
        deflate::Compression,
        tests::{LIMITS, MIB, Rng},
    },
    words::Message,
};

#[test]
fn writes_the_examples_of_the_rfc() {
    // RFC 7692 §7.2.3.1 and §7.2.3.2.
    let hello = Bytes::from_static(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    let mut compression = Compression::new(deflation(15, true));
    let first = compression.compress_at_once(b"Hello");
    let second = compression.compress_at_once(b"Hello");
    assert_eq!(first, Some(hello));
    assert_eq!(second.as_deref(), Some(&[0xf2, 0x00, 0x11, 0x00, 0x00][..]));
    // Without context takeover it does not become smaller, so it is not compressed.
    let mut compression = Compression::new(deflation(15, false));
    assert_eq!(compression.compress_at_once(b"Hello"), None);
    let repeated = compression.compress_at_once(&b"Hello".repeat(10)).unwrap();
    assert!(repeated.len() < 20, "{repeated:?}");
    assert_eq!(
        compression.compress_at_once(&b"Hello".repeat(10)),
        Some(repeated)
    );
}

#[test]
fn decodes_compressed_messages_for_every_window_in_any_fragments() {
    let mut rng = Rng::new(3);
    let words = ["alpha ", "beta ", "gamma ", "{\"id\":", "é€😀", "\n"];
    for window_bits in 9..=15 {
        for takeover in [false, true] {
            let deflation = deflation(window_bits, takeover);
            let mut compression = Compression::new(deflation);
            let mut decoder = Decoder::new(Rules {
                role: Role::Client,
                limits: LIMITS,
                deflation: Some(deflation),
            });
            let mut compressed = 0;
            for round in 0..20 {
                let message = match round % 5 {
                    0 => Message::binary(noise(rng.below(20_000))),
                    1 => Message::text("x".repeat(rng.below(100_000))),
                    2 => Message::binary(vec![0; rng.below(3)]),
                    _ => {
                        let count = rng.below(5_000);
                        let words = (0..count).map(|_| words[rng.below(words.len())]);
                        Message::text(words.collect::<String>())
                    }
                };
                let (opcode, payload) = match &message {
                    Message::Text(_) => (1, message.as_bytes()),
                    Message::Binary(_) => (2, message.as_bytes()),
                };
                let small = match payload {
                    [] => None,
                    payload => compression.compress_at_once(payload),
                };
                let mut bytes = Vec::new();
                let (mut first, mut rest) = match &small {
                    Some(small) => {
                        assert!(takeover || small.len() < payload.len());
                        compressed += 1;
                        (0x40 | opcode, &small[..])
                    }
                    None => (opcode, payload),
                };
                for _ in 0..rng.below(4) {
                    let (fragment, more) = rest.split_at(rng.below(rest.len() + 1));
                    bytes.extend(frame(first, fragment));
                    bytes.extend(frame(FIN | 9, b"ping"));
                    (first, rest) = (CONTINUATION, more);
                }
                bytes.extend(frame(FIN | first, rest));
                let max = 1 + rng.below(5000);
                let events = events_of(&mut decoder, &bytes, || 1 + rng.below(max)).unwrap();
                let (last, pings) = events.split_last().unwrap();
                assert!(
                    *last == Event::Message(message),
                    "{window_bits} {takeover} {round}"
                );
                assert!(pings.iter().all(|event| matches!(event, Event::Ping(_))));
            }
            assert!(compressed >= 12, "{compressed}");
        }
    }
}

#[test]
fn the_compressor_is_reusable_after_messages_that_do_not_become_smaller() {
    let text = "the same compressor goes on ".repeat(100);
    for level in 1..=9 {
        let mut deflation = deflation(12, false);
        deflation.level = level;
        let mut compression = Compression::new(deflation);
        let before = compression.compress_at_once(text.as_bytes());
        for (len, count) in [(KIB, 100), (16 * KIB, 10), (64 * KIB, 3), (127 * KIB, 1)] {
            for number in 0..count {
                let compressed = compression.compress_at_once(&noise(len));
                assert_eq!(compressed, None, "message {number} of {len} bytes");
            }
            let after = compression.compress_at_once(text.as_bytes());
            assert!(after == before, "level {level} after {len} bytes");
            // Another connection ends in the middle of a message.
            let mut other = Compression::new(deflation);
            assert!(other.compress(&noise(len), &mut (len / 2)).is_pending());
            drop(other);
            let after = compression.compress_at_once(text.as_bytes());
            assert!(after == before, "level {level} after half of {len} bytes");
        }
    }
}

#[test]
fn compresses_messages_in_pieces_of_any_size() {
    let mut rng = Rng::new(9);
    for level in [1, 6, 9] {
        for takeover in [false, true] {
            let mut deflation = deflation(15, takeover);
            deflation.level = level;
            let mut compression = Compression::new(deflation);
            let mut decoder = decoder(takeover, LIMITS);
            let mut noise = noise(100_000);
            noise.resize(400_000, 0);
            let text = "wörld and more of the same, ".repeat(20_000).into_bytes();
            for message in [vec![0; MIB], text, noise, vec![b'a'; 3]] {
                let mut pauses = 0;
                let compressed = loop {
                    let mut budget = 1 + rng.below(300_000);
                    match compression.compress(&message, &mut budget) {
                        Poll::Ready(compressed) => break compressed,
                        Poll::Pending => assert_eq!(budget, 0),
                    }
                    pauses += 1;
                };
                assert!(pauses > 0 || message.len() < 10);
                let bytes = match &compressed {
                    None => frame(FIN | 2, &message),
                    Some(compressed) => frame(FIN | BINARY, compressed),
                };
                let events = events_of(&mut decoder, &bytes, || bytes.len());
                let expected = Event::Message(Message::binary(message));
                assert!(events == Ok(vec![expected]), "level {level}, {takeover}");
            }
        }
    }
}
