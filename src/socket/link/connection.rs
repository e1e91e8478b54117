//! The connection's side: what arrived and was written, and when it may sleep.

use std::{
    io, mem,
    sync::atomic::Ordering,
    task::{Context, Waker},
    time::Duration,
};

use super::{Link, Stage, State, Traffic, Wakers, register, uncompressed::Batch};
use crate::{
    codec::{Load, Outgoing, Role},
    config::{Bound, Config},
    socket::{
        RecvError,
        report::{self, Name},
    },
    words::{CloseFrame, Closed, Message, Side},
};

/// Whether the task may sleep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::socket) enum Parked {
    Asleep,
    /// Something was done that the connection has not looked at, or the handler `is_awaited` to use
    /// the room that was made for it.
    Awake {
        is_awaited: bool,
    },
    /// Others who wait for room get their turn first.
    Yields,
}

impl Link {
    /// Returns what the messages of the connection came to so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.lock().traffic
    }

    /// Returns whether the handler returned while its `WebSocket` lived on elsewhere.
    pub(crate) fn was_handed_on(&self) -> bool {
        self.lock().handed_on
    }

    pub(crate) const fn name(&self) -> &Name {
        &self.name
    }

    pub(in crate::socket) const fn role(&self) -> Role {
        self.role
    }

    /// Notes that the handler has returned while its `WebSocket` lives on elsewhere.
    pub(in crate::socket) fn handed_on(&self) {
        self.lock().handed_on = true;
        report::handed_on();
    }

    /// Returns whether something was done for a holder in the connection's own task since this was last
    /// asked.
    pub(in crate::socket) fn is_own_due(&self) -> bool {
        let is_due = self.own_is_due.load(Ordering::Relaxed);
        if is_due {
            self.own_is_due.store(false, Ordering::Relaxed);
        }
        is_due
    }

    /// Returns whether the holder dropped its end, and if so whether in a panic.
    pub(in crate::socket) fn abandoned(&self) -> Option<bool> {
        self.lock().abandoned
    }

    pub(in crate::socket) fn config(&self) -> &Config {
        &self.config
    }

    /// Returns whether the handler is to be dropped.
    pub(in crate::socket) fn is_evicted(&self) -> bool {
        self.lock().evicted
    }

    /// Returns whether the holder knows that nothing will come any more, and waits for no room to
    /// answer what came before; or whether it does not want to know.
    pub(in crate::socket) fn was_told(&self) -> bool {
        let state = self.lock();
        let waiters = state.waiters.as_ref();
        let waits = |ticket| waiters.is_some_and(|waiters| waiters.has(ticket));
        let is_sending = state.sink.is_some_and(waits);
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
        state.wake();
        state.close.take().map(|frame| *frame)
    }

    /// Moves what waits to be written behind what is in `outgoing`, and returns what is to be compressed
    /// before it is written. That has to be [put back](Self::put_back_batch).
    pub(in crate::socket) fn take_outgoing(&self, outgoing: &mut Outgoing) -> Option<Batch> {
        let mut state = self.lock();
        state.hand_over(outgoing);
        state.append_to(outgoing);
        state.uncompressed.as_mut()?.take()
    }

    /// Puts back what is left of a batch, of which so much was added to the output.
    pub(in crate::socket) fn put_back_batch(&self, batch: Batch, added: Load, cx: &Context<'_>) {
        let mut state = self.lock();
        let lost = match &mut state.uncompressed {
            Some(uncompressed) => {
                uncompressed.put_back(batch);
                None
            }
            None => Some(batch),
        };
        state.begin_writing(added);
        // Compressed, messages take less room.
        let called = state.call_waiters(self.config.outbox());
        drop(state);
        drop(lost);
        self.wake_others(called, cx);
    }

    /// Returns how many bytes that were sent are not compressed yet.
    pub(in crate::socket) fn uncompressed(&self) -> usize {
        self.lock().uncompressed().bytes
    }

    /// Delivers a message, unless nobody wants it any more.
    pub(in crate::socket) fn deliver(&self, message: Message, cx: &Context<'_>) {
        let mut state = self.lock();
        let others = state.take_reader_elsewhere(cx);
        state.deliver(message);
        drop(state);
        self.wake_others(others, cx);
    }

    /// Makes room for what has been written, which is `all` if the stream has taken everything, and
    /// returns whether somebody waits for it.
    pub(in crate::socket) fn written(&self, load: Load, all: bool, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        let (writer, called) = state.make_room(load, all, self.config.outbox());
        let is_awaited = writer.is_some() || !called.is_empty() || state.waiters.is_some();
        drop(state);
        self.wake_others(writer.into_iter().chain(called), cx);
        is_awaited
    }

    /// The peer has closed: nothing more will be received, while what is sent may still be written.
    pub(in crate::socket) fn end_input(&self, frame: Option<&CloseFrame>, cx: &Context<'_>) {
        let mut state = self.lock();
        state.input_over = true;
        state.note_close(frame);
        let reader = state.reader.take();
        drop(state);
        self.wake_others(reader, cx);
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
        if let Some(outgoing) = outgoing {
            state.append_to(outgoing);
        }
        let wakers = state.take_wakers();
        drop(state);
        self.wake_others(wakers.all(), cx);
    }

    /// The closing handshake is complete, or given up; only the first call counts.
    pub(in crate::socket) fn closed(&self, closed: Closed, cx: &Context<'_>) {
        if let Some(wakers) = self.finish(closed, None) {
            self.wake_others(wakers.all(), cx);
        }
    }

    /// The connection is dropped before it came to an end, as when its runtime is shut down: nobody
    /// will be told anything by it any more.
    pub(in crate::socket) fn lost(&self) {
        let fault = RecvError::Io(io::ErrorKind::ConnectionAborted.into());
        let closed = Closed::lost(Side::Local, "aborted");
        if let Some(wakers) = self.finish(closed, Some(fault)) {
            wakers.all().for_each(Waker::wake);
        }
    }

    /// Returns whom to wake, the first time.
    fn finish(&self, closed: Closed, fault: Option<RecvError>) -> Option<Wakers> {
        let mut state = self.lock();
        if state.closed.is_some() {
            return None;
        }
        state.note_close(closed.frame());
        state.closed = Some(Box::new(closed));
        state.stage = Stage::Closed;
        if !mem::replace(&mut state.input_over, true) {
            state.fault = fault.map(Box::new);
        }
        state.writing = Load::default();
        // Whoever keeps an end of the link keeps nothing that was on its way.
        let discarded = (mem::take(&mut state.outbox), state.uncompressed.take());
        let receiver = state.receiver.take();
        let wakers = state.take_wakers();
        let watchers = mem::take(&mut state.watchers);
        drop(state);
        drop(discarded);
        if let Some(mut receiver) = receiver {
            receiver.discard();
        }
        watchers.wake();
        Some(wakers)
    }

    pub(in crate::socket) fn set_round_trip(&self, round_trip: Duration) {
        self.lock().round_trip = Some(round_trip);
    }

    /// Makes room for what has been `written` and flushed, and lets the connection sleep, unless
    /// something was done that it has not looked at.
    pub(in crate::socket) fn park(&self, written: Option<Load>, cx: &Context<'_>) -> Parked {
        let mut state = self.lock();
        state.rest();
        let bound = self.config.outbox();
        let (writer, mut called) = match written {
            Some(load) => state.make_room(load, true, bound),
            None => (None, Vec::new()),
        };
        let is_awaited = writer.is_some() || !called.is_empty();
        let others_first = !is_awaited && state.awaits_waiters();
        if others_first && mem::replace(&mut state.has_waited, true) {
            called = state.pass_over(bound);
        }
        if mem::take(&mut state.touched) || is_awaited || others_first {
            drop(state);
            self.wake_others(writer.into_iter().chain(called), cx);
            return match others_first {
                true => Parked::Yields,
                false => Parked::Awake { is_awaited },
            };
        }
        let replaced = register(&mut state.connection, cx);
        state.parked = true;
        drop(state);
        drop(replaced);
        Parked::Asleep
    }

    /// Gives back the buffers that are shared with other connections; to be called when a poll ends.
    pub(in crate::socket) fn rest(&self) {
        self.lock().rest();
    }
}

