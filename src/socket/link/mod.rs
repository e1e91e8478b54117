//! What the ends of a connection share: what was read, what is to be written, and who waits for what.
//!
//! One lock guards it. It is held for as long as it takes to decode or to encode one message, never
//! across an await, and no code of others runs meanwhile: wakers are called after it is released, and
//! messages are compressed and inflated without it.
//!
//! | File | Holds |
//! | --- | --- |
//! | `look` | what the connection finds when it looks: what was read, and what was done meanwhile |
//! | `connection` | the rest of the connection's side: what was written, the end, sleeping |
//! | `holder` | receiving, and what else the holder of the socket does |
//! | `sending` | sending, and waiting for room |
//! | `uncompressed` | what was sent and is not compressed yet |
//! | `ending` | waiting for the end |

mod connection;
mod ending;
mod holder;
mod look;
mod sending;
mod uncompressed;

use std::{
    mem,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

pub(in crate::socket) use self::{
    connection::Parked,
    look::{Glance, Next},
    sending::By,
};
use self::{ending::Watchers, uncompressed::Uncompressed};
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
    codec::{Load, Outgoing, Role},
    config::{Bound, Config},
    socket::{RecvError, report::Name},
    time::Moment,
    words::{CloseFrame, Closed, ConnectionId},
};

/// The shared state of one connection.
#[derive(Debug)]
pub(crate) struct Link {
    id: ConnectionId,
    hook: Option<Box<Hook>>,
    opened: Moment,
    role: Role,
    name: Name,
    config: Arc<Config>,
    state: Mutex<State>,
    /// Something was done for a holder in the connection's own task, which was not woken.
    own_is_due: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// `None` before the connection begins, and while the connection decodes without the lock.
    receiver: Option<Box<Receiver>>,
    inbox: Inbox,
    /// Nothing will be added to the inbox any more.
    input_over: bool,
    /// Why, told once, after the inbox is empty.
    fault: Option<Box<RecvError>>,
    /// The holder has been told that nothing will come any more.
    told: bool,
    /// Something was delivered since the holder last found that there is none.
    unanswered: bool,
    /// The holder took a message that the connection has not heard of.
    taken: bool,
    /// The connection waits for the holder to take a message, or to find that there is none.
    awaited: bool,
    /// The connection waits for room in the inbox.
    crowded: bool,
    /// A message was decoded that the connection has not heard of.
    heard: bool,
    /// The holder has dropped its end; the value says whether in a panic.
    abandoned: Option<bool>,
    /// The holder receives nothing: messages that arrive are discarded.
    ignoring: bool,

    /// What the connection has not taken yet.
    outbox: Outgoing,
    /// What is to be compressed before, and what was sent behind that. There from the beginning on, but
    /// boxed, because few connections compress.
    uncompressed: Option<Box<Uncompressed>>,
    /// What the connection has taken of both and not written yet.
    writing: Load,
    /// Messages that were written and flushed so far.
    flushed: u64,
    /// How many have to be flushed for a flush that the holder waits for.
    flushes_up_to: Option<u64>,
    /// Those who wait for room, in the order in which they get it; boxed, because hardly ever
    /// anybody does.
    waiters: Option<Box<Waiters>>,
    /// The place of the socket as a `Sink` among them.
    sink: Option<Ticket>,
    /// Others had their turn since some were called.
    has_waited: bool,

    stage: Stage,
    /// The Close that this side wants to send.
    close: Option<Box<CloseFrame>>,
    /// The first Close of the connection, as soon as there is one, with what it says.
    first_close: Option<Option<Box<CloseFrame>>>,
    closed: Option<Box<Closed>>,
    round_trip: Option<Duration>,
    traffic: Traffic,
    /// The handler returned while its `WebSocket` lived on elsewhere.
    handed_on: bool,

