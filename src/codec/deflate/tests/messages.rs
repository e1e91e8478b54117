//! Compressed messages of other implementations.

use super::{
    BINARY, CONTINUATION, FIN, TEXT, compress, decode, decoder, events_of, frame, noise, texts,
};
use crate::{
    codec::{Control, Event, Violation, tests::LIMITS},
    words::Message,
};

#[test]
fn reads_the_examples_of_the_rfc() {
    // RFC 7692 §7.2.3.1, in one frame and in two fragments.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(decode(&frame(FIN | TEXT, &hello)), Ok(texts(&["Hello"])));
    let fragments = [frame(TEXT, &hello[..3]), frame(FIN, &hello[3..])].concat();
    assert_eq!(decode(&fragments), Ok(texts(&["Hello"])));
    // §7.2.3.2: the second message refers to the first.
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let both = [frame(FIN | TEXT, &hello), frame(FIN | TEXT, &again)].concat();
    let events = events_of(&mut decoder(true, LIMITS), &both, || 3);
    assert_eq!(events, Ok(texts(&["Hello", "Hello"])));
    // §7.2.3.3: a block without compression.
    let stored = b"\x00\x05\x00\xfa\xffHello\x00";
    assert_eq!(decode(&frame(FIN | TEXT, stored)), Ok(texts(&["Hello"])));
    // §7.2.3.4: a block with BFINAL.
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    assert_eq!(decode(&frame(FIN | TEXT, &last)), Ok(texts(&["Hello"])));
    // §7.2.3.5: two blocks.
    let two = [
        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ];
    assert_eq!(decode(&frame(FIN | TEXT, &two)), Ok(texts(&["Hello"])));
    // §7.2.3.6: an empty message.
    assert_eq!(decode(&frame(FIN | TEXT, &[0])), Ok(texts(&[""])));
}

#[test]
fn accepts_uncompressed_messages_between_compressed_ones() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let bytes = [
        frame(FIN | TEXT, &hello),
        frame(FIN | 1, b"plain"),
        frame(FIN | TEXT, &again),
    ];
    let events = events_of(&mut decoder(true, LIMITS), &bytes.concat(), || 5);
    assert_eq!(events, Ok(texts(&["Hello", "plain", "Hello"])));
}

#[test]
fn refuses_a_reference_to_an_earlier_message_without_context_takeover() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let both = [frame(FIN | TEXT, &hello), frame(FIN | TEXT, &again)].concat();
    assert!(matches!(decode(&both), Err(Violation::Protocol(_))));
    // Another connection, which gets the same decompressor, cannot refer to them either.
    let first = events_of(&mut decoder(false, LIMITS), &both[..9], || 9);
    assert_eq!(first, Ok(texts(&["Hello"])));
    let second = events_of(&mut decoder(false, LIMITS), &both[9..], || 9);
    assert!(matches!(second, Err(Violation::Protocol(_))));
}

#[test]
fn continues_after_a_final_block() {
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    // The final block alone, and followed by an empty block. The sender cuts off the end of an empty block.
    for payload in [
        last.to_vec(),
        [&last[..], &[0]].concat(),
        [&last[..], &[3, 0]].concat(),
        [&last[..], &[1]].concat(),
    ] {
        for takeover in [false, true] {
            let message = frame(FIN | TEXT, &payload);
            let bytes = message.repeat(3);
            let events = events_of(&mut decoder(takeover, LIMITS), &bytes, || 2);
            assert_eq!(events, Ok(texts(&["Hello"; 3])), "{payload:x?} {takeover}");
        }
    }
    let twice = [&last[..], &last].concat();
    assert_eq!(
        decode(&frame(FIN | TEXT, &twice)),
        Ok(texts(&["HelloHello"]))
    );
    // A new stream cannot refer to the earlier one.
    let again = [&last[..], &[0xf2, 0x00, 0x11, 0x00, 0x00]].concat();
    assert!(matches!(
        decode(&frame(FIN | TEXT, &again)),
        Err(Violation::Protocol(_))
    ));
}

#[test]
fn a_payload_without_a_byte_is_an_empty_message() {
    let empty = frame(FIN | TEXT, b"");
    assert_eq!(decode(&empty), Ok(texts(&[""])));
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let bytes = [frame(FIN | TEXT, &hello), empty, frame(FIN | TEXT, &again)].concat();
    let events = events_of(&mut decoder(true, LIMITS), &bytes, || 1);
    assert_eq!(events, Ok(texts(&["Hello", "", "Hello"])));
}

#[test]
fn reads_stored_fixed_and_dynamic_blocks() {
    for level in 0..=9 {
        for len in [1, 100, 5000, 300_000] {
            for message in [noise(len), b"the quick brown fox ".repeat(len / 20 + 1)] {
                let compressed = frame(FIN | BINARY, &compress(&message, level));
                let events = events_of(&mut decoder(false, LIMITS), &compressed, || 1000);
                let expected = Event::Message(Message::binary(message));
                assert!(events == Ok(vec![expected]), "level {level}, {len} bytes");
            }
        }
    }
}

#[test]
fn accepts_control_frames_between_compressed_fragments() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let bytes = [
        frame(TEXT, &hello[..2]),
        frame(FIN | 9, b"one"),
        frame(CONTINUATION, &hello[2..4]),
        frame(CONTINUATION, b""),
        frame(FIN | 10, b"two"),
        frame(FIN, &hello[4..]),
    ]
    .concat();
    let events = decode(&bytes).unwrap();
    let [Event::Ping(one), Event::Pong(two), Event::Message(message)] = &events[..] else {
        panic!("{events:?}");
    };
    let payloads: [&Control; 2] = [&**one, &**two];
    assert_eq!(payloads.map(|payload| payload.to_vec()), [b"one", b"two"]);
    assert_eq!(*message, Message::text("Hello"));
}
