//! Messages of several deflate streams, each ended by a block with BFINAL (RFC 7692 §7.2.3.4): their content,
//! their cost, and their limits.
//!
//! `benches/inflate-cost` measures the instructions for messages of a million bytes.

use std::env;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::{
    TAIL, short,
    tests::{BINARY, CONTINUATION, FIN, TEXT, compress, decoder, events_of, frame, noise},
};
use crate::{
    codec::{
        Decoder, Event, Limits, Violation,
        tests::{LIMITS, Rng},
    },
    words::Message,
};

/// The approximate length of the messages for the measurement.
const MILLION: usize = 1_000_000;

/// Writes deflate blocks bit by bit.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    bits: u64,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u64, count: u32) {
        self.bits |= value << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.bits as u8);
            self.bits >>= 8;
            self.count -= 8;
        }
    }

    /// Appends a Huffman code. Its highest bit comes first.
    fn code(&mut self, code: u64, count: u32) {
        self.push(code.reverse_bits() >> (64 - count), count);
    }

    fn align(&mut self) {
        self.push(0, (8 - self.count) % 8);
    }

    fn head(&mut self, last: bool, kind: u64) {
        self.push(u64::from(last) | kind << 1, 3);
    }

    /// Ends a message like a sender: with the head of an empty stored block.
    fn flush(&mut self) {
        self.head(false, 0);
        self.align();
    }

    /// Appends a literal or a length in the fixed code (RFC 1951 §3.2.6).
    fn symbol(&mut self, symbol: u64) {
        match symbol {
            0..144 => self.code(0x30 + symbol, 8),
            144..256 => self.code(0x190 + symbol - 144, 9),
            256..280 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }

    /// Appends the shortest empty block with dynamic codes.
    fn dynamic_codes(&mut self, last: bool) {
        self.head(last, 2);
        self.push(0, 5);
        self.push(0, 5);
        self.push(14, 4);
        // Among the codes for code lengths, only 18 and 1 are used, with one bit each.
        for index in 0..18 {
            self.push(u64::from(index == 2 || index == 17), 3);
        }
        // 138 and 118 zeros, then the code for the end of the block, and one for a distance.
        self.push(1 | 127 << 1 | 1 << 8 | 107 << 9, 16);
        self.push(0, 3);
    }
}

/// Makes a stream of `text` in a block of fixed codes, without back references.
fn literals(text: &[u8]) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.head(true, 1);
    for &byte in text {
        bits.symbol(u64::from(byte));
    }
    bits.symbol(256);
    bits.align();
    bits.bytes
}

fn stored(text: &[u8]) -> Vec<u8> {
    let len = text.len() as u16;
    [&[1], &len.to_le_bytes()[..], &(!len).to_le_bytes(), text].concat()
}

/// Makes a stream that ends with a final block, like a client that ends streams instead of flushing.
fn finished(content: &[u8], level: u32) -> Vec<u8> {
    let mut compress = Compress::new(flate2::Compression::new(level), false);
    let mut output = Vec::with_capacity(content.len() + content.len() / 8 + 64);
    let status = compress.compress_vec(content, &mut output, FlushCompress::Finish);
    assert!(matches!(status, Ok(Status::StreamEnd)));
    output
}

fn to_a_million(piece: &[u8]) -> Vec<u8> {
    piece.repeat(MILLION / piece.len())
}

/// Returns a payload that is expensive for its length. Most are hundreds of thousands of tiny streams.
fn expensive(name: &str) -> Vec<u8> {
    let mut bits = Bits::default();
    match name {
        "empty" => to_a_million(&[3, 0]),
        "empty stored" => to_a_million(&stored(b"")),
        "a letter" => to_a_million(&literals(b"a")),
        "a stored letter" => to_a_million(&stored(b"a")),
        "two letters" => to_a_million(&literals(b"ab")),
        "four letters" => to_a_million(&literals(b"abcd")),
        "sixteen letters" => to_a_million(&literals(&[b'a'; 16])),
        "sixteen stored letters" => to_a_million(&stored(&[b'a'; 16])),
        "empty with dynamic codes" => {
            bits.dynamic_codes(true);
            bits.align();
            to_a_million(&bits.bytes)
        }
        "dynamic codes, not final" => {
            while bits.bytes.len() < MILLION {
                bits.dynamic_codes(false);
            }
            bits.flush();
            bits.bytes
        }
        "empty, not final" => {
            while bits.bytes.len() < MILLION {
                bits.head(false, 1);
                bits.symbol(256);
            }
            bits.flush();
            bits.bytes
        }
        "empty stored, not final" => [to_a_million(&[0, 0, 0, 0xff, 0xff]), vec![0]].concat(),
        _ => panic!("no payload {name}"),
    }
}