impl State {
    /// Counts everything that was done as looked at.
    pub(super) fn wake(&mut self) {
        self.touched = false;
        // Whoever woke the connection: what the handler does meanwhile need not wake it again.
        self.parked = false;
    }

    /// Moves what was sent to the output, if that is empty; returns whether nothing is left.
    pub(super) fn hand_over(&mut self, output: &mut Outgoing) -> bool {
        let is_all = self.uncompressed().is_empty();
        let load = self.outbox.load();
        if load.is_empty() {
            return is_all;
        }
        if !output.is_empty() {
            return false;
        }
        output.swap(&mut self.outbox);
        self.begin_writing(load);
        is_all
    }

    /// Moves what was sent behind what is in the output.
    fn append_to(&mut self, output: &mut Outgoing) {
        let load = self.outbox.load();
        output.append(&mut self.outbox);
        self.begin_writing(load);
    }

    fn begin_writing(&mut self, load: Load) {
        self.writing.messages += load.messages;
        self.writing.bytes += load.bytes;
    }

    /// Makes room for what has been written, which is `all` if the stream has taken everything.
    /// Returns whom to wake: whoever waits for a flush, and those who get the room.
    fn make_room(&mut self, load: Load, all: bool, bound: Bound) -> (Option<Waker>, Vec<Waker>) {
        self.writing.messages = self.writing.messages.saturating_sub(load.messages);
        self.writing.bytes = self.writing.bytes.saturating_sub(load.bytes);
        let mut writer = None;
        // What is lost with its connection is not written.
        if all && self.stage != Stage::Closed {
            self.flushed = self.sent() - self.unwritten().messages as u64;
            let is_flushed = |up_to| up_to <= self.flushed;
            if self.flushes_up_to.is_some_and(is_flushed) {
                writer = self.writer.take();
            }
        }
        (writer, self.call_waiters(bound))
    }

    /// Returns whether some who wait for room were called and have not come, and nothing else will
    /// make room.
    fn awaits_waiters(&self) -> bool {
        let waiters = self.waiters.as_ref();
        self.unwritten().is_empty() && waiters.is_some_and(|waiters| waiters.awaits_some())
    }

    /// Passes over those who were called and have not come, and calls others.
    fn pass_over(&mut self, bound: Bound) -> Vec<Waker> {
        if let Some(waiters) = &mut self.waiters {
            waiters.pass_over();
        }
        self.call_waiters(bound)
    }

    fn rest(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.rest();
        }
        self.outbox.give_back();
    }

    pub(super) fn deliver(&mut self, message: Message) {
        self.count_received(&message);
        if !self.discards() {
            self.inbox.push(message);
            self.unanswered = true;
        }
    }

    pub(super) fn count_received(&mut self, message: &Message) {
        self.heard = true;
        self.traffic.messages_received += 1;
        self.traffic.bytes_received += message.len() as u64;
    }

    /// Takes the waker of a holder that is another task than this one.
    pub(super) fn take_reader_elsewhere(&mut self, cx: &Context<'_>) -> Option<Waker> {
        self.reader.take_if(|reader| !reader.will_wake(cx.waker()))
    }
}
