//! How much a peer may still have to read, and how long it may take for that.
//!
//! Decides with the time as an argument. A stream takes bytes long before its peer reads them: they
//! wait in buffers of the system, of a TLS library and of an HTTP/2 server, which report room only
//! in large steps. So a peer that reads slowly looks for a while like one that reads nothing, and a
//! pong waits behind all that was written before the ping.

use std::time::Duration;

use crate::time::Moment;

/// The slowest reading that is waited for, in bytes a second: half of the 1 KiB a second that the
/// documentation promises, because room is reported late.
pub(crate) const SLOWEST: usize = 512;

/// What the stream has taken, less what a reader at the slowest rate has read since.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// Bytes that were unread at the moment `settled`. More than can be counted never fit a stream.
    unread: u32,
    settled: Moment,
    /// Bytes that the stream has taken since then, the last of them at `last_taken`.
    taken: u32,
    last_taken: Moment,
}

impl Backlog {
    pub(crate) const fn new(now: Moment) -> Self {
        Self {
            unread: 0,
            settled: now,
            taken: 0,
            last_taken: now,
        }
    }

    /// Notes that the stream has taken bytes. It happens at every write, so nothing is computed.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize, now: Moment) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.taken = self.taken.saturating_add(bytes);
        self.last_taken = now;
    }

    /// Computes what is unread now. Bytes taken since the last call count as taken all at once, with
    /// the last of them.
    pub(crate) fn settle(&mut self, now: Moment) {
        if self.taken > 0 {
            self.read_for(self.last_taken.since(self.settled));
            self.unread = self.unread.saturating_add(self.taken);
            self.taken = 0;
            self.settled = self.settled.max(self.last_taken);
        }
        self.read_for(now.since(self.settled));
        self.settled = self.settled.max(now);
    }

    /// Notes that the peer has read everything that was taken before the last call of
    /// [`settle`](Self::settle).
    pub(crate) const fn was_read(&mut self) {
        self.unread = 0;
    }

    /// Returns how long the peer may take, from the last call of [`settle`](Self::settle) on, where
    /// it would have `limit` with nothing unread: as long as a reader of `rate` bytes a second needs
    /// for what is unread, at least `limit` and at most `most` times `limit`.
    pub(crate) fn patience(&self, limit: Duration, rate: usize, most: u32) -> Duration {
        let reading = Duration::from_secs((self.unread as usize / rate) as u64);
        limit.max(reading.min(limit.saturating_mul(most)))
    }

    fn read_for(&mut self, time: Duration) {
        let read = time.as_millis() * SLOWEST as u128 / 1000;
        self.unread = self
            .unread
            .saturating_sub(u32::try_from(read).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TEN: Duration = Duration::from_secs(10);
    const KIB: usize = 1024;

    fn patience(backlog: &Backlog) -> Duration {
        backlog.patience(TEN, SLOWEST, 10)
    }

    #[test]
    fn waits_for_the_limit_where_little_is_unread() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        assert_eq!(patience(&backlog), TEN);
        backlog.take(5 * KIB, start);
        backlog.settle(start);
        assert_eq!(patience(&backlog), TEN);
    }

    #[test]
    fn waits_as_long_as_a_slow_reader_needs() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        backlog.take(16 * KIB, start);
        backlog.settle(start);
        assert_eq!(patience(&backlog), 32 * SECOND);
        assert_eq!(backlog.patience(TEN, 16 * KIB, 10), TEN);
    }

    #[test]
    fn waits_no_longer_than_the_largest_multiple() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        backlog.take(usize::MAX / 2, start);
        backlog.settle(start);
        assert_eq!(patience(&backlog), 10 * TEN);
        assert_eq!(backlog.patience(TEN, SLOWEST, 3), 3 * TEN);
        assert!(backlog.patience(Duration::MAX, SLOWEST, 3) == Duration::MAX);
    }

    #[test]
    fn forgets_what_has_been_read_meanwhile() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        backlog.take(16 * KIB, start);
        backlog.settle(start + 8 * SECOND);
        assert_eq!(patience(&backlog), 24 * SECOND);
        backlog.settle(start + 20 * SECOND);
        assert_eq!(patience(&backlog), 12 * SECOND);
        backlog.settle(start + 3600 * SECOND);
        backlog.take(8 * KIB, start + 3600 * SECOND);
        backlog.settle(start + 3600 * SECOND);
        assert_eq!(patience(&backlog), 16 * SECOND);
    }

    /// A message a second is read as it comes, however long that goes on.
    #[test]
    fn does_not_add_up_what_is_taken_slowly() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        for second in 0..10_000_u32 {
            backlog.take(400, start + second * SECOND);
            if second % 20 == 19 {
                backlog.settle(start + second * SECOND);
            }
        }
        backlog.settle(start + 10_000 * SECOND);
        // What is computed at once is 20 messages.
        assert_eq!(patience(&backlog), 14 * SECOND);
    }

    #[test]
    fn counts_what_was_taken_long_ago_from_then_on() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        backlog.take(16 * KIB, start);
        backlog.settle(start + 32 * SECOND);
        assert_eq!(patience(&backlog), TEN);
    }

    #[test]
    fn learns_that_everything_was_read() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        backlog.take(100 * KIB, start);
        backlog.settle(start);
        backlog.take(16 * KIB, start);
        backlog.was_read();
        backlog.settle(start);
        assert_eq!(patience(&backlog), 32 * SECOND);
    }
}
