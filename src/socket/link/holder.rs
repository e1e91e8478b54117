//! The side of the holder of the socket: what is received, and the end.

use std::{
    mem,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use super::{Link, Stage, State, register};
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
        self.tell_taken(state);
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

    /// Receives the next message. With a context its task is woken when there is something to receive,
    /// if there is nothing now.
    #[inline(always)]
    fn receive(&self, cx: Option<&Context<'_>>) -> Received {
        let mut state = self.lock();
        if let Some(message) = state.receive() {
            self.tell_taken(state);
            return Received::Message(message);
        }
        if state.input_over {
            return Received::End(self.tell_end(state));
        }
        let replaced = cx.and_then(|cx| register(&mut state.reader, cx));
        self.tell_empty(state);
        drop(replaced);
        Received::Nothing
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
    #[inline]
    fn tell_taken(&self, state: MutexGuard<'_, State>) {
        if state.crowded || state.awaited {
            self.tell_taken_if_awaited(state);
        }
    }

    #[cold]
    fn tell_taken_if_awaited(&self, mut state: MutexGuard<'_, State>) {
        let has_room = state.crowded && self.has_room_in(&state);
        if mem::take(&mut state.awaited) || has_room {
            state.crowded = false;
            self.touch(state, ());
        }
    }

    pub(crate) fn buffered(&self) -> Load {
        self.lock().unwritten()
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.lock().round_trip
    }

    /// Returns the first Close of the connection, once there is one.
    pub(in crate::socket) fn first_close(&self) -> Option<CloseFrame> {
        self.lock().first_close.clone()?.map(|frame| *frame)
    }

    /// Asks for the closing handshake; the first to ask chooses the code.
    pub(crate) fn close(&self, frame: CloseFrame) {
        self.close_if_open(frame);
    }

    /// Closes as [`close`](Self::close) does, and returns whether this was the first to ask.
    pub(crate) fn close_if_open(&self, frame: CloseFrame) -> bool {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return false;
        }
        state.stage = Stage::Closing;
        state.note_close(Some(&frame));
        state.close = Some(Box::new(frame));
        state.input_over = true;
        let discarded = mem::take(&mut state.inbox);
        let wakers = state.take_wakers();
        self.touch(state, ());
        drop(discarded);
        wakers.all().for_each(Waker::wake);
        true
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
}

impl State {
    /// Takes the next message out of the inbox, or decodes it.
    #[inline(always)]
    fn receive(&mut self) -> Option<Message> {
        if let Some(message) = self.inbox.pop() {
            self.taken = true;
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
        self.taken = true;
        self.unanswered = true;
        Some(message)
    }
}

/// What comes of receiving.
enum Received {
    Message(Message),
    /// There is nothing yet.
    Nothing,
    /// Nothing will come any more; for this reason, which is told once.
    End(Option<RecvError>),
}

/// Has `cx` woken when something changes for whoever sends.
pub(super) fn wait<T>(mut state: MutexGuard<'_, State>, cx: &Context<'_>) -> Poll<T> {
    let replaced = register(&mut state.writer, cx);
    drop(state);
    drop(replaced);
    Poll::Pending
}
