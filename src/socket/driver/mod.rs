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
//! | `backpressure` | a connection that has stopped reading |
//! | `stall` | a peer that takes nothing |
//! | `closing` | the closing handshake |

mod backpressure;
mod clock;
mod closing;
mod reading;
mod stall;
mod writing;

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use self::{backpressure::Backpressure, clock::Deadlines, closing::Step, stall::Stall};
use super::{
    budget::{Share, Spent},
    engine::Engine,
    io::Io,
    link::{Link, TrySleep},
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
pub(super) enum Progress {
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
    deadlines: Option<Box<Deadlines>>,
    keepalive: Option<Keepalive>,
    /// What was written, and read after the end, during this poll of the task.
    spent: Spent,
    /// What this poll of the task may still inflate, and compress.
    inflate_share: Share,
    compress_share: Share,
    /// Enough was decoded, or compressed, during this poll of the task.
    must_yield: bool,
    /// When what has begun to arrive becomes too slow.
    assembly_due: Option<Moment>,
    phase: Phase,
    timer: Timer,
    /// The timer was set while nothing else was waited for.
    timer_set_when_idle: bool,
    /// The stream had nothing to read when the task fell asleep, and is read first of all.
    reads_first: bool,
    /// The outbox has nothing that the output lacks, as far as was seen.
    outbox_empty: bool,
    /// What was written and flushed, if `is_flushed`: the holder of the link is not told of it yet.
    unreported: Load,
    has_unreported: bool,
    /// An end that was read and not acted on yet.
    pending_end: Option<Box<PendingEnd>>,
    /// Since when the stream takes nothing of what is to be written.
    blocked_since: Option<Moment>,
    /// Bytes of the output that are control frames, for which nobody waits.
    control_bytes: usize,
    /// The newest ping that could not be answered because output is blocked.
    unanswered_ping: Option<Box<Control>>,
    /// Since when nothing is read, so that neither silence nor slowness can be held against the
    /// peer.
    paused_since: Option<Moment>,
    /// Elsewhere, because few handlers let messages wait.
    backpressure: Option<Box<Backpressure>>,
    control_frames: Bucket,
    /// Something was written since the stream was flushed.
    unflushed: bool,
    /// The stream can tell meanwhile whether the peer has gone.
    probes: bool,
    stall: Stall,
}

/// What ends what is received.
#[derive(Debug)]
enum EndCause {
    /// The end of the stream.
    EndOfStream,
    Violation(Violation),
    Io(io::Error),
}

#[derive(Debug)]
struct PendingEnd {
    cause: EndCause,
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
    unsent_close: Option<Option<CloseFrame>>,
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
        Self {
            engine,
            link,
            phase: Phase::Open,
            timer: Timer::default(),
            timer_set_when_idle: false,
            reads_first: false,
            outbox_empty: false,
            unreported: Load::default(),
            has_unreported: false,
            spent: Spent::default(),
            inflate_share: Share::default(),
            compress_share: Share::default(),
            must_yield: false,
            assembly_due: None,
            pending_end: None,
            blocked_since: None,
            unflushed: false,
            control_bytes: 0,
            unanswered_ping: None,
            keepalive: keepalive.map(|_| Keepalive::new(seed, now)),
            paused_since: None,
            backpressure: None,
            probes,
            control_frames: Bucket::new(config.control_frames(), now),
            deadlines: Deadlines::new(&config, now),
            stall: Stall::new(now),
        }
    }

    /// Does what can be done now.
    ///
    /// The `clock` may be late by as long as the handler has run in this poll of the task. The time is asked
    /// for again where a wait begins, and when a timer is reached.
    pub(super) fn poll(&mut self, clock: &mut Moment, cx: &mut Context<'_>) -> Progress {
        let now = *clock;
        self.report_written(cx);
        self.outbox_empty = false;
        let progress = match self.phase {
            Phase::Open => self.poll_open(now, cx),
            Phase::Answering(_) => self.poll_answering(now, cx),
            Phase::Closing(_) => self.poll_closing(now, cx),
            Phase::Over => Progress::Over,
        };
        match progress {
            Progress::Idle if self.poll_timer(now, cx).is_ready() => {
                *clock = timer::now();
                Progress::Again
            }
            progress => progress,
        }
    }

    /// Lets the task sleep, unless there is more to do for the connection or the handler.
    pub(super) fn try_sleep(&mut self, cx: &Context<'_>) -> TrySleep {
        let written = self.take_unreported();
        self.link.try_sleep(written, cx)
    }

    /// Ends a poll of the task in which others have to get their turn.
    pub(super) fn before_yield(&mut self, cx: &Context<'_>) {
        self.report_written(cx);
        self.link.give_back_buffers();
    }

    /// Ends a poll of the task: what is shared with other connections is given back.
    pub(super) fn end_poll(&mut self) {
        self.spent = Spent::default();
        self.inflate_share = Share::default();
        self.compress_share = Share::default();
        self.must_yield = false;
        self.engine.give_back_buffers();
    }

    fn poll_open(&mut self, now: Moment, cx: &mut Context<'_>) -> Progress {
        let looks = self.blocked_since.is_none() && self.pending_end.is_none();
        let close = match looks {
            true => None,
            false => self.link.take_close(),
        };
        if let Some(frame) = close {
            return self.begin_closing(frame, now, cx);
        }
        if self.blocked_since.is_some() {
            // A server reads nothing before output moves again.
            match self.poll_flush(now, cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    if let Some(progress) = self.on_write_error(error, cx) {
                        return progress;
                    }
                }
                Poll::Pending if self.reads_while_blocked() => {}
                Poll::Pending => {
                    self.pause();
                    return self.check_deadlines(now, cx).unwrap_or(Progress::Idle);
                }
            }
        }
        let delivered = match self.read(now, cx) {
            Ok(delivered) => delivered,
            Err(progress) => return progress,
        };
        if let Some(progress) = self.check_deadlines(now, cx) {
            return progress;
        }
        if delivered {
            // What the handler replies is gathered with the replies to what is still to be read,
            // and flushed when there is nothing left to be read.
            return Progress::Again;
        }
        let flushed = self.poll_flush_later(now, cx);
        if self.blocked_since.is_some() && !self.reads_while_blocked() {
            self.pause();
        }
        match flushed {
            Poll::Ready(Err(error)) => self.on_write_error(error, cx).unwrap_or(Progress::Idle),
            _ if self.budget_spent() => Progress::Yield,
            Poll::Ready(Ok(true)) => Progress::Again,
            Poll::Ready(Ok(false)) | Poll::Pending => Progress::Idle,
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

    fn budget_spent(&self) -> bool {
        self.must_yield || self.spent.is_spent()
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        self.link.abort();
    }
}
