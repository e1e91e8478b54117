//! Compressed messages through the compressor and the decoder.

mod compressing;
mod limits;
mod messages;
mod refusals;

use flate2::{Compress, FlushCompress};

use super::{Deflate, Deflation, TAIL};
use crate::{
    codec::{
        Decoder, Event, Limits, Role, Rules, Violation,
        tests::{LIMITS, Rng},
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

/// Makes a decoder of the client's role, so that frames need no mask.
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

/// Decodes all of `bytes` in pieces.
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

/// Compresses a message with zlib alone, like another implementation.
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
