//! One timer for all that a connection waits for.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use crate::time::Moment;

/// Returns the time of tokio's clock, which tests can stop.
#[inline]
pub(crate) fn now() -> Moment {
    Instant::now().into_std().into()
}

/// A timer that follows a deadline lazily: one that has only moved away, as the deadline of a
/// silence does with every message, costs nothing before the old one is reached.
///
/// It wakes whom it was polled for last with a nearer deadline: it is for one connection.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When it wakes the task, if it will.
    wakes_at: Option<Moment>,
}

/// Returns whether a timer wakes the task, at the deadline or before it.
#[inline]
fn is_set(sleep: &Sleep, deadline: Moment, now: Moment) -> bool {
    let wakes_at = wakes_at(sleep);
    wakes_at <= deadline && now < wakes_at && !sleep.is_elapsed()
}

fn wakes_at(sleep: &Sleep) -> Moment {
    sleep.deadline().into_std().into()
}

fn instant(moment: Moment) -> Instant {
    Instant::from_std(moment.into())
}

impl Timer {
    /// Returns whether it will wake the task, later than now.
    #[inline]
    pub(super) fn is_before_its_end(&self, now: Moment) -> bool {
        self.wakes_at.is_some_and(|wakes_at| now < wakes_at)
    }

    /// Returns whether polling it for `deadline` would change nothing.
    #[inline]
    pub(super) fn is_set(&self, deadline: Option<Moment>, now: Moment) -> bool {
        match (&self.sleep, deadline) {
            (Some(sleep), Some(deadline)) => is_set(sleep, deadline, now),
            (Some(sleep), None) => !sleep.is_elapsed(),
            (None, deadline) => deadline.is_none(),
        }
    }

    /// Ready when `deadline` is reached; never without one. `now` may be a moment ago: another thread may
    /// have seen the old deadline reached meanwhile.
    pub(super) fn poll(
        &mut self,
        deadline: Option<Moment>,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else {
            // One that has been reached wakes nobody any more.
            if self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed()) {
                self.sleep = None;
                self.wakes_at = None;
            }
            return Poll::Pending;
        };
        let sleep = match &mut self.sleep {
            Some(sleep) if is_set(sleep, deadline, now) => {
                // It will wake who waits, and then there is time to look again.
                return Poll::Pending;
            }
            Some(sleep) => sleep,
            none => none.insert(Box::pin(sleep_until(instant(deadline)))),
        };
        if deadline < wakes_at(sleep) {
            sleep.as_mut().reset(instant(deadline));
        }
        // A handler that has spent the task's budget would keep it from being registered, and it is
        // not polled again before it is reached.
        while Pin::new(&mut unconstrained(sleep.as_mut()))
            .poll(cx)
            .is_ready()
        {
            if deadline <= wakes_at(sleep) {
                self.wakes_at = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(instant(deadline));
        }
        self.wakes_at = Some(wakes_at(sleep));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes what tokio allows a task in one poll, as a handler does that has much to receive.
    fn spend_budget(cx: &mut Context<'_>) {
        while pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
    }

    #[tokio::test(start_paused = true)]
    async fn forgets_a_moment_that_is_over_when_nothing_is_due() {
        let mut timer = Timer::default();
        let due = now() + SECOND;
        let mut poll = |deadline| {
            let poll = timer.poll(deadline, now(), &mut Context::from_waker(Waker::noop()));
            let sleep = timer.sleep.as_ref();
            (poll, sleep.map(|sleep| wakes_at(sleep)))
        };
        assert_eq!(poll(Some(due)), (Poll::Pending, Some(due)));
        assert_eq!(poll(None), (Poll::Pending, Some(due)));
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(poll(None), (Poll::Pending, None));
        assert_eq!(poll(None), (Poll::Pending, None));
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As where it was reached on another thread after this one had looked at the clock.
    #[tokio::test(start_paused = true)]
    async fn wakes_again_where_it_was_reached_after_the_clock_was_looked_at() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut timer = Timer::default();
        let earlier = now();
        let mut poll = |after| {
            let due = earlier + after;
            timer.poll(Some(due), earlier, &mut Context::from_waker(&waker))
        };
        assert!(poll(SECOND).is_pending());
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(poll(5 * SECOND).is_pending());
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        // Nor is it taken for one that is to come.
        assert!(poll(4 * SECOND).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_a_task_that_had_spent_its_budget() {
        for (first, then) in [(SECOND, SECOND), (SECOND, 3 * SECOND), (9 * SECOND, SECOND)] {
            let mut timer = Timer::default();
            let start = now();
            let mut polls = 0;
            let reached = poll_fn(|cx| {
                polls += 1;
                let deadline = if polls == 1 {
                    spend_budget(cx);
                    start + first
                } else {
                    start + then
                };
                timer.poll(Some(deadline), now(), cx)
            });
            let reached = timeout(100 * SECOND, reached).await;
            assert!(reached.is_ok(), "{first:?}, then {then:?}");
            assert_eq!(now() - start, then);
        }
    }
}