    reader: Option<Waker>,
    writer: Option<Waker>,
    connection: Option<Waker>,
    watchers: Watchers,
    /// The connection sleeps and has to be woken.
    parked: bool,
    /// Something was done that the connection has not looked at.
    touched: bool,
    /// The handler goes on after its connection is over, and is to be dropped.
    evicted: bool,
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
    /// Makes the link of a connection that belongs to no registry.
    pub(crate) fn new(role: Role, name: Name, config: Arc<Config>) -> Self {
        Self::registered(Registration::none(), role, name, config)
    }

    pub(crate) fn registered(
        registration: Registration,
        role: Role,
        name: Name,
        config: Arc<Config>,
    ) -> Self {
        Self {
            id: registration.id,
            hook: registration.hook,
            opened: timer::now(),
            role,
            name,
            config,
            state: Mutex::default(),
            own_is_due: AtomicBool::new(false),
        }
    }

    /// Returns the number of the connection.
    pub(crate) const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns where events of the connection go, if somebody asked for them.
    pub(in crate::socket) fn hook(&self) -> Option<&Hook> {
        self.hook.as_deref()
    }

    /// Returns how long ago the connection was opened.
    pub(crate) fn age(&self) -> Duration {
        timer::now().since(self.opened)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so the state is whole whatever a thread did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes the connection if it sleeps.
    fn touch<T>(&self, mut state: MutexGuard<'_, State>, result: T) -> T {
        state.touched = true;
        let waker = if mem::take(&mut state.parked) {
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

    /// Wakes all but the task that runs right now, which polls the handler next anyway: waking it would
    /// only have it scheduled once more for nothing.
    fn wake_others(&self, wakers: impl IntoIterator<Item = Waker>, cx: &Context<'_>) {
        for waker in wakers {
            match waker.will_wake(cx.waker()) {
                true => self.own_is_due.store(true, Ordering::Relaxed),
                false => waker.wake(),
            }
        }
    }

    fn has_room_in(&self, state: &State) -> bool {
        state.inbox.has_room(self.config.inbox())
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

    /// Returns what is not written yet.
    #[inline]
    fn unwritten(&self) -> Load {
        let queued = self.outbox.load();
        let uncompressed = self.uncompressed();
        Load {
            messages: queued.messages + uncompressed.messages + self.writing.messages,
            bytes: queued.bytes + uncompressed.bytes + self.writing.bytes,
        }
    }

    /// Returns what was sent and is not compressed yet, with what waits behind it.
    #[inline]
    fn uncompressed(&self) -> Load {
        let uncompressed = self.uncompressed.as_ref();
        uncompressed.map_or(Load::default(), |uncompressed| uncompressed.load())
    }

    /// Returns how many messages were sent so far.
    const fn sent(&self) -> u64 {
        self.traffic.messages_sent
    }

    /// Takes the wakers of all who wait for the connection: it comes to its end.
    fn take_wakers(&mut self) -> Wakers {
        let waiters = self.waiters.as_mut();
        Wakers {
            ends: [self.reader.take(), self.writer.take()],
            waiters: waiters.map_or_else(Vec::new, |waiters| waiters.take_wakers()),
        }
    }

    /// Calls as many of those who wait for room as there is room for, and returns their wakers.
    fn call_waiters(&mut self, bound: Bound) -> Vec<Waker> {
        let unwritten = self.unwritten();
        let Some(waiters) = &mut self.waiters else {
            return Vec::new();
        };
        let called = waiters.call(|reserved, len| bound.takes(unwritten, reserved, len));
        self.has_waited &= called.is_empty();
        called
    }
}

/// Those who wait for a connection, to be woken without the lock.
struct Wakers {
    ends: [Option<Waker>; 2],
    waiters: Vec<Waker>,
}

impl Wakers {
    fn all(self) -> impl Iterator<Item = Waker> {
        let ends = self.ends.into_iter().flatten();
        ends.chain(self.waiters)
    }
}

/// Returns the waker that is replaced, to be dropped when the lock is released.
fn register(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => slot.replace(cx.waker().clone()),
    }
}
