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
pub(in crate::socket) enum TrySleep {
    Asleep,
    /// Something was done that the connection has not looked at, or the handler `handler_waits` to use
    /// the room that was made for it.
    Awake {
        handler_waits: bool,
    },
    /// Others who wait for room get their turn first.
    Yield,
}

impl Link {
    /// Returns what the messages of the connection came to so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.lock().traffic
    }

    pub(in crate::socket) const fn name(&self) -> &Name {
        &self.name
    }

    pub(in crate::socket) const fn role(&self) -> Role {
        self.role
    }

    /// Notes that the handler has returned while its `WebSocket` lives on elsewhere.
    pub(in crate::socket) fn note_handed_on(&self) {
        self.lock().traffic.handed_on = 1;
        report::handed_on();
    }

    /// Returns whether something was done for a holder in the connection's own task since this was last
    /// asked.
    pub(in crate::socket) fn take_handler_due(&self) -> bool {
        let is_due = self.handler_is_due.load(Ordering::Relaxed);
        if is_due {
            self.handler_is_due.store(false, Ordering::Relaxed);
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
    pub(in crate::socket) fn holder_is_done(&self) -> bool {
        let state = self.lock();
        let waiters = state.waiters.as_ref();
        let waits = |ticket| waiters.is_some_and(|waiters| waiters.has(ticket));
        let is_sending = state.sink_ticket.is_some_and(waits);
        (state.end_delivered && !is_sending) || state.ignores_incoming || state.abandoned.is_some()
    }

    /// Returns whether the holder may still answer what was delivered: it has not asked for more. The
    /// connection is woken when it does, and when it takes a message.
    pub(in crate::socket) fn holder_may_answer(&self) -> bool {
        let mut state = self.lock();
        state.notify_on_receive = state.may_answer && !state.discards();
        state.notify_on_receive
    }

    /// Returns whether the holder took a message since this was last asked. The connection is woken
    /// when it takes another one.
    pub(in crate::socket) fn holder_has_received(&self) -> bool {
        let mut state = self.lock();
        state.notify_on_receive = true;
        mem::take(&mut state.holder_received)
    }

    /// Takes the Close that was asked for, and counts everything that was done as looked at.
    pub(in crate::socket) fn take_close(&self) -> Option<CloseFrame> {
        let mut state = self.lock();
        state.clear_dirty();
        state.close.take().map(|frame| *frame)
    }

    /// Moves what waits to be written behind what is in `outgoing`, and returns what is to be compressed
    /// before it is written. That has to be [put back](Self::put_back_batch).
    pub(in crate::socket) fn take_outgoing(&self, outgoing: &mut Outgoing) -> Option<Batch> {
        let mut state = self.lock();
        state.move_outbox_to(outgoing);
        state.append_outbox_to(outgoing);
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
        let granted = state.grant_room(self.config.outbox());
        drop(state);
        drop(lost);
        self.wake_other_tasks(granted, cx);
    }

    /// Returns how many bytes that were sent are not compressed yet.
    pub(in crate::socket) fn uncompressed(&self) -> usize {
        self.lock().uncompressed().bytes
    }

    /// Delivers a message, unless nobody wants it any more.
    pub(in crate::socket) fn deliver(&self, message: Message, cx: &Context<'_>) {
        let mut state = self.lock();
        let others = state.take_other_reader(cx);
        state.deliver(message);
        drop(state);
        self.wake_other_tasks(others, cx);
    }

    /// Makes room for what has been written, which is `all` if the stream has taken everything, and
    /// returns whether somebody waits for it.
    pub(in crate::socket) fn note_written(&self, load: Load, all: bool, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        let (writer, granted) = state.make_room(load, all, self.config.outbox());
        let someone_waits = writer.is_some() || !granted.is_empty() || state.waiters.is_some();
        drop(state);
        self.wake_other_tasks(writer.into_iter().chain(granted), cx);
        someone_waits
    }

    /// The peer has closed: nothing more will be received, while what is sent may still be written.
    pub(in crate::socket) fn end_input(&self, frame: Option<&CloseFrame>, cx: &Context<'_>) {
        let mut state = self.lock();
        state.input_over = true;
        state.note_close(frame);
        let reader = state.reader.take();
        drop(state);
        self.wake_other_tasks(reader, cx);
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
            state.append_outbox_to(outgoing);
        }
        let wakers = state.take_wakers();
        drop(state);
        self.wake_other_tasks(wakers.all(), cx);
    }

    /// The closing handshake is complete, or given up; only the first call counts.
    pub(in crate::socket) fn closed(&self, closed: Closed, cx: &Context<'_>) {
        if let Some(wakers) = self.finish(closed, None) {
            self.wake_other_tasks(wakers.all(), cx);
        }
    }

    /// The connection is dropped before it came to an end, as when its runtime is shut down: nobody
    /// will be told anything by it any more.
    pub(in crate::socket) fn abort(&self) {
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
    pub(in crate::socket) fn try_sleep(&self, written: Option<Load>, cx: &Context<'_>) -> TrySleep {
        let mut state = self.lock();
        state.give_back_buffers();
        let bound = self.config.outbox();
        let (writer, mut granted) = match written {
            Some(load) => state.make_room(load, true, bound),
            None => (None, Vec::new()),
        };
        let handler_waits = writer.is_some() || !granted.is_empty();
        let others_first = !handler_waits && state.waits_for_granted();
        if others_first && mem::replace(&mut state.has_yielded, true) {
            granted = state.skip_granted(bound);
        }
        if mem::take(&mut state.dirty) || handler_waits || others_first {
            drop(state);
            self.wake_other_tasks(writer.into_iter().chain(granted), cx);
            return match others_first {
                true => TrySleep::Yield,
                false => TrySleep::Awake { handler_waits },
            };
        }
        let replaced = register(&mut state.connection, cx);
        state.asleep = true;
        drop(state);
        drop(replaced);
        TrySleep::Asleep
    }

    /// Gives back the buffers that are shared with other connections; to be called when a poll ends.
    pub(in crate::socket) fn give_back_buffers(&self) {
        self.lock().give_back_buffers();
    }
}

impl State {
    /// Counts everything that was done as looked at.
    pub(super) fn clear_dirty(&mut self) {
        self.dirty = false;
        // Whoever woke the connection: what the handler does meanwhile need not wake it again.
        self.asleep = false;
    }

    /// Moves what was sent to the output, if that is empty; returns whether nothing is left.
    pub(super) fn move_outbox_to(&mut self, output: &mut Outgoing) -> bool {
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
    fn append_outbox_to(&mut self, output: &mut Outgoing) {
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
            if self.flush_target.is_some_and(is_flushed) {
                writer = self.writer.take();
            }
        }
        (writer, self.grant_room(bound))
    }

    /// Returns whether some who wait for room were called and have not come, and nothing else will
    /// make room.
    fn waits_for_granted(&self) -> bool {
        let waiters = self.waiters.as_ref();
        self.unwritten().is_empty() && waiters.is_some_and(|waiters| waiters.has_granted())
    }

    /// Passes over those who were called and have not come, and calls others.
    fn skip_granted(&mut self, bound: Bound) -> Vec<Waker> {
        if let Some(waiters) = &mut self.waiters {
            waiters.skip_granted();
        }
        self.grant_room(bound)
    }

    fn give_back_buffers(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.end_poll();
        }
        self.outbox.give_back();
    }

    pub(super) fn deliver(&mut self, message: Message) {
        self.count_received(&message);
        if !self.discards() {
            self.inbox.push(message);
            self.may_answer = true;
        }
    }

    pub(super) fn count_received(&mut self, message: &Message) {
        self.message_decoded = true;
        self.traffic.messages_received += 1;
        self.traffic.bytes_received += message.len() as u64;
    }

    /// Takes the waker of a holder that is another task than this one.
    pub(super) fn take_other_reader(&mut self, cx: &Context<'_>) -> Option<Waker> {
        self.reader.take_if(|reader| !reader.will_wake(cx.waker()))
    }
}
