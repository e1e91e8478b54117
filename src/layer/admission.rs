//! Admission: limits on connections that share a key.
//!
//! A key is the user's type, and its `Hash`, `Eq` and `Drop` are the user's code. None of them runs
//! while a limit's lock is held, so they may panic, take long, or open and end connections.

use std::{
    any::Any,
    collections::{HashMap, hash_map::RandomState},
    fmt,
    hash::{BuildHasher, Hash},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use http::request::Parts;

/// A place that is given back when this is dropped, whatever its key's type.
pub(crate) type Place = Box<dyn Any + Send + Sync>;

/// A limit's answer to a request.
pub(crate) enum Admission {
    /// The connection has a place.
    Admitted(Place),
    /// All places of the key are taken.
    Full,
    /// The request has no key, and the limit does not apply to it.
    NoKey {
        /// Whether it is the first one of this limit.
        is_first: bool,
    },
    /// The request has no address, and the limit refuses it.
    NoPeer {
        /// Whether it is the first one of this limit.
        is_first: bool,
    },
}

/// A limit on the connections that share a key.
#[derive(Clone)]
pub(crate) struct KeyLimit {
    limit: Arc<dyn Admit>,
    is_by_peer: bool,
}

trait Admit: Send + Sync {
    fn admit(&self, request: &Parts) -> Admission;
}

impl KeyLimit {
    /// Limits the connections of each key; a request without one is not limited.
    pub(crate) fn by_key<K>(
        max: usize,
        key: impl Fn(&Parts) -> Option<K> + Send + Sync + 'static,
    ) -> Self
    where
        K: Eq + Hash + Send + Sync + 'static,
    {
        let missing = |is_first| Admission::NoKey { is_first };
        Self {
            limit: Limit::shared(max, key, missing),
            is_by_peer: false,
        }
    }

    /// Limits the connections of each peer; a request without an address is refused.
    pub(crate) fn by_peer(
        max: usize,
        peer: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        let key = move |request: &Parts| peer(request).map(network);
        let missing = |is_first| Admission::NoPeer { is_first };
        Self {
            limit: Limit::shared(max, key, missing),
            is_by_peer: true,
        }
    }

    /// Returns whether the limit is one for each peer: it counts also connections that the handler refuses.
    pub(crate) const fn is_by_peer(&self) -> bool {
        self.is_by_peer
    }

    /// Takes a place for the request.
    pub(crate) fn admit(&self, request: &Parts) -> Admission {
        self.limit.admit(request)
    }
}

impl fmt::Debug for KeyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLimit").finish_non_exhaustive()
    }
}

/// Returns what connections of one peer have in common: an IPv4 address, or a /64 of IPv6, which is
/// the least that a provider assigns to one customer.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

struct Limit<F, K> {
    key: F,
    /// The answer to a request without a key; its argument is whether that is the first one.
    missing: fn(bool) -> Admission,
    has_missed: AtomicBool,
    slots: Arc<Slots<K>>,
}

impl<F, K> Limit<F, K>
where
    F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
    K: Eq + Hash + Send + Sync + 'static,
{
    fn shared(max: usize, key: F, missing: fn(bool) -> Admission) -> Arc<dyn Admit> {
        Arc::new(Self {
            key,
            missing,
            has_missed: AtomicBool::new(false),
            slots: Arc::new(Slots::new(max)),
        })
    }
}

impl<F, K> Admit for Limit<F, K>
where
    F: Fn(&Parts) -> Option<K> + Send + Sync,
    K: Eq + Hash + Send + Sync + 'static,
{
    fn admit(&self, request: &Parts) -> Admission {
        let Some(key) = (self.key)(request) else {
            let is_first = !self.has_missed.swap(true, Ordering::Relaxed);
            return (self.missing)(is_first);
        };
        match self.slots.take(key) {
            Some(place) => Admission::Admitted(Box::new(place)),
            None => Admission::Full,
        }
    }
}

/// The keys that have connections.
struct Slots<K> {
    max: usize,
    hasher: RandomState,
    by_hash: Mutex<HashMap<u64, Vec<Slot<K>>>>,
}

/// A key, with the number of its connections, at least 1.
struct Slot<K> {
    key: Arc<K>,
    taken: usize,
}

struct SlotPlace<K> {
    slots: Arc<Slots<K>>,
    hash: u64,
    /// The one in the slot.
    key: Arc<K>,
}

impl<K: Eq + Hash> Slots<K> {
    /// Takes a place of `key`, if one is free.
    fn take(self: &Arc<Self>, key: K) -> Option<SlotPlace<K>> {
        let hash = self.hasher.hash_one(&key);
        let key = Arc::new(key);
        // Kept here, they are neither dropped nor reused as addresses before the end.
        let mut others = Vec::new();
        let mut same = None;
        // A turn either compares a key for the first time, or follows one in which another
        // connection with an equal key ended.
        loop {
            match self.count(hash, &key, same.as_ref(), &others) {
                Counted::Taken(key) => {
                    let slots = Arc::clone(self);
                    return Some(SlotPlace { slots, hash, key });
                }
                Counted::Full => return None,
                Counted::Compare(candidate) if *candidate == *key => same = Some(candidate),
                Counted::Compare(candidate) => others.push(candidate),
            }
        }
    }
}

