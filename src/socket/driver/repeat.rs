//! A connection that answers each message with itself.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use super::{
    Driver, Phase, Waiting,
    budget::{FOR_A_FRAME, Spent},
};
use crate::socket::{
    engine::{Incoming, Lent, Repeated},
    io::Io,
    timer::now,
    traffic::Traffic,
};

/// What a connection that repeats needs at every message, beside its stream: together in memory, so that
/// few lines of the cache are fetched for a message.
#[derive(Debug)]
#[repr(C)]
pub(in crate::socket) struct Usual {
    /// There is nothing to do but to repeat what comes.
    is_all: bool,
    /// Texts are repeated as they are, too.
    texts: bool,
    /// Something has come since the clock was looked at.
    heard: bool,
    /// Bytes that were repeated since then.
    repeated: u32,
    /// How long a message may be.
    limit: usize,
    /// The [`touches`](Traffic::touches) of which none was for this connection.
    touches: usize,
    traffic: Arc<Traffic>,
}

impl<IO: Io> Driver<IO> {
    /// Prepares for messages that are repeated.
    pub(in crate::socket) fn usual(&self) -> Usual {
        Usual {
            is_all: false,
            texts: self.repeat.as_ref().is_some_and(|prefix| prefix.is_empty()),
            heard: false,
            repeated: 0,
            limit: 0,
            touches: 0,
            traffic: Arc::clone(self.link.traffic()),
        }
    }

    /// Does what there is to do in the usual case of a connection that repeats: messages have
    /// arrived, whole, and their answers can be written at once. Tells whether that was all, so that
    /// the task sleeps again as it did; else the rest is for [`poll`](Self::poll).
    ///
    /// For the task that was parked last.
    // All of it in one function: behind a system call each return to another one costs some 20 ns. The
    // clock, which costs twice that, is not looked at.
    #[inline(always)]
    pub(in crate::socket) fn repeats_all(
        &mut self,
        usual: &mut Usual,
        cx: &mut Context<'_>,
    ) -> bool {
        if !usual.is_all {
            return false;
        }
        let touches = usual.traffic.touches();
        if touches != usual.touches {
            if !self.link.is_parked() {
                return false;
            }
            usual.touches = touches;
        }
        let mut spent = Spent::default();
        let mut input = Lent::take();
        loop {
            let most = spent.repeats_left(0);
            let (limit, texts) = (usual.limit, usual.texts);
            let step = self
                .engine
                .poll_in_place(cx, &mut input, limit, texts, most);
            let Poll::Ready(step) = step else {
                input.give_back();
                return true;
            };
            // What `count` does, where no ping waits and nothing is added to a message.
            if step.messages > 0 {
                usual.heard = true;
                usual.repeated = usual.repeated.wrapping_add(step.bytes as u32);
                usual.traffic.repeated(step.messages, step.bytes);
            }
            spent.add(step.messages.div_ceil(FOR_A_FRAME), step.read + step.bytes);
            if !step.rests || spent.is_enough() {
                self.spent = spent;
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

    /// Makes up for what was [left out](Self::repeats_all) when messages were repeated.
    pub(in crate::socket) fn catch_up(&mut self, usual: &mut Usual) {
        if std::mem::take(&mut usual.heard) {
            let repeated = std::mem::take(&mut usual.repeated);
            let now = now();
            self.heard(now);
            self.stall.backlog.take(repeated as usize, now);
        }
    }

    /// Looks whether there is nothing to do, for now, but to repeat what comes; to be called when
    /// the task has done all that there was, and is to sleep.
    pub(in crate::socket) fn settle(&mut self, usual: &mut Usual) {
        let limit = self.engine.in_place_limit();
        usual.limit = limit.unwrap_or_default();
        // Before the link is asked: a touch that is counted here has been seen there.
        usual.touches = usual.traffic.touches();
        usual.is_all = limit.is_some()
            // Nobody waits for the first message, which may be due later than what is next then.
            && self.first_message_due().is_none()
            && matches!(self.phase, Phase::Open)
            && self.is_loose()
            && self.link.is_parked();
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
