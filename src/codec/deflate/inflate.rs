//! Compressed messages that arrive, inflated as they come.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use super::{Deflation, TAIL, pool::Pool, short};
use crate::{
    codec::{
        Mask, Violation,
        assembly::{Assembly, Joining},
    },
    words::Message,
};

/// Payload is unmasked, and inflated to, in pieces of this size, which stay in the first cache.
const BLOCK: usize = 4 * 1024;

/// A stream that inflates to less than this says next to nothing.
const TINY: usize = 4;
/// How many tiny streams a message may have for each of its frames.
const TINY_STREAMS: usize = 16;

/// What the work of inflating counts as, in bytes that are copied: each byte that arrives, since it may
/// be one of a block's own codes, and each stream that zlib begins.
const ARRIVED: usize = 4;
const BEGUN: usize = 256;

/// What the end of a message may make: four bytes of codes, and five, behind what was not inflated yet.
const ENDING: usize = 4 * BLOCK;

const CORRUPT: Violation = Violation::Protocol("a compressed message is no deflate stream");
const CUT: Violation = Violation::Protocol("a compressed message ends within a deflate block");

/// Empty stored blocks (RFC 1951 §3.2.4), the second one with BFINAL.
const EMPTY_BLOCK: [u8; 5] = [0, 0, 0, 0xff, 0xff];
const LAST_EMPTY_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];

static IDLE: Pool<Decompress> = Pool::new();

/// The receiving half of a compressed connection.
pub(in crate::codec) struct Inflation {
    context_takeover: bool,
    /// Lent from the pool while a message arrives, and kept with context takeover.
    decompressor: Option<Decompress>,
    stage: Stage,
    /// Where in the message in progress its newest stream began to be inflated.
    start: usize,
    /// How many tiny streams of it have ended.
    tiny: usize,
    /// What was done since somebody asked, in bytes.
    work: usize,
    /// How many more bytes may be made before it pauses.
    share: usize,
    /// The share is used up, and there is more to make of what has arrived.
    is_paused: bool,
    /// The message whose bytes have all come, while it is put together in one piece.
    joining: Option<Joining>,
}

/// Where in its stream the message in progress is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Nothing of the message has arrived.
    Empty,
    /// Some has.
    Within,
    /// The last byte was that of a block with BFINAL, which ends a stream (RFC 7692 §7.2.3.4).
    Ended,
}

impl Inflation {
    pub(in crate::codec) fn new(deflation: Deflation) -> Self {
        Self {
            context_takeover: deflation.terms.receive.context_takeover,
            decompressor: None,
            stage: Stage::Empty,
            start: 0,
            tiny: 0,
            work: 0,
            share: usize::MAX,
            is_paused: false,
            joining: None,
        }
    }

    /// Sets how many bytes may be made before the message in progress pauses. At first that is any number.
    pub(in crate::codec) const fn set_share(&mut self, bytes: usize) {
        self.share = bytes;
    }

    /// Returns how much of the share is left.
    pub(in crate::codec) const fn share(&self) -> usize {
        self.share
    }

