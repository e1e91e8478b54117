//! The memory for a message in progress, and the memory of a delivered message.

use crate::time::Moment;

use super::{BINARY, CONTINUATION, LIMITS, MIB, Rng, TEXT, decode_in, decoder, frame};
#[cfg(feature = "deflate")]
use crate::codec::Violation;
use crate::codec::{CHUNK, Decoder, Event, Limits, hold_turn};

#[test]
fn allocates_for_received_bytes_and_not_for_announced_ones() {
    const LEN: usize = MIB / 4;
    for opcode in [TEXT, BINARY] {
        for (last, turn) in [(true, true), (false, true), (true, false)] {
            let turn = turn.then(hold_turn);
            let whole = frame(opcode, last, &vec![b'a'; LEN]);
            let head = whole.len() - LEN;
            let mut decoder = decoder(Limits {
                message: if last { MIB } else { LEN },
                ..LIMITS
            });
            let now = Moment::now();
            assert_eq!(decoder.decode(&mut &whole[..head], now), Ok(None));
            assert_eq!(decoder.capacity(), 0);
            for received in 1..LEN {
                let mut byte = &whole[head + received - 1..][..1];
                assert_eq!(decoder.decode(&mut byte, now), Ok(None));
                let capacity = decoder.capacity();
                let bound = match turn {
                    Some(_) => received + received.max(64 * 1024).min(1024 + 16 * received),
                    None => 1024 + 17 * received,
                };
                assert!(
                    capacity <= bound.min(LEN),
                    "{capacity} for {received} bytes, opcode {opcode}"
                );
            }
        }
    }
}

#[test]
fn allocates_at_most_twice_the_bytes_of_fragments() {
    for opcode in [TEXT, BINARY] {
        let mut rng = Rng::new(6);
        let mut decoder = decoder(LIMITS);
        let now = Moment::now();
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
        // The message owns a buffer of exactly its length.
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

/// Returns the maximum number of allocated bytes that the documentation of `codec` states.
fn bound(received: usize, limit: usize, has_turn: bool) -> usize {
    let max = if has_turn { usize::MAX } else { CHUNK };
    let ahead = (16 * received).clamp(1024, max);
    in_buffers(limit).min(received + ahead)
}

/// Returns the size of the buffers for a message of `limit` bytes.
fn in_buffers(limit: usize) -> usize {
    match limit {
        0..=CHUNK => limit,
        _ => limit.checked_next_multiple_of(CHUNK).unwrap_or(limit),
    }
}

#[test]
fn bounds_the_memory_for_any_fragments_pieces_and_direct_reads() {
    let mut rng = Rng::new(14);
    let now = Moment::now();
    let (mut direct_reads, mut cancelled) = (0, 0);
    for round in 0..120 {
        let near = CHUNK - 3 + rng.below(6);
        let limit = [1 + rng.below(5_000), near, near + CHUNK, usize::MAX][rng.below(4)];
        let max = limit.min(5 * CHUNK);
        let len = [max, 1 + rng.below(max)][rng.below(2)];
        let payload = match round % 2 {
            0 => rng.bytes(len),
            _ => {
                let mut text = "é€a".repeat(len / 6).into_bytes();
                text.resize(len, b'a');
                text
            }
        };
        let mut opcode = [BINARY, TEXT][round % 2];
        let fragments = [len, 70_000, 5_000, 200][rng.below(4)];
        let pieces = [40, 4_000, 80_000][rng.below(3)].max(len / 500);
        let mut decoder = decoder(Limits {
            message: limit,
            frame: limit,
            ..LIMITS
        });
        let turn = (rng.below(4) > 0).then(hold_turn);
        let mut received = 0;
        let mut message = None;
        while message.is_none() {
            let end = len.min(received + 1 + rng.below(fragments));
            let whole = frame(opcode, end == len, &payload[received..end]);
            let (head, mut rest) = whole.split_at(whole.len() - (end - received));
            opcode = CONTINUATION;
            assert_eq!(decoder.decode(&mut &*head, now), Ok(None));
            while !rest.is_empty() {
                let (mut piece, more) = rest.split_at(rest.len().min(1 + rng.below(pieces)));
                let mut is_direct = false;
                if let Some(mut buffers) = decoder.direct_read() {
                    is_direct = rng.below(3) > 0;
                    if is_direct {
                        let read = buffers.fill(piece);
                        piece = &piece[..read];
                        direct_reads += 1;
                    }
                    // Up to four buffers during the read.
                    let max = bound(received, limit, turn.is_none()) + 3 * CHUNK;
                    assert!(
                        decoder.capacity() <= max.min(in_buffers(limit)),
                        "round {round}"
                    );
                    if !is_direct && rng.below(2) == 0 {
                        decoder.cancel_direct_read();
                        cancelled += 1;
                    }
                }
                received += piece.len();
                rest = if is_direct {
                    &rest[piece.len()..]
                } else {
                    more
                };
                message = match is_direct {
                    true => {
                        let message = decoder.finish_direct_read(piece.len(), now).unwrap();
                        message.map(|message| Event::Message(message.into_message().unwrap()))
                    }
                    false => decoder.decode(&mut piece, now).unwrap(),
                };
                assert!(
                    decoder.capacity() <= bound(received, limit, turn.is_none()),
                    "round {round}"
                );
            }
        }
        let Some(Event::Message(message)) = message else {
            panic!("{message:?} is not a message");
        };
        assert!(message.as_bytes() == payload, "round {round}");
        let buffer: Vec<u8> = message.into_bytes().into();
        assert_eq!(buffer.capacity(), len, "round {round}");
        assert_eq!(decoder.capacity(), 0);
    }
    assert!(
        direct_reads > 150 && cancelled > 30,
        "{direct_reads} {cancelled}"
    );
}

#[cfg(feature = "deflate")]
#[test]
fn bounds_the_memory_for_inflated_bytes() {
    use super::{at_server, properties::deflation};
    use crate::codec::{Compression, Rules};

    let now = Moment::now();
    let mut rng = Rng::new(15);
    // The first part hardly shrinks, the rest shrinks to a thousandth.
    let payload = [rng.bytes(20_000), vec![0; 280_000]].concat();
    let mut compression = Compression::new(deflation());
    let compressed = compression.compress_at_once(&payload).unwrap();
    for limit in [1, 900, 30_000, CHUNK, 3 * CHUNK + 7, payload.len(), MIB] {
        for pieces in [1, 50, 100_000] {
            let mut decoder = Decoder::new(Rules {
                deflation: Some(deflation()),
                ..at_server(Limits {
                    message: limit,
                    ..LIMITS
                })
            });
            let mut bytes = frame(BINARY, true, &compressed);
            bytes[0] |= 0x40;
            let mut result = Ok(None);
            for mut piece in bytes.chunks(pieces) {
                result = decoder.decode(&mut piece, now);
                let inflated = decoder.len_so_far();
                let case = format!("limit {limit}, {inflated} inflated");
                assert!(
                    decoder.capacity() <= bound(inflated, limit, false),
                    "{case}"
                );
                if result != Ok(None) {
                    break;
                }
            }
            let expected = match limit < payload.len() {
                true => Err(Violation::TooLarge),
                false => Ok(Some(Event::Message(payload.clone().into()))),
            };
            assert!(result == expected, "limit {limit}");
        }
    }
}

#[test]
fn delivers_buffers_of_exact_length_for_pieces_of_any_size() {
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
fn is_small_between_messages() {
    assert!(size_of::<Decoder>() <= 512, "{}", size_of::<Decoder>());
    assert!(size_of::<Event>() <= 136, "{}", size_of::<Event>());
}
