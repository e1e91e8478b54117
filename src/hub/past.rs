//! A message of the past.

use super::{names::MemberId, position::Position};
use crate::words::Message;

/// A message from the history of a room: from [`Paused::replay`](super::Paused::replay) and
/// [`Room::history`](super::Room::history).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Past {
    /// Its position.
    pub position: Position,
    /// The member that has sent it, by [`Membership::send`](super::Membership::send) and the like.
    pub by: Option<MemberId>,
    /// The member that it has left out ([`Publication::except`](super::Publication::except)).
    pub except: Option<MemberId>,
    /// The message as it was published, without what an envelope adds.
    pub message: Message,
}
