//! Bytes by which a client breaks a rule of the protocol or exceeds a default limit.

#![allow(dead_code, reason = "each test file uses its part")]

use super::wire::{BINARY, CONTINUATION, FIN, PING};

/// Answered with 1002: a frame without a mask.
pub(crate) const UNMASKED: &[u8] = &[0x81, 0];
/// Answered with 1007: a text of the byte 0xff.
pub(crate) const INVALID_UTF8: &[u8] = &[0x81, 0x81, 0, 0, 0, 0, 0xff];
/// Answered with 1009: the beginning of the head of a message of at least 16 MiB.
pub(crate) const TOO_LARGE: &[u8] = &[0x82, 0xff, 0, 0, 0, 0, 1];
/// Answered with 1008: one more empty fragment than the limit.
pub(crate) const EMPTY_FRAGMENTS: &[u8] = &empty_frames::<{ 17 * 6 }>(BINARY, CONTINUATION);
/// Answered with 1008: one more ping than the limit.
pub(crate) const PINGS: &[u8] = &empty_frames::<{ 201 * 6 }>(FIN | PING, FIN | PING);

const fn empty_frames<const BYTES: usize>(first: u8, others: u8) -> [u8; BYTES] {
    let mut frames = [0; BYTES];
    let mut at = 0;
    while at < BYTES {
        frames[at] = if at == 0 { first } else { others };
        frames[at + 1] = 0x80;
        at += 6;
    }
    frames
}
