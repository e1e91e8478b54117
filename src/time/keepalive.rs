//! Keepalive: decides when to ping a silent peer, and when to give it up.
//!
//! The caller sends the ping and drops the connection. An idle peer and a peer that lost its network look
//! the same. Only the pong to a ping shows that the peer is still there
//! ([RFC 6455 §5.5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.2)).

use std::time::Duration;

use crate::time::Moment;

/// The two intervals of the keepalive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Intervals {
    /// After this silence a ping is sent.
    pub(crate) silence: Duration,
    /// The timeout for the matching pong.
    pub(crate) answer: Duration,
}

/// The next action.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Due {
    /// Wait until this moment.
    Later(Moment),
    /// Send a ping with this payload.
    Ping([u8; 8]),
    /// Drop the connection: the pong did not arrive in time.
    Gone,
}

/// The ping that a pong belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pong {
    /// The pending ping, with the round-trip time.
    Expected(Duration),
    /// An earlier ping, whose pong is no longer expected.
    Late,
    /// No ping of ours.
    Unsolicited,
}

/// The keepalive of one peer. Every message needs the first two fields.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Keepalive {
    /// When the peer was last active.
    last_active: Moment,
    /// When the pending ping was sent, if there is one.
    pinged: Option<Moment>,
    /// Extra time for the pong to the pending ping, in milliseconds.
    extra_millis: u32,
    /// The payload of the last ping.
    nonce: u64,
    /// The payload of the last answered ping; at first, the seed.
    answered: u64,
}

impl Keepalive {
    /// Starts the keepalive. The payloads of the pings count up from `seed`. The seed must be
    /// unguessable: otherwise a peer could answer a ping before it arrives.
    pub(crate) const fn new(seed: u64, now: Moment) -> Self {
        Self {
            last_active: now,
            pinged: None,
            extra_millis: 0,
            nonce: seed,
            answered: seed,
        }
    }

    /// Notes that bytes have arrived. They end the silence, but they do not answer a ping.
    pub(crate) const fn mark_active(&mut self, now: Moment) {
        self.last_active = now;
    }

    /// Stops waiting for a pong. The caller uses it while a message arrives or reading is paused.
    ///
    /// A peer cannot send a pong in the middle of a frame, and a pong is not read while reading is paused.
    pub(crate) const fn cancel_ping(&mut self, now: Moment) {
        self.last_active = now;
        self.pinged = None;
    }

    /// Takes a pong, and returns which ping it answers.
    ///
    /// Only the payload of a ping proves that the peer received it: a peer or a proxy may also send pongs
    /// on its own. Each ping can be answered once, even after [`cancel_ping`](Self::cancel_ping), unless a
    /// later ping was answered before.
    pub(crate) fn pong(&mut self, payload: &[u8], now: Moment) -> Pong {
        let Ok(payload) = <[u8; 8]>::try_from(payload) else {
            return Pong::Unsolicited;
        };
        let nonce = u64::from_be_bytes(payload);
        // The payloads are consecutive numbers and may wrap around.
        if self.nonce.wrapping_sub(nonce) >= self.nonce.wrapping_sub(self.answered) {
            return Pong::Unsolicited;
        }
        self.answered = nonce;
        self.last_active = now;
        match self.pinged.take_if(|_| nonce == self.nonce) {
            Some(sent) => Pong::Expected(now.since(sent)),
            None => Pong::Late,
        }
    }

    /// Returns a mark between the pings sent so far and later ones.
    pub(crate) const fn mark(&self) -> u64 {
        self.nonce
    }

    /// Returns whether the last answered ping was sent after `mark`.
    pub(crate) const fn has_answer_after(&self, mark: u64) -> bool {
        self.nonce.wrapping_sub(self.answered) < self.nonce.wrapping_sub(mark)
    }

    /// Records the pong to another ping, which was sent at `mark`. It also answers the pending ping if that was sent
    /// before `mark`: a peer may answer only the newest of several pings
    /// ([RFC 6455 §5.5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.3)).
    pub(crate) fn settle(&mut self, mark: u64, now: Moment) {
        if self.nonce == mark {
            self.cancel_ping(now);
        }
    }

