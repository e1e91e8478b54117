//! Messages that leave, compressed one after the other.

use std::{fmt, mem, task::Poll};

use bytes::Bytes;
use flate2::{Compress, FlushCompress, Status};

use super::{Deflation, TAIL, pool::Pool};

/// What is reserved for the shortest results.
const AT_FIRST: usize = 64;

static IDLE: Pool<Box<Compressor>> = Pool::new();

/// The sending half of a compressed connection.
pub(crate) struct Compression {
    deflation: Deflation,
    /// Lent from the pool while a message is compressed, and kept with context takeover.
    compressor: Option<Box<Compressor>>,
}

impl Compression {
    pub(crate) const fn new(deflation: Deflation) -> Self {
        Self {
            deflation,
            compressor: None,
        }
    }

    /// Compresses up to `share` bytes more of a message, and takes those off the share. It has to be the
    /// same message until it is ready.
    ///
    /// Ready with `None` if the message is to be sent as it is: it would not become smaller, or cannot be
    /// compressed. With context takeover it may become larger, since the next ones may refer to it.
    pub(crate) fn compress(&mut self, message: &[u8], share: &mut usize) -> Poll<Option<Bytes>> {
        let takeover = self.deflation.terms.send.context_takeover;
        // The tail is cut off, and what takes all the room is not known to be whole.
        let most = match takeover {
            true => usize::MAX,
            false => message.len() + TAIL.len(),
        };
        let compressor = self
            .compressor
            .get_or_insert_with(|| Compressor::take(&self.deflation));
        let end = message.len().min(compressor.read.saturating_add(*share));
        *share -= end - compressor.read;
        let compressed = compressor.compress(message, end, most);
        match &compressed {
            Poll::Pending => {}
            // One that fails is not kept. Another one, which refers to nothing before it, is as good for
            // the peer.
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
        let mut share = usize::MAX;
        match self.compress(message, &mut share) {
            Poll::Ready(compressed) => compressed,
            Poll::Pending => panic!("there is no share to wait for"),
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
    /// How much of the message in progress was read, and what it came to so far.
    read: usize,
    output: Vec<u8>,
}

impl Compressor {
    /// Takes one out of the pool, or makes one.
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

    /// Prepares for a message that refers to none before it.
    fn reset(&mut self) {
        self.read = 0;
        self.output = Vec::new();
        // A message that was given up is ended first. A reset of zlib-rs 0.6 drops output that was not
        // taken, but not the room that it takes, so that it panics after some such messages; and at level 1
        // it forgets that a block has begun, so that what follows is no deflate stream.
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

    /// Compresses up to `end`. Where that is the end of the message, compresses up to where the peer can
    /// read it all, without the tail that this ends with (RFC 7692 §7.2.1).
    fn compress(&mut self, message: &[u8], end: usize, most: usize) -> Poll<Option<Bytes>> {
        #[cfg(test)]
        let before = (self.read, self.output.len());
        let compressed = self.compress_to(message, end, most);
        #[cfg(test)]
        super::counted::add((self.read - before.0).max(self.output.len() - before.1));
        match compressed {
            Some(false) => Poll::Pending,
            Some(true) => Poll::Ready(self.take_output(most)),
            None => Poll::Ready(None),
        }
    }

    /// Returns whether the message is whole, `None` if it takes more than `most` bytes, tail included.
    fn compress_to(&mut self, message: &[u8], end: usize, most: usize) -> Option<bool> {
        let is_last = end == message.len();
        let flush = match is_last {
            true => FlushCompress::Sync,
            false => FlushCompress::None,
        };
        loop {
            let output = &mut self.output;
            if output.len() == output.capacity() {
                if output.len() >= most {
                    return None;
                }
                // As much as a text usually takes, then twice as much.
                let usual = AT_FIRST + (message.len() - self.read) / 4;
                let more = output.len().max(usual);
                output.reserve_exact(more.min(most - output.len()));
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
                // Room that is left says that all is flushed.
                if output.len() < output.capacity() {
                    return Some(true);
                }
            }
            if status == Status::StreamEnd {
                return None;
            }
        }
    }

    fn take_output(&mut self, most: usize) -> Option<Bytes> {
        self.read = 0;
        let mut output = mem::take(&mut self.output);
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
