//! Sending: waiting for room, and queueing what is to be written.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use tokio::task::coop;

use super::{Link, Stage, State, holder::wait};
use crate::{
    codec::Load,
    socket::{
        SendError, TrySendError,
        waiters::{self, Ticket, Waiters},
    },
    words::Message,
};

/// Who sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::socket) enum By {
    /// The holder of the socket, usually in the connection's own task.
    Holder,
    /// Another task, which spends its budget of tokio's.
    Sender,
}

/// The future of a message that is sent.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub(in crate::socket) struct Sending<'a> {
    link: &'a Link,
    message: Message,
    by: By,
    /// Where messages are compressed.
    compresses: bool,
    place: Option<Ticket>,
}

impl<'a> Sending<'a> {
    const fn new(link: &'a Link, message: Message, by: By, compresses: bool) -> Self {
        Self {
            link,
            message,
            by,
            compresses,
            place: None,
        }
    }
}

impl Future for Sending<'_> {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.by == By::Sender {
            let budget = ready!(coop::poll_proceed(cx));
            let sent = this.poll_send(cx);
            if sent.is_ready() {
                budget.made_progress();
            }
            return sent;
        }
        this.poll_send(cx)
    }
}

impl Sending<'_> {
    #[inline(always)]
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = self;
        let link = this.link;
        if this.place.is_none() {
            // The usual case: there is room, and nobody waits for it.
            let mut state = link.lock();
            let bound = link.config.outbox();
            if state.stage == Stage::Open
                && state.waiters.is_none()
                && bound.takes(state.unwritten(), Load::default(), this.message.len())
            {
                if this.by == By::Holder {
                    state.flushes_up_to = None;
                }
                state.push(&mut this.message, this.compresses);
                return Poll::Ready(link.touch(state, Ok(())));
            }
            drop(state);
        }
        this.poll_thoroughly(cx)
    }

    #[cold]
    fn poll_thoroughly(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = self;
        let link = this.link;
        let mut state = link.lock();
        if state.stage != Stage::Open {
            return Poll::Ready(Err(SendError::Closed));
        }
        // Wakers are dropped behind the lock.
        let _left = match link.take_place(&mut state, &mut this.place, this.message.len(), cx) {
            Ok(left) => left,
            Err(replaced) => {
                drop(state);
                drop(replaced);
                return Poll::Pending;
            }
        };
        let _none_left = state.take_no_waiters();
        if this.by == By::Holder {
            state.flushes_up_to = None;
        }
        state.push(&mut this.message, this.compresses);
        Poll::Ready(link.touch(state, Ok(())))
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.place {
            self.link.give_up(ticket);
        }
    }
}

