//! The members of a room, and the changes that nobody was told of yet.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    mem,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use super::{
    member::{LeaveReason, Member},
    names::{Key, MemberId},
    presence::{Card, News, Presence, Roster},
    tasks::Telling,
    watch::{Event, Queue},
};
use crate::{time::Moment, words::catch_panic};

/// Everything that a room knows about its members. One lock guards it.
pub(super) struct Members<T> {
    /// The members by their places.
    places: Vec<Option<Place<T>>>,
    count: u32,
    /// The room has no member and no watch, and was removed from the hub.
    pub(super) is_gone: bool,
    more: Option<Box<More<T>>>,
    /// Boxed because only rooms have it whose members hear of each other.
    pub(super) gathered: Option<Box<Gathered>>,
}

/// The parts that a room has only once a member has left, has a key, or is silent, or once it is watched.
struct More<T> {
    /// Free places, the lowest first, so that the chunks stay full.
    free: BinaryHeap<Reverse<u32>>,
    /// The places of the members with each key, the oldest first.
    keys: HashMap<Key, Vec<u32>>,
    /// Members that are not listed: silent ones, and those whose key another one has.
    unlisted: u32,
    watches: Vec<Arc<Queue<T>>>,
}

/// Changes that the members will be told of.
#[derive(Debug)]
pub(super) struct Gathered {
    /// For each that has changed, whether the members were told that it is there, and the last member.
    changed: HashMap<Who, (bool, MemberId)>,
    /// Somebody needs a list of all members.
    pub(super) wants_roster: bool,
    /// The members were told of changes by the number of members only: their lists are not true any more.
    is_only_number: bool,
    /// A task will tell the members.
    pub(super) is_due: bool,
    pub(super) telling: Option<Telling>,
    last: Option<Moment>,
    /// The shortest time between two messages.
    interval: Duration,
    /// Up to how many members are named.
    max_listed: usize,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Who {
    Member(MemberId),
    Key(Key),
}

pub(super) struct Place<T> {
    member: Arc<Member<T>>,
    /// `None` if it is silent.
    card: Option<Arc<Card<T>>>,
}

impl<T> Place<T> {
    fn key(&self) -> Option<&Key> {
        self.card.as_ref()?.key.as_ref()
    }
}

/// A member that has left, and what others saw of it.
pub(super) type Left<T> = (Arc<Member<T>>, Option<Arc<Card<T>>>);

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

impl<T> Default for More<T> {
    fn default() -> Self {
        Self {
            free: BinaryHeap::new(),
            keys: HashMap::new(),
            unlisted: 0,
            watches: Vec::new(),
        }
    }
}

impl Gathered {
    pub(super) fn new(interval: Duration, max_listed: usize) -> Self {
        Self {
            changed: HashMap::new(),
            wants_roster: false,
            is_only_number: false,
            is_due: false,
            telling: None,
            last: None,
            interval,
            max_listed,
        }
    }

    /// Returns how long the members are not to be told of a change yet.
    pub(super) fn wait(&self, now: Moment) -> Duration {
        match self.last {
            Some(last) => self.interval.saturating_sub(now.since(last)),
            None => Duration::ZERO,
        }
    }

    /// Returns whether the members have to be told something.
    pub(super) fn has_news(&self) -> bool {
        !self.changed.is_empty() || self.wants_roster
    }

