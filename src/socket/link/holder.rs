//! The side of whoever holds the socket or a sender: what is received and sent, and the end of both.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;

use super::{Link, Stage, State, register};
use crate::{
    close::CloseFrame,
    codec::{Load, Outgoing, Role, Turn},
    message::Message,
    socket::{
        RecvError, SendError, TryRecvError, TrySendError,
        form::Form,
        sync::MutexGuard,
        timer::now,
        waiters::{self, Ticket, Waiters},
    },
};

impl Link {
    pub(in crate::socket) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, RecvError>> {
        let mut state = self.lock();
        if let Some(message) = state.receive() {
            state.taken = true;
            if state.crowded || state.awaited {
                self.tell_taken(state);
            }
            return Poll::Ready(Ok(Some(message)));
        }
        if !state.input_over {
            let replaced = register(&mut state.reader, cx);
            self.tell_empty(state);
            drop(replaced);
            return Poll::Pending;
        }
        Poll::Ready(self.tell_end(state).map_or(Ok(None), Err))
    }

    /// Receives as many messages as have come, at most `limit`.
    pub(in crate::socket) fn poll_recv_many(
        &self,
        messages: &mut Vec<Message>,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, RecvError>> {
        if limit == 0 {
            return Poll::Ready(Ok(0));
        }
        let first = ready!(self.poll_recv(cx))?;
        let Some(first) = first else {
            return Poll::Ready(Ok(0));
        };
        messages.push(first);
        let mut received = 1;
        let mut state = self.lock();
        while received < limit {
            let Some(message) = state.receive() else {
                break;
            };
            messages.push(message);
            received += 1;
        }
        if state.crowded || state.awaited {
            self.tell_taken(state);
        }
        Poll::Ready(Ok(received))
    }

    pub(in crate::socket) fn try_recv(&self) -> Result<Message, TryRecvError> {
        let mut state = self.lock();
        if let Some(message) = state.receive() {
            state.taken = true;
            if state.crowded || state.awaited {
                self.tell_taken(state);
            }
            return Ok(message);
        }
        if !state.input_over {
            self.tell_empty(state);
            return Err(TryRecvError::Empty);
        }
        Err(match self.tell_end(state) {
            None => TryRecvError::Ended,
            Some(fault) => TryRecvError::Failed(fault),
        })
    }

    /// Notes that the holder has found nothing to receive.
    fn tell_empty(&self, mut state: MutexGuard<'_, State>) {
        state.unanswered = false;
        let receiver = state.receiver.as_ref();
        let has_more = receiver.is_some_and(|receiver| receiver.has_input());
        if mem::take(&mut state.awaited) || has_more {
            self.touch(state, ());
        }
    }

    /// Notes that the holder has found that nothing will come any more, and returns why, once.
    fn tell_end(&self, mut state: MutexGuard<'_, State>) -> Option<RecvError> {
        let fault = state.fault.take().map(|fault| *fault);
        match mem::replace(&mut state.told, true) {
            true => fault,
            false => self.touch(state, fault),
        }
    }

    /// Wakes the connection if it waits for a message to be taken.
    #[cold]
    fn tell_taken(&self, mut state: MutexGuard<'_, State>) {
        let has_room = state.crowded && self.has_room_in(&state);
        if mem::take(&mut state.awaited) || has_room {
            state.crowded = false;
            self.touch(state, ());
        }
    }

    /// Queues a message, when there is room for it and its turn has come: else a large message
    /// might never find room among small ones.
    pub(in crate::socket) fn send(&self, message: Message) -> Sending<'_> {
        Sending::new(self, message, None)
    }

