//! One timer for all deadlines of a connection.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use crate::time::Moment;

/// Returns the time of tokio's clock, which tests can pause.
#[inline]
pub(crate) fn now() -> Moment {
    Instant::now().into_std().into()
}

pin_project! {
    /// A timer that follows a deadline lazily.
    ///
    /// A deadline that only moves into the future costs nothing until the old one is reached. The
    /// keepalive deadline moves with every message.
    ///
    /// The timer wakes the task that last polled it with a nearer deadline, so only one task may use
    /// it.
    #[derive(Debug, Default)]
    pub(super) struct Timer {
        // Not in a block of its own: a small block that lives long keeps glibc from joining the memory around it.
        #[pin]
        sleep: Option<Sleep>,
    }
}

/// Returns whether a timer wakes the task after `now`, at `deadline` or before.
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
    /// Returns when the timer wakes the task, if it is set.
    pub(super) fn wakes_at(&self) -> Option<Moment> {
        let sleep = self.sleep.as_ref().filter(|sleep| !sleep.is_elapsed());
        sleep.map(wakes_at)
    }

    /// Returns whether polling the timer for `deadline` would change nothing.
    #[inline]
    pub(super) fn is_set(&self, deadline: Option<Moment>, now: Moment) -> bool {
        match (&self.sleep, deadline) {
            (Some(sleep), Some(deadline)) => is_set(sleep, deadline, now),
            (Some(sleep), None) => !sleep.is_elapsed(),
            (None, deadline) => deadline.is_none(),
        }
    }

    /// Ready when `deadline` is reached; never without one.
    ///
    /// `now` may be slightly old: another thread may have reached the old deadline in between.
    pub(super) fn poll(
        self: Pin<&mut Self>,
        deadline: Option<Moment>,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut slot = self.project().sleep;
        let Some(deadline) = deadline else {
            // A timer that was reached wakes no task.
            if slot
                .as_ref()
                .as_pin_ref()
                .is_some_and(|sleep| sleep.is_elapsed())
            {
                slot.set(None);
            }
            return Poll::Pending;
        };
        match slot.as_ref().as_pin_ref() {
            // The timer wakes the task early enough to check the deadline again.
            Some(sleep) if is_set(&sleep, deadline, now) => return Poll::Pending,
            Some(_) => {}
            None => slot.set(Some(sleep_until(instant(deadline)))),
        }
        let Some(mut sleep) = slot.as_pin_mut() else {
            return Poll::Pending;
        };
        if deadline < wakes_at(&sleep) {
            sleep.as_mut().reset(instant(deadline));
        }
        // Unconstrained: a handler that has spent the task's budget would otherwise keep the timer
        // from being registered, and the task would never be woken.
        while Pin::new(&mut unconstrained(sleep.as_mut()))
            .poll(cx)
            .is_ready()
        {
            if deadline <= wakes_at(&sleep) {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(instant(deadline));
        }
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

    /// Spends tokio's budget of this poll, like a handler that receives many messages.
    fn spend_budget(cx: &mut Context<'_>) {
        while pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
    }

    #[tokio::test(start_paused = true)]
    async fn drops_an_elapsed_sleep_without_a_deadline() {
        let mut timer = pin!(Timer::default());
        let due = now() + SECOND;
        let mut poll = |deadline| {
            let mut cx = Context::from_waker(Waker::noop());
            let poll = timer.as_mut().poll(deadline, now(), &mut cx);
            (poll, timer.sleep.as_ref().map(wakes_at))
        };
        assert_eq!(poll(Some(due)), (Poll::Pending, Some(due)));
        assert_eq!(poll(None), (Poll::Pending, Some(due)));
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(poll(None), (Poll::Pending, None));
        assert_eq!(poll(None), (Poll::Pending, None));
    }

    /// Counts wakes.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Covers a timer that another thread reaches after this one has read the clock.
    #[tokio::test(start_paused = true)]
    async fn wakes_again_if_reached_after_the_clock_was_read() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut timer = pin!(Timer::default());
        let earlier = now();
        let mut poll = |after| {
            let due = earlier + after;
            timer
                .as_mut()
                .poll(Some(due), earlier, &mut Context::from_waker(&waker))
        };
        assert!(poll(SECOND).is_pending());
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(poll(5 * SECOND).is_pending());
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        // A deadline in the past is ready at once.
        assert!(poll(4 * SECOND).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_a_task_that_had_spent_its_budget() {
        for (first, then) in [(SECOND, SECOND), (SECOND, 3 * SECOND), (9 * SECOND, SECOND)] {
            let mut timer = pin!(Timer::default());
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
                timer.as_mut().poll(Some(deadline), now(), cx)
            });
            let reached = timeout(100 * SECOND, reached).await;
            assert!(reached.is_ok(), "{first:?}, then {then:?}");
            assert_eq!(now() - start, then);
        }
    }
}
