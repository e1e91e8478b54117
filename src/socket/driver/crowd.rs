//! A connection that has stopped reading: for how long the handler may take no message, and whether the
//! peer is still there.

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use super::{ANSWER_GRACE, Driver, Turn};
use crate::{
    socket::{RecvError, io::Io, report, timer},
    time::Moment,
    words::CloseCode,
};

/// How often a connection from which nothing is read looks whether its peer has gone.
const PROBE: Duration = Duration::from_secs(1);

/// What is known of a connection that has stopped reading.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// Since when a message has waited for room in the inbox and the handler has taken none.
    since: Option<Moment>,
    /// Since when the peer is known to have ended its half of the stream, behind what is not read yet.
    ended: Option<Moment>,
    /// Nothing can be written any more, for this error, but the stream still holds messages that the
    /// handler takes.
    cut_off: Option<io::Error>,
}

impl<IO: Io> Driver<IO> {
    /// Loses the connection, to which nothing can be written any more, unless messages wait for room
    /// that the peer sent before it ended: those are still the handler's. A TCP connection that is
    /// reset without a FIN loses them.
    pub(super) fn cut_off(&mut self, error: io::Error, cx: &Context<'_>) -> Option<Turn> {
        let is_tcp = self.engine.is_tcp();
        let crowd = self.crowd();
        if crowd.since.is_none() || (is_tcp && crowd.ended.is_none()) {
            return Some(self.lose(RecvError::Io(error), cx));
        }
        crowd.cut_off = Some(error);
        self.blocked = None;
        None
    }

    fn crowd(&mut self) -> &mut Crowd {
        self.crowd.get_or_insert_default()
    }

    /// Notes that a message waits for room.
    pub(super) fn waits_for_room(&mut self) {
        self.crowd().since.get_or_insert_with(timer::now);
    }

    /// Notes that no message waits for room.
    #[inline]
    pub(super) fn has_room(&mut self) {
        let Some(crowd) = &mut self.crowd else { return };
        crowd.since = None;
        if crowd.ended.is_none() && crowd.cut_off.is_none() {
            self.crowd = None;
        }
    }

    pub(super) fn is_cut_off(&self) -> bool {
        let crowd = self.crowd.as_ref();
        crowd.is_some_and(|crowd| crowd.cut_off.is_some())
    }

    pub(super) fn take_cut_off(&mut self) -> Option<io::Error> {
        self.crowd.as_mut()?.cut_off.take()
    }

    /// Looks whether the peer has gone, and how long the handler has taken no message.
    pub(super) fn on_pause(&mut self, now: Moment, cx: &mut Context<'_>) -> Option<Turn> {
        if self.probes && !self.is_cut_off() {
            match self.engine.poll_gone(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    self.crowd().ended.get_or_insert(now);
                }
                Poll::Ready(Err(error)) => {
                    if let Some(turn) = self.cut_off(error, cx) {
                        return Some(turn);
                    }
                }
            }
        }
        if self.crowded_due()? > now {
            return None;
        }
        // Output may have been blocked meanwhile, and nothing been looked at.
        if self.link.has_taken() {
            self.crowd().since = Some(now);
            return None;
        }
        if let Some(error) = self.take_cut_off() {
            return Some(self.lose(RecvError::Io(error), cx));
        }
        if self.crowd().ended.is_some() {
            return Some(self.end_of_stream(cx));
        }
        report::not_receiving(self.link.name(), self.link.config().receive_limit());
        let fault = RecvError::NotReceived;
        Some(self.fail(fault, CloseCode::POLICY_VIOLATION, cx))
    }

    /// Returns until when the handler has to take a message, if one waits for room.
    fn crowded_due(&self) -> Option<Moment> {
        let crowd = self.crowd.as_ref()?;
        let since = crowd.since?;
        let due = since + self.link.config().receive_limit();
        Some(match (&crowd.cut_off, crowd.ended) {
            // From the end on, whatever the handler had been doing for how long.
            (_, Some(ended)) => due.min(since.max(ended) + self.link.config().handler_limit()),
            (Some(_), None) => due.min(since + ANSWER_GRACE),
            (None, None) => due,
        })
    }

    /// Returns when a connection from which nothing is read looks again.
    pub(super) fn pause_due(&self, now: Moment) -> Option<Moment> {
        // Being woken is enough: every poll looks.
        let probe = self.probes.then(|| now + PROBE);
        probe.into_iter().chain(self.crowded_due()).min()
    }
}
