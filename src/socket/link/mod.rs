//! The state that the connection, the holder of the socket and the senders share.
//!
//! One lock guards it. The lock is held while one message is decoded or encoded, or while a room writes
//! to a lent stream or the connection writes small answers to TCP, and never across an await. No foreign
//! code runs under it: wakers are called after it is released, and messages are compressed and inflated
//! without it.
//!
//! | File | Holds |
//! | --- | --- |
//! | `decode` | decoding: the next step of the connection |
//! | `connection` | the rest of the connection's side: written messages, the end, sleeping |
//! | `holder` | the side of the socket's holder: receiving, closing |
//! | `sending` | sending, and waiting for room |
//! | `memory` | the memory that the connection holds, for a registry that limits it |
//! | `settling` | the usual end of a poll: writing the answers and sleeping, in one step |
//! | `rooms` | memberships in rooms of a hub, and what rooms send |
//! | `lending` | writing what rooms send while the connection sleeps |
//! | `uncompressed` | the queue of messages that are not compressed yet |
//! | `ending` | waiting for the end |
//! | `pings` | the application's pings, and waiting for their pongs |

mod connection;
mod decode;
mod ending;
mod holder;
#[cfg(feature = "hub")]
mod lending;
mod memory;
mod pings;
#[cfg(feature = "hub")]
mod rooms;
mod sending;
mod settling;
mod uncompressed;

#[cfg(feature = "hub")]
use std::io;
use std::{
    mem,
    num::NonZeroU64,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

#[cfg(feature = "hub")]
pub(crate) use self::rooms::{Entered, Turn};
pub(in crate::socket) use self::{
    connection::TrySleep,
    decode::{FastPath, Next},
    memory::overloaded,
    pings::Ping,
    sending::{Caller, SendFuture},
};
use self::{ending::Watchers, pings::Pings, uncompressed::Uncompressed};
#[cfg(feature = "hub")]
use super::lender;
use super::{
    events::{Hook, Registration},
    inbox::Inbox,
    receiver::Receiver,
    sync::{Mutex, MutexGuard},
    timer,
    traffic::Traffic,
    waiters::{Ticket, Waiters},
};
use crate::{
    codec::{Bound, Load, Outgoing, Role},
    config::Config,
    socket::{RecvError, info::HandshakeInfo},
    time::Moment,
    words::{CloseFrame, Closed, ConnectionId},
};

/// The shared state of one connection.
///
/// The fields that every message needs come first, here and in [`State`], and those of sending before those of receiving.
/// So a message touches fewer cache lines, which counts with many connections.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Link {
    config: Arc<Config>,
    hook: Option<Box<Hook>>,
    role: Role,
    /// The handler in the connection's own task has something to do. Its waker was not called.
    handler_is_due: AtomicBool,
    /// The connection is in a room, or was.
    #[cfg(feature = "hub")]
    is_member: AtomicBool,
    state: Mutex<State>,
    id: ConnectionId,
    opened: Moment,
    info: HandshakeInfo,
}

#[derive(Debug, Default)]
#[repr(C)]
struct State {
    stage: Stage,
    /// The connection sleeps: a change has to wake it.
    asleep: bool,
    /// Something has changed since the connection last checked.
    dirty: bool,
    /// No message will be added to the inbox.
    input_over: bool,
    /// The holder receives nothing, or has dropped its end: messages that arrive are discarded.
    ignores_incoming: bool,
    /// A message was delivered, and the holder has not found an empty inbox since.
    may_answer: bool,
    /// The holder has received a message since the connection last checked.
    holder_received: bool,
    /// The connection has to be woken when the holder receives a message or finds none.
    notify_on_receive: bool,
    /// The connection waits for room in the inbox.
    inbox_full: bool,
    /// A message was decoded since the connection last checked.
    message_decoded: bool,
    /// The connection has shed its memory.
    is_shed: bool,
    /// The task has yielded to the waiters since room was last granted.
    has_yielded: bool,
    /// `Some` once the holder has dropped its end: `true` if a part was dropped in a panic.
    abandoned: Option<bool>,
    /// The holder has received the end.
    end_delivered: bool,
    /// The number of parts of the holder's end, without the first. A split socket has one more.
    further_parts: u8,
    /// A part was dropped in a panic.
    part_panicked: bool,
    /// The peer has sent the first Close.
    peer_closed: bool,
    /// The handler returned while its `WebSocket` lived on elsewhere.
    handed_on: bool,
    /// The handler of an ended connection has to be dropped.
    evicted: bool,
    /// The memory of the connection counts as 0.
    is_uncounted: bool,
    /// The count of the connection's memory, in steps.
    counted: u32,

