//! Limits repeated log lines: the same notice is due at most once a minute.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hash, RandomState},
    time::{Duration, Instant},
};

/// The time for which a notice is not repeated.
const PAUSE: Duration = Duration::from_secs(60);

/// The maximum number of different notices within [`PAUSE`]. Clients choose the content of some, such as an origin.
const MAX: usize = 64;

/// The notices of the last minute.
///
/// They are stored as hashes. Two notices with the same hash are treated as the same notice.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    hasher: RandomState,
    /// The hash and the time of each notice, oldest first.
    given: VecDeque<(u64, Instant)>,
}

impl Notices {
    /// Returns whether a notice is due, and remembers it if so.
    ///
    /// It is due if it was not given within the last minute, and fewer than [`MAX`] notices were.
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
    fn gives_each_notice_once_a_minute() {
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
    fn gives_and_remembers_at_most_max_notices_a_minute() {
        let start = Instant::now();
        let mut notices = Notices::default();
        let given = (0..1000).filter(|number| notices.is_due(number, start));
        assert_eq!(given.count(), MAX);
        assert_eq!(notices.given.len(), MAX);
        assert!(notices.is_due("another", start + PAUSE));
        assert_eq!(notices.given.len(), 1);
    }
}
