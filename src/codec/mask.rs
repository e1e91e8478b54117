//! Masking, which is the same operation as unmasking
//! ([RFC 6455 §5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.3)).

use std::ops::Range;

/// Moved at once, in registers.
const PIECE: usize = 32;

/// Unmasked and appended at once, so that the bytes stay in registers between the two.
const BLOCK: usize = 256;

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

    /// Makes the mask of a frame that is sent, which nobody can foretell (RFC 6455 §5.3).
    pub(crate) fn random() -> Self {
        // A cryptographic generator of the thread's own, seeded by the system, which makes 64 words
        // at a time.
        Self(rand::random::<u32>().to_ne_bytes())
    }

    /// Returns the four bytes that stand in the frame's head.
    pub(crate) const fn key(self) -> [u8; 4] {
        self.0
    }

    /// Masks or unmasks the payload's next bytes in place.
    pub(crate) fn apply(&mut self, bytes: &mut [u8]) {
        self.xor(bytes);
        self.skip(bytes.len());
    }

    /// Masks or unmasks the payload's next bytes while appending them to `to`, in one pass.
    pub(crate) fn append(&mut self, from: &[u8], to: &mut Vec<u8>) {
        to.reserve_exact(from.len());
        let mut blocks = from.chunks_exact(BLOCK);
        for block in &mut blocks {
            let mut unmasked = [[0; 4]; BLOCK / 4];
            for (to, from) in unmasked.iter_mut().zip(block.chunks_exact(4)) {
                *to = self.word(from);
            }
            to.extend_from_slice(unmasked.as_flattened());
        }
        let start = to.len();
        to.extend_from_slice(blocks.remainder());
        self.xor(&mut to[start..]);
        self.skip(from.len());
    }

    /// Masks or unmasks `buffer[from]` while moving it up to `to`, which is not behind its start.
    #[inline]
    pub(super) fn shift(self, buffer: &mut [u8], from: Range<usize>, to: usize) {
        if from.start == to {
            return self.xor(&mut buffer[from]);
        }
        // Both within the part that is read from here on, so that the checks are few.
        let len = from.len();
        let gap = from.start - to;
        let buffer = &mut buffer[to..from.end];
        let mut at = 0;
        // What is written has been read before: blocks may overlap.
        while at + PIECE <= len {
            let mut piece = [0; PIECE];
            piece.copy_from_slice(&buffer[at + gap..at + gap + PIECE]);
            self.xor(&mut piece);
            buffer[at..at + PIECE].copy_from_slice(&piece);
            at += PIECE;
        }
        buffer.copy_within(at + gap.., at);
        self.xor(&mut buffer[at..len]);
    }

    // Words of four bytes in plain loops: the compiler turns them into vectors.
    fn xor(self, bytes: &mut [u8]) {
        let mut words = bytes.chunks_exact_mut(4);
        for word in &mut words {
            word.copy_from_slice(&self.word(word));
        }
        for (byte, key) in words.into_remainder().iter_mut().zip(self.0) {
            *byte ^= key;
        }
    }

    /// `bytes` are four.
    fn word(self, bytes: &[u8]) -> [u8; 4] {
        let word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        (word ^ u32::from_ne_bytes(self.0)).to_ne_bytes()
    }

    fn skip(&mut self, bytes: usize) {
        let bits = 8 * (bytes % 4) as u32;
        self.0 = u32::from_le_bytes(self.0).rotate_right(bits).to_le_bytes();
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
        for len in 0..=3 * PIECE + 5 {
            for gap in 0..=PIECE + 5 {
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