    /// The stream, while it is lent to rooms.
    #[cfg(feature = "hub")]
    lent: Option<lender::Stream>,
    /// Messages to compress, and later messages behind them. `Some` from the beginning if the
    /// connection compresses; boxed because few do.
    uncompressed: Option<Box<Uncompressed>>,
    /// Tasks that wait for room. Boxed because most connections have none.
    waiters: Option<Box<Waiters>>,
    /// The number of messages that were written and flushed.
    flushed: u64,
    /// The value of `flushed` that a flush of the holder waits for.
    flush_target: Option<NonZeroU64>,
    traffic: Traffic,
    /// Encoded messages that the connection has not taken yet.
    outbox: Outgoing,
    /// The load that the connection has taken from both queues and not written yet.
    writing: Load,
    /// The memberships in rooms. Boxed because most connections have none.
    #[cfg(feature = "hub")]
    rooms: Option<Box<rooms::Rooms>>,

    rare: Option<Box<Rare>>,
    reader: Option<Waker>,
    inbox: Inbox,
    connection: Option<Waker>,
    /// `None` before the connection begins, and while the connection decodes without the lock.
    receiver: Option<Receiver>,

    /// The holder, while it waits for a flush or for the end.
    writer: Option<Waker>,
    /// The last round trip, in nanoseconds, plus one.
    round_trip: Option<NonZeroU64>,
}

/// The state that most connections need only at their end.
#[derive(Debug, Default)]
struct Rare {
    /// The command that the connection has to run next.
    command: Option<Box<Command>>,
    /// The place of the socket among the waiters while it waits as a `Sink`.
    sink_ticket: Option<Ticket>,
    /// The application's pings. Boxed because they come and go.
    pings: Option<Box<Pings>>,
    /// Why no message will come. The holder gets it once, after the inbox is empty.
    fault: Option<Box<RecvError>>,
    /// The first Close of the connection. The inner value is `None` if it had no code, or if the
    /// connection has ended without a Close.
    first_close: Option<Box<Option<CloseFrame>>>,
    closed: Option<Box<Closed>>,
    watchers: Watchers,
    /// Why a room could not write. The system reports an error once, so the connection would not learn of it.
    #[cfg(feature = "hub")]
    write_error: Option<io::Error>,
}

/// A command of the application to its connection.
#[derive(Debug)]
pub(in crate::socket) enum Command {
    /// Close. Without a frame, the Close has no code.
    Close(Option<CloseFrame>),
    /// Send a ping.
    Ping,
}

/// The stages of a connection's life.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    #[default]
    Open,
    /// A Close was requested or sent: no message can be queued.
    Closing,
    /// The closing handshake is complete or was given up.
    Closed,
}

impl Link {
    /// Makes the link of a connection that belongs to no registry.
    pub(crate) fn new(role: Role, info: HandshakeInfo, config: Arc<Config>) -> Self {
        Self::registered(Registration::none(), role, info, config)
    }

    pub(crate) fn registered(
        registration: Registration,
        role: Role,
        info: HandshakeInfo,
        config: Arc<Config>,
    ) -> Self {
        Self {
            id: registration.id,
            hook: registration.hook,
            opened: timer::now(),
            role,
            info,
            config,
            state: Mutex::default(),
            handler_is_due: AtomicBool::new(false),
            #[cfg(feature = "hub")]
            is_member: AtomicBool::new(false),
        }
    }

    /// Returns the number of the connection.
    pub(crate) const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns the receiver of the connection's events, if it has one.
    pub(in crate::socket) fn hook(&self) -> Option<&Hook> {
        self.hook.as_deref()
    }

