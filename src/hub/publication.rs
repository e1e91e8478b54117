//! What to send, and to whom.

use super::{
    names::{Key, MemberId},
    position::Position,
};
use crate::words::{IntoMessage, Message};

/// A message, and how a room sends it.
///
/// # Examples
///
/// ```
/// use tower_websocket::hub::{Hub, Publication};
///
/// # fn publish() -> Result<(), tower_websocket::hub::PublishError> {
/// let hub: Hub = Hub::new();
/// let price = Publication::new(r#"{"ACME":12.5}"#).latest("ACME");
/// hub.room("prices").publish(price)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a publication does nothing until it is published"]
pub struct Publication {
    pub(super) message: Message,
    pub(super) by: Option<By>,
    pub(super) except: Option<MemberId>,
    pub(super) key: Option<Key>,
    pub(super) is_fleeting: bool,
}

/// The member that has sent a message.
#[derive(Clone, Debug)]
pub(super) struct By {
    pub(super) member: MemberId,
    pub(super) key: Option<Key>,
}

impl Publication {
    /// Sends a message to all members.
    pub fn new(message: impl IntoMessage) -> Self {
        Self {
            message: message.into(),
            by: None,
            except: None,
            key: None,
            is_fleeting: false,
        }
    }

    /// Leaves one member out. The last call counts.
    ///
    /// In a room with history, the message is not replayed to a member that may be the one that it left out: see
    /// [`Join::resume`](super::Join::resume).
    pub const fn except(mut self, member: MemberId) -> Self {
        self.except = Some(member);
        self
    }

    /// Lets a newer message with the same key take the place of this one, for members that are behind in a room with
    /// [`Overflow::Latest`](super::Overflow::Latest). Other rooms ignore it.
    pub fn latest(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Keeps the message out of the room's history. It has no position, and a member that is behind misses it without
    /// being told. This is for what is only true for a moment: who is typing, where a pointer is. Rooms without history
    /// ignore it.
    pub const fn fleeting(mut self) -> Self {
        self.is_fleeting = true;
        self
    }
}

/// The outcome of sending to a room.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Sent {
    /// The members to whom the message goes. A member that is too slow may still miss it.
    pub members_here: usize,
    /// The position of the message, in a room with history.
    pub position: Option<Position>,
}
