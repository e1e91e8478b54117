//! Masking and unmasking, which are the same operation
//! ([RFC 6455 §5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.3)).

use multiversion::multiversion;

use crate::codec::random;

/// The bytes that are masked at once, in registers. All loads come before the stores, which is faster.
const BLOCK: usize = 128;
/// The same for short payloads, and for the bytes after the last block. The remaining bytes are masked by
/// eight, then by four, then one by one.
const PIECE: usize = 32;

/// The masking key of one frame, rotated so that its first byte belongs to the next byte of the payload.
///
/// So a payload can be masked in pieces of any length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mask([u8; 4]);

impl Mask {
    /// The mask of an unmasked frame. It changes nothing.
    pub(crate) const NONE: Self = Self([0; 4]);

    /// Makes a mask from the four bytes in the frame's head.
    pub(crate) const fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Makes an unpredictable mask for an outgoing frame (RFC 6455 §5.3).
    pub(crate) fn random() -> Self {
        Self(random::mask())
    }

    /// Returns the four bytes for the frame's head.
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

    /// Returns the unmasked `payload` in a new buffer. Does not advance the mask.
    pub(super) fn unmasked(mut self, payload: &[u8]) -> Vec<u8> {
        if payload.len() < BLOCK {
            let mut unmasked = payload.to_vec();
            self.apply_aligned(&mut unmasked);
            return unmasked;
        }
        let mut unmasked = Vec::with_capacity(payload.len());
        self.append(payload, &mut unmasked);
        unmasked
    }

    /// Masks or unmasks `bytes`, starting with the first byte of the mask. Does not advance the mask.
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

    /// Masks or unmasks pieces of `N` bytes, and returns the rest, which has fewer than `N` bytes.
    #[inline(always)]
    fn apply_by<const N: usize>(self, bytes: &mut [u8]) -> &mut [u8] {
        let mut pieces = bytes.chunks_exact_mut(N);
        for piece in &mut pieces {
            let masked = self.masked::<N>(piece);
            piece.copy_from_slice(&masked);
        }
        pieces.into_remainder()
    }

    /// Returns `bytes` masked. There are `N` of them, a multiple of four.
    // The compiler vectorizes this loop over words of four bytes.
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

    /// Advances the mask by `bytes` of the payload.
    pub(super) fn skip(&mut self, bytes: usize) {
        let bits = 8 * (bytes % 4) as u32;
        self.0 = u32::from_le_bytes(self.0).rotate_right(bits).to_le_bytes();
    }
}

/// Masks or unmasks whole blocks, with AVX2 if the processor has it.
#[multiversion(targets("x86_64+avx2"))]
fn apply_blocks(mask: Mask, blocks: &mut [u8]) {
    mask.apply_by::<BLOCK>(blocks);
}

/// Appends whole blocks, masked in the same way.
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

    fn masked_by_rfc(bytes: &[u8]) -> Vec<u8> {
        let masked = |(i, byte): (usize, &u8)| byte ^ KEY[i % 4];
        bytes.iter().enumerate().map(masked).collect()
    }

    #[test]
    fn masks_as_the_rfc_for_every_length_and_split() {
        let bytes: Vec<u8> = (0..2 * BLOCK + 9).map(|i| (i * 7) as u8).collect();
        let expected = masked_by_rfc(&bytes);
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
