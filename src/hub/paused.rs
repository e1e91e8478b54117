//! A member that gets nothing until it is started.

use std::fmt;

use super::{
    Room, membership::Membership, names::MemberId, past::Past, position::Position,
    presence::Roster, recovery::Recovery, state::Joined,
};

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
    pub(super) fn new(mut joined: Joined<T>) -> Self {
        let roster = joined.roster.take();
        Self {
            roster: roster.unwrap_or_else(|| Roster::new(Vec::new())),
            replayed: joined.replayed,
            membership: Membership::new(joined),
        }
    }

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
    /// by [`Join::with_history`](super::Join::with_history). [`replay`](Self::replay) does not change it.
    #[must_use]
    pub const fn replayed(&self) -> usize {
        self.replayed
    }

    /// Takes the messages of the past that it would get when it is started, the oldest first: what it has missed, or the
    /// newest ones by [`Join::with_history`](super::Join::with_history). [`start`](Self::start) then delivers what came
    /// after the join. This is for a handler that sends the past in another form.
    ///
    /// Messages that have left the history since the join are lost. The member is told so when it is started.
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
