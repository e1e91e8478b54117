//! A message that is put together from what arrives.

use std::{cell::RefCell, mem};

use bytes::{Bytes, BytesMut};

use crate::words::{Message, Utf8Bytes};

use super::{
    Limits, Mask, Violation,
    chunks::{Chunks, Rooms},
    head::{DataKind, Progress},
    utf8::Checked,
};

/// What may be held ahead when next to nothing has arrived, if the head promises that it will come.
/// Later it is 16 times what has arrived, up to a whole buffer of [`Chunks`].
const AT_FIRST: usize = 1024;
/// Unmasked and checked at once, so that it stays in the first cache between the two.
const BLOCK: usize = 4 * 1024;
/// Messages of this size are small, and those that come together share a buffer.
const SMALL: usize = 128;
const SLAB: usize = 1024;
/// A payload of which so much has arrived, and so much is missing, is read to its place. What is less
/// comes with what is behind it, in one read.
const DIRECT: usize = if cfg!(tower_websocket_fuzzing) {
    8
} else {
    16 * 1024
};

/// Each thread keeps at most this many empty assemblies for the next messages.
const SPARES: usize = 64;
/// An assembly is kept only if its list has room for at most this many buffers.
const LISTED: usize = 16;

thread_local! {
    #[expect(clippy::vec_box, reason = "they move between here and the connections")]
    static SPARE: RefCell<Vec<Box<Assembly>>> = const { RefCell::new(Vec::new()) };
}

/// A message of which some has arrived, or all of it.
#[derive(Debug)]
pub(crate) struct Assembly {
    payload: Chunks,
    /// Of a text: what is checked of it.
    text: Option<Checked>,
    fragments: u32,
    empty_fragments: u32,
    /// Bytes that arrived, of a message that is compressed.
    compressed: Option<usize>,
}

impl Assembly {
    /// Begins a message in memory that was used before.
    pub(super) fn begin(kind: DataKind) -> Box<Self> {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        let Some(mut begun) = spare.ok().flatten() else {
            return Box::new(Self::new(kind));
        };
        let payload = mem::take(&mut begun.payload);
        *begun = Self {
            payload,
            ..Self::new(kind)
        };
        begun
    }

    /// Begins a message without any frame.
    pub(super) fn new(kind: DataKind) -> Self {
        Self {
            payload: Chunks::default(),
            text: matches!(kind, DataKind::Text).then(Checked::default),
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

    pub(crate) const fn is_text(&self) -> bool {
        self.text.is_some()
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
        mut bytes: &[u8],
        mask: &mut Mask,
        missing: usize,
        last: bool,
        limits: &Limits,
    ) -> Result<(), Violation> {
        let received = self.len() + bytes.len();
        let promised = missing.min(received.saturating_mul(16).max(AT_FIRST));
        // Nobody knows how much further frames bring: as much again, so that the time spent on
        // copying stays in proportion.
        let guessed = if last { 0 } else { received };
        let ahead = promised
            .max(guessed)
            .min(limits.message.saturating_sub(received));
        while !bytes.is_empty() {
            let room = self.payload.room(bytes.len(), ahead);
            let (piece, rest) = bytes.split_at(bytes.len().min(room.len()).min(BLOCK));
            bytes = rest;
            room[..piece.len()].copy_from_slice(piece);
            self.placed(piece.len(), mask)?;
        }
        Ok(())
    }

    /// Returns where the next of `missing` bytes of the payload can be read to, once so many have
    /// arrived that more can be expected.
    pub(super) fn place(&mut self, missing: usize) -> Option<Rooms<'_>> {
        if self.is_compressed() || missing < DIRECT || self.len() < DIRECT {
            return None;
        }
        Some(self.payload.rooms(missing))
    }

    /// Takes `len` bytes that were read to their place.
    pub(super) fn placed(&mut self, len: usize, mask: &mut Mask) -> Result<(), Violation> {
        let text = &mut self.text;
        self.payload.fill(len, |bytes| {
            mask.apply(bytes);
            match text {
                Some(text) => text.push(bytes).map_err(Violation::from),
                None => Ok(()),
            }
        })
    }

    /// Gives up the place to which nothing was read.
    pub(super) fn give_up_place(&mut self) {
        self.payload.give_up_room();
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
        let (mut bytes, beyond) = bytes.split_at(bytes.len().min(limit.saturating_sub(len)));
        let inflated = len + bytes.len();
        // Nobody knows how much comes: as much again, so that the time spent on copying stays in
        // proportion.
        let ahead = inflated.max(AT_FIRST).min(limit.saturating_sub(inflated));
        if let Some(text) = &mut self.text {
            text.push(bytes)?;
        }
        while !bytes.is_empty() {
            let room = self.payload.room(bytes.len(), ahead);
            let (piece, rest) = bytes.split_at(bytes.len().min(room.len()));
            room[..piece.len()].copy_from_slice(piece);
            self.payload.fill(piece.len(), |_| Ok::<_, Violation>(()))?;
            bytes = rest;
        }
        if beyond.is_empty() {
            Ok(())
        } else {
            Err(Violation::TooLarge)
        }
    }

    /// Ends the message.
    pub(super) fn finish(&self) -> Result<(), Violation> {
        self.text.as_ref().map_or(Ok(()), Checked::finish)?;
        Ok(())
    }

    /// Makes a message of it, in one piece.
    pub(crate) fn into_message(self: Box<Self>) -> Result<Message, Violation> {
        let mut joining = self.into_joining();
        while joining.next_len().is_some() {
            joining.advance()?;
        }
        joining.finish()
    }

    /// Begins to make a message of it, in one piece.
    pub(super) fn into_joining(mut self: Box<Self>) -> Joining {
        let len = self.len();
        let whole = if self.is_text() {
            Joined::Text(String::with_capacity(len), Checked::default())
        } else {
            let single = self.payload.take_single();
            Joined::Binary(single.unwrap_or_else(|| Vec::with_capacity(len)))
        };
        Joining {
            message: self,
            at: 0,
            whole,
        }
    }

    /// Keeps the memory of a message that has been made for the next one.
    fn give_back(mut self: Box<Self>) {
        self.payload.clear();
        if self.payload.list_room() > LISTED {
            return;
        }
        // Fails when the thread is about to end.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARES {
                spare.push(self);
            }
        });
    }

    #[cfg(any(test, tower_websocket_fuzzing))]
    pub(super) fn capacity(&self) -> usize {
        self.payload.capacity()
    }

    /// Returns the bytes of the message so far.
    pub(crate) fn len(&self) -> usize {
        self.payload.len()
    }
}

