//! Inflates short deflate streams without zlib.
//!
//! A block with BFINAL ends a deflate stream, and a message may have several streams
//! ([RFC 7692 §7.2.3.4](https://www.rfc-editor.org/rfc/rfc7692#section-7.2.3.4)). Beginning a stream is
//! expensive in zlib, even if the stream is short. It is cheap here.
//!
//! This module refuses nothing. zlib inflates every stream that is long, incomplete, or invalid, or that has a
//! block with dynamic codes.

/// The maximum input for one stream. For a longer stream zlib is faster.
const MAX_INPUT: usize = 128;

/// The fixed codes of literals and lengths, by the next nine bits of the input (RFC 1951 §3.2.6). An entry is
/// the symbol, and in the lowest four bits the length of its code.
static FIXED: [u16; 512] = fixed();
const END_OF_BLOCK: u16 = 256;

/// The smallest length, or distance, of each symbol, and the number of its extra bits (RFC 1951 §3.2.5).
static LENGTHS: [(u16, u8); 29] = lengths();
static DISTANCES: [(u16, u8); 30] = distances();

/// Inflates the stream at the front of `input`, and returns the number of bytes read and written.
///
/// Returns `None` if the stream is incomplete, invalid or long, or if `output` is too small. `output` may have
/// been written to even then.
#[inline(always)]
pub(super) fn inflate(input: &[u8], output: &mut [u8]) -> Option<(usize, usize)> {
    let mut bits = Bits {
        input: &input[..input.len().min(MAX_INPUT)],
        at: 0,
        bits: 0,
        count: 0,
    };
    let mut len = 0;
    loop {
        bits.refill();
        let head = bits.take(3)?;
        len = match head / 2 {
            0 => stored(&mut bits, output, len)?,
            1 => coded(&mut bits, output, len)?,
            _ => return None,
        };
        if head % 2 == 1 {
            return Some((bits.position(), len));
        }
    }
}

/// Copies a stored block, and returns the new length of the output.
fn stored(bits: &mut Bits<'_>, output: &mut [u8], len: usize) -> Option<usize> {
    bits.take(bits.count % 8)?;
    let (size, complement) = (bits.take(16)?, bits.take(16)?);
    if size ^ complement != 0xffff {
        return None;
    }
    let bytes = bits.bytes(size as usize)?;
    output
        .get_mut(len..len + bytes.len())?
        .copy_from_slice(bytes);
    Some(len + bytes.len())
}

/// Inflates a block of fixed codes, and returns the new length of the output.
#[inline(always)]
fn coded(bits: &mut Bits<'_>, output: &mut [u8], mut len: usize) -> Option<usize> {
    loop {
        // A length and its distance take 31 bits at most.
        if bits.count < 32 {
            bits.refill();
        }
        let entry = FIXED[(bits.bits % 512) as usize];
        bits.take(u32::from(entry % 16))?;
        let symbol = entry / 16;
        if symbol < END_OF_BLOCK {
            *output.get_mut(len)? = symbol as u8;
            len += 1;
            continue;
        }
        if symbol == END_OF_BLOCK {
            return Some(len);
        }
        let length = bits.number(*LENGTHS.get(usize::from(symbol - 257))?)?;
        // Codes are stored with the highest bit first, unlike numbers.
        let symbol = (bits.take(5)? as u8).reverse_bits() >> 3;
        let distance = bits.number(*DISTANCES.get(usize::from(symbol))?)?;
        let from = len.checked_sub(distance)?;
        let copy = output.get_mut(from..len + length)?;
        // Byte by byte, because source and target may overlap.
        for index in distance..copy.len() {
            copy[index] = copy[index - distance];
        }
        len += length;
    }
}

/// A reader for the bits of the input. The lowest bit of each byte comes first.
struct Bits<'a> {
    input: &'a [u8],
    /// The number of bytes of `input` that were moved to `bits`.
    at: usize,
    /// The next bits. Bits above [`count`](Self::count) are zero, or equal to those that `refill` adds again.
    bits: u64,
    /// The number of valid bits in `bits`.
    count: u32,
}

impl<'a> Bits<'a> {
    /// Makes at least the next 56 bits available, or all that are left.
    #[inline(always)]
    fn refill(&mut self) {
        let rest = &self.input[self.at..];
        if let Some(word) = rest.first_chunk() {
            self.bits |= u64::from_le_bytes(*word) << self.count;
            let bytes = (63 - self.count) / 8;
            self.at += bytes as usize;
            self.count += 8 * bytes;
            return;
        }
        for &byte in rest {
            if self.count > 56 {
                return;
            }
            self.bits |= u64::from(byte) << self.count;
            self.at += 1;
            self.count += 8;
        }
    }

    /// Takes `count` bits, or returns `None` if there are fewer.
    #[inline(always)]
    fn take(&mut self, count: u32) -> Option<u64> {
        self.count = self.count.checked_sub(count)?;
        let taken = self.bits & ((1 << count) - 1);
        self.bits >>= count;
        Some(taken)
    }

    /// Takes the extra bits of a symbol, and returns its length or distance.
    fn number(&mut self, (min, bits): (u16, u8)) -> Option<usize> {
        Some(usize::from(min) + self.take(u32::from(bits))? as usize)
    }

    /// Takes whole bytes. The reader must be at the start of a byte.
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let start = self.position();
        let bytes = self.input.get(start..start + len)?;
        self.at = start + len;
        self.bits = 0;
        self.count = 0;
        Some(bytes)
    }

    /// Returns the number of bytes read, including a byte that is read in part.
    fn position(&self) -> usize {
        self.at - (self.count / 8) as usize
    }
}

const fn fixed() -> [u16; 512] {
    let mut table = [0; 512];
    let mut index = 0;
    while index < 512 {
        // The nine bits in the order of a code, the first bit highest.
        let code = (index as u16).reverse_bits() >> 7;
        let (symbol, len) = match (code >> 2, code >> 1) {
            (code @ ..0b001_1000, _) => (256 + code, 7),
            (_, code @ 0b0011_0000..=0b1011_1111) => (code - 0b0011_0000, 8),
            (_, code @ 0b1100_0000..=0b1100_0111) => (280 + code - 0b1100_0000, 8),
            _ => (144 + code - 0b1_1001_0000, 9),
        };
        table[index] = symbol * 16 + len;
        index += 1;
    }
    table
}

const fn lengths() -> [(u16, u8); 29] {
    // The last symbol is an exception: 258 without extra bits.
    let mut table = [(258, 0); 29];
    let (mut min, mut index) = (3, 0);
    while index < 28 {
        let bits = if index < 8 { 0 } else { index / 4 - 1 };
        table[index] = (min, bits as u8);
        min += 1 << bits;
        index += 1;
    }
    table
}

const fn distances() -> [(u16, u8); 30] {
    let mut table = [(0, 0); 30];
    let (mut min, mut index) = (1, 0);
    while index < 30 {
        let bits = if index < 4 { 0 } else { index / 2 - 1 };
        table[index] = (min, bits as u8);
        min += 1 << bits;
        index += 1;
    }
    table
}
