//! All that can be set, and a way to set each by itself.

use std::time::Duration;

use tower_websocket::{Config, Connections};

use super::SECOND;

/// All that can be set.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) accept_timeout: Duration,
    pub(crate) upgrade_timeout: Duration,
    pub(crate) connections: Connections,
    /// The number of rounds of control frames from an idle peer.
    pub(crate) rounds: usize,
}

impl Settings {
    pub(crate) fn new() -> Self {
        Self {
            config: Config::new(),
            accept_timeout: 10 * SECOND,
            upgrade_timeout: 10 * SECOND,
            connections: Connections::new(),
            rounds: 15,
        }
    }

    pub(crate) fn config(mut self, set: impl FnOnce(Config) -> Config) -> Self {
        self.config = set(self.config);
        self
    }

    pub(crate) fn connections(mut self, set: impl FnOnce(Connections) -> Connections) -> Self {
        self.connections = set(self.connections);
        self
    }
}

type Set<T> = fn(Settings, T) -> Settings;

/// The settings that are durations. `max_lifetime`, which ends each connection, has a test of its own.
pub(crate) const DURATIONS: [(&str, Set<Duration>); 12] = [
    ("assembly_timeout", |settings, time| {
        settings.config(|config| config.assembly_timeout(time))
    }),
    ("write_timeout", |settings, time| {
        settings.config(|config| config.write_timeout(time))
    }),
    ("receive_timeout", |settings, time| {
        settings.config(|config| config.receive_timeout(time).max_inbox(1, 1))
    }),
    ("handler_grace", |settings, time| {
        settings.config(|config| config.handler_grace(time))
    }),
    ("keepalive, silence", |settings, time| {
        settings.config(|config| config.keepalive(time, 20 * SECOND))
    }),
    ("keepalive, answer", |settings, time| {
        settings.config(|config| config.keepalive(SECOND, time))
    }),
    ("keepalive, both", |settings, time| {
        settings.config(|config| config.keepalive(time, time))
    }),
    ("first_message_timeout", |settings, time| {
        settings.config(|config| config.first_message_timeout(time))
    }),
    ("close_timeout", |settings, time| {
        settings.config(|config| config.close_timeout(time))
    }),
    ("accept_timeout", |mut settings, time| {
        settings.accept_timeout = time;
        settings
    }),
    ("upgrade_timeout", |mut settings, time| {
        settings.upgrade_timeout = time;
        settings
    }),
    ("shutdown_spread", |settings, time| {
        settings.connections(|connections| connections.shutdown_spread(time))
    }),
];

/// The settings that are counts.
pub(crate) const COUNTS: [(&str, Set<usize>); 13] = [
    ("max_fragments, frames", |settings, count| {
        settings.config(|config| config.max_fragments(small(count), 16))
    }),
    ("max_fragments, empty", |settings, count| {
        settings.config(|config| config.max_fragments(16_384, small(count)))
    }),
    ("max_fragments, both", |settings, count| {
        settings.config(|config| config.max_fragments(small(count), small(count)))
    }),
    ("max_control_frames, per_second", |mut settings, count| {
        // More frames than may come at once.
        settings.rounds = 110;
        settings.config(|config| config.max_control_frames(small(count), 200))
    }),
    ("max_control_frames, burst", |settings, count| {
        settings.config(|config| config.max_control_frames(100, small(count)))
    }),
    ("max_control_frames, both", |settings, count| {
        settings.config(|config| config.max_control_frames(small(count), small(count)))
    }),
    ("max_inbox, messages", |settings, count| {
        settings.config(|config| config.max_inbox(count, 64 * 1024))
    }),
    ("max_inbox, bytes", |settings, count| {
        settings.config(|config| config.max_inbox(16, count))
    }),
    ("max_inbox, both", |settings, count| {
        settings.config(|config| config.max_inbox(count, count))
    }),
    ("max_outbox, messages", |settings, count| {
        settings.config(|config| config.max_outbox(count, 64 * 1024))
    }),
    ("max_outbox, bytes", |settings, count| {
        settings.config(|config| config.max_outbox(16, count))
    }),
    ("max_outbox, both", |settings, count| {
        settings.config(|config| config.max_outbox(count, count))
    }),
    // 0 would refuse all connections, so the minimum here is 1.
    ("max_connections", |settings, count| {
        settings.connections(|connections| connections.max_connections(count.max(1)))
    }),
];

pub(crate) fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(crate) const TIMES: [Duration; 3] = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
pub(crate) const NUMBERS: [usize; 3] = [0, 1, usize::MAX];
