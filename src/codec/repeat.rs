//! Messages that are answered with themselves, where they stand.
//!
//! The frame of a server is the client's without its mask, so it fits in its place: the payload is
//! unmasked there, or moved up to the answer before it.

use std::ops::Range;

use super::{
    Violation,
    head::{self, DataKind},
    utf8::check,
};

/// How much shorter the head of an answer is: it has no mask.
const UNMASKED: usize = 4;

/// Answers that stand where the messages stood.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// Where in the input the answers are.
    pub(crate) frames: Range<usize>,
    /// How much of the input they were made of.
    pub(crate) taken: usize,
    pub(crate) messages: usize,
    /// Bytes of payload.
    pub(crate) bytes: usize,
    /// What the message behind them broke.
    pub(crate) violation: Option<Violation>,
}

/// Answers messages off the front of `input`, in its place: those that are whole and of the usual form,
/// of `limit` bytes or less, at most `most`, and without `texts` only binary ones. Anything else is left
/// where it is, for [`decode`](super::Decoder::decode).
///
/// `limit` is that of the [decoder](super::Decoder::usual_limit) that would take them else.
pub(crate) fn repeat(input: &mut [u8], limit: usize, texts: bool, most: usize) -> Repeats {
    let (mut taken, mut messages, mut bytes) = (0, 0, 0);
    // The first payload stays where it is, behind a head that has four bytes less.
    let mut end = UNMASKED;
    let mut violation = None;
    while messages < most {
        let rest = &input[taken..];
        let Some((kind, mask, head, len)) = head::usual(rest) else {
            break;
        };
        let is_text = matches!(kind, DataKind::Text);
        if len > limit || len > rest.len() - head || (is_text && !texts) {
            break;
        }
        let first = rest[0];
        // It fits: no usual head tells of more than 16 bits can.
        let [high, low] = (len as u16).to_be_bytes();
        let begin = if len > 125 {
            input[end..end + 4].copy_from_slice(&[first, 126, high, low]);
            end + 4
        } else {
            input[end..end + 2].copy_from_slice(&[first, low]);
            end + 2
        };
        let payload = taken + head..taken + head + len;
        taken = payload.end;
        mask.shift(input, payload, begin);
        if is_text && check(&input[begin..begin + len]).is_err() {
            violation = Some(Violation::InvalidUtf8);
            break;
        }
        end = begin + len;
        messages += 1;
        bytes += len;
    }
    Repeats {
        frames: if messages > 0 { UNMASKED..end } else { 0..0 },
        taken,
        messages,
        bytes,
        violation,
    }
}
