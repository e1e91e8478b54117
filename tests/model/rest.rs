//! Assertions for the moment at which all tasks sleep and the peer has read everything.

use std::time::Duration;

use tokio::time::Instant;

use super::{GRACE, Oracle, Waits};
use crate::words::{Cause, HOLDER};

/// The maximum delay of a timer.
const TICKS: Duration = Duration::from_millis(5);

impl Oracle {
    /// All tasks sleep, and the peer has read everything. With `unwritten` the pipe is full of what
    /// the peer writes.
    pub(crate) fn rest(&mut self, unwritten: bool) {
        self.look_at_clock();
        let lost = self.eof_seen && self.close_seen.is_none();
        if !lost && !self.reset {
            self.ensure_all_arrived("although everything is read");
        }
        let is_open = self.is_open() && !self.frozen;
        if is_open {
            self.rest_open(unwritten);
        } else {
            self.rest_closing();
        }
        if self.closed.is_some() {
            let waits = |waits: &Waits| waits.message || waits.room || waits.end;
            let waits = self.waits.iter().any(waits);
            self.ensure(!waits, |oracle| {
                format!("it is over, and some wait: {:?}", oracle.waits)
            });
        }
        self.outstanding = 0;
        self.catch_up();
        self.blockable = self.may_be_full();
    }

    fn rest_open(&mut self, unwritten: bool) {
        let waits = self.waits.iter().any(|waits| waits.room);
        self.ensure(!waits, |oracle| {
            format!("some wait for room that is there: {:?}", oracle.waits)
        });
        let (received, sent) = (self.received, self.sent);
        if self.waits[HOLDER].message {
            self.ensure(received == sent, |_| {
                format!("the holder waits, and {received} of {sent} are received")
            });
        }
        if self.has_room() {
            self.ensure_pongs();
            self.ensure(!unwritten, |_| {
                "nothing is read although there is room".to_owned()
            });
        }
    }

    fn rest_closing(&mut self) {
        let now = Instant::now();
        let any =
            |fits: fn(Cause) -> bool| self.causes.iter().any(|candidate| fits(candidate.cause));
        let by_peer = any(|cause| matches!(cause, Cause::Peer(_)));
        let local = any(|cause| matches!(cause, Cause::Local(_)));
        let outlived = self
            .limits
            .lifetime
            .is_some_and(|limit| now > self.opened + limit + TICKS);
        let mut due = local || (!by_peer && (self.frozen || outlived));
        // By now the connection has handled it.
        self.frozen |= local;
        let of_stream = by_peer || self.violated || self.fin || self.reset;
        if of_stream && self.has_room() {
            let noticed = *self.noticed.get_or_insert(now);
            let released = self.socket_gone.is_some()
                || if by_peer {
                    self.told || self.closing
                } else {
                    self.waits[HOLDER].message && self.received == self.sent
                };
            due |= released || now > noticed + GRACE + TICKS;
            let waits = self.waits[HOLDER].message;
            self.ensure(!waits, |_| {
                "the holder waits behind the peer's end".to_owned()
            });
        }
        let ended = self.close_seen.is_some() || self.eof_seen || self.closed.is_some();
        self.ensure(ended || !due, |_| "the connection goes on".to_owned());
        // Both sides have sent a Close, or this side no longer waits for the peer's Close.
        let answered = self.peer_closed.is_some() || self.fin || self.violated;
        let waited = |seen: Instant| now > seen + self.limits.close + TICKS;
        let over = self.eof_seen
            || self.close_seen.is_some_and(|seen| answered || waited(seen))
            || (self.reset && due);
        let closed = self.closed.is_some();
        self.ensure(closed || !over, |_| {
            "nobody is told that it is over".to_owned()
        });
    }

    /// The peer did nothing for a long time, so the connection must be over.
    pub(crate) fn must_be_over(&mut self) {
        let over = self.closed.is_some();
        self.ensure(over, |_| "it outlives a peer that is gone".to_owned());
    }
}