enum Counted<K> {
    Taken(Arc<K>),
    Full,
    /// This key has the same hash, and was not compared yet.
    Compare(Arc<K>),
}

impl<K> Slots<K> {
    fn new(max: usize) -> Self {
        Self {
            max,
            hasher: RandomState::new(),
            by_hash: Mutex::default(),
        }
    }

    /// Counts a connection in the slot of `same`, an equal key; in one of its own if all keys of
    /// that hash are among `others`.
    fn count(
        &self,
        hash: u64,
        key: &Arc<K>,
        same: Option<&Arc<K>>,
        others: &[Arc<K>],
    ) -> Counted<K> {
        let is_same = |slot: &Slot<K>| same.is_some_and(|same| Arc::ptr_eq(same, &slot.key));
        let is_other = |slot: &Slot<K>| others.iter().any(|other| Arc::ptr_eq(other, &slot.key));
        let mut by_hash = self.lock();
        let slots = by_hash
            .get_mut(&hash)
            .map_or(&mut [][..], Vec::as_mut_slice);
        if let Some(slot) = slots.iter_mut().find(|slot| is_same(slot)) {
            if slot.taken >= self.max {
                return Counted::Full;
            }
            slot.taken += 1;
            return Counted::Taken(Arc::clone(&slot.key));
        }
        if let Some(slot) = slots.iter().find(|slot| !is_other(slot)) {
            return Counted::Compare(Arc::clone(&slot.key));
        }
        if self.max == 0 {
            return Counted::Full;
        }
        let slot = Slot {
            key: Arc::clone(key),
            taken: 1,
        };
        let slots = by_hash.entry(hash).or_insert_with(|| Vec::with_capacity(1));
        slots.push(slot);
        Counted::Taken(Arc::clone(key))
    }

