//! What was read of a connection, and what it decodes to.

use crate::time::Moment;

use super::{
    budget::{Share, Spent},
    input::Input,
};
use crate::{
    codec::{Assembly, Decoder, Event, ReadBuffers, Rules, Violation},
    time::rate::Allowance,
    words::Message,
};

/// The receiving half of a connection, without its stream.
#[derive(Debug)]
pub(super) struct Receiver {
    decoder: Decoder,
    /// Mostly nothing.
    input: Option<Box<Input>>,
    /// What was decoded and is the connection's to act on, before anything behind it is decoded.
    stopped: Option<Stopped>,
    /// What was decoded during this poll of the connection.
    spent: Spent,
    /// A Close or a violation was decoded: nothing behind it is.
    is_over: bool,
    /// How much the peer may send, if that is bounded. Elsewhere, because few layers ask for it.
    allowance: Option<Box<Allowance>>,
}

#[derive(Debug)]
enum Stopped {
    Found(Box<Found>),
    /// A large message that was read to its place.
    Placed(Box<Assembly>),
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Found {
    /// A whole message, or a control frame.
    Event(Event),
    /// The peer broke a rule: nothing more is decoded.
    Violation(Violation),
    /// Nothing is whole: more has to be read.
    Nothing,
}

impl Receiver {
    /// Makes one for a stream of which `early` has been read already.
    pub(super) fn new(rules: Rules, early: &[u8], allowance: Option<Box<Allowance>>) -> Self {
        Self {
            decoder: Decoder::new(rules),
            input: Input::holding(early),
            stopped: None,
            spent: Spent::default(),
            is_over: false,
            allowance,
        }
    }

    /// Takes over what was read, when everything before it is decoded.
    pub(super) fn put(&mut self, input: Box<Input>) {
        self.spent.add(0, input.bytes().len());
        self.input = Some(input);
    }

    /// Returns the shared buffer if it is empty, to be read into.
    pub(super) fn take_empty(&mut self) -> Option<Box<Input>> {
        Input::take_empty(&mut self.input)
    }

    /// Gives the shared buffer back; to be called when a poll of the connection ends.
    pub(super) fn rest(&mut self) {
        Input::rest(&mut self.input);
        self.spent = Spent::default();
    }

    /// Returns whether nothing has begun and nothing is left to be acted on, and what comes next may be
    /// decoded in this poll.
    pub(super) fn is_at_rest(&self) -> bool {
        self.stopped.is_none()
            && !self.is_over
            && !self.inflates()
            && self.decoder.is_between_messages()
            && !self.spent.is_enough()
    }

    /// Returns whether a message begins at the front of the input.
    pub(super) fn is_message_next(&self) -> bool {
        self.stopped.is_none() && self.decoder.is_data_next(self.bytes())
    }

    /// Returns whether a message begins at the front of what was read, behind all that is decoded.
    pub(super) fn is_message(&self, input: &Input) -> bool {
        self.decoder.is_data_next(input.bytes())
    }

    /// Returns whether there is something to decode.
    pub(super) fn has_input(&self) -> bool {
        self.stopped.is_some() || !self.bytes().is_empty() || self.decoder.is_paused()
    }

    /// Returns the next message, if it is whole and nothing else comes before it.
    #[inline(always)]
    pub(super) fn message(&mut self, now: impl FnOnce() -> Moment) -> Option<Message> {
        if self.stopped.is_some() || self.spent.is_enough() {
            return None;
        }
        if self.allowance.is_some() {
            return self.message_of_any_kind(now);
        }
        let input = self.input.as_deref_mut()?;
        let (mut undecoded, slab) = input.bytes_and_slab();
        if undecoded.is_empty() {
            return None;
        }
        if let Some(whole) = self.decoder.decode_fast(&mut undecoded) {
            let left = undecoded.len();
            if let Ok(message) = whole.into_message_in(slab, left) {
                input.keep(left);
                self.spent.add_frame();
                return Some(message);
            }
        }
        self.message_of_any_kind(now)
    }

    #[cold]
    fn message_of_any_kind(&mut self, now: impl FnOnce() -> Moment) -> Option<Message> {
        let now = now();
        match self.decode(now) {
            Found::Event(Event::Message(message)) => Some(message),
            Found::Nothing => None,
            found => {
                self.stopped = Some(Stopped::Found(Box::new(found)));
                None
            }
        }
    }

