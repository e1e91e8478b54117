//! What the ends of a connection share: two bounded queues and who waits for what.
//!
//! The lock is held for a few moves and never across an await; wakers are called after it is
//! released. Messages are compressed without it; those that refer to each other, in the order in
//! which they are queued, which a lock of their own keeps, taken before this one.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{form::Form, traffic::Traffic};
use crate::{
    close::{CloseFrame, Closed, Side},
    codec::{Compression, Load, Outgoing, Turn},
    config::{Bound, Config},
    error::{RecvError, SendError, TrySendError},
    message::Message,
};

/// How often the first who waits for room may not ask for it before it loses its turn.
const OPPORTUNITIES: usize = 16;

/// The shared state of one connection.
#[derive(Debug)]
pub(crate) struct Link {
    inbox: Bound,
    outbox: Bound,
    traffic: Arc<Traffic>,
    /// Set before anybody sends.
    compression: OnceLock<Compression>,
    state: Mutex<State>,
    /// Told when there may be room for more to be sent.
    room: Notify,
    /// Told when the connection has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    inbox: VecDeque<Message>,
    inbox_bytes: usize,
    /// Nothing will be added to the inbox any more.
    input_over: bool,
    /// Why, told once, after the inbox is empty.
    fault: Option<RecvError>,
    /// The holder has been told that nothing will come any more.
    told: bool,
    /// The holder has dropped its end; the value says whether in a panic.
    abandoned: Option<bool>,

    /// What the connection has not taken yet.
    outbox: Outgoing,
    /// What is not written yet: the outbox, and what the connection has taken of it.
    unwritten: Load,
    /// Some of it will never be.
    discarded: bool,
    /// Something was sent since the stream was flushed.
    unflushed: bool,
    /// Those who wait for room, in the order in which they get it.
    waiting: VecDeque<u64>,
    next_ticket: u64,
    /// How often room was made, or asked for by others, since the first of them has asked for it.
    missed: usize,
    /// The stream writes one buffer at a time.
    contiguous: bool,

    stage: Stage,
    /// The Close that this side wants to send.
    close: Option<CloseFrame>,
    closed: Option<Closed>,
    round_trip: Option<Duration>,

    reader: Option<Waker>,
    writer: Option<Waker>,
    connection: Option<Waker>,
    /// The connection sleeps and has to be woken.
    parked: bool,
    /// Something was done that the connection has not looked at.
    touched: bool,
}

/// How far the connection is from its end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    #[default]
    Open,
    /// A Close was asked for or sent: nothing can be queued any more.
    Closing,
    /// The closing handshake is complete, or given up.
    Closed,
}

