//! Messages that are answered with themselves, where they stand.
//!
//! The frame of a server is the client's without its mask, so it fits in its place: the payload is
//! unmasked there, or moved up to the answer before it.

use std::ops::Range;

use super::{
    Decoder, Role, Violation,
    head::{self, DataKind},
    utf8::check,
};

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

impl Decoder {
    /// Answers messages off the front of `input`, in its place: those that are whole and of the
    /// usual form, at most `most`, and without `texts` only binary ones. Anything else is left
    /// where it is, for [`decode`](Self::decode).
    pub(crate) fn repeat(&self, input: &mut [u8], texts: bool, most: usize) -> Repeats {
        let mut repeats = Repeats::default();
        if self.rules.role != Role::Server || !self.is_between_messages() {
            return repeats;
        }
        while repeats.messages < most {
            let rest = &input[repeats.taken..];
            let Some((kind, mask, start, len)) = head::usual(rest, &self.rules.limits) else {
                break;
            };
            let is_text = matches!(kind, DataKind::Text);
            if len > rest.len() - start || (is_text && !texts) {
                break;
            }
            let payload = repeats.taken + start..repeats.taken + start + len;
            let first = input[repeats.taken];
            let long = len > 125;
            let head = if long { 4 } else { 2 };
            if repeats.messages == 0 {
                // The first payload stays where it is.
                repeats.frames = payload.start - head..payload.start - head;
            }
            let at = repeats.frames.end;
            // It fits: no usual head tells of more than 16 bits can.
            let [high, low] = (len as u16).to_be_bytes();
            if long {
                input[at..at + 4].copy_from_slice(&[first, 126, high, low]);
            } else {
                input[at..at + 2].copy_from_slice(&[first, low]);
            }
            let begin = at + head;
            repeats.taken = payload.end;
            mask.shift(input, payload, begin);
            if is_text && check(&input[begin..begin + len]).is_err() {
                repeats.violation = Some(Violation::InvalidUtf8);
                break;
            }
            repeats.frames.end = begin + len;
            repeats.messages += 1;
            repeats.bytes += len;
        }
        repeats
    }
}
