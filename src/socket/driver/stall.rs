//! Output that is blocked: how long a peer may take nothing.
//!
//! While output flows, the [`Backlog`] counts what is written, and nothing else here runs.

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

/// How many times `write_timeout` a TCP socket may take nothing for. A receiver reports room in
/// steps: up to 128 KiB with Linux's default buffer.
const SOCKET: u32 = 3;
/// The same for any other stream, behind which there may be buffers and windows of any size.
const OPAQUE: u32 = 10;
/// How many times its usual time a pong may take.
const PONG: u32 = 10;
/// How often in each `write_timeout` a full socket is written to without readiness.
const TRIES: u32 = 4;
/// Whether a socket takes a write before it is reported as writable.
const IS_LATE: bool = cfg!(any(target_os = "android", target_os = "linux"));

/// What is known of how output moves.
#[derive(Debug)]
pub(super) struct Stall {
    pub(super) backlog: Backlog,
    /// How often the socket was written to without readiness since output moved.
    tries: u32,
}

impl Stall {
    pub(super) const fn new(now: Moment) -> Self {
        Self {
            backlog: Backlog::new(now),
            tries: 0,
        }
    }

    /// Notes that the stream takes nothing more: for the first time, or after output has moved.
    pub(super) fn begins(&mut self, now: Moment) {
        self.backlog.update(now);
        self.tries = 0;
    }
}

impl<IO: Io> Driver<IO> {
    /// Writes some of the output to a TCP socket that is not known to be writable, when it is time
    /// for that. Ready with what that made room for.
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
        // Also before the peer is given up.
        self.try_due().is_some_and(|due| due <= now) || self.is_stalled(now)
    }

    /// Returns when the socket is written to without readiness next, if output is blocked.
    fn try_due(&self) -> Option<Moment> {
        let tries = self.stall.tries.saturating_add(1);
        let wait = (self.link.config().write_limit() / TRIES).saturating_mul(tries);
        Some(self.blocked? + wait)
    }

    /// Returns when the peer is given up, if output is blocked.
    fn stall_ends(&self) -> Option<Moment> {
        let since = self.blocked?;
        let rate = match self.phase {
            Phase::Closing(_) => closing::SLOWEST,
            _ => SLOWEST,
        };
        let most = match self.engine.is_tcp() {
            true => SOCKET,
            false => OPAQUE,
        };
        let limit = self.link.config().write_limit();
        Some(since + self.stall.backlog.time_limit(limit, rate, most))
    }

    /// Returns whether the peer has taken nothing for too long.
    pub(super) fn is_stalled(&self, now: Moment) -> bool {
        self.stall_ends().is_some_and(|ends| ends <= now)
    }

    /// Returns when blocked output is to be looked at next.
    pub(super) fn stall_due(&self) -> Option<Moment> {
        let ends = self.stall_ends()?;
        match IS_LATE && self.engine.is_tcp() {
            true => self.try_due().map(|due| due.min(ends)),
            false => Some(ends),
        }
    }

    /// Is called when the timer is set or reached, so that what is written slowly does not add up.
    pub(super) fn settle_backlog(&mut self, now: Moment) {
        let is_pinged = self.keepalive.as_ref().is_some_and(Keepalive::is_waiting);
        // Both count on what was unread when they began.
        if self.blocked.is_none() && !is_pinged {
            self.stall.backlog.update(now);
        }
    }

    /// Returns how much longer than usual the pong may take to a ping that is written now.
    pub(super) fn longer_for_pong(&mut self, now: Moment, answer: Duration) -> Duration {
        self.stall.backlog.update(now);
        self.stall.backlog.time_limit(answer, SLOWEST, PONG) - answer
    }
}
