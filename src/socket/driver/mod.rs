//! The connection's life: when to read, to write, to close and to give up.
//!
//! [`Driver::poll`] does what can be done without waiting and says what is next. Reading stops
//! at a message for which the handler's inbox has no room, and while output is blocked, so neither
//! side can make the other one's memory grow.
//!
//! | File | Holds |
//! | --- | --- |
//! | `reading` | what is read: messages, control frames, the end |
//! | `writing` | what is written, and who is told |
//! | `clock` | deadlines and pings |
//! | `crowd` | a connection that has stopped reading |
//! | `stall` | a peer that takes nothing |
//! | `closing` | the closing handshake |

mod clock;
mod closing;
mod crowd;
mod reading;
mod stall;
mod writing;

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use self::{clock::Terms, closing::Step, crowd::Crowd, stall::Stall};
use super::{
    budget::{Share, Spent},
    engine::Engine,
    events::Meter,
    io::Io,
    link::{Link, Parked},
    setup::{Served, Setup},
    timer::{self, Timer},
};
use crate::{
    codec::{Control, Load, Role, Rules, Violation},
    time::{Moment, keepalive::Keepalive, rate::Bucket},
    words::{CloseFrame, Closed},
};

/// How long an end waits for the handler to answer what came before it, from the last message that
/// the handler took.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// What a poll of the connection came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// Poll the handler, then the connection again.
    Again,
    /// Enough for now: let other tasks run.
    Yield,
    /// Nothing to do before something arrives or the handler acts.
    Idle,
    /// The connection is over.
    Over,
}

/// The connection's end of a [`Link`].
#[derive(Debug)]
pub(super) struct Driver<IO> {
    engine: Engine<IO>,
    link: Arc<Link>,
    /// Elsewhere, because few layers ask for any.
    terms: Option<Box<Terms>>,
    keepalive: Option<Keepalive>,
    /// What was written, and read after the end, during this poll of the task.
    spent: Spent,
    /// What this poll of the task may still inflate, and compress.
    inflates: Share,
    compresses: Share,
    /// Enough was decoded, or compressed, during this poll of the task.
    has_done_enough: bool,
    /// When what has begun to arrive becomes too slow.
    assembly_due: Option<Moment>,
    phase: Phase,
    timer: Timer,
    /// The timer was set while nothing else was waited for.
    is_timer_quiet: bool,
    /// The stream had nothing to read when the task fell asleep, and is read first of all.
    listens: bool,
    /// The outbox has nothing that the output lacks, as far as was seen.
    has_taken_all: bool,
    /// What was written and flushed, if `is_flushed`: the holder of the link is not told of it yet.
    written: Load,
    is_flushed: bool,
    /// An end that was read and not acted on yet.
    waiting: Option<Box<Waiting>>,
    /// Since when the stream takes nothing of what is to be written.
    blocked: Option<Moment>,
    /// Bytes of the output that are control frames, for which nobody waits.
    control_bytes: usize,
    /// The newest ping that could not be answered because output is blocked.
    owed: Option<Box<Control>>,
    /// Since when nothing is read, so that neither silence nor slowness can be held against the
    /// peer.
    paused: Option<Moment>,
    /// Elsewhere, because few handlers let messages wait.
    crowd: Option<Box<Crowd>>,
    control_frames: Bucket,
    /// Something was written since the stream was flushed.
    unflushed: bool,
    /// The stream can tell meanwhile whether the peer has gone.
    probes: bool,
    stall: Stall,
    /// Reports events, if somebody asked for them.
    meter: Option<Box<Meter>>,
}

/// What ends what is received.
#[derive(Debug)]
enum Fault {
    /// The end of the stream.
    End,
    Violation(Violation),
    Io(io::Error),
}

#[derive(Debug)]
struct Waiting {
    fault: Fault,
    /// Until when it waits for the handler's answers.
    ends: Option<Moment>,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// The peer's Close has come; the handler may still answer what came before it.
    Answering(Box<Answering>),
    Closing(Box<Closing>),
    Over,
}

#[derive(Debug)]
struct Answering {
    frame: Option<CloseFrame>,
    answer_at: Moment,
}

#[derive(Debug)]
struct Closing {
    closed: Closed,
    deadline: Moment,
    step: Step,
    /// Our Close, with what it says, while messages before it are compressed.
    unsent: Option<Option<CloseFrame>>,
}

