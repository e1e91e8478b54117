//! Keepalive: when a silent peer is pinged, and when it is taken for gone.
//!
//! Decides with the time as an argument; sending the ping and dropping the connection is left to
//! the floors above. A connection on which nothing moves looks the same whether its peer is idle or
//! lost its network an hour ago: only a ping that has to be answered tells them apart
//! ([RFC 6455 §5.5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.2)).

use std::time::Duration;

use crate::time::Moment;

/// When pings are sent, and how long their answers may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Intervals {
    /// The silence after which a ping is sent.
    pub(crate) silence: Duration,
    /// The time the peer has for the matching pong.
    pub(crate) answer: Duration,
}

/// What is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Due {
    /// Nothing before this moment.
    Later(Moment),
    /// A ping with this payload.
    Ping([u8; 8]),
    /// The end: the peer has not answered in time.
    Gone,
}

/// What a pong answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pong {
    /// The ping whose answer is waited for, after this time.
    Awaited(Duration),
    /// A ping whose answer is not waited for any more.
    Late,
    /// No ping of ours.
    Unasked,
}

/// The watch over one peer.
#[derive(Debug)]
pub(crate) struct Keepalive {
    heard: Moment,
    /// When the ping was sent that waits for its pong.
    pinged: Option<Moment>,
    /// How much longer than usual the pong to that ping may take, in milliseconds.
    longer: u32,
    /// The payload of the last ping.
    nonce: u64,
    /// The payload of the last ping that was answered, or of none.
    answered: u64,
}

impl Keepalive {
    /// Starts the watch. `seed` is what the payloads of the pings start from: an unguessable one
    /// keeps a peer from answering a ping before it has arrived.
    pub(crate) const fn new(seed: u64, now: Moment) -> Self {
        Self {
            heard: now,
            pinged: None,
            longer: 0,
            nonce: seed,
            answered: seed,
        }
    }

    /// Notes that bytes have arrived, which ends the silence but answers no ping.
    pub(crate) const fn heard(&mut self, now: Moment) {
        self.heard = now;
    }

    /// Notes that a message is arriving, or that nothing was listened for: no answer is due.
    ///
    /// A pong cannot overtake the frame that a peer is in the middle of sending, nor can it be
    /// seen while reading is paused.
    pub(crate) const fn excuse(&mut self, now: Moment) {
        self.heard = now;
        self.pinged = None;
    }

    /// Takes a pong, and returns whether it answers a ping of ours.
    ///
    /// Only the payload of that ping proves anything: others may have been sent by a peer, or a proxy,
    /// that never saw a ping. Each ping can be answered once, also after [`excuse`](Self::excuse),
    /// unless a later one was answered before it.
    pub(crate) fn pong(&mut self, payload: &[u8], now: Moment) -> Pong {
        let Ok(payload) = <[u8; 8]>::try_from(payload) else {
            return Pong::Unasked;
        };
        let nonce = u64::from_be_bytes(payload);
        // The payloads are consecutive numbers, which may wrap around.
        if self.nonce.wrapping_sub(nonce) >= self.nonce.wrapping_sub(self.answered) {
            return Pong::Unasked;
        }
        self.answered = nonce;
        self.heard = now;
        match self.pinged.take_if(|_| nonce == self.nonce) {
            Some(sent) => Pong::Awaited(now.since(sent)),
            None => Pong::Late,
        }
    }

