//! The queue of tasks that wait for room to send.
//!
//! Room that becomes free is reserved for the first waiters, as many as it suffices for: it is
//! granted to them. Each of them is woken once, and no later task gets the room first. A granted
//! waiter that is not polled is skipped: it loses the room and keeps its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    task::Waker,
};

use crate::codec::Load;

/// A place in the queue. Lower tickets come first.
pub(super) type Ticket = NonZeroU64;

#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: BTreeMap<Ticket, Waiter>,
    /// Waiters with reserved room, and how many bytes of it.
    granted: BTreeMap<Ticket, usize>,
    skipped: BTreeSet<Ticket>,
    /// The number of tickets issued.
    issued: u64,
    /// The sum of all reserved room.
    reserved: Load,
    /// Memberships in rooms that are behind. They take no place in the queue.
    #[cfg(feature = "hub")]
    pub(super) behind: Vec<Waker>,
}

#[derive(Debug)]
struct Waiter {
    len: usize,
    waker: Waker,
}

/// The state of a waiter that asks again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// Room is reserved for it.
    Granted,
    /// It is first in the queue, or was skipped. It may take room that is free.
    First,
    Later,
}

impl Waiters {
    /// Adds a waiter for `len` bytes at the end of the queue.
    pub(super) fn join(&mut self, len: usize, waker: Waker) -> Ticket {
        self.issued += 1;
        let ticket = Ticket::new(self.issued).unwrap_or(Ticket::MAX);
        self.waiting.insert(ticket, Waiter { len, waker });
        ticket
    }

    /// Updates a waiter that has to wait longer. Returns the waker that was replaced.
    pub(super) fn keep_waiting(
        &mut self,
        ticket: Ticket,
        len: usize,
        waker: &Waker,
    ) -> Option<Waker> {
        let waiter = self.waiting.get(&ticket);
        if waiter.is_some_and(|waiter| waiter.waker.will_wake(waker)) {
            return None;
        }
        self.skipped.remove(&ticket);
        let waker = waker.clone();
        let replaced = self.waiting.insert(ticket, Waiter { len, waker });
        replaced.map(|waiter| waiter.waker)
    }

    /// Reserves room for a waiter. Returns its waker if it had no reserved room before.
    pub(super) fn reserve(&mut self, ticket: Ticket, len: usize) -> Option<Waker> {
        if let Some(before) = self.granted.insert(ticket, len) {
            self.reserved.bytes = self.reserved.bytes - before + len;
            return None;
        }
        self.reserved.messages += 1;
        self.reserved.bytes += len;
        self.skipped.remove(&ticket);
        self.waiting.remove(&ticket).map(|waiter| waiter.waker)
    }

