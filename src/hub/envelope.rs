//! How members see what happens in a room.

use std::{fmt, ops::Range, sync::Arc};

use super::{
    error::PublishError,
    json,
    position::Position,
    presence::{News, Presence},
    publication::By,
};
use crate::words::{Message, catch_panic};

/// How members see messages, and what they hear about each other and about gaps: made of [`Plain`] or of [`Json`].
pub struct Envelope<T>(pub(super) Form<T>);

impl<T> fmt::Debug for Envelope<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> From<Plain> for Envelope<T> {
    fn from(_: Plain) -> Self {
        Self(Form::Plain)
    }
}

impl<T> From<Json<T>> for Envelope<T> {
    fn from(json: Json<T>) -> Self {
        Self(Form::Json(json))
    }
}

/// Members get the messages as they were sent, and nothing else. The default.
///
/// They are not told about gaps: those are counted, and [`Membership::lag`](super::Membership::lag) returns them. In a
/// room with [history](super::RoomConfig::history), the connection of a member that has missed messages is closed with
/// 4000, so that it comes back and resumes. Members do not see the positions of messages.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Plain;

impl Plain {
    /// Makes the envelope.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// Members get text messages that are JSON objects.
///
/// | When | Object |
/// | --- | --- |
/// | a message | `{"room":"a","by":"100002","key":"ann","data":…,"at":"3e1v-c-9qk0"}`; `by` and its key are left out if no member has sent it, and `at`, its [`Position`], in a room without history and with [`fleeting`](super::Publication::fleeting) |
/// | after the join, and after having been behind | `{"room":"a","members":[{"id":"100002","key":"ann","value":…}]}` |
/// | members have come, changed or gone | `{"room":"a","joined":[…],"updated":[…],"left":[{"id":"100002","key":"ann"}]}`, without empty lists |
/// | the same in a room of more than [`max_listed`](super::RoomConfig::max_listed) members | `{"room":"a","count":1234}` |
/// | the room has become smaller again | `{"room":"a","members":[…]}` |
/// | messages were lost | `{"room":"a","gap":{"lost":12,"reason":"slow"}}` |
///
/// `data` is the text of the message, which has to be JSON, with at most 124 lists and objects in each other
/// ([`PublishError::NotJson`]). A binary message is passed on as it is. `key` is left out if there is none. `value` is
/// what the function makes of a member's value; if that is no JSON, or the function panics, it is `null`.
///
/// Changes of members are gathered for [`presence_interval`](super::RoomConfig::presence_interval): a
/// member that joins and leaves in between is not named. A list may name someone whom a list of all members has
/// named before: those in `joined` and `updated` are there, those in `left` are not.
///
/// # Examples
///
/// ```
/// use tower_websocket::hub::{Hub, HubConfig, Json, RoomConfig};
///
/// let room = |_: &str| RoomConfig::new().envelope(Json::new(|age: &u32| age.to_string()));
/// let hub = Hub::with(HubConfig::new().rooms(room));
/// ```
pub struct Json<T> {
    value: Arc<dyn Fn(&T) -> String + Send + Sync>,
}

impl<T> Json<T> {
    /// Makes the envelope. `value` turns a member's value into JSON. It is called without a lock, once for each message
    /// that names the member, and may use the hub.
    pub fn new(value: impl Fn(&T) -> String + Send + Sync + 'static) -> Self {
        Self {
            value: Arc::new(value),
        }
    }

    /// Makes the envelope, in which serde writes the values of members.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn serialized() -> Self
    where
        T: serde::Serialize,
    {
        // A value that cannot be JSON becomes `null`.
        Self::new(|value| serde_json::to_string(value).unwrap_or_default())
    }

    /// Makes the envelope, in which the values of members are `null`.
    #[must_use]
    pub fn without_values() -> Self {
        Self::new(|_| "null".into())
    }
}

impl<T> Clone for Json<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
        }
    }
}

impl<T> fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Json").finish_non_exhaustive()
    }
}

pub(super) enum Form<T> {
    Plain,
    Json(Json<T>),
}

impl<T> Clone for Form<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::Json(json) => Self::Json(json.clone()),
        }
    }
}

impl<T> fmt::Debug for Form<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Json(_) => "Json",
        })
    }
}

impl<T> Form<T> {
    /// Returns whether members hear about each other.
    pub(super) const fn has_news(&self) -> bool {
        matches!(self, Self::Json(_))
    }

    /// Returns whether members see who has sent a message.
    pub(super) const fn names_senders(&self) -> bool {
        matches!(self, Self::Json(_))
    }

