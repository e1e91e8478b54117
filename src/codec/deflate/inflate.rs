//! Inflates incoming compressed messages as their bytes arrive.

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

/// The size of the pieces in which payload is unmasked and inflated. They stay in the first-level cache.
const BLOCK: usize = 4 * 1024;

/// A stream that inflates to fewer bytes than this is tiny.
const TINY: usize = 4;
/// The number of tiny streams that a message may have for each of its frames.
const TINY_STREAMS: usize = 16;

/// The work for each received byte, which may describe dynamic codes. The unit is the work to copy one byte.
const WORK_PER_BYTE: usize = 4;
/// The work for each stream that zlib begins.
const WORK_PER_STREAM: usize = 256;

/// The budget that [`Inflation::finish`] needs: it appends up to nine bytes to the input, and zlib may have
/// pending output.
const FINISH_BUDGET: usize = 4 * BLOCK;

const CORRUPT: Violation = Violation::Protocol("a compressed message is not a deflate stream");
const TRUNCATED: Violation =
    Violation::Protocol("a compressed message ends within a deflate block");

/// An empty stored block (RFC 1951 §3.2.4), without and with BFINAL.
const EMPTY_BLOCK: [u8; 5] = [0, 0, 0, 0xff, 0xff];
const LAST_EMPTY_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];

static IDLE: Pool<Decompress> = Pool::new();

/// The receiving half of a compressed connection.
pub(in crate::codec) struct Inflation {
    context_takeover: bool,
    /// Lent from the pool while a message arrives. Kept with context takeover.
    decompressor: Option<Decompress>,
    stage: Stage,
    /// The length of the message when its last stream began.
    start: usize,
    /// The number of tiny streams in the message so far.
    tiny: usize,
    /// The work since the last call of `take_work`.
    work: usize,
    /// The number of bytes that may be inflated or joined before a pause.
    budget: usize,
    /// The budget is used up, and there is more to inflate or to join.
    is_paused: bool,
    /// The complete message while its buffers are joined.
    joining: Option<Joining>,
}

