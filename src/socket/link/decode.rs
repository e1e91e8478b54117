//! Decoding: which step the connection takes next.

use std::{mem, task::Context};

use super::{Command, Link, State, uncompressed::Uncompressed};
use crate::{
    codec::{Event, Outgoing, Rules},
    socket::{
        input::Input,
        receiver::{Found, Receiver},
    },
    time::Moment,
    words::Message,
};

/// The result of [`Link::decode`].
#[derive(Debug)]
pub(in crate::socket) struct Decoded {
    pub(in crate::socket) next: Next,
    /// The holder has something to receive.
    pub(in crate::socket) delivered: bool,
    /// The holder has received a message since the last call.
    pub(in crate::socket) holder_received: bool,
    /// A message was decoded since the last call.
    pub(in crate::socket) message_decoded: bool,
    /// When the message that has begun to arrive is too slow.
    pub(in crate::socket) deadline: Option<Moment>,
    /// All queued messages are in the output.
    pub(in crate::socket) outbox_empty: bool,
}

/// The result of [`Link::fast_path`].
#[derive(Debug)]
pub(in crate::socket) enum FastPath {
    /// Like [`Next::Receive`].
    Receive,
    /// Like [`Next::Read`].
    Read {
        buffer: Option<Box<Input>>,
        message_decoded: bool,
        outbox_empty: bool,
    },
    /// Neither case applies: the caller has to [`decode`](Link::decode).
    NotTaken,
}

/// The next step of the connection.
#[derive(Debug)]
pub(in crate::socket) enum Next {
    /// Read, into this buffer if there is one.
    Read(Option<Box<Input>>),
    /// Read a large payload directly. The receiver has to be put back.
    ReadLarge(Receiver),
    /// Inflate. The receiver has to be put back.
    Inflate(Receiver),
    /// Let the handler in this task receive: it decodes the message itself.
    Receive,
    /// Wait for room in the inbox.
    Wait,
    /// Let other tasks run.
    Yield,
    /// Handle a control frame or a violation.
    Handle(Found),
    /// Run a command of the application.
    Run(Box<Command>),
}

/// One step of decoding.
enum Step {
    Deliver(Message),
    Read,
    Inflate,
    Receive,
    Wait,
    Yield,
    Handle(Found),
    Run(Box<Command>),
}

impl Link {
    /// Begins a connection from which `early` was read before. `contiguous` says that its stream
    /// writes one buffer at a time.
    pub(in crate::socket) fn begin(
        &self,
        rules: Rules,
        early: &[u8],
        contiguous: bool,
        now: Moment,
    ) {
        let mut state = self.lock();
        state.uncompressed = rules.deflation.map(Uncompressed::new).map(Box::new);
        state.outbox = Outgoing::new(self.role, contiguous);
        let allowance = self.config.allowance(now);
        state.receiver = Some(Receiver::new(rules, early, allowance));
    }

    /// Handles the two most frequent cases with the effect of [`decode`](Self::decode): the handler
    /// of this task waits and `new` input starts with a message; or all input is decoded.
    pub(in crate::socket) fn fast_path(
        &self,
        new: &mut Option<Box<Input>>,
        output: &mut Outgoing,
        cx: &Context<'_>,
    ) -> FastPath {
        let mut guard = self.lock();
        let state = &mut *guard;
        let has_command = state.has_command();
        let Some(receiver) = state.receiver.as_mut() else {
            return FastPath::NotTaken;
        };
        if has_command || !receiver.may_go_on() {
            return FastPath::NotTaken;
        }
        if new.is_none() {
            if receiver.has_input() {
                return FastPath::NotTaken;
            }
            let buffer = receiver.take_empty();
            state.clear_dirty();
            state.holder_received = false;
            let message_decoded = mem::take(&mut state.message_decoded);
            let outbox_empty = state.move_outbox_to(output);
            return FastPath::Read {
                buffer,
                message_decoded,
                outbox_empty,
            };
        }
        let reader = state.reader.as_ref();
        let handler_waits = reader.is_some_and(|reader| reader.will_wake(cx.waker()));
        let begins = new
            .as_deref()
            .is_some_and(|input| receiver.starts_message(input));
        if !handler_waits || !begins || state.message_decoded || !state.inbox.is_empty() {
            return FastPath::NotTaken;
        }
        if let Some(input) = new.take() {
            receiver.put_input(input);
        }
        state.clear_dirty();
        FastPath::Receive
    }

