//! The side of the socket's holder: receiving, closing, waiting for the end.

use std::{
    mem,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use super::{Command, Link, Stage, State, register};
use crate::{
    codec::Load,
    socket::{RecvError, SendError, TryRecvError, sync::MutexGuard, timer::now},
    words::{CloseFrame, Message},
};

impl Link {
    pub(in crate::socket) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, RecvError>> {
        match self.receive(Some(cx)) {
            Received::Message(message) => Poll::Ready(Ok(Some(message))),
            Received::Nothing => Poll::Pending,
            Received::End(fault) => Poll::Ready(fault.map_or(Ok(None), Err)),
        }
    }

    /// Receives all messages that have arrived, at most `limit`.
    pub(in crate::socket) fn poll_recv_many(
        &self,
        messages: &mut Vec<Message>,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, RecvError>> {
        if limit == 0 {
            return Poll::Ready(Ok(0));
        }
        let Some(first) = ready!(self.poll_recv(cx))? else {
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
        self.notify_received(state);
        Poll::Ready(Ok(received))
    }

    pub(in crate::socket) fn try_recv(&self) -> Result<Message, TryRecvError> {
        match self.receive(None) {
            Received::Message(message) => Ok(message),
            Received::Nothing => Err(TryRecvError::Empty),
            Received::End(None) => Err(TryRecvError::Ended),
            Received::End(Some(fault)) => Err(TryRecvError::Failed(fault)),
        }
    }

    /// Receives the next message. If there is none, the task of `cx` is woken by the next change.
    #[inline(always)]
    fn receive(&self, cx: Option<&Context<'_>>) -> Received {
        let mut state = self.lock();
        if let Some(message) = state.receive() {
            self.notify_received(state);
            return Received::Message(message);
        }
        if state.input_over {
            return Received::End(self.deliver_end(state));
        }
        let replaced = cx.and_then(|cx| register(&mut state.reader, cx));
        self.notify_empty(state);
        drop(replaced);
        Received::Nothing
    }

    /// Records that the holder has found nothing to receive, and wakes the connection if it waits
    /// for that.
    fn notify_empty(&self, mut state: MutexGuard<'_, State>) {
        state.may_answer = false;
        let receiver = state.receiver.as_ref();
        let has_more = receiver.is_some_and(|receiver| receiver.has_input());
        if mem::take(&mut state.notify_on_receive) || has_more {
            self.wake_connection(state, ());
        }
    }

    /// Records that the holder has received the end. Returns the fault, once.
    fn deliver_end(&self, mut state: MutexGuard<'_, State>) -> Option<RecvError> {
        let fault = state.rare.as_mut().and_then(|rare| rare.fault.take());
        let fault = fault.map(|fault| *fault);
        match mem::replace(&mut state.end_delivered, true) {
            true => fault,
            false => self.wake_connection(state, fault),
        }
    }

    /// Wakes the connection if it waits for the holder to receive a message.
    #[inline]
    fn notify_received(&self, state: MutexGuard<'_, State>) {
        if state.inbox_full || state.notify_on_receive {
            self.notify_received_slow(state);
        }
    }

    #[cold]
    fn notify_received_slow(&self, mut state: MutexGuard<'_, State>) {
        let has_room = state.inbox_full && self.has_room_in(&state);
        if mem::take(&mut state.notify_on_receive) || has_room {
            state.inbox_full = false;
            self.wake_connection(state, ());
        }
    }

    pub(crate) fn buffered(&self) -> Load {
        self.lock().unwritten()
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let nanos = self.lock().round_trip?;
        Some(Duration::from_nanos(nanos.get() - 1))
    }

    /// Returns the first Close of the connection, if there was one.
    pub(in crate::socket) fn first_close(&self) -> Option<CloseFrame> {
        self.lock().first_close()?.clone()
    }

    /// Returns the first Close of the connection if the peer has sent it. The inner value is `None`
    /// if it had no code.
    pub(in crate::socket) fn peer_close(&self) -> Option<Option<CloseFrame>> {
        let state = self.lock();
        let first = state.first_close().filter(|_| state.peer_closed);
        first.cloned()
    }

    /// Starts the closing handshake. The first call chooses the code.
    pub(crate) fn close(&self, frame: CloseFrame) {
        self.close_if_open(frame);
    }

    /// Closes as [`close`](Self::close) does, with a Close without a code.
    pub(in crate::socket) fn close_without_code(&self) {
        self.begin_close(None);
    }

    /// Closes as [`close`](Self::close) does, and returns whether this was the first to ask.
    pub(crate) fn close_if_open(&self, frame: CloseFrame) -> bool {
        self.begin_close(Some(frame))
    }

    fn begin_close(&self, frame: Option<CloseFrame>) -> bool {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return false;
        }
        state.stage = Stage::Closing;
        state.note_close(frame.as_ref());
        state.rare_mut().command = Some(Box::new(Command::Close(frame)));
        state.input_over = true;
        let discarded = mem::take(&mut state.inbox);
        let wakers = state.take_wakers();
        self.wake_connection(state, ());
        drop(discarded);
        wakers.all().for_each(Waker::wake);
        true
    }

    /// Makes the session drop the handler of an ended connection.
    pub(crate) fn evict(&self) {
        let mut state = self.lock();
        state.evicted = true;
        self.wake_connection(state, ());
    }

    /// Waits for the end of the connection. Fails if a message was not written.
    pub(in crate::socket) fn poll_ended(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let state = self.lock();
        if state.closed().is_none() {
            return wait(state, cx);
        }
        Poll::Ready(match state.flushed < state.sent() {
            true => Err(SendError::Closed),
            false => Ok(()),
        })
    }

    /// Discards all messages, those in the inbox and later ones.
    pub(in crate::socket) fn ignore_incoming(&self) {
        let mut state = self.lock();
        state.ignores_incoming = true;
        let discarded = mem::take(&mut state.inbox);
        self.wake_connection(state, ());
        drop(discarded);
    }

    /// Adds a part to the holder's end. Each part calls [`abandon`](Self::abandon) when it is
    /// dropped.
    pub(in crate::socket) fn add_part(&self) {
        self.lock().further_parts += 1;
    }

    /// Records that the holder has dropped a part of its end. It has dropped its end with the last
    /// part.
    pub(in crate::socket) fn abandon(&self, panicking: bool) {
        let mut state = self.lock();
        state.part_panicked |= panicking;
        if state.further_parts > 0 {
            state.further_parts -= 1;
            return;
        }
        state.abandoned = Some(state.part_panicked);
        state.ignores_incoming = true;
        let discarded = mem::take(&mut state.inbox);
        self.wake_connection(state, ());
        drop(discarded);
    }
}

impl State {
    /// Takes the next message out of the inbox, or decodes it.
    #[inline(always)]
    fn receive(&mut self) -> Option<Message> {
        if let Some(message) = self.inbox.pop() {
            self.holder_received = true;
            return Some(message);
        }
        if self.discards() {
            return None;
        }
        // Inflating takes too long under the lock.
        let receiver = self
            .receiver
            .as_mut()
            .filter(|receiver| !receiver.inflates())?;
        let message = receiver.message(now)?;
        self.count_received(&message);
        self.holder_received = true;
        self.may_answer = true;
        Some(message)
    }
}

/// The result of receiving.
enum Received {
    Message(Message),
    /// Nothing has arrived yet.
    Nothing,
    /// No message will come. The reason is returned once.
    End(Option<RecvError>),
}

/// Registers the waker of a holder that waits for a flush or for the end.
pub(super) fn wait<T>(mut state: MutexGuard<'_, State>, cx: &Context<'_>) -> Poll<T> {
    let replaced = register(&mut state.writer, cx);
    drop(state);
    drop(replaced);
    Poll::Pending
}
