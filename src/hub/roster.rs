//! The members of a room, and the changes that nobody was told of yet.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::Arc,
    task::Waker,
    time::Duration,
};

use super::{
    member::{LeaveReason, Member},
    names::{Key, MemberId},
    presence::{News, Presence, Roster},
    watch::{Event, Queue},
};
use crate::{time::Moment, words::catch_panic};

/// Everything that a room knows about its members. One lock guards it.
pub(super) struct Members<T> {
    /// The members by their places.
    places: Vec<Option<Place<T>>>,
    /// Free places, the lowest first, so that the chunks stay full.
    free: BinaryHeap<Reverse<u32>>,
    /// The places of the members with each key, the oldest first.
    keys: HashMap<Key, Vec<u32>>,
    /// Members without silent ones; those with the same key are one.
    listed: usize,
    count: usize,
    /// The room has no member and no watch, and was removed from the hub.
    pub(super) is_gone: bool,
    watches: Vec<Arc<Queue<T>>>,
    pub(super) gathered: Gathered,
}

/// Changes that the members will be told of.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// For each that has changed, whether the members were told that it is there, and the last member.
    changed: HashMap<Who, (bool, MemberId)>,
    /// Somebody needs a list of all members.
    pub(super) wants_roster: bool,
    /// The members were told of changes by the number of members only: their lists are not true any more.
    is_only_number: bool,
    /// A task will tell the members.
    pub(super) is_due: bool,
    last: Option<Moment>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Who {
    Member(MemberId),
    Key(Key),
}

struct Place<T> {
    member: Arc<Member<T>>,
    key: Option<Key>,
    value: Arc<T>,
}

/// What has to be done without the lock.
pub(super) struct Aside<T> {
    wakers: Vec<Waker>,
    /// Events of watches that are not read.
    events: Vec<VecDeque<Event<T>>>,
}

impl<T> Default for Aside<T> {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            events: Vec::new(),
        }
    }
}

impl<T> Aside<T> {
    /// One waker or value that panics does not harm the others.
    pub(super) fn run(self) {
        for waker in self.wakers {
            let _ = catch_panic(|| waker.wake());
        }
        for event in self.events.into_iter().flatten() {
            let _ = catch_panic(|| drop(event));
        }
    }
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: BinaryHeap::new(),
            keys: HashMap::new(),
            listed: 0,
            count: 0,
            is_gone: false,
            watches: Vec::new(),
            gathered: Gathered::default(),
        }
    }
}

impl<T> Members<T> {
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Returns whether nobody needs the room.
    pub(super) fn is_unused(&self) -> bool {
        self.count == 0 && self.watches.is_empty()
    }

    /// Returns the place of the next member.
    pub(super) fn next_place(&self) -> u32 {
        match self.free.peek() {
            Some(Reverse(place)) => *place,
            None => self.places.len() as u32,
        }
    }

    pub(super) fn has(&self, id: MemberId) -> bool {
        self.get(id).is_some()
    }

    /// Returns the key of a member; `None` if it is not one.
    pub(super) fn key_of(&self, id: MemberId) -> Option<Option<Key>> {
        self.get(id).map(|place| place.key.clone())
    }

    fn get(&self, id: MemberId) -> Option<&Place<T>> {
        let place = self.places.get(id.place())?.as_ref();
        place.filter(|place| place.member.id() == id)
    }

    /// Adds a member in the [next place](Self::next_place).
    pub(super) fn join(
        &mut self,
        member: Arc<Member<T>>,
        key: Option<Key>,
        value: Arc<T>,
        aside: &mut Aside<T>,
    ) {
        let id = member.id();
        let at = id.place();
        let is_silent = member.is_silent;
        let place = Place { member, key, value };
        self.free.pop();
        if self.places.len() <= at {
            if self.places.capacity() == 0 {
                self.places.reserve_exact(1);
            }
            self.places.resize_with(at + 1, || None);
        }
        let key = place.key.clone();
        self.places[at] = Some(place);
        self.count += 1;
        if is_silent {
            return;
        }
        if let Some(key) = key {
            let places = self.keys.entry(key).or_default();
            places.push(at as u32);
            if places.len() > 1 {
                return;
            }
        }
        self.listed += 1;
        if let Some(presence) = self.presence_at(at) {
            self.note(&presence, false);
            self.tell(&Event::Joined(presence), aside);
        }
    }

    /// Removes a member, and returns it.
    pub(super) fn leave(
        &mut self,
        id: MemberId,
        reason: LeaveReason,
        aside: &mut Aside<T>,
    ) -> Option<(Arc<Member<T>>, Arc<T>)> {
        self.get(id)?;
        let at = id.place();
        let presence = self.presence_at(at)?;
        let Place { member, key, value } = self.places[at].take()?;
        self.count -= 1;
        match self.count {
            0 => {
                self.places = Vec::new();
                self.free = BinaryHeap::new();
            }
            _ => self.free.push(Reverse(at as u32)),
        }
        if member.is_silent {
            return Some((member, value));
        }
        if let Some(places) = key.as_ref().and_then(|key| self.keys.get_mut(key)) {
            let was_oldest = places.first() == Some(&(at as u32));
            places.retain(|place| *place != at as u32);
            if let Some(oldest) = places.first().copied() {
                let oldest = self.presence_at(oldest as usize);
                if let (Some(oldest), true) = (oldest, was_oldest) {
                    self.note(&oldest, true);
                    self.tell(&Event::Updated(oldest), aside);
                }
                return Some((member, value));
            }
        }
        if let Some(key) = &key {
            self.keys.remove(key);
        }
        self.listed -= 1;
        self.note(&presence, true);
        self.tell(&Event::Left { presence, reason }, aside);
        Some((member, value))
    }