/// The state of the current deflate stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// No byte of the message has arrived.
    Empty,
    /// A stream has begun.
    Within,
    /// A block with BFINAL has ended the stream (RFC 7692 §7.2.3.4).
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
            budget: usize::MAX,
            is_paused: false,
            joining: None,
        }
    }

    /// Sets the number of bytes that may be inflated or joined before a pause. Default: unlimited.
    pub(in crate::codec) const fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    /// Returns the rest of the budget.
    pub(in crate::codec) const fn budget(&self) -> usize {
        self.budget
    }

    /// Returns whether the message in progress needs a new budget to go on, but no further input.
    pub(in crate::codec) const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Returns the work of inflating since the last call. The unit is the work to copy one byte.
    pub(in crate::codec) fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }

    /// Inflates `bytes` of a frame's payload and appends the output to the message, up to `limit`. Returns the
    /// number of bytes taken: all of them, unless this [pauses](Self::is_paused).
    pub(in crate::codec) fn append(
        &mut self,
        bytes: &[u8],
        mask: &mut Mask,
        message: &mut Assembly,
        limit: usize,
    ) -> Result<usize, Violation> {
        let mut block = [0; BLOCK];
        let mut taken = 0;
        // The loop runs even without input: after a pause, zlib may have pending output.
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
        self.work = self
            .work
            .saturating_add(WORK_PER_BYTE.saturating_mul(taken));
        Ok(taken)
    }

    /// Ends the message, or pauses.
    pub(in crate::codec) fn finish(
        &mut self,
        message: &mut Assembly,
        limit: usize,
    ) -> Result<(), Violation> {
        if self.budget < FINISH_BUDGET {
            self.is_paused = true;
            return Ok(());
        }
        // The appended bytes may end a stream. It must not count as a tiny stream of the peer.
        self.tiny = 0;
        // A sender cuts off the tail (RFC 7692 §7.2.1). It is not appended after a final block, or to a message
        // without any byte.
        if self.stage == Stage::Within {
            self.inflate(&TAIL, message, limit)?;
            // The message must not end within a block, but zlib does not report that. So this appends an empty
            // block: within a block, it becomes content or an error. After a block, it adds nothing. A final
            // block proves it for certain, but it would end the stream. With context takeover the stream has
            // to go on. Then an incomplete head of a block is found only with the next message.
            let (probe, expected) = if self.context_takeover {
                (EMPTY_BLOCK, Stage::Within)
            } else {
                (LAST_EMPTY_BLOCK, Stage::Ended)
            };
            let before = message.len();
            self.inflate(&probe, message, limit)
                .map_err(|_| TRUNCATED)?;
            if message.len() > before || self.stage != expected {
                return Err(TRUNCATED);
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

    /// Begins to join the buffers of the message. [`join`](Self::join) goes on with it.
    pub(in crate::codec) fn begin_joining(&mut self, message: Box<Assembly>) {
        self.joining = Some(message.into_joining());
    }

    /// Joins the buffers of the message. Returns it when it is complete, or `None` if this pauses.
    pub(in crate::codec) fn join(&mut self) -> Result<Option<Message>, Violation> {
        self.is_paused = false;
        let Some(joining) = &mut self.joining else {
            return Ok(None);
        };
        while let Some(len) = joining.next_len() {
            if self.budget < len {
                self.is_paused = true;
                return Ok(None);
            }
            spend(&mut self.budget, len);
            joining.advance()?;
        }
        let joined = self.joining.take();
        joined.map(Joining::finish).transpose()
    }

    /// Inflates to the end of `input`, or until a pause. Returns the number of bytes read.
    fn inflate(
        &mut self,
        input: &[u8],
        message: &mut Assembly,
        limit: usize,
    ) -> Result<usize, Violation> {
        let mut output = [0; BLOCK];
        let mut rest = input;
        // After a pause, zlib may have pending output.
        let mut has_pending = std::mem::take(&mut self.is_paused) && self.stage == Stage::Within;
        while !rest.is_empty() || has_pending {
            has_pending = false;
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

    /// Inflates to the end of a stream or of `input`, or until a pause. Returns the number of bytes read.
    fn inflate_stream(
        &mut self,
        input: &[u8],
        output: &mut [u8; BLOCK],
        message: &mut Assembly,
        limit: usize,
    ) -> Result<usize, Violation> {
        // A decompressor always has a window of 15 bits. It can inflate every agreed window.
        let decompressor = self
            .decompressor
            .get_or_insert_with(|| IDLE.lend(|_| true, || Decompress::new(false)));
        let mut rest = input;
        loop {
            if self.budget < BLOCK {
                self.is_paused = true;
                return Ok(input.len() - rest.len());
            }
            self.stage = Stage::Within;
            let (read, written) = (decompressor.total_in(), decompressor.total_out());
            let status = decompressor.decompress(rest, output, FlushDecompress::None);
            // Both fit into usize: they are lengths of parts of the two slices.
            let read = (decompressor.total_in() - read) as usize;
            let written = (decompressor.total_out() - written) as usize;
            rest = &rest[read..];
            spend(&mut self.budget, written);
            self.work = self.work.saturating_add(written);
            // The output before an error is appended first. So the result does not depend on the pieces of
            // input.
            message.append_inflated(&output[..written], limit)?;
            match status.map_err(|_| CORRUPT)? {
                Status::StreamEnd => {
                    decompressor.reset(false);
                    self.stage = Stage::Ended;
                    self.work = self.work.saturating_add(WORK_PER_STREAM);
                    self.end_stream(message.len(), max_tiny(message))?;
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

    /// Inflates the short streams at the front of `input`, within the budget. Returns the number of bytes read.
    fn inflate_short(
        &mut self,
        input: &[u8],
        output: &mut [u8; BLOCK],
        message: &mut Assembly,
        limit: usize,
    ) -> Result<usize, Violation> {
        let max_tiny = max_tiny(message);
        let mut rest = input;
        let mut ended = Ok(());
        while ended.is_ok() && self.budget >= BLOCK {
            let before = message.len();
            let mut written = 0;
            let mut is_last = true;
            while written <= BLOCK / 2 {
                let stream = short::inflate(rest, &mut output[written..]);
                is_last = stream.is_none();
                let Some((read, len)) = stream else { break };
                rest = &rest[read..];
                written += len;
                ended = self.end_stream(before + written, max_tiny);
                if ended.is_err() {
                    break;
                }
            }
            // An error in the content comes before too many tiny streams.
            if written > 0 {
                spend(&mut self.budget, written);
                self.work = self.work.saturating_add(written);
                message.append_inflated(&output[..written], limit)?;
            }
            if is_last {
                break;
            }
        }
        ended.map(|()| input.len() - rest.len())
    }

    /// Counts a stream that has ended. `len` is the length of the message at that point.
    #[inline]
    fn end_stream(&mut self, len: usize, max_tiny: usize) -> Result<(), Violation> {
        if len - self.start < TINY {
            self.tiny += 1;
            if self.tiny > max_tiny {
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

/// Subtracts `bytes` from a budget.
fn spend(budget: &mut usize, bytes: usize) {
    #[cfg(test)]
    super::counted::add(bytes);
    *budget = budget.saturating_sub(bytes);
}

/// Returns the maximum number of tiny streams for the frames of a message so far.
fn max_tiny(message: &Assembly) -> usize {
    TINY_STREAMS.saturating_mul(message.progress().fragments as usize)
}

impl Drop for Inflation {
    fn drop(&mut self) {
        self.give_back();
    }
}

// A window contains payload, which must not appear in logs.
impl fmt::Debug for Inflation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflation")
            .field("context_takeover", &self.context_takeover)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
