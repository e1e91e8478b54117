//! The connection's side of a session: when to read, write, close and give up.
//!
//! [`Driver::poll`] does all work that is possible without waiting. Reading stops while the inbox
//! is full or output is blocked, so neither side can make the other's memory grow.
//!
//! | File | Holds |
//! | --- | --- |
//! | `reading` | messages, control frames, the end of input |
//! | `writing` | output, and reporting it to the link |
//! | `lending` | what rooms write while the connection sleeps |
//! | `clock` | deadlines and pings |
//! | `pinging` | the application's pings, and all pongs |
//! | `backpressure` | a connection that has stopped reading |
//! | `stall` | a peer that does not read |
//! | `closing` | the closing handshake |
//! | `shedding` | the end of a connection that holds too much |

mod backpressure;
mod clock;
mod closing;
#[cfg(feature = "hub")]
mod lending;
mod pinging;
mod reading;
mod settling;
mod shedding;
mod stall;
mod writing;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use self::{backpressure::Backpressure, clock::Deadlines, closing::Step, stall::Stall};
use super::{
    budget::{Budget, Spent},
    engine::Engine,
    events::Meter,
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

/// How long the end of input waits for the handler's answers, counted from the last message that
/// the handler received.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// The result of a poll of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// Poll the handler, then the connection again.
    Again,
    /// Let other tasks run.
    Yield,
    /// Wait for input, for the handler or for a timer.
    Idle,
    /// The connection is over.
    Over,
}

/// The connection's end of a [`Link`].
///
/// The fields that every message needs come first, as in the link.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Driver<IO> {
    link: Arc<Link>,
    engine: Engine<IO>,
    phase: Phase,
    /// The output written, and the input discarded while closing, in this poll of the task.
    spent: Spent,
    /// The bytes that this poll of the task may still inflate and compress.
    inflate_budget: Budget,
    compress_budget: Budget,
    /// This poll of the task has decoded or compressed enough.
    must_yield: bool,
    /// The stream had nothing to read when the task fell asleep. The next poll reads before
    /// anything else.
    reads_first: bool,
    /// All queued messages are in the output, as far as this poll has seen.
    outbox_empty: bool,
    /// Bytes were written since the last flush.
    unflushed: bool,
    has_unreported: bool,
    /// Rooms may write to the stream.
    #[cfg(feature = "hub")]
    is_lent: bool,
    /// The stream can report, without being read, whether the peer has gone.
    probes: bool,
    /// The load that was written and flushed, and not reported to the link yet. Valid if
    /// `has_unreported`.
    unreported: Load,
    /// The bytes of control frames in the output. They take no room in the outbox.
    control_bytes: usize,
    /// `None` until a part of it is needed.
    rare: Option<Box<Rare>>,
    /// Since when the stream takes no output.
    blocked_since: Option<Moment>,
    /// Since when nothing is read. The peer's deadlines stand still.
    paused_since: Option<Moment>,
    /// When the message that has begun to arrive is too slow.
    assembly_due: Option<Moment>,
    /// Until when no deadline is reached as long as [`is_idle`](Self::is_idle) is true.
    idle_until: Option<Moment>,
    stall: Stall,
    keepalive: Option<Keepalive>,

    control_frames: Bucket,
}

/// The state that most connections never need, or only at their end.
#[derive(Debug, Default)]
struct Rare {
    deadlines: Option<Box<Deadlines>>,
    /// Reports traffic and round trips, if the connection is observed.
    meter: Option<Box<Meter>>,
    /// An end of input that was read and not handled yet.
    pending_end: Option<Box<PendingEnd>>,
    /// The newest ping that was not answered because output is blocked.
    unanswered_ping: Option<Box<Control>>,
    backpressure: Option<Box<Backpressure>>,
}

impl Rare {
    const fn is_empty(&self) -> bool {
        self.deadlines.is_none()
            && self.meter.is_none()
            && self.pending_end.is_none()
            && self.unanswered_ping.is_none()
            && self.backpressure.is_none()
    }
}

