//! What is held of a message in progress, and what one owns that was delivered.

use std::time::Instant;

use super::{BINARY, CONTINUATION, LIMITS, MIB, Rng, TEXT, decode_in, decoder, frame};
use crate::codec::{Decoder, Event, Limits};

#[test]
fn allocates_for_what_arrives_and_not_for_what_is_promised() {
    const LEN: usize = MIB / 4;
    for opcode in [TEXT, BINARY] {
        for last in [true, false] {
            let whole = frame(opcode, last, &vec![b'a'; LEN]);
            let head = whole.len() - LEN;
            let mut decoder = decoder(Limits {
                message: if last { MIB } else { LEN },
                ..LIMITS
            });
            let now = Instant::now();
            assert_eq!(decoder.decode(&mut &whole[..head], now), Ok(None));
            assert_eq!(decoder.capacity(), 0);
            for received in 1..LEN {
                let mut byte = &whole[head + received - 1..][..1];
                assert_eq!(decoder.decode(&mut byte, now), Ok(None));
                let capacity = decoder.capacity();
                let bound = received + received.max(64 * 1024).min(1024 + 16 * received);
                assert!(
                    capacity <= bound.min(LEN),
                    "{capacity} for {received} bytes, opcode {opcode}"
                );
            }
        }
    }
}

#[test]
fn allocates_no_more_than_fragments_bring_and_as_much_again() {
    for opcode in [TEXT, BINARY] {
        let mut rng = Rng::new(6);
        let mut decoder = decoder(LIMITS);
        let now = Instant::now();
        let mut received = 0;
        let mut opcode = opcode;
        while received < MIB - 5_000 {
            let len = rng.below(5_000);
            let fragment = frame(opcode, false, &vec![b'a'; len]);
            assert_eq!(decoder.decode(&mut &fragment[..], now), Ok(None));
            received += len;
            opcode = CONTINUATION;
            let capacity = decoder.capacity();
            assert!(capacity <= 2 * received, "{capacity} for {received} bytes");
        }
        // What is delivered owns what it needs.
        let last = frame(CONTINUATION, true, b"a");
        let Ok(Some(Event::Message(message))) = decoder.decode(&mut &last[..], now) else {
            panic!("no message");
        };
        assert_eq!(decoder.capacity(), 0);
        let buffer: Vec<u8> = message.into_bytes().into();
        assert_eq!(
            (buffer.len(), buffer.capacity()),
            (received + 1, received + 1)
        );
    }
}

#[test]
fn delivers_exact_buffers_however_they_arrived() {
    for opcode in [TEXT, BINARY] {
        for piece in [1, 700, 5_000, 70_000, usize::MAX] {
            let whole = frame(opcode, true, &vec![b'a'; 100_000]);
            let (events, result, _) = decode_in(&whole, LIMITS, || piece);
            assert_eq!(result, Ok(()));
            for event in events {
                let Event::Message(message) = event else {
                    panic!("no message");
                };
                let buffer: Vec<u8> = message.into_bytes().into();
                assert_eq!((buffer.len(), buffer.capacity()), (100_000, 100_000));
            }
        }
    }
}

#[test]
fn costs_little_between_messages() {
    assert!(size_of::<Decoder>() <= 512, "{}", size_of::<Decoder>());
    assert!(size_of::<Event>() <= 136, "{}", size_of::<Event>());
}