    /// Returns how long ago the connection was opened.
    pub(crate) fn age(&self) -> Duration {
        timer::now().since(self.opened)
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics under the lock, so the state is valid even if the lock is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the dirty flag, releases the lock and wakes the connection if it sleeps. Returns
    /// `result`.
    fn wake_connection<T>(&self, mut state: MutexGuard<'_, State>, result: T) -> T {
        let waker = state.rouse();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Calls the wakers of other tasks. For the current task it only notes that the handler is due:
    /// the session polls the handler next without a wake.
    fn wake_other_tasks(&self, wakers: impl IntoIterator<Item = Waker>, cx: &Context<'_>) {
        for waker in wakers {
            match waker.will_wake(cx.waker()) {
                true => self.handler_is_due.store(true, Ordering::Relaxed),
                false => waker.wake(),
            }
        }
    }

    fn has_room_in(&self, state: &State) -> bool {
        state.inbox.has_room(self.config.inbox())
    }
}

impl State {
    /// Sets the dirty flag. Returns the waker of a connection that sleeps, to be called without the lock.
    #[inline]
    fn rouse(&mut self) -> Option<Waker> {
        self.dirty = true;
        match mem::take(&mut self.asleep) {
            true => self.connection.take(),
            false => None,
        }
    }

    /// Returns whether messages that arrive are discarded.
    const fn discards(&self) -> bool {
        self.input_over || self.ignores_incoming
    }

    /// Records a Close, unless there was one before.
    fn note_close(&mut self, frame: Option<&CloseFrame>) {
        self.rare_mut()
            .first_close
            .get_or_insert_with(|| Box::new(frame.cloned()));
    }

    /// Returns the load that is queued and not written yet.
    #[inline]
    fn unwritten(&self) -> Load {
        let queued = self.outbox.load();
        let uncompressed = self.uncompressed();
        Load {
            messages: queued.messages + uncompressed.messages + self.writing.messages,
            bytes: queued.bytes + uncompressed.bytes + self.writing.bytes,
        }
    }

    /// Returns the load that is not compressed yet, and what is queued behind it.
    #[inline]
    fn uncompressed(&self) -> Load {
        let uncompressed = self.uncompressed.as_ref();
        uncompressed.map_or(Load::default(), |uncompressed| uncompressed.load())
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Returns how the connection has ended, if it has.
    fn closed(&self) -> Option<&Closed> {
        self.rare.as_ref()?.closed.as_deref()
    }

    fn first_close(&self) -> Option<&Option<CloseFrame>> {
        self.rare.as_ref()?.first_close.as_deref()
    }

    fn has_command(&self) -> bool {
        let rare = self.rare.as_ref();
        rare.is_some_and(|rare| rare.command.is_some())
    }

    fn pings(&mut self) -> Option<&mut Pings> {
        self.rare.as_mut()?.pings.as_deref_mut()
    }

    fn take_sink_ticket(&mut self) -> Option<Ticket> {
        self.rare.as_mut()?.sink_ticket.take()
    }

    /// Returns the number of messages sent so far.
    const fn sent(&self) -> u64 {
        self.traffic.messages_sent
    }

    /// Takes all wakers, because the connection ends.
    fn take_wakers(&mut self) -> Wakers {
        let pings = self.take_ping_wakers();
        let waiters = self.waiters.as_mut();
        Wakers {
            holder: [self.reader.take(), self.writer.take()],
            pings,
            waiters: waiters.map_or_else(Vec::new, |waiters| waiters.take_wakers()),
        }
    }

    /// Grants room to as many waiters as possible. Returns their wakers.
    #[inline]
    fn grant_room(&mut self, bound: Bound) -> Vec<Waker> {
        match self.waiters.is_some() {
            true => self.grant_room_to_waiters(bound),
            false => Vec::new(),
        }
    }

    #[cold]
    fn grant_room_to_waiters(&mut self, bound: Bound) -> Vec<Waker> {
        let unwritten = self.unwritten();
        let Some(waiters) = &mut self.waiters else {
            return Vec::new();
        };
        #[cfg_attr(
            not(feature = "hub"),
            expect(unused_mut, reason = "as with the feature")
        )]
        let mut granted = waiters.grant(|reserved, len| bound.takes(unwritten, reserved, len));
        self.has_yielded &= granted.is_empty();
        #[cfg(feature = "hub")]
        granted.extend(self.take_memberships_behind());
        granted
    }
}

/// Wakers to be called without the lock.
struct Wakers {
    holder: [Option<Waker>; 2],
    pings: Watchers,
    waiters: Vec<Waker>,
}

impl Wakers {
    fn all(self) -> impl Iterator<Item = Waker> {
        let holder = self.holder.into_iter().flatten();
        holder.chain(self.pings.into_wakers()).chain(self.waiters)
    }
}

/// Stores the task's waker. Returns the previous one, to be dropped without the lock.
fn register(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => slot.replace(cx.waker().clone()),
    }
}
