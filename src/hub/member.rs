//! A member: one connection in one room, until it leaves.

use std::{fmt, sync::Arc, task::Wake};

use super::{RoomState, names::MemberId};
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

pub(super) struct Member<T> {
    id: MemberId,
    link: Arc<Link>,
    room: Arc<RoomState<T>>,
}

impl<T> Member<T> {
    pub(super) const fn new(id: MemberId, link: Arc<Link>, room: Arc<RoomState<T>>) -> Self {
        Self { id, link, room }
    }

    pub(super) const fn id(&self) -> MemberId {
        self.id
    }

    pub(super) const fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) const fn room(&self) -> &Arc<RoomState<T>> {
        &self.room
    }
}

impl<T: Send + Sync + 'static> Member<T> {
    /// Removes the member, perhaps because it is too slow. Returns whether it was still one.
    pub(super) fn leave(&self, reason: LeaveReason, is_too_slow: bool) -> bool {
        self.room.leave(self.id, reason, is_too_slow)
    }
}

/// The connection calls it when there is room for messages again, and when it has ended.
impl<T: Send + Sync + 'static> Wake for Member<T> {
    fn wake(self: Arc<Self>) {
        match self.link.is_over() {
            true => {
                self.leave(LeaveReason::Closed, false);
            }
            false => self.room.catch_up(self.id),
        }
    }
}

impl<T> fmt::Debug for Member<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
