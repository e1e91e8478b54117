//! Limits on the connections that share a key.
//!
//! The `Hash`, `Eq` and `Drop` of a key are user code. They run outside of the lock, so they may panic, take
//! long, or open and end connections.

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

/// A place of a limit, for any type of key. Dropping it gives the place back.
pub(crate) type Place = Box<dyn Any + Send + Sync>;

/// The decision of a limit on a request.
pub(crate) enum Admission {
    /// The connection has a place.
    Admitted(Place),
    /// All places of the key are taken.
    Full,
    /// The request has no key. The limit does not apply to it.
    NoKey {
        /// Whether this is the first request without a key.
        is_first: bool,
    },
    /// The request has no address. The limit refuses it.
    NoPeer {
        /// Whether this is the first request without an address.
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
    /// Limits the connections of each key. Does not limit requests without a key.
    pub(crate) fn by_key<K>(
        max: usize,
        key: impl Fn(&Parts) -> Option<K> + Send + Sync + 'static,
    ) -> Self
    where
        K: Eq + Hash + Send + Sync + 'static,
    {
        let without_key = |is_first| Admission::NoKey { is_first };
        Self {
            limit: Limit::shared(max, key, without_key),
            is_by_peer: false,
        }
    }

    /// Limits the connections of each peer. Refuses requests without an address.
    pub(crate) fn by_peer(
        max: usize,
        peer: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        let key = move |request: &Parts| peer(request).map(network);
        let without_key = |is_first| Admission::NoPeer { is_first };
        Self {
            limit: Limit::shared(max, key, without_key),
            is_by_peer: true,
        }
    }

    /// Returns whether this limit is by peer. Such a limit also counts connections that are accepted only to
    /// send a Close.
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

/// Returns the key of a peer: its IPv4 address, or the /64 of its IPv6 address. A provider assigns at least a
/// /64 to a customer.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

struct Limit<F, K> {
    key: F,
    /// Decides on a request without a key. The argument is true for the first such request.
    without_key: fn(bool) -> Admission,
    was_without_key: AtomicBool,
    counts: Arc<KeyCounts<K>>,
}

impl<F, K> Limit<F, K>
where
    F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
    K: Eq + Hash + Send + Sync + 'static,
{
    fn shared(max: usize, key: F, without_key: fn(bool) -> Admission) -> Arc<dyn Admit> {
        Arc::new(Self {
            key,
            without_key,
            was_without_key: AtomicBool::new(false),
            counts: Arc::new(KeyCounts::new(max)),
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
            let is_first = !self.was_without_key.swap(true, Ordering::Relaxed);
            return (self.without_key)(is_first);
        };
        match self.counts.take(key) {
            Some(place) => Admission::Admitted(Box::new(place)),
            None => Admission::Full,
        }
    }
}

/// The number of connections of each key.
///
/// The map is keyed by hash, because a map of keys would call their `Eq` under the lock.
struct KeyCounts<K> {
    max: usize,
    hasher: RandomState,
    by_hash: Mutex<HashMap<u64, Vec<KeyCount<K>>>>,
}

/// A key, with the number of its connections, at least 1.
struct KeyCount<K> {
    key: Arc<K>,
    connections: usize,
}

/// A connection that is counted. Dropping it gives the place back.
struct KeyPlace<K> {
    counts: Arc<KeyCounts<K>>,
    hash: u64,
    /// The `Arc` of the [`KeyCount`].
    key: Arc<K>,
}

impl<K: Eq + Hash> KeyCounts<K> {
    /// Takes a place of `key`, if one is free.
    fn take(self: &Arc<Self>, key: K) -> Option<KeyPlace<K>> {
        let hash = self.hasher.hash_one(&key);
        let key = Arc::new(key);
        // Keys with the same hash that are not equal. `count` recognizes them by address. Keeping them alive
        // prevents that an address is reused, and that a key is dropped under the lock.
        let mut different = Vec::new();
        let mut same = None;
        // Each round compares a new key, or counts again because the connection of an equal key ended.
        loop {
            match self.count(hash, &key, same.as_ref(), &different) {
                Counted::Taken(key) => {
                    let counts = Arc::clone(self);
                    return Some(KeyPlace { counts, hash, key });
                }
                Counted::Full => return None,
                Counted::Compare(candidate) if *candidate == *key => same = Some(candidate),
                Counted::Compare(candidate) => different.push(candidate),
            }
        }
    }
}

enum Counted<K> {
    Taken(Arc<K>),
    Full,
    /// This key has the same hash and has to be compared.
    Compare(Arc<K>),
}

impl<K> KeyCounts<K> {
    fn new(max: usize) -> Self {
        Self {
            max,
            hasher: RandomState::new(),
            by_hash: Mutex::default(),
        }
    }

    /// Counts a connection with `key`. `same` is an equal key that was counted before. `different` are the keys
    /// known to be different. If no key with this hash is left to compare, `key` gets a count of its own.
    fn count(
        &self,
        hash: u64,
        key: &Arc<K>,
        same: Option<&Arc<K>>,
        different: &[Arc<K>],
    ) -> Counted<K> {
        let is_same = |one: &KeyCount<K>| same.is_some_and(|same| Arc::ptr_eq(same, &one.key));
        let is_different =
            |one: &KeyCount<K>| different.iter().any(|key| Arc::ptr_eq(key, &one.key));
        let mut by_hash = self.lock();
        let counts = by_hash
            .get_mut(&hash)
            .map_or(&mut [][..], Vec::as_mut_slice);
        if let Some(count) = counts.iter_mut().find(|count| is_same(count)) {
            if count.connections >= self.max {
                return Counted::Full;
            }
            count.connections += 1;
            return Counted::Taken(Arc::clone(&count.key));
        }
        if let Some(count) = counts.iter().find(|count| !is_different(count)) {
            return Counted::Compare(Arc::clone(&count.key));
        }
        if self.max == 0 {
            return Counted::Full;
        }
        let count = KeyCount {
            key: Arc::clone(key),
            connections: 1,
        };
        let counts = by_hash.entry(hash).or_insert_with(|| Vec::with_capacity(1));
        counts.push(count);
        Counted::Taken(Arc::clone(key))
    }

    /// Gives a place back. Returns the key if this was its last connection.
    fn give_back(&self, hash: u64, key: &Arc<K>) -> Option<Arc<K>> {
        let mut by_hash = self.lock();
        let counts = by_hash.get_mut(&hash)?;
        let index = counts.iter().position(|one| Arc::ptr_eq(&one.key, key))?;
        counts[index].connections -= 1;
        if counts[index].connections > 0 {
            return None;
        }
        let count = counts.swap_remove(index);
        if counts.is_empty() {
            by_hash.remove(&hash);
        }
        Some(count.key)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Vec<KeyCount<K>>>> {
        self.by_hash.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Drop for KeyPlace<K> {
    fn drop(&mut self) {
        // The key is dropped here, after the lock was released.
        drop(self.counts.give_back(self.hash, &self.key));
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
    fn does_not_limit_requests_without_a_key_and_marks_the_first_one() {
        let limit = KeyLimit::by_key(1, |_| None::<()>);
        let clone = limit.clone();
        let is_first = |limit: &KeyLimit| match limit.admit(&from("/")) {
            Admission::NoKey { is_first } => is_first,
            _ => panic!("limited"),
        };
        let are_first = [&limit, &clone, &limit].map(is_first);
        assert_eq!(are_first, [true, false, false]);
    }

    #[test]
    fn refuses_requests_without_a_peer_and_marks_the_first_one() {
        let limit = KeyLimit::by_peer(1, |_| None);
        let clone = limit.clone();
        let is_first = |limit: &KeyLimit| match limit.admit(&from("/")) {
            Admission::NoPeer { is_first } => is_first,
            _ => panic!("admitted"),
        };
        let are_first = [&limit, &clone, &limit].map(is_first);
        assert_eq!(are_first, [true, false, false]);
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
    fn removes_keys_without_connections() {
        let counts = Arc::new(KeyCounts::new(2));
        let places = [counts.take("a"), counts.take("a"), counts.take("b")];
        assert!(places.iter().all(Option::is_some));
        assert_eq!(counts.lock().len(), 2);
        drop(places);
        assert_eq!(counts.lock().len(), 0);
    }

    #[test]
    fn admits_exactly_the_maximum_from_many_threads() {
        const MAX: usize = 3;
        let counts = Arc::new(KeyCounts::new(MAX));
        let open = [const { AtomicUsize::new(0) }; 2];
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2000 {
                        let key = round % 2;
                        let Some(place) = counts.take(SameHash(key)) else {
                            continue;
                        };
                        let before = open[key].fetch_add(1, Ordering::SeqCst);
                        assert!(before < MAX, "{before} others");
                        open[key].fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(counts.lock().len(), 0);
    }

    #[derive(Eq, PartialEq)]
    struct SameHash(usize);

    impl Hash for SameHash {
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

        let counts = Arc::new(KeyCounts::new(1));
        let good = counts.take(Bad('g'));
        for bad in ['h', 'e'] {
            let taken = catch_unwind(AssertUnwindSafe(|| counts.take(Bad(bad))));
            assert!(taken.is_err(), "{bad}");
        }
        assert!(counts.take(Bad('g')).is_none(), "it is still counted");
        drop(good);
        assert!(counts.take(Bad('g')).is_some());
        assert_eq!(counts.lock().len(), 0);
    }

    /// A key whose methods take and give back places of its own limit.
    struct Reentrant(String);

    thread_local! {
        static LIMIT: RefCell<Option<KeyLimit>> = const { RefCell::new(None) };
        static HELD: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
        static CALLED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
        static BUSY: Cell<bool> = const { Cell::new(false) };
    }

    fn use_the_limit(called: &'static str) {
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

    impl Hash for Reentrant {
        fn hash<S: Hasher>(&self, state: &mut S) {
            use_the_limit("hash");
            // All keys have the same hash, to force comparisons.
            0.hash(state);
        }
    }

    impl PartialEq for Reentrant {
        fn eq(&self, other: &Self) -> bool {
            use_the_limit("eq");
            self.0 == other.0
        }
    }

    impl Eq for Reentrant {}

    impl Clone for Reentrant {
        fn clone(&self) -> Self {
            use_the_limit("clone");
            Self(self.0.clone())
        }
    }

    impl Drop for Reentrant {
        fn drop(&mut self) {
            use_the_limit("drop");
        }
    }

    #[test]
    fn keys_may_use_their_own_limit() {
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            let limit =
                KeyLimit::by_key(2, |request| Some(Reentrant(request.uri.path().to_owned())));
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
