//! Joining a room.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    error::JoinError,
    membership::Membership,
    names::{Key, MemberId},
    paused::Paused,
    position::Position,
    presence::Card,
    shared::Shared,
    state::{Joined, Manner},
};
use crate::socket::{Link, Sender, WebSocket};

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

/// A connection that is about to join a room, from [`Room::join`](super::Room::join). It joins when it is awaited.
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
/// Outside of a tokio runtime, if the room does not exist yet. Nothing has changed then.
#[must_use = "it joins when it is awaited"]
pub struct Join<T = ()> {
    hub: Arc<Shared<T>>,
    name: Arc<str>,
    link: Arc<Link>,
    value: T,
    manner: Manner,
}

impl<T> Join<T> {
    pub(super) fn new(hub: Arc<Shared<T>>, name: Arc<str>, link: Arc<Link>, value: T) -> Self {
        Self {
            hub,
            name,
            link,
            value,
            manner: Manner::default(),
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

    /// Asks for what came after a position, where this client was in the room before. It gets either exactly that, in
    /// order, or [`Membership::recovery`](super::Membership::recovery) is a [`Recovery::Gap`](super::Recovery::Gap). A
    /// position never makes the join fail, so it may come from a client as it is. The room needs
    /// [`RoomConfig::history`](super::RoomConfig::history).
    ///
    /// `was` is the member that it was before. Its own messages are left out, and those that had left it out
    /// ([`Publication::except`](super::Publication::except),
    /// [`Membership::send_others`](super::Membership::send_others)). Pass an id only if the handler knows by its own
    /// authentication that this is the same user, never because the client says so: a client that may choose could
    /// read what was meant for all but it.
    ///
    /// Without `was`, a message that had left out a member is only replayed to a member that has another
    /// [`key`](Self::key) than that one. Others are not replayed, and counted in
    /// [`Recovery::Recovered`](super::Recovery::Recovered). With the envelope [`Json`](super::Json), those that only left
    /// out their own sender are replayed to all: `by` names it.
    ///
    /// At most 300 messages and 1 MiB of payload are replayed.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{BoxError, WebSocket, hub::{Hub, Recovery}};
    ///
    /// async fn news(hub: Hub, mut socket: WebSocket) -> Result<(), BoxError> {
    ///     // The client says where it was.
    ///     let Some(since) = socket.recv().await? else { return Ok(()) };
    ///     let since = since.into_text()?;
    ///     let room = hub.room("news").join(&socket, ()).resume(&*since, None).await?;
    ///     if let Recovery::Gap { reason, .. } = room.recovery() {
    ///         socket.send(format!("load the page again: {}", reason.as_str())).await?;
    ///     }
    ///     while socket.recv().await?.is_some() {}
    ///     Ok(())
    /// }
    /// ```
    pub fn resume(mut self, position: impl Into<Position>, was: Option<MemberId>) -> Self {
        self.manner.resume.position = Some(position.into());
        self.manner.resume.was = was;
        self
    }

    /// Asks for the newest messages of the [history](super::RoomConfig::history), which come before the new ones: at most
    /// `last`, at most 300, and at most 1 MiB of payload. Default: none. With [`resume`](Self::resume), this applies only
    /// if there is a gap.
    pub fn with_history(mut self, last: usize) -> Self {
        self.manner.resume.last = last;
        self
    }

    /// Joins, but delivers nothing yet: the handler first says something to its client.
    pub fn paused(mut self) -> PausedJoin<T> {
        self.manner.is_paused = true;
        PausedJoin(self)
    }

    /// Joins now.
    fn now(self) -> Result<Joined<T>, JoinError>
    where
        T: Send + Sync + 'static,
    {
        let Self {
            hub,
            name,
            link,
            value,
            manner,
        } = self;
        let key = manner.key.clone();
        let card = (!manner.is_silent).then(|| Arc::new(Card { key, value }));
        hub.join(&name, &link, card, &manner)
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
        Poll::Ready(join.now().map(Membership::new))
    }
}

impl<T> fmt::Debug for Joining<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").finish_non_exhaustive()
    }
}

/// A connection that is about to join a room, from [`Join::paused`]. It joins when it is awaited.
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
/// Outside of a tokio runtime, if the room does not exist yet. Nothing has changed then.
#[must_use = "it joins when it is awaited"]
pub struct PausedJoin<T = ()>(Join<T>);

impl<T: Send + Sync + 'static> IntoFuture for PausedJoin<T> {
    type Output = Result<Paused<T>, JoinError>;
    type IntoFuture = PausedJoining<T>;

    fn into_future(self) -> PausedJoining<T> {
        PausedJoining(Some(self.0))
    }
}

impl<T> fmt::Debug for PausedJoin<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PausedJoin").field(&self.0).finish()
    }
}

/// The future of a [`PausedJoin`].
#[must_use = "futures do nothing unless they are polled"]
pub struct PausedJoining<T>(Option<Join<T>>);

// The value is never pinned.
impl<T> Unpin for PausedJoining<T> {}

impl<T: Send + Sync + 'static> Future for PausedJoining<T> {
    type Output = Result<Paused<T>, JoinError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(join) = self.0.take() else {
            return Poll::Pending;
        };
        Poll::Ready(join.now().map(Paused::new))
    }
}

impl<T> fmt::Debug for PausedJoining<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PausedJoining").finish_non_exhaustive()
    }
}