impl Link {
    pub(crate) fn new(config: &Config, traffic: Arc<Traffic>) -> Self {
        Self {
            inbox: config.inbox(),
            outbox: config.outbox(),
            traffic,
            compression: OnceLock::new(),
            state: Mutex::default(),
            room: Notify::new(),
            ended: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so the state is whole whatever a thread did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes the connection if it sleeps.
    fn touch<T>(&self, mut state: MutexGuard<'_, State>, result: T) -> T {
        state.touched = true;
        let parked = mem::take(&mut state.parked);
        let waker = if parked {
            state.connection.take()
        } else {
            None
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}

/// The side of whoever holds the socket or a sender.
impl Link {
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, RecvError>> {
        let mut state = self.lock();
        let was_full = !self.has_room_in(&state);
        if let Some(message) = state.inbox.pop_front() {
            state.inbox_bytes -= message.len();
            let result = Poll::Ready(Ok(Some(message)));
            return if was_full && self.has_room_in(&state) {
                self.touch(state, result)
            } else {
                result
            };
        }
        if !state.input_over {
            let replaced = register(&mut state.reader, cx);
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        let fault = state.fault.take();
        let result = Poll::Ready(fault.map_or(Ok(None), Err));
        if mem::replace(&mut state.told, true) {
            result
        } else {
            self.touch(state, result)
        }
    }

    /// Queues a message, when there is room for it and its turn has come: else a large message
    /// might never find room among small ones.
    pub(super) async fn send(&self, message: Message) -> Result<(), SendError> {
        let form = Form::of(&message, self.compression.get());
        self.send_as(&message, &form).await
    }

    /// Queues a message as [`send`](Self::send) does, but not compressed.
    #[cfg(feature = "deflate")]
    pub(super) async fn send_uncompressed(&self, message: Message) -> Result<(), SendError> {
        self.send_as(&message, &Form::Plain).await
    }

    async fn send_as(&self, message: &Message, form: &Form<'_>) -> Result<(), SendError> {
        if self.offer(message, form, None)? {
            return Ok(());
        }
        let turn = Waiting::new(self);
        loop {
            let room = self.room.notified();
            if self.offer(message, form, Some(turn.ticket))? {
                return Ok(());
            }
            if self.buffered().is_empty() {
                // There is room for all, but no more will be made: whoever is first may take it.
                tokio::task::yield_now().await;
            } else {
                room.await;
            }
        }
    }

    pub(super) fn try_send(&self, message: Message) -> Result<(), TrySendError> {
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
        ticket: Option<u64>,
    ) -> Result<bool, SendError> {
        let turn = form.turn();
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Err(SendError::Closed);
        }
        let is_first = ticket.is_some() && state.waiting.front() == ticket.as_ref();
        if is_first {
            state.missed = 0;
        }
        let is_in_turn = is_first || state.waiting.is_empty() || state.is_first_asleep();
        if !is_in_turn && state.unwritten.is_empty() {
            state.missed += 1;
        }
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
                state.push(message, compressed.as_ref());
            }
            (Form::Compressed(compressed), None) => state.push(message, Some(compressed)),
            (Form::Plain | Form::InTurn(_), None) => state.push(message, None),
        }
        self.traffic.sent(message.len());
        self.touch(state, Ok(()))
    }

    fn has_outbox_room(&self) -> bool {
        self.takes(&self.lock(), 1)
    }

    /// Waits until the next message may be pushed, whatever its size: a sink does not tell it
    /// beforehand, so that one message may exceed the bound.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Poll::Ready(Err(SendError::Closed));
        }
        if self.takes(&state, 1) {
            return Poll::Ready(Ok(()));
        }
        let replaced = register(&mut state.writer, cx);
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Queues a message without asking for room.
    pub(super) fn push(&self, message: &Message) -> Result<(), SendError> {
        let form = Form::of(message, self.compression.get());
        let turn = form.turn();
        let state = self.lock();
        if state.stage != Stage::Open {
            return Err(SendError::Closed);
        }
        self.queue(state, message, &form, turn)
    }

    pub(super) fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        if state.discarded {
            return Poll::Ready(Err(SendError::Closed));
        }
        if !state.unflushed {
            return Poll::Ready(Ok(()));
        }
        let replaced = register(&mut state.writer, cx);
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    pub(super) fn buffered(&self) -> Load {
        self.lock().unwritten
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.lock().round_trip
    }

    /// Tells how the connection ended, once it has.
    pub(crate) fn ending(&self) -> Option<Closed> {
        self.lock().closed.clone()
    }

    /// Asks for the closing handshake; the first to ask chooses the code.
    pub(crate) fn close(&self, frame: CloseFrame) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.stage = Stage::Closing;
            state.close = Some(frame);
            state.input_over = true;
            let discarded = state.take_inbox();
            let wakers = state.take_wakers();
            self.touch(state, ());
            drop(discarded);
            self.room.notify_waiters();
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }

    /// Waits until the connection has ended, and tells how.
    pub(super) async fn closed_as(&self) -> Closed {
        loop {
            let ended = self.ended.notified();
            if let Some(closed) = self.ending() {
                return closed;
            }
            ended.await;
        }
    }

    /// Waits until the connection has ended, which fails if not everything was written before.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        if state.discarded {
            return Poll::Ready(Err(SendError::Closed));
        }
        if state.closed.is_some() {
            return Poll::Ready(Ok(()));
        }
        let replaced = register(&mut state.writer, cx);
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Notes that nobody will receive any more.
    pub(super) fn abandon(&self, panicking: bool) {
        let mut state = self.lock();
        state.abandoned = Some(panicking);
        let discarded = state.take_inbox();
        self.touch(state, ());
        drop(discarded);
    }
}

