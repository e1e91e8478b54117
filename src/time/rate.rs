//! How much a peer may send: buckets of tokens that refill with time.
//!
//! Decides with the time as an argument. A control frame costs its sender six bytes and the
//! receiver an answer, so a flood of them is the cheapest way to keep a server busy.

use std::time::Duration;

use crate::time::Moment;

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

    /// Takes `count` tokens at the rate of [`new`](Self::new); false, and none are taken, if there are
    /// fewer.
    pub(crate) fn take(&mut self, count: u32, rate: Rate, now: Moment) -> bool {
        self.refill(rate, now);
        let left = self.tokens.checked_sub(count);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }

    /// Adds what a time has earned, also beyond the burst.
    fn excuse(&mut self, rate: Rate, time: Duration) {
        self.tokens = self.tokens.saturating_add(rate.earns(time));
    }

    fn refill(&mut self, rate: Rate, now: Moment) {
        match rate.earns(now.since(self.refilled)) {
            0 => {}
            earned if earned < rate.burst.saturating_sub(self.tokens) => {
                self.tokens += earned;
                // Only the time that made whole tokens is spent.
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
    fn earns(self, time: Duration) -> u32 {
        let earned = time.as_micros() * u128::from(self.per_second) / 1_000_000;
        u32::try_from(earned).unwrap_or(u32::MAX)
    }
}

/// The messages and their bytes that a peer may send.
#[derive(Debug)]
pub(crate) struct Allowance {
    messages: Option<(Rate, Bucket)>,
    bytes: Option<(Rate, Bucket)>,
    /// Up to when time has been excused.
    excused: Moment,
    /// Since when a message waits for room.
    waits: Option<Moment>,
}

impl Allowance {
    /// Makes one of those rates that there are; `None` if there is neither.
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
            excused: now,
            waits: None,
        }))
    }

    /// Notes that a message waits for room, which is not held against those behind it.
    pub(crate) fn wait(&mut self, now: Moment) {
        self.waits.get_or_insert(now);
    }

    /// Counts a message of `len` bytes, and returns whether it may be sent.
    pub(crate) fn takes(&mut self, len: usize, now: Moment) -> bool {
        if let Some(since) = self.waits.take() {
            self.excuse(since, now);
        }
        let takes = |bucket: &mut Option<(Rate, Bucket)>, count| match bucket {
            Some((rate, bucket)) => bucket.take(count, *rate, now),
            None => true,
        };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        takes(&mut self.messages, 1) && takes(&mut self.bytes, len)
    }

    /// Excuses what comes at once because nothing was read from `since` until now.
    pub(crate) fn excuse(&mut self, since: Moment, now: Moment) {
        let time = now.since(since.max(self.excused));
        self.excused = now;
        for (rate, bucket) in [&mut self.messages, &mut self.bytes].into_iter().flatten() {
            bucket.excuse(*rate, time);
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
        assert!((0..150).all(|_| bucket.take(1, RATE, start)));
        assert_eq!(take(&mut bucket, start + Duration::from_secs(3600)), 200);
    }

    #[test]
    fn keeps_what_is_left_of_a_token() {
        let start = Moment::now();
        let mut bucket = Bucket::new(RATE, start);
        assert_eq!(take(&mut bucket, start), 200);
        // Asked every 3 ms, a token is there every 10 ms.
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
            let taken = (0..100).take_while(|_| allowance.takes(100, start));
            assert_eq!(taken.count(), sent, "{messages:?} {bytes:?}");
        }
        assert!(Allowance::new(None, None, start).is_none());
        let mut allowance = Allowance::new(None, rate(1000), start).unwrap();
        assert!(!allowance.takes(usize::MAX, start));
    }

    #[test]
    fn excuses_each_moment_once() {
        let start = Moment::now();
        let second = |number| start + Duration::from_secs(number);
        let count = |allowance: &mut Allowance, now| {
            (0..10_000).take_while(|_| allowance.takes(0, now)).count()
        };
        let mut allowance = Allowance::new(Some(RATE), None, start).unwrap();
        assert_eq!(count(&mut allowance, start), 200);
        allowance.excuse(start, second(10));
        allowance.excuse(start, second(10));
        allowance.excuse(second(5), second(10));
        assert_eq!(count(&mut allowance, second(10)), 1000);
        assert_eq!(count(&mut allowance, second(10)), 0);
        assert_eq!(count(&mut allowance, second(11)), 100);
    }
}
