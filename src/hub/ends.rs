//! The tasks that wait for the end of a membership.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{member::Member, names::MemberId};

/// The lock is taken without any other one, so it is no part of the models.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<HashMap<MemberId, Arc<Notify>>>);

impl Ends {
    fn lock(&self) -> MutexGuard<'_, HashMap<MemberId, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is notified when the member leaves, or `None` if it has left.
    pub(super) fn of<T>(&self, member: &Member<T>) -> Option<Arc<Notify>> {
        // Setting the reason returns that somebody waits, and the caller then takes the lock to notify.
        let mut ends = self.lock();
        let is_member = member.await_end().is_none();
        is_member.then(|| Arc::clone(ends.entry(member.id()).or_default()))
    }

    /// Wakes all who wait. The member has its reason. Call this if somebody waits: rooms share this.
    pub(super) fn notify(&self, member: MemberId) {
        let mut ends = self.lock();
        let end = ends.remove(&member);
        if ends.capacity() > 4 * ends.len().max(8) {
            ends.shrink_to_fit();
        }
        drop(ends);
        if let Some(end) = end {
            end.notify_waiters();
        }
    }
}
