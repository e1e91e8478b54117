//! What the ends of a connection share: two bounded queues and who waits for what.
//!
//! The lock is held for a few moves and never across an await; wakers are called after it is
//! released.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::traffic::Traffic;
use crate::{
    close::{CloseFrame, Closed, Side},
    codec::{Load, Outgoing},
    config::{Bound, Config},
    error::{RecvError, SendError, TrySendError},
    message::Message,
};

/// The shared state of one connection.
#[derive(Debug)]
pub(crate) struct Link {
    inbox: Bound,
    outbox: Bound,
    traffic: Arc<Traffic>,
    state: Mutex<State>,
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
    /// The stream writes one buffer at a time.
    contiguous: bool,

    stage: Stage,
    /// The Close that this side wants to send.
    close: Option<CloseFrame>,
    closed: Option<Closed>,
    round_trip: Option<Duration>,

    reader: Option<Waker>,
    writers: Vec<Waker>,
    closers: Vec<Waker>,
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
            state: Mutex::default(),
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
        if let Some(message) = state.inbox.pop_front() {
            let was_full = !self.has_room_in(&state);
            state.inbox_bytes -= message.len();
            let result = Poll::Ready(Ok(Some(message)));
            return if was_full && self.has_room_in(&state) {
                self.touch(state, result)
            } else {
                result
            };
        }
        if !state.input_over {
            register(&mut state.reader, cx);
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

    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        message: &mut Option<Message>,
    ) -> Poll<Result<(), SendError>> {
        let Some(waiting) = message.take() else {
            return Poll::Ready(Ok(()));
        };
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Poll::Ready(Err(SendError::Closed));
        }
        if !self.takes(&state, waiting.len()) {
            *message = Some(waiting);
            register_in(&mut state.writers, cx);
            return Poll::Pending;
        }
        Poll::Ready(self.push_to(state, waiting))
    }

    pub(super) fn try_send(&self, message: Message) -> Result<(), TrySendError> {
        let state = self.lock();
        if state.stage != Stage::Open {
            return Err(TrySendError::Closed(message));
        }
        if !self.takes(&state, message.len()) {
            return Err(TrySendError::Full(message));
        }
        self.push_to(state, message)
    }

    /// Waits until the next message may be pushed, whatever its size: a sink does not tell it
    /// beforehand, so that one message may exceed the bound.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Poll::Ready(Err(SendError::Closed));
        }
        if !self.takes(&state, 1) {
            register_in(&mut state.writers, cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Queues a message without asking for room.
    pub(super) fn push(&self, message: Message) -> Result<(), SendError> {
        let state = self.lock();
        if state.stage != Stage::Open {
            return Err(SendError::Closed);
        }
        self.push_to(state, message)
    }

    pub(super) fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        if state.unwritten.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if state.stage == Stage::Closed {
            return Poll::Ready(Err(SendError::Closed));
        }
        register_in(&mut state.writers, cx);
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
            state.discard_inbox();
            let wakers = state.take_waiting();
            self.touch(state, ());
            wakers.for_each(Waker::wake);
        }
    }

    pub(super) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<Closed> {
        let mut state = self.lock();
        if let Some(closed) = &state.closed {
            return Poll::Ready(closed.clone());
        }
        register_in(&mut state.closers, cx);
        Poll::Pending
    }

    /// Notes that nobody will receive any more.
    pub(super) fn abandon(&self, panicking: bool) {
        let mut state = self.lock();
        state.abandoned = Some(panicking);
        state.discard_inbox();
        self.touch(state, ());
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
        wake_others(reader, cx);
    }

    /// Makes room for what has been written, and tells whether somebody waits for it.
    pub(super) fn written(&self, load: Load, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        state.unwritten.messages -= load.messages;
        // Control frames are written without having been counted here.
        state.unwritten.bytes = state.unwritten.bytes.saturating_sub(load.bytes);
        let writers = mem::take(&mut state.writers);
        drop(state);
        let awaited = !writers.is_empty();
        wake_others(writers, cx);
        awaited
    }

    /// Nothing more will be received, while what is sent may still be written.
    pub(super) fn end_input(&self, cx: &Context<'_>) {
        let mut state = self.lock();
        state.input_over = true;
        let reader = state.reader.take();
        drop(state);
        wake_others(reader, cx);
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
        let wakers = state.take_waiting();
        drop(state);
        wake_others(wakers, cx);
    }

    /// The closing handshake is complete, or given up; only the first call counts.
    pub(super) fn closed(&self, closed: Closed, cx: &Context<'_>) {
        let mut state = self.lock();
        state.stage = Stage::Closed;
        state.input_over = true;
        state.outbox = Outgoing::default();
        state.closed.get_or_insert(closed);
        let closers = mem::take(&mut state.closers);
        let wakers = state.take_waiting().chain(closers);
        drop(state);
        wake_others(wakers, cx);
    }

    /// The connection is dropped before it came to an end, as when its runtime is shut down: nobody
    /// will be told anything by it any more.
    pub(super) fn lost(&self) {
        let mut state = self.lock();
        if state.closed.is_some() {
            return;
        }
        state.stage = Stage::Closed;
        if !mem::replace(&mut state.input_over, true) {
            state.fault = Some(RecvError::Io(io::ErrorKind::ConnectionAborted.into()));
        }
        state.closed = Some(Closed::new(Side::Local, None, false));
        let closers = mem::take(&mut state.closers);
        let wakers = state.take_waiting().chain(closers);
        drop(state);
        wakers.for_each(Waker::wake);
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
        register(&mut state.connection, cx);
        state.parked = true;
        true
    }

    fn push_to<E>(&self, mut state: MutexGuard<'_, State>, message: Message) -> Result<(), E> {
        self.traffic.sent(message.len());
        state.push(message);
        self.touch(state, Ok(()))
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
    fn push(&mut self, message: Message) {
        let before = self.outbox.load();
        self.outbox.push(message, self.contiguous);
        let after = self.outbox.load();
        self.unwritten.messages += after.messages - before.messages;
        self.unwritten.bytes += after.bytes - before.bytes;
    }

    fn discard_inbox(&mut self) {
        self.inbox = VecDeque::new();
        self.inbox_bytes = 0;
    }

    fn take_waiting(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let writers = mem::take(&mut self.writers);
        self.reader.take().into_iter().chain(writers)
    }
}

fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

fn register_in(slots: &mut Vec<Waker>, cx: &Context<'_>) {
    if !slots.iter().any(|waker| waker.will_wake(cx.waker())) {
        slots.push(cx.waker().clone());
    }
}

/// Wakes all but the task that runs right now: it polls the handler next anyway, and waking it
/// would only have it scheduled once more for nothing.
fn wake_others(wakers: impl IntoIterator<Item = Waker>, cx: &Context<'_>) {
    for waker in wakers {
        if !waker.will_wake(cx.waker()) {
            waker.wake();
        }
    }
}
