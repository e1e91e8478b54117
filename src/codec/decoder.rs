//! From bytes to messages and control frames.

use std::{fmt, mem, time::Duration};

use crate::{
    time::Moment,
    words::{CloseFrame, Message},
};

use super::{
    Control, Mask, Role, Rules, Violation,
    assembly::{Assembly, Whole},
    buffers::CHUNK,
    chunks::Rooms,
    control,
    deflate::Inflation,
    head::{self, ControlKind, Head, Kind, Partial},
};

/// A payload of this size is large: most of it is read to its place, and what one read can bring of
/// other frames between two such is little beside them.
const LARGE: usize = 4 * CHUNK;

/// What a peer sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// A whole message.
    Message(Message),
    /// A ping, to be answered with the same payload.
    Ping(Box<Control>),
    /// A pong.
    Pong(Box<Control>),
    /// The peer's Close, its last frame, with what it says.
    Close(Option<CloseFrame>),
}

/// The receiving half of a connection.
pub(crate) struct Decoder {
    pub(super) rules: Rules,
    /// The message of which some frames, or some of the only one, have arrived.
    message: Option<Box<Assembly>>,
    stage: Stage,
    /// Boxed, since few connections have it.
    inflation: Option<Box<Inflation>>,
    deadline: Option<Moment>,
}

