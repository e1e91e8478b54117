//! A message in progress, assembled from its frames.

use std::{cell::RefCell, mem};

#[cfg(any(test, tower_websocket_fuzzing))]
use bytes::BufMut;
use bytes::{Bytes, BytesMut, buf::Limit};

use crate::words::{Message, Utf8Bytes};

use super::{
    Limits, Mask, Violation,
    buffers::CHUNK,
    chunks::{Chunks, MAX_READ, ReadBuffers},
    head::{DataKind, Progress},
    placed::{BLOCK, InTurn, Placed},
    utf8::Validator,
};

/// The minimum of the bytes that are allocated ahead of the received bytes, if the head announces them. Later
/// it is 16 times the received bytes, up to a full buffer of [`Chunks`].
const MIN_AHEAD: usize = 1024;
/// The maximum size of a small message. Small messages of the same input share a buffer.
pub(crate) const SMALL: usize = 128;
/// The maximum size of such a shared buffer.
const SLAB: usize = 1024;
/// The minimum of received bytes and of missing bytes for a direct read. A shorter rest is read together with
/// the following frames.
const MIN_DIRECT_READ: usize = if cfg!(tower_websocket_fuzzing) {
    8
} else {
    16 * 1024
};

/// The maximum number of empty assemblies that a thread keeps for the next messages.
const MAX_SPARES: usize = 64;
/// An assembly is kept only if the capacity of its list is at most this many buffers.
const MAX_LIST: usize = 16;

thread_local! {
    #[expect(clippy::vec_box, reason = "they move between the pool and connections")]
    static SPARE: RefCell<Vec<Box<Assembly>>> = const { RefCell::new(Vec::new()) };
}

/// The memory that a direct read fills.
#[derive(Debug)]
pub(crate) enum ReadInto<'a> {
    /// Buffers that are joined later.
    Gathered(ReadBuffers<'a>),
    /// The message's final buffer. The bytes are appended.
    Final(Limit<&'a mut Vec<u8>>),
}

#[cfg(any(test, tower_websocket_fuzzing))]
impl ReadInto<'_> {
    /// Copies as many of the `bytes` as one read would, and returns their number.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Gathered(buffers) => {
                let mut rest = bytes;
                for buffer in buffers.slices() {
                    assert!(!buffer.is_empty());
                    let (front, more) = rest.split_at(rest.len().min(buffer.len()));
                    buffer[..front.len()].copy_from_slice(front);
                    rest = more;
                }
                bytes.len() - rest.len()
            }
            Self::Final(buffer) => {
                let len = bytes.len().min(buffer.remaining_mut());
                buffer.put_slice(&bytes[..len]);
                len
            }
        }
    }
}

/// A message in progress.
#[derive(Debug)]
pub(crate) struct Assembly {
    payload: Chunks,
    /// The whole message, in place of `payload`, if it has the turn of its thread.
    in_turn: Option<InTurn>,
    /// `Some` for a text.
    text: Option<Validator>,
    fragments: u32,
    empty_fragments: u32,
    /// The number of compressed bytes received. `Some` for a compressed message.
    compressed: Option<usize>,
}

impl Assembly {
    /// Begins a message, with the memory of an earlier one if possible.
    pub(super) fn begin(kind: DataKind) -> Box<Self> {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        let Some(mut message) = spare.ok().flatten() else {
            return Box::new(Self::new(kind));
        };
        let payload = mem::take(&mut message.payload);
        *message = Self {
            payload,
            ..Self::new(kind)
        };
        message
    }

    /// Begins a message without any frame.
    pub(super) fn new(kind: DataKind) -> Self {
        Self {
            payload: Chunks::default(),
            in_turn: None,
            text: matches!(kind, DataKind::Text).then(Validator::default),
            fragments: 0,
            empty_fragments: 0,
            compressed: None,
        }
    }

    /// Begins a compressed message.
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

    /// Counts a frame. Its head has been checked, so the counters saturate only without limits.
    pub(super) fn begin_frame(&mut self, len: usize) {
        self.fragments = self.fragments.saturating_add(1);
        // An empty last frame is counted as well. That does no harm: no head is checked after it.
        if len == 0 {
            self.empty_fragments = self.empty_fragments.saturating_add(1);
        }
    }

