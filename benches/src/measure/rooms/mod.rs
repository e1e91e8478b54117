//! Measures rooms: delivering to members, members that have stopped reading, publishing, joining.

mod broadcast;
#[cfg(feature = "hub")]
mod joins;
#[cfg(feature = "hub")]
mod publishers;
mod stopped;
#[cfg(feature = "hub")]
mod threads;

use super::Plan;
use crate::{BoxError, cores::Cores};

/// One kind of measurement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rooms {
    /// A message to a thousand members, on several servers.
    Broadcast,
    /// The latency of members beside others that have stopped reading.
    Stopped,
    /// How long a call of `send` takes.
    Send,
    /// Two threads that send to two rooms.
    Publishers,
    /// Joining and leaving.
    Joins,
}

/// All kinds, with the names of their modes.
pub(super) const MODES: [(&str, Rooms); 5] = [
    ("rooms-broadcast", Rooms::Broadcast),
    ("rooms-stopped", Rooms::Stopped),
    ("rooms-send", Rooms::Send),
    ("rooms-publishers", Rooms::Publishers),
    ("rooms-joins", Rooms::Joins),
];

pub(super) fn run(rooms: Rooms, plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    match rooms {
        Rooms::Broadcast => broadcast::run(plan, cores),
        Rooms::Stopped => stopped::latency(plan, cores),
        Rooms::Send => stopped::send(plan, cores),
        #[cfg(feature = "hub")]
        Rooms::Publishers => publishers::run(plan, cores),
        #[cfg(feature = "hub")]
        Rooms::Joins => joins::run(plan, cores),
        #[cfg(not(feature = "hub"))]
        Rooms::Publishers | Rooms::Joins => Err("built without the feature hub".into()),
    }
}
