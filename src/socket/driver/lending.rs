//! Lending the stream to rooms, which write while the connection sleeps.

use super::{Driver, Phase};
use crate::{socket::io::Io, time::Moment};

impl<IO: Io> Driver<IO> {
    /// Lends the stream, if nothing is left to write and nothing ends.
    pub(super) fn lend(&mut self) {
        let is_quiet = matches!(self.phase, Phase::Open)
            && self.blocked_since.is_none()
            && !self.is_end_pending();
        if is_quiet {
            self.is_lent = self.link.lend(|| self.engine.lend());
        }
    }

    /// Takes the stream back, and the queue of rooms, which may begin with the rest of a frame.
    #[inline]
    pub(super) fn take_back(&mut self, now: Moment) {
        if self.is_lent {
            self.take_back_slow(now);
        }
    }

    #[cold]
    fn take_back_slow(&mut self, now: Moment) {
        self.is_lent = false;
        let back = self.link.take_back(&mut self.engine.output);
        if let Some(stream) = back.stream {
            self.engine.take_back(stream);
        }
        if let Some(error) = back.failed {
            // Input from before the error is still read.
            self.note_write_error(error);
        }
        let bytes = usize::try_from(back.written).unwrap_or(usize::MAX);
        self.stall.backlog.add(bytes, now);
    }
}
