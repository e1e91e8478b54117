//! A member: one connection in one room, until it leaves.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    task::Wake,
};

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
    pub(super) is_silent: bool,
    /// Why it has left: 0, or a [`LeaveReason`] and 1.
    left: AtomicU8,
    /// Its ticket in the connection; 0 before there is one.
    ticket: AtomicU32,
    link: Arc<Link>,
    room: Arc<RoomState<T>>,
}

impl<T> Member<T> {
    pub(super) const fn new(
        id: MemberId,
        is_silent: bool,
        link: Arc<Link>,
        room: Arc<RoomState<T>>,
    ) -> Self {
        Self {
            id,
            is_silent,
            left: AtomicU8::new(0),
            ticket: AtomicU32::new(0),
            link,
            room,
        }
    }

    pub(super) const fn id(&self) -> MemberId {
        self.id
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) const fn room(&self) -> &Arc<RoomState<T>> {
        &self.room
    }

    /// Sets the ticket. The lock of the room's roster is held: nobody can remove the member before.
    pub(super) fn set_ticket(&self, ticket: u32) {
        self.ticket.store(ticket, Ordering::Relaxed);
    }

    pub(super) fn set_left(&self, reason: LeaveReason) {
        self.left.store(reason as u8 + 1, Ordering::Release);
    }

    /// Returns why it has left, or `None` while it is a member.
    pub(super) fn left(&self) -> Option<LeaveReason> {
        const REASONS: [LeaveReason; 3] =
            [LeaveReason::Left, LeaveReason::Closed, LeaveReason::Removed];
        let left = self.left.load(Ordering::Acquire);
        REASONS.into_iter().find(|reason| *reason as u8 + 1 == left)
    }

    pub(super) fn ticket(&self) -> u32 {
        self.ticket.load(Ordering::Relaxed)
    }
}

impl<T: Send + Sync + 'static> Member<T> {
    /// Removes the member. Returns whether it was still one.
    pub(super) fn leave(&self, reason: LeaveReason) -> bool {
        self.room.leave(self.id, reason)
    }
}

/// The connection calls it when there is room for messages again, and when it has ended.
impl<T: Send + Sync + 'static> Wake for Member<T> {
    fn wake(self: Arc<Self>) {
        match self.link.is_over() {
            true => {
                self.leave(LeaveReason::Closed);
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
