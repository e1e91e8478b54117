//! The connection's side: delivering messages, reporting writes, ending, sleeping.

use std::{
    io, mem,
    num::NonZeroU64,
    sync::atomic::Ordering,
    task::{Context, Waker},
    time::Duration,
};

use super::{Command, Link, Stage, State, Traffic, Wakers, register, uncompressed::Batch};
use crate::{
    codec::{Bound, Load, Outgoing, Role},
    config::Config,
    socket::{RecvError, info::HandshakeInfo, report, sync::MutexGuard},
    words::{CloseFrame, Closed, Message, Side},
};

/// The result of [`Link::try_sleep`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::socket) enum TrySleep {
    Asleep,
    /// The dirty flag was set, or `handler_waits` for the room that became free.
    Awake {
        handler_waits: bool,
    },
    /// Granted waiters have to run first.
    Yield,
}

impl Link {
    /// Returns the counts of messages so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.lock().traffic
    }

    /// Returns whether the handler returned while its `WebSocket` lived on elsewhere.
    pub(crate) fn was_handed_on(&self) -> bool {
        self.lock().handed_on
    }

    pub(crate) const fn info(&self) -> &HandshakeInfo {
        &self.info
    }

    /// Returns the path of the request, without the query.
    pub(crate) fn path(&self) -> &str {
        self.info.request.path()
    }

    pub(in crate::socket) const fn role(&self) -> Role {
        self.role
    }

    /// Records that the handler has returned while its `WebSocket` lives on elsewhere.
    pub(in crate::socket) fn note_handed_on(&self) {
        self.lock().handed_on = true;
        report::handed_on();
    }

    /// Returns whether the handler in the connection's own task has something to do, and resets
    /// that.
    pub(in crate::socket) fn take_handler_due(&self) -> bool {
        let is_due = self.handler_is_due.load(Ordering::Relaxed);
        if is_due {
            self.handler_is_due.store(false, Ordering::Relaxed);
        }
        is_due
    }

    /// Returns whether the handler in the connection's own task has something to do.
    pub(in crate::socket) fn is_handler_due(&self) -> bool {
        self.handler_is_due.load(Ordering::Relaxed)
    }

    /// Returns `Some` once the holder has dropped its end, with whether it did so in a panic.
    pub(in crate::socket) fn abandoned(&self) -> Option<bool> {
        self.lock().abandoned
    }

    pub(in crate::socket) fn config(&self) -> &Config {
        &self.config
    }

    /// Returns whether the handler of an ended connection has to be dropped.
    pub(in crate::socket) fn is_evicted(&self) -> bool {
        self.lock().evicted
    }

    /// Returns whether the closing has nothing to wait for: the holder has received the end and
    /// does not wait to send, or it receives nothing at all.
    pub(in crate::socket) fn holder_is_done(&self) -> bool {
        let state = self.lock();
        let waiters = state.waiters.as_ref();
        let waits = |ticket| waiters.is_some_and(|waiters| waiters.has(ticket));
        let place = state.rare.as_ref().and_then(|rare| rare.sink_ticket);
        let is_sending = place.is_some_and(waits);
        (state.end_delivered && !is_sending) || state.ignores_incoming
    }

    /// Returns whether a task waits for the peer to read: for room to send, or for a flush.
    pub(in crate::socket) fn waits_for_peer(&self) -> bool {
        let state = self.lock();
        let waiters = state.waiters.as_ref();
        let waits_for_room = waiters.is_some_and(|waiters| waiters.has_tasks());
        waits_for_room
            || state
                .flush_target
                .is_some_and(|up_to| up_to.get() > state.flushed)
    }

    /// Returns whether the holder may still answer delivered messages: it has not asked for more.
    /// If so, the connection is woken when the holder asks again or receives a message.
    pub(in crate::socket) fn holder_may_answer(&self) -> bool {
        let mut state = self.lock();
        state.notify_on_receive = state.may_answer && !state.discards();
        state.notify_on_receive
    }

    /// Returns whether the holder has received a message since the last call. The connection is
    /// woken when it receives the next one.
    pub(in crate::socket) fn holder_has_received(&self) -> bool {
        let mut state = self.lock();
        state.notify_on_receive = true;
        mem::take(&mut state.holder_received)
    }

    /// Takes the Close that the application has requested. The inner value is `None` for a Close
    /// without a code. Clears the dirty flag.
    pub(in crate::socket) fn take_close(&self) -> Option<Option<CloseFrame>> {
        let mut state = self.lock();
        state.clear_dirty();
        let is_close = |command: &mut Box<Command>| matches!(**command, Command::Close(_));
        let command = state.rare.as_mut()?.command.take_if(is_close)?;
        match *command {
            Command::Close(frame) => Some(frame),
            Command::Ping => None,
        }
    }

    /// Moves the outbox to the end of `outgoing`. Returns the messages that have to be compressed
    /// and follow it; they have to be [put back](Self::put_back_batch).
    pub(in crate::socket) fn take_outgoing(&self, outgoing: &mut Outgoing) -> Option<Batch> {
        let mut state = self.lock();
        state.move_outbox_to(outgoing);
        state.append_outbox_to(outgoing);
        state.uncompressed.as_mut()?.take()
    }

    /// Puts back the rest of a batch. `added` is the load that was appended to the output.
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
        // Compression has made room.
        let granted = state.grant_room(self.config.outbox());
        drop(state);
        drop(lost);
        self.wake_other_tasks(granted, cx);
    }

    /// Returns the number of bytes that are queued and not compressed yet.
    pub(in crate::socket) fn uncompressed(&self) -> usize {
        self.lock().uncompressed().bytes
    }

    /// Delivers a message to the holder, or discards it if the holder receives none.
    pub(in crate::socket) fn deliver(&self, message: Message, cx: &Context<'_>) {
        let mut state = self.lock();
        let others = state.take_other_reader(cx);
        state.deliver(message);
        drop(state);
        self.wake_other_tasks(others, cx);
    }

    /// Frees the room of a `load` that was written. `all` says that nothing is left to write.
    /// Returns whether someone waits for room or for a flush.
    pub(in crate::socket) fn note_written(&self, load: Load, all: bool, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        let (writer, granted) = state.make_room(load, all, self.config.outbox());
        let someone_waits = writer.is_some() || !granted.is_empty() || state.waiters.is_some();
        drop(state);
        self.wake_other_tasks(writer.into_iter().chain(granted), cx);
        someone_waits
    }

    /// Ends the input, because the peer has closed. Queued messages may still be written.
    pub(in crate::socket) fn end_input(&self, frame: Option<&CloseFrame>, cx: &Context<'_>) {
        let mut state = self.lock();
        state.input_over = true;
        state.peer_closed = state.first_close().is_none();
        state.note_close(frame);
        let reader = state.reader.take();
        let pings = state.take_ping_wakers();
        drop(state);
        self.wake_other_tasks(reader.into_iter().chain(pings.into_wakers()), cx);
    }

    /// Records the Close that this side sends, unless there was one before.
    pub(in crate::socket) fn note_close(&self, frame: Option<&CloseFrame>) {
        self.lock().note_close(frame);
    }

    /// Ends input and sending, with a `fault` unless this is an ordinary Close. Moves queued
    /// messages to `outgoing`, if there is one.
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
            state.rare_mut().fault = fault.map(Box::new);
        }
        if let Some(outgoing) = outgoing {
            state.append_outbox_to(outgoing);
        }
        let wakers = state.take_wakers();
        drop(state);
        self.wake_other_tasks(wakers.all(), cx);
    }

    /// Ends the connection. Only the first call counts.
    pub(in crate::socket) fn closed(&self, closed: Closed, cx: &Context<'_>) {
        if let Some(wakers) = self.finish(closed, None) {
            self.wake_other_tasks(wakers.all(), cx);
        }
    }

    /// Ends a connection that is dropped before its end, for example with its runtime.
    pub(crate) fn abort(&self) {
        let fault = RecvError::Io(io::ErrorKind::ConnectionAborted.into());
        let closed = Closed::lost(Side::Local, "aborted");
        if let Some(wakers) = self.finish(closed, Some(fault)) {
            wakers.all().for_each(Waker::wake);
        }
    }

    /// Records the end. Returns the wakers to call, the first time.
    fn finish(&self, closed: Closed, fault: Option<RecvError>) -> Option<Wakers> {
        let mut state = self.lock();
        if state.closed().is_some() {
            return None;
        }
        state.note_close(closed.frame());
        state.rare_mut().closed = Some(Box::new(closed));
        state.stage = Stage::Closed;
        self.clear_shed();
        if !mem::replace(&mut state.input_over, true) {
            state.rare_mut().fault = fault.map(Box::new);
        }
        state.writing = Load::default();
        // An end of the link may be kept for long, so queued messages are dropped now.
        let discarded = (mem::take(&mut state.outbox), state.uncompressed.take());
        let receiver = state.receiver.take();
        let wakers = state.take_wakers();
        let watchers = mem::take(&mut state.rare_mut().watchers);
        let pings = state.take_unneeded_pings();
        #[cfg(feature = "hub")]
        let memberships = state.take_memberships();
        drop(state);
        drop((discarded, pings));
        if let Some(mut receiver) = receiver {
            receiver.discard();
        }
        watchers.wake();
        #[cfg(feature = "hub")]
        memberships.for_each(Waker::wake);
        Some(wakers)
    }

    pub(in crate::socket) fn set_round_trip(&self, round_trip: Duration) {
        let nanos = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        self.lock().round_trip = NonZeroU64::new(nanos.saturating_add(1));
    }

    /// Frees the room of a `written` and flushed load. Then lets the connection sleep, unless the
    /// dirty flag is set or someone got room.
    ///
    /// Granted waiters that have not sent yet get one yield of the task. After that they are
    /// skipped.
    pub(in crate::socket) fn try_sleep(&self, written: Option<Load>, cx: &Context<'_>) -> TrySleep {
        let mut state = self.lock();
        state.give_back_buffers();
        if state.waiters.is_some() || state.flush_target.is_some() {
            return self.try_sleep_slow(state, written, cx);
        }
        if let Some(load) = written {
            state.note_flushed(load);
        }
        self.sleep_unless_dirty(state, cx)
    }

    #[cold]
    fn try_sleep_slow(
        &self,
        mut state: MutexGuard<'_, State>,
        written: Option<Load>,
        cx: &Context<'_>,
    ) -> TrySleep {
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
        if !handler_waits && !others_first {
            return self.sleep_unless_dirty(state, cx);
        }
        drop(state);
        self.wake_other_tasks(writer.into_iter().chain(granted), cx);
        match others_first {
            true => TrySleep::Yield,
            false => TrySleep::Awake { handler_waits },
        }
    }

    #[inline]
    pub(super) fn sleep_unless_dirty(
        &self,
        mut state: MutexGuard<'_, State>,
        cx: &Context<'_>,
    ) -> TrySleep {
        // Looking at the state clears the dirty flag, but does not see that memory has to be shed.
        if mem::take(&mut state.dirty) || self.has_to_shed() {
            let handler_waits = false;
            return TrySleep::Awake { handler_waits };
        }
        let replaced = register(&mut state.connection, cx);
        state.asleep = true;
        let change = self.recount(&mut state);
        drop(state);
        drop(replaced);
        self.report_held(change);
        TrySleep::Asleep
    }

    /// Gives the buffers back that connections share. Call it at the end of each poll.
    pub(in crate::socket) fn give_back_buffers(&self) {
        let mut state = self.lock();
        state.give_back_buffers();
        let change = self.recount(&mut state);
        drop(state);
        self.report_held(change);
    }
}