    /// Queues a message as [`send`](Self::send) does, but not compressed.
    #[cfg(feature = "deflate")]
    pub(in crate::socket) fn send_uncompressed(&self, message: Message) -> Sending<'_> {
        Sending::new(self, message, Some(Form::Plain))
    }

    pub(in crate::socket) fn try_send(&self, message: Message) -> Result<(), TrySendError> {
        let state = self.lock();
        if state.stage != Stage::Open {
            drop(state);
            return Err(TrySendError::Closed(message));
        }
        // Compressing is work, which is not done where it would be for nothing.
        if !self.is_free(&state, 1) {
            drop(state);
            return Err(TrySendError::Full(message));
        }
        drop(state);
        let form = Form::of(&message, self.compression.get());
        let Ok(turn) = form.try_turn() else {
            // The turn is another thread's, which is compressing.
            return Err(TrySendError::Full(message));
        };
        let state = self.lock();
        if state.stage != Stage::Open {
            drop(state);
            return Err(TrySendError::Closed(message));
        }
        if !self.is_free(&state, form.len(&message)) {
            drop(state);
            return Err(TrySendError::Full(message));
        }
        match self.queue(state, &message, &form, turn) {
            Ok(()) => Ok(()),
            Err(SendError::Closed) => Err(TrySendError::Closed(message)),
        }
    }

    /// Queues a message for which there is room. What is compressed in its turn is so without the
    /// lock, so that another one that does not wait for a turn may come before it.
    fn queue<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        message: &Message,
        form: &Form<'_>,
        turn: Option<Turn<'_>>,
    ) -> Result<(), SendError> {
        match (form, turn) {
            (_, Some(mut turn)) => {
                drop(state);
                let compressed = turn.compress(message.as_bytes());
                state = self.lock();
                if state.stage != Stage::Open {
                    return Err(SendError::Closed);
                }
                state.push(message, compressed.as_ref(), self.role);
            }
            (Form::Compressed(compressed), None) => {
                state.push(message, Some(compressed), self.role);
            }
            (Form::Plain | Form::InTurn(_), None) => state.push(message, None, self.role),
        }
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
        let polled = self.poll_place(&mut state, &mut place, 1, cx);
        state.sink = place;
        let left = polled.is_ready().then(|| state.take_no_waiters());
        drop(state);
        drop(left);
        polled.map(|_| Ok(()))
    }

    /// Queues a message without asking for room.
    pub(in crate::socket) fn push(&self, message: &Message) -> Result<(), SendError> {
        let form = Form::of(message, self.compression.get());
        let turn = form.turn();
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Err(SendError::Closed);
        }
        state.flushes_up_to = None;
        self.queue(state, message, &form, turn)
    }

    /// Waits until everything is written that had been sent when this was called first.
    pub(in crate::socket) fn poll_flushed(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        let queued = state.queued;
        if state.flushed >= *state.flushes_up_to.get_or_insert(queued) {
            state.flushes_up_to = None;
            return Poll::Ready(Ok(()));
        }
        if state.closed.is_some() {
            return Poll::Ready(Err(SendError::Closed));
        }
        wait(state, cx)
    }

    pub(in crate::socket) fn buffered(&self) -> Load {
        self.lock().unwritten
    }

    pub(in crate::socket) fn round_trip(&self) -> Option<Duration> {
        self.lock().round_trip
    }

    /// Returns the first Close of the connection, once there is one.
    pub(in crate::socket) fn first_close(&self) -> Option<CloseFrame> {
        self.lock().first_close.clone()?.map(|frame| *frame)
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

    /// Asks for the closing handshake; the first to ask chooses the code.
    pub(crate) fn close(&self, frame: CloseFrame) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.stage = Stage::Closing;
            state.note_close(Some(&frame));
            state.close = Some(Box::new(frame));
            state.input_over = true;
            let discarded = mem::take(&mut state.inbox);
            let wakers = state.take_wakers();
            self.touch(state, ());
            drop(discarded);
            wakers.wake();
        }
    }

    /// Has the handler of a connection that is over dropped.
    pub(crate) fn evict(&self) {
        let mut state = self.lock();
        state.evicted = true;
        self.touch(state, ());
    }

    /// Waits until the connection has ended, which fails if not everything was written before.
    pub(in crate::socket) fn poll_ended(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let state = self.lock();
        if state.closed.is_none() {
            return wait(state, cx);
        }
        Poll::Ready(match state.flushed < state.queued {
            true => Err(SendError::Closed),
            false => Ok(()),
        })
    }

    /// Discards the messages that came and those that will come.
    pub(in crate::socket) fn ignore(&self) {
        let mut state = self.lock();
        state.ignoring = true;
        let discarded = mem::take(&mut state.inbox);
        self.touch(state, ());
        drop(discarded);
    }

    /// Notes that nobody will receive any more.
    pub(in crate::socket) fn abandon(&self, panicking: bool) {
        let mut state = self.lock();
        state.abandoned = Some(panicking);
        let discarded = mem::take(&mut state.inbox);
        self.touch(state, ());
        drop(discarded);
    }

    /// Returns whether whoever comes now may queue a message of `len` bytes.
    fn is_free(&self, state: &State, len: usize) -> bool {
        let waiters = state.waiters.as_deref();
        waiters.is_none_or(|waiters| !waiters.are_first()) && self.takes(state, len)
    }

    fn takes(&self, state: &State, len: usize) -> bool {
        let waiters = state.waiters.as_deref();
        let reserved = waiters.map_or(Load::default(), Waiters::reserved);
        self.config.outbox().takes(state.unwritten, reserved, len)
    }

    /// Ready when there is room for `len` bytes and nobody waits for some who came before; else with a
    /// `place` among those who wait.
    fn poll_place(
        &self,
        state: &mut State,
        place: &mut Option<Ticket>,
        len: usize,
        cx: &Context<'_>,
    ) -> Poll<Option<Waker>> {
        let Some(ticket) = *place else {
            if self.is_free(state, len) {
                return Poll::Ready(None);
            }
            let waiters = state.waiters.get_or_insert_default();
            *place = Some(waiters.join(len, cx.waker().clone()));
            return Poll::Pending;
        };
        let has_room = self.takes(state, len);
        let waiters = state.waiters.get_or_insert_default();
        match waiters.turn_of(ticket) {
            waiters::Turn::First if has_room => {}
            waiters::Turn::Called => {}
            waiters::Turn::First | waiters::Turn::Later => {
                let _replaced = waiters.wait_on(ticket, len, cx.waker());
                return Poll::Pending;
            }
        }
        *place = None;
        Poll::Ready(waiters.leave(ticket))
    }
}