    /// Notes a change. `was_there` is what the members know, if this is the first change since they were told.
    fn note<T>(&mut self, presence: &Presence<T>, was_there: bool) {
        let who = match presence.key() {
            Some(key) => Who::Key(key.clone()),
            None => Who::Member(presence.id()),
        };
        let changed = self.changed.entry(who);
        changed.or_insert((was_there, presence.id())).1 = presence.id();
    }
}

impl<T> Members<T> {
    pub(super) const fn new(gathered: Option<Box<Gathered>>) -> Self {
        Self {
            places: Vec::new(),
            count: 0,
            is_gone: false,
            more: None,
            gathered,
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.count as usize
    }

    /// Returns the number of members without silent ones; those with the same key are one.
    fn listed(&self) -> usize {
        let unlisted = self.more.as_ref().map_or(0, |more| more.unlisted);
        (self.count - unlisted) as usize
    }

    fn more(&mut self) -> &mut More<T> {
        self.more.get_or_insert_default()
    }

    fn watches(&self) -> &[Arc<Queue<T>>] {
        self.more.as_ref().map_or(&[], |more| &more.watches)
    }

    /// Returns the oldest place with a key.
    fn oldest(&self, key: &Key) -> Option<usize> {
        let places = self.more.as_ref()?.keys.get(key)?;
        places.first().map(|place| *place as usize)
    }

    /// Returns whether nobody needs the room.
    pub(super) fn is_unused(&self) -> bool {
        self.count == 0 && self.watches().is_empty()
    }

    /// Returns the place of the next member.
    pub(super) fn next_place(&self) -> u32 {
        match self.more.as_ref().and_then(|more| more.free.peek()) {
            Some(Reverse(place)) => *place,
            None => self.places.len() as u32,
        }
    }

    pub(super) fn has(&self, id: MemberId) -> bool {
        self.get(id).is_some()
    }

    /// Returns the key of a member; `None` if it is not one. The log has those of silent members.
    pub(super) fn key_of(&self, id: MemberId) -> Option<Option<Key>> {
        self.get(id).map(|place| place.key().cloned())
    }

    fn get(&self, id: MemberId) -> Option<&Place<T>> {
        let place = self.places.get(id.place())?.as_ref();
        place.filter(|place| place.member.id() == id)
    }

    /// Adds a member in the [next place](Self::next_place). Without a card it is silent.
    pub(super) fn join(
        &mut self,
        member: Arc<Member<T>>,
        card: Option<Arc<Card<T>>>,
        aside: &mut Aside<T>,
    ) {
        let at = member.id().place();
        if self.places.len() <= at {
            if self.places.capacity() <= at {
                // Grows by half, because most rooms are small.
                let more = (at + 1 - self.places.len()).max(self.places.len() / 2);
                self.places.reserve_exact(more);
            }
            self.places.resize_with(at + 1, || None);
        } else if let Some(more) = &mut self.more {
            more.free.pop();
        }
        let place = Place { member, card };
        let key = place.key().cloned();
        let is_silent = place.card.is_none();
        self.places[at] = Some(place);
        self.count += 1;
        if is_silent {
            self.more().unlisted += 1;
            return;
        }
        if let Some(key) = key {
            let more = self.more();
            let places = more.keys.entry(key).or_default();
            places.push(at as u32);
            if places.len() > 1 {
                more.unlisted += 1;
                return;
            }
        }
        self.tell(at, false, Event::Joined, aside);
    }

    /// Removes a member, and returns it.
    pub(super) fn leave(
        &mut self,
        id: MemberId,
        reason: LeaveReason,
        aside: &mut Aside<T>,
    ) -> Option<Left<T>> {
        self.get(id)?;
        let at = id.place();
        let place = self.places[at].take()?;
        self.count -= 1;
        if self.count > 0 {
            self.more().free.push(Reverse(at as u32));
        } else {
            self.places = Vec::new();
            if let Some(more) = &mut self.more {
                more.free = BinaryHeap::new();
            }
        }
        let Some(card) = &place.card else {
            self.more().unlisted -= 1;
            return Some((place.member, None));
        };
        if let (Some(key), Some(more)) = (&card.key, &mut self.more) {
            let places = more.keys.get_mut(key);
            let was_oldest = places.as_ref().and_then(|own| own.first()) == Some(&(at as u32));
            let oldest = places.and_then(|places| {
                places.retain(|place| *place != at as u32);
                places.first().copied()
            });
            if let Some(oldest) = oldest {
                more.unlisted -= 1;
                if was_oldest {
                    self.tell(oldest as usize, true, Event::Updated, aside);
                }
                return Some((place.member, place.card));
            }
            more.keys.remove(key);
        }
        if self.is_heard() {
            let presence = Presence::new(id, Arc::clone(card));
            self.tell_of(
                presence,
                true,
                |presence| Event::Left { presence, reason },
                aside,
            );
        }
        Some((place.member, place.card))
    }

    /// Sets the value of a member; `card` has no key yet. Returns the old card, or the new one if the member has left.
    pub(super) fn set(
        &mut self,
        id: MemberId,
        mut card: Arc<Card<T>>,
        aside: &mut Aside<T>,
    ) -> Arc<Card<T>> {
        let at = id.place();
        let place = self.places.get_mut(at).and_then(Option::as_mut);
        let place = place.filter(|place| place.member.id() == id);
        let Some(old) = place.and_then(|place| place.card.as_mut()) else {
            return card;
        };
        if let Some(card) = Arc::get_mut(&mut card) {
            card.key.clone_from(&old.key);
        }
        let old = mem::replace(old, card);
        let oldest = old.key.as_ref().and_then(|key| self.oldest(key));
        if oldest.is_none_or(|oldest| oldest == at) {
            self.tell(at, true, Event::Updated, aside);
        }
        old
    }

    fn presence_at(&self, at: usize) -> Option<Presence<T>> {
        let place = self.places.get(at)?.as_ref()?;
        let card = Arc::clone(place.card.as_ref()?);
        Some(Presence::new(place.member.id(), card))
    }

    /// Returns all that are there.
    pub(super) fn roster(&self) -> Roster<T> {
        let mut members = Vec::with_capacity(self.listed());
        for (at, place) in self.places.iter().enumerate() {
            let key = place.as_ref().and_then(Place::key);
            let oldest = key.and_then(|key| self.oldest(key));
            if oldest.is_none_or(|oldest| oldest == at) {
                members.extend(self.presence_at(at));
            }
        }
        Roster::new(members)
    }

    pub(super) fn add_watch(&mut self, queue: Arc<Queue<T>>) {
        self.more().watches.push(queue);
    }

    /// Removes a watch, and returns it.
    pub(super) fn remove_watch(&mut self, queue: &Arc<Queue<T>>) -> Option<Arc<Queue<T>>> {
        let watches = &mut self.more.as_mut()?.watches;
        let at = watches.iter().position(|own| Arc::ptr_eq(own, queue))?;
        Some(watches.swap_remove(at))
    }

    /// Returns whether anybody hears of changes.
    fn is_heard(&self) -> bool {
        self.gathered.is_some() || !self.watches().is_empty()
    }

    /// Tells of the member in a place, if anybody hears of it.
    fn tell(
        &mut self,
        at: usize,
        was_there: bool,
        event: impl FnOnce(Presence<T>) -> Event<T>,
        aside: &mut Aside<T>,
    ) {
        let presence = self.is_heard().then(|| self.presence_at(at)).flatten();
        if let Some(presence) = presence {
            self.tell_of(presence, was_there, event, aside);
        }
    }

    fn tell_of(
        &mut self,
        presence: Presence<T>,
        was_there: bool,
        event: impl FnOnce(Presence<T>) -> Event<T>,
        aside: &mut Aside<T>,
    ) {
        if let Some(gathered) = &mut self.gathered {
            gathered.note(&presence, was_there);
        }
        let event = event(presence);
        for queue in self.watches() {
            let (waker, dropped) = queue.push(&event);
            aside.wakers.extend(waker);
            aside.events.extend(dropped);
        }
    }

    /// Takes what the members have to be told.
    pub(super) fn take_news(&mut self, now: Moment) -> Vec<News<T>> {
        let Some(gathered) = &mut self.gathered else {
            return Vec::new();
        };
        gathered.is_due = false;
        gathered.telling = None;
        let max_listed = gathered.max_listed;
        let changed = mem::take(&mut gathered.changed);
        let wants_roster = mem::take(&mut gathered.wants_roster);
        let mut news = Vec::new();
        let members = self.listed();
        let is_only_number = members > max_listed;
        let is_for_all = self.gathered.as_mut().is_some_and(|gathered| {
            let was_only_number = mem::replace(&mut gathered.is_only_number, is_only_number);
            was_only_number && !is_only_number
        });
        if is_only_number {
            for is_roster in [false, true] {
                if is_roster && wants_roster || !is_roster && !changed.is_empty() {
                    news.push(News::Number { members, is_roster });
                }
            }
        } else {
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
        if let (Some(gathered), false) = (&mut self.gathered, news.is_empty()) {
            gathered.last = Some(now);
        }
        news
    }

    fn changes(&self, changed: HashMap<Who, (bool, MemberId)>) -> Option<News<T>> {
        let (mut joined, mut updated, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for (who, (was_there, id)) in changed {
            let (at, key) = match who {
                Who::Member(id) => (self.get(id).map(|_| id.place()), None),
                Who::Key(key) => (self.oldest(&key), Some(key)),
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
