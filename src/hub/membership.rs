//! The guard that a handler holds while it is a member.

use std::{fmt, sync::Arc};

use super::{
    Room,
    error::PublishError,
    member::{LeaveReason, Member},
    names::{Key, MemberId},
    position::Position,
    publication::{By, Publication, Sent},
    recovery::Recovery,
    seat::Lag,
    state::Joined,
};
use crate::words::IntoMessage;

/// A connection's membership in a room. Dropping it leaves the room.
///
/// Keep it in a variable: `let _lobby = room.join(&socket, ()).await?` stays until the end of the scope, but
/// `let _ = room.join(&socket, ()).await?` leaves at once. [`keep`](Self::keep) needs no variable.
///
/// A membership also ends with its connection, even if the handler still runs; by [`Room::remove`]; and by
/// [`Overflow::Disconnect`](super::Overflow::Disconnect). Whichever comes first counts, and the guard then does nothing.
#[must_use = "dropping it leaves the room"]
pub struct Membership<T: Send + Sync + 'static = ()> {
    pub(super) member: Arc<Member<T>>,
    key: Option<Key>,
    is_kept: bool,
    /// How it has joined, if the room has history or it wanted to resume.
    arrival: Option<Box<(Option<Position>, Recovery)>>,
}

impl<T: Send + Sync + 'static> Membership<T> {
    pub(super) fn new(joined: Joined<T>) -> Self {
        let Joined {
            member,
            key,
            position,
            recovery,
            ..
        } = joined;
        let is_plain = position.is_none() && recovery == Recovery::Fresh;
        Self {
            member,
            key,
            is_kept: false,
            arrival: (!is_plain).then(|| Box::new((position, recovery))),
        }
    }

    /// Returns the position of the newest message when it joined; `None` in a room without
    /// [history](super::RoomConfig::history). [Replayed](super::Join::resume) messages are up to this position, new ones
    /// after it.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.arrival.as_ref().and_then(|arrival| arrival.0)
    }

    /// Returns whether it gets what it has missed before it joined.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        let arrival = self.arrival.as_ref();
        arrival.map_or(Recovery::Fresh, |arrival| arrival.1)
    }

    /// Returns the member.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.member.id()
    }

    /// Returns the room.
    #[must_use]
    pub fn room(&self) -> Room<T> {
        let room = self.member.room();
        Room::new(Arc::clone(&room.hub), Arc::clone(room.name()))
    }

    /// Sends a message to all members, also to this one. It never waits, like [`Room::send`].
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub fn send(&self, message: impl IntoMessage) -> Result<Sent, PublishError> {
        self.publish(Publication::new(message))
    }

    /// Sends a message to all members but this one, also to others with the same [`key`](super::Join::key). It never
    /// waits, like [`Room::send`].
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub fn send_others(&self, message: impl IntoMessage) -> Result<Sent, PublishError> {
        self.publish(Publication::new(message).except(self.id()))
    }

    /// Sends a publication as this member, whose id and key the envelope [`Json`](super::Json) adds.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub fn publish(&self, mut publication: Publication) -> Result<Sent, PublishError> {
        publication.by = Some(By {
            member: self.id(),
            key: self.key.clone(),
        });
        self.member.room().publish(publication)
    }

    /// Sets the member's value, and tells others of it. Returns whether it still is a member. The old value is dropped
    /// once nobody uses it.
    ///
    /// Of members with the same [key](super::Join::key), others see the value of the oldest one. That of another one is seen
    /// once the older ones have left.
    pub fn set(&self, value: T) -> bool {
        self.member.room().set(self.id(), value)
    }

    /// Returns how far the member is behind, and how many messages it has missed. Both are 0 once it has left.
    #[must_use]
    pub fn lag(&self) -> Lag {
        self.member.room().lag(self.id())
    }

    /// Returns why the member has left, or `None` while it is one. It leaves before its guard is dropped if its
    /// connection ends, by [`Room::remove`], and if it is too slow.
    #[must_use]
    pub fn has_left(&self) -> Option<LeaveReason> {
        self.member.left()
    }

    /// Waits until the member has left, and returns why. The future does not borrow the guard, and does not keep the
    /// member in the room.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`.
    pub fn left(&self) -> impl Future<Output = LeaveReason> + Send + use<T> {
        let member = Arc::clone(&self.member);
        async move {
            loop {
                if let Some(reason) = member.left() {
                    return reason;
                }
                if let Some(end) = member.room().hub.ends.of(&member) {
                    let ending = end.notified();
                    if member.left().is_none() {
                        ending.await;
                    }
                }
            }
        }
    }

    /// Stays in the room until the connection ends.
    #[expect(clippy::must_use_candidate, reason = "the id is not always needed")]
    pub fn keep(mut self) -> MemberId {
        self.is_kept = true;
        self.id()
    }

    /// Leaves the room. Messages that were sent before may still be delivered; later ones are not.
    pub fn leave(self) {}
}

impl<T: Send + Sync + 'static> Drop for Membership<T> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.member.leave(LeaveReason::Left, false);
        }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Membership<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("id", &self.id())
            .field("room", &self.member.room().name())
            .finish_non_exhaustive()
    }
}