    /// Appends bytes of a frame's payload. `missing` more bytes belong to that frame. If it is not the `last`
    /// one, other frames follow.
    pub(super) fn append(
        &mut self,
        mut bytes: &[u8],
        mask: &mut Mask,
        missing: usize,
        last: bool,
        limits: &Limits,
    ) -> Result<(), Violation> {
        let received = self.len() + bytes.len();
        let max_ahead = received.saturating_mul(16).max(MIN_AHEAD);
        if last && missing > 0 && missing <= max_ahead && received + missing > CHUNK {
            self.take_turn(received + missing)?;
        }
        if let Some(message) = &mut self.in_turn {
            return message.push_masked(bytes, mask);
        }
        let announced = missing.min(max_ahead);
        // The length of further frames is unknown. Doubling bounds the time spent on copying.
        let guessed = if last { 0 } else { received };
        let ahead = announced
            .max(guessed)
            .min(limits.message.saturating_sub(received));
        while !bytes.is_empty() {
            let spare = self.payload.spare(bytes.len(), ahead);
            let (piece, rest) = bytes.split_at(bytes.len().min(spare.len()).min(BLOCK));
            bytes = rest;
            spare[..piece.len()].copy_from_slice(piece);
            self.fill(piece.len(), mask)?;
        }
        Ok(())
    }

    /// Puts the message into its final buffer, of `len` bytes, if the thread's turn is free and few bytes have to be
    /// copied for that.
    fn take_turn(&mut self, len: usize) -> Result<(), Violation> {
        if self.in_turn.is_some() || self.payload.len() > CHUNK {
            return Ok(());
        }
        self.in_turn = InTurn::begin(self.is_text(), len);
        if let Some(message) = &mut self.in_turn {
            message.len = self.payload.len();
            for piece in (0..).map_while(|number| self.payload.get(number)) {
                message.placed.push(piece)?;
            }
            self.payload.clear();
            // From now on the final buffer has the incomplete character, if there is one.
            self.text = self.text.as_ref().map(|_| Validator::default());
        }
        Ok(())
    }

    /// Returns the memory for a direct read of the `missing` bytes of a payload. Returns `None` if too few bytes have
    /// arrived or are missing, and for a text in its final buffer.
    pub(super) fn direct_read(&mut self, missing: usize) -> Option<ReadInto<'_>> {
        if self.is_compressed() || missing < MIN_DIRECT_READ || self.len() < MIN_DIRECT_READ {
            return None;
        }
        match &mut self.in_turn {
            Some(message) => message
                .direct_read(missing.min(MAX_READ))
                .map(ReadInto::Final),
            None => Some(ReadInto::Gathered(self.payload.read_buffers(missing))),
        }
    }

    /// Unmasks and validates `len` bytes of a direct read.
    pub(super) fn finish_direct_read(
        &mut self,
        len: usize,
        mask: &mut Mask,
    ) -> Result<(), Violation> {
        match &mut self.in_turn {
            Some(message) => {
                message.finish_direct_read(mask);
                Ok(())
            }
            None => self.fill(len, mask),
        }
    }

    /// Unmasks and validates `len` bytes that were written to the spare capacity.
    fn fill(&mut self, len: usize, mask: &mut Mask) -> Result<(), Violation> {
        let text = &mut self.text;
        self.payload.fill(len, |bytes| {
            mask.apply(bytes);
            match text {
                Some(text) => text.push(bytes).map_err(Violation::from),
                None => Ok(()),
            }
        })
    }

    /// Frees the buffers of a direct read that returned no bytes.
    pub(super) fn cancel_direct_read(&mut self) {
        self.payload.free_spare();
    }

    /// Counts received bytes of a compressed message.
    #[cfg(feature = "deflate")]
    pub(super) fn receive_compressed(&mut self, bytes: usize) {
        if let Some(compressed) = &mut self.compressed {
            // Saturates only without a limit, because heads are checked.
            *compressed = compressed.saturating_add(bytes);
        }
    }

    /// Appends inflated bytes. Fails if the message becomes larger than `limit`.
    #[cfg(feature = "deflate")]
    pub(super) fn append_inflated(&mut self, bytes: &[u8], limit: usize) -> Result<(), Violation> {
        let len = self.len();
        // The bytes within the limit are validated first: an error in them comes before the limit.
        let (mut bytes, beyond) = bytes.split_at(bytes.len().min(limit.saturating_sub(len)));
        let inflated = len + bytes.len();
        // The length of the message is unknown. Doubling bounds the time spent on copying.
        let ahead = inflated.max(MIN_AHEAD).min(limit.saturating_sub(inflated));
        if let Some(text) = &mut self.text {
            text.push(bytes)?;
        }
        while !bytes.is_empty() {
            let spare = self.payload.spare(bytes.len(), ahead);
            let (piece, rest) = bytes.split_at(bytes.len().min(spare.len()));
            spare[..piece.len()].copy_from_slice(piece);
            self.payload.fill(piece.len(), |_| Ok::<_, Violation>(()))?;
            bytes = rest;
        }
        if beyond.is_empty() {
            Ok(())
        } else {
            Err(Violation::TooLarge)
        }
    }

    /// Fails if the message is a text that ends within a character.
    pub(super) fn finish(&self) -> Result<(), Violation> {
        self.text.as_ref().map_or(Ok(()), Validator::finish)?;
        Ok(())
    }

    /// Joins the buffers and returns the message.
    pub(crate) fn into_message(self: Box<Self>) -> Result<Message, Violation> {
        let mut joining = self.into_joining();
        while joining.next_len().is_some() {
            joining.advance()?;
        }
        joining.finish()
    }

    /// Begins to join the buffers.
    pub(super) fn into_joining(mut self: Box<Self>) -> Joining {
        let len = self.len();
        let in_turn = self.in_turn.take();
        let joined = match in_turn.map(|message| message.placed) {
            Some(whole) => whole,
            None if self.is_text() => Placed::text(len),
            None => {
                let single = self.payload.take_single();
                Placed::Binary(single.unwrap_or_else(|| Vec::with_capacity(len)))
            }
        };
        Joining {
            message: self,
            next: 0,
            joined,
        }
    }

    /// Keeps the memory for the next message.
    fn give_back(mut self: Box<Self>) {
        self.payload.clear();
        if self.payload.list_capacity() > MAX_LIST {
            return;
        }
        // Fails while the thread ends.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MAX_SPARES {
                spare.push(self);
            }
        });
    }

    #[cfg(any(test, tower_websocket_fuzzing))]
    pub(super) fn capacity(&self) -> usize {
        let placed = self.in_turn.as_ref().map(|message| &message.placed);
        let placed = match placed {
            Some(Placed::Binary(bytes)) => bytes.capacity(),
            Some(Placed::Text(text, _)) => text.capacity(),
            None => 0,
        };
        placed + self.payload.capacity()
    }

    /// Returns the length of the message so far.
    pub(crate) fn len(&self) -> usize {
        let in_turn = self.in_turn.as_ref();
        in_turn.map_or_else(|| self.payload.len(), |message| message.len)
    }
}