/// A message that is put in one piece, a buffer at a time. Each is given up as soon as it is copied.
#[derive(Debug)]
pub(super) struct Joining {
    message: Box<Assembly>,
    /// The number of the buffer that is copied next.
    at: usize,
    whole: Joined,
}

#[derive(Debug)]
enum Joined {
    Binary(Vec<u8>),
    /// Checked bytes cannot become a string without being checked again, which is done as they are copied.
    Text(String, Checked),
}

impl Joining {
    /// Returns how many bytes are copied next, `None` when all are.
    pub(super) fn next_len(&self) -> Option<usize> {
        self.message.payload.get(self.at).map(<[u8]>::len)
    }

    /// Copies the next buffer.
    pub(super) fn advance(&mut self) -> Result<(), Violation> {
        let payload = &mut self.message.payload;
        let Some(piece) = payload.get(self.at) else {
            return Ok(());
        };
        match &mut self.whole {
            Joined::Binary(bytes) => bytes.extend_from_slice(piece),
            Joined::Text(text, checked) => {
                checked.push_to(piece, |part| text.push_str(part))?;
            }
        }
        payload.give_up(self.at);
        self.at += 1;
        Ok(())
    }

    /// Makes a message of what was copied.
    pub(super) fn finish(self) -> Result<Message, Violation> {
        self.message.give_back();
        Ok(match self.whole {
            Joined::Binary(bytes) => Message::Binary(Bytes::from(bytes)),
            Joined::Text(text, checked) => {
                checked.finish()?;
                Message::Text(Utf8Bytes::from(text))
            }
        })
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

    /// Makes a message of it.
    pub(crate) fn into_message(mut self) -> Result<Message, Violation> {
        let len = self.payload.len();
        if self.is_text() && len >= BLOCK {
            return self.into_text();
        }
        let mut buffer = Vec::with_capacity(len);
        self.mask.append(self.payload, &mut buffer);
        message(self.kind, buffer.into())
    }

    /// Makes a message of it; a small one in `slab`, which is made for those that may be in `more` bytes
    /// as well. One of them keeps alive at most [`SLAB`] bytes.
    // A call would cost a tenth of the instructions of a small message.
    #[inline(always)]
    pub(crate) fn into_message_in(
        self,
        slab: &mut BytesMut,
        more: usize,
    ) -> Result<Message, Violation> {
        let len = self.payload.len();
        if len > SMALL || more <= len {
            return self.into_message();
        }
        if slab.capacity() < len {
            *slab = BytesMut::with_capacity((len + more).min(SLAB));
        }
        // It is empty: what was in it is a message.
        slab.extend_from_slice(self.payload);
        self.mask.apply_aligned(slab);
        message(self.kind, slab.split().freeze())
    }

    /// Unmasks and checks piece by piece: `Utf8Bytes` checks bytes as std does, many times slower.
    fn into_text(mut self) -> Result<Message, Violation> {
        let mut text = String::with_capacity(self.payload.len());
        let mut checked = Checked::default();
        let mut block = [0; BLOCK];
        for piece in self.payload.chunks(BLOCK) {
            let block = &mut block[..piece.len()];
            block.copy_from_slice(piece);
            self.mask.apply(block);
            checked.push_to(block, |part| text.push_str(part))?;
        }
        checked.finish()?;
        Ok(Message::Text(Utf8Bytes::from(text)))
    }
}

#[inline]
fn message(kind: DataKind, payload: Bytes) -> Result<Message, Violation> {
    match kind {
        DataKind::Text => Utf8Bytes::try_from(payload)
            .map(Message::Text)
            .map_err(|_| Violation::InvalidUtf8),
        DataKind::Binary => Ok(Message::Binary(payload)),
    }
}
