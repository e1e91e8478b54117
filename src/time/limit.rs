//! Time limits: raised to a minimum, and lowered to a maximum that a clock can add.

use std::{fmt, time::Duration};

/// The minimum of a timeout.
const MIN_TIMEOUT: Duration = Duration::from_millis(50);
/// The minimum of a limit that counts from the opening. A peer takes several steps in that time.
const MIN_LIFETIME: Duration = Duration::from_secs(1);
/// An unlimited timeout: 100 years. A clock can still add it to every moment.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Formats a duration for `Debug`. The unlimited one is shown as `unlimited`.
pub(crate) struct Shown(pub(crate) Duration);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FOREVER => f.write_str("unlimited"),
            duration => duration.fmt(f),
        }
    }
}

/// Brings a timeout into its range.
pub(crate) const fn timeout(limit: Duration) -> Duration {
    clamp(MIN_TIMEOUT, limit)
}

/// Brings a limit that counts from the opening into its range.
pub(crate) const fn lifetime(limit: Duration) -> Duration {
    clamp(MIN_LIFETIME, limit)
}

/// Raises a limit to `min`, and lowers it to [`FOREVER`]: a longer one would overflow the clock.
pub(crate) const fn clamp(min: Duration, limit: Duration) -> Duration {
    // A `const fn` cannot compare durations.
    if limit.as_nanos() < min.as_nanos() {
        min
    } else if limit.as_nanos() > FOREVER.as_nanos() {
        FOREVER
    } else {
        limit
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const TINY: [Duration; 2] = [Duration::ZERO, Duration::from_nanos(1)];

    #[test]
    fn the_clock_can_add_every_limit() {
        let max = Duration::MAX;
        for limit in [timeout(max), lifetime(max), clamp(Duration::ZERO, max)] {
            assert!(Instant::now().checked_add(limit).is_some());
        }
    }

    #[test]
    fn raises_only_limits_below_the_minimum() {
        let minimum = Duration::from_millis(50);
        for tiny in TINY {
            assert_eq!((timeout(tiny), lifetime(tiny)), (minimum, 20 * minimum));
            assert_eq!(clamp(Duration::ZERO, tiny), tiny);
        }
        assert_eq!(timeout(minimum - Duration::from_nanos(1)), minimum);
        for duration in [minimum, Duration::from_secs(7)] {
            assert_eq!(timeout(duration), duration);
        }
    }
}
