//! Those who wait for room to send, in the order in which they get it.
//!
//! Room that is made is set aside for the first of them, and for as many more as there is room for:
//! they are called. Each is woken once for the room that it takes, and nobody who comes later gets it
//! first. One that is called and does not come, because nobody polls its future, is passed over and
//! keeps its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    task::Waker,
};

use crate::codec::Load;

/// A place in the queue: lower ones are in front.
pub(super) type Ticket = NonZeroU64;

#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: BTreeMap<Ticket, Waiter>,
    /// Those for whom room is set aside, and how many bytes of it.
    granted: BTreeMap<Ticket, usize>,
    skipped: BTreeSet<Ticket>,
    /// How many have come.
    issued: u64,
    /// The room that is set aside.
    reserved: Load,
}

#[derive(Debug)]
struct Waiter {
    len: usize,
    waker: Waker,
}

/// What becomes of somebody who asks again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// Room is set aside for it.
    Granted,
    /// Nobody is in front of it, so that it may take the room that is left.
    First,
    Later,
}

impl Waiters {
    /// Adds somebody who needs room for `len` bytes behind all others.
    pub(super) fn join(&mut self, len: usize, waker: Waker) -> Ticket {
        self.issued += 1;
        let ticket = Ticket::new(self.issued).unwrap_or(Ticket::MAX);
        self.waiting.insert(ticket, Waiter { len, waker });
        ticket
    }

    /// Has somebody wait on, and returns the waker that is replaced.
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

    /// Sets room aside for somebody whose turn it is, and returns its waker if it was not called yet.
    pub(super) fn reserve(&mut self, ticket: Ticket, len: usize) -> Option<Waker> {
        if self.granted.insert(ticket, len).is_some() {
            return None;
        }
        self.reserved.messages += 1;
        self.reserved.bytes += len;
        self.skipped.remove(&ticket);
        self.waiting.remove(&ticket).map(|waiter| waiter.waker)
    }

    /// Takes somebody out, and returns its waker if it was not called yet.
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

    /// Calls the first of those who wait, as long as there `is_room` for so many bytes beside what is
    /// set aside already. They are to be woken by these wakers.
    pub(super) fn grant(&mut self, is_room: impl Fn(Load, usize) -> bool) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            if !is_room(self.reserved, first.get().len) {
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

    /// Passes over those who were called and have not come.
    pub(super) fn skip_granted(&mut self) {
        self.skipped.extend(self.granted.keys());
        self.granted.clear();
        self.reserved = Load::default();
    }

    /// Returns the room that is set aside.
    pub(super) const fn reserved(&self) -> Load {
        self.reserved
    }

    /// Returns whether somebody was called and has not come.
    pub(super) fn has_granted(&self) -> bool {
        !self.granted.is_empty()
    }

    /// Returns whether somebody waits, or was called and has not come.
    pub(super) fn has(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket) || self.granted.contains_key(&ticket)
    }

    /// Returns whether whoever comes now has to wait.
    pub(super) fn is_contended(&self) -> bool {
        !self.waiting.is_empty() || !self.granted.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_contended() && self.skipped.is_empty()
    }

    /// Takes everybody's waker: there is nothing to wait for any more.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_values().map(|waiter| waiter.waker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(waiters: &mut Waiters, len: usize) -> Ticket {
        waiters.join(len, Waker::noop().clone())
    }

    /// Calls those for whom there is room for ten bytes in all.
    fn grant(waiters: &mut Waiters) -> usize {
        let is_room = |reserved: Load, len| reserved.bytes + len <= 10;
        waiters.grant(is_room).len()
    }

    #[test]
    fn calls_as_many_as_there_is_room_for_in_order() {
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
    fn a_large_one_is_not_overtaken_by_small_ones() {
        let mut waiters = Waiters::default();
        let tickets = [11, 1].map(|len| join(&mut waiters, len));
        assert_eq!(grant(&mut waiters), 0);
        assert_eq!(waiters.place_of(tickets[0]), Place::First);
        assert_eq!(waiters.place_of(tickets[1]), Place::Later);
        assert!(waiters.leave(tickets[0]).is_some());
        assert_eq!(grant(&mut waiters), 1);
    }

    #[test]
    fn one_that_is_passed_over_keeps_its_place() {
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