impl State {
    /// Clears the dirty flag: the connection checks everything now.
    pub(super) fn clear_dirty(&mut self) {
        self.dirty = false;
        // The connection is awake already.
        self.asleep = false;
    }

    /// Moves the outbox to `output` if that is empty. Returns whether nothing is left to move or to
    /// compress.
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

    /// Moves the outbox to the end of `output`.
    fn append_outbox_to(&mut self, output: &mut Outgoing) {
        let load = self.outbox.load();
        output.append(&mut self.outbox);
        self.begin_writing(load);
    }

    fn begin_writing(&mut self, load: Load) {
        self.writing.messages += load.messages;
        self.writing.bytes += load.bytes;
    }

    /// Frees the room of a `load` that was written. `all` says that nothing is left to write.
    /// Returns the wakers of a completed flush, and of waiters that got room.
    pub(super) fn make_room(
        &mut self,
        load: Load,
        all: bool,
        bound: Bound,
    ) -> (Option<Waker>, Vec<Waker>) {
        let mut writer = None;
        if all {
            let can_flush = self.note_flushed(load);
            let is_flushed = |up_to: NonZeroU64| up_to.get() <= self.flushed;
            if can_flush && self.flush_target.is_some_and(is_flushed) {
                writer = self.writer.take();
            }
        } else {
            self.end_writing(load);
        }
        (writer, self.grant_room(bound))
    }