/// The connection's side.
impl Link {
    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Tells how the stream is best written to.
    pub(super) fn set_contiguous(&self, contiguous: bool) {
        self.lock().contiguous = contiguous;
    }

    /// Has messages compressed as was agreed on; to be called before anybody sends.
    pub(super) fn set_compression(&self, compression: Compression) {
        // Set once: a link has one connection.
        let _ = self.compression.set(compression);
    }

    /// Tells whether the holder dropped its end, and if so whether in a panic.
    pub(super) fn abandoned(&self) -> Option<bool> {
        self.lock().abandoned
    }

    /// Tells whether the holder knows that nothing will come any more.
    pub(super) fn was_told(&self) -> bool {
        let state = self.lock();
        state.told || state.abandoned.is_some()
    }

    /// Takes the Close that was asked for, and counts everything that was done as looked at.
    pub(super) fn take_close(&self) -> Option<CloseFrame> {
        let mut state = self.lock();
        state.touched = false;
        // Awake, whoever woke it: what the handler does meanwhile need not wake it again.
        state.parked = false;
        state.close.take()
    }

    /// Moves what waits to be written behind what is in `outgoing`.
    pub(super) fn take_outgoing(&self, outgoing: &mut Outgoing) {
        let mut state = self.lock();
        if outgoing.is_empty() {
            mem::swap(outgoing, &mut state.outbox);
        } else if !state.outbox.is_empty() {
            outgoing.append(&mut state.outbox);
        }
    }

    /// Tells whether another message may be delivered.
    pub(super) fn has_room(&self) -> bool {
        self.has_room_in(&self.lock())
    }

    /// Delivers a message, unless nobody wants it any more.
    pub(super) fn deliver(&self, message: Message, cx: &Context<'_>) {
        let mut state = self.lock();
        if state.input_over || state.abandoned.is_some() {
            return;
        }
        state.inbox_bytes += message.len();
        state.inbox.push_back(message);
        let reader = state.reader.take();
        drop(state);
        wake_others([reader], cx);
    }

    /// Makes room for what has been written, and tells whether somebody waits for it.
    pub(super) fn written(&self, load: Load, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        state.unwritten.messages = state.unwritten.messages.saturating_sub(load.messages);
        state.unwritten.bytes = state.unwritten.bytes.saturating_sub(load.bytes);
        let waiting = !state.waiting.is_empty();
        state.missed += 1;
        let writer = state.writer.take();
        drop(state);
        if waiting {
            self.room.notify_waiters();
        }
        let awaited = waiting || writer.is_some();
        wake_others([writer], cx);
        awaited
    }

    /// Everything that the connection has taken is written, and the stream flushed.
    pub(super) fn flushed(&self, cx: &Context<'_>) {
        let mut state = self.lock();
        if state.unflushed && state.unwritten.is_empty() {
            state.unflushed = false;
            let writer = state.writer.take();
            drop(state);
            wake_others([writer], cx);
        }
    }

    /// Nothing more will be received, while what is sent may still be written.
    pub(super) fn end_input(&self, cx: &Context<'_>) {
        let mut state = self.lock();
        state.input_over = true;
        let reader = state.reader.take();
        drop(state);
        wake_others([reader], cx);
    }

