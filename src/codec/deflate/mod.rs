//! permessage-deflate on the wire
//! ([RFC 7692 §7.2](https://www.rfc-editor.org/rfc/rfc7692#section-7.2)).
//!
//! Decides how a message becomes smaller and larger again, in pieces as large as whoever asks wants them. What two ends agree on is decided in
//! `extension`, and which messages are compressed by whoever sends them.
//!
//! # What a peer may send
//!
//! The message limit holds for what a message inflates to, which is done in steps of 4 KiB: the
//! step that goes past it is the last one. What arrives of it is limited as well, to an eighth
//! more and 1 KiB, which is more than deflate ever takes. A stream that is corrupt, or ends within
//! a block, is a violation of the protocol, 1002: RFC 7692 names no code, the Python
//! package `websockets` answers with this one as well, the npm package `ws` with 1007, which here
//! says that a text is not UTF-8.
//!
//! A block with BFINAL ends a stream, and what follows begins another one, without reference to what
//! came before. zlib takes 700 instructions to begin one, as many as for 200 bytes that are stored. So
//! streams of up to 128 bytes behind another one are inflated without it (`short`), and of those that
//! inflate to fewer than 4 bytes a message may have 16 for each of its frames: an encoder that ends a
//! stream where others flush sends a frame with each of them, or has more to say.
//!
//! # Memory
//!
//! Compressors and decompressors are lent from a pool, and given back with the last byte of a
//! message; with context takeover they stay with the connection from its first message on, until it ends.

mod compress;
#[cfg(test)]
pub(crate) mod counted;
#[cfg(test)]
mod final_blocks;
mod inflate;
mod pool;
mod settings;
mod short;
#[cfg(test)]
mod tests;

pub(crate) use self::compress::Compression;
pub(super) use self::inflate::Inflation;
pub use self::settings::Deflate;
use crate::handshake::extension::deflate::Terms;

/// What ends the data of every message and is not sent: an empty stored block, all but its first
/// bits.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// How the messages of one connection are compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deflation {
    terms: Terms,
    level: u32,
    min_size: usize,
}

impl Deflation {
    /// Returns whether a message of `len` bytes is to be compressed.
    pub(crate) const fn applies_to(&self, len: usize) -> bool {
        len > 0 && len >= self.min_size
    }
}