impl<IO: Io> Driver<IO> {
    pub(super) fn new(served: Served<IO>, seed: u64) -> Self {
        let Served {
            io,
            early,
            link,
            setup:
                Setup {
                    config,
                    deflation,
                    probes,
                },
        } = served;
        let now = timer::now();
        let rules = Rules {
            role: link.role(),
            limits: config.limits(),
            deflation,
        };
        let engine = Engine::new(io, rules.role);
        let probes = probes || engine.is_tcp();
        link.begin(rules, &early, engine.is_contiguous(), now);
        let keepalive = config.keepalive_intervals();
        let id = link.id();
        let meter = link.hook().map(|hook| Box::new(Meter::new(hook, id)));
        Self {
            engine,
            link,
            phase: Phase::Open,
            timer: Timer::default(),
            is_timer_quiet: false,
            listens: false,
            has_taken_all: false,
            written: Load::default(),
            is_flushed: false,
            spent: Spent::default(),
            inflates: Share::default(),
            compresses: Share::default(),
            has_done_enough: false,
            assembly_due: None,
            waiting: None,
            blocked: None,
            unflushed: false,
            control_bytes: 0,
            owed: None,
            keepalive: keepalive.map(|_| Keepalive::new(seed, now)),
            paused: None,
            crowd: None,
            probes,
            control_frames: Bucket::new(config.control_frames(), now),
            terms: Terms::new(&config, now),
            stall: Stall::new(now),
            meter,
        }
    }

    /// Does what can be done now.
    ///
    /// The `clock` may be late by as long as the handler has run in this poll of the task. The time is asked
    /// for again where a wait begins, and when a timer is reached.
    pub(super) fn poll(&mut self, clock: &mut Moment, cx: &mut Context<'_>) -> Turn {
        let now = *clock;
        self.tell_written(cx);
        self.has_taken_all = false;
        let turn = match self.phase {
            Phase::Open => self.poll_open(now, cx),
            Phase::Answering(_) => self.poll_answering(now, cx),
            Phase::Closing(_) => self.poll_closing(now, cx),
            Phase::Over => Turn::Over,
        };
        match turn {
            Turn::Idle if self.poll_timer(now, cx).is_ready() => {
                *clock = timer::now();
                Turn::Again
            }
            turn => turn,
        }
    }

    /// Lets the task sleep, unless there is more to do for the connection or the handler.
    pub(super) fn park(&mut self, cx: &Context<'_>) -> Parked {
        let written = self.take_written();
        self.link.park(written, cx)
    }

    /// Ends a poll of the task in which others have to get their turn.
    pub(super) fn yields(&mut self, cx: &Context<'_>) {
        self.tell_written(cx);
        self.link.rest();
    }

    /// Ends a poll of the task: what is shared with other connections is given back.
    pub(super) fn rest(&mut self) {
        self.spent = Spent::default();
        self.inflates = Share::default();
        self.compresses = Share::default();
        self.has_done_enough = false;
        self.engine.rest();
    }

    fn poll_open(&mut self, now: Moment, cx: &mut Context<'_>) -> Turn {
        let looks = self.blocked.is_none() && self.waiting.is_none();
        let close = match looks {
            true => None,
            false => self.link.take_close(),
        };
        if let Some(frame) = close {
            return self.begin_closing(frame, now, cx);
        }
        if self.blocked.is_some() {
            // A server reads nothing before output moves again.
            match self.poll_flush(now, cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    if let Some(turn) = self.cut_off(error, cx) {
                        return turn;
                    }
                }
                Poll::Pending if self.reads_while_blocked() => {}
                Poll::Pending => {
                    self.pause();
                    return self.on_time(now, cx).unwrap_or(Turn::Idle);
                }
            }
        }
        let delivered = match self.read(now, cx) {
            Ok(delivered) => delivered,
            Err(turn) => return turn,
        };
        if let Some(turn) = self.on_time(now, cx) {
            return turn;
        }
        if delivered {
            // What the handler replies is gathered with the replies to what is still to be read,
            // and flushed when there is nothing left to be read.
            return Turn::Again;
        }
        let flushed = self.poll_flush_later(now, cx);
        if self.blocked.is_some() && !self.reads_while_blocked() {
            self.pause();
        }
        match flushed {
            Poll::Ready(Err(error)) => self.cut_off(error, cx).unwrap_or(Turn::Idle),
            _ if self.has_spent() => Turn::Yield,
            Poll::Ready(Ok(true)) => Turn::Again,
            Poll::Ready(Ok(false)) | Poll::Pending => Turn::Idle,
        }
    }

    /// Tells whether what arrives is read although output does not move. Servers do not; if clients
    /// did not either, each could wait for the other to read.
    fn reads_while_blocked(&self) -> bool {
        matches!(self.link.role(), Role::Client)
    }

    fn answer_grace(&self) -> Duration {
        ANSWER_GRACE.min(self.link.config().close_limit())
    }

    fn has_spent(&self) -> bool {
        self.has_done_enough || self.spent.is_enough()
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        self.link.lost();
        if let Some(meter) = &mut self.meter {
            meter.report(self.link.traffic());
        }
    }
}
