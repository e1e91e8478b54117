//! A histogram of latencies, with buckets of about 2 %.

use std::time::Duration;

/// The number of buckets for each doubling of the time.
const STEPS: f64 = 32.0;

#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    slowest: Duration,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            // Up to 2⁴⁰ ns, or 18 minutes.
            counts: vec![0; 40 * STEPS as usize],
            slowest: Duration::ZERO,
        }
    }

    pub(crate) fn add(&mut self, took: Duration, answers: usize) {
        let step = ((took.as_nanos().max(1) as f64).log2() * STEPS) as usize;
        let step = step.min(self.counts.len() - 1);
        self.counts[step] += answers as u64;
        self.slowest = self.slowest.max(took);
    }

    /// Returns the time within which the given share of the answers arrived: 0.5 for the median.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let all = self.count();
        let mut seen = 0;
        for (step, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen as f64 >= share * all as f64 {
                let nanoseconds = ((step + 1) as f64 / STEPS).exp2();
                return Duration::from_nanos(nanoseconds as u64).min(self.slowest);
            }
        }
        self.slowest
    }

    /// Returns the number of answers.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn slowest(&self) -> Duration {
        self.slowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_accurate_to_one_bucket() {
        let mut histogram = Histogram::new();
        for microseconds in 1..=1000 {
            histogram.add(Duration::from_micros(microseconds), 1);
        }
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = histogram.quantile(share).as_secs_f64() * 1e6;
            assert!((found / expected - 1.0).abs() < 0.03, "{share}: {found}");
        }
        assert_eq!(histogram.quantile(1.0), Duration::from_micros(1000));
        assert_eq!(histogram.slowest(), Duration::from_micros(1000));
    }
}