    /// Removes a waiter. Returns its waker if it had no reserved room.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        if let Some(len) = self.granted.remove(&ticket) {
            self.reserved.messages -= 1;
            self.reserved.bytes -= len;
            return None;
        }
        self.skipped.remove(&ticket);
        self.waiting.remove(&ticket).map(|waiter| waiter.waker)
    }

    pub(super) fn place_of(&self, ticket: Ticket) -> Place {
        if self.granted.contains_key(&ticket) {
            return Place::Granted;
        }
        let first = self.waiting.keys().next();
        match self.skipped.contains(&ticket) || first == Some(&ticket) {
            true => Place::First,
            false => Place::Later,
        }
    }

    /// Reserves room for the first waiters and returns their wakers.
    ///
    /// It stops where `has_room` returns false, given the room reserved so far and the bytes of the
    /// next waiter.
    pub(super) fn grant(&mut self, has_room: impl Fn(Load, usize) -> bool) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            if !has_room(self.reserved, first.get().len) {
                break;
            }
            let (ticket, waiter) = first.remove_entry();
            self.granted.insert(ticket, waiter.len);
            self.reserved.messages += 1;
            self.reserved.bytes += waiter.len;
            wakers.push(waiter.waker);
        }
        wakers
    }

    /// Takes the reserved room from all granted waiters, because they were not polled.
    pub(super) fn skip_granted(&mut self) {
        self.skipped.extend(self.granted.keys());
        self.granted.clear();
        self.reserved = Load::default();
    }

    /// Returns the sum of all reserved room.
    pub(super) const fn reserved(&self) -> Load {
        self.reserved
    }

    /// Returns whether a waiter has reserved room.
    pub(super) fn has_granted(&self) -> bool {
        !self.granted.is_empty()
    }

    /// Returns whether a ticket is in the queue or has reserved room.
    pub(super) fn has(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket) || self.granted.contains_key(&ticket)
    }

    /// Returns whether a task that comes now has to wait.
    pub(super) fn is_contended(&self) -> bool {
        !self.waiting.is_empty() || !self.granted.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_contended() && self.skipped.is_empty() && !self.has_memberships()
    }

    /// Returns whether a task waits for room.
    pub(super) fn has_tasks(&self) -> bool {
        self.is_contended() || !self.skipped.is_empty()
    }

    /// Returns whether a membership is behind.
    #[cfg(feature = "hub")]
    pub(super) fn has_memberships(&self) -> bool {
        !self.behind.is_empty()
    }

    /// There are no memberships without the feature `hub`.
    #[cfg(not(feature = "hub"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    const fn has_memberships(&self) -> bool {
        false
    }

    /// Takes all wakers: there is nothing to wait for any more.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        let waiting = std::mem::take(&mut self.waiting).into_values();
        let wakers = waiting.map(|waiter| waiter.waker);
        #[cfg(feature = "hub")]
        let wakers = wakers.chain(std::mem::take(&mut self.behind));
        wakers.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(waiters: &mut Waiters, len: usize) -> Ticket {
        waiters.join(len, Waker::noop().clone())
    }

    /// Grants up to ten bytes in total.
    fn grant(waiters: &mut Waiters) -> usize {
        let has_room = |reserved: Load, len| reserved.bytes + len <= 10;
        waiters.grant(has_room).len()
    }

    #[test]
    fn grants_room_in_order_while_it_lasts() {
        let mut waiters = Waiters::default();
        let tickets = [6, 4, 1].map(|len| join(&mut waiters, len));
        assert_eq!(grant(&mut waiters), 2);
        let places = tickets.map(|ticket| waiters.place_of(ticket));
        assert_eq!(places, [Place::Granted, Place::Granted, Place::First]);
        assert_eq!(waiters.reserved().bytes, 10);
        assert_eq!(grant(&mut waiters), 0);
        assert!(waiters.leave(tickets[0]).is_none());
        assert_eq!(grant(&mut waiters), 1);
        assert_eq!(
            waiters.reserved(),
            Load {
                messages: 2,
                bytes: 5
            }
        );
    }

    #[test]
    fn a_granted_waiter_may_ask_for_another_length() {
        let mut waiters = Waiters::default();
        let ticket = join(&mut waiters, 1);
        assert_eq!(grant(&mut waiters), 1);
        assert!(waiters.reserve(ticket, 8).is_none());
        assert_eq!(waiters.reserved().bytes, 8);
        assert!(waiters.reserve(ticket, 3).is_none());
        assert!(waiters.leave(ticket).is_none());
        assert_eq!(waiters.reserved(), Load::default());
    }

    #[test]
    fn small_waiters_do_not_overtake_a_large_one() {
        let mut waiters = Waiters::default();
        let tickets = [11, 1].map(|len| join(&mut waiters, len));
        assert_eq!(grant(&mut waiters), 0);
        assert_eq!(waiters.place_of(tickets[0]), Place::First);
        assert_eq!(waiters.place_of(tickets[1]), Place::Later);
        assert!(waiters.leave(tickets[0]).is_some());
        assert_eq!(grant(&mut waiters), 1);
    }

    #[test]
    fn a_skipped_waiter_keeps_its_place() {
        let mut waiters = Waiters::default();
        let tickets = [9, 9, 9].map(|len| join(&mut waiters, len));
        assert_eq!(grant(&mut waiters), 1);
        assert!(waiters.has_granted());
        waiters.skip_granted();
        assert_eq!(waiters.reserved(), Load::default());
        assert_eq!(waiters.place_of(tickets[0]), Place::First);
        assert_eq!(grant(&mut waiters), 1);
        assert_eq!(waiters.place_of(tickets[1]), Place::Granted);
        assert!(waiters.keep_waiting(tickets[0], 9, Waker::noop()).is_none());
        waiters.leave(tickets[1]);
        assert_eq!(grant(&mut waiters), 1);
        assert_eq!(waiters.place_of(tickets[0]), Place::Granted);
        for ticket in tickets {
            waiters.leave(ticket);
        }
        assert!(waiters.is_empty());
    }
}
