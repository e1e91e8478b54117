//! Sending: waiting for room, and queueing messages.

use std::{
    future::Future,
    mem,
    num::NonZeroU64,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::coop,
    time::{Sleep, sleep},
};

use super::{Link, Stage, State, holder::wait};
use crate::{
    codec::Load,
    socket::{
        SendError, SendTimeoutError, TrySendError,
        sync::MutexGuard,
        waiters::{self, Ticket, Waiters},
    },
    words::Message,
};

/// The caller of a send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::socket) enum Caller {
    /// The holder of the socket, usually in the connection's own task.
    Holder,
    /// A [`Sender`](crate::Sender), in any task. It spends tokio's budget.
    Sender,
}

/// The future of sending one message.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub(in crate::socket) struct SendFuture<'a> {
    link: &'a Link,
    message: Message,
    caller: Caller,
    /// The message is compressed if the handshake agreed on compression.
    compresses: bool,
    place: Option<Ticket>,
}

impl<'a> SendFuture<'a> {
    const fn new(link: &'a Link, message: Message, caller: Caller, compresses: bool) -> Self {
        Self {
            link,
            message,
            caller,
            compresses,
            place: None,
        }
    }

    /// Takes a message out that was not sent.
    fn take_message(&mut self) -> Message {
        mem::replace(&mut self.message, Message::Binary(Bytes::new()))
    }
}

impl Future for SendFuture<'_> {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.caller == Caller::Sender {
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

impl SendFuture<'_> {
    #[inline(always)]
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = self;
        let link = this.link;
        if this.place.is_none() {
            // The fast path: there is room, and no task waits for it.
            let mut state = link.lock();
            let bound = link.config.outbox();
            if state.stage == Stage::Open
                && state.waiters.is_none()
                && bound.takes(state.unwritten(), Load::default(), this.message.len())
            {
                if this.caller == Caller::Holder {
                    state.flush_target = None;
                }
                state.push(&mut this.message, this.compresses);
                return Poll::Ready(link.wake_connection(state, Ok(())));
            }
            drop(state);
        }
        this.poll_slow(cx)
    }

    #[cold]
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = self;
        let link = this.link;
        let mut state = link.lock();
        if state.stage != Stage::Open {
            return Poll::Ready(Err(SendError::Closed));
        }
        let len = this.message.len();
        // Dropped after the lock is released.
        let (room, _unneeded) = link.claim_room(&mut state, &mut this.place, len, cx);
        if room.is_pending() {
            link.wait_for_room(state);
            return Poll::Pending;
        }
        let _empty_waiters = state.take_empty_waiters();
        if this.caller == Caller::Holder {
            state.flush_target = None;
        }
        state.push(&mut this.message, this.compresses);
        Poll::Ready(link.wake_connection(state, Ok(())))
    }
}

/// The future of sending one message with a deadline.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub(in crate::socket) struct SendTimeout<'a> {
    send: SendFuture<'a>,
    limit: Duration,
    /// Set when the send first has to wait.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Future for SendTimeout<'_> {
    type Output = Result<(), SendTimeoutError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match Pin::new(&mut this.send).poll(cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(SendError::Closed)) => {
                return Poll::Ready(Err(SendTimeoutError::Closed(this.send.take_message())));
            }
            Poll::Pending => {}
        }
        let limit = this.limit;
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(SendTimeoutError::Timeout(this.send.take_message())))
    }
}

impl Drop for SendFuture<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.place {
            self.link.leave_queue(ticket);
        }
    }
}

