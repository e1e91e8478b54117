//! One timer for all that a connection waits for.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::time::{Sleep, sleep_until};

/// Returns the time of tokio's clock, which tests can stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A timer that follows a deadline lazily: one that has only moved away, as the deadline of a
/// silence does with every message, costs nothing before the old one is reached.
///
/// It wakes the task that polled it last with a nearer deadline: it is for one task.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready when `deadline` is reached; never without one.
    pub(super) fn poll(
        &mut self,
        deadline: Option<Instant>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else {
            return Poll::Pending;
        };
        let sleep = match &mut self.sleep {
            Some(sleep) if sleep.deadline() <= deadline && now < sleep.deadline().into_std() => {
                // It will wake this task, and then there is time to look again.
                return Poll::Pending;
            }
            Some(sleep) => sleep,
            none => none.insert(Box::pin(sleep_until(deadline))),
        };
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if deadline <= sleep.deadline() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
