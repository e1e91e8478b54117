//! Deadlines, pings, and the time that does not count.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{Driver, Phase, Progress};
use crate::{
    config::Config,
    socket::{
        RecvError,
        io::Io,
        timer::{Timer, now},
    },
    time::{
        Moment,
        keepalive::{Due, Keepalive},
    },
    words::{CloseCode, CloseFrame},
};

/// How long a connection without any deadline does not look for one.
const NEVER: Duration = Duration::from_secs(3600);

/// Deadlines that do not depend on keepalive or on blocked output.
#[derive(Debug)]
pub(super) struct Deadlines {
    first_message_due: Option<Moment>,
    lifetime_ends: Option<Moment>,
}

impl Deadlines {
    pub(super) fn new(config: &Config, now: Moment) -> Option<Box<Self>> {
        let deadlines = Self {
            first_message_due: config.first_message_limit().map(|limit| now + limit),
            lifetime_ends: config.lifetime_limit().map(|limit| now + limit),
        };
        let any = deadlines.first_message_due.or(deadlines.lifetime_ends);
        any.map(|_| Box::new(deadlines))
    }
}

impl<IO: Io> Driver<IO> {
    pub(super) fn pause(&mut self) {
        // Read again: the handler may have run since the poll began.
        self.paused_since.get_or_insert_with(now);
    }

    /// Returns whether the connection waits for nothing but the next ping and the end of its
    /// lifetime.
    fn is_idle(&self) -> bool {
        self.blocked_since.is_none()
            && self.paused_since.is_none()
            && self.assembly_due.is_none()
            && !self.is_end_pending()
            && !self.keepalive.as_ref().is_some_and(Keepalive::is_waiting)
            && matches!(self.phase, Phase::Open)
    }

    /// Returns whether no deadline is reached, as far as the timer already covers all of them.
    #[inline]
    pub(super) fn is_nothing_due(&self, now: Moment) -> bool {
        self.idle_until.is_some_and(|until| now < until) && self.is_idle()
    }

    #[inline]
    fn deadlines_mut(&mut self) -> Option<&mut Deadlines> {
        self.rare.as_mut()?.deadlines.as_deref_mut()
    }

    #[inline]
    pub(super) fn resume(&mut self, now: Moment) {
        if self.paused_since.is_some() {
            self.resume_slow(now);
        }
    }

    #[cold]
    fn resume_slow(&mut self, now: Moment) {
        if let Some(since) = self.paused_since.take() {
            let longer = now.since(since);
            self.link.exclude_pause(since, now);
            if let Some(deadlines) = self.deadlines_mut() {
                deadlines.first_message_due = deadlines.first_message_due.map(|due| due + longer);
            }
            self.reset_keepalive(now);
        }
    }

    #[inline]
    pub(super) fn first_message_came(&mut self) {
        if let Some(deadlines) = self.deadlines_mut() {
            deadlines.first_message_due = None;
        }
    }

    pub(super) fn first_message_due(&self) -> Option<Moment> {
        self.rare.as_ref()?.deadlines.as_ref()?.first_message_due
    }

    fn lifetime_ends(&self) -> Option<Moment> {
        self.rare.as_ref()?.deadlines.as_ref()?.lifetime_ends
    }

    pub(super) fn reset_keepalive(&mut self, now: Moment) {
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.cancel_ping(now);
        }
    }

    /// Handles deadlines that are reached. Returns the result of the poll if one of them ends the
    /// connection.
    #[inline]
    pub(super) fn check_deadlines(
        &mut self,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Option<Progress> {
        match self.is_nothing_due(now) {
            true => None,
            false => self.check_deadlines_slow(now, cx),
        }
    }

    #[inline(never)]
    fn check_deadlines_slow(&mut self, now: Moment, cx: &mut Context<'_>) -> Option<Progress> {
        let is_due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        if self.is_stalled(now) {
            return Some(self.lose(RecvError::Stalled, cx));
        }
        if is_due(self.lifetime_ends()) {
            let frame = CloseFrame::truncated(CloseCode::GOING_AWAY, "end of lifetime");
            return Some(self.begin_closing(Some(frame), now, cx));
        }
        if self.paused_since.is_some() {
            return self.check_pause(now, cx);
        }
        if is_due(self.first_message_due()) {
            let fault = RecvError::NoFirstMessage;
            return Some(self.fail(fault, CloseCode::POLICY_VIOLATION, cx));
        }
        if is_due(self.assembly_due) {
            let fault = RecvError::TooSlow;
            return Some(self.fail(fault, CloseCode::POLICY_VIOLATION, cx));
        }
        // A message that is arriving delays a pong, and has its own deadline. A ping that cannot be
        // written gets no answer. After the end of input no answer comes.
        if self.assembly_due.is_some() || self.blocked_since.is_some() || self.is_end_pending() {
            self.reset_keepalive(now);
        }
        let intervals = self.link.config().keepalive_intervals()?;
        match self.keepalive.as_mut()?.poll(now, intervals) {
            Due::Later(_) => None,
            Due::Gone => Some(self.lose(RecvError::Unresponsive, cx)),
            Due::Ping(payload) => {
                let longer = self.extra_pong_time(now, intervals.answer);
                self.keepalive.as_mut()?.extend_timeout(longer);
                self.push_control(|engine| engine.output.push_ping(&payload));
                None
            }
        }
    }

    /// Ready when a deadline is reached.
    #[inline]
    pub(super) fn poll_timer(
        &mut self,
        timer: Pin<&mut Timer>,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        match self.is_nothing_due(now) {
            true => Poll::Pending,
            false => self.poll_timer_slow(timer, now, cx),
        }
    }

    #[inline(never)]
    fn poll_timer_slow(
        &mut self,
        mut timer: Pin<&mut Timer>,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let due = self.next_due(now);
        if !timer.is_set(due, now) {
            self.settle_backlog(now);
            self.report_traffic();
            if timer.as_mut().poll(due, now, cx).is_ready() {
                // The timer wakes the task no more.
                self.idle_until = None;
                return Poll::Ready(());
            }
        }
        let until = match due {
            Some(_) => timer.wakes_at(),
            // Nothing is ever due, until the connection is no longer idle.
            None => Some(now + NEVER),
        };
        self.idle_until = until.filter(|_| self.is_idle());
        Poll::Pending
    }

    /// Returns the next deadline.
    fn next_due(&self, now: Moment) -> Option<Moment> {
        let dues = match &self.phase {
            Phase::Open => [
                self.stall_due(),
                self.lifetime_ends(),
                self.first_message_due()
                    .filter(|_| self.paused_since.is_none()),
                self.assembly_due.filter(|_| self.paused_since.is_none()),
                match self.paused_since {
                    Some(_) => self.pause_due(now),
                    None => self.keepalive_due(),
                },
                self.pending_end()
                    .and_then(|pending_end| pending_end.ends)
                    .filter(|_| self.paused_since.is_none()),
            ],
            Phase::Answering(answering) => {
                [Some(answering.answer_at), None, None, None, None, None]
            }
            Phase::Closing(closing) => [
                self.stall_due(),
                Some(closing.deadline),
                None,
                None,
                None,
                None,
            ],
            Phase::Over => [None; 6],
        };
        dues.into_iter().flatten().min()
    }

    fn keepalive_due(&self) -> Option<Moment> {
        let keepalive = self.keepalive.as_ref()?;
        Some(keepalive.deadline(self.link.config().keepalive_intervals()?))
    }
}
