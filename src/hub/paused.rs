//! A member that gets nothing until it is started.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    error::JoinError,
    membership::{Join, Membership},
    names::MemberId,
    past::Past,
    position::Position,
    presence::Roster,
    recovery::Recovery,
    room::Room,
};

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
/// Outside of a tokio runtime.
#[must_use = "it joins when it is awaited"]
pub struct PausedJoin<T = ()>(Join<T>);

impl<T> PausedJoin<T> {
    pub(super) const fn new(join: Join<T>) -> Self {
        Self(join)
    }
}

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
        let joined = join.now(true);
        Poll::Ready(joined.map(|mut joined| {
            let roster = joined.roster.take();
            Paused {
                roster: roster.unwrap_or_else(|| Roster::new(Vec::new())),
                replayed: joined.replayed,
                membership: Membership::new(joined),
            }
        }))
    }
}

impl<T> fmt::Debug for PausedJoining<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PausedJoining").finish_non_exhaustive()
    }
}

/// A member that gets nothing until it is [started](Self::start). What the handler sends meanwhile comes first.
///
/// Others see the member, and what is sent to the room waits for it like for one that is too slow: start it soon.
/// Dropping it leaves the room.
///
/// # Examples
///
/// A client that came back first gets a greeting, then what it has missed, then what is new:
///
/// ```
/// use tower_websocket::{BoxError, WebSocket, hub::{Hub, Recovery}};
///
/// async fn chat(hub: Hub, mut socket: WebSocket) -> Result<(), BoxError> {
///     let Some(since) = socket.recv().await? else { return Ok(()) };
///     let since = since.into_text()?;
///     let lobby = hub.room("lobby").join(&socket, ()).resume(&*since, None);
///     let paused = lobby.paused().await?;
///     socket.send(match paused.recovery() {
///         Recovery::Fresh => "welcome",
///         Recovery::Recovered { .. } => "here is what you have missed",
///         _ => "you may have missed something: load the page again",
///     }).await?;
///     let lobby = paused.start();
///     while let Some(message) = socket.recv().await? {
///         lobby.send(message)?;
///     }
///     Ok(())
/// }
/// ```
#[must_use = "dropping it leaves the room"]
pub struct Paused<T: Send + Sync + 'static = ()> {
    membership: Membership<T>,
    roster: Roster<T>,
    replayed: usize,
}

impl<T: Send + Sync + 'static> Paused<T> {
    /// Returns the member.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.membership.id()
    }

    /// Returns the room.
    #[must_use]
    pub fn room(&self) -> Room<T> {
        self.membership.room()
    }

    /// Returns who was in the room when this member joined, with itself.
    #[must_use]
    pub const fn members(&self) -> &Roster<T> {
        &self.roster
    }

    /// Returns the position of the newest message when this member joined; `None` in a room without history.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.membership.position()
    }

    /// Returns whether it gets what it has missed.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.membership.recovery()
    }

    /// Returns how many messages of the past it gets when it is started: those that it has missed, or the newest ones
    /// by [`Join::with_history`]. [`replay`](Self::replay) does not change it.
    #[must_use]
    pub const fn replayed(&self) -> usize {
        self.replayed
    }

    /// Takes the messages that it would get again, the oldest first: what it has missed, or the newest ones by
    /// [`Join::with_history`]. [`start`](Self::start) then goes on with what came after the join. For a handler that
    /// sends them in another form.
    ///
    /// If some of them have left the history since the join, these are lost, and the member is told when it is started.
    #[must_use = "the messages are not sent to the member any more"]
    pub fn replay(&mut self) -> impl ExactSizeIterator<Item = Past> + use<T> {
        let member = &self.membership.member;
        member.room().take_replay(member.id()).into_iter()
    }

    /// Delivers from now on: first what the member has missed, then what is new, in order.
    pub fn start(self) -> Membership<T> {
        let member = &self.membership.member;
        member.room().start(member.id());
        self.membership
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Paused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paused")
            .field("id", &self.id())
            .field("recovery", &self.recovery())
            .finish_non_exhaustive()
    }
}
