//! The settings of a hub and of its rooms.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    envelope::{Envelope, Form},
    history::History,
    names::MAX_PLACES,
};
use crate::words::CloseCode;

const KIB: usize = 1024;

/// The settings of rooms by their names.
pub(super) type ByName<T> = Arc<dyn Fn(&str) -> RoomConfig<T> + Send + Sync>;

/// The settings of a [`Hub`](super::Hub).
///
/// # Examples
///
/// ```
/// use tower_websocket::hub::{Hub, HubConfig, Overflow, RoomConfig};
///
/// let hub: Hub = Hub::with(HubConfig::new().rooms(|name| match name.split_once(':') {
///     Some(("prices", _)) => RoomConfig::new().overflow(Overflow::Latest),
///     _ => RoomConfig::new(),
/// }));
/// ```
pub struct HubConfig<T = ()> {
    pub(super) rooms: ByName<T>,
    pub(super) form: Option<Form<T>>,
    pub(super) max_rooms: usize,
    pub(super) max_rooms_per_connection: usize,
    pub(super) max_backlog: usize,
    pub(super) max_history: usize,
}

impl<T: 'static> HubConfig<T> {
    /// Makes the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rooms: Arc::new(|_| RoomConfig::new()),
            form: None,
            max_rooms: 100_000,
            max_rooms_per_connection: 128,
            max_backlog: 64 * KIB * KIB,
            max_history: 256 * KIB * KIB,
        }
    }

    /// Sets the settings of rooms by their names. It is called when a room comes into being, which is when its first
    /// member joins or its first [`Watch`](super::Watch) begins. Default: [`RoomConfig::new`] for each.
    #[must_use]
    pub fn rooms(
        mut self,
        settings: impl Fn(&str) -> RoomConfig<T> + Send + Sync + 'static,
    ) -> Self {
        self.rooms = Arc::new(settings);
        self
    }

    /// Sets how the members of all rooms see what happens in them. It takes the place of
    /// [`RoomConfig::envelope`], whatever the order of the calls. Default: that of each room.
    #[must_use]
    pub fn envelope(mut self, envelope: impl Into<Envelope<T>>) -> Self {
        self.form = Some(envelope.into().0);
        self
    }

    /// Sets the largest number of rooms with members, watches or [history](RoomConfig::history). Default: 100,000.
    #[must_use]
    pub const fn max_rooms(mut self, rooms: usize) -> Self {
        self.max_rooms = rooms;
        self
    }

    /// Sets the largest number of rooms that one connection is in, over all hubs. Default: 128.
    #[must_use]
    pub const fn max_rooms_per_connection(mut self, rooms: usize) -> Self {
        self.max_rooms_per_connection = rooms;
        self
    }

    /// Caps the backlogs of all rooms together, in bytes. A room in which nobody is behind counts only with what exceeds
    /// 16 KiB. Past the cap, each room with a backlog that gets another message applies its [`Overflow`] early.
    /// Default: 64 MiB.
    #[must_use]
    pub const fn max_backlog(mut self, bytes: usize) -> Self {
        self.max_backlog = bytes;
        self
    }

    /// Caps the [histories](RoomConfig::history) of all rooms together, in bytes. Past it, a room that keeps another
    /// message forgets its own oldest ones for it, or keeps nothing
    /// ([`HubCounts::history_refused`](super::HubCounts::history_refused)). Default: 256 MiB.
    #[must_use]
    pub const fn max_history(mut self, bytes: usize) -> Self {
        self.max_history = bytes;
        self
    }
}

impl<T: 'static> Default for HubConfig<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for HubConfig<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("max_rooms", &self.max_rooms)
            .field("max_rooms_per_connection", &self.max_rooms_per_connection)
            .field("max_backlog", &self.max_backlog)
            .field("max_history", &self.max_history)
            .finish_non_exhaustive()
    }
}

/// The policy for slow members: a room's backlog is full, and a member has not got its oldest message.
///
/// A member is *behind* when its share of its connection's outbox is full: 64 messages or 64 KiB, at most half of
/// [`Config::max_outbox`](crate::Config::max_outbox). What comes then waits in the room's backlog, once for all members.
/// [`Config::write_timeout`](crate::Config::write_timeout) still ends a connection that takes nothing at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Overflow {
    /// It leaves the room, and its connection is closed with this code and the reason "too slow". It misses nothing
    /// without knowing. The default in rooms without history, with 1013.
    Disconnect(CloseCode),
    /// It goes on with the oldest message that is left.
    DropOldest,
    /// Nothing is kept for it: while it is behind, it misses what is sent.
    DropNewest,
    /// Of messages with the same key ([`Publication::latest`](super::Publication::latest)) it gets the newest one. The
    /// keys take turns: on a slow link, none of them waits for more than a round, and messages with different keys may
    /// come in another order than they were sent. Up to 1,024 keys are kept, and as many bytes as the backlog may have.
    /// Other messages are treated as by [`DropOldest`](Self::DropOldest).
    Latest,
    /// It goes on with the oldest message that is left in the backlog or in the [history](RoomConfig::history), which
    /// is one that it has not missed if either reaches back that far. The default in rooms with history; in others it
    /// is [`DropOldest`](Self::DropOldest).
    CatchUp,
}

