//! Waiting for the end of a connection.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::Link;
use crate::{socket::waiters::Ticket, words::Closed};

/// The tasks that wait for the end.
#[derive(Debug, Default)]
pub(super) struct Watchers(BTreeMap<Ticket, Waker>);

impl Watchers {
    /// Adds a waker. If there is one under `ticket`, replaces and returns it.
    pub(super) fn register(&mut self, ticket: &mut Option<Ticket>, waker: &Waker) -> Option<Waker> {
        let last = self.0.last_key_value();
        let next = last.map_or(Ticket::MIN, |(last, _)| last.saturating_add(1));
        let ticket = *ticket.get_or_insert(next);
        let registered = self.0.get(&ticket);
        if registered.is_some_and(|registered| registered.will_wake(waker)) {
            return None;
        }
        self.0.insert(ticket, waker.clone())
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waker> {
        let waker = self.0.remove(&ticket);
        if self.0.is_empty() {
            // An empty map keeps memory for later entries, so drop it.
            self.0 = BTreeMap::new();
        }
        waker
    }

    pub(super) fn wake(self) {
        self.into_wakers().for_each(Waker::wake);
    }

    pub(super) fn into_wakers(self) -> impl Iterator<Item = Waker> {
        self.0.into_values()
    }
}

impl Link {
    /// Waits until the connection has ended, and returns how.
    pub(in crate::socket) const fn wait_closed(&self) -> WaitClosed<'_> {
        WaitClosed {
            link: self,
            ticket: None,
        }
    }

    /// Returns how the connection ended, or `None` before its end.
    pub(crate) fn ending(&self) -> Option<Closed> {
        self.lock().closed().cloned()
    }
}

/// The future that waits for the end of a connection.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub(in crate::socket) struct WaitClosed<'a> {
    link: &'a Link,
    ticket: Option<Ticket>,
}

impl Future for WaitClosed<'_> {
    type Output = Closed;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Closed> {
        let link = self.link;
        let mut state = link.lock();
        if let Some(closed) = state.closed() {
            return Poll::Ready(closed.clone());
        }
        let replaced = state
            .rare_mut()
            .watchers
            .register(&mut self.ticket, cx.waker());
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for WaitClosed<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let mut state = self.link.lock();
            let waker = state.rare_mut().watchers.remove(ticket);
            drop(state);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;
    use crate::{codec::Role, config::Config, socket::HandshakeInfo};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(waiting: Pin<&mut WaitClosed<'_>>, woken: &Arc<Woken>) -> bool {
        let waker = Waker::from(Arc::clone(woken));
        waiting.poll(&mut Context::from_waker(&waker)).is_ready()
    }

    #[test]
    fn wakes_each_waiter_once_by_its_last_waker() {
        let link = Link::new(
            Role::Server,
            HandshakeInfo::default(),
            Arc::new(Config::new()),
        );
        let wakers: [Arc<Woken>; 4] = Default::default();
        let mut first = pin!(link.wait_closed());
        {
            let dropped = pin!(link.wait_closed());
            assert!(!poll(dropped, &wakers[0]));
        }
        let mut second = pin!(link.wait_closed());
        assert!(!poll(second.as_mut(), &wakers[1]));
        assert!(!poll(first.as_mut(), &wakers[2]));
        assert!(!poll(second.as_mut(), &wakers[3]));
        link.abort();
        let woken = wakers
            .each_ref()
            .map(|woken| woken.0.load(Ordering::Relaxed));
        assert_eq!(woken, [0, 0, 1, 1]);
        assert!(poll(first, &wakers[2]) && poll(second, &wakers[3]));
        // The futures' wakers are freed.
        assert!(wakers.iter().all(|woken| Arc::strong_count(woken) == 1));
    }
}
