//! What the handler's end and the connection share: two bounded queues and who waits for what.
//!
//! The lock is held for a few moves of pointers and never across an await or a call of foreign
//! code: wakers are called after it is released.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{
    close::CloseFrame,
    error::{RecvError, SendError},
    message::Message,
};

/// Reading stops while so many messages wait for the handler.
const INBOX_MESSAGES: usize = 16;
/// Reading stops while so many bytes wait for the handler.
const INBOX_BYTES: usize = 64 * 1024;
/// `send` waits while so many messages are not written yet.
const OUTBOX_MESSAGES: usize = 1024;
/// `send` waits while so many bytes are not written yet.
const OUTBOX_BYTES: usize = 1024 * 1024;

/// The shared state of one connection.
#[derive(Debug, Default)]
pub(super) struct Link {
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
    /// The handler's end was dropped; the value says whether in a panic.
    abandoned: Option<bool>,

    outbox: VecDeque<Message>,
    /// What `send` took and the connection has not written: the outbox and the engine's buffer.
    unwritten: Load,

    stage: Stage,
    /// The Close that this side wants to send.
    close: Option<CloseFrame>,

    reader: Option<Waker>,
    writer: Option<Waker>,
    closer: Option<Waker>,
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
    /// A Close was asked for, sent or received: nothing can be sent any more.
    Closing,
    /// The closing handshake is complete, or given up.
    Closed,
}

/// An amount of outgoing data.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    messages: usize,
    bytes: usize,
}

impl Load {
    pub(super) fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.bytes += message.len();
    }

    pub(super) const fn is_empty(self) -> bool {
        self.messages == 0
    }
}

impl Link {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so the state is whole whatever a thread did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes the connection if it sleeps.
    fn touch<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        state.touched = true;
        let waker = if mem::take(&mut state.parked) {
            state.connection.take()
        } else {
            None
        };
        drop(state);
        wake(waker);
        result
    }
}

/// The handler's side.
impl Link {
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, RecvError>> {
        let mut state = self.lock();
        if let Some(message) = state.inbox.pop_front() {
            let was_full = !state.has_room();
            state.inbox_bytes -= message.len();
            let resumes = was_full && state.has_room();
            drop(state);
            if resumes {
                self.touch(|_| ());
            }
            return Poll::Ready(Ok(Some(message)));
        }
        if let Some(fault) = state.fault.take() {
            return Poll::Ready(Err(fault));
        }
        if state.input_over {
            return Poll::Ready(Ok(None));
        }
        register(&mut state.reader, cx);
        Poll::Pending
    }

    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        message: &mut Option<Message>,
    ) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Poll::Ready(Err(SendError::Closed));
        }
        let len = message.as_ref().map_or(0, Message::len);
        if !state.takes(len) {
            register(&mut state.writer, cx);
            return Poll::Pending;
        }
        drop(state);
        Poll::Ready(message.take().map_or(Ok(()), |message| self.push(message)))
    }

    /// Waits until a message of any size may be pushed.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Poll::Ready(Err(SendError::Closed));
        }
        // One byte short of the bound there is room for one more message, which may then exceed it:
        // a sink does not tell how large that message will be.
        if !state.takes(1) {
            register(&mut state.writer, cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn push(&self, message: Message) -> Result<(), SendError> {
        self.touch(|state| {
            if state.stage != Stage::Open {
                return Err(SendError::Closed);
            }
            state.unwritten.add(&message);
            state.outbox.push_back(message);
            Ok(())
        })
    }

    pub(super) fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        if state.unwritten.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if state.stage == Stage::Closed {
            return Poll::Ready(Err(SendError::Closed));
        }
        register(&mut state.writer, cx);
        Poll::Pending
    }

    /// Asks for the closing handshake; the first to ask chooses the code.
    pub(super) fn close(&self, frame: CloseFrame) {
        self.touch(|state| {
            if state.stage == Stage::Open {
                state.stage = Stage::Closing;
                state.close = Some(frame);
                state.end_input();
            }
        });
    }

    pub(super) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.stage == Stage::Closed {
            return Poll::Ready(());
        }
        register(&mut state.closer, cx);
        Poll::Pending
    }

    /// Notes that nobody will receive any more.
    pub(super) fn abandon(&self, panicking: bool) {
        self.touch(|state| {
            state.abandoned = Some(panicking);
            state.discard_inbox();
        });
    }
}

/// The connection's side.
impl Link {
    /// Tells whether the handler's end was dropped, and if so whether in a panic.
    pub(super) fn abandoned(&self) -> Option<bool> {
        self.lock().abandoned
    }

    /// Moves what is to be written into `messages` and takes the Close that follows it, if any.
    pub(super) fn take_outgoing(&self, messages: &mut VecDeque<Message>) -> Option<CloseFrame> {
        let mut state = self.lock();
        state.touched = false;
        mem::swap(&mut state.outbox, messages);
        state.close.take()
    }

    /// Tells whether another message may be delivered.
    pub(super) fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    pub(super) fn deliver(&self, message: Message, cx: &Context<'_>) {
        let mut state = self.lock();
        if state.input_over || state.abandoned.is_some() {
            return;
        }
        state.inbox_bytes += message.len();
        state.inbox.push_back(message);
        let reader = state.reader.take();
        drop(state);
        wake_other(reader, cx);
    }

    /// Makes room for `load`, which has been written, and tells whether somebody waits for it.
    pub(super) fn written(&self, load: Load, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        state.unwritten.messages -= load.messages;
        state.unwritten.bytes -= load.bytes;
        let writer = state.writer.take();
        drop(state);
        let awaited = writer.is_some();
        wake_other(writer, cx);
        awaited
    }

    /// Nothing more will be received nor sent; `fault` says why, if it is not an ordinary Close.
    pub(super) fn end(&self, fault: Option<RecvError>, cx: &Context<'_>) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.stage = Stage::Closing;
        }
        if !state.input_over {
            state.input_over = true;
            state.fault = fault;
        }
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().for_each(|waker| wake_other(waker, cx));
    }

    /// The closing handshake is complete, or given up.
    pub(super) fn closed(&self, cx: &Context<'_>) {
        let mut state = self.lock();
        state.stage = Stage::Closed;
        state.input_over = true;
        state.outbox = VecDeque::new();
        let wakers = [
            state.reader.take(),
            state.writer.take(),
            state.closer.take(),
        ];
        drop(state);
        wakers.into_iter().for_each(|waker| wake_other(waker, cx));
    }

    /// Lets the connection sleep, unless something was done that it has not looked at.
    pub(super) fn park(&self, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        if state.touched {
            return false;
        }
        register(&mut state.connection, cx);
        state.parked = true;
        true
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.inbox.len() < INBOX_MESSAGES && self.inbox_bytes < INBOX_BYTES
    }

    /// A message over the bound is taken when nothing else waits: else it could never be sent.
    fn takes(&self, len: usize) -> bool {
        self.unwritten.is_empty()
            || (self.unwritten.messages < OUTBOX_MESSAGES
                && self.unwritten.bytes.saturating_add(len) <= OUTBOX_BYTES)
    }

    fn end_input(&mut self) {
        self.input_over = true;
        self.discard_inbox();
    }

    fn discard_inbox(&mut self) {
        self.inbox = VecDeque::new();
        self.inbox_bytes = 0;
    }
}

fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Wakes whoever is not the task that runs right now: that one polls the handler next anyway, and
/// waking it would only have it scheduled once more for nothing.
fn wake_other(waker: Option<Waker>, cx: &Context<'_>) {
    wake(waker.filter(|waker| !waker.will_wake(cx.waker())));
}
