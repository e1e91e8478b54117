//! What rooms log about slow members: once a second and room.

use std::time::Duration;

use super::config::Overflow;
use crate::time::Moment;
#[cfg(feature = "tracing")]
use crate::words::header::Visible;

/// The shortest time between two log lines of a room.
const INTERVAL: Duration = Duration::from_secs(1);

/// What slow members of a room have missed since the last log line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Missed {
    lost: u64,
    disconnected: u64,
    last: Option<Moment>,
}

/// What is to be logged without a lock.
#[derive(Clone, Copy, Debug)]
#[must_use = "it has to be logged"]
#[cfg_attr(
    not(feature = "tracing"),
    allow(dead_code, reason = "used only in the log")
)]
pub(super) struct Line {
    lost: u64,
    disconnected: u64,
}

impl Missed {
    pub(super) const fn add(&mut self, lost: u64, disconnected: u64) {
        self.lost += lost;
        self.disconnected += disconnected;
    }

    /// Returns the next line, if it is due.
    pub(super) fn due(&mut self, now: impl FnOnce() -> Moment) -> Option<Line> {
        if self.lost | self.disconnected == 0 {
            return None;
        }
        let now = now();
        let is_due = self.last.is_none_or(|last| now.since(last) >= INTERVAL);
        let line = is_due.then(|| self.rest()).flatten()?;
        self.last = Some(now);
        Some(line)
    }

    /// Returns the last line, because the room has ended.
    pub(super) fn rest(&mut self) -> Option<Line> {
        let (lost, disconnected) = (self.lost, self.disconnected);
        (self.lost, self.disconnected) = (0, 0);
        (lost | disconnected > 0).then_some(Line { lost, disconnected })
    }
}

impl Line {
    /// Logs that members of a room are slow. The subscriber's code runs: no lock may be held.
    #[cfg_attr(
        not(feature = "tracing"),
        expect(unused_variables, reason = "used only in the log")
    )]
    pub(super) fn log(self, room: &str, overflow: Overflow) {
        #[cfg(feature = "tracing")]
        {
            let policy = match overflow {
                Overflow::Disconnect(_) => "disconnect",
                Overflow::DropOldest => "drop_oldest",
                Overflow::DropNewest => "drop_newest",
                Overflow::Latest => "latest",
                Overflow::CatchUp => "catch_up",
            };
            tracing::debug!(
                room = %Visible(room.as_bytes()),
                policy,
                lost = self.lost,
                disconnected = self.disconnected,
                "members of a room are too slow"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::now;

    #[test]
    fn a_line_is_due_once_a_second_and_has_what_was_missed_since() {
        let start = now();
        let mut missed = Missed::default();
        let figures = |line: Line| (line.lost, line.disconnected);
        assert!(missed.due(|| start).is_none());
        missed.add(3, 0);
        assert_eq!(missed.due(|| start).map(figures), Some((3, 0)));
        missed.add(4, 1);
        assert!(missed.due(|| start + INTERVAL / 2).is_none());
        missed.add(1, 0);
        assert_eq!(missed.due(|| start + INTERVAL).map(figures), Some((5, 1)));
        assert!(missed.due(|| start + 3 * INTERVAL).is_none());
        missed.add(2, 0);
        assert_eq!(missed.rest().map(figures), Some((2, 0)));
        assert!(missed.rest().is_none());
    }
}
