//! Masking, which is the same operation as unmasking
//! ([RFC 6455 §5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.3)).

use std::ops::Range;

use multiversion::multiversion;

use crate::random;

/// Masked at once, in registers: loads that are not mixed with stores take a third of the time, and
/// a fifth where the bytes are moved as well.
const BLOCK: usize = 128;
/// The same for what is left, and for short payloads. What is less goes by eight bytes, then by four:
/// at most three are masked one by one.
const PIECE: usize = 32;

/// The masking key of one frame, turned so that its first byte is for the next byte of payload.
///
/// A payload can so be given in any pieces, whatever their lengths.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mask([u8; 4]);

impl Mask {
    /// The mask of a frame without one, which changes nothing.
    pub(crate) const NONE: Self = Self([0; 4]);

    /// Makes a mask from the four bytes in the frame's head.
    pub(crate) const fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Makes the mask of a frame that is sent, which nobody can predict (RFC 6455 §5.3).
    pub(crate) fn random() -> Self {
        Self(random::mask())
    }

    /// Returns the four bytes that stand in the frame's head.
    pub(crate) const fn key(self) -> [u8; 4] {
        self.0
    }

    /// Masks or unmasks the payload's next bytes in place.
    pub(crate) fn apply(&mut self, bytes: &mut [u8]) {
        self.pull(bytes, 0);
        self.skip(bytes.len());
    }

    /// Masks or unmasks the payload's next bytes while appending them to `to`, in one pass.
    pub(crate) fn append(&mut self, from: &[u8], to: &mut Vec<u8>) {
        to.reserve_exact(from.len());
        let (blocks, rest) = from.split_at(from.len() - from.len() % BLOCK);
        if !blocks.is_empty() {
            append_blocks(*self, blocks, to);
        }
        let start = to.len();
        to.extend_from_slice(rest);
        self.pull(&mut to[start..], 0);
        self.skip(from.len());
    }

    /// Masks or unmasks `buffer[from]` while moving it up to `to`, which is not behind its start.
    #[inline]
    pub(super) fn shift(self, buffer: &mut [u8], from: Range<usize>, to: usize) {
        // Both within the part that is read from here on, so that the checks are few.
        self.pull(&mut buffer[to..from.end], from.start - to);
    }

    /// Masks or unmasks what is behind the first `gap` bytes while moving it up to the front.
    #[inline]
    fn pull(self, buffer: &mut [u8], gap: usize) {
        let at = match buffer.len() - gap {
            ..BLOCK => 0,
            _ => pull_blocks(self, buffer, gap),
        };
        let at = self.pull_by::<PIECE>(buffer, gap, at);
        let at = self.pull_by::<8>(buffer, gap, at);
        let at = self.pull_by::<4>(buffer, gap, at);
        for (at, key) in (at..buffer.len() - gap).zip(self.0) {
            buffer[at] = buffer[at + gap] ^ key;
        }
    }

    /// Does so in pieces of `N` bytes, from `at` on, and returns where less than one is left.
    #[inline(always)]
    fn pull_by<const N: usize>(self, buffer: &mut [u8], gap: usize, mut at: usize) -> usize {
        // What is written has been read before: pieces may overlap.
        while at + gap + N <= buffer.len() {
            let piece = self.masked::<N>(&buffer[at + gap..at + gap + N]);
            buffer[at..at + N].copy_from_slice(&piece);
            at += N;
        }
        at
    }

    /// `bytes` are `N`, a multiple of four.
    // Words of four bytes in a plain loop: the compiler turns them into vectors.
    #[inline(always)]
    fn masked<const N: usize>(self, bytes: &[u8]) -> [u8; N] {
        let key = u32::from_ne_bytes(self.0);
        let mut masked = [0; N];
        masked.copy_from_slice(bytes);
        for word in masked.chunks_exact_mut(4) {
            let masked = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]) ^ key;
            word.copy_from_slice(&masked.to_ne_bytes());
        }
        masked
    }

    fn skip(&mut self, bytes: usize) {
        let bits = 8 * (bytes % 4) as u32;
        self.0 = u32::from_le_bytes(self.0).rotate_right(bits).to_le_bytes();
    }
}

/// [`Mask::pull_by`] whole blocks, with the widest vectors that the processor has.
#[multiversion(targets("x86_64+avx2"))]
fn pull_blocks(mask: Mask, buffer: &mut [u8], gap: usize) -> usize {
    let front = 0;
    mask.pull_by::<BLOCK>(buffer, gap, front)
}

/// Appends whole blocks, in the same way.
#[multiversion(targets("x86_64+avx2"))]
fn append_blocks(mask: Mask, blocks: &[u8], to: &mut Vec<u8>) {
    for block in blocks.chunks_exact(BLOCK) {
        to.extend_from_slice(&mask.masked::<BLOCK>(block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn by_the_book(bytes: &[u8]) -> Vec<u8> {
        let masked = |(i, byte): (usize, &u8)| byte ^ KEY[i % 4];
        bytes.iter().enumerate().map(masked).collect()
    }

    #[test]
    fn follows_the_formula_for_every_length_and_split() {
        let bytes: Vec<u8> = (0..2 * BLOCK + 9).map(|i| (i * 7) as u8).collect();
        let expected = by_the_book(&bytes);
        for len in 0..bytes.len() {
            for split in [0, 1, 2, 3, 4, 5, BLOCK - 1, BLOCK, BLOCK + 3, len] {
                let split = split.min(len);

                let mut mask = Mask::new(KEY);
                let mut copied = Vec::new();
                mask.append(&bytes[..split], &mut copied);
                mask.append(&bytes[split..len], &mut copied);
                assert_eq!(copied, expected[..len], "copy of {len} split at {split}");

                let mut mask = Mask::new(KEY);
                let mut in_place = bytes[..len].to_vec();
                let (front, back) = in_place.split_at_mut(split);
                mask.apply(front);
                mask.apply(back);
                assert_eq!(in_place, expected[..len], "{len} in place split at {split}");

                let mut moved = bytes[..len].to_vec();
                Mask::new(KEY).shift(&mut moved[..], split..len, 0);
                let expected = by_the_book(&bytes[split..len]);
                assert_eq!(moved[..len - split], expected, "{len} moved by {split}");
            }
        }
    }

    #[test]
    fn moves_up_by_any_distance_and_touches_nothing_else() {
        for len in (0..=3 * PIECE + 5).chain(BLOCK - 2..=2 * BLOCK + PIECE + 1) {
            for gap in (0..=PIECE + 5).chain([BLOCK - 1, BLOCK + 1]) {
                for to in [0, 1, 3] {
                    let before: Vec<u8> = (0..to + gap + len + 3).map(|i| i as u8).collect();
                    let from = to + gap..to + gap + len;
                    let mut bytes = before.clone();
                    Mask::new(KEY).shift(&mut bytes, from.clone(), to);
                    let case = format!("{len} moved by {gap} to {to}");
                    assert_eq!(bytes[..to], before[..to], "{case}");
                    assert_eq!(
                        bytes[to..to + len],
                        by_the_book(&before[from.clone()]),
                        "{case}"
                    );
                    assert_eq!(bytes[from.end..], before[from.end..], "{case}");
                }
            }
        }
    }
}