impl Link {
    /// Queues a message, when there is room for it and its turn has come: else a large message
    /// might never find room among small ones.
    pub(in crate::socket) fn send(&self, message: Message, by: By) -> Sending<'_> {
        Sending::new(self, message, by, true)
    }

    /// Queues a message as [`send`](Self::send) does, but not compressed.
    #[cfg(feature = "deflate")]
    pub(in crate::socket) fn send_uncompressed(&self, message: Message, by: By) -> Sending<'_> {
        Sending::new(self, message, by, false)
    }

    pub(in crate::socket) fn try_send(&self, mut message: Message) -> Result<(), TrySendError> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            drop(state);
            return Err(TrySendError::Closed(message));
        }
        if !self.is_free(&state, message.len()) {
            drop(state);
            return Err(TrySendError::Full(message));
        }
        state.push(&mut message, true);
        self.touch(state, Ok(()))
    }

    /// Queues a message without asking for room.
    pub(in crate::socket) fn push(&self, mut message: Message) -> Result<(), SendError> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Err(SendError::Closed);
        }
        state.flushes_up_to = None;
        let sink = state.sink.take();
        let left = match (sink, &mut state.waiters) {
            (Some(ticket), Some(waiters)) => waiters.leave(ticket),
            _ => None,
        };
        let none_left = state.take_no_waiters();
        // Dropped behind the lock.
        let _unneeded = (left, none_left);
        state.push(&mut message, true);
        self.touch(state, Ok(()))
    }

    /// Waits until the next message may be pushed, whatever its size: a sink does not tell it
    /// beforehand, so that one message may exceed the bound.
    pub(in crate::socket) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Poll::Ready(Err(SendError::Closed));
        }
        let mut place = state.sink.take();
        // The room stays set aside until the message comes: it may never come.
        let unneeded = match place {
            Some(ticket) if self.is_turn(&state, ticket, 1) => {
                let waiters = state.waiters.get_or_insert_default();
                Ok(waiters.set_aside(ticket, 1))
            }
            _ => self.take_place(&mut state, &mut place, 1, cx),
        };
        state.sink = place;
        drop(state);
        match unneeded {
            Ok(_) => Poll::Ready(Ok(())),
            Err(_) => Poll::Pending,
        }
    }

    /// Waits until everything is written that had been sent when this was called first.
    pub(in crate::socket) fn poll_flushed(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        let sent = state.sent();
        if state.flushed >= *state.flushes_up_to.get_or_insert(sent) {
            state.flushes_up_to = None;
            return Poll::Ready(Ok(()));
        }
        if state.closed.is_some() {
            return Poll::Ready(Err(SendError::Closed));
        }
        wait(state, cx)
    }

    /// Takes somebody out of those who wait for room.
    fn give_up(&self, ticket: Ticket) {
        let mut state = self.lock();
        let left = state.waiters.as_mut().map(|waiters| waiters.leave(ticket));
        let called = state.call_waiters(self.config.outbox());
        let none_left = state.take_no_waiters();
        match called.is_empty() {
            true => drop(state),
            // It looks whether they come.
            false => self.touch(state, ()),
        }
        drop((left, none_left));
        called.into_iter().for_each(Waker::wake);
    }

    /// Returns whether whoever comes now may queue a message of `len` bytes.
    fn is_free(&self, state: &State, len: usize) -> bool {
        let waiters = state.waiters.as_deref();
        waiters.is_none_or(|waiters| !waiters.come_first()) && self.takes(state, len)
    }

    fn takes(&self, state: &State, len: usize) -> bool {
        let waiters = state.waiters.as_deref();
        let reserved = waiters.map_or(Load::default(), Waiters::reserved);
        self.config.outbox().takes(state.unwritten(), reserved, len)
    }

    /// Returns whether somebody who waits may take the room for `len` bytes.
    fn is_turn(&self, state: &State, ticket: Ticket, len: usize) -> bool {
        let waiters = state.waiters.as_ref();
        match waiters.map(|waiters| waiters.turn_of(ticket)) {
            Some(waiters::Turn::Called) => true,
            Some(waiters::Turn::First) => self.takes(state, len),
            Some(waiters::Turn::Later) | None => false,
        }
    }

    /// Takes the room for `len` bytes if there is some and nobody who came before waits for it; else a
    /// `place` among those who wait. Returns the waker that is not needed any more in both cases.
    fn take_place(
        &self,
        state: &mut State,
        place: &mut Option<Ticket>,
        len: usize,
        cx: &Context<'_>,
    ) -> Result<Option<Waker>, Option<Waker>> {
        let Some(ticket) = *place else {
            if self.is_free(state, len) {
                return Ok(None);
            }
            let waiters = state.waiters.get_or_insert_default();
            *place = Some(waiters.join(len, cx.waker().clone()));
            return Err(None);
        };
        let is_turn = self.is_turn(state, ticket, len);
        let waiters = state.waiters.get_or_insert_default();
        if !is_turn {
            return Err(waiters.wait_on(ticket, len, cx.waker()));
        }
        *place = None;
        Ok(waiters.leave(ticket))
    }
}

impl State {
    /// Takes the list of those who wait if there are none, to be dropped without the lock.
    fn take_no_waiters(&mut self) -> Option<Box<Waiters>> {
        self.waiters.take_if(|waiters| waiters.is_empty())
    }

    /// Queues a message, which may be empty afterwards, and which the connection compresses if it
    /// `compresses` and that was agreed on.
    #[inline(always)]
    fn push(&mut self, message: &mut Message, compresses: bool) {
        self.traffic.messages_sent += 1;
        self.traffic.bytes_sent += message.len() as u64;
        let uncompressed = self.uncompressed.as_mut();
        if uncompressed.is_some_and(|uncompressed| uncompressed.push(message, compresses)) {
            return;
        }
        let outbox = &mut self.outbox;
        if self.writing.is_empty() {
            // While output is blocked, a shared buffer would wait with it.
            outbox.acquire_memory();
        }
        outbox.push(message);
    }
}
