//! What a member asks for when it comes back, and what it is told.

use super::{
    names::{Key, MemberId},
    position::Position,
};

/// The most that is replayed to a member, in messages and in bytes of payload.
pub(super) const MAX_REPLAY: (usize, usize) = (300, 1024 * 1024);

/// What a member that came back has missed: from [`Membership::recovery`](super::Membership::recovery).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Recovery {
    /// It did not come back: [`Join::resume`](super::Join::resume) was not called.
    Fresh,
    /// It gets exactly the messages that it has missed, in order, and then the new ones.
    #[non_exhaustive]
    Recovered {
        /// How many these are.
        messages: usize,
        /// How many messages it does not get because they left out a member, perhaps this one
        /// ([`Publication::except`](super::Publication::except)). See [`Join::resume`](super::Join::resume).
        withheld: usize,
    },
    /// It may have missed messages that it does not get.
    Gap {
        /// Why.
        reason: GapReason,
    },
}

/// Why a member does not get what it has missed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum GapReason {
    /// The position is of another history: of another room, of a room that has ended since, of a server that was
    /// restarted, or from before [`Room::clear_history`](super::Room::clear_history).
    Epoch,
    /// The history does not reach back that far any more.
    Trimmed,
    /// The room has never given out the position: it is no position, it lies in the future, or the room has no history.
    Unknown,
    /// There is another message at the position: the history had lost its end.
    Diverged,
    /// These are more than 300 messages, or more than 1 MiB.
    TooMuch,
}

impl GapReason {
    /// Returns the name in lower case, for messages to clients: `"trimmed"`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Trimmed => "trimmed",
            Self::Unknown => "unknown",
            Self::Diverged => "diverged",
            Self::TooMuch => "too_much",
        }
    }
}

/// What a join asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resume {
    pub(super) position: Option<Position>,
    pub(super) was: Option<MemberId>,
    /// The number of newest messages that it wants if it does not get what it has missed.
    pub(super) last: usize,
}

/// To whom a message was sent, and by whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Parties {
    pub(super) by: Option<MemberId>,
    pub(super) except: Option<MemberId>,
    /// The key that the member left out had when the message was sent.
    pub(super) except_key: Option<Key>,
}

/// Whether a message is replayed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Replayed {
    Yes,
    /// It is the member's own, or left it out.
    No,
    /// It may be one that left the member out.
    Withheld,
}

/// For whom messages are replayed.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    /// The member that it was, by the word of the handler.
    pub(super) was: Option<MemberId>,
    pub(super) key: Option<Key>,
    /// It sees who has sent a message, and so recognizes its own ones.
    pub(super) sees_senders: bool,
}

impl Listener {
    pub(super) fn gets(&self, parties: &Parties) -> Replayed {
        if let Some(was) = self.was {
            return match parties.by == Some(was) || parties.except == Some(was) {
                true => Replayed::No,
                false => Replayed::Yes,
            };
        }
        if self.sees_senders && parties.except.is_some() && parties.except == parties.by {
            // It was for everybody but its sender, so it is no secret.
            return Replayed::Yes;
        }
        match (parties.except, &parties.except_key, &self.key) {
            (None, _, _) => Replayed::Yes,
            // Another user.
            (_, Some(left_out), Some(own)) if left_out != own => Replayed::Yes,
            _ => Replayed::Withheld,
        }
    }
}
