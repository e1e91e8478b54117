//! The reference model of a connection: plain data, without a codec and without its own locks.
//!
//! Both ends report their actions and the results of the API. Where several results are legal, the
//! returned one decides: if `send` returned `Ok`, the message has to arrive once, in the order of its
//! sender. If `send` returned `Err`, it must not arrive.
//!
//! An end needs a cause. Each possible cause becomes a [`Candidate`]. Each piece of evidence (the messages
//! that the handler received, the code that the peer read, the result of `Sender::closed`) removes the
//! candidates that it contradicts, and one has to be left. No candidate is added after the connection is
//! known to have ended. Usually there is one candidate, so the expected code is exact.

#[path = "incoming.rs"]
mod incoming;
#[path = "outgoing.rs"]
mod outgoing;
#[path = "rest.rs"]
mod rest;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tower_websocket::Closed;

use super::words::{Cause, INBOX_LIMIT, Limits, Place, SENDERS};

/// The time that an end waits for answers to earlier messages.
const GRACE: Duration = Duration::from_secs(1);
/// Bytes of a Close and of some pings, which the model does not count one by one.
const CONTROL: usize = 200;
/// The number of steps that a failure prints.
const LOG: usize = 120;
/// More polls of the stream than any step needs.
const SPINNING: usize = 1_000_000;

/// A cause that may have ended the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    cause: Cause,
    since: Instant,
    /// The number of the peer's messages that are received before the end.
    sent: u32,
}

/// The events that an actor waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waits {
    pub(crate) message: bool,
    /// Room to send, or everything to be written.
    pub(crate) room: bool,
    pub(crate) end: bool,
}

pub(crate) struct Oracle {
    limits: Limits,
    place: Place,
    opened: Instant,

    // Towards the peer.
    /// The number of messages that were passed to any `send`. Each message has its own number.
    attempts: u32,
    /// Accepted messages of each sender that the peer has not read yet.
    accepted: [VecDeque<u32>; SENDERS],
    /// Upper bound of the bytes that the peer has not read yet.
    outstanding: usize,
    /// Bytes of messages that were accepted, and all bytes that the peer has read.
    accepted_bytes: usize,
    read_bytes: usize,
    /// Output may have been blocked since the peer last read everything.
    blockable: bool,
    /// Pings up to this number may have no pong, because output may have been blocked.
    skippable: u32,
    pings: u32,
    pongs: u32,
    /// When the peer last read a byte.
    last_read: Instant,
    /// Output may have been blocked for too long.
    stalled: bool,
    /// When the peer last read a byte, as far as the connection must have noticed.
    noticed_read: Instant,

    // From the peer.
    /// Messages that the peer has written, and that the holder has received.
    sent: u32,
    received: u32,
    /// Lengths of the messages between the two.
    unreceived: VecDeque<usize>,
    last_received: Instant,
    /// When the peer last wrote something that keepalive counts.
    last_heard: Instant,
    /// When the peer began the message or frame that it has not completed.
    begun: Option<Instant>,
    /// When the first message or frame began that the connection may have read only a part of, and
    /// how many messages the peer had written then.
    unread: Option<(Instant, u32)>,
    /// The connection has certainly read nothing since then.
    paused: Option<Instant>,
    /// The part of the time since the message began that does not count against the peer.
    excused: Duration,
    /// A message may have been too slow.
    slow: bool,

    // The ends.
    handler_runs: bool,
    /// The socket was dropped; the value says whether in a panic.
    socket_gone: Option<bool>,
    /// The messages that were received when `recv` was last pending.
    asked: u32,
    /// `recv` has returned `None` or an error.
    told: bool,
    /// `recv` has returned an error.
    fault_told: bool,
    /// This side has asked for a Close. Nothing is accepted from then on.
    closing: bool,
    /// Something was refused because the connection is closing.
    refused: bool,
    /// The peer has begun a violation.
    violates: bool,
    /// The peer has written a violation to its last byte.
    violated: bool,
    peer_closed: Option<Instant>,
    fin: bool,
    reset: bool,
    /// When the peer read our Close.
    close_seen: Option<Instant>,
    eof_seen: bool,
    closed: Option<Closed>,
    /// The latest time at which the connection had read the peer's last bytes.
    noticed: Option<Instant>,
    causes: Vec<Candidate>,
    /// The connection is known to have ended: no cause is added any more.
    frozen: bool,