    /// Returns the next action. A returned ping counts as sent.
    pub(crate) fn poll(&mut self, now: Moment, intervals: Intervals) -> Due {
        let due = self.deadline(intervals);
        if now < due {
            return Due::Later(due);
        }
        if self.pinged.is_some() {
            return Due::Gone;
        }
        self.nonce = self.nonce.wrapping_add(1);
        self.pinged = Some(now);
        self.extra_millis = 0;
        Due::Ping(self.nonce.to_be_bytes())
    }

    /// Adds time to the timeout of the pending ping: the peer first has to read the bytes written before
    /// that ping.
    pub(crate) fn extend_timeout(&mut self, extra: Duration) {
        self.extra_millis = u32::try_from(extra.as_millis()).unwrap_or(u32::MAX);
    }

    /// Returns whether a ping is pending.
    pub(crate) const fn is_waiting(&self) -> bool {
        self.pinged.is_some()
    }

    /// Returns when the next ping, or the pong to the pending one, is due.
    pub(crate) fn deadline(&self, intervals: Intervals) -> Moment {
        match self.pinged {
            Some(sent) => sent + intervals.answer + Duration::from_millis(self.extra_millis.into()),
            None => self.last_active + intervals.silence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const INTERVALS: Intervals = Intervals {
        silence: Duration::from_secs(20),
        answer: Duration::from_secs(10),
    };

    fn pinged(now: Moment) -> (Keepalive, [u8; 8]) {
        let mut keepalive = Keepalive::new(7, now);
        match keepalive.poll(now + 20 * SECOND, INTERVALS) {
            Due::Ping(payload) => (keepalive, payload),
            due => panic!("{due:?}"),
        }
    }

    #[test]
    fn pings_after_the_silence() {
        let start = Moment::now();
        let mut keepalive = Keepalive::new(7, start);
        assert_eq!(
            keepalive.poll(start, INTERVALS),
            Due::Later(start + 20 * SECOND)
        );
        keepalive.mark_active(start + 15 * SECOND);
        assert_eq!(
            keepalive.poll(start + 20 * SECOND, INTERVALS),
            Due::Later(start + 35 * SECOND)
        );
        assert!(matches!(
            keepalive.poll(start + 35 * SECOND, INTERVALS),
            Due::Ping(_)
        ));
    }

    #[test]
    fn gives_up_if_the_pong_does_not_arrive() {
        let start = Moment::now();
        let (mut keepalive, _) = pinged(start);
        assert_eq!(
            keepalive.poll(start + 29 * SECOND, INTERVALS),
            Due::Later(start + 30 * SECOND)
        );
        assert_eq!(keepalive.poll(start + 30 * SECOND, INTERVALS), Due::Gone);
    }

    #[test]
    fn measures_the_round_trip_of_the_matching_pong() {
        let start = Moment::now();
        let (mut keepalive, payload) = pinged(start);
        let round_trip = keepalive.pong(&payload, start + 23 * SECOND);
        assert_eq!(round_trip, Pong::Expected(3 * SECOND));
        assert_eq!(
            keepalive.poll(start + 30 * SECOND, INTERVALS),
            Due::Later(start + 43 * SECOND)
        );
    }

    #[test]
    fn ignores_pongs_with_another_payload() {
        let start = Moment::now();
        let (mut keepalive, payload) = pinged(start);
        for other in [&payload[..7], b"", &[0; 8], &[payload, payload].concat()] {
            assert_eq!(
                keepalive.pong(other, start + 21 * SECOND),
                Pong::Unsolicited
            );
            keepalive.mark_active(start + 21 * SECOND);
        }
        assert_eq!(keepalive.poll(start + 30 * SECOND, INTERVALS), Due::Gone);
    }

    #[test]
    fn never_pings_twice_with_the_same_payload() {
        let start = Moment::now();
        let (mut keepalive, first) = pinged(start);
        let _ = keepalive.pong(&first, start + 20 * SECOND);
        match keepalive.poll(start + 40 * SECOND, INTERVALS) {
            Due::Ping(second) => assert_ne!(first, second),
            due => panic!("{due:?}"),
        }
        assert_eq!(
            keepalive.pong(&first, start + 41 * SECOND),
            Pong::Unsolicited
        );
        assert_eq!(keepalive.poll(start + 50 * SECOND, INTERVALS), Due::Gone);
    }

    /// The seeds include those whose payloads wrap around to 0.
    #[test]
    fn accepts_a_late_pong_once_for_each_ping() {
        for seed in [0, 7, u64::MAX, u64::MAX - 1] {
            let mut now = Moment::now();
            let mut keepalive = Keepalive::new(seed, now);
            let seed_payload = seed.to_be_bytes();
            assert_eq!(
                keepalive.pong(&seed_payload, now),
                Pong::Unsolicited,
                "no ping was sent"
            );
            let mut pings = Vec::new();
            for _ in 0..3 {
                now += 20 * SECOND;
                match keepalive.poll(now, INTERVALS) {
                    Due::Ping(payload) => pings.push(payload),
                    due => panic!("{due:?}"),
                }
                keepalive.cancel_ping(now);
            }
            let next = seed.wrapping_add(4).to_be_bytes();
            assert_eq!(
                keepalive.pong(&next, now),
                Pong::Unsolicited,
                "not sent yet"
            );
            assert_eq!(keepalive.pong(&pings[1], now), Pong::Late);
            for known in &pings[..2] {
                assert_eq!(
                    keepalive.pong(known, now),
                    Pong::Unsolicited,
                    "a later ping was answered"
                );
            }
            assert_eq!(keepalive.pong(&pings[2], now), Pong::Late);
            assert_eq!(
                keepalive.pong(&pings[2], now),
                Pong::Unsolicited,
                "a second time"
            );
        }
    }

    /// The seeds include those whose payloads wrap around to 0.
    #[test]
    fn another_ping_settles_only_the_ping_before_it() {
        for seed in [0, u64::MAX, u64::MAX - 1] {
            let start = Moment::now();
            let mut keepalive = Keepalive::new(seed, start);
            let before = keepalive.mark();
            assert!(!keepalive.has_answer_after(before), "no ping was sent");
            let Due::Ping(payload) = keepalive.poll(start + 20 * SECOND, INTERVALS) else {
                panic!("a ping is due");
            };
            let after = keepalive.mark();
            assert!(!keepalive.has_answer_after(before), "not answered");
            // A pong to a ping from before proves nothing about this one.
            keepalive.settle(before, start + 21 * SECOND);
            assert!(keepalive.is_waiting());
            keepalive.settle(after, start + 22 * SECOND);
            let due = keepalive.poll(start + 30 * SECOND, INTERVALS);
            assert_eq!(due, Due::Later(start + 42 * SECOND));
            assert_eq!(keepalive.pong(&payload, start + 31 * SECOND), Pong::Late);
            assert!(keepalive.has_answer_after(before));
            assert!(!keepalive.has_answer_after(after));
        }
    }

    #[test]
    fn extends_the_timeout_of_one_ping() {
        let start = Moment::now();
        let (mut keepalive, payload) = pinged(start);
        keepalive.extend_timeout(5 * SECOND);
        assert_eq!(
            keepalive.poll(start + 30 * SECOND, INTERVALS),
            Due::Later(start + 35 * SECOND)
        );
        let _ = keepalive.pong(&payload, start + 34 * SECOND);
        let next = keepalive.poll(start + 54 * SECOND, INTERVALS);
        assert!(matches!(next, Due::Ping(_)), "{next:?}");
        assert_eq!(keepalive.poll(start + 64 * SECOND, INTERVALS), Due::Gone);
    }

    #[test]
    fn expects_no_pong_after_the_ping_is_cancelled() {
        let start = Moment::now();
        let (mut keepalive, _) = pinged(start);
        keepalive.cancel_ping(start + 29 * SECOND);
        assert_eq!(
            keepalive.poll(start + 30 * SECOND, INTERVALS),
            Due::Later(start + 49 * SECOND)
        );
    }
}
