//! A connection that answers each message with itself.

use std::{
    io,
    task::{Context, Poll},
    time::Instant,
};

use super::{Driver, Phase, Waiting, budget::FOR_A_FRAME};
use crate::{
    keepalive::Keepalive,
    socket::{
        engine::{Incoming, Repeated},
        io::Io,
        timer::now,
    },
};

impl<IO: Io> Driver<IO> {
    /// Does what there is to do in the usual case of a connection that repeats: messages have
    /// arrived, whole, and their answers can be written at once. Tells whether that was all, so that
    /// the task sleeps again as it did; else the rest is for [`poll`](Self::poll).
    ///
    /// For the task that was parked last.
    pub(in crate::socket) fn repeats_all(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(prefix) = &self.repeat else {
            return false;
        };
        let is_usual = matches!(self.phase, Phase::Open)
            && self.waiting.is_none()
            && self.blocked.is_none()
            && self.paused.is_none()
            // A message ends that wait, and what is due next may be due earlier then.
            && !self.keepalive.as_ref().is_some_and(Keepalive::waits)
            && self.link.is_parked();
        if !is_usual {
            return false;
        }
        let now = now();
        if !self.timer.is_ahead(now) {
            return false;
        }
        let texts = prefix.is_empty();
        while self.engine.is_at_rest() && !self.has_spent() {
            let mut repeated = Repeated::default();
            let most = self.spent.repeats_left(0);
            let read = match self.engine.poll_in_place(cx, texts, most, &mut repeated) {
                Poll::Ready(read) => read,
                Poll::Pending => return true,
            };
            self.count(&repeated, now);
            match read {
                Ok(read) => self.spent.add(0, read + repeated.sent),
                Err(incoming) => {
                    // Acted on where every other is.
                    let (incoming, ends) = (*incoming, None);
                    self.waiting = Some(Box::new(Waiting { incoming, ends }));
                    break;
                }
            }
        }
        false
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
