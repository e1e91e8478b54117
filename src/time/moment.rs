//! A point in time in eight bytes.
//!
//! A connection holds several moments, and most are optional. `Option<Instant>` has 16 bytes.

use std::{
    num::NonZeroU64,
    ops::{Add, AddAssign, Sub},
    sync::LazyLock,
    time::{Duration, Instant},
};

/// The earliest moment. It is an hour before the first use, because a paused clock of tokio may be a
/// little behind the clock of the system.
static START: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
});

/// A point in time, in nanoseconds since [`START`]. Additions saturate at the maximum, 584 years later.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Moment(NonZeroU64);

impl Moment {
    const MAX: Self = Self(NonZeroU64::MAX);

    /// Returns the time that has passed since `earlier`, or zero if `earlier` is later.
    #[inline]
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl From<Instant> for Moment {
    #[inline]
    fn from(instant: Instant) -> Self {
        let nanos = instant.saturating_duration_since(*START).as_nanos();
        NonZeroU64::new(nanos as u64).map_or(Self(NonZeroU64::MIN), Self)
    }
}

impl From<Moment> for Instant {
    fn from(moment: Moment) -> Self {
        *START + Duration::from_nanos(moment.0.get())
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos());
        nanos.map_or(Self::MAX, |nanos| Self(self.0.saturating_add(nanos)))
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

#[cfg(any(test, tower_websocket_fuzzing))]
impl Moment {
    /// Returns the current moment of the system's clock.
    pub(crate) fn now() -> Self {
        Instant::now().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn converts_to_an_instant_and_back() {
        let now = Instant::now();
        for after in [Duration::ZERO, Duration::from_nanos(1), 10_000 * SECOND] {
            assert_eq!(Instant::from(Moment::from(now + after)), now + after);
            assert_eq!(Moment::from(now) + after, Moment::from(now + after));
        }
        let before = now.checked_sub(60 * SECOND).unwrap();
        assert_eq!(Moment::from(now) - Moment::from(before), 60 * SECOND);
    }

    #[test]
    fn saturates_at_both_ends() {
        let now = Moment::now();
        for far in [Duration::MAX, Duration::from_nanos(u64::MAX)] {
            assert_eq!(now + far, Moment::MAX);
            assert_eq!(now + far + SECOND, Moment::MAX);
            // A timer can take it without a panic.
            assert!(Instant::from(now + far) > Instant::now());
        }
        assert_eq!(now.since(now + SECOND), Duration::ZERO);
        let long_ago = START.checked_sub(SECOND).unwrap();
        assert!(Moment::from(long_ago) < now);
    }

    #[test]
    fn an_optional_moment_has_eight_bytes() {
        assert_eq!(size_of::<Option<Moment>>(), 8);
    }
}
