//! What a hub and its rooms have done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of a [`Hub`](super::Hub), or of one [`Room`](super::Room) since it came into being.
///
/// Each message for each member is counted in `addressed`, and later in exactly one of `delivered`, `lost`,
/// `superseded` and `unsent`. Those that still wait are in `waiting`: `addressed = delivered + lost + superseded +
/// unsent + waiting` whenever nothing is being delivered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct HubCounts {
    /// Rooms with members. 1 for a room that has some.
    pub rooms: usize,
    /// Members of all rooms.
    pub members: usize,
    /// Members that are behind.
    pub behind: usize,
    /// Bytes in the backlogs: payloads, and 128 for each message.
    pub backlog_bytes: usize,
    /// Bytes in the histories: payloads, and 256 for each message.
    pub history_bytes: usize,
    /// Messages sent to rooms with members.
    pub sent: u64,
    /// Messages for members: each counts once for each member.
    pub addressed: u64,
    /// Messages that were queued in the outbox of a member's connection.
    pub delivered: u64,
    /// Messages that members missed because they were too slow. They are counted when the member takes messages again
    /// or leaves; [`Membership::lag`](super::Membership::lag) has them at once.
    pub lost: u64,
    /// Messages for which a newer one with the same key was delivered or waits.
    pub superseded: u64,
    /// Messages that still waited when their member left.
    pub unsent: u64,
    /// Messages that wait for members that are behind, and those that such members have missed and that are not in
    /// `lost` yet.
    pub waiting: u64,
    /// Members that joined.
    pub joined: u64,
    /// Joins that failed.
    pub refused: u64,
    /// Joins that resumed, and got all that they had missed.
    pub recovered: u64,
    /// Joins that resumed, and were told of a gap.
    pub not_recovered: u64,
    /// Messages that histories have not kept, or no longer, because of
    /// [`HubConfig::max_history`](super::HubConfig::max_history).
    pub history_refused: u64,
    /// Members whose connections were closed because they had missed messages: by [`Overflow::Disconnect`], or in a
    /// room with history and the envelope [`Plain`](super::Plain).
    ///
    /// [`Overflow::Disconnect`]: super::Overflow::Disconnect
    pub disconnected: u64,
    /// Messages about gaps that were queued.
    pub gaps_told: u64,
    /// Messages about members that were made, each once for its room.
    pub presence_messages: u64,
}

/// Counts that only grow, and two that go up and down.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) addressed: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) superseded: AtomicU64,
    pub(super) unsent: AtomicU64,
    pub(super) joined: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) recovered: AtomicU64,
    pub(super) not_recovered: AtomicU64,
    pub(super) history_refused: AtomicU64,
    pub(super) disconnected: AtomicU64,
    pub(super) gaps_told: AtomicU64,
    pub(super) presence_messages: AtomicU64,
}

/// What one delivery has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) addressed: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) superseded: u64,
    pub(super) unsent: u64,
    pub(super) disconnected: u64,
    pub(super) gaps_told: u64,
}

pub(super) fn add(counter: &AtomicU64, number: u64) {
    if number > 0 {
        counter.fetch_add(number, Ordering::Relaxed);
    }
}

impl Counters {
    pub(super) fn add(&self, tally: &Tally) {
        add(&self.addressed, tally.addressed);
        add(&self.delivered, tally.delivered);
        add(&self.lost, tally.lost);
        add(&self.superseded, tally.superseded);
        add(&self.unsent, tally.unsent);
        add(&self.disconnected, tally.disconnected);
        add(&self.gaps_told, tally.gaps_told);
    }

    pub(super) fn read(&self) -> HubCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut counts = HubCounts {
            sent: read(&self.sent),
            addressed: read(&self.addressed),
            delivered: read(&self.delivered),
            lost: read(&self.lost),
            superseded: read(&self.superseded),
            unsent: read(&self.unsent),
            joined: read(&self.joined),
            refused: read(&self.refused),
            recovered: read(&self.recovered),
            not_recovered: read(&self.not_recovered),
            history_refused: read(&self.history_refused),
            disconnected: read(&self.disconnected),
            gaps_told: read(&self.gaps_told),
            presence_messages: read(&self.presence_messages),
            ..HubCounts::default()
        };
        let done = counts.delivered + counts.lost + counts.superseded + counts.unsent;
        counts.waiting = counts.addressed.saturating_sub(done);
        counts
    }
}