/// Where in a frame the input goes on.
#[derive(Debug)]
enum Stage {
    Head(Partial),
    Data {
        last: bool,
        /// It has at least [`LARGE`] bytes.
        large: bool,
        missing: usize,
        mask: Mask,
    },
    Control {
        kind: ControlKind,
        // Elsewhere, because this is rare, and every connection has room for its stage.
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
    /// Makes the decoder of a connection on which nothing has arrived yet.
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            stage: Stage::default(),
            message: None,
            inflation: rules.deflation.map(Inflation::new).map(Box::new),
            deadline: None,
        }
    }

    /// Takes bytes off the front of `input` until an event is whole.
    ///
    /// `Ok(None)` says that all of `input` was taken and more is needed, or that it is
    /// [paused](Self::is_paused). Where the input is cut, and where it pauses, has no influence on the
    /// events. Past [`deadline`](Self::deadline) it fails even without any
    /// input.
    ///
    /// After [`Event::Close`] and after an error there is nothing more to decode.
    ///
    /// # Errors
    ///
    /// The [`Violation`], as soon as the byte has arrived that makes it certain.
    pub(crate) fn decode(
        &mut self,
        input: &mut &[u8],
        now: Moment,
    ) -> Result<Option<Event>, Violation> {
        if let Some(whole) = self.usual(input) {
            return Ok(Some(Event::Message(whole.into_message()?)));
        }
        if self.is_too_late(now) {
            return Err(Violation::TooSlow);
        }
        self.advance(input, now)
    }

    /// Takes a message of the usual form off the front of `input`, if there is one: the same as
    /// [`advance`](Self::advance) would, in a fraction of its time.
    #[inline]
    pub(crate) fn usual<'a>(&self, input: &mut &'a [u8]) -> Option<Whole<'a>> {
        if self.rules.role != Role::Server || !self.is_between_messages() {
            return None;
        }
        let limit = self.rules.limits.message.min(self.rules.limits.frame);
        let (kind, mask, start, len) = head::usual(input)?;
        let payload = input.get(start..start + len).filter(|_| len <= limit)?;
        *input = &input[start + len..];
        Some(Whole::new(kind, payload, mask))
    }

    /// Returns whether messages are compressed.
    pub(crate) const fn inflates(&self) -> bool {
        self.inflation.is_some()
    }

    /// Returns whether a message goes on to be inflated with a new [share](Self::set_share), without
    /// further input.
    pub(crate) fn is_paused(&self) -> bool {
        let inflation = self.inflation.as_ref();
        inflation.is_some_and(|inflation| inflation.is_paused())
    }

    /// Sets how many bytes of compressed messages may be made before [`decode`](Self::decode) pauses. At
    /// first that is any number.
    pub(crate) fn set_share(&mut self, bytes: usize) {
        if let Some(inflation) = &mut self.inflation {
            inflation.set_share(bytes);
        }
    }

    /// Returns how much of the share is left.
    pub(crate) fn share(&self) -> usize {
        let inflation = self.inflation.as_ref();
        inflation.map_or(usize::MAX, |inflation| inflation.share())
    }

    /// Returns when what has begun to arrive becomes too slow, `None` if nothing has. Until all that has
    /// come is inflated, it is not the peer's turn.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.deadline.filter(|_| !self.is_paused())
    }

    /// Returns the work of inflating since the last call, in bytes that are copied: the length of the
    /// input does not tell of it.
    pub(crate) fn take_work(&mut self) -> usize {
        let inflation = self.inflation.as_mut();
        inflation.map_or(0, |inflation| inflation.take_work())
    }

    /// Gives what has begun as much longer: nobody took what the peer had sent.
    pub(crate) fn excuse(&mut self, longer: Duration) {
        self.deadline = self.deadline.map(|deadline| deadline + longer);
    }

    fn is_too_late(&self, now: Moment) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Starts the clock if something has begun, and stops it if nothing has.
    fn set_clock(&mut self, now: Moment) {
        if self.is_between_messages() {
            self.deadline = None;
        } else if let (None, Some(assembly)) = (self.deadline, self.rules.limits.assembly) {
            // A time that cannot be expressed never comes.
            self.deadline = Some(now + assembly);
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

    /// Tells whether the rest of a large payload is to come, which costs little to take.
    pub(crate) fn is_within_large(&self) -> bool {
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
                    let Some(head) = partial.take(input, &self.rules, message)? else {
                        self.set_clock(now);
                        return Ok(None);
                    };
                    match head.kind {
                        Kind::Start(kind) if head.last && head.len <= input.len() => {
                            let payload = split_front(input, head.len);
                            self.deadline = None;
                            let whole = Whole::new(kind, payload, head.mask);
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
                        self.set_clock(now);
                        return Ok(None);
                    }
                }
                Stage::Control { .. } => {
                    let event = self.control(input)?;
                    self.set_clock(now);
                    return Ok(event);
                }
            }
        }
    }

    fn begin_data(&mut self, head: &Head) {
        // A start finds no message, a continuation finds one: the head has been checked.
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

    /// Takes payload off the front of `input`, and returns the message when this ends it.
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
        let limits = &self.rules.limits;
        // A head marks a message as compressed only where that was agreed on.
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

    /// Returns the message that is put in one piece, if there is one and it does not pause. Nothing behind
    /// it is decoded before.
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

    /// Takes payload off the front of `input`, and returns what the frame says when this ends it.
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

    /// Returns the message if its last frame is whole now.
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

    /// Returns where the next bytes of the input can be read to, if they are for nothing else: a large
    /// payload is so unmasked where it stays. What was read is to be told with
    /// [`placed`](Self::placed), and that nothing was with
    /// [`give_up_place`](Self::give_up_place).
    pub(crate) fn place(&mut self) -> Option<Rooms<'_>> {
        match (&self.stage, &mut self.message) {
            (Stage::Data { missing, .. }, Some(message)) => message.place(*missing),
            _ => None,
        }
    }

    /// Takes `len` bytes that were read to their [place](Self::place) for decoded, and returns the
    /// message if it is whole.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub(crate) fn placed(
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
            message.placed(len, mask)?;
        }
        let message = self.end_of_data()?;
        self.set_clock(now);
        Ok(message)
    }

    /// Gives up the place to which nothing was read.
    pub(crate) fn give_up_place(&mut self) {
        if let Some(message) = &mut self.message {
            message.give_up_place();
        }
    }

    /// Returns how long the message in progress is so far.
    #[cfg(all(test, feature = "deflate"))]
    pub(crate) fn len_so_far(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.len())
    }

    /// Returns the number of bytes that are allocated.
    #[cfg(any(test, tower_websocket_fuzzing))]
    pub(crate) fn capacity(&self) -> usize {
        self.message
            .as_ref()
            .map_or(0, |message| message.capacity())
    }
}

/// Takes `len` bytes off the front, or all if there are fewer.
fn split_front<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, rest) = input.split_at(len.min(input.len()));
    *input = rest;
    front
}

// Payloads stay out of logs, so what is in progress is not shown.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("limits", &self.rules.limits)
            .field("between_messages", &self.is_between_messages())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
