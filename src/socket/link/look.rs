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
pub(in crate::socket) struct Look {
    pub(in crate::socket) next: Next,
    /// There is something for the holder of the socket.
    pub(in crate::socket) delivered: bool,
    /// The holder took a message since the last look.
    pub(in crate::socket) taken: bool,
    /// A message was decoded since the last look.
    pub(in crate::socket) heard: bool,
    /// When what has begun to arrive becomes too slow.
    pub(in crate::socket) deadline: Option<Moment>,
    /// Everything that was sent is in the output.
    pub(in crate::socket) has_taken_all: bool,
}

/// What is found at a glance.
#[derive(Debug)]
pub(in crate::socket) enum Glance {
    /// As [`Next::Receive`].
    Receive,
    /// As [`Next::Read`], behind a message that was `heard` or not.
    Read {
        buffer: Option<Box<Input>>,
        heard: bool,
        has_taken_all: bool,
    },
    /// Anything else: it has to be looked at.
    Look,
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
    Act(Found),
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
    Act(Found),
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

    /// Finds one of the two usual cases, with the same effect as [`look`](Self::look): the handler of this
    /// task waits, and a message begins with what is `new`; or everything was decoded.
    pub(in crate::socket) fn glance(
        &self,
        new: &mut Option<Box<Input>>,
        output: &mut Outgoing,
        cx: &Context<'_>,
    ) -> Glance {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(receiver) = state.receiver.as_deref_mut() else {
            return Glance::Look;
        };
        if state.close.is_some() || !receiver.is_at_rest() {
            return Glance::Look;
        }
        if new.is_none() {
            if receiver.has_input() {
                return Glance::Look;
            }
            let buffer = receiver.take_empty();
            state.wake();
            state.taken = false;
            let heard = mem::take(&mut state.heard);
            let has_taken_all = state.hand_over(output);
            return Glance::Read {
                buffer,
                heard,
                has_taken_all,
            };
        }
        let reader = state.reader.as_ref();
        let is_awaited = reader.is_some_and(|reader| reader.will_wake(cx.waker()));
        let begins = new
            .as_deref()
            .is_some_and(|input| receiver.is_message(input));
        if !is_awaited || !begins || state.heard || !state.inbox.is_empty() {
            return Glance::Look;
        }
        if let Some(input) = new.take() {
            receiver.put(input);
        }
        state.wake();
        Glance::Receive
    }

    /// Decodes what was read, and what is `new` of it, until there is something to do.
    ///
    /// A message that has just come is left to the handler where that waits for it in this task;
    /// others are put into the inbox. What was sent is moved to the `output`, if that is empty and the
    /// handler has nothing to answer first. Everything that was done counts as looked at.
    pub(in crate::socket) fn look(
        &self,
        new: Option<Box<Input>>,
        output: Option<&mut Outgoing>,
        now: Moment,
        cx: &Context<'_>,
    ) -> Look {
        let mut state = self.lock();
        state.wake();
        let is_new = new.is_some();
        let mut look = Look {
            next: Next::Yield,
            delivered: false,
            taken: mem::take(&mut state.taken),
            heard: false,
            deadline: None,
            has_taken_all: false,
        };
        let mut others = None;
        if let Some(mut receiver) = state.receiver.take() {
            if let Some(input) = new {
                receiver.put(input);
            }
            let step = loop {
                if let Some(frame) = state.close.take() {
                    break Step::Close(frame);
                }
                match self.step(&mut state, &mut receiver, is_new, now, cx) {
                    Step::Deliver(message) => {
                        others = state.take_reader_elsewhere(cx).or(others);
                        state.deliver(message);
                        look.delivered = true;
                    }
                    step => break step,
                }
            };
            look.deadline = receiver.deadline();
            let has_place = matches!(step, Step::Read) && receiver.place().is_some();
            // What is read to its place needs no buffer: the receiver keeps it.
            let empty = match step {
                Step::Read if !has_place => receiver.take_empty(),
                _ => None,
            };
            look.next = match step {
                Step::Read if has_place => Next::ReadLarge(receiver),
                Step::Inflate => Next::Inflate(receiver),
                step => {
                    state.receiver = Some(receiver);
                    match step {
                        Step::Read => Next::Read(empty),
                        Step::Receive => Next::Receive,
                        Step::Wait => Next::Wait,
                        Step::Act(found) => Next::Act(found),
                        Step::Close(frame) => Next::Close(frame),
                        Step::Yield | Step::Inflate | Step::Deliver(_) => Next::Yield,
                    }
                }
            };
        }
        look.heard = mem::take(&mut state.heard);
        look.delivered |= matches!(look.next, Next::Receive);
        if let Some(output) = output.filter(|_| !look.delivered) {
            look.has_taken_all = state.hand_over(output);
        }
        drop(state);
        self.wake_others(others, cx);
        look
    }

    fn step(
        &self,
        state: &mut State,
        receiver: &mut Receiver,
        is_new: bool,
        now: Moment,
        cx: &Context<'_>,
    ) -> Step {
        if receiver.has_spent(state.unwritten().bytes) {
            return Step::Yield;
        }
        if !receiver.has_input() && !receiver.inflates() {
            return Step::Read;
        }
        if receiver.is_message_next() && !state.discards() {
            if !self.has_room_in(state) {
                state.crowded = true;
                receiver.waits(now);
                return Step::Wait;
            }
            let reader = state.reader.as_ref().filter(|_| is_new);
            let is_awaited = reader.is_some_and(|reader| reader.will_wake(cx.waker()));
            if is_awaited && state.inbox.is_empty() && !receiver.inflates() {
                return Step::Receive;
            }
        }
        if receiver.inflates() && receiver.has_input() {
            return Step::Inflate;
        }
        match receiver.next(now) {
            Found::Event(Event::Message(message)) => Step::Deliver(message),
            Found::Nothing => Step::Read,
            found => Step::Act(found),
        }
    }

    /// Puts back the receiver.
    pub(in crate::socket) fn put_back(&self, receiver: Box<Receiver>) {
        self.lock().receiver = Some(receiver);
    }

    /// Does not hold against the peer that nothing was read from `since` until now.
    pub(in crate::socket) fn excuse(&self, since: Moment, now: Moment) {
        if let Some(receiver) = &mut self.lock().receiver {
            receiver.excuse(since, now);
        }
    }
}
