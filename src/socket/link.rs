//! What the ends of a connection share: two bounded queues and who waits for what.
//!
//! The lock is held for a few moves and never across an await; wakers are called after it is
//! released. Messages are compressed without it; those that refer to each other, in the order in
//! which they are queued, which a lock of their own keeps, taken before this one.

use std::{
    io, mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    form::Form,
    inbox::Inbox,
    queue::{Queue, Ticket},
    traffic::Traffic,
};
use crate::{
    close::{CloseFrame, Closed, Side},
    codec::{Compression, Load, Outgoing, Role, Turn},
    config::Config,
    error::{RecvError, SendError, TrySendError},
    message::Message,
};

/// The shared state of one connection.
#[derive(Debug)]
pub(crate) struct Link {
    role: Role,
    config: Arc<Config>,
    traffic: Arc<Traffic>,
    /// Set before anybody sends.
    compression: OnceLock<Compression>,
    state: Mutex<State>,
    /// Told when there may be room for more to be sent, and when the connection has ended.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    inbox: Inbox,
    /// Nothing will be added to the inbox any more.
    input_over: bool,
    /// Why, told once, after the inbox is empty.
    fault: Option<Box<RecvError>>,
    /// The holder has been told that nothing will come any more.
    told: bool,
    /// Something was delivered since the holder last found the inbox empty.
    unanswered: bool,
    /// The connection waits for the holder to find it empty.
    awaited: bool,
    /// The holder has dropped its end; the value says whether in a panic.
    abandoned: Option<bool>,

    /// What the connection has not taken yet. Elsewhere, because many connections only listen.
    outbox: Option<Box<Outgoing>>,
    /// What is not written yet: the outbox, and what the connection has taken of it.
    unwritten: Load,
    /// Some of it will never be.
    discarded: bool,
    /// Something was sent since the stream was flushed.
    unflushed: bool,
    /// Those who wait for room, in the order in which they get it; elsewhere, because hardly ever
    /// anybody does.
    waiting: Option<Box<Queue>>,
    /// The stream writes one buffer at a time.
    contiguous: bool,

    stage: Stage,
    /// The Close that this side wants to send.
    close: Option<Box<CloseFrame>>,
    closed: Option<Box<Closed>>,
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
    pub(crate) fn new(role: Role, config: Arc<Config>, traffic: Arc<Traffic>) -> Self {
        Self {
            role,
            config,
            traffic,
            compression: OnceLock::new(),
            state: Mutex::default(),
            changed: Notify::new(),
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
        if let Some(message) = state.inbox.pop() {
            let result = Poll::Ready(Ok(Some(message)));
            return if was_full && self.has_room_in(&state) {
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
        self.lock().closed.as_deref().cloned()
    }

    /// Returns over which time a shutdown is spread.
    pub(crate) fn spread(&self) -> Duration {
        self.config.spread()
    }

    /// Asks for the closing handshake; the first to ask chooses the code.
    pub(crate) fn close(&self, frame: CloseFrame) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.stage = Stage::Closing;
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

    /// Waits until the connection has ended, and tells how.
    pub(super) async fn closed_as(&self) -> Closed {
        loop {
            let changed = self.changed.notified();
            if let Some(closed) = self.ending() {
                return closed;
            }
            changed.await;
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
        let discarded = mem::take(&mut state.inbox);
        self.touch(state, ());
        drop(discarded);
    }
}

/// The connection's side.
impl Link {
    pub(super) const fn role(&self) -> Role {
        self.role
    }

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

    /// Tells whether the holder may still answer what was delivered: it has not asked for more. The
    /// connection is woken when it does.
    pub(super) fn is_unanswered(&self) -> bool {
        let mut state = self.lock();
        state.awaited = state.unanswered && state.abandoned.is_none();
        state.awaited
    }

    /// Takes the Close that was asked for, and counts everything that was done as looked at.
    pub(super) fn take_close(&self) -> Option<CloseFrame> {
        let mut state = self.lock();
        state.touched = false;
        // Awake, whoever woke it: what the handler does meanwhile need not wake it again.
        state.parked = false;
        state.close.take().map(|frame| *frame)
    }

    /// Moves what waits to be written behind what is in `outgoing`.
    pub(super) fn take_outgoing(&self, outgoing: &mut Outgoing) {
        let mut state = self.lock();
        if let Some(outbox) = &mut state.outbox {
            if outgoing.is_empty() {
                mem::swap(outgoing, outbox);
            } else if !outbox.is_empty() {
                outgoing.append(outbox);
            }
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
        state.inbox.push(message);
        state.unanswered = true;
        let reader = state.reader.take();
        drop(state);
        wake_others([reader], cx);
    }

    /// Makes room for what has been written, and tells whether somebody waits for it.
    pub(super) fn written(&self, load: Load, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        state.unwritten.messages = state.unwritten.messages.saturating_sub(load.messages);
        state.unwritten.bytes = state.unwritten.bytes.saturating_sub(load.bytes);
        let waiting = state.waiting.is_some();
        if let Some(queue) = &mut state.waiting {
            queue.miss();
        }
        let writer = state.writer.take();
        drop(state);
        if waiting {
            self.changed.notify_waiters();
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

    fn finish(
        &self,
        closed: Closed,
        fault: Option<RecvError>,
    ) -> ([Option<Waker>; 2], Option<Box<Outgoing>>) {
        let mut state = self.lock();
        if state.closed.is_some() {
            return ([None, None], None);
        }
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
        state.inbox.has_room(self.config.inbox())
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

    fn take_wakers(&mut self) -> [Option<Waker>; 2] {
        [self.reader.take(), self.writer.take()]
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
