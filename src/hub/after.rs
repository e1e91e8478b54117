//! What a delivery leaves to be done without the locks.

use std::{sync::Arc, task::Waker};

use super::{
    counts::Tally,
    entry::Logged,
    member::{LeaveReason, Member},
};
use crate::words::{CloseCode, CloseFrame, catch_panic};

/// The most entries that are delivered at once.
pub(super) const BATCH: usize = 64;

/// Why a member is closed.
type Closing = (CloseCode, &'static str);

/// What has to be done without the locks.
#[derive(Debug)]
pub(super) struct After<T> {
    pub(super) wakers: Vec<Waker>,
    /// Members whose connections are gone, or are to be closed because they are too slow.
    pub(super) left: Vec<(Arc<Member<T>>, Option<Closing>)>,
    /// Payloads may run code of the user when they are dropped.
    pub(super) entries: Vec<Logged<T>>,
    pub(super) tally: Tally,
    /// A member that was behind has to get the list of members.
    pub(super) wants_roster: bool,
}

impl<T> Default for After<T> {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            left: Vec::new(),
            entries: Vec::new(),
            tally: Tally::default(),
            wants_roster: false,
        }
    }
}

impl<T: Send + Sync + 'static> After<T> {
    /// Wakes connections and others, and removes members that are gone or too slow.
    pub(super) fn run(&mut self) {
        for waker in self.wakers.drain(..) {
            // One that panics must not keep the others asleep.
            let _ = catch_panic(|| waker.wake());
        }
        for (member, close) in self.left.drain(..) {
            let has_left = member.leave(LeaveReason::Closed, close.is_some());
            if let (Some((code, reason)), true) = (close, has_left) {
                let frame = CloseFrame::truncated(code, reason);
                member.link().close(frame);
            }
        }
        self.entries.clear();
    }
}
