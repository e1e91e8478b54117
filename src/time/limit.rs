//! Limits of time: raised to what a peer needs, lowered to what a clock can add.

use std::{fmt, time::Duration};

/// The least time that a peer has for anything.
const LEAST_WAIT: Duration = Duration::from_millis(50);
/// The least that counts from the opening, after which a peer takes several steps.
const LEAST_LIFE: Duration = Duration::from_secs(1);
/// A wait that long is none, and any moment plus it can still be told.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A duration as it is printed, one that never ends by a word for that.
pub(crate) struct Shown(pub(crate) Duration);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FOREVER => f.write_str("unlimited"),
            duration => duration.fmt(f),
        }
    }
}

/// Brings a wait for the peer, or for the server, to what is in effect.
pub(crate) const fn wait(limit: Duration) -> Duration {
    within(LEAST_WAIT, limit)
}

/// Does so with a limit that counts from the opening.
pub(crate) const fn life(limit: Duration) -> Duration {
    within(LEAST_LIFE, limit)
}

/// Raises a limit to `least`, and lowers it to [`FOREVER`]: longer ones would overflow the clock when
/// they are added to it.
pub(crate) const fn within(least: Duration, limit: Duration) -> Duration {
    // Durations themselves cannot be compared in a `const fn`.
    if limit.as_nanos() < least.as_nanos() {
        least
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
    fn can_add_every_wait_to_the_clock() {
        let max = Duration::MAX;
        for wait in [wait(max), life(max), within(Duration::ZERO, max)] {
            assert!(Instant::now().checked_add(wait).is_some());
        }
    }

    #[test]
    fn raises_what_is_below_the_minimum_and_nothing_else() {
        let minimum = Duration::from_millis(50);
        for tiny in TINY {
            assert_eq!((wait(tiny), life(tiny)), (minimum, 20 * minimum));
            assert_eq!(within(Duration::ZERO, tiny), tiny);
        }
        assert_eq!(wait(minimum - Duration::from_nanos(1)), minimum);
        for duration in [minimum, Duration::from_secs(7)] {
            assert_eq!(wait(duration), duration);
        }
    }
}
