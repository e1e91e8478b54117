//! The usual end of a poll, in one step.

use std::{io::IoSlice, task::Context};

use super::Driver;
use crate::{
    socket::{io::Io, link::TrySleep, tcp_write::write},
    time::Moment,
};

impl<IO: Io> Driver<IO> {
    /// Writes the handler's answers and lets the task sleep, if that is all there is to do, as it is after most
    /// messages on TCP. Returns `None` if there is more: the next poll of the driver does it.
    ///
    /// This is what that poll would do, in one step: it takes the lock once, and looks at what one message needs.
    /// Streams other than TCP may run foreign code when they are written to, which must not run under the lock.
    #[inline]
    pub(in crate::socket) fn settle(
        &mut self,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Option<TrySleep> {
        #[cfg(feature = "hub")]
        if self.link.is_member() {
            // Its stream has to be lent.
            return None;
        }
        let is_usual = self.is_nothing_due(now) && self.engine.is_quiet();
        let tcp = self.engine.tcp().filter(|_| is_usual)?;
        if tcp.poll_read_ready(cx).is_ready() {
            return None;
        }
        let write = |bytes: &[u8]| write(tcp, &[IoSlice::new(bytes)]);
        let settled = self.link.settle(write, cx);
        self.reads_first = settled.sleep.is_some();
        if settled.message_decoded {
            self.reset_keepalive(now);
            self.first_message_came();
        }
        match settled.written {
            Ok(written) => self.stall.backlog.add(written, now),
            // Input from before the error is still read.
            Err(error) => self.note_write_error(error),
        }
        settled.sleep
    }
}