impl State {
    /// Takes the next message out of the inbox, or decodes it.
    #[inline(always)]
    fn receive(&mut self) -> Option<Message> {
        if let Some(message) = self.inbox.pop() {
            return Some(message);
        }
        if self.discards() {
            return None;
        }
        // One that is compressed takes too long to be inflated under the lock.
        let receiver = self
            .receiver
            .as_mut()
            .filter(|receiver| !receiver.inflates())?;
        let message = receiver.message(now)?;
        self.count_received(&message);
        self.unanswered = true;
        Some(message)
    }

    /// Takes the list of those who wait if there are none, to be dropped without the lock.
    fn take_no_waiters(&mut self) -> Option<Box<Waiters>> {
        self.waiters.take_if(|waiters| waiters.is_empty())
    }

    #[inline(always)]
    fn push(&mut self, message: &Message, compressed: Option<&Bytes>, role: Role) {
        let contiguous = self.contiguous;
        let outbox = self
            .outbox
            .get_or_insert_with(|| Box::new(Outgoing::new(role)));
        if self.unwritten.is_empty() {
            // While output is blocked, a shared buffer would wait with it.
            outbox.lend();
        }
        let before = outbox.load();
        match compressed {
            None => outbox.push(message, contiguous),
            Some(compressed) => outbox.push_compressed(message, compressed, contiguous),
        }
        let more = outbox.load().bytes - before.bytes;
        self.queued += more as u64;
        self.unwritten.messages += 1;
        self.unwritten.bytes += more;
        self.traffic.messages_sent += 1;
        self.traffic.bytes_sent += message.len() as u64;
    }
}

/// The future of a message that is sent.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub(in crate::socket) struct Sending<'a> {
    link: &'a Link,
    message: Message,
    /// Chosen when it is polled first: that may take long.
    form: Option<Form<'a>>,
    place: Option<Ticket>,
}

impl<'a> Sending<'a> {
    fn new(link: &'a Link, message: Message, form: Option<Form<'a>>) -> Self {
        Self {
            link,
            message,
            form,
            place: None,
        }
    }
}

impl Future for Sending<'_> {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let link = this.link;
        if this.place.is_none() && link.compression.get().is_none() {
            // What nearly always comes: there is room, and nobody waits for it.
            let mut state = link.lock();
            let bound = link.config.outbox();
            if state.stage == Stage::Open
                && state.waiters.is_none()
                && bound.takes(state.unwritten, Load::default(), this.message.len())
            {
                state.push(&this.message, None, link.role);
                return Poll::Ready(link.touch(state, Ok(())));
            }
            drop(state);
        }
        this.poll_thoroughly(cx)
    }
}

impl Sending<'_> {
    #[cold]
    fn poll_thoroughly(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = self;
        let link = this.link;
        let form = this
            .form
            .get_or_insert_with(|| Form::of(&this.message, link.compression.get()));
        let mut state = link.lock();
        if state.stage != Stage::Open {
            return Poll::Ready(Err(SendError::Closed));
        }
        let len = form.len(&this.message);
        let _left = ready!(link.poll_place(&mut state, &mut this.place, len, cx));
        let _none_left = state.take_no_waiters();
        let turn = match form {
            Form::Plain | Form::Compressed(_) => None,
            // A turn comes before the lock.
            Form::InTurn(_) => {
                drop(state);
                let turn = form.turn();
                state = link.lock();
                if state.stage != Stage::Open {
                    return Poll::Ready(Err(SendError::Closed));
                }
                turn
            }
        };
        Poll::Ready(link.queue(state, &this.message, form, turn))
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.place {
            self.link.give_up(ticket);
        }
    }
}

/// Has `cx` woken when something changes for whoever sends.
fn wait<T>(mut state: MutexGuard<'_, State>, cx: &Context<'_>) -> Poll<T> {
    let replaced = register(&mut state.writer, cx);
    drop(state);
    drop(replaced);
    Poll::Pending
}
