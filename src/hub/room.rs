//! A handle of a room, by its name.

use std::{fmt, sync::Arc};

use super::{
    counts::HubCounts,
    error::{HistoryError, JoinError, PublishError},
    join::{AsSender, Join},
    member::LeaveReason,
    names::{MemberId, is_name},
    past::Past,
    position::Position,
    presence::Roster,
    publication::{Publication, Sent},
    recovery::GapReason,
    shared::Shared,
    watch::Watch,
};
use crate::words::IntoMessage;

/// A room of a [`Hub`](super::Hub), by its name. Cheap to clone.
///
/// A room comes into being when somebody joins or watches it, and ends when nobody does. A room with
/// [history](super::RoomConfig::history) stays for [`History::max_age`](super::History::max_age) after that. A handle
/// makes nothing.
///
/// The tasks that deliver run on the tokio runtime of the first member or watch. After that runtime has ended, those who
/// send, join and leave do their work.
pub struct Room<T = ()> {
    hub: Arc<Shared<T>>,
    name: Arc<str>,
}

impl<T> Room<T> {
    pub(super) const fn new(hub: Arc<Shared<T>>, name: Arc<str>) -> Self {
        Self { hub, name }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T: Send + Sync + 'static> Room<T> {
    /// Adds a connection to the room, with a value that others see. Nothing happens before it is awaited.
    ///
    /// ```
    /// use tower_websocket::{BoxError, WebSocket, hub::Hub};
    ///
    /// async fn chat(hub: Hub<String>, mut socket: WebSocket) -> Result<(), BoxError> {
    ///     let lobby = hub.room("lobby").join(&socket, "Ann".into()).await?;
    ///     while let Some(message) = socket.recv().await? {
    ///         lobby.send(message)?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn join(&self, socket: &impl AsSender, value: T) -> Join<T> {
        Join::new(
            Arc::clone(&self.hub),
            Arc::clone(&self.name),
            socket.as_sender().into_link(),
            value,
        )
    }

    /// Sends a message to all members.
    ///
    /// It never waits: neither for sockets nor for tasks. The members get the messages of a room in one order, each at
    /// most once. What a handler itself sends to its own connection may overtake messages of rooms that wait for it.
    ///
    /// A task that sends more than [`max_backlog`](super::RoomConfig::max_backlog) without letting the connections run
    /// makes all members slow. Such a loop should call `tokio::task::yield_now` from time to time.
    ///
    /// # Errors
    ///
    /// [`PublishError`]. Without members it succeeds, and [`Sent::members_here`] is 0.
    pub fn send(&self, message: impl IntoMessage) -> Result<Sent, PublishError> {
        self.publish(Publication::new(message))
    }

    /// Sends a publication. It never waits, like [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub fn publish(&self, publication: Publication) -> Result<Sent, PublishError> {
        if !is_name(&self.name) {
            return Err(PublishError::Name);
        }
        match self.hub.find(&self.name) {
            Some(room) => room.publish(publication),
            None => Ok(Sent::default()),
        }
    }

    /// Returns who is in the room, without joining it. It takes time in proportion to the number of members.
    #[must_use]
    pub fn members_here(&self) -> Roster<T> {
        match self.hub.find(&self.name) {
            Some(room) => room.snapshot(|| ()),
            None => Roster::new(Vec::new()),
        }
    }

    /// Returns the number of members: all connections, also silent ones.
    #[must_use]
    pub fn len_here(&self) -> usize {
        self.hub.find(&self.name).map_or(0, |room| room.len())
    }

    /// Watches who comes and goes, without joining.
    ///
    /// # Errors
    ///
    /// [`JoinError::Name`], [`JoinError::TooManyRooms`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, if the room does not exist yet.
    pub fn watch(&self) -> Result<Watch<T>, JoinError> {
        self.hub.watch(&self.name)
    }

    /// Removes a member from the room. Its connection stays open. Returns whether it was a member.
    #[expect(clippy::must_use_candidate, reason = "most callers do not care")]
    pub fn remove(&self, member: MemberId) -> bool {
        let room = self.hub.find(&self.name);
        room.is_some_and(|room| room.leave(member, LeaveReason::Removed, false))
    }

    /// Returns messages of the [history](super::RoomConfig::history), the oldest first: up to `limit` that came after a
    /// position, or the newest `limit`. It does not wait on one node.
    ///
    /// This is for the server itself: messages that left out a member are there, with
    /// [`Past::except`](super::Past::except).
    ///
    /// # Errors
    ///
    /// [`HistoryError`]. Without a position and without history it succeeds, and there are no messages.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn history(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Vec<Past>, HistoryError> {
        if !is_name(&self.name) {
            return Err(HistoryError::Name);
        }
        match (self.hub.find(&self.name), after) {
            (Some(room), _) => room
                .history(after.copied(), limit)
                .map_err(|reason| HistoryError::Gap { reason }),
            (None, None) => Ok(Vec::new()),
            (None, Some(position)) => Err(HistoryError::Gap {
                reason: match position.is_unknown() {
                    true => GapReason::Unknown,
                    false => GapReason::Epoch,
                },
            }),
        }
    }

    /// Forgets the history. All positions of the room are [`GapReason::Epoch`] from then on. Members that are behind
    /// miss what is not in the backlog.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Name`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is polled changes nothing.
    pub async fn clear_history(&self) -> Result<(), HistoryError> {
        if !is_name(&self.name) {
            return Err(HistoryError::Name);
        }
        if let Some(room) = self.hub.find(&self.name) {
            room.clear_history();
        }
        Ok(())
    }

    /// Returns the counts of the room since it came into being.
    #[must_use]
    pub fn counts(&self) -> HubCounts {
        let room = self.hub.find(&self.name);
        room.map_or_else(HubCounts::default, |room| room.counts())
    }
}

impl<T> Clone for Room<T> {
    fn clone(&self) -> Self {
        Self {
            hub: Arc::clone(&self.hub),
            name: Arc::clone(&self.name),
        }
    }
}

impl<T> fmt::Debug for Room<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("name", &self.name).finish()
    }
}
