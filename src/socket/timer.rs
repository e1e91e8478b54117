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

use super::spacing::{Spacing, is_too_large_for_a_gap};
use crate::time::Moment;

/// Returns the time of tokio's clock, which tests can pause.
#[inline]
pub(crate) fn now() -> Moment {
    Instant::now().into_std().into()
}

/// A timer that follows a deadline lazily.
///
/// A deadline that only moves into the future costs nothing until the old one is reached. The
/// keepalive deadline moves with every message.
///
/// The timer wakes the task that last polled it with a nearer deadline, so only one task may use
/// it.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Spaced>>>,
    /// When the timer wakes the task, if it is set.
    wakes_at: Option<Moment>,
}

pin_project! {
    /// The timer of tokio, in a block that is too large for a gap.
    #[derive(Debug)]
    struct Spaced {
        #[pin]
        sleep: Sleep,
        spacing: Spacing<6>,
    }
}

const _: () = assert!(is_too_large_for_a_gap::<Spaced>());

impl Spaced {
    fn until(deadline: Moment) -> Self {
        Self {
            sleep: sleep_until(instant(deadline)),
            spacing: Spacing::NEW,
        }
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
    /// Returns whether the timer wakes the task after `now`.
    #[inline]
    pub(super) fn is_pending_at(&self, now: Moment) -> bool {
        self.wakes_at.is_some_and(|wakes_at| now < wakes_at)
    }

    /// Returns whether polling the timer for `deadline` would change nothing.
    #[inline]
    pub(super) fn is_set(&self, deadline: Option<Moment>, now: Moment) -> bool {
        match (&self.sleep, deadline) {
            (Some(spaced), Some(deadline)) => is_set(&spaced.sleep, deadline, now),
            (Some(spaced), None) => !spaced.sleep.is_elapsed(),
            (None, deadline) => deadline.is_none(),
        }
    }

    /// Ready when `deadline` is reached; never without one.
    ///
    /// `now` may be slightly old: another thread may have reached the old deadline in between.
    pub(super) fn poll(
        &mut self,
        deadline: Option<Moment>,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else {
            // A timer that was reached wakes no task.
            if self
                .sleep
                .as_ref()
                .is_some_and(|spaced| spaced.sleep.is_elapsed())
            {
                self.sleep = None;
                self.wakes_at = None;
            }
            return Poll::Pending;
        };
        let spaced = match &mut self.sleep {
            Some(spaced) if is_set(&spaced.sleep, deadline, now) => {
                // The timer wakes the task early enough to check the deadline again.
                return Poll::Pending;
            }
            Some(spaced) => spaced,
            none => none.insert(Box::pin(Spaced::until(deadline))),
        };
        let mut sleep = spaced.as_mut().project().sleep;
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
                self.wakes_at = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(instant(deadline));
        }
        self.wakes_at = Some(wakes_at(&sleep));
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
        let mut timer = Timer::default();
        let due = now() + SECOND;
        let mut poll = |deadline| {
            let poll = timer.poll(deadline, now(), &mut Context::from_waker(Waker::noop()));
            let sleep = timer.sleep.as_ref();
            (poll, sleep.map(|spaced| wakes_at(&spaced.sleep)))
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
        // A deadline in the past is ready at once.
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
