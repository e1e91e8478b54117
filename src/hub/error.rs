//! Why joining or publishing failed.

use std::{error::Error, fmt};

use super::recovery::GapReason;

const NAME: &str = "the name of the room has not 1 to 200 bytes";

/// Why a connection did not join a room. Nothing has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum JoinError {
    /// The name of the room is empty, or longer than 200 bytes.
    Name,
    /// The room has [`RoomConfig::max_members`](super::RoomConfig::max_members).
    RoomFull,
    /// The hub has [`HubConfig::max_rooms`](super::HubConfig::max_rooms).
    TooManyRooms,
    /// The connection is in [`HubConfig::max_rooms_per_connection`](super::HubConfig::max_rooms_per_connection) rooms.
    TooManyMemberships,
    /// The connection is closing or has ended.
    Closed,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => NAME,
            Self::RoomFull => "the room is full",
            Self::TooManyRooms => "the hub has too many rooms",
            Self::TooManyMemberships => "the connection is in too many rooms",
            Self::Closed => "the connection is closing or has ended",
        })
    }
}

impl Error for JoinError {}

/// Why nothing was sent to a room.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PublishError {
    /// The name of the room is empty, or longer than 200 bytes.
    Name,
    /// The message is longer than [`RoomConfig::max_message_size`](super::RoomConfig::max_message_size).
    TooLarge {
        /// The length of the message in bytes.
        len: usize,
        /// The largest length in bytes.
        max: usize,
    },
    /// The room's envelope is [`Json`](super::Json), and the text is not JSON, or too deep. Inserted as it is, it could
    /// forge the fields of the envelope.
    NotJson,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str(NAME),
            Self::TooLarge { len, max } => {
                write!(f, "the message has {len} bytes, and the room allows {max}")
            }
            Self::NotJson => f.write_str("the text is not JSON"),
        }
    }
}

impl Error for PublishError {}

/// Why there is no history after a position.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HistoryError {
    /// The name of the room is empty, or longer than 200 bytes.
    Name,
    /// Messages after the position are missing.
    Gap {
        /// Why.
        reason: GapReason,
    },
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str(NAME),
            Self::Gap { reason } => {
                write!(
                    f,
                    "messages after the position are missing ({})",
                    reason.as_str()
                )
            }
        }
    }
}

impl Error for HistoryError {}
