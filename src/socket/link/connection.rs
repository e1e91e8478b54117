//! The connection's side: what arrived and was written, and when it may sleep.

use std::{
    io, mem,
    sync::{Arc, atomic::Ordering},
    task::{Context, Waker},
    time::Duration,
};

use super::{Link, Name, Stage, register, wake_others};
use crate::{
    close::{CloseFrame, Closed, Side},
    codec::{Compression, Load, Outgoing, Role},
    error::RecvError,
    message::Message,
    report,
    socket::traffic::Traffic,
};

/// What is known of the inbox.
#[derive(Clone, Copy, Debug)]
pub(in crate::socket) struct Room {
    /// Another message may be delivered.
    pub(in crate::socket) is_left: bool,
    /// The holder took a message.
    pub(in crate::socket) was_made: bool,
}

impl Link {
    pub(in crate::socket) const fn name(&self) -> &Name {
        &self.name
    }

    pub(in crate::socket) const fn role(&self) -> Role {
        self.role
    }

    pub(in crate::socket) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Tells how the stream is best written to.
    pub(in crate::socket) fn set_contiguous(&self, contiguous: bool) {
        self.lock().contiguous = contiguous;
    }

    /// Has messages compressed as was agreed on; to be called before anybody sends.
    pub(in crate::socket) fn set_compression(&self, compression: Compression) {
        // Set once: a link has one connection.
        let _ = self.compression.set(compression);
    }

    /// Notes that the handler has returned while its `WebSocket` lives on elsewhere.
    pub(in crate::socket) fn handed_on(&self) {
        self.traffic.handed_on();
        report::handed_on();
    }

    /// Returns whether the holder dropped its end, and if so whether in a panic.
    pub(in crate::socket) fn abandoned(&self) -> Option<bool> {
        self.lock().abandoned
    }

    /// Returns how long the handler may go on after the connection is over.
    pub(in crate::socket) fn handler_limit(&self) -> Duration {
        self.config.handler_limit()
    }

    /// Returns whether the handler is to be dropped.
    pub(in crate::socket) fn is_evicted(&self) -> bool {
        self.lock().evicted
    }

    /// Returns whether the holder knows that nothing will come any more, and waits for no room to
    /// answer what came before; or whether it does not want to know.
    pub(in crate::socket) fn was_told(&self) -> bool {
        let state = self.lock();
        let wants_room = state.wants_room && state.writer.is_some();
        let is_sending = state.called || wants_room;
        (state.told && !is_sending) || state.ignoring || state.abandoned.is_some()
    }

    /// Returns whether the holder may still answer what was delivered: it has not asked for more. The
    /// connection is woken when it does, and when it takes a message.
    pub(in crate::socket) fn is_unanswered(&self) -> bool {
        let mut state = self.lock();
        state.awaited = state.unanswered && !state.discards();
        state.awaited
    }

    /// Returns whether the holder took a message since this was last asked. The connection is woken
    /// when it takes another one.
    pub(in crate::socket) fn has_taken(&self) -> bool {
        let mut state = self.lock();
        state.awaited = true;
        mem::take(&mut state.taken)
    }

    /// Takes the Close that was asked for, and counts everything that was done as looked at.
    pub(in crate::socket) fn take_close(&self) -> Option<CloseFrame> {
        let mut state = self.lock();
        state.touched = false;
        // Awake, whoever woke it: what the handler does meanwhile need not wake it again.
        self.parked.store(false, Ordering::Relaxed);
        state.close.take().map(|frame| *frame)
    }

    /// Moves what waits to be written behind what is in `outgoing`.
    pub(in crate::socket) fn take_outgoing(&self, outgoing: &mut Outgoing) {
        let mut state = self.lock();
        if let Some(outbox) = &mut state.outbox {
            if outgoing.is_empty() {
                // The link would keep its buffer.
                outgoing.give_back();
                mem::swap(outgoing, outbox);
            } else if !outbox.is_empty() {
                outgoing.append(outbox);
            }
        }
    }

    /// Returns the room for messages, and whether the holder took one since this was last asked.
    pub(in crate::socket) fn room(&self) -> Room {
        let mut state = self.lock();
        Room {
            is_left: self.has_room_in(&state),
            was_made: mem::take(&mut state.taken),
        }
    }

    /// Delivers a message, unless nobody wants it any more, and tells whether there is room for
    /// another.
    pub(in crate::socket) fn deliver(&self, message: Message, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        if state.discards() {
            return true;
        }
        state.inbox.push(message);
        state.unanswered = true;
        let has_room = self.has_room_in(&state);
        let reader = state.reader.take();
        drop(state);
        wake_others([reader], cx);
        has_room
    }

