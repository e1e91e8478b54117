//! A member: one connection in one room, until it leaves.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Wake,
};

use super::{
    RoomState,
    names::{MEMBER_BITS, MemberId},
};
use crate::socket::Link;

/// Why a member has left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LeaveReason {
    /// Its [`Membership`](super::Membership) was dropped.
    Left,
    /// Its connection has ended, or was too slow.
    Closed,
    /// By [`Room::remove`](super::Room::remove).
    Removed,
}

/// The bit of a member for whose end somebody waits.
const AWAITED: u64 = 1 << MEMBER_BITS;
/// The place of the bits that say why a member has left: 0, or a [`LeaveReason`] and 1.
const LEFT: u32 = MEMBER_BITS + 1;

fn reason(state: u64) -> Option<LeaveReason> {
    const REASONS: [LeaveReason; 3] =
        [LeaveReason::Left, LeaveReason::Closed, LeaveReason::Removed];
    let left = state >> LEFT;
    REASONS
        .into_iter()
        .find(|reason| *reason as u64 + 1 == left)
}

pub(super) struct Member<T> {
    /// Its id, and in the bits above that whether somebody waits for its end, and why it has left: so it has 24 bytes.
    state: AtomicU64,
    link: Arc<Link>,
    room: Arc<RoomState<T>>,
}

impl<T> Member<T> {
    pub(super) const fn new(id: MemberId, link: Arc<Link>, room: Arc<RoomState<T>>) -> Self {
        let state = AtomicU64::new(id.bits());
        Self { state, link, room }
    }

    pub(super) fn id(&self) -> MemberId {
        MemberId::of_bits(self.state.load(Ordering::Relaxed))
    }

    pub(super) const fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) const fn room(&self) -> &Arc<RoomState<T>> {
        &self.room
    }

    /// Records why it has left. Returns whether somebody waits for that.
    pub(super) fn set_left(&self, reason: LeaveReason) -> bool {
        let left = (reason as u64 + 1) << LEFT;
        self.state.fetch_or(left, Ordering::AcqRel) & AWAITED != 0
    }

    /// Returns why it has left, or `None` while it is a member.
    pub(super) fn left(&self) -> Option<LeaveReason> {
        reason(self.state.load(Ordering::Acquire))
    }

    /// Records that somebody waits for its end. Returns why it has left before, or `None` while it is a member.
    pub(super) fn await_end(&self) -> Option<LeaveReason> {
        reason(self.state.fetch_or(AWAITED, Ordering::AcqRel))
    }
}

impl<T: Send + Sync + 'static> Member<T> {
    /// Removes the member, perhaps because it is too slow. Returns whether it was still one.
    pub(super) fn leave(&self, reason: LeaveReason, is_too_slow: bool) -> bool {
        self.room.leave(self.id(), reason, is_too_slow)
    }
}

/// The connection calls it when there is room for messages again, and when it has ended.
impl<T: Send + Sync + 'static> Wake for Member<T> {
    fn wake(self: Arc<Self>) {
        match self.link.is_over() {
            true => {
                self.leave(LeaveReason::Closed, false);
            }
            false => self.room.catch_up(self.id()),
        }
    }
}

impl<T> fmt::Debug for Member<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