/// The bit of a room with history, next to its largest number of members.
const HISTORY: u32 = 1 << 31;

/// What a room keeps of its settings, in as few bytes as possible.
#[derive(Debug)]
pub(super) struct Settings<T> {
    pub(super) overflow: Overflow,
    pub(super) max_messages: u32,
    pub(super) max_bytes: usize,
    /// The largest number of members, and [`HISTORY`].
    members: u32,
    pub(super) max_message_size: u32,
    pub(super) form: Form<T>,
}

impl<T> Settings<T> {
    pub(super) fn new(config: RoomConfig<T>) -> Self {
        let limit = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        let history = config.history.map_or(0, |_| HISTORY);
        Self {
            overflow: config.overflow_or_default(),
            max_messages: limit(config.backlog.0),
            max_bytes: config.backlog.1,
            members: config.max_members.min(MAX_PLACES) as u32 | history,
            max_message_size: limit(config.max_message_size),
            form: config.form,
        }
    }

    pub(super) const fn max_members(&self) -> usize {
        (self.members & !HISTORY) as usize
    }

    pub(super) const fn has_history(&self) -> bool {
        self.members & HISTORY != 0
    }
}

/// The settings of a [`Room`](super::Room).
pub struct RoomConfig<T = ()> {
    /// `None` for the default, which depends on the history.
    overflow: Option<Overflow>,
    pub(super) history: Option<History>,
    pub(super) backlog: (usize, usize),
    pub(super) max_members: usize,
    pub(super) max_message_size: usize,
    pub(super) presence_interval: Duration,
    pub(super) max_listed: usize,
    pub(super) form: Form<T>,
}

impl<T: 'static> RoomConfig<T> {
    /// Makes the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self {
            overflow: None,
            history: None,
            backlog: (1024, KIB * KIB),
            max_members: 100_000,
            max_message_size: 256 * KIB,
            presence_interval: Duration::from_millis(200),
            max_listed: 1000,
            form: Form::Plain,
        }
    }

    /// Sets what happens to a member that is too slow. Default: [`Overflow::Disconnect`] with 1013, and
    /// [`Overflow::CatchUp`] with [`history`](Self::history).
    #[must_use]
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = Some(overflow);
        self
    }

    /// Keeps messages for members that come back, and gives positions to them: see [`Position`](super::Position) and
    /// [`Join::resume`](super::Join::resume). Default: nothing is kept.
    ///
    /// Messages to a room that nobody has joined or watched are not kept. The envelope [`Plain`](super::Plain) cannot tell
    /// a member that it has missed messages: instead, its connection is closed with 4000 and "messages were missed".
    #[must_use]
    pub const fn history(mut self, history: History) -> Self {
        self.history = Some(history);
        self
    }

    /// Caps what is kept for members that are behind, in messages and in bytes of payload. A message that was compressed
    /// for members counts with its compressed payload as well, and each message counts 128 bytes more. The members of a
    /// room share one backlog. Default: 1,024 messages and 1 MiB.
    #[must_use]
    pub const fn max_backlog(mut self, messages: usize, bytes: usize) -> Self {
        self.backlog = (messages, bytes);
        self
    }

    /// Sets the largest number of members. Default: 100,000; at most 1,048,576.
    #[must_use]
    pub fn max_members(mut self, members: usize) -> Self {
        self.max_members = members.min(MAX_PLACES);
        self
    }

    /// Sets the longest message, in bytes of payload. Default: 256 KiB.
    #[must_use]
    pub const fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// Sets how members see messages, and what they hear about each other and about gaps. Default:
    /// [`Plain`](super::Plain).
    #[must_use]
    pub fn envelope(mut self, envelope: impl Into<Envelope<T>>) -> Self {
        self.form = envelope.into().0;
        self
    }

    /// Sets the shortest time between two messages about who has come and gone, if the envelope has them. The first one
    /// comes at once. Default: 200 ms.
    #[must_use]
    pub const fn presence_interval(mut self, interval: Duration) -> Self {
        self.presence_interval = interval;
        self
    }

    /// Sets up to how many members these messages name. In a larger room they only have the number of members.
    /// Default: 1,000.
    #[must_use]
    pub const fn max_listed(mut self, members: usize) -> Self {
        self.max_listed = members;
        self
    }
}

impl<T> RoomConfig<T> {
    fn overflow_or_default(&self) -> Overflow {
        match (self.overflow, self.history) {
            (Some(overflow), _) => overflow,
            (None, Some(_)) => Overflow::CatchUp,
            (None, None) => Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER),
        }
    }
}

impl<T: 'static> Default for RoomConfig<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for RoomConfig<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomConfig")
            .field("overflow", &self.overflow_or_default())
            .field("history", &self.history)
            .field("max_backlog", &self.backlog)
            .field("max_members", &self.max_members)
            .field("max_message_size", &self.max_message_size)
            .field("envelope", &self.form)
            .field("presence_interval", &self.presence_interval)
            .field("max_listed", &self.max_listed)
            .finish()
    }
}
