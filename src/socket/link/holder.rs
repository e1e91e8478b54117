//! The side of whoever holds the socket or a sender: what is received and sent, and the end of both.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::task::coop;

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
            state.taken = true;
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
    pub(in crate::socket) fn send(&self, message: Message, by: By) -> Sending<'_> {
        Sending::new(self, message, by, true)
    }

    /// Queues a message as [`send`](Self::send) does, but not compressed.
    #[cfg(feature = "deflate")]
    pub(in crate::socket) fn send_uncompressed(&self, message: Message, by: By) -> Sending<'_> {
        Sending::new(self, message, by, false)
    }

    pub(in crate::socket) fn try_send(&self, mut message: Message) -> Result<(), TrySendError> {
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
        let form = Form::of(&message, self.compression());
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
        match self.queue(state, &mut message, &form, turn) {
            Ok(()) => Ok(()),
            Err(SendError::Closed) => Err(TrySendError::Closed(message)),
        }
    }

    /// Queues a message for which there is room. What is compressed in its turn is so without the
    /// lock, so that another one that does not wait for a turn may come before it. After an error the
    /// message is as it was.
    fn queue<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        message: &mut Message,
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

    /// Queues a message without asking for room.
    pub(in crate::socket) fn push(&self, mut message: Message) -> Result<(), SendError> {
        let form = Form::of(&message, self.compression());
        let turn = form.turn();
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
        self.queue(state, &mut message, &form, turn)
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

    pub(in crate::socket) fn buffered(&self) -> Load {
        self.lock().unwritten()
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
            wakers.all().for_each(Waker::wake);
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
        Poll::Ready(match state.flushed < state.sent() {
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

    /// Queues a message, which may be empty afterwards.
    #[inline(always)]
    fn push(&mut self, message: &mut Message, compressed: Option<&Bytes>, role: Role) {
        let contiguous = self.contiguous;
        let outbox = self
            .outbox
            .get_or_insert_with(|| Box::new(Outgoing::new(role)));
        if self.writing.is_empty() {
            // While output is blocked, a shared buffer would wait with it.
            outbox.lend();
        }
        let len = message.len();
        match compressed {
            None => outbox.push(message, contiguous),
            Some(compressed) => outbox.push_compressed(message, compressed, contiguous),
        }
        self.traffic.messages_sent += 1;
        self.traffic.bytes_sent += len as u64;
    }
}

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
    compresses: bool,
    /// Where messages are compressed, chosen when it is polled first: that may take long.
    form: Option<Box<Form<'a>>>,
    place: Option<Ticket>,
}

impl<'a> Sending<'a> {
    const fn new(link: &'a Link, message: Message, by: By, compresses: bool) -> Self {
        Self {
            link,
            message,
            by,
            compresses,
            form: None,
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
        if this.place.is_none() && link.compression().is_none() {
            // What nearly always comes: there is room, and nobody waits for it.
            let mut state = link.lock();
            let bound = link.config.outbox();
            if state.stage == Stage::Open
                && state.waiters.is_none()
                && bound.takes(state.unwritten(), Load::default(), this.message.len())
            {
                if this.by == By::Holder {
                    state.flushes_up_to = None;
                }
                state.push(&mut this.message, None, link.role);
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
        let form = match link.compression().filter(|_| this.compresses) {
            None => &Form::Plain,
            Some(compression) => this
                .form
                .get_or_insert_with(|| Box::new(Form::of(&this.message, Some(compression)))),
        };
        let mut state = link.lock();
        if state.stage != Stage::Open {
            return Poll::Ready(Err(SendError::Closed));
        }
        let len = form.len(&this.message);
        // Wakers are dropped behind the lock.
        let _left = match link.take_place(&mut state, &mut this.place, len, cx) {
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
        let turn = match form {
            Form::Plain | Form::Compressed(_) => None,
            // A turn comes before the lock.
            Form::InTurn(_) => {
                drop(state);
                let turn = form.turn();
                state = link.lock();
                if state.stage != Stage::Open {
                    drop(state);
                    return Poll::Ready(Err(SendError::Closed));
                }
                turn
            }
        };
        Poll::Ready(link.queue(state, &mut this.message, form, turn))
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
