//! Rooms of connections: a message is sent once, and a slow member hurts neither the others nor the memory.
//!
//! A [`Hub`] has rooms by name. A handler [joins](Room::join) its connection to a room, and anybody sends to the room
//! from any task or thread. A [`Membership`] ends with its guard, with its connection, or by the policy for slow
//! members, whichever is first: nobody is listed who is gone.
//!
//! ```
//! use tower_websocket::{BoxError, WebSocket, hub::Hub};
//!
//! async fn chat(hub: Hub, mut socket: WebSocket) -> Result<(), BoxError> {
//!     let lobby = hub.room("lobby").join(&socket, ()).await?;
//!     while let Some(message) = socket.recv().await? {
//!         lobby.send(message)?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Slow members
//!
//! Members have no queues of their own. A room has one log, and each member is at one place of it. A member that is
//! too slow for its connection's outbox is *behind*: what comes waits in the log, once for all members, up to
//! [`RoomConfig::max_backlog`]. Then the room's [`Overflow`] decides. [`Membership::lag`] and [`Hub::counts`] say how
//! many messages a member, a room and the hub have lost, and the envelope [`Json`] tells the member itself.
//!
//! # Who is there
//!
//! [`Room::members_here`] lists the members with their values, and [`Room::watch`] adds what changes from then on. With
//! [`Join::key`] all connections of a user are one. The envelope [`Json`] tells the members about each other.
//!
//! # Coming back
//!
//! With [`RoomConfig::history`] a room keeps its newest messages, each of which has a [`Position`]. A client that was
//! away [resumes](Join::resume) at the last one that it knows, and gets either exactly what it has missed, or is told
//! that it may have missed something, and why: [`Recovery`].
//!
//! # Rooms for pages
//!
//! With the feature `json`, `JsonRooms` is a complete handler: clients join rooms and send to them in JSON, and two
//! functions of the application decide on who may. Its protocol is a page of the guide.
//!
//! # Files
//!
//! | File | Holds |
//! | --- | --- |
//! | `room`, `join`, `membership`, `paused`, `publication` | what handlers use |
//! | `config`, `error`, `names`, `counts` | settings, errors, names, counts |
//! | `shared` | the rooms by name |
//! | `state`, `state/joins`, `state/behind` | a room, and the ways through its locks |
//! | `log`, `entry` | the entries that members have not got yet |
//! | `after` | what a delivery leaves to be done without the locks |
//! | `chunk`, `seat`, `seat/behind` | up to 128 members, and where in the log each of them is |
//! | `history`, `position`, `recovery`, `past` | the messages that are kept for members that come back |
//! | `state/history`, `log/reach`, `sweep` | keeping messages in rooms, reading them together with the log, and forgetting them |
//! | `compression` | messages that members share compressed |
//! | `turns` | what a member that is behind gets first |
//! | `member`, `ends` | a connection in a room, which its connection wakes; who waits for its end |
//! | `tasks` | delivering, and telling members of changes |
//! | `roster`, `presence`, `watch` | who is there |
//! | `envelope`, `json` | how members see all of that |
//! | `report` | what is logged about slow members |
//! | `json_rooms` | the handler, made of the public items: `request` reads, `session` does, `answer` writes |

#![cfg_attr(
    all(test, tower_websocket_loom),
    allow(dead_code, reason = "the rooms of models have no news")
)]

mod after;
#[cfg(tower_websocket_fuzzing)]
#[path = "../../fuzz/checks/positions.rs"]
pub(crate) mod checks;
mod chunk;
mod compression;
mod config;
mod counts;
mod ends;
mod entry;
mod envelope;
mod error;
mod history;
mod join;
mod json;
#[cfg(feature = "json")]
mod json_rooms;
mod log;
#[cfg(all(test, tower_websocket_loom))]
mod loom;
mod member;
mod membership;
mod names;
mod past;
mod paused;
mod position;
mod presence;
mod publication;
mod recovery;
mod report;
mod room;
mod roster;
mod seat;
mod shared;
#[cfg(all(test, not(tower_websocket_loom), target_pointer_width = "64"))]
mod sizes;
mod state;
mod sweep;
#[cfg(not(all(test, tower_websocket_loom)))]
mod tasks;
#[cfg(all(test, tower_websocket_loom))]
use self::loom::tasks;
mod turns;
mod watch;

use std::{fmt, sync::Arc};

#[cfg(feature = "json")]
pub use self::json_rooms::{Admission, Denied, JsonRooms};
pub use self::{
    config::{HubConfig, Overflow, RoomConfig},
    counts::{HubCounts, LostBy, RefusedBy},
    envelope::{Envelope, Json, Plain},
    error::{HistoryError, JoinError, PublishError},
    history::History,
    join::{AsSender, Join, Joining, PausedJoin, PausedJoining},
    member::LeaveReason,
    membership::Membership,
    names::{Key, MemberId},
    past::Past,
    paused::Paused,
    position::Position,
    presence::{Presence, Roster},
    publication::{Publication, Sent},
    recovery::{GapReason, Recovery},
    room::Room,
    seat::Lag,
    watch::{Event, Watch},
};
// A room, its chunks and its members name each other: they do so through these names, as parts of one type.
use self::{chunk::Chunk, shared::Shared, state::RoomState};

/// The rooms of an application. Cheap to clone: clones are the same hub.
///
/// `T` is the value of a member, which others see: a name, a user, or nothing.
pub struct Hub<T = ()> {
    shared: Arc<Shared<T>>,
}

/// A room with members.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RoomInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its members: all connections, also silent ones.
    pub members: usize,
}

impl<T: Send + Sync + 'static> Hub<T> {
    /// Makes a hub with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::with(HubConfig::new())
    }

    /// Makes a hub.
    #[must_use]
    pub fn with(config: HubConfig<T>) -> Self {
        Self {
            shared: Arc::new(Shared::new(config)),
        }
    }

    /// Returns a room by name. It makes nothing.
    ///
    /// Names have 1 to 200 bytes. With another one, joining, watching and sending fail.
    #[must_use]
    pub fn room(&self, name: impl Into<Arc<str>>) -> Room<T> {
        Room::new(Arc::clone(&self.shared), name.into())
    }

    /// Returns the rooms that have members.
    #[must_use]
    pub fn rooms(&self) -> Vec<RoomInfo> {
        let rooms = self.shared.all();
        let info = |room: &Arc<RoomState<T>>| RoomInfo {
            name: Arc::clone(room.name()),
            members: room.len(),
        };
        let rooms = rooms.iter().map(info);
        rooms.filter(|room| room.members > 0).collect()
    }

    /// Returns what the hub has done so far, and what it holds. It takes time in proportion to the number of members.
    #[must_use]
    pub fn counts(&self) -> HubCounts {
        self.shared.counts()
    }
}

impl<T: Send + Sync + 'static> Default for Hub<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Hub<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> fmt::Debug for Hub<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}