    /// Makes room for what has been written, and tells whether somebody waits for it.
    pub(in crate::socket) fn written(&self, load: Load, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        state.unwritten.messages = state.unwritten.messages.saturating_sub(load.messages);
        state.unwritten.bytes = state.unwritten.bytes.saturating_sub(load.bytes);
        let waiting = state.waiting.is_some();
        if let Some(queue) = &mut state.waiting {
            queue.miss();
        }
        let writer = state.writer.take();
        state.called |= state.wants_room && writer.is_some();
        drop(state);
        if waiting {
            self.changed.notify_waiters();
        }
        let awaited = waiting || writer.is_some();
        wake_others([writer], cx);
        awaited
    }

    /// Everything that the connection has taken is written, and the stream flushed.
    pub(in crate::socket) fn flushed(&self, cx: &Context<'_>) {
        let mut state = self.lock();
        if state.unflushed && state.unwritten.is_empty() {
            state.unflushed = false;
            let writer = state.writer.take();
            drop(state);
            wake_others([writer], cx);
        }
    }

    /// The peer has closed: nothing more will be received, while what is sent may still be written.
    pub(in crate::socket) fn end_input(&self, frame: Option<&CloseFrame>, cx: &Context<'_>) {
        let mut state = self.lock();
        state.input_over = true;
        state.note_close(frame);
        let reader = state.reader.take();
        drop(state);
        wake_others([reader], cx);
    }

    /// Notes the Close that this side sends, unless one came before.
    pub(in crate::socket) fn note_close(&self, frame: &CloseFrame) {
        self.lock().note_close(Some(frame));
    }

    /// Nothing more will be received, for `fault` if it is not an ordinary Close, nor can anything
    /// be queued any more. What had been queued is moved into `outgoing`, unless there is no use.
    pub(in crate::socket) fn end(
        &self,
        fault: Option<RecvError>,
        outgoing: Option<&mut Outgoing>,
        cx: &Context<'_>,
    ) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.stage = Stage::Closing;
        }
        if !mem::replace(&mut state.input_over, true) {
            state.fault = fault.map(Box::new);
        }
        if let (Some(outgoing), Some(outbox)) = (outgoing, &mut state.outbox) {
            outgoing.append(outbox);
        }
        let wakers = state.take_wakers();
        drop(state);
        self.changed.notify_waiters();
        wake_others(wakers, cx);
    }

    /// The closing handshake is complete, or given up; only the first call counts.
    pub(in crate::socket) fn closed(&self, closed: Closed, cx: &Context<'_>) {
        let (wakers, _discarded) = self.finish(closed, None);
        wake_others(wakers, cx);
    }

    /// The connection is dropped before it came to an end, as when its runtime is shut down: nobody
    /// will be told anything by it any more.
    pub(in crate::socket) fn lost(&self) {
        let fault = RecvError::Io(io::ErrorKind::ConnectionAborted.into());
        let closed = Closed::lost(Side::Local, "aborted");
        let (wakers, _discarded) = self.finish(closed, Some(fault));
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn finish(
        &self,
        closed: Closed,
        fault: Option<RecvError>,
    ) -> ([Option<Waker>; 2], Option<Box<Outgoing>>) {
        let mut state = self.lock();
        if state.closed.is_some() {
            return ([None, None], None);
        }
        state.note_close(closed.frame());
        state.closed = Some(Box::new(closed));
        state.stage = Stage::Closed;
        if !mem::replace(&mut state.input_over, true) {
            state.fault = fault.map(Box::new);
        }
        state.unwritten = Load::default();
        state.discarded = mem::take(&mut state.unflushed);
        let discarded = mem::take(&mut state.outbox);
        let wakers = state.take_wakers();
        drop(state);
        self.changed.notify_waiters();
        (wakers, discarded)
    }

    pub(in crate::socket) fn set_round_trip(&self, round_trip: Duration) {
        self.lock().round_trip = Some(round_trip);
    }

    /// Lets the connection sleep, unless something was done that it has not looked at.
    pub(in crate::socket) fn park(&self, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        if mem::take(&mut state.touched) {
            return false;
        }
        let replaced = register(&mut state.connection, cx);
        self.parked.store(true, Ordering::Relaxed);
        drop(state);
        drop(replaced);
        true
    }

    /// Says that the connection repeats: it asks [`Traffic::touches`] before it looks here.
    pub(in crate::socket) fn set_repeats(&self) {
        self.lock().repeats = true;
    }

    /// Tells whether the connection sleeps as [`park`](Self::park) left it, with nothing to look at.
    /// Whoever does something from now on wakes the task that was parked.
    #[inline]
    pub(in crate::socket) fn is_parked(&self) -> bool {
        // Needs no lock: who changes this wakes the task after it, and what precedes a wake is seen by
        // the poll that follows.
        self.parked.load(Ordering::Relaxed)
    }
}
