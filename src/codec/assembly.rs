//! A message that is put together from pieces.

use std::str;

use bytes::Bytes;

use crate::message::{Message, Utf8Bytes};

use super::{
    Limits, Mask, Violation,
    head::{DataKind, Progress},
    utf8::Text,
};

/// What may be held ahead of what has arrived, if the head promises that it will come.
const AHEAD: usize = 64 * 1024;
/// What may be held when next to nothing has arrived.
const AT_FIRST: usize = 1024;
/// Text is unmasked and checked in pieces of this size, which stay in the first cache.
const BLOCK: usize = 1024;

/// A message of which some has arrived.
#[derive(Debug)]
pub(super) struct Assembly {
    payload: Payload,
    fragments: u32,
    empty_fragments: u32,
    /// Bytes that arrived, of a message that is compressed.
    compressed: Option<usize>,
}

#[derive(Debug)]
enum Payload {
    Text(Text),
    Binary(Vec<u8>),
}

impl Assembly {
    /// Begins a message without any frame.
    pub(super) fn new(kind: DataKind) -> Self {
        Self {
            payload: match kind {
                DataKind::Text => Payload::Text(Text::default()),
                DataKind::Binary => Payload::Binary(Vec::new()),
            },
            fragments: 0,
            empty_fragments: 0,
            compressed: None,
        }
    }

    /// Begins a message whose frames hold it compressed.
    pub(super) fn compressed(kind: DataKind) -> Self {
        Self {
            compressed: Some(0),
            ..Self::new(kind)
        }
    }

    pub(super) const fn is_compressed(&self) -> bool {
        self.compressed.is_some()
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            len: self.compressed.unwrap_or_else(|| self.len()),
            compressed: self.is_compressed(),
            fragments: self.fragments,
            empty_fragments: self.empty_fragments,
        }
    }

    /// Counts a frame whose head has been checked. Saturates only where no limit is set.
    pub(super) fn begin_frame(&mut self, len: usize) {
        self.fragments = self.fragments.saturating_add(1);
        // After the last one nobody asks, so it needs no exception.
        if len == 0 {
            self.empty_fragments = self.empty_fragments.saturating_add(1);
        }
    }

    /// Appends bytes of a frame's payload: `missing` more belong to it, and then, unless it is
    /// `last`, other frames follow.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        mask: &mut Mask,
        missing: usize,
        last: bool,
        limits: &Limits,
    ) -> Result<(), Violation> {
        let len = self.len();
        let received = len + bytes.len();
        if received > self.capacity() {
            let promised = missing.min(
                received
                    .saturating_mul(16)
                    .clamp(AT_FIRST, AHEAD)
                    .max(received),
            );
            // Nobody knows how much further frames bring: as much again, so that the time spent
            // on copying stays in proportion.
            let guessed = if last { 0 } else { received };
            let ahead = promised
                .max(guessed)
                .min(limits.message.saturating_sub(received));
            self.reserve_exact(bytes.len() + ahead);
        }
        match &mut self.payload {
            Payload::Binary(buffer) => mask.append(bytes, buffer),
            Payload::Text(text) => {
                let mut block = [0; BLOCK];
                for piece in bytes.chunks(BLOCK) {
                    let block = &mut block[..piece.len()];
                    block.copy_from_slice(piece);
                    mask.apply(block);
                    text.push(block)?;
                }
            }
        }
        Ok(())
    }

    /// Counts bytes of a compressed message, whatever they turn out to be.
    #[cfg(feature = "deflate")]
    pub(super) fn receive_compressed(&mut self, bytes: usize) {
        if let Some(compressed) = &mut self.compressed {
            // Cannot wrap: heads are checked against a limit, at which it may saturate.
            *compressed = compressed.saturating_add(bytes);
        }
    }

    /// Appends bytes that were inflated, unless that makes the message larger than `limit`.
    #[cfg(feature = "deflate")]
    pub(super) fn append_inflated(&mut self, bytes: &[u8], limit: usize) -> Result<(), Violation> {
        let len = self.len();
        // What fits may have a fault that comes first.
        let (bytes, beyond) = bytes.split_at(bytes.len().min(limit.saturating_sub(len)));
        let inflated = len + bytes.len();
        if inflated > self.capacity() {
            // Nobody knows how much comes: as much again, so that the time spent on copying stays
            // in proportion.
            let ahead = inflated.max(AT_FIRST).min(limit - inflated);
            self.reserve_exact(bytes.len() + ahead);
        }
        match &mut self.payload {
            Payload::Binary(buffer) => buffer.extend_from_slice(bytes),
            Payload::Text(text) => text.push(bytes)?,
        }
        if beyond.is_empty() {
            Ok(())
        } else {
            Err(Violation::TooLarge)
        }
    }

    /// Ends the message.
    pub(super) fn finish(self) -> Result<Message, Violation> {
        Ok(match self.payload {
            Payload::Text(text) => {
                let mut text = text.finish()?;
                text.shrink_to_fit();
                Message::Text(Utf8Bytes::from(text))
            }
            Payload::Binary(mut buffer) => {
                buffer.shrink_to_fit();
                Message::Binary(Bytes::from(buffer))
            }
        })
    }

    pub(super) fn capacity(&self) -> usize {
        match &self.payload {
            Payload::Text(text) => text.capacity(),
            Payload::Binary(buffer) => buffer.capacity(),
        }
    }

    /// Returns the bytes of the message so far.
    pub(super) fn len(&self) -> usize {
        match &self.payload {
            Payload::Text(text) => text.len(),
            Payload::Binary(buffer) => buffer.len(),
        }
    }

    fn reserve_exact(&mut self, bytes: usize) {
        match &mut self.payload {
            Payload::Text(text) => text.reserve_exact(bytes),
            Payload::Binary(buffer) => buffer.reserve_exact(bytes),
        }
    }
}

/// A message that is whole in the input, still masked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole<'a> {
    kind: DataKind,
    payload: &'a [u8],
    mask: Mask,
}

impl<'a> Whole<'a> {
    pub(super) const fn new(kind: DataKind, payload: &'a [u8], mask: Mask) -> Self {
        Self {
            kind,
            payload,
            mask,
        }
    }

    pub(crate) const fn is_text(&self) -> bool {
        matches!(self.kind, DataKind::Text)
    }

    /// Returns the length of the payload in bytes.
    pub(crate) const fn len(&self) -> usize {
        self.payload.len()
    }

    /// Appends the payload to `to`.
    ///
    /// # Errors
    ///
    /// [`Violation::InvalidUtf8`] if it is a text that is none. Some of it may be appended then.
    #[inline]
    pub(super) fn append_to(mut self, to: &mut Vec<u8>) -> Result<(), Violation> {
        let start = to.len();
        self.mask.append(self.payload, to);
        if self.is_text() && str::from_utf8(&to[start..]).is_err() {
            return Err(Violation::InvalidUtf8);
        }
        Ok(())
    }

    /// Makes a message of it.
    pub(crate) fn into_message(mut self) -> Result<Message, Violation> {
        let mut buffer = Vec::with_capacity(self.payload.len());
        self.mask.append(self.payload, &mut buffer);
        let buffer = Bytes::from(buffer);
        match self.kind {
            DataKind::Text => Utf8Bytes::try_from(buffer)
                .map(Message::Text)
                .map_err(|_| Violation::InvalidUtf8),
            DataKind::Binary => Ok(Message::Binary(buffer)),
        }
    }
}