    /// Sets the value of a member. Returns the old one, or the new one if the member has left.
    pub(super) fn set(&mut self, id: MemberId, value: Arc<T>, aside: &mut Aside<T>) -> Arc<T> {
        if !self.has(id) {
            return value;
        }
        let at = id.place();
        let Some(place) = &mut self.places[at] else {
            return value;
        };
        let old = std::mem::replace(&mut place.value, value);
        let is_silent = place.member.is_silent;
        let places = place.key.as_ref().and_then(|key| self.keys.get(key));
        let is_oldest = places.is_none_or(|places| places.first() == Some(&(at as u32)));
        if let (Some(presence), true) = (self.presence_at(at), is_oldest && !is_silent) {
            self.note(&presence, true);
            self.tell(&Event::Updated(presence), aside);
        }
        old
    }

    fn presence_at(&self, at: usize) -> Option<Presence<T>> {
        let place = self.places.get(at)?.as_ref()?;
        let value = Arc::clone(&place.value);
        Some(Presence::new(place.member.id(), place.key.clone(), value))
    }

    /// Returns all that are there.
    pub(super) fn roster(&self) -> Roster<T> {
        let mut members = Vec::with_capacity(self.listed);
        for (at, place) in self.places.iter().enumerate() {
            let Some(place) = place.as_ref().filter(|place| !place.member.is_silent) else {
                continue;
            };
            let places = place.key.as_ref().and_then(|key| self.keys.get(key));
            if places.is_none_or(|places| places.first() == Some(&(at as u32))) {
                members.extend(self.presence_at(at));
            }
        }
        Roster::new(members)
    }

    pub(super) fn add_watch(&mut self, queue: Arc<Queue<T>>) {
        self.watches.push(queue);
    }

    /// Removes a watch, and returns it.
    pub(super) fn remove_watch(&mut self, queue: &Arc<Queue<T>>) -> Option<Arc<Queue<T>>> {
        let at = self
            .watches
            .iter()
            .position(|own| Arc::ptr_eq(own, queue))?;
        Some(self.watches.swap_remove(at))
    }

    fn tell(&self, event: &Event<T>, aside: &mut Aside<T>) {
        for queue in &self.watches {
            let (waker, dropped) = queue.push(event);
            aside.wakers.extend(waker);
            aside.events.extend(dropped);
        }
    }

    /// Notes a change. `was_there` is what the members know, if this is the first change since they were told.
    fn note(&mut self, presence: &Presence<T>, was_there: bool) {
        let who = match presence.key() {
            Some(key) => Who::Key(key.clone()),
            None => Who::Member(presence.id()),
        };
        let changed = self.gathered.changed.entry(who);
        changed.or_insert((was_there, presence.id())).1 = presence.id();
    }

    /// Returns how long the members are not to be told of a change yet.
    pub(super) fn wait(&self, interval: Duration, now: Moment) -> Duration {
        match self.gathered.last {
            Some(last) => interval.saturating_sub(now.since(last)),
            None => Duration::ZERO,
        }
    }

    /// Returns whether the members have to be told something.
    pub(super) fn has_news(&self) -> bool {
        !self.gathered.changed.is_empty() || self.gathered.wants_roster
    }

    /// Forgets changes in a room whose members hear nothing of each other.
    pub(super) fn forget_changes(&mut self) {
        self.gathered.changed = HashMap::new();
    }

    /// Takes what the members have to be told.
    pub(super) fn take_news(&mut self, max_listed: usize, now: Moment) -> Vec<News<T>> {
        self.gathered.is_due = false;
        let changed = std::mem::take(&mut self.gathered.changed);
        let wants_roster = std::mem::take(&mut self.gathered.wants_roster);
        let mut news = Vec::new();
        if self.listed > max_listed {
            let members = self.listed;
            self.gathered.is_only_number = true;
            for is_roster in [false, true] {
                if is_roster && wants_roster || !is_roster && !changed.is_empty() {
                    news.push(News::Number { members, is_roster });
                }
            }
        } else {
            let is_for_all = std::mem::take(&mut self.gathered.is_only_number);
            if !is_for_all {
                news.extend(self.changes(changed));
            }
            if wants_roster || is_for_all {
                let members = self.roster().into_members();
                news.push(News::Roster {
                    members,
                    is_for_all,
                });
            }
        }
        if !news.is_empty() {
            self.gathered.last = Some(now);
        }
        news
    }

    fn changes(&self, changed: HashMap<Who, (bool, MemberId)>) -> Option<News<T>> {
        let (mut joined, mut updated, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for (who, (was_there, id)) in changed {
            let (at, key) = match who {
                Who::Member(id) => (self.get(id).map(|_| id.place()), None),
                Who::Key(key) => {
                    let places = self.keys.get(&key);
                    let oldest = places.and_then(|places| places.first());
                    (oldest.map(|place| *place as usize), Some(key))
                }
            };
            let present = at.and_then(|at| self.presence_at(at));
            match (was_there, present) {
                (false, None) => {}
                (true, None) => left.push((id, key)),
                (false, Some(present)) => joined.push(present),
                (true, Some(present)) => updated.push(present),
            }
        }
        let is_empty = joined.is_empty() && updated.is_empty() && left.is_empty();
        (!is_empty).then_some(News::Changes {
            joined,
            updated,
            left,
        })
    }
}