impl Link {
    /// Queues a message once there is room and all earlier waiters have theirs. Without this order
    /// small messages could starve a large one.
    pub(in crate::socket) fn send(&self, message: Message, caller: Caller) -> SendFuture<'_> {
        SendFuture::new(self, message, caller, true)
    }

    /// Queues a message as [`send`](Self::send) does, but not compressed.
    #[cfg(feature = "deflate")]
    pub(in crate::socket) fn send_uncompressed(
        &self,
        message: Message,
        caller: Caller,
    ) -> SendFuture<'_> {
        SendFuture::new(self, message, caller, false)
    }

    /// Queues a message as [`send`](Self::send) does, and gives it up after `limit`.
    pub(in crate::socket) fn send_timeout(
        &self,
        message: Message,
        limit: Duration,
        caller: Caller,
    ) -> SendTimeout<'_> {
        SendTimeout {
            send: self.send(message, caller),
            limit,
            sleep: None,
        }
    }

    pub(in crate::socket) fn try_send(&self, mut message: Message) -> Result<(), TrySendError> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            drop(state);
            return Err(TrySendError::Closed(message));
        }
        if !self.may_send_now(&state, message.len()) {
            drop(state);
            return Err(TrySendError::Full(message));
        }
        state.push(&mut message, true);
        self.wake_connection(state, Ok(()))
    }

    /// Queues a message without checking for room.
    pub(in crate::socket) fn push(&self, message: Message) -> Result<(), SendError> {
        let mut state = self.lock();
        let place = state.take_sink_ticket();
        state.flush_target = None;
        self.push_in(state, message, place)
    }

    /// Queues a message of a [`Sender`](crate::Sender) that is a sink and has this `place`.
    pub(in crate::socket) fn push_from(
        &self,
        message: Message,
        place: &mut Option<Ticket>,
    ) -> Result<(), SendError> {
        self.push_in(self.lock(), message, place.take())
    }

    fn push_in(
        &self,
        mut state: MutexGuard<'_, State>,
        mut message: Message,
        place: Option<Ticket>,
    ) -> Result<(), SendError> {
        if state.stage != Stage::Open {
            drop(state);
            return Err(SendError::Closed);
        }
        let left = match (place, &mut state.waiters) {
            (Some(ticket), Some(waiters)) => waiters.leave(ticket),
            _ => None,
        };
        let empty_waiters = state.take_empty_waiters();
        // Dropped after the lock is released.
        let _unneeded = (left, empty_waiters);
        state.push(&mut message, true);
        self.wake_connection(state, Ok(()))
    }

    /// Waits for room for a message of `len` bytes, for the next [`push`](Self::push).
    ///
    /// A sink does not know the length of its next message. It asks for one byte, so one message may
    /// exceed the bound.
    pub(in crate::socket) fn poll_room(
        &self,
        len: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        let mut place = state.rare.as_ref().and_then(|rare| rare.sink_ticket);
        let before = place;
        let (room, unneeded) = self.poll_room_in(&mut state, &mut place, len, cx);
        if place != before {
            state.rare_mut().sink_ticket = place;
        }
        match room.is_pending() {
            true => self.wait_for_room(state),
            false => drop(state),
        }
        drop(unneeded);
        room
    }

    /// Waits for room for the next [`push_from`](Self::push_from) of a [`Sender`](crate::Sender).
    pub(in crate::socket) fn poll_room_from(
        &self,
        place: &mut Option<Ticket>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let budget = ready!(coop::poll_proceed(cx));
        let mut state = self.lock();
        let (room, unneeded) = self.poll_room_in(&mut state, place, 1, cx);
        match room.is_pending() {
            true => self.wait_for_room(state),
            false => {
                drop(state);
                budget.made_progress();
            }
        }
        drop(unneeded);
        room
    }

    /// Waits for room for a sink, which keeps its `place` in the queue until it sends. Also returns
    /// a waker to drop without the lock.
    fn poll_room_in(
        &self,
        state: &mut State,
        place: &mut Option<Ticket>,
        len: usize,
        cx: &Context<'_>,
    ) -> (Poll<Result<(), SendError>>, Option<Waker>) {
        if state.stage != Stage::Open {
            return (Poll::Ready(Err(SendError::Closed)), None);
        }
        let (room, unneeded) = match *place {
            // The room stays reserved until the message comes, if it comes.
            Some(ticket) if self.is_turn(state, ticket, len) => {
                let waiters = state.waiters.get_or_insert_default();
                (Poll::Ready(()), waiters.reserve(ticket, len))
            }
            _ => self.claim_room(state, place, len, cx),
        };
        (room.map(Ok), unneeded)
    }

    /// Releases the lock for a task that has to wait. A connection that sleeps is woken if all room is granted: it
    /// checks that those who were granted it send.
    fn wait_for_room(&self, state: MutexGuard<'_, State>) {
        match state.asleep && state.waits_for_granted() {
            true => self.wake_connection(state, ()),
            false => drop(state),
        }
    }

    /// Waits until all messages are written that were sent before the first poll.
    pub(in crate::socket) fn poll_flushed(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        let sent = state.sent();
        let target = state.flush_target.map_or(sent, NonZeroU64::get);
        state.flush_target = NonZeroU64::new(target);
        if state.flushed >= target {
            state.flush_target = None;
            return Poll::Ready(Ok(()));
        }
        if state.closed().is_some() {
            return Poll::Ready(Err(SendError::Closed));
        }
        wait(state, cx)
    }

    /// Removes the place of a dropped future or sink from the queue.
    pub(in crate::socket) fn leave_queue(&self, ticket: Ticket) {
        let mut state = self.lock();
        let left = state.waiters.as_mut().map(|waiters| waiters.leave(ticket));
        let granted = state.grant_room(self.config.outbox());
        let empty_waiters = state.take_empty_waiters();
        match granted.is_empty() {
            true => drop(state),
            // The connection checks that the granted waiters send.
            false => self.wake_connection(state, ()),
        }
        drop((left, empty_waiters));
        granted.into_iter().for_each(Waker::wake);
    }

    /// Gives up the place and the flush of a sink that is dropped while its connection stays open.
    pub(in crate::socket) fn leave_as_sink(&self) {
        let mut state = self.lock();
        state.flush_target = None;
        let place = state.take_sink_ticket();
        let writer = state.writer.take();
        drop(state);
        drop(writer);
        if let Some(ticket) = place {
            self.leave_queue(ticket);
        }
    }

    /// Returns whether a new caller may queue a message of `len` bytes at once.
    fn may_send_now(&self, state: &State, len: usize) -> bool {
        let waiters = state.waiters.as_deref();
        waiters.is_none_or(|waiters| !waiters.is_contended()) && self.has_room_for(state, len)
    }

    fn has_room_for(&self, state: &State, len: usize) -> bool {
        let waiters = state.waiters.as_deref();
        let reserved = waiters.map_or(Load::default(), Waiters::reserved);
        self.config.outbox().takes(state.unwritten(), reserved, len)
    }

    /// Returns whether a waiter may queue a message of `len` bytes.
    fn is_turn(&self, state: &State, ticket: Ticket, len: usize) -> bool {
        let waiters = state.waiters.as_ref();
        match waiters.map(|waiters| waiters.place_of(ticket)) {
            Some(waiters::Place::Granted) => true,
            Some(waiters::Place::First) => self.has_room_for(state, len),
            Some(waiters::Place::Later) | None => false,
        }
    }

    /// Claims room for `len` bytes, or a `place` in the queue if there is no room or others wait.
    /// Also returns a waker to drop without the lock.
    fn claim_room(
        &self,
        state: &mut State,
        place: &mut Option<Ticket>,
        len: usize,
        cx: &Context<'_>,
    ) -> (Poll<()>, Option<Waker>) {
        let Some(ticket) = *place else {
            if self.may_send_now(state, len) {
                return (Poll::Ready(()), None);
            }
            let waiters = state.waiters.get_or_insert_default();
            *place = Some(waiters.join(len, cx.waker().clone()));
            return (Poll::Pending, None);
        };
        let is_turn = self.is_turn(state, ticket, len);
        let waiters = state.waiters.get_or_insert_default();
        if !is_turn {
            return (Poll::Pending, waiters.keep_waiting(ticket, len, cx.waker()));
        }
        *place = None;
        (Poll::Ready(()), waiters.leave(ticket))
    }
}

impl State {
    /// Takes an empty queue out, to be dropped without the lock.
    pub(super) fn take_empty_waiters(&mut self) -> Option<Box<Waiters>> {
        self.waiters.take_if(|waiters| waiters.is_empty())
    }

    /// Queues a message, and leaves an empty one if it is moved. `compresses` allows the connection
    /// to compress it.
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
            // Only while output flows: blocked output would keep the shared buffer.
            outbox.acquire_memory();
        }
        outbox.push(message);
    }
}
