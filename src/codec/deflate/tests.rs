//! Compressed messages through the decoder and the compressor, byte for byte where the RFC is.

use std::task::Poll;

use bytes::Bytes;
use flate2::{Compress, FlushCompress};

use super::{Compression, Deflate, Deflation, TAIL, counted};
use crate::{
    codec::{
        Control, Decoder, Event, Limits, Role, Rules, Violation,
        tests::{LIMITS, MIB, Rng},
    },
    handshake::extension::deflate::{Direction, Terms},
    time::Moment,
    words::Message,
};

const KIB: usize = 1024;

pub(super) const TEXT: u8 = 0x41;
pub(super) const BINARY: u8 = 0x42;
pub(super) const CONTINUATION: u8 = 0;
pub(super) const FIN: u8 = 0x80;

fn deflation(window_bits: u8, context_takeover: bool) -> Deflation {
    let direction = Direction {
        window_bits,
        context_takeover,
    };
    Deflate::new().level(6).min_size(0).agreed(Terms {
        send: direction,
        receive: direction,
    })
}

/// A decoder of the client's role, so that frames need no mask.
pub(super) fn decoder(context_takeover: bool, limits: Limits) -> Decoder {
    Decoder::new(Rules {
        role: Role::Client,
        limits,
        deflation: Some(deflation(15, context_takeover)),
    })
}

pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let mut frame = vec![first];
    match len {
        0..126 => frame.push(len as u8),
        126..0x1_0000 => {
            frame.push(126);
            frame.extend((len as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// Decodes all of `bytes`, given in pieces.
pub(super) fn events_of(
    decoder: &mut Decoder,
    bytes: &[u8],
    mut piece: impl FnMut() -> usize,
) -> Result<Vec<Event>, Violation> {
    let now = Moment::now();
    let mut events = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut input, later) = rest.split_at(piece().min(rest.len()));
        rest = later;
        while let Some(event) = decoder.decode(&mut input, now)? {
            events.push(event);
        }
        assert!(input.is_empty());
    }
    Ok(events)
}

fn decode(bytes: &[u8]) -> Result<Vec<Event>, Violation> {
    let whole = events_of(&mut decoder(false, LIMITS), bytes, || bytes.len());
    let by_one = events_of(&mut decoder(false, LIMITS), bytes, || 1);
    assert_eq!(whole, by_one);
    whole
}

fn texts(texts: &[&str]) -> Vec<Event> {
    let events = texts
        .iter()
        .map(|&text| Event::Message(Message::text(text)));
    events.collect()
}

/// Compresses with zlib as a sender does that is not ours.
pub(super) fn compress(message: &[u8], level: u32) -> Vec<u8> {
    let mut compress = Compress::new(flate2::Compression::new(level), false);
    let mut output = Vec::with_capacity(message.len() + message.len() / 8 + 64);
    compress
        .compress_vec(message, &mut output, FlushCompress::Sync)
        .unwrap();
    assert!(output.ends_with(&TAIL));
    output.truncate(output.len() - TAIL.len());
    output
}

pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut rng = Rng::new(7);
    (0..len).map(|_| rng.below(256) as u8).collect()
}

#[test]
fn reads_the_examples_of_the_rfc() {
    // RFC 7692 §7.2.3.1, whole and in two fragments.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(decode(&frame(FIN | TEXT, &hello)), Ok(texts(&["Hello"])));
    let fragments = [frame(TEXT, &hello[..3]), frame(FIN, &hello[3..])].concat();
    assert_eq!(decode(&fragments), Ok(texts(&["Hello"])));
    // §7.2.3.2, the second message refers to the first.
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let both = [frame(FIN | TEXT, &hello), frame(FIN | TEXT, &again)].concat();
    let events = events_of(&mut decoder(true, LIMITS), &both, || 3);
    assert_eq!(events, Ok(texts(&["Hello", "Hello"])));
    // §7.2.3.3, a block without compression.
    let stored = b"\x00\x05\x00\xfa\xffHello\x00";
    assert_eq!(decode(&frame(FIN | TEXT, stored)), Ok(texts(&["Hello"])));
    // §7.2.3.4, a block with BFINAL.
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    assert_eq!(decode(&frame(FIN | TEXT, &last)), Ok(texts(&["Hello"])));
    // §7.2.3.5, two blocks.
    let two = [
        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ];
    assert_eq!(decode(&frame(FIN | TEXT, &two)), Ok(texts(&["Hello"])));
    // §7.2.3.6, an empty message.
    assert_eq!(decode(&frame(FIN | TEXT, &[0])), Ok(texts(&[""])));
}

#[test]
fn writes_the_examples_of_the_rfc() {
    // RFC 7692 §7.2.3.1 and §7.2.3.2.
    let hello = Bytes::from_static(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    let mut compression = Compression::new(deflation(15, true));
    let first = compression.compress_at_once(b"Hello");
    let second = compression.compress_at_once(b"Hello");
    assert_eq!(first, Some(hello));
    assert_eq!(second.as_deref(), Some(&[0xf2, 0x00, 0x11, 0x00, 0x00][..]));
    // By itself it is no smaller, so it is left as it is.
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
fn counts_what_came_of_a_message_and_what_arrived_as_work() {
    let mut decoder = decoder(false, LIMITS);
    assert_eq!(decoder.take_work(), 0);
    let payload = compress(&[0; 100_000], 6);
    events_of(&mut decoder, &frame(FIN | BINARY, &payload), || 99).unwrap();
    // The last 256 are those of the stream that is ended to see whether a block was cut.
    let work = 100_000 + 4 * payload.len() + 256;
    assert_eq!(decoder.take_work(), work);
    events_of(&mut decoder, &frame(FIN | 1, b"plain"), || 99).unwrap();
    assert_eq!(decoder.take_work(), 0);
}

#[test]
fn takes_messages_in_plain_between_compressed_ones() {
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
fn forgets_messages_that_may_not_be_referred_to() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let both = [frame(FIN | TEXT, &hello), frame(FIN | TEXT, &again)].concat();
    assert!(matches!(decode(&both), Err(Violation::Protocol(_))));
    // Nor does another connection, which is lent the same decompressor, see them.
    let first = events_of(&mut decoder(false, LIMITS), &both[..9], || 9);
    assert_eq!(first, Ok(texts(&["Hello"])));
    let second = events_of(&mut decoder(false, LIMITS), &both[9..], || 9);
    assert!(matches!(second, Err(Violation::Protocol(_))));
}

#[test]
fn goes_on_behind_a_block_that_ends_a_stream() {
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    // Without the bits that a sender leaves of the empty block behind it, and with them.
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
    // What follows cannot refer to what came before.
    let again = [&last[..], &[0xf2, 0x00, 0x11, 0x00, 0x00]].concat();
    assert!(matches!(
        decode(&frame(FIN | TEXT, &again)),
        Err(Violation::Protocol(_))
    ));
}

#[test]
fn takes_a_message_without_a_byte_for_an_empty_one() {
    let empty = frame(FIN | TEXT, b"");
    assert_eq!(decode(&empty), Ok(texts(&[""])));
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let bytes = [frame(FIN | TEXT, &hello), empty, frame(FIN | TEXT, &again)].concat();
    let events = events_of(&mut decoder(true, LIMITS), &bytes, || 1);
    assert_eq!(events, Ok(texts(&["Hello", "", "Hello"])));
}

#[test]
fn is_the_inverse_of_the_compressor_for_every_window_and_fragmentation() {
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
                let most = 1 + rng.below(5000);
                let events = events_of(&mut decoder, &bytes, || 1 + rng.below(most)).unwrap();
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
fn gives_up_any_number_of_messages_that_do_not_become_smaller() {
    let text = "the same compressor goes on ".repeat(100);
    for level in 1..=9 {
        let mut deflation = deflation(12, false);
        deflation.level = level;
        let mut compression = Compression::new(deflation);
        let before = compression.compress_at_once(text.as_bytes());
        for (len, count) in [(KIB, 100), (16 * KIB, 10), (64 * KIB, 3), (127 * KIB, 1)] {
            for number in 0..count {
                let given_up = compression.compress_at_once(&noise(len));
                assert_eq!(given_up, None, "message {number} of {len} bytes");
            }
            let after = compression.compress_at_once(text.as_bytes());
            assert!(after == before, "level {level} behind {len} bytes");
            // The connection of a message ends before that is whole.
            let mut left = Compression::new(deflation);
            assert!(left.compress(&noise(len), &mut (len / 2)).is_pending());
            drop(left);
            let after = compression.compress_at_once(text.as_bytes());
            assert!(after == before, "level {level} behind half of {len} bytes");
        }
    }
}

#[test]
fn compresses_to_the_same_message_in_pieces_of_any_size() {
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
                    let mut share = 1 + rng.below(300_000);
                    match compression.compress(&message, &mut share) {
                        Poll::Ready(compressed) => break compressed,
                        Poll::Pending => assert_eq!(share, 0),
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
fn refuses_the_mark_where_it_may_not_be() {
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
    // And everywhere, unless it was agreed on.
    let mut decoder = Decoder::new(Rules {
        role: Role::Client,
        limits: LIMITS,
        deflation: None,
    });
    let events = events_of(&mut decoder, &frame(FIN | TEXT, &hello), || 99);
    assert_eq!(events, rule);
}

#[test]
fn refuses_what_is_no_deflate_stream() {
    for payload in [
        // A reserved type of block, a length that is not repeated, a distance before the start.
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
fn refuses_a_message_that_is_cut_off() {
    let text = b"a text of which the end is missing, and which has some repetition in the text";
    for level in [0, 1, 6] {
        let payload = compress(&text.repeat(5), level);
        for takeover in [false, true] {
            for len in 1..payload.len() {
                // The first byte of a stored block is what an empty message consists of, and one
                // that lacks its last four bytes is made whole by the four that are appended.
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
fn refuses_text_that_is_not_utf8_before_it_ends() {
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
fn names_the_first_fault_wherever_a_message_is_cut() {
    // Stored blocks; what follows them is a block of the type that there is not.
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
fn limits_what_a_message_inflates_to() {
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
            let most = &message[1..];
            let events = events_of(&mut decoder(false, limits), &bytes_of(most), || 7777);
            assert!(
                events == Ok(vec![Event::Message(Message::binary(most.to_vec()))]),
                "{name}"
            );
            let over = events_of(&mut decoder(false, limits), &bytes_of(&message), || 7777);
            assert!(over == Err(Violation::TooLarge), "{name}");
        }
    }
}

#[test]
fn stops_a_bomb_at_the_limit_with_no_more_memory_than_that() {
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
fn refuses_a_frame_at_its_head_that_no_message_within_the_limit_needs() {
    let needed = MIB + MIB / 8 + KIB;
    let head = |len: usize| {
        let mut head = vec![FIN | BINARY, 127];
        head.extend((len as u64).to_be_bytes());
        head
    };
    assert_eq!(decode(&head(needed)), Ok(vec![]));
    assert_eq!(decode(&head(needed + 1)), Err(Violation::TooLarge));
    // What arrived before counts as well, however little it inflates to.
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
    // A limit for frames below that for messages is one for what is on the wire.
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
fn takes_control_frames_between_compressed_fragments() {
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

#[test]
fn survives_whatever_is_sent_for_a_compressed_message() {
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

/// Decodes as [`events_of`] does, with a new share for each call, which may make no more than that.
fn events_in_shares(
    decoder: &mut Decoder,
    bytes: &[u8],
    piece: usize,
    mut share: impl FnMut() -> usize,
) -> (Result<Vec<Event>, Violation>, usize) {
    let now = Moment::now();
    let (mut events, mut pauses) = (Vec::new(), 0);
    for mut input in bytes.chunks(piece) {
        loop {
            let share = share();
            decoder.set_share(share);
            counted::take();
            let decoded = decoder.decode(&mut input, now);
            let made = counted::take();
            assert!(made <= share, "{made} bytes of {share}");
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
fn makes_the_same_of_every_message_wherever_it_pauses() {
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
        // A stream of its own with a final block each.
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
        bytes.extend(frame(FIN | 1, b"behind"));
        for takeover in [false, true] {
            let expected = events_of(&mut decoder(takeover, limits), &bytes, || bytes.len());
            for piece in [bytes.len(), 1000, 1] {
                let share = || KIB * (64 + rng.below(64)) + rng.below(KIB);
                let mut decoder = decoder(takeover, limits);
                let (events, pauses) = events_in_shares(&mut decoder, &bytes, piece, share);
                assert!(events == expected, "{name}, {piece} at once, {takeover}");
                assert!(pauses > 1 || piece < bytes.len(), "{name} did not pause");
            }
        }
    }
}
