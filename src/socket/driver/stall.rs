//! Blocked output: how long a peer may read nothing.
//!
//! While output flows, only the [`Backlog`] runs: it counts written bytes.

use std::{io, task::Poll, time::Duration};

use super::{Driver, Phase, closing};
use crate::{
    codec::Load,
    socket::io::Io,
    time::{
        Moment,
        backlog::{Backlog, SLOWEST},
        keepalive::Keepalive,
    },
};

/// How many times `write_timeout` a TCP socket may take nothing. A receiver reports room in steps,
/// up to 128 KiB with Linux's default buffer.
const TCP_FACTOR: u32 = 3;
/// The same for any other stream. Behind it there may be buffers and windows of any size.
const OTHER_FACTOR: u32 = 10;
/// How many times its usual time a pong may take.
const PONG_FACTOR: u32 = 10;
/// How often in each `write_timeout` the driver tries to write to a full socket.
const TRIES: u32 = 4;
/// Whether the system reports a socket as writable later than it takes a write.
const READINESS_IS_LATE: bool = cfg!(any(target_os = "android", target_os = "linux"));

/// The progress of the output.
#[derive(Debug)]
pub(super) struct Stall {
    pub(super) backlog: Backlog,
    /// The tries to write to a full socket since output last moved.
    tries: u32,
}

impl Stall {
    pub(super) const fn new(now: Moment) -> Self {
        Self {
            backlog: Backlog::new(now),
            tries: 0,
        }
    }

    /// Records that the stream takes no more output, either for the first time or after some
    /// progress.
    pub(super) fn begins(&mut self, now: Moment) {
        self.backlog.update(now);
        self.tries = 0;
    }
}

impl<IO: Io> Driver<IO> {
    /// Tries to write to a TCP socket that is not reported as writable, when a try is due. Ready
    /// with the load that was written.
    pub(super) fn poll_write_without_readiness(&mut self, now: Moment) -> Poll<io::Result<Load>> {
        if !self.engine.is_tcp() || !self.is_try_due(now) {
            return Poll::Pending;
        }
        self.stall.tries = self.stall.tries.saturating_add(1);
        let written = self.engine.write_without_readiness()?;
        match written.is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(Ok(written)),
        }
    }

    fn is_try_due(&self, now: Moment) -> bool {
        // The last try comes just before the peer is given up.
        self.try_due().is_some_and(|due| due <= now) || self.is_stalled(now)
    }

    /// Returns when the next try to write is due, if output is blocked.
    fn try_due(&self) -> Option<Moment> {
        let tries = self.stall.tries.saturating_add(1);
        let wait = (self.link.config().write_limit() / TRIES).saturating_mul(tries);
        Some(self.blocked_since? + wait)
    }

    /// Returns when the peer is given up, if output is blocked.
    fn stall_ends(&self) -> Option<Moment> {
        let since = self.blocked_since?;
        let rate = match self.phase {
            Phase::Closing(_) => closing::MIN_RATE,
            _ => SLOWEST,
        };
        let most = match self.engine.is_tcp() {
            true => TCP_FACTOR,
            false => OTHER_FACTOR,
        };
        let limit = self.link.config().write_limit();
        Some(since + self.stall.backlog.time_limit(limit, rate, most))
    }

    /// Returns whether the peer has read nothing for too long.
    pub(super) fn is_stalled(&self, now: Moment) -> bool {
        self.stall_ends().is_some_and(|ends| ends <= now)
    }

    /// Returns when blocked output has to be checked next.
    pub(super) fn stall_due(&self) -> Option<Moment> {
        let ends = self.stall_ends()?;
        match READINESS_IS_LATE && self.engine.is_tcp() {
            true => self.try_due().map(|due| due.min(ends)),
            false => Some(ends),
        }
    }

    /// Settles the backlog, so that slow writes do not add up. Called when the timer is set or
    /// reached.
    pub(super) fn settle_backlog(&mut self, now: Moment) {
        let is_pinged = self.keepalive.as_ref().is_some_and(Keepalive::is_waiting);
        // Blocked output and a pong are judged by the bytes that were unread when they began.
        if self.blocked_since.is_none() && !is_pinged {
            self.stall.backlog.update(now);
        }
    }

    /// Returns how much longer than usual the pong may take for a ping that is written now.
    pub(super) fn extra_pong_time(&mut self, now: Moment, answer: Duration) -> Duration {
        self.stall.backlog.update(now);
        self.stall.backlog.time_limit(answer, SLOWEST, PONG_FACTOR) - answer
    }
}
