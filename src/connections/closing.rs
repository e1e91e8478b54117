//! The Closes of a shutdown, spread over a time.

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::{socket::Link, words::CloseFrame};

/// The links that a shutdown has still to close, each after its delay.
///
/// Dropping this closes them all at once: the runtime may end before the last delay.
pub(super) struct DelayedCloses {
    links_by_delay: VecDeque<(Duration, Arc<Link>)>,
    frame: CloseFrame,
}

impl DelayedCloses {
    /// Gives each link a random delay of at most `spread`.
    pub(super) fn new(links: Vec<Arc<Link>>, frame: CloseFrame, spread: Duration) -> Self {
        let random = RandomState::new();
        let mut links_by_delay: Vec<_> = (0u64..)
            .zip(links)
            .map(|(number, link)| {
                let [one, two, ..] = random.hash_one(number).to_be_bytes();
                let fraction = f64::from(u16::from_be_bytes([one, two])) / f64::from(u16::MAX);
                (spread.mul_f64(fraction), link)
            })
            .collect();
        links_by_delay.sort_unstable_by_key(|(delay, _)| *delay);
        Self {
            links_by_delay: links_by_delay.into(),
            frame,
        }
    }

    /// Closes each link after its delay.
    pub(super) async fn close(mut self) {
        let start = Instant::now();
        while let Some((delay, _)) = self.links_by_delay.front() {
            sleep_until(start + *delay).await;
            if let Some((_, link)) = self.links_by_delay.pop_front() {
                link.close(self.frame.clone());
            }
        }
    }
}

impl Drop for DelayedCloses {
    fn drop(&mut self) {
        for (_, link) in self.links_by_delay.drain(..) {
            link.close(self.frame.clone());
        }
    }
}
