//! What the ends of a connection share: two bounded queues and who waits for what.
//!
//! The lock is held for a few moves and never across an await; wakers are called after it is
//! released. Messages are compressed without it; those that refer to each other, in the order in
//! which they are queued, which a lock of their own keeps, taken before this one.

mod connection;
mod holder;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use tokio::sync::Notify;

use super::{inbox::Inbox, queue::Queue, traffic::Traffic};
use crate::{
    close::{CloseFrame, Closed},
    codec::{Compression, Load, Outgoing, Role},
    config::Config,
    error::RecvError,
};

/// The shared state of one connection.
///
/// Its fields are in this order in memory: those that need no lock are next to each other.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Link {
    /// The connection sleeps and has to be woken. Changed only under the lock.
    parked: AtomicBool,
    role: Role,
    name: Name,
    traffic: Arc<Traffic>,
    config: Arc<Config>,
    /// Set before anybody sends.
    compression: OnceLock<Compression>,
    state: Mutex<State>,
    /// Told when there may be room for more to be sent, and when the connection has ended.
    changed: Notify,
}

/// What warnings call a connection by.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "tracing"),
    allow(dead_code, reason = "only the log says it")
)]
pub(crate) struct Name {
    /// The type of the handler.
    pub(crate) handler: &'static str,
    /// The path of its request, without the query.
    pub(crate) path: Box<str>,
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
    /// The holder took a message that the connection has not heard of.
    taken: bool,
    /// The connection waits for the holder to take a message, or to find that there is none.
    awaited: bool,
    /// The holder has dropped its end; the value says whether in a panic.
    abandoned: Option<bool>,
    /// The holder receives nothing: messages that arrive are discarded.
    ignoring: bool,

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
    /// The first Close of the connection, as soon as there is one, with what it says.
    first_close: Option<Option<Box<CloseFrame>>>,
    closed: Option<Box<Closed>>,
    round_trip: Option<Duration>,

    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The writer waits for room, rather than for what it sent to be written.
    wants_room: bool,
    /// It was woken, and has not come back yet.
    called: bool,
    connection: Option<Waker>,
    /// Something was done that the connection has not looked at.
    touched: bool,
    /// The handler goes on after its connection is over, and is to be dropped.
    evicted: bool,
    /// The connection repeats, and looks here only when [`Traffic::touches`] has changed.
    repeats: bool,
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
    pub(crate) fn new(role: Role, name: Name, config: Arc<Config>, traffic: Arc<Traffic>) -> Self {
        Self {
            role,
            name,
            config,
            traffic,
            compression: OnceLock::new(),
            state: Mutex::default(),
            parked: AtomicBool::new(false),
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
        let waker = if self.parked.swap(false, Ordering::Relaxed) {
            state.connection.take()
        } else {
            None
        };
        if state.repeats {
            self.traffic.touch();
        }
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    fn has_room_in(&self, state: &State) -> bool {
        state.inbox.has_room(self.config.inbox())
    }
}

/// What is due wakes the connection as whoever else gives it something to do.
impl Wake for Link {
    fn wake(self: Arc<Self>) {
        self.touch(self.lock(), ());
    }
}

impl State {
    /// Returns whether messages that arrive are discarded.
    const fn discards(&self) -> bool {
        self.input_over || self.ignoring || self.abandoned.is_some()
    }

    /// Notes a Close, unless one came before.
    fn note_close(&mut self, frame: Option<&CloseFrame>) {
        self.first_close
            .get_or_insert_with(|| frame.cloned().map(Box::new));
    }

    fn take_wakers(&mut self) -> [Option<Waker>; 2] {
        [self.reader.take(), self.writer.take()]
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
