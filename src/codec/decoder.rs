//! The decoder: makes messages and control frames from bytes.

use std::{fmt, mem, time::Duration};

use crate::{
    time::Moment,
    words::{CloseFrame, Message},
};

use super::{
    Control, Limits, Mask, Role, Violation,
    assembly::{Assembly, ReadInto, WholeMessage},
    buffers::CHUNK,
    control,
    deflate::{Deflation, Inflation},
    head::{self, ControlKind, Head, Kind, Partial},
    rules::HeadRules,
};

/// The minimum size of a large payload. Most of it is read directly into its buffers.
const LARGE: usize = 4 * CHUNK;

/// An incoming message or control frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// A complete message.
    Message(Message),
    /// A ping. It has to be answered with the same payload.
    Ping(Box<Control>),
    /// A pong.
    Pong(Box<Control>),
    /// A Close. It is the last frame of the peer.
    Close(Option<CloseFrame>),
}

/// The rules for the peer of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) role: Role,
    pub(crate) limits: Limits,
    /// The terms of compression, if it was agreed on.
    pub(crate) deflation: Option<Deflation>,
}

/// The receiving half of a connection.
///
/// The fields that every message needs come first, as in `Link`.
#[repr(C)]
pub(crate) struct Decoder {
    stage: Stage,
    /// The message in progress.
    message: Option<Box<Assembly>>,
    /// Boxed, because few connections have it.
    inflation: Option<Box<Inflation>>,
    role: Role,
    limits: Limits,
    deadline: Option<Moment>,
}

/// The part of a frame that is decoded next.
#[derive(Debug)]
enum Stage {
    Head(Partial),
    Data {
        last: bool,
        /// The payload has at least [`LARGE`] bytes.
        large: bool,
        missing: usize,
        mask: Mask,
    },
    Control {
        kind: ControlKind,
        // Boxed, because this is rare, and every connection holds a stage.
        payload: Box<Control>,
        missing: usize,
        mask: Mask,
    },
}

impl Default for Stage {
    fn default() -> Self {
        Self::Head(Partial::default())
    }
}