    /// Decodes the input, with `new` behind it, until the connection has something to do.
    ///
    /// If the handler of this task waits for a message, it decodes new input itself. Other messages
    /// go to the inbox. The outbox is moved to `output` if that is empty and nothing was delivered
    /// that the handler may answer first. Clears the dirty flag.
    pub(in crate::socket) fn decode(
        &self,
        new: Option<Box<Input>>,
        output: Option<&mut Outgoing>,
        now: Moment,
        cx: &Context<'_>,
    ) -> Decoded {
        let mut state = self.lock();
        state.clear_dirty();
        let is_new = new.is_some();
        let mut decoded = Decoded {
            next: Next::Yield,
            delivered: false,
            holder_received: mem::take(&mut state.holder_received),
            message_decoded: false,
            deadline: None,
            outbox_empty: false,
        };
        let mut others = None;
        if let Some(mut receiver) = state.receiver.take() {
            if let Some(input) = new {
                receiver.put_input(input);
            }
            let step = loop {
                let rare = state.rare.as_mut();
                if let Some(command) = rare.and_then(|rare| rare.command.take()) {
                    break Step::Run(command);
                }
                match self.step(&mut state, &mut receiver, is_new, now, cx) {
                    Step::Deliver(message) => {
                        others = state.take_other_reader(cx).or(others);
                        state.deliver(message);
                        decoded.delivered = true;
                    }
                    step => break step,
                }
            };
            decoded.deadline = receiver.deadline();
            let reads_directly = matches!(step, Step::Read) && receiver.direct_read().is_some();
            // A payload that is read directly needs no other buffer.
            let empty = match step {
                Step::Read if !reads_directly => receiver.take_empty(),
                _ => None,
            };
            decoded.next = match step {
                Step::Read if reads_directly => Next::ReadLarge(receiver),
                Step::Inflate => Next::Inflate(receiver),
                step => {
                    state.receiver = Some(receiver);
                    match step {
                        Step::Read => Next::Read(empty),
                        Step::Receive => Next::Receive,
                        Step::Wait => Next::Wait,
                        Step::Handle(found) => Next::Handle(found),
                        Step::Run(command) => Next::Run(command),
                        Step::Yield | Step::Inflate | Step::Deliver(_) => Next::Yield,
                    }
                }
            };
        }
        decoded.message_decoded = mem::take(&mut state.message_decoded);
        decoded.delivered |= matches!(decoded.next, Next::Receive);
        if let Some(output) = output.filter(|_| !decoded.delivered) {
            decoded.outbox_empty = state.move_outbox_to(output);
        }
        drop(state);
        self.wake_other_tasks(others, cx);
        decoded
    }

    fn step(
        &self,
        state: &mut State,
        receiver: &mut Receiver,
        is_new: bool,
        now: Moment,
        cx: &Context<'_>,
    ) -> Step {
        if receiver.budget_spent(state.unwritten().bytes) {
            return Step::Yield;
        }
        if !receiver.has_input() && !receiver.inflates() {
            return Step::Read;
        }
        if receiver.is_message_next() && !state.discards() {
            if !self.has_room_in(state) {
                state.inbox_full = true;
                receiver.wait_for_room(now);
                return Step::Wait;
            }
            let reader = state.reader.as_ref().filter(|_| is_new);
            let handler_waits = reader.is_some_and(|reader| reader.will_wake(cx.waker()));
            if handler_waits && state.inbox.is_empty() && !receiver.inflates() {
                return Step::Receive;
            }
        }
        if receiver.inflates() && receiver.has_input() {
            return Step::Inflate;
        }
        match receiver.next(now) {
            Found::Event(Event::Message(message)) => Step::Deliver(message),
            Found::Nothing if receiver.budget_spent(state.unwritten().bytes) => Step::Yield,
            Found::Nothing => Step::Read,
            found => Step::Handle(found),
        }
    }

    /// Puts back the receiver.
    pub(in crate::socket) fn put_back(&self, receiver: Receiver) {
        self.lock().receiver = Some(receiver);
    }

    /// Excludes the time from `since` to `now` from the peer's deadlines and rates, because nothing
    /// was read in it.
    pub(in crate::socket) fn exclude_pause(&self, since: Moment, now: Moment) {
        if let Some(receiver) = &mut self.lock().receiver {
            receiver.exclude_pause(since, now);
        }
    }
}
