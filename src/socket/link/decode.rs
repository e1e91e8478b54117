//! What the connection finds when it looks at what was read, and at what was done meanwhile.

use std::{mem, task::Context};

use super::{Link, State, uncompressed::Uncompressed};
use crate::{
    codec::{Event, Outgoing, Rules},
    socket::{
        input::Input,
        receiver::{Found, Receiver},
    },
    time::Moment,
    words::{CloseFrame, Message},
};

/// What comes of a look.
#[derive(Debug)]
pub(in crate::socket) struct Decoded {
    pub(in crate::socket) next: Next,
    /// There is something for the holder of the socket.
    pub(in crate::socket) delivered: bool,
    /// The holder took a message since the last look.
    pub(in crate::socket) holder_received: bool,
    /// A message was decoded since the last look.
    pub(in crate::socket) message_decoded: bool,
    /// When what has begun to arrive becomes too slow.
    pub(in crate::socket) deadline: Option<Moment>,
    /// Everything that was sent is in the output.
    pub(in crate::socket) outbox_empty: bool,
}

/// What is found at a glance.
#[derive(Debug)]
pub(in crate::socket) enum FastPath {
    /// As [`Next::Receive`].
    Receive,
    /// As [`Next::Read`], behind a message that was `message_decoded` or not.
    Read {
        buffer: Option<Box<Input>>,
        message_decoded: bool,
        outbox_empty: bool,
    },
    /// Neither case applies: the caller has to [`decode`](Link::decode).
    NotTaken,
}

/// What is to be done next.
#[derive(Debug)]
pub(in crate::socket) enum Next {
    /// Reading, into this buffer if there is one.
    Read(Option<Box<Input>>),
    /// Reading to the place of a large payload, which takes the receiver until it is put back.
    ReadLarge(Box<Receiver>),
    /// Inflating, which takes the receiver until it is put back.
    Inflate(Box<Receiver>),
    /// Nothing before the handler of this very task has received: it decodes what has come.
    Receive,
    /// Nothing before there is room for another message.
    Wait,
    /// Letting other tasks run.
    Yield,
    /// Acting on this.
    Handle(Found),
    /// Closing, as somebody has asked for.
    Close(Box<CloseFrame>),
}

/// What comes of looking at the input once.
enum Step {
    Deliver(Message),
    Read,
    Inflate,
    Receive,
    Wait,
    Yield,
    Handle(Found),
    Close(Box<CloseFrame>),
}

impl Link {
    /// Begins a connection: what was read of it already is decoded by these rules, and its stream
    /// writes one buffer at a time if it is `contiguous`.
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
        state.receiver = Some(Box::new(Receiver::new(rules, early, allowance)));
    }

    /// Finds one of the two usual cases, with the same effect as [`decoded`](Self::decoded): the handler of this
    /// task waits, and a message begins with what is `new`; or everything was decoded.
    pub(in crate::socket) fn fast_path(
        &self,
        new: &mut Option<Box<Input>>,
        output: &mut Outgoing,
        cx: &Context<'_>,
    ) -> FastPath {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(receiver) = state.receiver.as_deref_mut() else {
            return FastPath::NotTaken;
        };
        if state.close.is_some() || !receiver.is_idle() {
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

    /// Decodes what was read, and what is `new` of it, until there is something to do.
    ///
    /// A message that has just come is left to the handler where that waits for it in this task;
    /// others are put into the inbox. What was sent is moved to the `output`, if that is empty and the
    /// handler has nothing to answer first. Everything that was done counts as looked at.
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
                if let Some(frame) = state.close.take() {
                    break Step::Close(frame);
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
            let has_place = matches!(step, Step::Read) && receiver.place().is_some();
            // What is read to its place needs no buffer: the receiver keeps it.
            let empty = match step {
                Step::Read if !has_place => receiver.take_empty(),
                _ => None,
            };
            decoded.next = match step {
                Step::Read if has_place => Next::ReadLarge(receiver),
                Step::Inflate => Next::Inflate(receiver),
                step => {
                    state.receiver = Some(receiver);
                    match step {
                        Step::Read => Next::Read(empty),
                        Step::Receive => Next::Receive,
                        Step::Wait => Next::Wait,
                        Step::Handle(found) => Next::Handle(found),
                        Step::Close(frame) => Next::Close(frame),
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
            Found::Nothing => Step::Read,
            found => Step::Handle(found),
        }
    }

    /// Puts back the receiver.
    pub(in crate::socket) fn put_back(&self, receiver: Box<Receiver>) {
        self.lock().receiver = Some(receiver);
    }

    /// Does not hold against the peer that nothing was read from `since` until now.
    pub(in crate::socket) fn exclude_pause(&self, since: Moment, now: Moment) {
        if let Some(receiver) = &mut self.lock().receiver {
            receiver.exclude_pause(since, now);
        }
    }
}
