//! Messages that leave, compressed one by one.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
};

use bytes::Bytes;
use flate2::{Compress, FlushCompress, Status};

use super::{Deflation, TAIL, pool::Pool};

/// What is reserved for the shortest results.
const AT_FIRST: usize = 64;

static IDLE: Pool<Compressor> = Pool::new();

/// The sending half of a compressed connection.
pub(crate) struct Compression {
    deflation: Deflation,
    /// With context takeover: there from the first message on.
    kept: Mutex<Option<Compressor>>,
}

impl Compression {
    pub(crate) fn new(deflation: Deflation) -> Self {
        Self {
            deflation,
            kept: Mutex::new(None),
        }
    }

    /// Tells whether a message of `len` bytes is to be compressed.
    pub(crate) const fn applies_to(&self, len: usize) -> bool {
        len > 0 && len >= self.deflation.min_size
    }

    /// Tells whether messages refer to the ones before them, so that each has to take its
    /// [`turn`](Self::turn).
    pub(crate) const fn has_turns(&self) -> bool {
        self.deflation.terms.send.context_takeover
    }

    /// Compresses a message that refers to no other, `None` if that does not make it smaller.
    pub(crate) fn compress(&self, message: &[u8]) -> Option<Bytes> {
        let mut compressor = self.compressor();
        // The tail is cut off, and what takes all the room is not known to be whole.
        let compressed = compressor.compress(message, message.len() + TAIL.len());
        compressor.reset();
        IDLE.give(compressor);
        compressed
    }

    /// Takes the turn of one message: those that refer to each other are to be queued in the order
    /// in which they are compressed, so the turn lasts until that is done.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn {
            compression: self,
            // Whole whatever a thread did: the compressor is out of it while it works.
            kept: self.kept.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Takes the turn as [`turn`](Self::turn) does, unless another message has it.
    pub(crate) fn try_turn(&self) -> Option<Turn<'_>> {
        let kept = match self.kept.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let compression = self;
        Some(Turn { compression, kept })
    }

    fn compressor(&self) -> Compressor {
        let window_bits = self.deflation.terms.send.window_bits;
        let level = self.deflation.level;
        IDLE.take(|idle| (idle.window_bits, idle.level) == (window_bits, level))
            .unwrap_or_else(|| Compressor {
                inner: Compress::new_with_window_bits(
                    flate2::Compression::new(level),
                    false,
                    window_bits,
                ),
                window_bits,
                level,
            })
    }
}

/// See [`Compression::turn`].
pub(crate) struct Turn<'a> {
    compression: &'a Compression,
    kept: MutexGuard<'a, Option<Compressor>>,
}

impl Turn<'_> {
    /// Compresses a message, also if that makes it larger: the next ones may refer to it.
    pub(crate) fn compress(&mut self, message: &[u8]) -> Option<Bytes> {
        // One that fails is not kept. Another one, which refers to nothing before it, is as good for
        // the peer.
        let mut compressor = self
            .kept
            .take()
            .unwrap_or_else(|| self.compression.compressor());
        let compressed = compressor.compress(message, usize::MAX)?;
        *self.kept = Some(compressor);
        Some(compressed)
    }
}

struct Compressor {
    inner: Compress,
    window_bits: u8,
    level: u32,
}

impl Compressor {
    /// Prepares for a message that refers to none before it.
    fn reset(&mut self) {
        // A reset of zlib-rs 0.6 drops output that was not taken, but not the room that it takes: after
        // some messages that were given up it panics. It is taken out first.
        let mut output = [0; 1024];
        loop {
            let written = self.inner.total_out();
            let _ = self.inner.compress(&[], &mut output, FlushCompress::None);
            if self.inner.total_out() - written < output.len() as u64 {
                break;
            }
        }
        self.inner.reset();
    }

    /// Compresses up to where the peer can read it all, without the tail that this ends with
    /// (RFC 7692 §7.2.1). `None` if it takes more than `most` bytes, tail included.
    fn compress(&mut self, mut message: &[u8], most: usize) -> Option<Bytes> {
        let mut output = Vec::new();
        loop {
            if output.len() == output.capacity() {
                if output.len() >= most {
                    return None;
                }
                // As much as a text usually takes, then twice as much.
                let more = output.len().max(AT_FIRST + message.len() / 4);
                output.reserve_exact(more.min(most - output.len()));
            }
            let read = self.inner.total_in();
            let status = self
                .inner
                .compress_vec(message, &mut output, FlushCompress::Sync)
                .ok()?;
            message = &message[(self.inner.total_in() - read) as usize..];
            // Room that is left says that all is flushed.
            if message.is_empty() && output.len() < output.capacity() {
                break;
            }
            if status == Status::StreamEnd {
                return None;
            }
        }
        if !output.ends_with(&TAIL) || output.len() > most {
            return None;
        }
        output.truncate(output.len() - TAIL.len());
        output.shrink_to_fit();
        Some(output.into())
    }
}

// A window holds payload, which stays out of logs.
impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compression")
            .field("deflation", &self.deflation)
            .finish_non_exhaustive()
    }
}
