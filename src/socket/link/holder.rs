//! The side of whoever holds the socket or a sender: what is received and sent, and the end of both.

use std::{
    mem,
    sync::MutexGuard,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;

use super::{Link, Stage, State, register};
use crate::{
    close::{CloseFrame, Closed},
    codec::{Load, Outgoing, Role, Turn},
    error::{RecvError, SendError, TrySendError},
    message::Message,
    socket::{form::Form, queue::Ticket},
};

impl Link {
    pub(in crate::socket) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, RecvError>> {
        let mut state = self.lock();
        state.called = false;
        let was_full = !self.has_room_in(&state);
        if let Some(message) = state.inbox.pop() {
            state.taken = true;
            let result = Poll::Ready(Ok(Some(message)));
            let awaited = mem::take(&mut state.awaited);
            return if awaited || (was_full && self.has_room_in(&state)) {
                self.touch(state, result)
            } else {
                result
            };
        }
        if !state.input_over {
            let replaced = register(&mut state.reader, cx);
            state.unanswered = false;
            if mem::take(&mut state.awaited) {
                self.touch(state, ());
            } else {
                drop(state);
            }
            drop(replaced);
            return Poll::Pending;
        }
        let fault = state.fault.take();
        let result = Poll::Ready(fault.map_or(Ok(None), |fault| Err(*fault)));
        if mem::replace(&mut state.told, true) {
            result
        } else {
            self.touch(state, result)
        }
    }

    /// Queues a message, when there is room for it and its turn has come: else a large message
    /// might never find room among small ones.
    pub(in crate::socket) async fn send(&self, message: Message) -> Result<(), SendError> {
        let form = Form::of(&message, self.compression.get());
        self.send_as(&message, &form).await
    }

    /// Queues a message as [`send`](Self::send) does, but not compressed.
    #[cfg(feature = "deflate")]
    pub(in crate::socket) async fn send_uncompressed(
        &self,
        message: Message,
    ) -> Result<(), SendError> {
        self.send_as(&message, &Form::Plain).await
    }

    async fn send_as(&self, message: &Message, form: &Form<'_>) -> Result<(), SendError> {
        if self.offer(message, form, None)? {
            return Ok(());
        }
        let turn = Waiting::new(self);
        loop {
            let changed = self.changed.notified();
            if self.offer(message, form, Some(turn.ticket))? {
                return Ok(());
            }
            if self.buffered().is_empty() {
                // There is room for all, but no more will be made: whoever is first may take it.
                tokio::task::yield_now().await;
            } else {
                changed.await;
            }
        }
    }

    pub(in crate::socket) fn try_send(&self, message: Message) -> Result<(), TrySendError> {
        // Compressing is work, which is not done where it would be for nothing.
        let compression = self.compression.get().filter(|_| self.has_outbox_room());
        let offered = self.offer(&message, &Form::of(&message, compression), None);
        match offered {
            Ok(true) => Ok(()),
            Ok(false) => Err(TrySendError::Full(message)),
            Err(SendError::Closed) => Err(TrySendError::Closed(message)),
        }
    }

    /// Queues a message if there is room for it now, and nobody waits before it.
    fn offer(
        &self,
        message: &Message,
        form: &Form<'_>,
        ticket: Option<Ticket>,
    ) -> Result<bool, SendError> {
        let turn = form.turn();
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Err(SendError::Closed);
        }
        let nothing_unwritten = state.unwritten.is_empty();
        let is_in_turn = state.waiting.as_mut().is_none_or(|queue| {
            let is_in_turn = queue.is_turn_of(ticket);
            if !is_in_turn && nothing_unwritten {
                queue.miss();
            }
            is_in_turn
        });
        if !is_in_turn || !self.takes(&state, form.len(message)) {
            return Ok(false);
        }
        self.queue(state, message, form, turn).map(|()| true)
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
                state.push(message, Some(compressed), self.role)
            }
            (Form::Plain | Form::InTurn(_), None) => state.push(message, None, self.role),
        }
        self.traffic.sent(1, message.len());
        self.touch(state, Ok(()))
    }

    fn has_outbox_room(&self) -> bool {
        self.takes(&self.lock(), 1)
    }

    /// Waits until the next message may be pushed, whatever its size: a sink does not tell it
    /// beforehand, so that one message may exceed the bound.
    pub(in crate::socket) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        state.called = false;
        if state.stage != Stage::Open {
            return Poll::Ready(Err(SendError::Closed));
        }
        if self.takes(&state, 1) {
            return Poll::Ready(Ok(()));
        }
        state.wants_room = true;
        wait(state, cx)
    }

    /// Queues a message without asking for room.
    pub(in crate::socket) fn push(&self, message: &Message) -> Result<(), SendError> {
        let form = Form::of(message, self.compression.get());
        let turn = form.turn();
        let state = self.lock();
        if state.stage != Stage::Open {
            return Err(SendError::Closed);
        }
        self.queue(state, message, &form, turn)
    }

    pub(in crate::socket) fn poll_flushed(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        (state.called, state.wants_room) = (false, false);
        if state.discarded {
            return Poll::Ready(Err(SendError::Closed));
        }
        if !state.unflushed {
            return Poll::Ready(Ok(()));
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

    /// Returns how the connection ended, once it has.
    pub(crate) fn ending(&self) -> Option<Closed> {
        self.lock().closed.as_deref().cloned()
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
            self.changed.notify_waiters();
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }

    /// Has the handler of a connection that is over dropped.
    pub(crate) fn evict(&self) {
        let mut state = self.lock();
        state.evicted = true;
        self.touch(state, ());
    }

    /// Waits until the connection has ended, and returns how.
    pub(in crate::socket) async fn closed_as(&self) -> Closed {
        loop {
            let changed = self.changed.notified();
            if let Some(closed) = self.ending() {
                return closed;
            }
            changed.await;
        }
    }

    /// Waits until the connection has ended, which fails if not everything was written before.
    pub(in crate::socket) fn poll_ended(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let state = self.lock();
        if state.discarded {
            return Poll::Ready(Err(SendError::Closed));
        }
        if state.closed.is_some() {
            return Poll::Ready(Ok(()));
        }
        wait(state, cx)
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

    /// A message over the bound is taken when nothing else waits: else it could never be sent.
    fn takes(&self, state: &State, len: usize) -> bool {
        let bound = self.config.outbox();
        state.unwritten.is_empty()
            || (state.unwritten.messages < bound.messages
                && state.unwritten.bytes.saturating_add(len) <= bound.bytes)
    }
}

impl State {
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
        let after = outbox.load();
        self.unflushed = true;
        self.unwritten.messages += after.messages - before.messages;
        self.unwritten.bytes += after.bytes - before.bytes;
    }
}

/// A place among those who wait for room.
struct Waiting<'a> {
    link: &'a Link,
    ticket: Ticket,
}

impl<'a> Waiting<'a> {
    fn new(link: &'a Link) -> Self {
        let ticket = link.lock().waiting.get_or_insert_default().join();
        Self { link, ticket }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        let queue = state.waiting.as_mut().map(|queue| {
            queue.leave(self.ticket);
            queue.is_empty()
        });
        let left = match queue {
            Some(true) => state.waiting.take(),
            _ => None,
        };
        drop(state);
        drop(left);
        if queue == Some(false) {
            self.link.changed.notify_waiters();
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