/// Returns a cheap payload, for comparison.
fn ordinary(name: &str) -> Vec<u8> {
    let mut rng = Rng::new(3);
    match name {
        "stored" => compress(&noise(MILLION), 0),
        "text" => {
            let words = [
                "lorem ", "ipsum ", "dolor ", "sit ", "amet, ", "{\"id\":", "12", "é",
            ];
            let words = (0..MILLION / 4).map(|_| words[rng.below(words.len())]);
            compress(&words.collect::<String>().as_bytes()[..MILLION], 6)
        }
        _ => panic!("no payload {name}"),
    }
}

const REFUSED: [&str; 6] = [
    "empty",
    "empty stored",
    "a letter",
    "a stored letter",
    "two letters",
    "empty with dynamic codes",
];

/// Decodes a message in reads of 64 KiB. Returns the result, the number of bytes taken, and the decoder.
fn decode(payload: &[u8]) -> (Result<Option<Event>, Violation>, usize, Decoder) {
    let mut decoder = decoder(false, LIMITS);
    let bytes = frame(FIN | BINARY, payload);
    let (result, taken) = decode_by(&mut decoder, &bytes);
    (result, taken, decoder)
}

// A function of its own, so that callgrind can count it separately.
#[inline(never)]
fn decode_by(decoder: &mut Decoder, bytes: &[u8]) -> (Result<Option<Event>, Violation>, usize) {
    let now = crate::time::Moment::now();
    let mut taken = 0;
    for mut piece in bytes.chunks(64 * 1024) {
        taken += piece.len();
        match decoder.decode(&mut piece, now) {
            Ok(None) => {}
            result => return (result, taken),
        }
    }
    (Ok(None), taken)
}

#[test]
#[ignore = "benches/inflate-cost counts its instructions"]
fn decodes_the_payload_to_be_measured() {
    let name = env::var("PAYLOAD").expect("PAYLOAD names a payload");
    let (front, name) = match name.strip_prefix("after text: ") {
        Some(name) => (finished(&b"ordinary data, ".repeat(1000), 6), name),
        None => (Vec::new(), &name[..]),
    };
    let payload = match name {
        "stored" | "text" => ordinary(name),
        _ => [front, expensive(name)].concat(),
    };
    let (result, taken, _) = decode(&payload);
    let result = result.map(|event| event.is_some());
    println!("{} bytes, {taken} taken: {result:?}", payload.len());
}

#[test]
fn refuses_too_many_tiny_streams() {
    let text = b"ordinary data, ".repeat(10_000);
    // At the start, after a block, and after a stream.
    let blocks = [&compress(&text, 6)[..], &TAIL].concat();
    for front in [vec![], blocks, finished(&text, 6)] {
        for name in REFUSED {
            let payload = [&front[..], &expensive(name)].concat();
            let (result, taken, mut decoder) = decode(&payload);
            assert_eq!(result, Err(Violation::TooManyFinalBlocks), "{name}");
            assert!(taken <= front.len() + 64 * 1024, "{name}: {taken} taken");
            // Only a few hundred bytes of the tiny streams were inflated.
            let work = decoder.take_work();
            let max = front.len() * 4 + text.len() + 20 * 1024;
            assert!(work <= max, "{name}: work of {work} bytes");
        }
    }
}

#[test]
fn inflates_short_streams_without_zlib() {
    for name in ["four letters", "sixteen letters", "sixteen stored letters"] {
        let payload = expensive(name);
        let (result, _, mut decoder) = decode(&payload);
        let Ok(Some(Event::Message(message))) = result else {
            panic!("{name}: {result:?}");
        };
        // A stream in zlib counts as 256 bytes. zlib was used only for streams that are split by a read or by a
        // block of 4 KiB.
        let work = decoder.take_work();
        let max = 4 * payload.len() + message.len() + 256 * (payload.len() / 2048 + 2);
        assert!(work <= max, "{name}: work of {work} bytes");
    }
}

