//! What a hub and its rooms have done so far.

use std::ops::AddAssign;

use super::{config::Overflow, error::JoinError};

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
    /// Bytes in the backlogs: payloads, also in their compressed forms, and 128 for each message.
    pub backlog_bytes: usize,
    /// Bytes in the histories: payloads, also in their compressed forms, and 320 for each message.
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
    /// The same by the policies of the rooms.
    pub lost_by: LostBy,
    /// Messages for which a newer one with the same key was delivered or waits.
    pub superseded: u64,
    /// Messages that still waited when their member left.
    pub unsent: u64,
    /// Messages that wait for members that are behind, and those that such members have missed and that are not in
    /// `lost` yet.
    pub waiting: u64,
    /// Members that joined.
    pub joined: u64,
    /// Joins that failed. Those for want of a room are counted only in the hub.
    pub refused: u64,
    /// The same by their errors.
    pub refused_by: RefusedBy,
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
    /// Messages about members, each once for its room.
    pub presence_messages: u64,
    /// Compressions for all members that share them: those without context takeover
    /// ([`Deflate`](crate::Deflate)). Each message counts once for each window and level that such members have
    /// agreed on, whatever their number. Members with context takeover compress for themselves, which is not counted.
    pub compressions: u64,
}

/// Messages that members missed, by the [`Overflow`] of their rooms.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct LostBy {
    /// [`Overflow::Disconnect`]: what the backlog had dropped when the connections were closed.
    pub disconnect: u64,
    /// [`Overflow::DropOldest`].
    pub drop_oldest: u64,
    /// [`Overflow::DropNewest`].
    pub drop_newest: u64,
    /// [`Overflow::Latest`]: messages without a key, or with one too many.
    pub latest: u64,
    /// [`Overflow::CatchUp`]: what neither the backlog nor the history had any more.
    pub catch_up: u64,
}

/// Joins that failed, by their [`JoinError`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct RefusedBy {
    /// [`JoinError::Name`].
    pub name: u64,
    /// [`JoinError::RoomFull`].
    pub room_full: u64,
    /// [`JoinError::TooManyRooms`].
    pub too_many_rooms: u64,
    /// [`JoinError::TooManyMemberships`].
    pub too_many_memberships: u64,
    /// [`JoinError::Closed`].
    pub closed: u64,
}

impl LostBy {
    /// Counts messages that were lost in a room with this policy.
    const fn new(overflow: Overflow, lost: u64) -> Self {
        let mut by = Self {
            disconnect: 0,
            drop_oldest: 0,
            drop_newest: 0,
            latest: 0,
            catch_up: 0,
        };
        match overflow {
            Overflow::Disconnect(_) => by.disconnect = lost,
            Overflow::DropOldest => by.drop_oldest = lost,
            Overflow::DropNewest => by.drop_newest = lost,
            Overflow::Latest => by.latest = lost,
            Overflow::CatchUp => by.catch_up = lost,
        }
        by
    }
}

impl RefusedBy {
    pub(super) const fn add(&mut self, error: &JoinError) {
        let count = match error {
            JoinError::Name => &mut self.name,
            JoinError::RoomFull => &mut self.room_full,
            JoinError::TooManyRooms => &mut self.too_many_rooms,
            JoinError::TooManyMemberships => &mut self.too_many_memberships,
            JoinError::Closed => &mut self.closed,
        };
        *count += 1;
    }

    const fn total(&self) -> u64 {
        self.name + self.room_full + self.too_many_rooms + self.too_many_memberships + self.closed
    }
}

impl HubCounts {
    /// Computes the counts that are sums of others.
    pub(super) const fn totalled(mut self) -> Self {
        let done = self.delivered + self.lost + self.superseded + self.unsent;
        self.waiting = self.addressed.saturating_sub(done);
        self.refused = self.refused_by.total();
        self
    }
}

/// Adds the counts of a room to those of others.
impl AddAssign for HubCounts {
    fn add_assign(&mut self, other: Self) {
        self.rooms += other.rooms;
        self.members += other.members;
        self.behind += other.behind;
        self.backlog_bytes += other.backlog_bytes;
        self.history_bytes += other.history_bytes;
        self.sent += other.sent;
        self.addressed += other.addressed;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.lost_by.disconnect += other.lost_by.disconnect;
        self.lost_by.drop_oldest += other.lost_by.drop_oldest;
        self.lost_by.drop_newest += other.lost_by.drop_newest;
        self.lost_by.latest += other.lost_by.latest;
        self.lost_by.catch_up += other.lost_by.catch_up;
        self.superseded += other.superseded;
        self.unsent += other.unsent;
        self.waiting += other.waiting;
        self.joined += other.joined;
        self.refused += other.refused;
        self.refused_by.name += other.refused_by.name;
        self.refused_by.room_full += other.refused_by.room_full;
        self.refused_by.too_many_rooms += other.refused_by.too_many_rooms;
        self.refused_by.too_many_memberships += other.refused_by.too_many_memberships;
        self.refused_by.closed += other.refused_by.closed;
        self.recovered += other.recovered;
        self.not_recovered += other.not_recovered;
        self.history_refused += other.history_refused;
        self.disconnected += other.disconnected;
        self.gaps_told += other.gaps_told;
        self.presence_messages += other.presence_messages;
        self.compressions += other.compressions;
    }
}

/// What a room has done so far. The lock of its log guards it, so that rooms share no counter.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: u64,
    pub(super) joined: u64,
    addressed: u64,
    delivered: u64,
}

/// What happens in few rooms.
#[derive(Debug, Default)]
pub(super) struct RareCounters {
    lost: u64,
    superseded: u64,
    unsent: u64,
    disconnected: u64,
    gaps_told: u64,
    pub(super) presence_messages: u64,
    pub(super) compressions: u64,
    pub(super) refused_by: RefusedBy,
    pub(super) recovered: u64,
    pub(super) not_recovered: u64,
    pub(super) history_refused: u64,
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

impl Tally {
    /// Returns whether there is something that belongs into [`RareCounters`].
    pub(super) const fn is_rare(&self) -> bool {
        self.lost | self.superseded | self.unsent | self.disconnected | self.gaps_told > 0
    }
}

impl Counters {
    pub(super) const fn add(&mut self, tally: &Tally) {
        self.addressed += tally.addressed;
        self.delivered += tally.delivered;
    }

    pub(super) fn read(&self, rare: Option<&RareCounters>, overflow: Overflow) -> HubCounts {
        let mut counts = HubCounts {
            sent: self.sent,
            joined: self.joined,
            addressed: self.addressed,
            delivered: self.delivered,
            ..HubCounts::default()
        };
        if let Some(rare) = rare {
            counts.lost = rare.lost;
            counts.lost_by = LostBy::new(overflow, rare.lost);
            counts.superseded = rare.superseded;
            counts.unsent = rare.unsent;
            counts.disconnected = rare.disconnected;
            counts.gaps_told = rare.gaps_told;
            counts.presence_messages = rare.presence_messages;
            counts.compressions = rare.compressions;
            counts.refused_by = rare.refused_by;
            counts.recovered = rare.recovered;
            counts.not_recovered = rare.not_recovered;
            counts.history_refused = rare.history_refused;
        }
        counts.totalled()
    }
}

impl RareCounters {
    pub(super) const fn add(&mut self, tally: &Tally) {
        self.lost += tally.lost;
        self.superseded += tally.superseded;
        self.unsent += tally.unsent;
        self.disconnected += tally.disconnected;
        self.gaps_told += tally.gaps_told;
    }
}