    /// Gives a place back, and returns the key if that was the last one.
    fn give_back(&self, hash: u64, key: &Arc<K>) -> Option<Arc<K>> {
        let mut by_hash = self.lock();
        let slots = by_hash.get_mut(&hash)?;
        let index = slots.iter().position(|slot| Arc::ptr_eq(&slot.key, key))?;
        slots[index].taken -= 1;
        if slots[index].taken > 0 {
            return None;
        }
        let slot = slots.swap_remove(index);
        if slots.is_empty() {
            by_hash.remove(&hash);
        }
        Some(slot.key)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Vec<Slot<K>>>> {
        self.by_hash.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Drop for SlotPlace<K> {
    fn drop(&mut self) {
        // Dropped here, after the lock was released.
        drop(self.slots.give_back(self.hash, &self.key));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::BTreeSet,
        hash::Hasher,
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{atomic::AtomicUsize, mpsc},
        thread,
        time::Duration,
    };

    use http::Request;

    use super::*;

    fn admitted(limit: &KeyLimit, path: &str) -> Option<Place> {
        match limit.admit(&from(path)) {
            Admission::Admitted(place) => Some(place),
            Admission::Full => None,
            Admission::NoKey { .. } | Admission::NoPeer { .. } => panic!("{path} has no key"),
        }
    }

    fn from(user: &str) -> Parts {
        Request::get(user).body(()).unwrap().into_parts().0
    }

    #[test]
    fn counts_each_key_by_itself() {
        let limit = KeyLimit::by_key(1, |request| Some(request.uri.path().to_owned()));
        let place = admitted(&limit, "/anna");
        assert!(place.is_some());
        assert!(admitted(&limit, "/anna").is_none());
        assert!(admitted(&limit, "/ben").is_some());
        drop(place);
        assert!(admitted(&limit, "/anna").is_some());
    }

    #[test]
    fn does_not_limit_requests_without_a_key_and_says_so_once() {
        let limit = KeyLimit::by_key(1, |_| None::<()>);
        let clone = limit.clone();
        let is_first = |limit: &KeyLimit| match limit.admit(&from("/")) {
            Admission::NoKey { is_first } => is_first,
            _ => panic!("limited"),
        };
        let told = [&limit, &clone, &limit].map(is_first);
        assert_eq!(told, [true, false, false]);
    }

    #[test]
    fn refuses_requests_without_a_peer_and_says_so_once() {
        let limit = KeyLimit::by_peer(1, |_| None);
        let clone = limit.clone();
        let is_first = |limit: &KeyLimit| match limit.admit(&from("/")) {
            Admission::NoPeer { is_first } => is_first,
            _ => panic!("let in"),
        };
        let told = [&limit, &clone, &limit].map(is_first);
        assert_eq!(told, [true, false, false]);
    }

    #[test]
    fn counts_a_peer_by_its_address_or_its_network() {
        for (one, other, is_same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::1", "::", true),
        ] {
            let [a, b] = [one, other].map(|address| network(address.parse().unwrap()));
            assert_eq!(a == b, is_same, "{one} and {other}");
        }
    }

    #[test]
    fn admits_nobody_when_the_limit_is_zero() {
        let limit = KeyLimit::by_key(0, |_| Some(()));
        assert!(admitted(&limit, "/").is_none());
    }

    #[test]
    fn forgets_keys_that_nobody_uses() {
        let slots = Arc::new(Slots::new(2));
        let places = [slots.take("a"), slots.take("a"), slots.take("b")];
        assert!(places.iter().all(Option::is_some));
        assert_eq!(slots.lock().len(), 2);
        drop(places);
        assert_eq!(slots.lock().len(), 0);
    }

    #[test]
    fn admits_exactly_the_maximum_from_many_threads() {
        const MAX: usize = 3;
        let slots = Arc::new(Slots::new(MAX));
        let open = [const { AtomicUsize::new(0) }; 2];
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2000 {
                        let key = round % 2;
                        // Two keys of one hash.
                        let Some(place) = slots.take(Alike(key)) else {
                            continue;
                        };
                        let before = open[key].fetch_add(1, Ordering::SeqCst);
                        assert!(before < MAX, "{before} besides");
                        open[key].fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(slots.lock().len(), 0);
    }

    #[derive(Eq, PartialEq)]
    struct Alike(usize);

    impl Hash for Alike {
        fn hash<S: Hasher>(&self, _: &mut S) {}
    }

    #[test]
    fn survives_keys_that_panic() {
        /// Panics in its `Hash` if it is `'h'`, in its `Eq` if it is `'e'`.
        struct Bad(char);

        impl Hash for Bad {
            fn hash<S: Hasher>(&self, _: &mut S) {
                assert_ne!(self.0, 'h', "hash");
            }
        }

        impl PartialEq for Bad {
            fn eq(&self, other: &Self) -> bool {
                assert!(self.0 != 'e' && other.0 != 'e', "eq");
                self.0 == other.0
            }
        }

        impl Eq for Bad {}

        let slots = Arc::new(Slots::new(1));
        let good = slots.take(Bad('g'));
        for bad in ['h', 'e'] {
            let taken = catch_unwind(AssertUnwindSafe(|| slots.take(Bad(bad))));
            assert!(taken.is_err(), "{bad}");
        }
        assert!(slots.take(Bad('g')).is_none(), "it is still counted");
        drop(good);
        assert!(slots.take(Bad('g')).is_some());
        assert_eq!(slots.lock().len(), 0);
    }

    /// A key whose code, whenever it runs, takes places of its own limit and gives some back.
    struct Nosy(String);

    thread_local! {
        static LIMIT: RefCell<Option<KeyLimit>> = const { RefCell::new(None) };
        static HELD: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
        static CALLED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
        static BUSY: Cell<bool> = const { Cell::new(false) };
    }

    fn interfere(called: &'static str) {
        if BUSY.replace(true) {
            return;
        }
        CALLED.with_borrow_mut(|all| all.insert(called));
        let limit = LIMIT.with_borrow(Clone::clone);
        if let Some(limit) = limit {
            for path in ["/anna", "/ben"] {
                drop(limit.admit(&from(path)));
            }
            drop(HELD.with_borrow_mut(Vec::pop));
        }
        BUSY.set(false);
    }

    impl Hash for Nosy {
        fn hash<S: Hasher>(&self, state: &mut S) {
            interfere("hash");
            // One for all, so that keys are compared.
            0.hash(state);
        }
    }

    impl PartialEq for Nosy {
        fn eq(&self, other: &Self) -> bool {
            interfere("eq");
            self.0 == other.0
        }
    }

    impl Eq for Nosy {}

    impl Clone for Nosy {
        fn clone(&self) -> Self {
            interfere("clone");
            Self(self.0.clone())
        }
    }

    impl Drop for Nosy {
        fn drop(&mut self) {
            interfere("drop");
        }
    }

    #[test]
    fn keys_may_use_their_own_limit() {
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            let limit = KeyLimit::by_key(2, |request| Some(Nosy(request.uri.path().to_owned())));
            LIMIT.set(Some(limit.clone()));
            let hold = |path: &str| admitted(&limit, path).expect("a free place");
            HELD.set(vec![
                hold("/held"),
                hold("/anna"),
                hold("/anna"),
                hold("/held"),
            ]);
            for _ in 0..3 {
                let first = hold("/anna");
                let _other = hold("/carl");
                let second = hold("/anna");
                assert!(admitted(&limit, "/anna").is_none(), "there are two");
                drop(first);
                let _third = hold("/anna");
                assert!(admitted(&limit, "/anna").is_none(), "there are two again");
                drop(second);
            }
            assert!(HELD.with_borrow(Vec::is_empty));
            LIMIT.set(None);
            done.send(CALLED.take()).unwrap();
        });
        let called = is_done.recv_timeout(Duration::from_secs(30));
        let called = called.expect("a key waits for the lock of its own limit");
        assert!(
            called.is_superset(&BTreeSet::from(["hash", "eq", "drop"])),
            "{called:?}"
        );
    }
}