#[test]
fn accepts_a_stream_for_each_flush() {
    let json = br#"{"id":1234,"name":"somebody","on":true} and some more that is not the same"#;
    let noise = noise(20_000);
    for content in [
        &json[..4],
        &json[..5],
        &json[..9],
        &json[..20],
        json,
        &noise[..300],
        &noise[..3000],
        &noise,
    ] {
        for level in [0, 1, 6] {
            let flushes = 200_000 / content.len();
            let payload = finished(content, level).repeat(flushes);
            let (result, ..) = decode(&payload);
            let message = Event::Message(Message::binary(content.repeat(flushes)));
            let case = format!("{} bytes at level {level}", content.len());
            assert!(result == Ok(Some(message)), "{case}: {:?}", result.err());
        }
    }
}

#[test]
fn accepts_sixteen_tiny_streams_for_each_frame() {
    for (frames, each) in [(2000, 1), (1000, 16)] {
        let streams = finished(b"a", 6).repeat(each);
        let mut bytes = frame(TEXT, &streams);
        for _ in 0..frames {
            bytes.extend(frame(CONTINUATION, &streams));
        }
        bytes.extend(frame(FIN, b""));
        let events = events_of(&mut decoder(false, LIMITS), &bytes, || 1000);
        let text = "a".repeat(each * (frames + 1));
        assert_eq!(events, Ok(vec![Event::Message(Message::text(text))]));
    }
    // The final block that the decoder appends itself does not count.
    for takeover in [false, true] {
        let payload = [&finished(b"a", 6).repeat(16)[..], &[0]].concat();
        let bytes = frame(FIN | TEXT, &payload).repeat(3);
        let events = events_of(&mut decoder(takeover, LIMITS), &bytes, || 1000);
        let message = Event::Message(Message::text("a".repeat(16)));
        assert_eq!(events, Ok(vec![message; 3]));
    }
    let payload = finished(b"a", 6).repeat(17);
    let events = events_of(
        &mut decoder(false, LIMITS),
        &frame(FIN | TEXT, &payload),
        || 1,
    );
    assert_eq!(events, Err(Violation::TooManyFinalBlocks));
}

#[test]
fn limits_the_message_exactly_for_any_number_of_streams() {
    let limits = Limits {
        message: 64 * 1024,
        frame: 64 * 1024,
        ..LIMITS
    };
    let content: Vec<u8> = (0..limits.message).map(|i| (i / 40) as u8).collect();
    for streams in [1, 2, 3, 17, 2048] {
        let pieces = content.chunks(content.len().div_ceil(streams));
        let payload: Vec<u8> = pieces.flat_map(|piece| finished(piece, 6)).collect();
        // Followed by nothing, by an empty block, and by an empty final block.
        for tail in [&[][..], &[0], &[3, 0]] {
            let exact = frame(FIN | BINARY, &[&payload[..], tail].concat());
            let over = frame(
                FIN | BINARY,
                &[&payload[..], &literals(b"x"), tail].concat(),
            );
            for piece in [777, 100_000] {
                let events = events_of(&mut decoder(false, limits), &exact, || piece);
                let message = Event::Message(Message::binary(content.clone()));
                assert!(events == Ok(vec![message]), "{streams} streams, {tail:?}");
                let events = events_of(&mut decoder(false, limits), &over, || piece);
                assert!(
                    events == Err(Violation::TooLarge),
                    "{streams} streams, {tail:?}"
                );
            }
        }
    }
}

#[test]
fn reports_the_first_error_of_several_streams_for_pieces_of_any_size() {
    let limits = Limits {
        message: 40,
        ..LIMITS
    };
    let (ok, tiny, invalid) = (
        literals(b"some text"),
        literals(b"."),
        literals(b"\xff text"),
    );
    let cases = [
        (
            [&ok[..], &tiny.repeat(16), &invalid].concat(),
            Violation::InvalidUtf8,
        ),
        (
            [&ok[..], &tiny.repeat(17), &invalid].concat(),
            Violation::TooManyFinalBlocks,
        ),
        (
            [&invalid[..], &tiny.repeat(17)].concat(),
            Violation::InvalidUtf8,
        ),
        (
            [&ok.repeat(5)[..], &tiny.repeat(17)].concat(),
            Violation::TooLarge,
        ),
        (
            [&tiny.repeat(17)[..], &ok.repeat(5)].concat(),
            Violation::TooManyFinalBlocks,
        ),
        (
            [&ok[..], &tiny.repeat(16), &[7]].concat(),
            Violation::Protocol(""),
        ),
    ];
    for (payload, expected) in cases {
        let bytes = frame(FIN | TEXT, &payload);
        for piece in [bytes.len(), 1, 2, 5, 50] {
            let events = events_of(&mut decoder(false, limits), &bytes, || piece);
            let same = match events {
                Err(Violation::Protocol(_)) => expected == Violation::Protocol(""),
                _ => events == Err(expected),
            };
            assert!(same, "{events:?} in pieces of {piece}, not {expected:?}");
        }
    }
}