    /// Nothing more will be received, for `fault` if it is not an ordinary Close, nor can anything
    /// be queued any more. What had been queued is moved into `outgoing`, unless there is no use.
    pub(super) fn end(
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
            state.fault = fault;
        }
        if let Some(outgoing) = outgoing {
            outgoing.append(&mut state.outbox);
        }
        let wakers = state.take_wakers();
        drop(state);
        self.room.notify_waiters();
        wake_others(wakers, cx);
    }

    /// The closing handshake is complete, or given up; only the first call counts.
    pub(super) fn closed(&self, closed: Closed, cx: &Context<'_>) {
        let (wakers, _discarded) = self.finish(closed, None);
        wake_others(wakers, cx);
    }

    /// The connection is dropped before it came to an end, as when its runtime is shut down: nobody
    /// will be told anything by it any more.
    pub(super) fn lost(&self) {
        let fault = RecvError::Io(io::ErrorKind::ConnectionAborted.into());
        let closed = Closed::new(Side::Local, None, false);
        let (wakers, _discarded) = self.finish(closed, Some(fault));
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn finish(&self, closed: Closed, fault: Option<RecvError>) -> ([Option<Waker>; 2], Outgoing) {
        let mut state = self.lock();
        if state.closed.is_some() {
            return ([None, None], Outgoing::default());
        }
        state.closed = Some(closed);
        state.stage = Stage::Closed;
        if !mem::replace(&mut state.input_over, true) {
            state.fault = fault;
        }
        state.unwritten = Load::default();
        state.discarded = mem::take(&mut state.unflushed);
        let discarded = mem::take(&mut state.outbox);
        let wakers = state.take_wakers();
        drop(state);
        self.room.notify_waiters();
        self.ended.notify_waiters();
        (wakers, discarded)
    }

    pub(super) fn set_round_trip(&self, round_trip: Duration) {
        self.lock().round_trip = Some(round_trip);
    }

    /// Lets the connection sleep, unless something was done that it has not looked at.
    pub(super) fn park(&self, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        if mem::take(&mut state.touched) {
            return false;
        }
        let replaced = register(&mut state.connection, cx);
        state.parked = true;
        drop(state);
        drop(replaced);
        true
    }

    fn has_room_in(&self, state: &State) -> bool {
        state.inbox.len() < self.inbox.messages && state.inbox_bytes < self.inbox.bytes
    }

    /// A message over the bound is taken when nothing else waits: else it could never be sent.
    fn takes(&self, state: &State, len: usize) -> bool {
        state.unwritten.is_empty()
            || (state.unwritten.messages < self.outbox.messages
                && state.unwritten.bytes.saturating_add(len) <= self.outbox.bytes)
    }
}

impl State {
    fn push(&mut self, message: &Message, compressed: Option<&Bytes>) {
        let before = self.outbox.load();
        match compressed {
            None => self.outbox.push(message, self.contiguous),
            Some(compressed) => {
                self.outbox
                    .push_compressed(message, compressed, self.contiguous);
            }
        }
        let after = self.outbox.load();
        self.unflushed = true;
        self.unwritten.messages += after.messages - before.messages;
        self.unwritten.bytes += after.bytes - before.bytes;
    }

    /// Tells whether the first who waits for room seems to be a future that nobody polls, which
    /// must not keep all others waiting.
    fn is_first_asleep(&self) -> bool {
        self.missed >= OPPORTUNITIES
    }

    fn take_inbox(&mut self) -> VecDeque<Message> {
        self.inbox_bytes = 0;
        mem::take(&mut self.inbox)
    }

    fn take_wakers(&mut self) -> [Option<Waker>; 2] {
        [self.reader.take(), self.writer.take()]
    }
}

/// A place among those who wait for room.
struct Waiting<'a> {
    link: &'a Link,
    ticket: u64,
}

impl<'a> Waiting<'a> {
    fn new(link: &'a Link) -> Self {
        let mut state = link.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(ticket);
        Self { link, ticket }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        if state.waiting.front() == Some(&self.ticket) {
            state.missed = 0;
        }
        state.waiting.retain(|ticket| *ticket != self.ticket);
        let others = !state.waiting.is_empty();
        drop(state);
        if others {
            self.link.room.notify_waiters();
        }
    }
}

/// Returns the waker that is replaced, to be dropped when the lock is released.
fn register(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => slot.replace(cx.waker().clone()),
    }
}

/// Wakes all but the task that runs right now: it polls the handler next anyway, and waking it
/// would only have it scheduled once more for nothing.
fn wake_others(wakers: impl IntoIterator<Item = Option<Waker>>, cx: &Context<'_>) {
    for waker in wakers.into_iter().flatten() {
        if !waker.will_wake(cx.waker()) {
            waker.wake();
        }
    }
}
