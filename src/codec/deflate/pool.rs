//! Compressors and decompressors that wait for the next message, whosever it is.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread::available_parallelism,
};

/// What no connection works with at the moment. It holds as many as the machine runs threads: more
/// cannot be in use at once, unless messages arrive slowly.
///
/// The lock is held to push or pop one.
#[derive(Debug)]
pub(super) struct Pool<T> {
    idle: Mutex<Vec<T>>,
}

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self {
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Takes the one that was given last of those that fit, which is the likeliest to be cached.
    pub(super) fn take(&self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let mut idle = self.lock();
        let index = idle.iter().rposition(fits)?;
        Some(idle.remove(index))
    }

    /// Gives one back, in the place of the one that was not used for longest when there are enough.
    pub(super) fn give(&self, one: T) {
        let most = most();
        let mut idle = self.lock();
        let oldest = (idle.len() >= most).then(|| idle.remove(0));
        idle.push(one);
        drop(idle);
        drop(oldest);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        // A vector is whole whatever a thread did.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn most() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_and_no_more_than_there_are_threads() {
        let pool = Pool::new();
        let most = most();
        for number in 0..most + 3 {
            pool.give(number);
        }
        for number in (3..most + 3).rev() {
            assert_eq!(pool.take(|_| true), Some(number));
        }
        assert_eq!(pool.take(|_| true), None);
    }

    #[test]
    fn takes_only_what_fits() {
        let pool = Pool::new();
        pool.give(1);
        assert_eq!(pool.take(|&number| number > 1), None);
        assert_eq!(pool.take(|&number| number == 1), Some(1));
    }
}
