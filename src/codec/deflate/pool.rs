//! A pool of idle compressors or decompressors, shared by all connections.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread::available_parallelism,
};

/// A pool. It keeps at most as many idle items as the machine runs threads, or as many as are lent, if that is
/// more.
///
/// With context takeover, a connection keeps its item until it ends. The next connection then gets that item. A
/// new allocation for each connection would need up to twice the memory, because the allocator uses parts of
/// the freed space for other data.
///
/// The lock is held only to push or pop an item.
#[derive(Debug)]
pub(super) struct Pool<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    /// The least recently used item is the first.
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

    /// Lends the most recently used item that fits, or a new one. A recent item is likely to be in the cache.
    pub(super) fn lend(&self, fits: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        state.lent += 1;
        let index = state.idle.iter().rposition(fits);
        let item = index.and_then(|index| state.idle.remove(index));
        drop(state);
        item.unwrap_or_else(make)
    }

    /// Takes an item back.
    pub(super) fn give_back(&self, item: T) {
        self.end_loan(Some(item));
    }

    /// Notes that a lent item was dropped.
    pub(super) fn lose(&self) {
        self.end_loan(None);
    }

    fn end_loan(&self, item: Option<T>) {
        let mut state = self.lock();
        state.lent = state.lent.saturating_sub(1);
        state.idle.extend(item);
        // At most two items are surplus: the number of idle items grew by one, and the limit fell by one.
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
        // The state is valid after a panic: no change can panic halfway.
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

    /// Lends an idle item, or -1 if there is none.
    fn lend(pool: &Pool<i32>) -> i32 {
        pool.lend(|_| true, || -1)
    }

    fn idle(pool: &Pool<i32>) -> usize {
        pool.lock().idle.len()
    }

    #[test]
    fn keeps_the_newest_items_one_for_each_thread() {
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
    fn keeps_as_many_items_as_are_lent() {
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
    fn lends_only_items_that_fit() {
        let pool = Pool::new();
        pool.give_back(1);
        assert_eq!(pool.lend(|&number| number > 1, || 2), 2);
        assert_eq!(pool.lend(|&number| number == 1, || 2), 1);
    }
}