    /// Says what is due. A ping that it returns counts as sent.
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
        self.longer = 0;
        Due::Ping(self.nonce.to_be_bytes())
    }

    /// Gives the pong to the ping that was just sent so much more time: the peer has to read what was
    /// written before the ping first.
    pub(crate) fn wait_longer(&mut self, longer: Duration) {
        self.longer = u32::try_from(longer.as_millis()).unwrap_or(u32::MAX);
    }

    /// Returns whether a ping waits for its pong.
    pub(crate) const fn is_waiting(&self) -> bool {
        self.pinged.is_some()
    }

    /// Returns when something is due next.
    pub(crate) fn deadline(&self, intervals: Intervals) -> Moment {
        match self.pinged {
            Some(sent) => sent + intervals.answer + Duration::from_millis(self.longer.into()),
            None => self.heard + intervals.silence,
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
        let mut watch = Keepalive::new(7, now);
        match watch.poll(now + 20 * SECOND, INTERVALS) {
            Due::Ping(payload) => (watch, payload),
            due => panic!("{due:?}"),
        }
    }

    #[test]
    fn pings_after_the_silence_and_not_before() {
        let start = Moment::now();
        let mut watch = Keepalive::new(7, start);
        assert_eq!(
            watch.poll(start, INTERVALS),
            Due::Later(start + 20 * SECOND)
        );
        watch.heard(start + 15 * SECOND);
        assert_eq!(
            watch.poll(start + 20 * SECOND, INTERVALS),
            Due::Later(start + 35 * SECOND)
        );
        assert!(matches!(
            watch.poll(start + 35 * SECOND, INTERVALS),
            Due::Ping(_)
        ));
    }

    #[test]
    fn gives_up_when_the_pong_does_not_come() {
        let start = Moment::now();
        let (mut watch, _) = pinged(start);
        assert_eq!(
            watch.poll(start + 29 * SECOND, INTERVALS),
            Due::Later(start + 30 * SECOND)
        );
        assert_eq!(watch.poll(start + 30 * SECOND, INTERVALS), Due::Gone);
    }

    #[test]
    fn is_satisfied_by_the_matching_pong_and_measures_it() {
        let start = Moment::now();
        let (mut watch, payload) = pinged(start);
        let round_trip = watch.pong(&payload, start + 23 * SECOND);
        assert_eq!(round_trip, Pong::Awaited(3 * SECOND));
        assert_eq!(
            watch.poll(start + 30 * SECOND, INTERVALS),
            Due::Later(start + 43 * SECOND)
        );
    }

    #[test]
    fn learns_nothing_from_any_other_pong() {
        let start = Moment::now();
        let (mut watch, payload) = pinged(start);
        for other in [&payload[..7], b"", &[0; 8], &[payload, payload].concat()] {
            assert_eq!(watch.pong(other, start + 21 * SECOND), Pong::Unasked);
            watch.heard(start + 21 * SECOND);
        }
        assert_eq!(watch.poll(start + 30 * SECOND, INTERVALS), Due::Gone);
    }

    #[test]
    fn never_pings_twice_with_the_same_payload() {
        let start = Moment::now();
        let (mut watch, first) = pinged(start);
        let _ = watch.pong(&first, start + 20 * SECOND);
        match watch.poll(start + 40 * SECOND, INTERVALS) {
            Due::Ping(second) => assert_ne!(first, second),
            due => panic!("{due:?}"),
        }
        assert_eq!(watch.pong(&first, start + 41 * SECOND), Pong::Unasked);
        assert_eq!(watch.poll(start + 50 * SECOND, INTERVALS), Due::Gone);
    }

    /// Wherever the payloads begin, also where counting them up starts again at 0.
    #[test]
    fn knows_the_answers_that_nobody_waits_for_any_more_once_each() {
        for seed in [0, 7, u64::MAX, u64::MAX - 1] {
            let mut now = Moment::now();
            let mut watch = Keepalive::new(seed, now);
            let none = seed.to_be_bytes();
            assert_eq!(watch.pong(&none, now), Pong::Unasked, "no ping was sent");
            let mut pings = Vec::new();
            for _ in 0..3 {
                now += 20 * SECOND;
                match watch.poll(now, INTERVALS) {
                    Due::Ping(payload) => pings.push(payload),
                    due => panic!("{due:?}"),
                }
                watch.excuse(now);
            }
            let next = seed.wrapping_add(4).to_be_bytes();
            assert_eq!(watch.pong(&next, now), Pong::Unasked, "it comes later");
            assert_eq!(watch.pong(&pings[1], now), Pong::Late);
            for known in &pings[..2] {
                assert_eq!(watch.pong(known, now), Pong::Unasked, "after a later one");
            }
            assert_eq!(watch.pong(&pings[2], now), Pong::Late);
            assert_eq!(watch.pong(&pings[2], now), Pong::Unasked, "a second time");
        }
    }

    #[test]
    fn waits_longer_for_the_pong_to_one_ping() {
        let start = Moment::now();
        let (mut watch, payload) = pinged(start);
        watch.wait_longer(5 * SECOND);
        assert_eq!(
            watch.poll(start + 30 * SECOND, INTERVALS),
            Due::Later(start + 35 * SECOND)
        );
        let _ = watch.pong(&payload, start + 34 * SECOND);
        let next = watch.poll(start + 54 * SECOND, INTERVALS);
        assert!(matches!(next, Due::Ping(_)), "{next:?}");
        assert_eq!(watch.poll(start + 64 * SECOND, INTERVALS), Due::Gone);
    }

    #[test]
    fn excuses_a_peer_that_is_sending_a_message() {
        let start = Moment::now();
        let (mut watch, _) = pinged(start);
        watch.excuse(start + 29 * SECOND);
        assert_eq!(
            watch.poll(start + 30 * SECOND, INTERVALS),
            Due::Later(start + 49 * SECOND)
        );
    }
}
