//! Compressors and decompressors that wait for the next message, whosever it is.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread::available_parallelism,
};

/// What no connection works with at the moment: as many as the machine runs threads, or as many as are
/// lent at the moment, if those are more.
///
/// With context takeover connections keep theirs, so that those of connections that end wait for those
/// that come. Allocated anew each time, they would take up to twice the memory: allocators split the
/// room of one of them for other things meanwhile.
///
/// The lock is held to push or pop one.
#[derive(Debug)]
pub(super) struct Pool<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    /// The one that was not used for longest is the first one.
    idle: VecDeque<T>,
    lent: usize,
}

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                idle: VecDeque::new(),
                lent: 0,
            }),
        }
    }

    /// Lends the one that was given back last of those that fit, which is the likeliest to be cached, or
    /// a new one.
    pub(super) fn lend(&self, fits: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        state.lent += 1;
        let index = state.idle.iter().rposition(fits);
        let one = index.and_then(|index| state.idle.remove(index));
        drop(state);
        one.unwrap_or_else(make)
    }

    /// Takes one back.
    pub(super) fn give_back(&self, one: T) {
        self.end(Some(one));
    }

    /// Notes that one will not be given back.
    pub(super) fn lose(&self) {
        self.end(None);
    }

    fn end(&self, one: Option<T>) {
        let mut state = self.lock();
        state.lent = state.lent.saturating_sub(1);
        state.idle.extend(one);
        // Two at most: each that ends takes one off what may wait, and may wait itself.
        let surplus = state.idle.len().saturating_sub(threads().max(state.lent));
        let dropped: [Option<T>; 2] = std::array::from_fn(|index| match index < surplus {
            true => state.idle.pop_front(),
            false => None,
        });
        if state.idle.capacity() > 64 && state.idle.len() < state.idle.capacity() / 4 {
            state.idle.shrink_to_fit();
        }
        drop(state);
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // It is whole whatever a thread did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lends one that is there, or -1.
    fn lend(pool: &Pool<i32>) -> i32 {
        pool.lend(|_| true, || -1)
    }

    fn idle(pool: &Pool<i32>) -> usize {
        pool.lock().idle.len()
    }

    #[test]
    fn keeps_the_newest_and_as_many_as_there_are_threads() {
        let pool = Pool::new();
        let threads = threads() as i32;
        for number in 0..threads + 3 {
            assert_eq!(lend(&pool), number - 1);
            pool.give_back(number);
        }
        for number in 0..threads {
            pool.give_back(100 + number);
        }
        for number in (0..threads).rev() {
            assert_eq!(lend(&pool), 100 + number);
        }
        assert_eq!(lend(&pool), -1);
    }

    #[test]
    fn keeps_as_many_as_are_lent() {
        let pool = Pool::new();
        for _ in 0..1000 {
            assert_eq!(lend(&pool), -1);
        }
        for _ in 0..500 {
            pool.give_back(0);
        }
        assert_eq!(idle(&pool), 500);
        for _ in 0..300 {
            assert_eq!(lend(&pool), 0);
        }
        for _ in 0..300 {
            pool.lose();
        }
        assert_eq!(idle(&pool), 200);
        for lent in (0..500).rev() {
            pool.give_back(0);
            assert!(idle(&pool) <= lent.max(threads()), "{lent} are lent");
        }
        assert_eq!(idle(&pool), threads());
        assert!(pool.lock().idle.capacity() < 100);
    }

    #[test]
    fn lends_only_what_fits() {
        let pool = Pool::new();
        pool.give_back(1);
        assert_eq!(pool.lend(|&number| number > 1, || 2), 2);
        assert_eq!(pool.lend(|&number| number == 1, || 2), 1);
    }
}
