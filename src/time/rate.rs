//! Rate limits for a peer: token buckets that refill over time.
//!
//! A control frame costs its sender six bytes, and the receiver has to answer it. So a flood of control
//! frames is the cheapest way to keep a server busy.

use std::time::Duration;

use crate::time::Moment;

/// A steady rate, and the burst allowed at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

/// The token bucket of one peer.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: u32,
    /// Tokens have been added for the time up to this moment.
    refilled: Moment,
}

impl Bucket {
    pub(crate) const fn new(rate: Rate, now: Moment) -> Self {
        Self {
            tokens: rate.burst,
            refilled: now,
        }
    }

    /// Takes `count` tokens. If there are fewer, takes none and returns `false`. `rate` must be the one
    /// passed to [`new`](Self::new).
    pub(crate) fn take(&mut self, count: u32, rate: Rate, now: Moment) -> bool {
        self.refill(rate, now);
        let left = self.tokens.checked_sub(count);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }

    /// Adds the tokens of a period, even beyond the burst.
    fn grant(&mut self, rate: Rate, time: Duration) {
        self.tokens = self.tokens.saturating_add(rate.tokens_in(time));
    }

    fn refill(&mut self, rate: Rate, now: Moment) {
        match rate.tokens_in(now.since(self.refilled)) {
            0 => {}
            earned if earned < rate.burst.saturating_sub(self.tokens) => {
                self.tokens += earned;
                // Only the time of whole tokens is used up. The rest counts for the next refill.
                let spent = u64::from(earned) * 1_000_000 / u64::from(rate.per_second);
                self.refilled += Duration::from_micros(spent);
            }
            _ => {
                self.tokens = self.tokens.max(rate.burst);
                self.refilled = now;
            }
        }
    }
}

impl Rate {
    fn tokens_in(self, time: Duration) -> u32 {
        let earned = time.as_micros() * u128::from(self.per_second) / 1_000_000;
        u32::try_from(earned).unwrap_or(u32::MAX)
    }
}

/// The rate limits for the messages of a peer and for their bytes.
#[derive(Debug)]
pub(crate) struct Allowance {
    messages: Option<(Rate, Bucket)>,
    bytes: Option<(Rate, Bucket)>,
    /// Tokens for paused reading have been granted up to this moment.
    granted: Moment,
    /// Since when a message waits for free space.
    waiting_since: Option<Moment>,
}

impl Allowance {
    /// Makes the limits. Returns `None` if there is neither rate.
    pub(crate) fn new(
        messages: Option<Rate>,
        bytes: Option<Rate>,
        now: Moment,
    ) -> Option<Box<Self>> {
        messages.or(bytes)?;
        let bucket = |rate| (rate, Bucket::new(rate, now));
        Some(Box::new(Self {
            messages: messages.map(bucket),
            bytes: bytes.map(bucket),
            granted: now,
            waiting_since: None,
        }))
    }

    /// Notes that a message waits for free space. The waiting time does not count against later messages.
    pub(crate) fn start_waiting(&mut self, now: Moment) {
        self.waiting_since.get_or_insert(now);
    }

    /// Counts a message of `len` bytes, and returns whether it is within the limits.
    pub(crate) fn take(&mut self, len: usize, now: Moment) -> bool {
        if let Some(since) = self.waiting_since.take() {
            self.grant(since, now);
        }
        let take = |bucket: &mut Option<(Rate, Bucket)>, count| match bucket {
            Some((rate, bucket)) => bucket.take(count, *rate, now),
            None => true,
        };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        take(&mut self.messages, 1) && take(&mut self.bytes, len)
    }

    /// Grants the tokens of a period without reading, from `since` until `now`: the messages of that period
    /// then arrive all at once.
    pub(crate) fn grant(&mut self, since: Moment, now: Moment) {
        let time = now.since(since.max(self.granted));
        self.granted = now;
        for (rate, bucket) in [&mut self.messages, &mut self.bytes].into_iter().flatten() {
            bucket.grant(*rate, time);
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
        (0..1000).take_while(|_| bucket.take(1, RATE, now)).count()
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
    fn saves_a_burst_at_most() {
        let start = Moment::now();
        let mut bucket = Bucket::new(RATE, start);
        assert_eq!(take(&mut bucket, start), 200);
        assert_eq!(take(&mut bucket, start + Duration::from_secs(3600)), 200);
    }

    #[test]
    fn unused_tokens_are_part_of_the_burst() {
        let start = Moment::now();
        let mut bucket = Bucket::new(RATE, start);
        assert!((0..150).all(|_| bucket.take(1, RATE, start)));
        assert_eq!(take(&mut bucket, start + Duration::from_secs(3600)), 200);
    }

    #[test]
    fn keeps_the_time_left_over_from_whole_tokens() {
        let start = Moment::now();
        let mut bucket = Bucket::new(RATE, start);
        assert_eq!(take(&mut bucket, start), 200);
        // One call every 3 ms, one token every 10 ms.
        let taken =
            (1..=100).filter(|i| bucket.take(1, RATE, start + Duration::from_millis(3 * i)));
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
        assert!(bucket.take(1, rate, start + Duration::from_secs(9)));
        assert!(!bucket.take(1, rate, start + Duration::from_secs(99)));
    }

    #[test]
    fn takes_all_or_nothing() {
        let start = Moment::now();
        let mut bucket = Bucket::new(RATE, start);
        assert!(!bucket.take(201, RATE, start));
        assert!(bucket.take(200, RATE, start));
        assert!(!bucket.take(101, RATE, start + Duration::from_secs(1)));
        assert!(bucket.take(100, RATE, start + Duration::from_secs(1)));
    }

    #[test]
    fn counts_messages_and_bytes() {
        let start = Moment::now();
        let rate = |burst| {
            Some(Rate {
                per_second: 1,
                burst,
            })
        };
        for (messages, bytes, sent) in [
            (rate(3), None, 3),
            (None, rate(1000), 10),
            (rate(3), rate(1000), 3),
            (rate(30), rate(1000), 10),
        ] {
            let mut allowance = Allowance::new(messages, bytes, start).unwrap();
            let taken = (0..100).take_while(|_| allowance.take(100, start));
            assert_eq!(taken.count(), sent, "{messages:?} {bytes:?}");
        }
        assert!(Allowance::new(None, None, start).is_none());
        let mut allowance = Allowance::new(None, rate(1000), start).unwrap();
        assert!(!allowance.take(usize::MAX, start));
    }

    #[test]
    fn grants_each_period_once() {
        let start = Moment::now();
        let second = |number| start + Duration::from_secs(number);
        let count = |allowance: &mut Allowance, now| {
            (0..10_000).take_while(|_| allowance.take(0, now)).count()
        };
        let mut allowance = Allowance::new(Some(RATE), None, start).unwrap();
        assert_eq!(count(&mut allowance, start), 200);
        allowance.grant(start, second(10));
        allowance.grant(start, second(10));
        allowance.grant(second(5), second(10));
        assert_eq!(count(&mut allowance, second(10)), 1000);
        assert_eq!(count(&mut allowance, second(10)), 0);
        assert_eq!(count(&mut allowance, second(11)), 100);
    }
}