    /// How often the stream was polled in this step.
    polls: usize,
    pub(crate) waits: [Waits; SENDERS],
    pub(crate) gone: [bool; SENDERS],
    failure: Option<String>,
    log: VecDeque<(Instant, &'static str, i64)>,
}

/// The model, shared by all tasks that report to it.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Oracle>>);

impl Shared {
    pub(crate) fn new(limits: Limits, place: Place) -> Self {
        Self(Arc::new(Mutex::new(Oracle::new(limits, place))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Oracle> {
        // The test may panic while other tasks still hold the model.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Panics with the last steps if anything was found to be wrong.
    pub(crate) fn check(&self) {
        let report = self.lock().report();
        if let Some(report) = report {
            panic!("{report}");
        }
    }
}

impl Oracle {
    fn new(limits: Limits, place: Place) -> Self {
        let now = Instant::now();
        let pieces = limits.pieces;
        Self {
            limits,
            place,
            opened: now,
            attempts: 0,
            accepted: Default::default(),
            outstanding: 0,
            accepted_bytes: 0,
            read_bytes: 0,
            blockable: pieces,
            skippable: 0,
            pings: 0,
            pongs: 0,
            last_read: now,
            stalled: false,
            noticed_read: now,
            sent: 0,
            received: 0,
            unreceived: VecDeque::new(),
            last_received: now,
            last_heard: now,
            begun: None,
            unread: None,
            paused: None,
            excused: Duration::ZERO,
            slow: false,
            handler_runs: place != Place::Alone,
            socket_gone: None,
            asked: 0,
            told: false,
            fault_told: false,
            closing: false,
            refused: false,
            violates: false,
            violated: false,
            peer_closed: None,
            fin: false,
            reset: false,
            close_seen: None,
            eof_seen: false,
            closed: None,
            noticed: None,
            causes: Vec::new(),
            frozen: false,
            polls: 0,
            waits: Default::default(),
            gone: Default::default(),
            failure: None,
            log: VecDeque::new(),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    // Failures.

    /// Adds a line to what a failure prints.
    pub(crate) fn note(&mut self, what: &'static str, number: impl TryInto<i64>) {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        let number = number.try_into().unwrap_or(-1);
        self.log.push_back((Instant::now(), what, number));
    }

    fn fail(&mut self, what: String) {
        self.note("FAILS HERE", 0);
        self.failure.get_or_insert(what);
    }

    /// Begins a step of the session.
    pub(crate) fn step(&mut self) {
        self.polls = 0;
    }

    /// All tasks sleep.
    pub(crate) fn settle(&mut self) {
        self.noticed_read = self.last_read;
        if self.is_paused() && self.is_open() {
            self.paused.get_or_insert(Instant::now());
        } else {
            self.resume();
        }
        if self.outstanding + CONTROL <= self.limits.capacity {
            self.catch_up();
        }
    }

    /// All tasks sleep, and output is not blocked: with room in the inbox, the connection has read
    /// everything.
    fn catch_up(&mut self) {
        if self.has_room() {
            self.unread = self.begun.map(|begun| (begun, self.sent));
        }
    }

    /// Returns whether the connection reads nothing when all tasks sleep.
    fn is_paused(&self) -> bool {
        let unread = self.accepted_bytes.saturating_sub(self.read_bytes);
        // The connection reads until a message finds no room.
        unread > self.limits.capacity
    }

    /// The connection may read again.
    fn resume(&mut self) {
        self.excused = self.excused();
        self.paused = None;
    }

    fn excused(&self) -> Duration {
        self.excused + self.paused.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Counts a poll of the stream.
    ///
    /// # Errors
    ///
    /// If the connection polls the stream endlessly. The error ends the step.
    pub(crate) fn poll_stream(&mut self) -> io::Result<()> {
        self.polls += 1;
        if self.polls < SPINNING {
            return Ok(());
        }
        self.fail("the connection spins".to_owned());
        Err(io::ErrorKind::Other.into())
    }

    /// Records a failure unless `holds`. The panic comes later, because the connection would catch it here.
    pub(crate) fn ensure(&mut self, holds: bool, what: impl FnOnce(&Self) -> String) {
        if !holds {
            let what = what(self);
            self.fail(what);
        }
    }

    fn report(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        let mut steps = String::new();
        for (at, what, number) in &self.log {
            let at = (*at - self.opened).as_secs_f64();
            steps += &format!("{at:>9.3} s  {what} {number}\n");
        }
        Some(format!(
            "{steps}\n{failure}\n{:?}, {:?}\nmay have ended it: {:?}\nended: {:?}",
            self.place, self.limits, self.causes, self.closed
        ))
    }

    // Causes.

    /// Adds a cause.
    fn begin(&mut self, cause: Cause) {
        self.begin_at(cause, Instant::now());
    }

    fn begin_at(&mut self, cause: Cause, since: Instant) {
        self.begin_behind(cause, since, self.sent);
    }

    fn begin_behind(&mut self, cause: Cause, since: Instant, sent: u32) {
        let known = self.causes.iter().any(|known| known.cause == cause);
        if !self.frozen && !known && since <= Instant::now() {
            self.causes.push(Candidate { cause, since, sent });
        }
    }

    /// Adds the Close of this side. Only the first one counts.
    fn close_now(&mut self, code: u16) {
        if self.closing {
            return;
        }
        self.look_at_clock();
        let only = self.causes.is_empty();
        self.begin(Cause::Local(code));
        self.closing = true;
        // A Close of this side takes effect before any later event.
        self.frozen |= only;
    }

    /// Adds the causes that may have arisen from the passing of time.
    pub(crate) fn look_at_clock(&mut self) {
        if self.frozen {
            return;
        }
        if let Some((silence, answer)) = self.limits.keepalive {
            self.begin_at(Cause::Unresponsive, self.last_heard + silence + answer);
        }
        if self.may_be_stalled() {
            self.begin_at(Cause::Stalled, self.stalled_at());
        }
        if let Some((begun, sent)) = self.unread {
            let late = begun + self.limits.assembly + self.excused();
            self.begin_behind(Cause::TooSlow, late, sent);
        }
        if let Some(lifetime) = self.limits.lifetime {
            self.begin_at(Cause::Lifetime, self.opened + lifetime);
        }
        if !self.has_room() {
            self.begin_at(Cause::Neglected, self.last_received + INBOX_LIMIT);
        }
    }

    /// Returns whether the peer has not completed a message in time.
    fn is_slow(&self) -> bool {
        let limit = self.limits.assembly + self.excused();
        let unread = self.unread;
        unread.is_some_and(|(begun, _)| Instant::now() >= begun + limit)
    }

    /// Returns whether output may be blocked.
    fn may_be_full(&self) -> bool {
        self.limits.pieces || self.outstanding + CONTROL > self.limits.capacity
    }

    fn may_be_stalled(&self) -> bool {
        self.stalled || (self.may_be_full() && Instant::now() >= self.stalled_at())
    }

    fn stalled_at(&self) -> Instant {
        self.last_read + self.limits.write
    }

    /// Takes evidence that the connection has ended, and removes the causes that do not fit.
    fn ended(&mut self, evidence: &str, fits: impl Fn(Cause) -> bool) {
        self.look_at_clock();
        let before = self.causes.clone();
        self.causes.retain(|candidate| fits(candidate.cause));
        self.frozen = true;
        let explained = !self.causes.is_empty();
        self.ensure(explained, |_| {
            format!("{evidence}, which none of these explains: {before:?}")
        });
        let early = self.holds_back();
        self.ensure(!early, |_| {
            format!("{evidence}, before the holder had its time to answer what came before")
        });
    }

    /// Returns whether a violation or the end of the stream has to wait for the holder's answers.
    fn holds_back(&self) -> bool {
        let has_time = match self.place {
            Place::Alone => true,
            Place::Inside => false,
            Place::Moved | Place::Awaited | Place::Left => true,
        };
        let now = Instant::now();
        let grace = GRACE.min(self.limits.close);
        let waits = |candidate: &Candidate| {
            candidate.cause.is_of_the_stream() && now < candidate.since + grace
        };
        has_time
            && self.socket_gone.is_none()
            && self.asked < self.sent
            && !self.causes.is_empty()
            && self.causes.iter().all(waits)
    }

    /// Returns whether the inbox has room when all messages are delivered. Without it the connection
    /// may have stopped reading.
    pub(crate) fn has_room(&self) -> bool {
        let (messages, bytes) = self.limits.inbox;
        self.socket_gone.is_some()
            || (self.unreceived.len() < messages && self.unreceived.iter().sum::<usize>() < bytes)
    }

    /// Returns whether nothing may have ended the connection.
    pub(crate) fn is_open(&self) -> bool {
        self.causes.is_empty()
    }

    /// Returns whether the peer has begun a message or frame that is not complete.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.closed.is_some()
    }
}
