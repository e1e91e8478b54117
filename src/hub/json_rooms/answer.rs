//! What the server itself says to a client. All else comes from the envelope `Json`.

use std::fmt::{Display, Write};

use crate::{
    Message,
    hub::{JoinError, LeaveReason, Paused, PublishError, Recovery, Sent},
};

/// Why a request failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Code {
    BadRequest,
    Name,
    Forbidden,
    Unavailable,
    RoomFull,
    TooManyRooms,
    TooManyMemberships,
    JoinedAlready,
    NotJoined,
    ReadOnly,
    TooLarge,
}

impl Code {
    const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Name => "name",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
            Self::RoomFull => "room_full",
            Self::TooManyRooms => "too_many_rooms",
            Self::TooManyMemberships => "too_many_memberships",
            Self::JoinedAlready => "joined_already",
            Self::NotJoined => "not_joined",
            Self::ReadOnly => "read_only",
            Self::TooLarge => "too_large",
        }
    }
}

impl From<JoinError> for Code {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Name => Self::Name,
            JoinError::RoomFull => Self::RoomFull,
            JoinError::TooManyRooms => Self::TooManyRooms,
            JoinError::TooManyMemberships => Self::TooManyMemberships,
            // The connection is closing: nobody will read it.
            JoinError::Closed => Self::Unavailable,
        }
    }
}

impl From<PublishError> for Code {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Name => Self::Name,
            PublishError::TooLarge { .. } => Self::TooLarge,
            // serde has read it, so its nesting is too deep.
            PublishError::NotJson => Self::BadRequest,
        }
    }
}

/// The beginning of each object: the room, and the number of the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) room: Option<&'a str>,
    pub(super) id: Option<u64>,
}

impl Head<'_> {
    /// Makes the object with one more field, whose value is JSON.
    fn with(self, field: &str, value: impl Display) -> Message {
        let mut fields = Fields::default();
        if let Some(room) = self.room {
            fields.push("room", serde_json::Value::from(room));
        }
        if let Some(id) = self.id {
            fields.push("id", id);
        }
        fields.push(field, value);
        fields.end().into()
    }

    pub(super) fn error(self, code: Code) -> Message {
        self.with("error", format_args!("\"{}\"", code.as_str()))
    }

    pub(super) fn left(self, reason: LeaveReason) -> Message {
        let reason = match reason {
            LeaveReason::Left => "left",
            LeaveReason::Removed => "removed",
            LeaveReason::Closed => "closed",
        };
        self.with("left_room", format_args!("\"{reason}\""))
    }

    pub(super) fn pong(self) -> Message {
        self.with("pong", true)
    }

    pub(super) fn sent(self, sent: &Sent) -> Message {
        let mut fields = Fields::default();
        if let Some(at) = sent.position {
            fields.push("at", format_args!("\"{at}\""));
        }
        fields.push("members", sent.members_here);
        self.with("sent", fields.end())
    }

    pub(super) fn welcome<T: Send + Sync + 'static>(self, paused: &Paused<T>) -> Message {
        let mut fields = Fields::default();
        fields.push("me", format_args!("\"{}\"", paused.id()));
        if let Some(at) = paused.position() {
            fields.push("at", format_args!("\"{at}\""));
        }
        let (recovery, reason, withheld) = match paused.recovery() {
            Recovery::Fresh => ("fresh", None, 0),
            Recovery::Recovered { withheld, .. } => ("recovered", None, withheld),
            Recovery::Gap { reason } => ("gap", Some(reason.as_str()), 0),
        };
        fields.push("recovery", format_args!("\"{recovery}\""));
        if let Some(reason) = reason {
            fields.push("reason", format_args!("\"{reason}\""));
        }
        for (name, count) in [("messages", paused.replayed()), ("withheld", withheld)] {
            if count > 0 {
                fields.push(name, count);
            }
        }
        self.with("welcome", fields.end())
    }
}

/// An object that is written field by field. The values are JSON.
#[derive(Debug, Default)]
struct Fields(String);

impl Fields {
    fn push(&mut self, name: &str, value: impl Display) {
        let separator = if self.0.is_empty() { '{' } else { ',' };
        // Writing to a string does not fail.
        let _ = write!(self.0, "{separator}\"{name}\":{value}");
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}