/// Inflates the stream at the front with zlib. Returns the number of bytes read, and the output.
fn by_zlib(input: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut zlib = Decompress::new(false);
    let mut output = Vec::with_capacity(64 * 1024);
    let status = zlib.decompress_vec(input, &mut output, FlushDecompress::None);
    matches!(status, Ok(Status::StreamEnd)).then(|| (zlib.total_in() as usize, output))
}

fn random_bytes(rng: &mut Rng, max: usize) -> Vec<u8> {
    let len = rng.below(max);
    rng.bytes(len)
}

/// Makes a stream of random blocks. Most are valid.
fn random_stream(rng: &mut Rng) -> Vec<u8> {
    let mut bits = Bits::default();
    let mut len = 0;
    let blocks = 1 + rng.below(3);
    for block in 1..=blocks {
        let last = block == blocks;
        match rng.below(8) {
            0 => {
                let size = rng.below(20);
                bits.head(last, 0);
                bits.align();
                bits.push(size as u64, 16);
                bits.push(!(size as u64) & 0xffff, 16);
                for byte in rng.bytes(size) {
                    bits.push(u64::from(byte), 8);
                }
                len += size;
            }
            1 => {
                bits.head(last, 2);
                bits.push(rng.below(1 << 30) as u64, 30);
            }
            _ => {
                bits.head(last, 1);
                for _ in 0..rng.below(30) {
                    let symbol = rng.below(if len > 0 { 287 } else { 256 });
                    bits.symbol(symbol as u64);
                    len += 1;
                    if let 257.. = symbol {
                        let extra = match symbol {
                            265..285 => (symbol as u32 - 261) / 4,
                            _ => 0,
                        };
                        bits.push(rng.below(1 << extra) as u64, extra);
                        let max = [4, 12, 30, 32][rng.below(4)];
                        let distance = rng.below(max);
                        bits.code(distance as u64, 5);
                        let extra = (distance as u32 / 2).saturating_sub(1).min(13);
                        bits.push(rng.below(1 << extra) as u64, extra);
                        len += 3;
                    } else if symbol == 256 {
                        break;
                    }
                }
                bits.symbol(256);
            }
        }
    }
    bits.align();
    bits.bytes
}

#[test]
fn inflates_short_streams_like_zlib() {
    let mut rng = Rng::new(17);
    let (mut same, mut left) = (0, 0);
    let mut output = [0; 4096];
    for round in 0..30_000 {
        let mut input = match round % 4 {
            0 => finished(&b"some text, some more text"[..rng.below(26)], 6),
            1 => finished(&random_bytes(&mut rng, 60), rng.below(10) as u32),
            _ => random_stream(&mut rng),
        };
        if rng.below(4) == 0 {
            let index = rng.below(input.len());
            input[index] ^= 1 << rng.below(8);
        }
        // With more bytes after it, unchanged, or truncated.
        match rng.below(3) {
            0 => input.extend(random_bytes(&mut rng, 20)),
            1 => {}
            _ => input.truncate(1 + rng.below(input.len())),
        }
        let small = rng.below(50);
        let capacity = [4096, 4096, small][rng.below(3)];
        match short::inflate(&input, &mut output[..capacity]) {
            Some((read, written)) => {
                same += 1;
                let expected = by_zlib(&input);
                let ours = Some((read, output[..written].to_vec()));
                assert_eq!(ours, expected, "round {round}: {input:x?}");
            }
            None => left += 1,
        }
    }
    assert!(
        same > 10_000 && left > 10_000,
        "{same} the same, {left} left to zlib"
    );
}
