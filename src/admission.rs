//! Admission: limits on connections that share a key of the user's choice.

use std::{
    any::Any,
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::request::Parts;

/// All places of a key are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Exceeded;

/// A place that is given back when this is dropped, whatever its key's type.
pub(crate) type Place = Box<dyn Any + Send + Sync>;

/// A limit on the connections that share a key.
#[derive(Clone)]
pub(crate) struct KeyLimit {
    admit: Arc<Admit>,
}

type Admit = dyn Fn(&Parts) -> Result<Option<Place>, Exceeded> + Send + Sync;

impl KeyLimit {
    pub(crate) fn new<K>(
        max: usize,
        key: impl Fn(&Parts) -> Option<K> + Send + Sync + 'static,
    ) -> Self
    where
        K: Clone + Eq + Hash + Send + Sync + 'static,
    {
        let taken = Arc::new(Taken {
            max,
            counts: Mutex::default(),
        });
        let admit = move |request: &Parts| match key(request) {
            None => Ok(None),
            Some(key) => taken.take(key).map(|place| Some(Box::new(place) as Place)),
        };
        Self {
            admit: Arc::new(admit),
        }
    }

    /// Takes a place for the request; none is needed if it has no key.
    pub(crate) fn admit(&self, request: &Parts) -> Result<Option<Place>, Exceeded> {
        (self.admit)(request)
    }
}

impl fmt::Debug for KeyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLimit").finish_non_exhaustive()
    }
}

/// The keys that have connections, each with how many.
struct Taken<K> {
    max: usize,
    counts: Mutex<HashMap<K, usize>>,
}

struct TakenPlace<K: Eq + Hash> {
    taken: Arc<Taken<K>>,
    /// Always there; taken out by `drop`.
    key: Option<K>,
}

impl<K: Clone + Eq + Hash> Taken<K> {
    fn take(self: &Arc<Self>, key: K) -> Result<TakenPlace<K>, Exceeded> {
        let mut counts = self.lock();
        let count = counts.get(&key).copied().unwrap_or(0);
        if count >= self.max {
            return Err(Exceeded);
        }
        counts.insert(key.clone(), count + 1);
        drop(counts);
        Ok(TakenPlace {
            taken: Arc::clone(self),
            key: Some(key),
        })
    }
}

impl<K> Taken<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // A key's own `Hash` or `Eq` may panic under the lock; the map survives that.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for TakenPlace<K> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        if let Entry::Occupied(mut count) = self.taken.lock().entry(key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn from(user: &str) -> Parts {
        Request::get(user).body(()).unwrap().into_parts().0
    }

    fn one_each() -> KeyLimit {
        KeyLimit::new(1, |request| {
            let path = request.uri.path();
            (path != "/anyone").then(|| path.to_owned())
        })
    }

    #[test]
    fn counts_each_key_by_itself() {
        let limit = one_each();
        let place = limit.admit(&from("/anna")).unwrap();
        assert_eq!(limit.admit(&from("/anna")).err(), Some(Exceeded));
        assert!(limit.admit(&from("/ben")).is_ok());
        drop(place);
        assert!(limit.admit(&from("/anna")).is_ok());
    }

    #[test]
    fn does_not_limit_requests_without_a_key() {
        let limit = one_each();
        let places: Vec<_> = (0..9).map(|_| limit.admit(&from("/anyone"))).collect();
        assert!(places.iter().all(Result::is_ok));
    }

    #[test]
    fn forgets_keys_that_nobody_uses() {
        let taken = Arc::new(Taken {
            max: 2,
            counts: Mutex::default(),
        });
        let places = [taken.take("a"), taken.take("a"), taken.take("b")];
        assert_eq!(taken.lock().len(), 2);
        drop(places);
        assert_eq!(taken.lock().len(), 0);
    }
}
