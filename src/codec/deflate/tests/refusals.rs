//! Invalid compressed messages.

use super::{BINARY, FIN, TEXT, compress, decode, decoder, events_of, frame};
use crate::codec::{
    Decoder, Limits, Role, Rules, Violation,
    tests::{LIMITS, Rng},
};

#[test]
fn refuses_the_compression_bit_where_it_is_not_allowed() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let rule = Err(Violation::Protocol("a reserved bit is set"));
    for opcode in [8, 9, 10] {
        assert_eq!(decode(&frame(FIN | 0x40 | opcode, b"")), rule);
    }
    let fragments = [frame(TEXT, &hello[..3]), frame(FIN | 0x40, &hello[3..])].concat();
    assert_eq!(decode(&fragments), rule);
    let fragments = [frame(2, &hello[..3]), frame(FIN | 0x40, &hello[3..])].concat();
    assert_eq!(decode(&fragments), rule);
    for bits in [0x20, 0x10, 0x60, 0x50, 0x70] {
        assert_eq!(decode(&frame(FIN | bits | 1, &hello)), rule);
    }
    // Without an agreement it is refused everywhere.
    let mut decoder = Decoder::new(Rules {
        role: Role::Client,
        limits: LIMITS,
        deflation: None,
    });
    let events = events_of(&mut decoder, &frame(FIN | TEXT, &hello), || 99);
    assert_eq!(events, rule);
}

#[test]
fn refuses_an_invalid_deflate_stream() {
    for payload in [
        // A reserved block type, a wrong complement of a length, a distance before the start.
        &[0x06][..],
        &[0x00, 0x05, 0x00, 0xfa, 0xfe, b'H'],
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
        b"plain text",
        &[0xff; 40],
    ] {
        let refused = decode(&frame(FIN | BINARY, payload));
        assert!(
            matches!(refused, Err(Violation::Protocol(_))),
            "{payload:x?}: {refused:?}"
        );
    }
}

#[test]
fn refuses_a_truncated_message() {
    let text = b"a text of which the end is missing, and which has some repetition in the text";
    for level in [0, 1, 6] {
        let payload = compress(&text.repeat(5), level);
        for takeover in [false, true] {
            for len in 1..payload.len() {
                // The first byte of a stored block is a valid empty message. The appended tail completes a
                // block whose last four bytes are missing.
                if level == 0 && (len == 1 || len == payload.len() - 5) {
                    continue;
                }
                let mut bytes = frame(FIN | BINARY, &payload[..len]);
                if takeover && level == 6 {
                    bytes.extend(frame(FIN | BINARY, &payload));
                }
                let events = events_of(&mut decoder(takeover, LIMITS), &bytes, || 100);
                assert!(
                    matches!(events, Err(Violation::Protocol(_))),
                    "level {level}, {len} of {} bytes: {events:?}",
                    payload.len()
                );
            }
        }
    }
}

#[test]
fn refuses_invalid_text_before_its_end() {
    let mut text = "é".repeat(5000).into_bytes();
    text[4999] = b'a';
    let payload = compress(&text, 6);
    let mut decoder = decoder(false, LIMITS);
    let bytes = frame(TEXT, &payload);
    assert_eq!(
        events_of(&mut decoder, &bytes, || 99),
        Err(Violation::InvalidUtf8)
    );
    assert_eq!(
        decode(&frame(FIN | TEXT, &compress(b"caf\xc3", 6))),
        Err(Violation::InvalidUtf8)
    );
}

#[test]
fn reports_the_first_error_for_pieces_of_any_size() {
    // Stored blocks, followed by a block of the reserved type.
    let invalid_then_corrupt = [0, 1, 0, 0xfe, 0xff, 0xff, 7];
    let invalid_then_large = [&[0, 6, 0, 0xf9, 0xff][..], b"\xfflarge"].concat();
    let large_then_corrupt = [&[0, 5, 0, 0xfa, 0xff][..], b"large", &[7]].concat();
    let limits = Limits {
        message: 4,
        ..LIMITS
    };
    for (payload, expected) in [
        (&invalid_then_corrupt[..], Violation::InvalidUtf8),
        (&invalid_then_large, Violation::InvalidUtf8),
        (&large_then_corrupt, Violation::TooLarge),
    ] {
        let bytes = frame(FIN | TEXT, payload);
        for piece in [bytes.len(), 1] {
            let events = events_of(&mut decoder(false, limits), &bytes, || piece);
            assert_eq!(events, Err(expected), "{payload:x?} in pieces of {piece}");
        }
    }
}

#[test]
fn corrupt_messages_do_not_panic() {
    let mut rng = Rng::new(11);
    let valid = compress(&b"some text, some more text, and noise".repeat(40), 6);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut payload = valid.clone();
        for _ in 0..=rng.below(3) {
            let index = rng.below(payload.len());
            payload[index] ^= 1 << rng.below(8);
        }
        payload.truncate(1 + rng.below(payload.len()));
        let bytes = frame(FIN | BINARY, &payload);
        match events_of(&mut decoder(false, LIMITS), &bytes, || 50) {
            Ok(_) => accepted += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 10_000, "{accepted} accepted");
}
