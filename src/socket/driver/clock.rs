//! What the clock asks for: deadlines, pings, and the time that does not count.

use std::task::{Context, Poll};

use super::{Driver, Phase, Turn};
use crate::{
    config::Config,
    socket::{RecvError, io::Io, timer::now},
    time::{
        Moment,
        keepalive::{Due, Keepalive},
    },
    words::{CloseCode, CloseFrame},
};

/// What time brings, whatever the peer does.
#[derive(Debug)]
pub(super) struct Terms {
    first_message_due: Option<Moment>,
    lifetime_ends: Option<Moment>,
}

impl Terms {
    pub(super) fn new(config: &Config, now: Moment) -> Option<Box<Self>> {
        let terms = Self {
            first_message_due: config.first_message_limit().map(|limit| now + limit),
            lifetime_ends: config.lifetime_limit().map(|limit| now + limit),
        };
        let any = terms.first_message_due.or(terms.lifetime_ends);
        any.map(|_| Box::new(terms))
    }
}

impl<IO: Io> Driver<IO> {
    pub(super) fn pause(&mut self) {
        // The time at which the poll began may be long ago: the handler has run meanwhile.
        self.paused.get_or_insert_with(now);
    }

    /// Returns whether nothing is waited for but what comes with time alone: the next ping, the end of
    /// the lifetime.
    fn is_quiet(&self) -> bool {
        self.blocked.is_none()
            && self.paused.is_none()
            && self.assembly_due.is_none()
            && self.waiting.is_none()
            && !self.keepalive.as_ref().is_some_and(Keepalive::is_waiting)
            && matches!(self.phase, Phase::Open)
    }

    /// Returns whether the timer is set for all that is waited for, and is not reached yet.
    #[inline]
    fn is_nothing_due(&self, now: Moment) -> bool {
        self.is_timer_quiet && self.timer.is_before_its_end(now) && self.is_quiet()
    }

    pub(super) fn resume(&mut self, now: Moment) {
        if let Some(since) = self.paused.take() {
            let longer = now.since(since);
            self.link.excuse(since, now);
            if let Some(terms) = &mut self.terms {
                terms.first_message_due = terms.first_message_due.map(|due| due + longer);
            }
            self.heard(now);
        }
    }

    #[inline]
    pub(super) fn first_message_came(&mut self) {
        if let Some(terms) = &mut self.terms {
            terms.first_message_due = None;
        }
    }

    pub(super) fn first_message_due(&self) -> Option<Moment> {
        self.terms.as_ref()?.first_message_due
    }

    fn lifetime_ends(&self) -> Option<Moment> {
        self.terms.as_ref()?.lifetime_ends
    }

    pub(super) fn heard(&mut self, now: Moment) {
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.excuse(now);
        }
    }

    /// Does what the clock asks for; tells what became of the connection, if anything.
    pub(super) fn on_time(&mut self, now: Moment, cx: &mut Context<'_>) -> Option<Turn> {
        if self.is_nothing_due(now) {
            return None;
        }
        let is_due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        if self.is_stalled(now) {
            return Some(self.lose(RecvError::Stalled, cx));
        }
        if is_due(self.lifetime_ends()) {
            let frame = CloseFrame::because(CloseCode::GOING_AWAY, "end of lifetime");
            return Some(self.begin_closing(frame, now, cx));
        }
        if self.paused.is_some() {
            return self.on_pause(now, cx);
        }
        if is_due(self.first_message_due()) {
            let fault = RecvError::NoFirstMessage;
            return Some(self.fail(fault, CloseCode::POLICY_VIOLATION, cx));
        }
        if is_due(self.assembly_due) {
            let fault = RecvError::TooSlow;
            return Some(self.fail(fault, CloseCode::POLICY_VIOLATION, cx));
        }
        // A pong cannot overtake the rest of what is arriving, for which there is a time of its own.
        // Nor can a ping be answered that does not get out, and nothing comes behind an end.
        if self.assembly_due.is_some() || self.blocked.is_some() || self.waiting.is_some() {
            self.heard(now);
        }
        let intervals = self.link.config().keepalive_intervals()?;
        match self.keepalive.as_mut()?.poll(now, intervals) {
            Due::Later(_) => None,
            Due::Gone => Some(self.lose(RecvError::Unresponsive, cx)),
            Due::Ping(payload) => {
                let longer = self.longer_for_pong(now, intervals.answer);
                self.keepalive.as_mut()?.wait_longer(longer);
                self.push_control(|engine| engine.output.push_ping(&payload));
                None
            }
        }
    }

    /// Ready when the clock asks for something.
    pub(super) fn poll_timer(&mut self, now: Moment, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_nothing_due(now) {
            return Poll::Pending;
        }
        self.is_timer_quiet = self.is_quiet();
        let due = self.next_due(now);
        if self.timer.is_set(due, now) {
            return Poll::Pending;
        }
        self.settle_backlog(now);
        if let Some(meter) = &mut self.meter {
            meter.report(self.link.traffic());
        }
        self.timer.poll(due, now, cx)
    }

    /// Returns when the clock asks for something next.
    fn next_due(&self, now: Moment) -> Option<Moment> {
        let dues = match &self.phase {
            Phase::Open => [
                self.stall_due(),
                self.lifetime_ends(),
                self.first_message_due().filter(|_| self.paused.is_none()),
                self.assembly_due.filter(|_| self.paused.is_none()),
                match self.paused {
                    Some(_) => self.pause_due(now),
                    None => self.keepalive_due(),
                },
                self.waiting
                    .as_ref()
                    .and_then(|waiting| waiting.ends)
                    .filter(|_| self.paused.is_none()),
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