impl Decoder {
    /// Makes the decoder of a new connection.
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            role: rules.role,
            limits: rules.limits,
            stage: Stage::default(),
            message: None,
            inflation: rules.deflation.map(Inflation::new).map(Box::new),
            deadline: None,
        }
    }

    /// Takes bytes off the front of `input` until an event is complete.
    ///
    /// Returns `Ok(None)` if all of `input` is taken and more is needed, or if the decoder is
    /// [paused](Self::is_paused). The events do not depend on the pieces of the input, or on the pauses. After
    /// [`deadline`](Self::deadline) this fails, even without input.
    ///
    /// After [`Event::Close`] and after an error, do not call this again.
    ///
    /// # Errors
    ///
    /// The [`Violation`], at the first byte that proves it.
    pub(crate) fn decode(
        &mut self,
        input: &mut &[u8],
        now: Moment,
    ) -> Result<Option<Event>, Violation> {
        if let Some(whole) = self.decode_fast(input) {
            return Ok(Some(Event::Message(whole.into_message()?)));
        }
        if self.is_too_late(now) {
            return Err(Violation::TooSlow);
        }
        self.advance(input, now)
    }

    /// Fast path: takes a complete, uncompressed message in one frame off the front of `input`. Returns `None`
    /// if there is none; then [`decode`](Self::decode) has to decode the input.
    #[inline]
    pub(crate) fn decode_fast<'a>(&self, input: &mut &'a [u8]) -> Option<WholeMessage<'a>> {
        if self.role != Role::Server || !self.is_between_messages() {
            return None;
        }
        let limits = &self.limits;
        let limit = limits.message.min(limits.frame);
        let (kind, mask, start, len) = head::parse_fast(input)?;
        let payload = input.get(start..start + len).filter(|_| len <= limit)?;
        *input = &input[start + len..];
        Some(WholeMessage::new(kind, payload, mask))
    }

    /// Returns whether messages may be compressed.
    pub(crate) const fn inflates(&self) -> bool {
        self.inflation.is_some()
    }

    /// Returns whether the decoder is paused: it can go on without further input, but needs a new
    /// [budget](Self::set_budget) for inflating.
    pub(crate) fn is_paused(&self) -> bool {
        let inflation = self.inflation.as_ref();
        inflation.is_some_and(|inflation| inflation.is_paused())
    }

    /// Sets the maximum number of inflated bytes before [`decode`](Self::decode) pauses. Default: unlimited.
    pub(crate) fn set_budget(&mut self, bytes: usize) {
        if let Some(inflation) = &mut self.inflation {
            inflation.set_budget(bytes);
        }
    }

    /// Returns the rest of the budget.
    pub(crate) fn budget(&self) -> usize {
        let inflation = self.inflation.as_ref();
        inflation.map_or(usize::MAX, |inflation| inflation.budget())
    }

    /// Returns the deadline of the message or control frame in progress, or `None` if there is none. A paused
    /// decoder has no deadline, because it does not wait for the peer.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.deadline.filter(|_| !self.is_paused())
    }

    /// Returns the work of inflating since the last call. The unit is the work to copy one byte.
    pub(crate) fn take_work(&mut self) -> usize {
        let inflation = self.inflation.as_mut();
        inflation.map_or(0, |inflation| inflation.take_work())
    }

    /// Extends the deadline by the time in which this side did not read.
    pub(crate) fn extend_deadline(&mut self, time: Duration) {
        self.deadline = self.deadline.map(|deadline| deadline + time);
    }

    fn is_too_late(&self, now: Moment) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Sets the deadline if a message or control frame is in progress, and removes it otherwise.
    fn set_deadline(&mut self, now: Moment) {
        if self.is_between_messages() {
            self.deadline = None;
        } else if self.deadline.is_none() {
            self.deadline = Some(now + self.limits.assembly);
        }
    }

    #[inline]
    pub(crate) fn is_between_messages(&self) -> bool {
        self.message.is_none() && matches!(&self.stage, Stage::Head(head) if head.is_empty())
    }

    /// Returns whether a message begins at the front of `input`.
    pub(crate) fn is_data_next(&self, input: &[u8]) -> bool {
        let opcode = input.first().map(|byte| byte & 0x0f);
        self.is_between_messages() && matches!(opcode, Some(0..=2))
    }

    /// Returns whether more of a large uncompressed payload is expected. Taking it is cheap.
    pub(crate) fn is_in_large_payload(&self) -> bool {
        match (&self.stage, &self.message) {
            (Stage::Data { large, missing, .. }, Some(message)) => {
                *large && *missing > 0 && !message.is_compressed()
            }
            _ => false,
        }
    }

    fn advance(&mut self, input: &mut &[u8], now: Moment) -> Result<Option<Event>, Violation> {
        loop {
            match &mut self.stage {
                Stage::Head(partial) => {
                    let message = self.message.as_ref().map(|message| message.progress());
                    let rules = HeadRules {
                        role: self.role,
                        limits: &self.limits,
                        compression: self.inflation.is_some(),
                    };
                    let Some(head) = partial.take(input, rules, message)? else {
                        self.set_deadline(now);
                        return Ok(None);
                    };
                    match head.kind {
                        Kind::Start(kind) if head.last && head.len <= input.len() => {
                            let payload = split_front(input, head.len);
                            self.deadline = None;
                            let whole = WholeMessage::new(kind, payload, head.mask);
                            return Ok(Some(Event::Message(whole.into_message()?)));
                        }
                        Kind::Start(_) | Kind::Compressed(_) | Kind::Continuation => {
                            self.begin_data(&head);
                        }
                        Kind::Control(kind) => {
                            self.stage = Stage::Control {
                                kind,
                                payload: Box::new(Control::empty()),
                                missing: head.len,
                                mask: head.mask,
                            };
                        }
                    }
                }
                Stage::Data { .. } => {
                    if let Some(message) = self.data(input)? {
                        self.deadline = None;
                        return Ok(Some(Event::Message(message)));
                    }
                    if input.is_empty() || self.is_paused() {
                        self.set_deadline(now);
                        return Ok(None);
                    }
                }
                Stage::Control { .. } => {
                    let event = self.control(input)?;
                    self.set_deadline(now);
                    return Ok(event);
                }
            }
        }
    }

    fn begin_data(&mut self, head: &Head) {
        // The head has been checked: a first frame has no message in progress, a continuation has one.
        match head.kind {
            Kind::Start(kind) => self.message = Some(Assembly::begin(kind)),
            Kind::Compressed(kind) => self.message = Some(Box::new(Assembly::compressed(kind))),
            Kind::Continuation | Kind::Control(_) => {}
        }
        if let Some(message) = &mut self.message {
            message.begin_frame(head.len);
        }
        self.stage = Stage::Data {
            last: head.last,
            large: head.len >= LARGE,
            missing: head.len,
            mask: head.mask,
        };
    }

    /// Takes payload off the front of `input`, and returns the message if it is complete.
    fn data(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Violation> {
        let (
            Stage::Data {
                last,
                missing,
                mask,
                ..
            },
            Some(message),
        ) = (&mut self.stage, &mut self.message)
        else {
            return self.join();
        };
        let limits = &self.limits;
        // A message is compressed only if that was agreed on.
        match &mut self.inflation {
            Some(inflation) if message.is_compressed() => {
                let bytes = &input[..input.len().min(*missing)];
                let taken = inflation.append(bytes, mask, message, limits.message)?;
                *input = &input[taken..];
                *missing -= taken;
                if *missing == 0 && *last && !inflation.is_paused() {
                    inflation.finish(message, limits.message)?;
                }
                if inflation.is_paused() {
                    return Ok(None);
                }
            }
            _ => {
                let bytes = split_front(input, *missing);
                *missing -= bytes.len();
                message.append(bytes, mask, *missing, *last, limits)?;
            }
        }
        let Some(message) = self.end_of_data()? else {
            return Ok(None);
        };
        match &mut self.inflation {
            Some(inflation) if message.is_compressed() => {
                inflation.begin_joining(message);
                self.join()
            }
            _ => message.into_message().map(Some),
        }
    }

    /// Joins the buffers of an inflated message. Returns it when it is complete, or `None` if this pauses.
    /// Later input is decoded only after that.
    fn join(&mut self) -> Result<Option<Message>, Violation> {
        let Some(inflation) = &mut self.inflation else {
            return Ok(None);
        };
        let joined = inflation.join()?;
        self.stage = match inflation.is_paused() {
            false => Stage::default(),
            true => Stage::Data {
                last: true,
                large: false,
                missing: 0,
                mask: Mask::NONE,
            },
        };
        Ok(joined)
    }

    /// Takes the payload of a control frame off the front of `input`, and returns its event if it is complete.
    fn control(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Violation> {
        if let Stage::Control {
            kind,
            payload,
            missing,
            mask,
        } = &mut self.stage
        {
            let bytes = split_front(input, *missing);
            mask.apply(payload.append(bytes));
            *missing -= bytes.len();
            if *missing > 0 {
                if let ControlKind::Close = kind {
                    control::check_start_of_close(payload)?;
                }
                return Ok(None);
            }
        }
        let Stage::Control { kind, payload, .. } = mem::take(&mut self.stage) else {
            return Ok(None);
        };
        Ok(Some(match kind {
            ControlKind::Ping => Event::Ping(payload),
            ControlKind::Pong => Event::Pong(payload),
            ControlKind::Close => Event::Close(control::close(&payload)?),
        }))
    }

    /// Returns the message if its last frame is complete.
    fn end_of_data(&mut self) -> Result<Option<Box<Assembly>>, Violation> {
        let Stage::Data {
            last, missing: 0, ..
        } = self.stage
        else {
            return Ok(None);
        };
        self.stage = Stage::default();
        let message = self.message.take_if(|_| last);
        if let Some(message) = &message {
            message.finish()?;
        }
        Ok(message)
    }

    /// Returns memory of the message in progress for a direct read, if the next bytes of the input belong to a
    /// large payload. A payload that is read directly is not copied.
    ///
    /// After the read, call [`finish_direct_read`](Self::finish_direct_read), or
    /// [`cancel_direct_read`](Self::cancel_direct_read) if it returned no bytes.
    pub(crate) fn direct_read(&mut self) -> Option<ReadInto<'_>> {
        match (&self.stage, &mut self.message) {
            (Stage::Data { missing, .. }, Some(message)) => message.direct_read(*missing),
            _ => None,
        }
    }

    /// Decodes `len` bytes of a [direct read](Self::direct_read), and returns the message if it is complete.
    ///
    /// # Errors
    ///
    /// Like [`decode`](Self::decode).
    pub(crate) fn finish_direct_read(
        &mut self,
        len: usize,
        now: Moment,
    ) -> Result<Option<Box<Assembly>>, Violation> {
        if self.is_too_late(now) {
            return Err(Violation::TooSlow);
        }
        if let (Stage::Data { missing, mask, .. }, Some(message)) =
            (&mut self.stage, &mut self.message)
        {
            *missing -= len;
            message.finish_direct_read(len, mask)?;
        }
        let message = self.end_of_data()?;
        self.set_deadline(now);
        Ok(message)
    }

    /// Frees the buffers of a [direct read](Self::direct_read) that returned no bytes.
    pub(crate) fn cancel_direct_read(&mut self) {
        if let Some(message) = &mut self.message {
            message.cancel_direct_read();
        }
    }

    /// Returns the length of the message in progress so far.
    pub(crate) fn len_so_far(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.len())
    }

    /// Returns the number of allocated bytes.
    #[cfg(any(test, tower_websocket_fuzzing))]
    pub(crate) fn capacity(&self) -> usize {
        self.message
            .as_ref()
            .map_or(0, |message| message.capacity())
    }
}

/// Takes `len` bytes off the front of `input`, or all if there are fewer.
fn split_front<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, rest) = input.split_at(len.min(input.len()));
    *input = rest;
    front
}

// Payloads must not appear in logs, so the message in progress is not shown.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("limits", &self.limits)
            .field("between_messages", &self.is_between_messages())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
