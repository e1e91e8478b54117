//! A connection that has stopped reading: how long the handler may receive nothing, and whether the
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

/// How often a connection that reads nothing checks whether its peer has gone.
const PROBE: Duration = Duration::from_secs(1);

/// The state of a connection that has stopped reading.
#[derive(Debug, Default)]
pub(super) struct Backpressure {
    /// Since when the inbox is full and the handler has received nothing.
    since: Option<Moment>,
    /// Since when the peer is known to have ended its half of the stream, after the unread input.
    ended: Option<Moment>,
    /// Writing has failed, but the stream may still hold messages for the handler.
    write_error: Option<io::Error>,
}

impl<IO: Io> Driver<IO> {
    /// Handles a failed write. It ends the connection, unless unread messages wait for room in the
    /// inbox that the peer sent before it ended its half. A TCP connection that is reset without a
    /// FIN loses them.
    #[cold]
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
        self.rare_mut().backpressure.get_or_insert_default()
    }

    /// Records that the inbox is full.
    pub(super) fn note_inbox_full(&mut self) {
        self.backpressure().since.get_or_insert_with(timer::now);
    }

    /// Records that the inbox has room.
    #[inline]
    pub(super) fn note_inbox_room(&mut self) {
        if self.rare.is_some() {
            self.end_backpressure();
        }
    }

    #[cold]
    fn end_backpressure(&mut self) {
        self.rare.take_if(|rare| {
            rare.backpressure.take_if(|backpressure| {
                backpressure.since = None;
                backpressure.ended.is_none() && backpressure.write_error.is_none()
            });
            rare.is_empty()
        });
    }

    pub(super) fn has_write_error(&self) -> bool {
        let rare = self.rare.as_ref();
        let backpressure = rare.and_then(|rare| rare.backpressure.as_ref());
        backpressure.is_some_and(|backpressure| backpressure.write_error.is_some())
    }

    /// Records that a write has failed before the driver was polled.
    pub(super) fn note_write_error(&mut self, error: io::Error) {
        self.backpressure().write_error = Some(error);
    }

    /// Takes the error of a failed write if the end of input on TCP comes from it, and not from a FIN before it.
    pub(super) fn take_reset(&mut self) -> Option<io::Error> {
        let is_tcp = self.engine.is_tcp();
        let backpressure = self.rare.as_mut()?.backpressure.as_mut();
        let backpressure = backpressure.filter(|own| is_tcp && own.ended.is_none())?;
        backpressure.write_error.take()
    }

    pub(super) fn take_write_error(&mut self) -> Option<io::Error> {
        self.rare
            .as_mut()?
            .backpressure
            .as_mut()?
            .write_error
            .take()
    }

    /// Checks whether the peer has gone, and for how long the handler has received nothing.
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
        // Nothing else checks this while output is blocked.
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
        let limit = self.link.config().receive_limit();
        report::not_receiving(self.link.info(), limit, self.link.waits_for_peer());
        let fault = RecvError::NotReceived;
        Some(self.fail(fault, CloseCode::POLICY_VIOLATION, cx))
    }

    /// Returns when the handler has to have received a message, if the inbox is full.
    fn receive_due(&self) -> Option<Moment> {
        let backpressure = self.rare.as_ref()?.backpressure.as_ref()?;
        let since = backpressure.since?;
        let due = since + self.link.config().receive_limit();
        Some(match (&backpressure.write_error, backpressure.ended) {
            // Counted from the end of the peer's half, not from the handler's last message.
            (_, Some(ended)) => due.min(since.max(ended) + self.link.config().handler_limit()),
            (Some(_), None) => due.min(since + ANSWER_GRACE),
            (None, None) => due,
        })
    }

    /// Returns when a connection that reads nothing checks again.
    pub(super) fn pause_due(&self, now: Moment) -> Option<Moment> {
        // Every poll probes, so being woken is enough.
        let probe = self.probes.then(|| now + PROBE);
        probe.into_iter().chain(self.receive_due()).min()
    }
}