/// Why the input ends.
#[derive(Debug)]
enum EndCause {
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
    /// The peer has sent a Close. The handler may still answer earlier messages.
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
    /// Our Close, while earlier messages are compressed; `Some(None)` is a Close without a code.
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
        let mut engine = Engine::new(io, rules.role);
        let probes = probes || engine.is_tcp();
        link.begin(rules, &early, engine.is_contiguous(), now);
        let keepalive = config.keepalive_intervals();
        let id = link.id();
        let hook = link.hook();
        let is_counted = hook.is_some_and(|hook| hook.counts);
        let observed = hook.filter(|hook| hook.is_observed);
        let meter = observed.map(|hook| Box::new(Meter::new(hook, id)));
        if is_counted {
            engine.follow_frames();
        }
        let deadlines = Deadlines::new(&config, now);
        Self {
            engine,
            link,
            phase: Phase::Open,
            idle_until: None,
            reads_first: false,
            outbox_empty: false,
            unreported: Load::default(),
            has_unreported: false,
            spent: Spent::default(),
            inflate_budget: Budget::default(),
            compress_budget: Budget::default(),
            must_yield: false,
            assembly_due: None,
            blocked_since: None,
            unflushed: false,
            #[cfg(feature = "hub")]
            is_lent: false,
            control_bytes: 0,
            keepalive: keepalive.map(|_| Keepalive::new(seed, now)),
            paused_since: None,
            probes,
            control_frames: Bucket::new(config.control_frames(), now),
            stall: Stall::new(now),
            rare: (deadlines.is_some() || meter.is_some()).then(|| {
                Box::new(Rare {
                    deadlines,
                    meter,
                    ..Rare::default()
                })
            }),
        }
    }

    /// Does all work that is possible now.
    ///
    /// The `clock` may be late by the time that the handler has run in this poll of the task. The
    /// time is read again where a wait begins and when a timer is reached.
    pub(super) fn poll(
        &mut self,
        timer: Pin<&mut Timer>,
        clock: &mut Moment,
        cx: &mut Context<'_>,
    ) -> Progress {
        let now = *clock;
        #[cfg(feature = "hub")]
        self.take_back(now);
        self.report_written(cx);
        self.outbox_empty = false;
        let progress = match self.phase {
            _ if self.link.take_shed() => self.shed(now, cx),
            Phase::Open => self.poll_open(now, cx),
            Phase::Answering(_) => self.poll_answering(now, cx),
            Phase::Closing(_) => self.poll_closing(now, cx),
            Phase::Over => Progress::Over,
        };
        match progress {
            Progress::Idle if self.poll_timer(timer, now, cx).is_ready() => {
                *clock = timer::now();
                Progress::Again
            }
            progress => progress,
        }
    }

    /// Lets the task sleep, unless the connection or the handler has more to do.
    pub(super) fn try_sleep(&mut self, cx: &Context<'_>) -> TrySleep {
        let written = self.take_unreported();
        let sleep = self.link.try_sleep(written, cx);
        #[cfg(feature = "hub")]
        if self.link.is_member() && sleep == TrySleep::Asleep {
            self.lend();
        }
        sleep
    }

    /// Prepares for a yield to other tasks.
    pub(super) fn before_yield(&mut self, cx: &Context<'_>) {
        self.report_written(cx);
        self.link.give_back_buffers();
    }

    /// Ends a poll of the task: gives shared buffers back and resets the budgets.
    pub(super) fn end_poll(&mut self) {
        self.spent = Spent::default();
        self.inflate_budget = Budget::default();
        self.compress_budget = Budget::default();
        self.must_yield = false;
        self.engine.give_back_buffers();
    }

    fn poll_open(&mut self, now: Moment, cx: &mut Context<'_>) -> Progress {
        let looks = self.blocked_since.is_none() && !self.is_end_pending();
        let close = match looks {
            true => None,
            false => self.link.take_close(),
        };
        if let Some(frame) = close {
            return self.begin_closing(frame, now, cx);
        }
        if self.blocked_since.is_some() {
            // A server reads nothing while output is blocked.
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
            // The answers to this message and to the rest of the input are gathered, and flushed
            // together when there is nothing left to read.
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

    /// Returns whether input is read while output is blocked. Clients read: if neither side did,
    /// each could wait for the other forever.
    fn reads_while_blocked(&self) -> bool {
        matches!(self.link.role(), Role::Client)
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn answer_grace(&self) -> Duration {
        ANSWER_GRACE.min(self.link.config().close_limit())
    }

    fn budget_spent(&self) -> bool {
        self.must_yield || self.spent.is_spent()
    }
}

impl<IO> Driver<IO> {
    /// Reports the traffic to those who observe the connection.
    fn report_traffic(&mut self) {
        if let Some(meter) = self.rare.as_mut().and_then(|rare| rare.meter.as_mut()) {
            meter.report(self.link.traffic());
        }
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        #[cfg(feature = "hub")]
        drop(self.link.take_lent());
        self.link.abort();
        self.link.count_rest();
        self.report_traffic();
    }
}
