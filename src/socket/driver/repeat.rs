//! A connection that answers each message with itself.

use std::{
    io,
    task::{Context, Poll},
    time::Instant,
};

use super::{
    Driver, Phase, Waiting,
    budget::{FOR_A_FRAME, Spent},
};
use crate::{
    keepalive::Keepalive,
    socket::{
        engine::{Incoming, Lent, Repeated},
        io::Io,
        timer::now,
    },
};

/// How long a connection that repeats has nothing to do but that.
#[derive(Clone, Copy, Debug)]
pub(super) enum Idle {
    Never,
    /// Until the clock asks for something.
    Until(Instant),
    Always,
}

impl Idle {
    #[inline]
    fn is_over(self, now: Instant) -> bool {
        match self {
            Self::Never => true,
            Self::Until(due) => now >= due,
            Self::Always => false,
        }
    }
}

impl<IO: Io> Driver<IO> {
    /// Does what there is to do in the usual case of a connection that repeats: messages have
    /// arrived, whole, and their answers can be written at once. Tells whether that was all, so that
    /// the task sleeps again as it did; else the rest is for [`poll`](Self::poll).
    ///
    /// For the task that was parked last.
    // All of it in one function: behind a system call each return to another one costs some 20 ns.
    #[inline(always)]
    pub(in crate::socket) fn repeats_all(&mut self, cx: &mut Context<'_>) -> bool {
        if matches!(self.idle, Idle::Never) || !self.link.is_parked() {
            return false;
        }
        let now = now();
        if self.idle.is_over(now) {
            return false;
        }
        let texts = self.repeat.as_ref().is_some_and(|prefix| prefix.is_empty());
        let mut input = Lent::take();
        loop {
            let most = self.spent.repeats_left(0);
            let step = self.engine.poll_in_place(cx, &mut input, texts, most);
            let Poll::Ready(step) = step else {
                input.give_back();
                self.spent = Spent::default();
                return true;
            };
            // What `count` does, where no ping waits and nothing is added to a message.
            if step.messages > 0 {
                if let Some(keepalive) = &mut self.keepalive {
                    keepalive.heard(now);
                }
                self.first_message_came();
                self.link.traffic().repeated(step.messages, step.bytes);
            }
            self.spent
                .add(step.messages.div_ceil(FOR_A_FRAME), step.read + step.bytes);
            if !step.rests || self.has_spent() {
                self.engine.take(input);
                // Acted on where every other is.
                self.waiting = step.stopped.map(|incoming| {
                    let (incoming, ends) = (*incoming, None);
                    Box::new(Waiting { incoming, ends })
                });
                return false;
            }
        }
    }

    /// Looks whether there is nothing to do, for now, but to repeat what comes; to be called when
    /// the task has done all that there was, and is to sleep.
    pub(in crate::socket) fn settle(&mut self) {
        let is_usual = self.repeat.is_some()
            && matches!(self.phase, Phase::Open)
            // A message ends that wait, and what is due next may be due earlier then.
            && !self.keepalive.as_ref().is_some_and(Keepalive::waits)
            // It is not where output is blocked, nor where reading has paused for that.
            && self.engine.is_at_rest();
        self.idle = match self.timer.wakes_at() {
            _ if !is_usual => Idle::Never,
            Some(due) => Idle::Until(due),
            None => Idle::Always,
        };
    }

    pub(super) fn poll_incoming(
        &mut self,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Incoming>> {
        let Some(prefix) = &self.repeat else {
            return self.engine.poll_incoming(cx, now);
        };
        let mut repeated = Repeated::default();
        let most = self.spent.repeats_left(prefix.len());
        let incoming = self
            .engine
            .poll_repeated(cx, now, prefix, most, &mut repeated);
        self.count(&repeated, now);
        incoming
    }

    fn count(&mut self, repeated: &Repeated, now: Instant) {
        if repeated.messages > 0 {
            self.heard(now);
            let added = repeated.sent - repeated.received;
            let frames = repeated.messages.div_ceil(FOR_A_FRAME);
            self.spent.add(frames, added);
            self.first_message_came();
            let traffic = self.link.traffic();
            if added == 0 {
                return traffic.repeated(repeated.messages, repeated.received);
            }
            traffic.received(repeated.messages, repeated.received);
            traffic.sent(repeated.messages, repeated.sent);
        }
    }
}
