//! Tests of the whole decoder: the events of a stream, for pieces of any size.

mod differential;
mod direct_reads;
mod memory;
mod properties;
mod refusals;
mod sessions;
mod time;

use std::time::Duration;

use crate::time::Moment;

use tokio_tungstenite::tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

use super::{Control, Decoder, Event, Limits, Mask, Role, Rules, Violation};

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CONTINUATION: u8 = 0x0;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

pub(super) const MIB: usize = 1024 * 1024;
pub(super) const LIMITS: Limits = Limits {
    message: MIB,
    frame: MIB,
    fragments: 16_384,
    empty_fragments: 16,
    assembly: Duration::from_secs(60),
};

fn at_server(limits: Limits) -> Rules {
    Rules {
        role: Role::Server,
        limits,
        deflation: None,
    }
}

fn decoder(limits: Limits) -> Decoder {
    Decoder::new(at_server(limits))
}

/// A random number generator, xorshift64*. It gives the same numbers in every run.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 16) % end as u64) as usize
    }

    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 32) as u8).collect()
    }
}

/// Writes a masked frame of a client. tungstenite writes the head.
fn push_frame(to: &mut Vec<u8>, opcode: u8, last: bool, payload: &[u8]) {
    let key = [to.len() as u8, 0x8a, 0x00, 0xff];
    FrameHeader {
        is_final: last,
        opcode: OpCode::from(opcode),
        mask: Some(key),
        ..FrameHeader::default()
    }
    .format(payload.len() as u64, to)
    .unwrap();
    Mask::new(key).append(payload, to);
}

fn frame(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    push_frame(&mut frame, opcode, last, payload);
    frame
}

fn control(bytes: &[u8]) -> Box<Control> {
    let mut control = Box::new(Control::empty());
    control.append(bytes);
    control
}

/// Decodes `bytes` up to a Close, a violation or the end. `piece` returns the length of the next piece.
///
/// Returns the events, the result, and the number of bytes passed to the decoder.
fn decode_in(
    bytes: &[u8],
    limits: Limits,
    piece: impl FnMut() -> usize,
) -> (Vec<Event>, Result<(), Violation>, usize) {
    decode_by(bytes, at_server(limits), piece)
}

fn decode_by(
    bytes: &[u8],
    rules: Rules,
    mut piece: impl FnMut() -> usize,
) -> (Vec<Event>, Result<(), Violation>, usize) {
    let now = Moment::now();
    let mut decoder = Decoder::new(rules);
    let mut events = Vec::new();
    let mut given = 0;
    while given < bytes.len() {
        let end = (given + piece()).min(bytes.len());
        let mut input = &bytes[given..end];
        given = end;
        loop {
            match decoder.decode(&mut input, now) {
                Ok(Some(event)) => {
                    let done = matches!(event, Event::Close(_));
                    events.push(event);
                    if done {
                        return (events, Ok(()), given);
                    }
                }
                Ok(None) => break,
                Err(violation) => return (events, Err(violation), given),
            }
        }
        assert!(input.is_empty(), "the decoder left bytes of the input");
    }
    (events, Ok(()), given)
}

fn decode(bytes: &[u8]) -> (Vec<Event>, Result<(), Violation>) {
    let (events, result, _) = decode_in(bytes, LIMITS, || usize::MAX);
    (events, result)
}

/// Decodes byte by byte. Returns the violation, and the number of bytes up to it.
#[track_caller]
fn refused(bytes: &[u8]) -> (Violation, usize) {
    let (events, result, given) = decode_in(bytes, LIMITS, || 1);
    let violation = result.expect_err("the stream should be refused");
    assert_eq!(decode(bytes), (events, Err(violation)), "in one piece");
    (violation, given)
}
