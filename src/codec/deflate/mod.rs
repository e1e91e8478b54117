//! permessage-deflate on the wire
//! ([RFC 7692 §7.2](https://www.rfc-editor.org/rfc/rfc7692#section-7.2)).
//!
//! This module compresses and inflates messages, in pieces: the caller sets a budget for each call. `extension`
//! negotiates the terms, and the sender decides which messages are compressed.
//!
//! # Limits for a peer
//!
//! The message limit applies to the inflated message. Messages are inflated in steps of 4 KiB, and the step
//! that exceeds the limit is the last. The compressed bytes are limited as well, to the message limit plus an
//! eighth and 1 KiB, which is more than deflate ever needs. A stream that is corrupt, or that ends within a
//! block, is a protocol error, 1002. RFC 7692 names no code. The Python package `websockets` uses 1002 as
//! well. The npm package `ws` uses 1007, which here means that a text is not UTF-8.
//!
//! A block with BFINAL ends a deflate stream. The following bytes begin a new stream, which cannot refer to
//! earlier ones. Beginning a stream is expensive in zlib. So short streams, of up to 128 bytes after another
//! stream, are inflated without zlib (`short`). Streams that inflate to fewer than 4 bytes are limited: a
//! message may have 16 of them for each of its frames. That is enough for encoders that end a stream instead
//! of flushing: such an encoder sends a frame for each stream, or a stream has more content.
//!
//! # Memory
//!
//! Compressors and decompressors are lent from a pool. Without context takeover, they are given back after each
//! message. With it, a connection keeps its own from the first message until the connection ends.

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

#[cfg(feature = "hub")]
use std::num::NonZeroU8;

pub(crate) use self::compress::Compression;
pub(super) use self::inflate::Inflation;
pub use self::settings::Deflate;
use crate::handshake::extension::deflate::Terms;

/// The end of every compressed message, which is not sent: an empty stored block without its first bits.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The compression of one connection: the agreed terms and the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deflation {
    terms: Terms,
    level: u32,
    min_size: usize,
}

/// The parameters that decide the compressed bytes of a message that refers to no earlier one.
#[cfg(feature = "hub")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Form {
    window_bits: NonZeroU8,
    level: u8,
}

/// The compressed messages that a connection shares with others: those that refer to no earlier message.
#[cfg(feature = "hub")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sharing {
    form: Form,
    /// The bytes of a number, so that an `Option` of this has 6 bytes: each member of a room has one.
    min_size: [u8; 4],
}

#[cfg(feature = "hub")]
impl Sharing {
    pub(crate) const fn form(self) -> Form {
        self.form
    }

    /// Returns whether the connection has a message of `len` bytes compressed.
    pub(crate) const fn applies_to(self, len: usize) -> bool {
        len > 0 && len >= u32::from_ne_bytes(self.min_size) as usize
    }
}

impl Deflation {
    /// Returns what the connection shares, or `None` with context takeover.
    #[cfg(feature = "hub")]
    pub(crate) fn sharing(&self) -> Option<Sharing> {
        let send = self.terms.send;
        if send.context_takeover {
            return None;
        }
        let min_size = u32::try_from(self.min_size).unwrap_or(u32::MAX);
        Some(Sharing {
            form: Form {
                window_bits: NonZeroU8::new(send.window_bits)?,
                level: self.level as u8,
            },
            min_size: min_size.to_ne_bytes(),
        })
    }

    /// Returns whether a message of `len` bytes should be compressed.
    pub(crate) const fn applies_to(&self, len: usize) -> bool {
        len > 0 && len >= self.min_size
    }
}
