//! The receiving half of a connection: the bytes that were read, and their decoder.

use std::mem;

use super::{
    budget::{Budget, Spent},
    input::Input,
};
use crate::{
    codec::{Assembly, Decoder, Event, ReadInto, Rules, Violation},
    time::{Moment, rate::Allowance},
    words::Message,
};

/// The receiving half of a connection, without its stream.
///
/// The fields that every message needs come first, as in `Link`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Receiver {
    /// `None` while nothing is left to decode.
    input: Option<Box<Input>>,
    next: Next,
    /// The frames and bytes of this poll of the connection.
    spent: Spent,
    /// The peer's rate limits. Boxed because few configurations have any.
    allowance: Option<Box<Allowance>>,
    decoder: Decoder,
}

/// The next step of a receiver.
#[derive(Debug, Default)]
enum Next {
    #[default]
    Decode,
    /// A decoded item that the connection has to handle before more is decoded.
    Handle(Box<Found>),
    /// A large message whose payload was read directly. The connection has to handle it before more
    /// is decoded.
    HandleLarge(Box<Assembly>),
    /// A Close or a violation was decoded. Nothing after it is decoded.
    Discard,
}

/// The result of decoding once.
#[derive(Debug)]
pub(super) enum Found {
    /// A whole message, or a control frame.
    Event(Event),
    /// The peer broke a rule. Nothing more is decoded.
    Violation(Violation),
    /// No message or control frame is complete. More bytes have to be read.
    Nothing,
}

impl Found {
    /// Returns whether nothing after this is decoded.
    const fn is_last(&self) -> bool {
        matches!(self, Self::Event(Event::Close(_)) | Self::Violation(_))
    }
}

impl Receiver {
    /// Makes the receiver of a stream from which `early` was read before.
    pub(super) fn new(rules: Rules, early: &[u8], allowance: Option<Box<Allowance>>) -> Self {
        Self {
            decoder: Decoder::new(rules),
            input: Input::from_bytes(early),
            next: Next::Decode,
            spent: Spent::default(),
            allowance,
        }
    }

    /// Sets the next input. The previous one has to be decoded completely.
    pub(super) fn put_input(&mut self, input: Box<Input>) {
        self.spent.add(0, input.bytes().len());
        self.input = Some(input);
    }

    /// Takes the shared buffer out if all its bytes are decoded.
    pub(super) fn take_empty(&mut self) -> Option<Box<Input>> {
        Input::take_empty(&mut self.input)
    }

    /// Gives the shared buffer back and starts a new budget. Call it at the end of each poll of the
    /// connection.
    pub(super) fn end_poll(&mut self) {
        Input::end_poll(&mut self.input);
        self.spent = Spent::default();
    }

    /// Returns whether the receiver [is idle](Self::is_idle), and the poll may decode more.
    pub(super) fn may_go_on(&self) -> bool {
        self.is_idle() && !self.spent.is_spent()
    }

    /// Returns whether the decoder is between messages, and nothing is left to handle. False if messages are compressed.
    pub(super) fn is_idle(&self) -> bool {
        self.decodes() && !self.inflates() && self.decoder.is_between_messages()
    }

    /// Returns whether the input continues with a message.
    pub(super) fn is_message_next(&self) -> bool {
        self.decodes() && self.decoder.is_data_next(self.bytes())
    }

    /// Returns whether `input`, which follows all decoded bytes, starts with a message.
    pub(super) fn starts_message(&self, input: &Input) -> bool {
        self.decoder.is_data_next(input.bytes())
    }

    /// Returns whether something is left to decode or to handle.
    pub(super) fn has_input(&self) -> bool {
        matches!(self.next, Next::Handle(_) | Next::HandleLarge(_))
            || !self.bytes().is_empty()
            || self.decoder.is_paused()
    }

    /// Returns the next message, if it is complete and no control frame comes before it.
    #[inline(always)]
    pub(super) fn message(&mut self, now: impl FnOnce() -> Moment) -> Option<Message> {
        if !self.decodes() || self.spent.is_spent() {
            return None;
        }
        if self.allowance.is_some() {
            return self.message_slow(now);
        }
        let input = self.input.as_deref_mut()?;
        let (mut undecoded, slab) = input.bytes_and_slab();
        if undecoded.is_empty() {
            return None;
        }
        if let Some(whole) = self.decoder.decode_fast(&mut undecoded) {
            let left = undecoded.len();
            if let Ok(message) = whole.into_message_in(slab, left) {
                input.keep_last(left);
                self.spent.add_frame();
                return Some(message);
            }
        }
        self.message_slow(now)
    }

    #[cold]
    fn message_slow(&mut self, now: impl FnOnce() -> Moment) -> Option<Message> {
        let now = now();
        match self.decode(now) {
            Found::Event(Event::Message(message)) => Some(message),
            Found::Nothing => None,
            found => {
                self.next = Next::Handle(Box::new(found));
                None
            }
        }
    }

    /// Returns the next item.
    pub(super) fn next(&mut self, now: Moment) -> Found {
        match mem::take(&mut self.next) {
            Next::Handle(found) => {
                if found.is_last() {
                    self.next = Next::Discard;
                }
                *found
            }
            Next::HandleLarge(message) => {
                let message = message.into_message().and_then(|message| {
                    self.check_rate(&message, now)?;
                    Ok(message)
                });
                match message {
                    Ok(message) => Found::Event(Event::Message(message)),
                    Err(violation) => {
                        self.next = Next::Discard;
                        Found::Violation(violation)
                    }
                }
            }
            Next::Decode => self.decode(now),
            Next::Discard => {
                self.next = Next::Discard;
                self.discard();
                Found::Nothing
            }
        }
    }

