//! Compresses outgoing messages, one after the other.

use std::{fmt, mem, task::Poll};

use bytes::Bytes;
use flate2::{Compress, FlushCompress, Status};

use super::{Deflation, TAIL, pool::Pool};
#[cfg(feature = "hub")]
use crate::handshake::extension::deflate::{Direction, Terms};

/// The minimum capacity for the output.
const MIN_CAPACITY: usize = 64;

static IDLE: Pool<Box<Compressor>> = Pool::new();

/// The sending half of a compressed connection.
pub(crate) struct Compression {
    deflation: Deflation,
    /// Lent from the pool while a message is compressed. Kept with context takeover.
    compressor: Option<Box<Compressor>>,
}

impl Compression {
    pub(crate) const fn new(deflation: Deflation) -> Self {
        Self {
            deflation,
            compressor: None,
        }
    }

    /// Makes one for messages in this form.
    #[cfg(feature = "hub")]
    pub(crate) fn in_form(form: super::Form) -> Box<Self> {
        let direction = Direction {
            window_bits: form.window_bits.get(),
            context_takeover: false,
        };
        Box::new(Self::new(Deflation {
            terms: Terms {
                send: direction,
                receive: direction,
            },
            level: form.level.into(),
            min_size: 0,
        }))
    }

    /// Compresses up to `budget` more bytes of a message, and subtracts them from the budget. The caller has to
    /// pass the same message until the result is ready.
    ///
    /// The result is `None` if the message has to be sent uncompressed: it would not become smaller, or the
    /// compression failed. With context takeover, the result may be larger than the message, because later
    /// messages may refer to it.
    pub(crate) fn compress(&mut self, message: &[u8], budget: &mut usize) -> Poll<Option<Bytes>> {
        let takeover = self.deflation.terms.send.context_takeover;
        // The tail is cut off later. Output that fills the whole capacity may be incomplete.
        let max_len = match takeover {
            true => usize::MAX,
            false => message.len() + TAIL.len(),
        };
        let compressor = self
            .compressor
            .get_or_insert_with(|| Compressor::take(&self.deflation));
        let end = message.len().min(compressor.read.saturating_add(*budget));
        *budget -= end - compressor.read;
        let compressed = compressor.compress(message, end, max_len);
        match &compressed {
            Poll::Pending => {}
            // A compressor that failed is dropped. A new one refers to no earlier message, which is valid.
            Poll::Ready(None) if takeover => {
                self.compressor = None;
                IDLE.lose();
            }
            Poll::Ready(_) if takeover => {}
            Poll::Ready(_) => self.give_back(),
        }
        compressed
    }

    fn give_back(&mut self) {
        if let Some(mut compressor) = self.compressor.take() {
            compressor.reset();
            IDLE.give_back(compressor);
        }
    }

    #[cfg(any(test, tower_websocket_fuzzing))]
    pub(crate) fn compress_at_once(&mut self, message: &[u8]) -> Option<Bytes> {
        let mut budget = usize::MAX;
        match self.compress(message, &mut budget) {
            Poll::Ready(compressed) => compressed,
            Poll::Pending => panic!("the budget is unlimited"),
        }
    }
}

impl Drop for Compression {
    fn drop(&mut self) {
        self.give_back();
    }
}

struct Compressor {
    inner: Compress,
    window_bits: u8,
    level: u32,
    /// The number of bytes read of the message in progress, and its output so far.
    read: usize,
    output: Vec<u8>,
}

impl Compressor {
    /// Takes a compressor from the pool, or makes one.
    fn take(deflation: &Deflation) -> Box<Self> {
        let window_bits = deflation.terms.send.window_bits;
        let level = deflation.level;
        let make = || {
            let level_of_flate2 = flate2::Compression::new(level);
            Box::new(Self {
                inner: Compress::new_with_window_bits(level_of_flate2, false, window_bits),
                window_bits,
                level,
                read: 0,
                output: Vec::new(),
            })
        };
        IDLE.lend(
            |idle| (idle.window_bits, idle.level) == (window_bits, level),
            make,
        )
    }

    /// Prepares for a message that refers to no earlier one.
    fn reset(&mut self) {
        self.read = 0;
        self.output = Vec::new();
        // An incomplete message is flushed first, because of two faults in the reset of zlib-rs 0.6: it drops
        // pending output without freeing its space, and panics after several such messages. At level 1 it
        // does not end the current block, and the next output is not a valid deflate stream.
        let mut output = [0; 1024];
        loop {
            let written = self.inner.total_out();
            let _ = self.inner.compress(&[], &mut output, FlushCompress::Sync);
            if self.inner.total_out() - written < output.len() as u64 {
                break;
            }
        }
        self.inner.reset();
    }

    /// Compresses the message up to `end`. At the end of the message, flushes the output and cuts off the tail
    /// (RFC 7692 §7.2.1).
    fn compress(&mut self, message: &[u8], end: usize, max_len: usize) -> Poll<Option<Bytes>> {
        #[cfg(test)]
        let before = (self.read, self.output.len());
        let compressed = self.compress_to(message, end, max_len);
        #[cfg(test)]
        super::counted::add((self.read - before.0).max(self.output.len() - before.1));
        match compressed {
            Some(false) => Poll::Pending,
            Some(true) => Poll::Ready(self.take_output(max_len)),
            None => Poll::Ready(None),
        }
    }

    /// Returns whether the message is complete, or `None` if its output, with the tail, is over `max_len`
    /// bytes.
    fn compress_to(&mut self, message: &[u8], end: usize, max_len: usize) -> Option<bool> {
        let is_last = end == message.len();
        let flush = match is_last {
            true => FlushCompress::Sync,
            false => FlushCompress::None,
        };
        loop {
            let output = &mut self.output;
            if output.len() == output.capacity() {
                if output.len() >= max_len {
                    return None;
                }
                // The usual size of a compressed text at first, then double.
                let usual = MIN_CAPACITY + (message.len() - self.read) / 4;
                let more = output.len().max(usual);
                output.reserve_exact(more.min(max_len - output.len()));
            }
            let read = self.inner.total_in();
            let status = self
                .inner
                .compress_vec(&message[self.read..end], output, flush)
                .ok()?;
            self.read += (self.inner.total_in() - read) as usize;
            if self.read == end {
                if !is_last {
                    return Some(false);
                }
                // Spare capacity means that all output is flushed.
                if output.len() < output.capacity() {
                    return Some(true);
                }
            }
            if status == Status::StreamEnd {
                return None;
            }
        }
    }

    fn take_output(&mut self, max_len: usize) -> Option<Bytes> {
        self.read = 0;
        let mut output = mem::take(&mut self.output);
        if !output.ends_with(&TAIL) || output.len() > max_len {
            return None;
        }
        output.truncate(output.len() - TAIL.len());
        output.shrink_to_fit();
        Some(output.into())
    }
}

// A window contains payload, which must not appear in logs.
impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compression")
            .field("deflation", &self.deflation)
            .finish_non_exhaustive()
    }
}