    /// Frees the room of a `load` that was written, with all before it and behind it. Returns whether messages may
    /// still be flushed: after the end, unwritten messages are lost.
    #[inline]
    fn note_flushed(&mut self, load: Load) -> bool {
        self.end_writing(load);
        let can_flush = self.stage != Stage::Closed && !self.is_shed;
        if can_flush {
            self.flushed = self.sent() - self.unwritten().messages as u64;
        }
        can_flush
    }

    #[inline]
    fn end_writing(&mut self, load: Load) {
        self.writing.messages = self.writing.messages.saturating_sub(load.messages);
        self.writing.bytes = self.writing.bytes.saturating_sub(load.bytes);
    }

    /// Returns whether only granted waiters, which have not sent yet, can make progress.
    pub(super) fn waits_for_granted(&self) -> bool {
        let waiters = self.waiters.as_ref();
        self.unwritten().is_empty() && waiters.is_some_and(|waiters| waiters.has_granted())
    }

    /// Skips granted waiters that have not sent, and grants the room to others.
    fn skip_granted(&mut self, bound: Bound) -> Vec<Waker> {
        if let Some(waiters) = &mut self.waiters {
            waiters.skip_granted();
        }
        self.grant_room(bound)
    }

    pub(super) fn give_back_buffers(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.end_poll();
        }
        self.outbox.release_memory();
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

    /// Takes the waker of the holder if it is another task.
    pub(super) fn take_other_reader(&mut self, cx: &Context<'_>) -> Option<Waker> {
        self.reader.take_if(|reader| !reader.will_wake(cx.waker()))
    }
}