    /// Returns the next item. Inflates at most `budget` bytes, and returns `None` if they are used
    /// up before the item is complete.
    pub(super) fn inflate(&mut self, budget: &mut Budget, now: Moment) -> Option<Found> {
        self.decoder.set_budget(budget.left());
        let found = self.next(now);
        budget.set_left(self.decoder.budget());
        match found {
            Found::Nothing if self.decoder.is_paused() => None,
            found => Some(found),
        }
    }

    /// Counts a message against the peer's rate limits.
    fn check_rate(&mut self, message: &Message, now: Moment) -> Result<(), Violation> {
        let allowance = self.allowance.as_mut();
        match allowance.is_none_or(|allowance| allowance.take(message.len(), now)) {
            true => Ok(()),
            false => Err(Violation::TooFast),
        }
    }

    fn decode(&mut self, now: Moment) -> Found {
        let mut undecoded = self.input.as_deref().map_or(&[][..], Input::bytes);
        if undecoded.is_empty() && self.decoder.is_between_messages() {
            return Found::Nothing;
        }
        let decoded = match self.decoder.decode_fast(&mut undecoded) {
            Some(whole) => whole
                .into_message()
                .map(|message| Some(Event::Message(message))),
            None => self.decoder.decode(&mut undecoded, now),
        };
        let left = undecoded.len();
        if let Some(input) = &mut self.input {
            input.keep_last(left);
        }
        let decoded = decoded.and_then(|event| {
            if let Some(Event::Message(message)) = &event {
                self.check_rate(message, now)?;
            }
            Ok(event)
        });
        let found = match decoded {
            Ok(Some(event)) => {
                self.spent.add(1, self.decoder.take_work());
                Found::Event(event)
            }
            Ok(None) => {
                self.spent.add(0, self.decoder.take_work());
                Found::Nothing
            }
            Err(violation) => Found::Violation(violation),
        };
        if found.is_last() {
            self.next = Next::Discard;
            self.discard();
        }
        found
    }

    /// Returns the memory of a large payload, if the next bytes belong to nothing else.
    pub(super) fn direct_read(&mut self) -> Option<ReadInto<'_>> {
        self.decoder.direct_read()
    }

    /// Takes `len` bytes that were read into the buffer of [`direct_read`](Self::direct_read); 0 if nothing was
    /// read.
    pub(super) fn finish_direct_read(&mut self, len: usize, now: Moment) {
        if len == 0 {
            return self.decoder.cancel_direct_read();
        }
        self.spent.add(0, len);
        self.next = match self.decoder.finish_direct_read(len, now) {
            Ok(None) => return,
            Ok(Some(message)) => Next::HandleLarge(message),
            Err(violation) => Next::Handle(Box::new(Found::Violation(violation))),
        };
        self.spent.add(1, 0);
    }

    /// Returns whether the poll has to yield. `unwritten` bytes wait to be written. Bytes of a large payload that were
    /// read are decoded first: they would have to be copied otherwise. A large message that is complete is delivered
    /// first: otherwise each connection would hold one until its next poll.
    pub(super) fn budget_spent(&self, unwritten: usize) -> bool {
        let goes_on = matches!(self.next, Next::HandleLarge(_))
            || self.decoder.is_in_large_payload()
                && (!self.bytes().is_empty() || !self.spent.is_spent_within_large(unwritten));
        self.spent.is_spent() && !goes_on
    }

    /// Returns the number of bytes that it holds: bytes that are not decoded yet, and the message in progress.
    pub(super) fn held(&self) -> usize {
        let pending = match &self.next {
            Next::HandleLarge(message) => message.len(),
            Next::Handle(found) => match &**found {
                Found::Event(Event::Message(message)) => message.len(),
                _ => 0,
            },
            Next::Decode | Next::Discard => 0,
        };
        pending + self.decoder.len_so_far() + self.bytes().len()
    }

    /// Returns whether messages are compressed. Decoding one then takes long.
    pub(super) fn inflates(&self) -> bool {
        self.decoder.inflates()
    }

    /// Returns when the message that has begun to arrive is too slow.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.decoder.deadline()
    }

    /// Notes that a message waits for room in the inbox.
    pub(super) fn wait_for_room(&mut self, now: Moment) {
        if let Some(allowance) = &mut self.allowance {
            allowance.start_waiting(now);
        }
    }

    /// Excludes the time from `since` to `now` from the peer's deadlines and rates, because nothing
    /// was read in it.
    pub(super) fn exclude_pause(&mut self, since: Moment, now: Moment) {
        self.decoder.extend_deadline(now.since(since));
        if let Some(allowance) = &mut self.allowance {
            allowance.grant(since, now);
        }
    }

    /// Discards the bytes that are not decoded yet.
    pub(super) fn discard(&mut self) {
        if let Some(input) = self.input.take() {
            input.give_back();
        }
    }

    #[inline]
    const fn decodes(&self) -> bool {
        matches!(self.next, Next::Decode)
    }

    fn bytes(&self) -> &[u8] {
        self.input.as_deref().map_or(&[], Input::bytes)
    }
}
