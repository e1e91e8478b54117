//! Random sessions that are the same in every run: a seeded generator, and a loop that runs sessions. Each has its
//! own seed, and a runtime with a paused clock.
//!
//! A failure prints its seed. With `SEED=<seed>` in the environment, only that session runs. With `SEEDS=1`, each
//! seed is printed when its session begins.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::runtime;

/// Marsaglia's xorshift: the same numbers for the same seed, everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| _ = random.next());
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Prints the seed if its session fails, and the number of steps before it.
struct Seed {
    seed: u64,
    steps: usize,
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with SEED={} after {} steps", self.seed, self.steps);
        }
    }
}

pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs connections, each with its own seed, until they have taken `most` steps.
pub(crate) fn run<F: Future<Output = usize>>(most: usize, connection: impl Fn(u64) -> F) {
    let run = |seed, steps| {
        let _seed = Seed { seed, steps };
        if std::env::var_os("SEEDS").is_some() {
            eprintln!("SEED={seed}");
        }
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(connection(seed))
    };
    if let Ok(seed) = std::env::var("SEED") {
        run(seed.parse().unwrap(), 0);
        return;
    }
    let mut steps = 0;
    for seed in 1.. {
        steps += run(seed, steps);
        if steps >= most {
            println!("{steps} steps on {seed} connections");
            return;
        }
    }
}