/// A message whose buffers are joined, one at a time. Each is freed as soon as it is copied.
#[derive(Debug)]
pub(super) struct Joining {
    message: Box<Assembly>,
    /// The number of the next buffer to copy.
    next: usize,
    /// A text is validated again while it is copied.
    joined: Placed,
}

impl Joining {
    /// Returns the number of bytes that are copied next, or `None` at the end.
    pub(super) fn next_len(&self) -> Option<usize> {
        self.message.payload.get(self.next).map(<[u8]>::len)
    }

    /// Copies the next buffer.
    pub(super) fn advance(&mut self) -> Result<(), Violation> {
        let payload = &mut self.message.payload;
        let Some(piece) = payload.get(self.next) else {
            return Ok(());
        };
        self.joined.push(piece)?;
        payload.free(self.next);
        self.next += 1;
        Ok(())
    }

    /// Returns the message. All buffers must have been copied.
    pub(super) fn finish(self) -> Result<Message, Violation> {
        self.message.give_back();
        self.joined.into_message()
    }
}

/// A message that is complete in the input, still masked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WholeMessage<'a> {
    kind: DataKind,
    payload: &'a [u8],
    mask: Mask,
}

impl<'a> WholeMessage<'a> {
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

    /// Unmasks and validates the message.
    pub(crate) fn into_message(self) -> Result<Message, Violation> {
        if self.is_text() && self.payload.len() >= BLOCK {
            return self.into_text();
        }
        message(self.kind, self.mask.unmasked(self.payload).into())
    }

    /// Unmasks and validates the message. A small one is put into `slab`, which it may share with the messages
    /// in the next `more` bytes of input. A message keeps at most [`SLAB`] bytes alive.
    // Inlined, because a call is a noticeable cost for a small message.
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
        // The slab is empty, because each message is split off.
        slab.extend_from_slice(self.payload);
        self.mask.apply_aligned(slab);
        message(self.kind, slab.split().freeze())
    }

    /// Unmasks and validates block by block with SIMD. The check of `Utf8Bytes` is that of std, which is
    /// slower.
    fn into_text(mut self) -> Result<Message, Violation> {
        let mut text = Placed::text(self.payload.len());
        text.push_masked(self.payload, &mut self.mask)?;
        text.into_message()
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