    /// Returns whether the message in progress goes on with a new share, without further bytes.
    pub(in crate::codec) const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Returns the work of inflating since the last call: the bytes that came of it, and what else is
    /// worth as many.
    pub(in crate::codec) fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }

    /// Appends what `bytes` of a frame's payload inflate to, within `limit` for the message, and returns
    /// how many of the bytes that took: all of them, unless it [pauses](Self::is_paused).
    pub(in crate::codec) fn append(
        &mut self,
        bytes: &[u8],
        mask: &mut Mask,
        message: &mut Assembly,
        limit: usize,
    ) -> Result<usize, Violation> {
        let mut block = [0; BLOCK];
        let mut taken = 0;
        // Once without any bytes: what came before may not be inflated to its end.
        loop {
            let piece = &bytes[taken..bytes.len().min(taken + BLOCK)];
            let block = &mut block[..piece.len()];
            block.copy_from_slice(piece);
            let mut unread = *mask;
            unread.apply(block);
            let read = self.inflate(block, message, limit)?;
            mask.skip(read);
            taken += read;
            if self.is_paused || taken == bytes.len() {
                break;
            }
        }
        message.receive_compressed(taken);
        self.work = self.work.saturating_add(ARRIVED.saturating_mul(taken));
        Ok(taken)
    }

    /// Ends the message, unless it pauses.
    pub(in crate::codec) fn finish(
        &mut self,
        message: &mut Assembly,
        limit: usize,
    ) -> Result<(), Violation> {
        if self.share < ENDING {
            self.is_paused = true;
            return Ok(());
        }
        // From here on streams end by what is appended below, and those are not the peer's.
        self.tiny = 0;
        // What a sender cuts off (RFC 7692 §7.2.1). A stream that has ended has nothing more to
        // come, and one without a byte is that of a compressor that had nothing to flush.
        if self.stage == Stage::Within {
            self.inflate(&TAIL, message, limit)?;
            // zlib does not tell whether it is within a block. There, another block is taken for
            // content; behind one, it adds nothing. With BFINAL the answer is certain, but that
            // cannot be had where the stream goes on: a block of which not even the head has come
            // is noticed with the next message there.
            let (probe, expected) = if self.context_takeover {
                (EMPTY_BLOCK, Stage::Within)
            } else {
                (LAST_EMPTY_BLOCK, Stage::Ended)
            };
            let before = message.len();
            self.inflate(&probe, message, limit).map_err(|_| CUT)?;
            if message.len() > before || self.stage != expected {
                return Err(CUT);
            }
        }
        self.stage = Stage::Empty;
        self.start = 0;
        self.tiny = 0;
        if !self.context_takeover {
            self.give_back();
        }
        Ok(())
    }

    /// Begins to put the message in one piece, which is done by [`join`](Self::join).
    pub(in crate::codec) fn begin_joining(&mut self, message: Box<Assembly>) {
        self.joining = Some(message.into_joining());
    }

    /// Returns the message when it is in one piece, `None` if it pauses before.
    pub(in crate::codec) fn join(&mut self) -> Result<Option<Message>, Violation> {
        self.is_paused = false;
        let Some(joining) = &mut self.joining else {
            return Ok(None);
        };
        while let Some(len) = joining.next_len() {
            if self.share < len {
                self.is_paused = true;
                return Ok(None);
            }
            spend(&mut self.share, len);
            joining.advance()?;
        }
        let joined = self.joining.take();
        joined.map(Joining::finish).transpose()
    }

    /// Inflates until it pauses, or to the end of `input`, and returns how much was read.
    fn inflate(
        &mut self,
        input: &[u8],
        message: &mut Assembly,
        limit: usize,
    ) -> Result<usize, Violation> {
        let mut output = [0; BLOCK];
        let mut rest = input;
        // There may be more of what was read before.
        let mut is_more = std::mem::take(&mut self.is_paused) && self.stage == Stage::Within;
        while !rest.is_empty() || is_more {
            is_more = false;
            if self.stage == Stage::Ended {
                let read = self.inflate_short(rest, &mut output, message, limit)?;
                rest = &rest[read..];
                if rest.is_empty() {
                    break;
                }
            }
            let read = self.inflate_stream(rest, &mut output, message, limit)?;
            rest = &rest[read..];
            if self.is_paused {
                break;
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Inflates until it pauses, or to the end of a stream or of `input`, and returns how much was read.
    fn inflate_stream(
        &mut self,
        input: &[u8],
        output: &mut [u8; BLOCK],
        message: &mut Assembly,
        limit: usize,
    ) -> Result<usize, Violation> {
        // Memory is taken for a window of 15 bits whatever was agreed on.
        let decompressor = self
            .decompressor
            .get_or_insert_with(|| IDLE.lend(|_| true, || Decompress::new(false)));
        let mut rest = input;
        loop {
            if self.share < BLOCK {
                self.is_paused = true;
                return Ok(input.len() - rest.len());
            }
            self.stage = Stage::Within;
            let (read, written) = (decompressor.total_in(), decompressor.total_out());
            let status = decompressor.decompress(rest, output, FlushDecompress::None);
            // Both fit: they are parts of the two slices.
            let read = (decompressor.total_in() - read) as usize;
            let written = (decompressor.total_out() - written) as usize;
            rest = &rest[read..];
            spend(&mut self.share, written);
            self.work = self.work.saturating_add(written);
            // Also what comes before a fault in the stream: cut there, it would have been looked at.
            message.append_inflated(&output[..written], limit)?;
            match status.map_err(|_| CORRUPT)? {
                Status::StreamEnd => {
                    decompressor.reset(false);
                    self.stage = Stage::Ended;
                    self.work = self.work.saturating_add(BEGUN);
                    self.end_stream(message.len(), most_tiny(message))?;
                    return Ok(input.len() - rest.len());
                }
                Status::Ok | Status::BufError => {
                    if rest.is_empty() && written < BLOCK {
                        return Ok(input.len());
                    }
                    if read == 0 && written == 0 {
                        return Err(CORRUPT);
                    }
                }
            }
        }
    }

    /// Inflates the short streams at the front of `input`, as far as the share goes, and returns how much
    /// was read.
    fn inflate_short(
        &mut self,
        input: &[u8],
        output: &mut [u8; BLOCK],
        message: &mut Assembly,
        limit: usize,
    ) -> Result<usize, Violation> {
        let most_tiny = most_tiny(message);
        let mut rest = input;
        let mut ended = Ok(());
        while ended.is_ok() && self.share >= BLOCK {
            let before = message.len();
            let mut written = 0;
            let mut is_last = true;
            while written <= BLOCK / 2 {
                let stream = short::inflate(rest, &mut output[written..]);
                is_last = stream.is_none();
                let Some((read, len)) = stream else { break };
                rest = &rest[read..];
                written += len;
                ended = self.end_stream(before + written, most_tiny);
                if ended.is_err() {
                    break;
                }
            }
            // What is wrong with the content comes before what is wrong with the end behind it.
            if written > 0 {
                spend(&mut self.share, written);
                self.work = self.work.saturating_add(written);
                message.append_inflated(&output[..written], limit)?;
            }
            if is_last {
                break;
            }
        }
        ended.map(|()| input.len() - rest.len())
    }

    /// Counts a stream that has ended where the message is `len` bytes long.
    #[inline]
    fn end_stream(&mut self, len: usize, most_tiny: usize) -> Result<(), Violation> {
        if len - self.start < TINY {
            self.tiny += 1;
            if self.tiny > most_tiny {
                return Err(Violation::TooManyFinalBlocks);
            }
        }
        self.start = len;
        Ok(())
    }

    fn give_back(&mut self) {
        if let Some(mut decompressor) = self.decompressor.take() {
            decompressor.reset(false);
            IDLE.give_back(decompressor);
        }
    }
}

/// Takes `bytes` off a share.
fn spend(share: &mut usize, bytes: usize) {
    #[cfg(test)]
    super::counted::add(bytes);
    // The share that is any number stays that.
    *share = share.saturating_sub(bytes);
}

/// Returns how many tiny streams a message may have that has so many frames.
fn most_tiny(message: &Assembly) -> usize {
    TINY_STREAMS.saturating_mul(message.progress().fragments as usize)
}

impl Drop for Inflation {
    fn drop(&mut self) {
        self.give_back();
    }
}

// A window holds payload, which stays out of logs.
impl fmt::Debug for Inflation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflation")
            .field("context_takeover", &self.context_takeover)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