    /// Makes what members get of a message.
    pub(super) fn message(
        &self,
        room: &str,
        by: Option<&By>,
        message: Message,
    ) -> Result<Message, PublishError> {
        Ok(self.draft(room, by, message)?.finish(None).0)
    }

    /// Makes what members get of a message, as far as that does not depend on its position.
    pub(super) fn draft(
        &self,
        room: &str,
        by: Option<&By>,
        message: Message,
    ) -> Result<Draft, PublishError> {
        let (Self::Json(_), Message::Text(text)) = (self, &message) else {
            return Ok(Draft::Whole(message));
        };
        if !json::is_json(text) {
            return Err(PublishError::NotJson);
        }
        let mut out = String::with_capacity(room.len() + text.len() + 112);
        begin(&mut out, room);
        if let Some(by) = by {
            out.push_str(&format!(",\"by\":\"{}\"", by.member));
            push_key(&mut out, by.key.as_ref().map(super::names::Key::as_str));
        }
        out.push_str(",\"data\":");
        let payload = out.len()..out.len() + text.len();
        out.push_str(text);
        Ok(Draft::Open { out, payload })
    }

    /// Makes the message about lost ones. No code of the user runs.
    pub(super) fn gap(&self, room: &str, lost: u64) -> Option<Message> {
        let Self::Json(_) = self else { return None };
        let mut out = String::new();
        begin(&mut out, room);
        out.push_str(&format!(
            ",\"gap\":{{\"lost\":{lost},\"reason\":\"slow\"}}}}"
        ));
        Some(out.into())
    }

    /// Makes the message with news. It runs the user's code.
    pub(super) fn news(&self, room: &str, news: &News<T>) -> Option<Message> {
        let Self::Json(json) = self else { return None };
        let mut out = String::new();
        begin(&mut out, room);
        match news {
            News::Number { members, .. } => out.push_str(&format!(",\"count\":{members}")),
            News::Roster { members, .. } => json.list(&mut out, "members", members),
            News::Changes {
                joined,
                updated,
                left,
            } => {
                if !joined.is_empty() {
                    json.list(&mut out, "joined", joined);
                }
                if !updated.is_empty() {
                    json.list(&mut out, "updated", updated);
                }
                if !left.is_empty() {
                    out.push_str(",\"left\":[");
                    for (at, (id, key)) in left.iter().enumerate() {
                        let separator = if at > 0 { "," } else { "" };
                        out.push_str(&format!("{separator}{{\"id\":\"{id}\""));
                        push_key(&mut out, key.as_ref().map(super::names::Key::as_str));
                        out.push('}');
                    }
                    out.push(']');
                }
            }
        }
        out.push('}');
        Some(out.into())
    }
}

/// What members get of a message, before it has its position.
#[derive(Debug)]
pub(super) enum Draft {
    Whole(Message),
    Open {
        /// An object without its end. There is room for a position.
        out: String,
        payload: Range<usize>,
    },
}

impl Draft {
    /// Returns what members get, and where the payload is in it. It is short enough for the time under a lock.
    pub(super) fn finish(self, position: Option<&Position>) -> (Message, Range<usize>) {
        match self {
            Self::Whole(message) => {
                let payload = 0..message.len();
                (message, payload)
            }
            Self::Open { mut out, payload } => {
                if let Some(position) = position {
                    out.push_str(",\"at\":\"");
                    position.push_to(&mut out);
                    out.push('"');
                }
                out.push('}');
                (out.into(), payload)
            }
        }
    }
}

impl<T> Json<T> {
    fn list(&self, out: &mut String, name: &str, members: &[Presence<T>]) {
        out.push_str(&format!(",\"{name}\":["));
        for (at, member) in members.iter().enumerate() {
            let separator = if at > 0 { "," } else { "" };
            out.push_str(&format!("{separator}{{\"id\":\"{}\"", member.id()));
            push_key(out, member.key().map(super::names::Key::as_str));
            let value = catch_panic(|| (self.value)(member.value())).ok();
            let value = value.filter(|value| json::is_json(value));
            out.push_str(",\"value\":");
            out.push_str(value.as_deref().unwrap_or("null"));
            out.push('}');
        }
        out.push(']');
    }
}

fn begin(out: &mut String, room: &str) {
    out.push_str("{\"room\":");
    json::push_string(out, room);
}

fn push_key(out: &mut String, key: Option<&str>) {
    if let Some(key) = key {
        out.push_str(",\"key\":");
        json::push_string(out, key);
    }
}
