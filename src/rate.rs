//! How many control frames a peer may send: a bucket of tokens that refills with time.
//!
//! Decides with the time as an argument. A control frame costs its sender six bytes and the
//! receiver an answer, so a flood of them is the cheapest way to keep a server busy.

use std::time::Duration;

use crate::moment::Moment;

/// A steady rate and what may come at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

/// The tokens of one peer.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: u32,
    /// The moment up to which tokens have been handed out.
    refilled: Moment,
}

impl Bucket {
    pub(crate) const fn new(rate: Rate, now: Moment) -> Self {
        Self {
            tokens: rate.burst,
            refilled: now,
        }
    }

    /// Takes a token at the rate of [`new`](Self::new); false if there is none.
    pub(crate) fn take(&mut self, rate: Rate, now: Moment) -> bool {
        self.refill(rate, now);
        let taken = self.tokens > 0;
        self.tokens -= u32::from(taken);
        taken
    }

    fn refill(&mut self, rate: Rate, now: Moment) {
        let Rate { per_second, burst } = rate;
        let elapsed = now.since(self.refilled);
        let earned = elapsed.as_micros() * u128::from(per_second) / 1_000_000;
        match u32::try_from(earned) {
            Ok(0) => {}
            Ok(earned) if earned < burst - self.tokens => {
                self.tokens += earned;
                // Only the time that made whole tokens is spent.
                let spent = u64::from(earned) * 1_000_000 / u64::from(per_second);
                self.refilled += Duration::from_micros(spent);
            }
            _ => {
                self.tokens = burst;
                self.refilled = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 100,
        burst: 200,
    };

    fn take(bucket: &mut Bucket, now: Moment) -> usize {
        (0..1000).take_while(|_| bucket.take(RATE, now)).count()
    }

    #[test]
    fn allows_the_burst_and_then_the_rate() {
        let start = Moment::now();
        let mut bucket = Bucket::new(RATE, start);
        assert_eq!(take(&mut bucket, start), 200);
        assert_eq!(take(&mut bucket, start), 0);
        assert_eq!(take(&mut bucket, start + Duration::from_millis(500)), 50);
        assert_eq!(take(&mut bucket, start + Duration::from_millis(1500)), 100);
    }

    #[test]
    fn does_not_save_more_than_a_burst() {
        let start = Moment::now();
        let mut bucket = Bucket::new(RATE, start);
        assert_eq!(take(&mut bucket, start), 200);
        assert_eq!(take(&mut bucket, start + Duration::from_secs(3600)), 200);
    }

    #[test]
    fn counts_what_was_not_spent_into_the_burst() {
        let start = Moment::now();
        let mut bucket = Bucket::new(RATE, start);
        assert!((0..150).all(|_| bucket.take(RATE, start)));
        assert_eq!(take(&mut bucket, start + Duration::from_secs(3600)), 200);
    }

    #[test]
    fn keeps_what_is_left_of_a_token() {
        let start = Moment::now();
        let mut bucket = Bucket::new(RATE, start);
        assert_eq!(take(&mut bucket, start), 200);
        // Asked every 3 ms, a token is there every 10 ms.
        let taken = (1..=100).filter(|i| bucket.take(RATE, start + Duration::from_millis(3 * i)));
        assert_eq!(taken.count(), 30);
    }

    #[test]
    fn allows_nothing_at_a_rate_of_zero() {
        let start = Moment::now();
        let rate = Rate {
            per_second: 0,
            burst: 1,
        };
        let mut bucket = Bucket::new(rate, start);
        assert!(bucket.take(rate, start + Duration::from_secs(9)));
        assert!(!bucket.take(rate, start + Duration::from_secs(99)));
    }
}
