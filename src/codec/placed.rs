//! The final buffer of a large message.
//!
//! A message in pieces is gathered in [`Chunks`](super::chunks::Chunks) and copied to its final buffer at its end. So
//! little memory is taken for bytes that may never come, and allocators, which may keep the memory of many large
//! buffers, are asked for it only shortly. On each thread, one message at a time is spared this copy: its bytes go
//! to its final buffer as they arrive.

use std::sync::Arc;

use bytes::{BufMut, Bytes, buf::Limit};

use super::{Mask, Violation, utf8::Validator};
use crate::words::{Message, Utf8Bytes};

/// The bytes that are unmasked and then validated at once. They stay in the first-level cache.
pub(super) const BLOCK: usize = 4 * 1024;

thread_local! {
    /// A message that has the thread's turn holds a clone, on whichever thread it ends.
    static TURN: Arc<()> = Arc::new(());
}

/// The bytes of a message, complete or not, in a buffer of its final length.
#[derive(Debug)]
pub(super) enum Placed {
    Binary(Vec<u8>),
    /// Without unsafe code, there is no other way to a string than to copy validated bytes.
    Text(String, Validator),
}

impl Placed {
    pub(super) fn text(len: usize) -> Self {
        Self::Text(String::with_capacity(len), Validator::default())
    }

    /// Appends unmasked bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        match self {
            Self::Binary(all) => all.extend_from_slice(bytes),
            Self::Text(text, validator) => {
                validator.push_to(bytes, |part| text.push_str(part))?;
            }
        }
        Ok(())
    }

    /// Appends masked bytes: unmasks them block by block, and a text is validated with SIMD.
    pub(super) fn push_masked(&mut self, bytes: &[u8], mask: &mut Mask) -> Result<(), Violation> {
        if let Self::Binary(all) = self {
            mask.append(bytes, all);
            return Ok(());
        }
        let mut block = [0; BLOCK];
        for piece in bytes.chunks(BLOCK) {
            let block = &mut block[..piece.len()];
            block.copy_from_slice(piece);
            mask.apply(block);
            self.push(block)?;
        }
        Ok(())
    }

    /// Returns the message. Fails if it is a text that ends within a character.
    pub(super) fn into_message(self) -> Result<Message, Violation> {
        Ok(match self {
            Self::Binary(bytes) => Message::Binary(Bytes::from(bytes)),
            Self::Text(text, validator) => {
                validator.finish()?;
                Message::Text(Utf8Bytes::from(text))
            }
        })
    }
}

/// A message that has the turn of its thread.
#[derive(Debug)]
pub(super) struct InTurn {
    pub(super) placed: Placed,
    /// The number of bytes so far.
    pub(super) len: usize,
    _turn: Arc<()>,
}

impl InTurn {
    /// Begins a message of `len` bytes, unless another one has the turn.
    pub(super) fn begin(is_text: bool, len: usize) -> Option<Self> {
        // Fails while the thread ends.
        let turn = TURN.try_with(|turn| (Arc::strong_count(turn) == 1).then(|| Arc::clone(turn)));
        let turn = turn.ok().flatten()?;
        let placed = match is_text {
            true => Placed::text(len),
            false => Placed::Binary(Vec::with_capacity(len)),
        };
        Some(Self {
            placed,
            len: 0,
            _turn: turn,
        })
    }

    /// Appends masked bytes.
    pub(super) fn push_masked(&mut self, bytes: &[u8], mask: &mut Mask) -> Result<(), Violation> {
        self.len += bytes.len();
        self.placed.push_masked(bytes, mask)
    }

    /// Returns the buffer for a direct read of up to `max` bytes. `None` for a text, because it is validated before it
    /// is part of a string.
    pub(super) fn direct_read(&mut self, max: usize) -> Option<Limit<&mut Vec<u8>>> {
        match &mut self.placed {
            Placed::Binary(bytes) => Some(bytes.limit(max)),
            Placed::Text(..) => None,
        }
    }

    /// Unmasks the bytes that were read directly.
    pub(super) fn finish_direct_read(&mut self, mask: &mut Mask) {
        if let Placed::Binary(bytes) = &mut self.placed {
            mask.apply(&mut bytes[self.len..]);
            self.len = bytes.len();
        }
    }
}

/// Holds the turn of this thread, so that its messages are gathered.
#[cfg(any(test, tower_websocket_fuzzing))]
pub(crate) fn hold_turn() -> Arc<()> {
    TURN.with(Arc::clone)
}