    /// Returns what comes next.
    pub(super) fn next(&mut self, now: Moment) -> Found {
        match self.stopped.take() {
            Some(Stopped::Found(found)) => *found,
            Some(Stopped::Placed(message)) => {
                let message = message.into_message().and_then(|message| {
                    self.allow(&message, now)?;
                    Ok(message)
                });
                match message {
                    Ok(message) => Found::Event(Event::Message(message)),
                    Err(violation) => {
                        self.is_over = true;
                        Found::Violation(violation)
                    }
                }
            }
            None => self.decode(now),
        }
    }

    /// Returns what comes next, as far as a poll's `share` of inflating goes: `None` if it is used up.
    pub(super) fn inflate(&mut self, share: &mut Share, now: Moment) -> Option<Found> {
        self.decoder.set_budget(share.left());
        let found = self.next(now);
        share.set_left(self.decoder.budget());
        match found {
            Found::Nothing if self.decoder.is_paused() => None,
            found => Some(found),
        }
    }

    /// Counts a message against what the peer may send.
    fn allow(&mut self, message: &Message, now: Moment) -> Result<(), Violation> {
        let allowance = self.allowance.as_mut();
        match allowance.is_none_or(|allowance| allowance.take(message.len(), now)) {
            true => Ok(()),
            false => Err(Violation::TooFast),
        }
    }

    fn decode(&mut self, now: Moment) -> Found {
        let mut undecoded = self.input.as_deref().map_or(&[][..], Input::bytes);
        if self.is_over {
            self.discard();
            return Found::Nothing;
        }
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
            input.keep(left);
        }
        let decoded = decoded.and_then(|event| {
            if let Some(Event::Message(message)) = &event {
                self.allow(message, now)?;
            }
            Ok(event)
        });
        self.is_over = matches!(decoded, Ok(Some(Event::Close(_))) | Err(_));
        if self.is_over {
            self.discard();
        }
        match decoded {
            Ok(Some(event)) => {
                self.spent.add(1, self.decoder.take_work());
                Found::Event(event)
            }
            Ok(None) => {
                self.spent.add(0, self.decoder.take_work());
                Found::Nothing
            }
            Err(violation) => Found::Violation(violation),
        }
    }

    /// Returns where the next bytes can be read to, if they are for a large payload alone.
    pub(super) fn place(&mut self) -> Option<ReadBuffers<'_>> {
        self.decoder.direct_read()
    }

    /// Takes `len` bytes that were read to their place; none if nothing was read.
    pub(super) fn placed(&mut self, len: usize, now: Moment) {
        if len == 0 {
            return self.decoder.cancel_direct_read();
        }
        self.spent.add(0, len);
        self.stopped = Some(match self.decoder.finish_direct_read(len, now) {
            Ok(None) => return,
            Ok(Some(message)) => Stopped::Placed(message),
            Err(violation) => {
                self.is_over = true;
                Stopped::Found(Box::new(Found::Violation(violation)))
            }
        });
        self.spent.add(1, 0);
    }

    /// Returns whether other tasks have to get their turn, while `unwritten` bytes wait to be
    /// written.
    pub(super) fn has_spent(&self, unwritten: usize) -> bool {
        self.spent.is_enough()
            && (!self.decoder.is_in_large_payload() || self.spent.is_enough_within(unwritten))
    }

    /// Returns whether messages are compressed, so that decoding one takes long.
    pub(super) fn inflates(&self) -> bool {
        self.decoder.inflates()
    }

    /// Returns when what has begun to arrive becomes too slow.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.decoder.deadline()
    }

    /// Notes that a message waits for room.
    pub(super) fn waits(&mut self, now: Moment) {
        if let Some(allowance) = &mut self.allowance {
            allowance.start_waiting(now);
        }
    }

    /// Does not hold against the peer that nothing was read from `since` until now.
    pub(super) fn excuse(&mut self, since: Moment, now: Moment) {
        self.decoder.extend_deadline(now.since(since));
        if let Some(allowance) = &mut self.allowance {
            allowance.grant(since, now);
        }
    }

    /// Discards what is not decoded yet.
    pub(super) fn discard(&mut self) {
        if let Some(input) = self.input.take() {
            input.give_back();
        }
    }

    fn bytes(&self) -> &[u8] {
        self.input.as_deref().map_or(&[], Input::bytes)
    }
}
