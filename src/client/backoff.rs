//! How long to wait before the next attempt: exponential backoff with full jitter.
//!
//! The delay is drawn between zero and a ceiling, which doubles with each attempt. A ceiling alone would
//! bring all clients that lost a server at once back at once, again and again.

use std::time::Duration;

/// Ceilings below this would be a loop without rest.
const LEAST: Duration = Duration::from_millis(10);

/// Counts attempts since the last connection that was kept.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    reset_after: Duration,
    attempts: u32,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_secs(30),
            reset_after: Duration::from_secs(10),
            attempts: 0,
        }
    }

    pub(super) fn set_ceilings(&mut self, first: Duration, most: Duration) {
        self.first = first.max(LEAST);
        self.most = most.max(self.first);
    }

    pub(super) fn set_reset_after(&mut self, kept: Duration) {
        self.reset_after = kept;
    }

    /// Takes note of a connection that was kept for so long.
    pub(super) fn connected_for(&mut self, kept: Duration) {
        if kept >= self.reset_after {
            self.attempts = 0;
        }
    }

    /// Returns the delay before the next attempt, and counts it.
    ///
    /// `random` is any number, each as likely as the others. `asked` is what the server asks for; the
    /// drawn delay comes on top, so that clients that are asked the same do not come back at once.
    pub(super) fn delay(&mut self, random: u64, asked: Duration) -> Duration {
        let doubled = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        let ceiling = self.first.saturating_mul(doubled).min(self.most);
        self.attempts = self.attempts.saturating_add(1);
        asked.min(self.most) + fraction(ceiling, random)
    }
}

/// Returns `random` parts in 2^64 of a time.
fn fraction(whole: Duration, random: u64) -> Duration {
    let whole = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(whole) * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// So close to the ceiling that the difference is less than a nanosecond a minute.
    const HIGHEST: u64 = u64::MAX;

    fn ceiling(backoff: &mut Backoff) -> Duration {
        backoff.delay(HIGHEST, Duration::ZERO) + Duration::from_nanos(1)
    }

    #[test]
    fn doubles_up_to_the_most() {
        let mut backoff = Backoff::new();
        let ceilings: Vec<_> = (0..8).map(|_| ceiling(&mut backoff).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 30, 30, 30]);
        for _ in 0..100 {
            assert_eq!(ceiling(&mut backoff), 30 * SECOND);
        }
    }

    #[test]
    fn draws_any_delay_up_to_the_ceiling() {
        let mut backoff = Backoff::new();
        backoff.set_ceilings(4 * SECOND, 4 * SECOND);
        for (random, delay) in [(0, 0), (1 << 62, 1), (1 << 63, 2), (3 << 62, 3)] {
            assert_eq!(backoff.delay(random, Duration::ZERO), delay * SECOND);
        }
    }

    #[test]
    fn begins_anew_behind_a_connection_that_was_kept() {
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
    fn waits_as_long_as_the_server_asks_but_not_longer_than_the_most() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.delay(0, 5 * SECOND), 5 * SECOND);
        assert_eq!(backoff.delay(1 << 63, 5 * SECOND), 6 * SECOND);
        assert_eq!(backoff.delay(0, 3600 * SECOND), 30 * SECOND);
    }

    #[test]
    fn never_loops_without_rest() {
        let mut backoff = Backoff::new();
        backoff.set_ceilings(Duration::ZERO, Duration::ZERO);
        assert_eq!(ceiling(&mut backoff), LEAST);
        backoff.set_ceilings(2 * SECOND, SECOND);
        assert_eq!(ceiling(&mut backoff), 2 * SECOND);
        backoff.set_ceilings(Duration::MAX, Duration::MAX);
        assert!(ceiling(&mut backoff) > Duration::from_secs(1 << 30));
    }
}
