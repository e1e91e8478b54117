//! The application's pings. At most one is pending, and all callers share it.

use std::{
    collections::hash_map::RandomState,
    future::Future,
    hash::BuildHasher,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{Command, Link, Stage, State, ending::Watchers};
use crate::{
    socket::{SendError, waiters::Ticket},
    time::Moment,
};

/// The payload of a ping. It is longer than that of the keepalive, so their pongs cannot be confused.
type Payload = [u8; 9];

/// The pings of one connection.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// The number of the pending ping, or of the last one.
    number: u64,
    pending: Option<Pending>,
    /// The round-trip time of the last answered ping.
    round_trip: Duration,
    /// The number of futures that wait for a ping.
    futures: usize,
    watchers: Watchers,
}

/// A ping that is not answered yet.
#[derive(Debug)]
enum Pending {
    Requested,
    Sent {
        payload: Payload,
        sent: Moment,
        mark: u64,
    },
}

/// A ping that was answered.
#[derive(Clone, Copy, Debug)]
pub(in crate::socket) struct Answered {
    pub(in crate::socket) round_trip: Duration,
    /// The mark of the keepalive when the ping was sent.
    pub(in crate::socket) mark: u64,
}

impl Pings {
    fn is_answered(&self, number: u64) -> bool {
        number < self.number || self.pending.is_none()
    }
}

/// The future of a ping.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub(in crate::socket) struct Ping {
    link: Arc<Link>,
    /// The number of the ping that it waits for.
    number: Option<u64>,
    ticket: Option<Ticket>,
}

impl Ping {
    pub(in crate::socket) const fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            number: None,
            ticket: None,
        }
    }

    /// Stops waiting.
    fn leave(&mut self) {
        let Some(number) = self.number.take() else {
            return;
        };
        let ticket = self.ticket.take();
        let mut state = self.link.lock();
        let Some(pings) = state.pings() else {
            return;
        };
        pings.futures -= 1;
        // Once the ping is answered, the ticket may belong to a future that waits for the next one.
        let waker = ticket
            .filter(|_| !pings.is_answered(number))
            .and_then(|ticket| pings.watchers.remove(ticket));
        let unneeded = state.take_unneeded_pings();
        drop(state);
        drop((waker, unneeded));
    }
}

impl Future for Ping {
    type Output = Result<Duration, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let result = ready!(this.link.poll_ping(&mut this.number, &mut this.ticket, cx));
        this.leave();
        Poll::Ready(result)
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Link {
    fn poll_ping(
        &self,
        number: &mut Option<u64>,
        ticket: &mut Option<Ticket>,
        cx: &Context<'_>,
    ) -> Poll<Result<Duration, SendError>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        // After the end of the input no pong comes.
        let is_over = state.input_over || state.stage != Stage::Open;
        if number.is_none() && is_over {
            return Poll::Ready(Err(SendError::Closed));
        }
        let rare = state.rare.get_or_insert_default();
        let pings = rare.pings.get_or_insert_default();
        let mut is_new = false;
        let number = *number.get_or_insert_with(|| {
            pings.futures += 1;
            if pings.pending.is_none() {
                pings.number += 1;
                pings.pending = Some(Pending::Requested);
                rare.command = Some(Box::new(Command::Ping));
                is_new = true;
            }
            pings.number
        });
        if pings.is_answered(number) {
            return Poll::Ready(Ok(pings.round_trip));
        }
        if is_over {
            return Poll::Ready(Err(SendError::Closed));
        }
        let replaced = pings.watchers.register(ticket, cx.waker());
        match is_new {
            true => self.wake_connection(guard, ()),
            false => drop(guard),
        }
        drop(replaced);
        Poll::Pending
    }

    /// Begins the requested ping, and returns its payload. `mark` is the current mark of the keepalive.
    pub(in crate::socket) fn begin_ping(&self, mark: u64, now: Moment) -> Payload {
        // The keys of the hash come from the system's random numbers, so no peer can answer before the ping arrives.
        let random = RandomState::new().hash_one(());
        let mut payload = Payload::default();
        payload[1..].copy_from_slice(&random.to_be_bytes());
        if let Some(pings) = self.lock().pings() {
            pings.pending = Some(Pending::Sent {
                payload,
                sent: now,
                mark,
            });
        }
        payload
    }

    /// Records a pong, and wakes the tasks that wait for it. Returns the ping that it answers.
    ///
    /// `is_later` returns whether the pong answers a ping of the keepalive that was sent after a mark. Such a pong
    /// answers our ping as well: a peer may answer only the newest of several pings (RFC 6455 §5.5.3).
    pub(in crate::socket) fn note_pong(
        &self,
        payload: &[u8],
        is_later: impl FnOnce(u64) -> bool,
        now: Moment,
        cx: &Context<'_>,
    ) -> Option<Answered> {
        let mut state = self.lock();
        let pings = state.pings()?;
        let Some(Pending::Sent {
            payload: expected,
            sent,
            mark,
        }) = pings.pending
        else {
            return None;
        };
        if payload != expected && !is_later(mark) {
            return None;
        }
        let round_trip = now.since(sent);
        pings.pending = None;
        pings.round_trip = round_trip;
        let watchers = state.take_ping_wakers();
        let unneeded = state.take_unneeded_pings();
        drop(state);
        drop(unneeded);
        self.wake_other_tasks(watchers.into_wakers(), cx);
        Some(Answered { round_trip, mark })
    }
}

impl State {
    pub(super) fn take_ping_wakers(&mut self) -> Watchers {
        let pings = self.pings();
        pings.map_or_else(Watchers::default, |pings| mem::take(&mut pings.watchers))
    }

    /// Takes the pings out, to be dropped without the lock, unless a future or a pong still needs them.
    pub(super) fn take_unneeded_pings(&mut self) -> Option<Box<Pings>> {
        let is_over = self.stage == Stage::Closed;
        let rare = self.rare.as_mut()?;
        rare.pings
            .take_if(|pings| pings.futures == 0 && (is_over || pings.pending.is_none()))
    }
}
