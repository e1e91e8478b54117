//! The Closes of a shutdown, spread over some time.

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::{socket::Link, words::CloseFrame};

/// The links that are still to be closed, which they are at once when this is dropped: the runtime
/// in which the spreading was to happen may end before it.
pub(super) struct Left {
    moments: VecDeque<(Duration, Arc<Link>)>,
    frame: CloseFrame,
}

impl Left {
    /// Gives each link a random moment of `spread`.
    pub(super) fn new(links: Vec<Arc<Link>>, frame: CloseFrame, spread: Duration) -> Self {
        let random = RandomState::new();
        let mut moments: Vec<_> = (0u64..)
            .zip(links)
            .map(|(number, link)| {
                let [one, two, ..] = random.hash_one(number).to_be_bytes();
                let fraction = f64::from(u16::from_be_bytes([one, two])) / f64::from(u16::MAX);
                (spread.mul_f64(fraction), link)
            })
            .collect();
        moments.sort_unstable_by_key(|(moment, _)| *moment);
        Self {
            moments: moments.into(),
            frame,
        }
    }

    /// Closes each link at its moment.
    pub(super) async fn close(mut self) {
        let start = Instant::now();
        while let Some((moment, _)) = self.moments.front() {
            sleep_until(start + *moment).await;
            if let Some((_, link)) = self.moments.pop_front() {
                link.close(self.frame.clone());
            }
        }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        for (_, link) in self.moments.drain(..) {
            link.close(self.frame.clone());
        }
    }
}
