//! A connection that has stopped reading: for how long the handler may take no message, and whether the
//! peer is still there.

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use super::{ANSWER_GRACE, Driver, Progress};
use crate::{
    socket::{RecvError, io::Io, report, timer},
    time::Moment,
    words::CloseCode,
};

/// How often a connection from which nothing is read looks whether its peer has gone.
const PROBE: Duration = Duration::from_secs(1);

/// What is known of a connection that has stopped reading.
#[derive(Debug, Default)]
pub(super) struct Backpressure {
    /// Since when a message has waited for room in the inbox and the handler has taken none.
    since: Option<Moment>,
    /// Since when the peer is known to have ended its half of the stream, behind what is not read yet.
    ended: Option<Moment>,
    /// Nothing can be written any more, for this error, but the stream still holds messages that the
    /// handler takes.
    write_error: Option<io::Error>,
}

impl<IO: Io> Driver<IO> {
    /// Loses the connection, to which nothing can be written any more, unless messages wait for room
    /// that the peer sent before it ended: those are still the handler's. A TCP connection that is
    /// reset without a FIN loses them.
    pub(super) fn on_write_error(
        &mut self,
        error: io::Error,
        cx: &Context<'_>,
    ) -> Option<Progress> {
        let is_tcp = self.engine.is_tcp();
        let backpressure = self.backpressure();
        if backpressure.since.is_none() || (is_tcp && backpressure.ended.is_none()) {
            return Some(self.lose(RecvError::Io(error), cx));
        }
        backpressure.write_error = Some(error);
        self.blocked_since = None;
        None
    }

    fn backpressure(&mut self) -> &mut Backpressure {
        self.backpressure.get_or_insert_default()
    }

    /// Notes that a message waits for room.
    pub(super) fn note_inbox_full(&mut self) {
        self.backpressure().since.get_or_insert_with(timer::now);
    }

    /// Notes that no message waits for room.
    #[inline]
    pub(super) fn note_inbox_room(&mut self) {
        let Some(backpressure) = &mut self.backpressure else {
            return;
        };
        backpressure.since = None;
        if backpressure.ended.is_none() && backpressure.write_error.is_none() {
            self.backpressure = None;
        }
    }

    pub(super) fn has_write_error(&self) -> bool {
        let backpressure = self.backpressure.as_ref();
        backpressure.is_some_and(|backpressure| backpressure.write_error.is_some())
    }

    pub(super) fn take_write_error(&mut self) -> Option<io::Error> {
        self.backpressure.as_mut()?.write_error.take()
    }

    /// Looks whether the peer has gone, and how long the handler has taken no message.
    pub(super) fn check_pause(&mut self, now: Moment, cx: &mut Context<'_>) -> Option<Progress> {
        if self.probes && !self.has_write_error() {
            match self.engine.poll_gone(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    self.backpressure().ended.get_or_insert(now);
                }
                Poll::Ready(Err(error)) => {
                    if let Some(progress) = self.on_write_error(error, cx) {
                        return Some(progress);
                    }
                }
            }
        }
        if self.receive_due()? > now {
            return None;
        }
        // Output may have been blocked meanwhile, and nothing been looked at.
        if self.link.holder_has_received() {
            self.backpressure().since = Some(now);
            return None;
        }
        if let Some(error) = self.take_write_error() {
            return Some(self.lose(RecvError::Io(error), cx));
        }
        if self.backpressure().ended.is_some() {
            return Some(self.end_of_stream(cx));
        }
        report::not_receiving(self.link.name(), self.link.config().receive_limit());
        let fault = RecvError::NotReceived;
        Some(self.fail(fault, CloseCode::POLICY_VIOLATION, cx))
    }

    /// Returns until when the handler has to take a message, if one waits for room.
    fn receive_due(&self) -> Option<Moment> {
        let backpressure = self.backpressure.as_ref()?;
        let since = backpressure.since?;
        let due = since + self.link.config().receive_limit();
        Some(match (&backpressure.write_error, backpressure.ended) {
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
        probe.into_iter().chain(self.receive_due()).min()
    }
}
