//! Joining a room, and the guard that a handler holds while it is a member.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    Room,
    error::{JoinError, PublishError},
    member::{LeaveReason, Member},
    names::{Key, MemberId},
    presence::Card,
    publication::{Publication, Sent},
    seat::Lag,
    shared::Shared,
};
use crate::{
    socket::{Link, Sender, WebSocket},
    words::IntoMessage,
};

/// A connection that can join rooms: a [`WebSocket`] or a [`Sender`]. It cannot be implemented outside of this crate.
pub trait AsSender: sealed::AsSender {}

mod sealed {
    #[expect(unnameable_types, reason = "the trait is sealed")]
    pub trait AsSender {
        fn as_sender(&self) -> super::Sender;
    }
}

impl sealed::AsSender for WebSocket {
    fn as_sender(&self) -> Sender {
        self.sender()
    }
}

impl sealed::AsSender for Sender {
    fn as_sender(&self) -> Sender {
        self.clone()
    }
}

impl AsSender for WebSocket {}
impl AsSender for Sender {}

/// A connection that is about to join a room, from [`Room::join`]. It joins when it is awaited.
///
/// # Errors
///
/// [`JoinError`]. Nothing has changed then.
///
/// # Cancel safety
///
/// A future that is dropped before it is ready has joined nothing.
///
/// # Panics
///
/// Outside of a tokio runtime, if the room has no member and no watch yet. Nothing has changed then.
#[must_use = "it joins when it is awaited"]
pub struct Join<T = ()> {
    hub: Arc<Shared<T>>,
    name: Arc<str>,
    link: Arc<Link>,
    value: T,
    key: Option<Key>,
    is_silent: bool,
}

impl<T> Join<T> {
    pub(super) const fn new(
        hub: Arc<Shared<T>>,
        name: Arc<str>,
        link: Arc<Link>,
        value: T,
    ) -> Self {
        Self {
            hub,
            name,
            link,
            value,
            key: None,
            is_silent: false,
        }
    }

    /// Sets the key of the user. Members with the same key are one to others: the first one comes, the last one goes.
    /// So a second tab is no second user.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Joins without being seen: the member receives, and nobody hears of it.
    pub fn silent(mut self) -> Self {
        self.is_silent = true;
        self
    }
}

impl<T: Send + Sync + 'static> IntoFuture for Join<T> {
    type Output = Result<Membership<T>, JoinError>;
    type IntoFuture = Joining<T>;

    fn into_future(self) -> Joining<T> {
        Joining { join: Some(self) }
    }
}

impl<T> fmt::Debug for Join<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join")
            .field("room", &self.name)
            .field("key", &self.key)
            .field("silent", &self.is_silent)
            .finish_non_exhaustive()
    }
}

/// The future of a [`Join`].
#[must_use = "futures do nothing unless they are polled"]
pub struct Joining<T> {
    join: Option<Join<T>>,
}

// The value is never pinned.
impl<T> Unpin for Joining<T> {}

impl<T: Send + Sync + 'static> Future for Joining<T> {
    type Output = Result<Membership<T>, JoinError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(join) = self.join.take() else {
            return Poll::Pending;
        };
        let Join {
            hub,
            name,
            link,
            value,
            key,
            is_silent,
        } = join;
        let card = (!is_silent).then(|| Arc::new(Card { key, value }));
        let member = hub.join(&name, &link, card);
        Poll::Ready(member.map(|member| Membership {
            member,
            is_kept: false,
        }))
    }
}

impl<T> fmt::Debug for Joining<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").finish_non_exhaustive()
    }
}

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
    is_kept: bool,
}

impl<T: Send + Sync + 'static> Membership<T> {
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

    /// Sends a message to all members but this one. It never waits, like [`Room::send`].
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub fn send_others(&self, message: impl IntoMessage) -> Result<Sent, PublishError> {
        self.publish(Publication::new(message).except(self.id()))
    }

    /// Sends a publication as this member, whose id the envelope [`Json`](super::Json) adds.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub fn publish(&self, mut publication: Publication) -> Result<Sent, PublishError> {
        publication.by = Some(self.id());
        self.member.room().publish(publication)
    }

    /// Sets the member's value, and tells others of it. Returns whether it still is a member. The old value is dropped
    /// once nobody uses it.
    ///
    /// Of members with the same [key](Join::key), others see the value of the oldest one. That of another one is seen
    /// once the older ones have left.
    pub fn set(&self, value: T) -> bool {
        self.member.room().set(self.id(), value)
    }

    /// Returns how far the member is behind, and how many messages it has missed. Both are 0 once it has left.
    #[must_use]
    pub fn lag(&self) -> Lag {
        self.member.room().lag(self.id())
    }

    /// Stays in the room until the connection ends.
    #[expect(clippy::must_use_candidate, reason = "the id is not always needed")]
    pub fn keep(mut self) -> MemberId {
        self.is_kept = true;
        self.id()
    }

    /// Leaves the room. What was sent before may still be delivered; what is sent after is not.
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
