//! Masking, which is the same operation as unmasking
//! ([RFC 6455 §5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.3)).

use multiversion::multiversion;

use crate::codec::random;

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
        self.apply_aligned(bytes);
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
        self.apply_aligned(&mut to[start..]);
        self.skip(from.len());
    }

    /// Masks or unmasks `bytes`, from the first byte of the mask on.
    #[inline(always)]
    pub(super) fn apply_aligned(self, bytes: &mut [u8]) {
        let (blocks, rest) = bytes.split_at_mut(bytes.len() - bytes.len() % BLOCK);
        if !blocks.is_empty() {
            apply_blocks(self, blocks);
        }
        let rest = self.apply_by::<PIECE>(rest);
        let rest = self.apply_by::<8>(rest);
        let rest = self.apply_by::<4>(rest);
        for (byte, key) in rest.iter_mut().zip(self.0) {
            *byte ^= key;
        }
    }

    /// Does so in pieces of `N` bytes, and returns the rest, which is less than one.
    #[inline(always)]
    fn apply_by<const N: usize>(self, bytes: &mut [u8]) -> &mut [u8] {
        let mut pieces = bytes.chunks_exact_mut(N);
        for piece in &mut pieces {
            let masked = self.masked::<N>(piece);
            piece.copy_from_slice(&masked);
        }
        pieces.into_remainder()
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

    /// Goes on behind `bytes` of the payload.
    pub(super) fn skip(&mut self, bytes: usize) {
        let bits = 8 * (bytes % 4) as u32;
        self.0 = u32::from_le_bytes(self.0).rotate_right(bits).to_le_bytes();
    }
}

/// Masks or unmasks whole blocks, with the widest vectors that the processor has.
#[multiversion(targets("x86_64+avx2"))]
fn apply_blocks(mask: Mask, blocks: &mut [u8]) {
    mask.apply_by::<BLOCK>(blocks);
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
            }
        }
    }
}
