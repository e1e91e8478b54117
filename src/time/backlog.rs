//! An estimate of the bytes that the peer has not read yet, and of the time it needs for them.
//!
//! A stream accepts bytes long before its peer reads them. The buffers of the system, of a TLS library
//! and of an HTTP/2 server hold them, and report free space only in large steps. So for a while a slow
//! reader looks like a peer that reads nothing. A peer answers a ping only after it has read all bytes
//! written before the ping.

use std::time::Duration;

use crate::time::Moment;

/// The slowest tolerated reading rate, in bytes a second. It is half of the 1 KiB a second that the
/// documentation promises, because buffers report free space late.
pub(crate) const SLOWEST: usize = 512;

/// The bytes written to the stream, minus those that a reader at the slowest rate has read since.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// Unread bytes at the moment `updated`. A `u32` is enough: the buffers of a stream hold fewer bytes.
    unread: u32,
    updated: Moment,
    /// Bytes written to the stream since then, the last of them at `last_write`.
    written: u32,
    last_write: Moment,
}

impl Backlog {
    pub(crate) const fn new(now: Moment) -> Self {
        Self {
            unread: 0,
            updated: now,
            written: 0,
            last_write: now,
        }
    }

    /// Counts bytes written to the stream. This runs at every write, so it only adds.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize, now: Moment) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.written = self.written.saturating_add(bytes);
        self.last_write = now;
    }

    /// Computes the unread bytes at `now`. All bytes written since the last call count from the moment of
    /// the last write.
    pub(crate) fn update(&mut self, now: Moment) {
        if self.written > 0 {
            self.subtract_read_in(self.last_write.since(self.updated));
            self.unread = self.unread.saturating_add(self.written);
            self.written = 0;
            self.updated = self.updated.max(self.last_write);
        }
        self.subtract_read_in(now.since(self.updated));
        self.updated = self.updated.max(now);
    }

    /// Notes that the peer has read all bytes written before the last call of [`update`](Self::update).
    pub(crate) const fn clear(&mut self) {
        self.unread = 0;
    }

    /// Returns the time limit for the peer, counted from the last call of [`update`](Self::update).
    ///
    /// It is the time that a reader of `rate` bytes a second needs for the unread bytes, but at least
    /// `limit` and at most `max_factor` times `limit`.
    pub(crate) fn time_limit(&self, limit: Duration, rate: usize, max_factor: u32) -> Duration {
        let reading = Duration::from_secs((self.unread as usize / rate) as u64);
        limit.max(reading.min(limit.saturating_mul(max_factor)))
    }

    fn subtract_read_in(&mut self, time: Duration) {
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

    fn time_limit(backlog: &Backlog) -> Duration {
        backlog.time_limit(TEN, SLOWEST, 10)
    }

    #[test]
    fn keeps_the_limit_if_little_is_unread() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        assert_eq!(time_limit(&backlog), TEN);
        backlog.add(5 * KIB, start);
        backlog.update(start);
        assert_eq!(time_limit(&backlog), TEN);
    }

    #[test]
    fn extends_the_limit_for_a_slow_reader() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        backlog.add(16 * KIB, start);
        backlog.update(start);
        assert_eq!(time_limit(&backlog), 32 * SECOND);
        assert_eq!(backlog.time_limit(TEN, 16 * KIB, 10), TEN);
    }

    #[test]
    fn extends_the_limit_by_the_maximum_factor_at_most() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        backlog.add(usize::MAX / 2, start);
        backlog.update(start);
        assert_eq!(time_limit(&backlog), 10 * TEN);
        assert_eq!(backlog.time_limit(TEN, SLOWEST, 3), 3 * TEN);
        assert!(backlog.time_limit(Duration::MAX, SLOWEST, 3) == Duration::MAX);
    }

    #[test]
    fn subtracts_the_bytes_read_over_time() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        backlog.add(16 * KIB, start);
        backlog.update(start + 8 * SECOND);
        assert_eq!(time_limit(&backlog), 24 * SECOND);
        backlog.update(start + 20 * SECOND);
        assert_eq!(time_limit(&backlog), 12 * SECOND);
        backlog.update(start + 3600 * SECOND);
        backlog.add(8 * KIB, start + 3600 * SECOND);
        backlog.update(start + 3600 * SECOND);
        assert_eq!(time_limit(&backlog), 16 * SECOND);
    }

    /// One message a second is read as fast as it is written.
    #[test]
    fn does_not_accumulate_slow_writes() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        for second in 0..10_000_u32 {
            backlog.add(400, start + second * SECOND);
            if second % 20 == 19 {
                backlog.update(start + second * SECOND);
            }
        }
        backlog.update(start + 10_000 * SECOND);
        // One update counts 20 messages.
        assert_eq!(time_limit(&backlog), 14 * SECOND);
    }

    #[test]
    fn subtracts_from_the_moment_of_the_last_write() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        backlog.add(16 * KIB, start);
        backlog.update(start + 32 * SECOND);
        assert_eq!(time_limit(&backlog), TEN);
    }

    #[test]
    fn clear_keeps_the_bytes_written_since_the_last_update() {
        let start = Moment::now();
        let mut backlog = Backlog::new(start);
        backlog.add(100 * KIB, start);
        backlog.update(start);
        backlog.add(16 * KIB, start);
        backlog.clear();
        backlog.update(start);
        assert_eq!(time_limit(&backlog), 32 * SECOND);
    }
}
