//! Which notices are worth a line in the log: each once a minute, however often it comes.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hash, RandomState},
    time::{Duration, Instant},
};

/// How long a notice is not repeated.
const PAUSE: Duration = Duration::from_secs(60);

/// The most notices within [`PAUSE`], since clients choose what they are about.
const MAX: usize = 64;

/// The notices of the last minute.
///
/// They are remembered by their hash: two that have the same one are taken for one.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    hasher: RandomState,
    /// In the order of their times.
    given: VecDeque<(u64, Instant)>,
}

impl Notices {
    /// Returns whether a notice is due: it was not given within a minute, and not too many others were.
    pub(crate) fn is_due(&mut self, about: impl Hash, now: Instant) -> bool {
        let is_over = |given: &(u64, Instant)| now.saturating_duration_since(given.1) >= PAUSE;
        while self.given.front().is_some_and(is_over) {
            self.given.pop_front();
        }
        let hash = self.hasher.hash_one(about);
        let is_due = self.given.len() < MAX && self.given.iter().all(|given| given.0 != hash);
        if is_due {
            self.given.push_back((hash, now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_once_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut notices = Notices::default();
        assert!(notices.is_due("one", at(0)));
        assert!(!notices.is_due("one", at(0)));
        assert!(notices.is_due("two", at(30)));
        assert!(!notices.is_due("one", at(59)));
        assert!(notices.is_due("one", at(60)));
        assert!(!notices.is_due("two", at(89)));
        assert!(notices.is_due("two", at(90)));
        assert!(!notices.is_due("one", at(119)));
        assert!(notices.is_due("one", at(120)));
    }

    #[test]
    fn gives_so_many_a_minute_and_remembers_no_more() {
        let start = Instant::now();
        let mut notices = Notices::default();
        let given = (0..1000).filter(|number| notices.is_due(number, start));
        assert_eq!(given.count(), MAX);
        assert_eq!(notices.given.len(), MAX);
        assert!(notices.is_due("another", start + PAUSE));
        assert_eq!(notices.given.len(), 1);
    }
}
