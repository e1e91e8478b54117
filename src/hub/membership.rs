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
    chunk::Lag,
    error::{JoinError, PublishError},
    member::{LeaveReason, Member},
    names::{Key, MemberId},
    paused::PausedJoin,
    position::Position,
    publication::{By, Publication, Sent},
    recovery::{Recovery, Resume},
    shared::Shared,
    state::{Joined, Manner},
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
/// Outside of a tokio runtime.
#[must_use = "it joins when it is awaited"]
pub struct Join<T = ()> {
    hub: Arc<Shared<T>>,
    name: Arc<str>,
    link: Arc<Link>,
    value: T,
    manner: Manner,
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
            manner: Manner {
                key: None,
                is_silent: false,
                is_paused: false,
                resume: Resume {
                    position: None,
                    was: None,
                    last: 0,
                },
            },
        }
    }

    /// Sets the key of the user. Members with the same key are one to others: the first one comes, the last one goes.
    /// So a second tab is no second user.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.manner.key = Some(key.into());
        self
    }

    /// Joins without being seen: the member receives, and nobody hears of it.
    pub fn silent(mut self) -> Self {
        self.manner.is_silent = true;
        self
    }

    /// Asks for what came after a position, of a member that was in the room before. The member gets either exactly
    /// that, in order, or [`Membership::recovery`] is a [`Recovery::Gap`]. Never fails by what the position is, so it
    /// may come from a client as it is. Rooms need [`RoomConfig::history`](super::RoomConfig::history).
    ///
    /// `was` is the member that it was before. Its own messages are left out, and those that had left it out
    /// ([`Publication::except`], [`Membership::send_others`]). Pass an id only if the handler knows by its own
    /// authentication that this is the same user, never because the client says so: a client that may choose could read
    /// what was meant for all but it.
    ///
    /// Without `was`, a message that had left out a member is only replayed to a member that has another
    /// [`key`](Self::key) than that one. Others are not replayed, and counted in [`Recovery::Recovered`]. With the
    /// envelope [`Json`](super::Json), those that only left out their own sender are replayed to all: `by` names it.
    ///
    /// At most 300 messages and 1 MiB of payload are replayed.
    pub fn resume(mut self, position: impl Into<Position>, was: Option<MemberId>) -> Self {
        self.manner.resume.position = Some(position.into());
        self.manner.resume.was = was;
        self
    }

    /// Asks for the newest messages of the [history](super::RoomConfig::history) before the new ones: up to `last`, 300,
    /// and 1 MiB. Together with [`resume`](Self::resume), it counts if that finds a gap.
    pub fn with_history(mut self, last: usize) -> Self {
        self.manner.resume.last = last;
        self
    }

    /// Joins, but delivers nothing yet: the handler first says something to its client.
    pub fn paused(self) -> PausedJoin<T> {
        PausedJoin::new(self)
    }

    /// Joins now.
    pub(super) fn now(self, is_paused: bool) -> Result<Joined<T>, JoinError>
    where
        T: Send + Sync + 'static,
    {
        let Self {
            hub,
            name,
            link,
            value,
            mut manner,
        } = self;
        manner.is_paused = is_paused;
        hub.join(&name, &link, Arc::new(value), &manner)
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
            .field("key", &self.manner.key)
            .field("silent", &self.manner.is_silent)
            .field("resume", &self.manner.resume.position)
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
        Poll::Ready(join.now(false).map(Membership::new))
    }
}

impl<T> fmt::Debug for Joining<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").finish_non_exhaustive()
    }
}

/// A connection's membership in a room. Dropping it leaves the room.
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
    /// [history](super::RoomConfig::history). What is [replayed](Join::resume) comes before that, what is new comes
    /// after.
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

    /// Sends a message to all members but this one. It never waits, like [`Room::send`].
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
    pub fn set(&self, value: T) -> bool {
        self.member.room().set(self.id(), Arc::new(value))
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
                if let Some(end) = member.room().end(&member) {
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

    /// Leaves the room. What was sent before may still be delivered; what is sent after is not.
    pub fn leave(self) {}
}

impl<T: Send + Sync + 'static> Drop for Membership<T> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.member.leave(LeaveReason::Left);
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
