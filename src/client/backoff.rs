//! The delay before the next attempt: exponential backoff with full jitter.
//!
//! The delay is random, between zero and a ceiling that doubles with each attempt. Without the randomness all
//! clients that lost a server would reconnect at the same time.

use std::time::Duration;

/// The minimum of a ceiling, to prevent a busy loop.
const MIN_CEILING: Duration = Duration::from_millis(10);

/// Computes the delays. Counts the attempts since the last connection that lasted long enough.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    initial: Duration,
    max: Duration,
    reset_after: Duration,
    attempts: u32,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
            reset_after: Duration::from_secs(10),
            attempts: 0,
        }
    }

    pub(super) fn set_ceilings(&mut self, initial: Duration, max: Duration) {
        self.initial = initial.max(MIN_CEILING);
        self.max = max.max(self.initial);
    }

    pub(super) fn set_reset_after(&mut self, kept: Duration) {
        self.reset_after = kept;
    }

    /// Resets the ceiling if a connection lasted long enough.
    pub(super) fn connected_for(&mut self, kept: Duration) {
        if kept >= self.reset_after {
            self.attempts = 0;
        }
    }

    /// Returns the delay before the next attempt, and counts the attempt.
    ///
    /// `random` is uniformly distributed. `retry_after` is the delay that the server requested. The random delay
    /// is added to it, because a server requests the same delay from many clients.
    pub(super) fn delay(&mut self, random: u64, retry_after: Duration) -> Duration {
        let doubled = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        let ceiling = self.initial.saturating_mul(doubled).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        retry_after.min(self.max) + fraction(ceiling, random)
    }
}

/// Returns `whole` × `random` / 2^64.
fn fraction(whole: Duration, random: u64) -> Duration {
    let whole = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(whole) * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    fn ceiling(backoff: &mut Backoff) -> Duration {
        // The highest random number gives a delay one nanosecond below the ceiling.
        backoff.delay(u64::MAX, Duration::ZERO) + Duration::from_nanos(1)
    }

    #[test]
    fn doubles_up_to_the_maximum() {
        let mut backoff = Backoff::new();
        let ceilings: Vec<_> = (0..8).map(|_| ceiling(&mut backoff).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 30, 30, 30]);
        for _ in 0..100 {
            assert_eq!(ceiling(&mut backoff), 30 * SECOND);
        }
    }

    #[test]
    fn returns_random_delays_up_to_the_ceiling() {
        let mut backoff = Backoff::new();
        backoff.set_ceilings(4 * SECOND, 4 * SECOND);
        for (random, delay) in [(0, 0), (1 << 62, 1), (1 << 63, 2), (3 << 62, 3)] {
            assert_eq!(backoff.delay(random, Duration::ZERO), delay * SECOND);
        }
    }

    #[test]
    fn resets_after_a_connection_that_lasted_long_enough() {
        let mut backoff = Backoff::new();
        let _ = (ceiling(&mut backoff), ceiling(&mut backoff));
        backoff.connected_for(Duration::from_millis(9_999));
        assert_eq!(ceiling(&mut backoff), 4 * SECOND);
        backoff.connected_for(10 * SECOND);
        assert_eq!(ceiling(&mut backoff), SECOND);
        backoff.set_reset_after(Duration::ZERO);
        backoff.connected_for(Duration::ZERO);
        assert_eq!(ceiling(&mut backoff), SECOND);
    }

    #[test]
    fn waits_as_long_as_the_server_requests_up_to_the_maximum() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.delay(0, 5 * SECOND), 5 * SECOND);
        assert_eq!(backoff.delay(1 << 63, 5 * SECOND), 6 * SECOND);
        assert_eq!(backoff.delay(0, 3600 * SECOND), 30 * SECOND);
    }

    #[test]
    fn never_loops_without_a_delay() {
        let mut backoff = Backoff::new();
        backoff.set_ceilings(Duration::ZERO, Duration::ZERO);
        assert_eq!(ceiling(&mut backoff), MIN_CEILING);
        backoff.set_ceilings(2 * SECOND, SECOND);
        assert_eq!(ceiling(&mut backoff), 2 * SECOND);
        backoff.set_ceilings(Duration::MAX, Duration::MAX);
        assert!(ceiling(&mut backoff) > Duration::from_secs(1 << 30));
    }
}
