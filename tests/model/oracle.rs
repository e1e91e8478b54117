//! The reference model of a connection: plain data, without a codec and without locks of its own.
//!
//! Both ends report what they did and what the API returned. Where several results are legal, the
//! returned one decides: a message that `send` returned `Ok` for has to arrive, once and in the order
//! of its sender; one that it returned `Err` for must not.
//!
//! An end needs a cause. Whatever may end the connection becomes a [`Candidate`]; each piece of
//! evidence (what the handler received, which code the peer read, what `Sender::closed` returned)
//! removes the candidates that it contradicts, and one has to be left. No candidate is added once the
//! connection is known to have ended. Mostly there is a single candidate, and so the code is exact.

#[path = "rest.rs"]
mod rest;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tower_websocket::{Closed, Message, error::RecvError};

use super::words::{
    Cause, End, Fault, INBOX_LIMIT, Limits, Place, SENDERS, explains, message, name, peer_message,
    reason,
};

/// How long an end waits for the answers to what came before it.
const GRACE: Duration = Duration::from_secs(1);
/// Bytes of a Close and of some pings, which the model does not count one by one.
const CONTROL: usize = 200;
/// Steps that a failure prints.
const LOG: usize = 120;
/// More polls of the stream than any step needs.
const SPINNING: usize = 1_000_000;

/// A cause that may have ended the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    cause: Cause,
    since: Instant,
    /// Messages of the peer that are received before.
    sent: u32,
}

/// What an actor waits for.
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
    /// Messages that were offered to any `send`. Each has a number of its own.
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
    /// Pings up to this number may lack a pong of their own, because output may have been blocked.
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
    /// When the message or frame began of which the peer has written only a part.
    begun: Option<Instant>,
    /// When the first message or frame began that the connection may have read only a part of, and
    /// how many messages the peer had written then.
    unread: Option<(Instant, u32)>,
    /// The connection has certainly read nothing since then.
    paused: Option<Instant>,
    /// Of the time since the message began, what cannot be held against the peer.
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
    /// When the connection had read the peer's last words, at the latest.
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

/// The model, shared by all who report to it.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Oracle>>);

impl Shared {
    pub(crate) fn new(limits: Limits, place: Place) -> Self {
        Self(Arc::new(Mutex::new(Oracle::new(limits, place))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Oracle> {
        // The test panics while others still hold the model.
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
        // It reads on until a message finds no room.
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
    /// If the connection polls it without end, so that the step comes to an end all the same.
    pub(crate) fn poll_stream(&mut self) -> io::Result<()> {
        self.polls += 1;
        if self.polls < SPINNING {
            return Ok(());
        }
        self.fail("the connection spins".to_owned());
        Err(io::ErrorKind::Other.into())
    }

    /// Notes a failure unless `holds`. It panics later, since the connection would catch a panic.
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
        // A Close that this side asks for is acted on before anything that comes later.
        self.frozen |= only;
    }

    /// Adds the causes that time alone may have brought.
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

    /// Returns whether the peer has begun something that is not whole.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.closed.is_some()
    }

    // What this side sends.

    /// Makes the next message of a sender.
    pub(crate) fn attempt(&mut self, sender: usize) -> (u32, Message) {
        self.attempts += 1;
        let number = self.attempts;
        (number, message(sender, number, self.limits.largest))
    }

    /// A message was accepted: it has to arrive.
    pub(crate) fn accept(&mut self, sender: usize, number: u32) {
        self.note("accepted of sender", sender);
        let closing = self.closing || self.refused || self.fault_told || self.close_seen.is_some();
        self.ensure(!closing, |_| {
            format!("message {number} of sender {sender} was accepted behind the end")
        });
        // So no time had run out.
        if !self.frozen {
            self.causes.retain(|candidate| !candidate.cause.is_timed());
            (self.stalled, self.slow) = (false, false);
        }
        self.accepted[sender].push_back(number);
        let len = message(sender, number, self.limits.largest).len();
        self.accepted_bytes += 2 + len;
        self.write_to_peer(len + 10);
    }

    fn write_to_peer(&mut self, len: usize) {
        self.outstanding += len;
        if self.may_be_full() {
            self.blockable = true;
            self.skippable = self.pings;
        }
    }

    /// A message was refused because the connection is closing or gone.
    pub(crate) fn refuse(&mut self, sender: usize) {
        self.note("refused of sender", sender);
        self.refused = true;
        self.ended("a message was refused", |_| true);
        let only_peer = self
            .causes
            .iter()
            .all(|candidate| matches!(candidate.cause, Cause::Peer(_)));
        let early = only_peer && !self.may_answer_close();
        self.ensure(!early, |_| {
            "a message was refused while the handler could still answer".to_owned()
        });
    }

    /// A reply was refused that was sent in the same poll in which the message was received.
    pub(crate) fn refuse_reply(&mut self) {
        let by_peer = |cause: Cause| cause.is_of_the_stream() || matches!(cause, Cause::Peer(_));
        let early = self.causes.iter().all(|candidate| by_peer(candidate.cause));
        self.ensure(!early, |_| {
            "a reply in the turn of the message was refused".to_owned()
        });
    }

    /// Returns whether the peer's Close may have been answered by now.
    fn may_answer_close(&self) -> bool {
        let grace = GRACE.min(self.limits.close);
        let is_late = |closed: Instant| Instant::now() >= closed + grace;
        self.told
            || self.socket_gone.is_some()
            || self.closing
            || self.reset
            || self.peer_closed.is_some_and(is_late)
    }

    // What the peer reads.

    pub(crate) fn peer_read(&mut self, bytes: usize) {
        self.note("peer reads bytes:", bytes);
        self.look_at_clock();
        // What the peer reads now may have been written before.
        self.stalled |= self.may_be_stalled();
        self.resume();
        self.read_bytes += bytes;
        self.last_read = Instant::now();
        self.outstanding = self.outstanding.saturating_sub(bytes);
    }

    /// The peer has read a message, which has to be the next one of its sender.
    pub(crate) fn arrive(&mut self, text: bool, payload: &[u8]) {
        let (sender, number) = name(payload);
        self.note("peer reads a message of", sender);
        let known = sender < SENDERS;
        self.ensure(known, |_| format!("a message of sender {sender}"));
        if !known {
            return;
        }
        let next = self.accepted[sender].pop_front();
        self.ensure(next == Some(number), |_| {
            format!("message {number} of sender {sender} arrived, not {next:?}")
        });
        let expected = message(sender, number, self.limits.largest);
        let same = payload == expected.as_bytes() && text == expected.is_text();
        self.ensure(same, |_| {
            format!("message {number} of sender {sender} is torn")
        });
    }

    /// The peer has read a pong.
    pub(crate) fn pong(&mut self, number: u32) {
        self.note("peer reads pong", number);
        let (pongs, pings) = (self.pongs, self.pings);
        self.ensure(pongs < number && number <= pings, |_| {
            format!("pong {number} of {pings} came after pong {pongs}")
        });
        let skipped = number.saturating_sub(1);
        self.ensure(skipped == pongs || skipped <= self.skippable, |_| {
            format!("pong {number} came after pong {pongs} although output was never blocked")
        });
        self.pongs = number;
    }

    /// The peer has read our Close.
    pub(crate) fn see_close(&mut self, code: Option<u16>, why: &[u8]) {
        self.note("peer reads a Close with", code.map_or(0, i64::from));
        self.close_seen = Some(Instant::now());
        self.ended(&format!("the peer read a Close with {code:?}"), |cause| {
            cause.is_told() && cause.sent() == code
        });
        self.ensure_all_arrived("before the Close");
        match self.causes.as_slice() {
            [
                Candidate {
                    cause: Cause::Peer(_),
                    ..
                },
            ] => {
                let early = !self.may_answer_close();
                self.ensure(!early, |_| "the Close was answered too early".to_owned());
                self.ensure_pongs();
                self.ensure(why.is_empty(), |_| "the reason was echoed".to_owned());
            }
            [
                Candidate {
                    cause: Cause::Violation(_) | Cause::Fin,
                    ..
                },
            ] => self.ensure_pongs(),
            [
                Candidate {
                    cause: Cause::Local(code),
                    ..
                },
            ] => {
                let expected = reason(*code);
                self.ensure(why == expected.as_bytes(), |_| {
                    format!("{expected:?} became {why:x?}")
                });
            }
            _ => {}
        }
    }

    fn ensure_all_arrived(&mut self, when: &str) {
        let lost = self.accepted.iter().any(|accepted| !accepted.is_empty());
        self.ensure(!lost, |oracle| {
            format!("accepted, and not there {when}: {:?}", oracle.accepted)
        });
    }

    /// Every ping is answered but those for which a newer one was.
    fn ensure_pongs(&mut self) {
        let (pongs, pings) = (self.pongs, self.pings);
        self.ensure(pongs == pings, |_| {
            format!("ping {pings} was not answered, only {pongs}")
        });
    }

    /// The peer has read the end of the stream.
    pub(crate) fn see_eof(&mut self) {
        self.note("peer reads the end", 0);
        self.eof_seen = true;
        if self.close_seen.is_none() {
            self.look_at_clock();
            let gave_up = self.may_have_given_up();
            let evidence = "the peer read the end without a Close";
            self.ended(evidence, |cause| gave_up || !cause.is_told());
        }
    }

    /// Returns whether this side may have given up closing.
    fn may_have_given_up(&self) -> bool {
        let now = Instant::now();
        let is_late = |candidate: &Candidate| now >= candidate.since + self.limits.close;
        self.causes.iter().any(is_late) || self.may_be_stalled()
    }

    // What the peer writes.

    /// The peer has written something. With `between` it ended together with a message or a frame
    /// outside of one; with `began` another one has begun since.
    pub(crate) fn peer_wrote(&mut self, between: bool, began: bool) {
        self.look_at_clock();
        if between {
            self.begun = None;
        } else if began || self.begun.is_none() {
            self.begun = Some(Instant::now());
            self.excused = Duration::ZERO;
            self.paused = self.paused.map(|_| Instant::now());
            self.unread = self.unread.or(Some((Instant::now(), self.sent)));
        }
    }

    pub(crate) fn write_message(&mut self, number: u32) {
        self.note("peer has written message", number);
        debug_assert_eq!(number, self.sent);
        self.sent += 1;
        if self.socket_gone.is_none() {
            let len = peer_message(number, self.limits.largest).len();
            self.unreceived.push_back(len);
        }
        self.hear();
    }

    pub(crate) fn write_ping(&mut self, number: u32) {
        self.note("peer has written ping", number);
        self.pings = number;
        if self.blockable {
            self.skippable = number;
        }
        self.write_to_peer(6);
        self.hear();
    }

    /// The peer has written something that keepalive counts.
    pub(crate) fn hear(&mut self) {
        self.look_at_clock();
        self.last_heard = Instant::now();
    }

    /// The peer has answered a ping. Unless it is `fresh`, a newer ping may be under way, and then the
    /// pong does not count.
    pub(crate) fn write_pong(&mut self, fresh: bool) {
        let silence = self.limits.keepalive.map(|(silence, _)| silence);
        if fresh || silence.is_some_and(|silence| Instant::now() < self.last_heard + silence) {
            self.hear();
        }
    }

    pub(crate) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    pub(crate) fn write_close(&mut self, code: Option<u16>) {
        self.note("peer has written Close", code.map_or(0, i64::from));
        self.look_at_clock();
        self.peer_closed = Some(Instant::now());
        self.begin(Cause::Peer(code));
    }

    pub(crate) fn begin_violation(&mut self, fault: Fault) {
        self.note("peer begins a violation", fault as i64);
        self.look_at_clock();
        self.violates = true;
        self.begin(Cause::Violation(fault));
    }

    pub(crate) fn write_violation(&mut self) {
        self.note("peer has written the violation", 0);
        self.violated = true;
    }

    pub(crate) fn shut_down(&mut self) {
        self.note("peer shuts down", 0);
        self.look_at_clock();
        self.fin = true;
        if self.peer_closed.is_none() && !self.violated {
            self.begin(Cause::Fin);
        }
    }

    pub(crate) fn reset(&mut self) {
        self.note("peer drops the stream", 0);
        self.look_at_clock();
        self.reset = true;
        self.begin(Cause::Reset);
    }

    // What this side receives, and how it ends.

    /// `recv` is pending.
    pub(crate) fn ask(&mut self) {
        self.asked = self.received;
    }

    /// `recv` has returned; returns whether more may come.
    pub(crate) fn receive(&mut self, result: Result<Option<Message>, RecvError>) -> bool {
        match result {
            Ok(Some(message)) => {
                self.receive_message(&message);
                return true;
            }
            Ok(None) => {
                self.note("holder receives the end", 0);
                if !self.fault_told {
                    self.ended("the holder received the end", |cause| {
                        matches!(
                            cause,
                            Cause::Local(_) | Cause::Peer(_) | Cause::Lifetime | Cause::Neglected
                        )
                    });
                }
            }
            Err(error) => {
                self.note("holder receives an error", 0);
                let twice = self.fault_told || self.told;
                self.ensure(!twice, |_| format!("{error} came after the end"));
                self.fault_told = true;
                self.ended(&format!("the holder received {error:?}"), |cause| {
                    explains(cause, &error)
                });
            }
        }
        if !self.told {
            self.told = true;
            self.ensure_all_received();
        }
        false
    }

    fn receive_message(&mut self, message: &Message) {
        let number = self.received;
        self.note("holder receives message", number);
        let only_local = matches!(
            *self.causes,
            [Candidate {
                cause: Cause::Local(_),
                ..
            }]
        );
        let after = self.told || (self.closing && only_local);
        self.ensure(!after, |_| format!("message {number} came after the end"));
        let there = number < self.sent;
        self.ensure(there, |_| format!("message {number} was never whole"));
        let same = message == &peer_message(number, self.limits.largest);
        self.ensure(same, |_| {
            format!("{message:?} was received, not message {number}")
        });
        self.look_at_clock();
        self.resume();
        self.received += 1;
        self.unreceived.pop_front();
        self.last_received = Instant::now();
    }

    /// A holder that goes on receiving gets every message that was whole before the peer's end.
    fn ensure_all_received(&mut self) {
        let by_peer = |candidate: &Candidate| {
            matches!(
                candidate.cause,
                Cause::Peer(_)
                    | Cause::Violation(_)
                    | Cause::Fin
                    | Cause::TooSlow
                    | Cause::Unresponsive
            )
        };
        let least = self.causes.iter().map(|candidate| candidate.sent).min();
        if !self.closing && self.causes.iter().all(by_peer) {
            let received = self.received;
            self.ensure(least.is_none_or(|least| received >= least), |_| {
                format!("{received} messages were received before the end, of {least:?}")
            });
        }
    }

    /// A holder or a sender closes.
    pub(crate) fn close(&mut self, code: u16) {
        self.note("this side closes with", code);
        self.close_now(code);
    }

    /// The socket is about to be dropped.
    pub(crate) fn drop_socket(&mut self, panicking: bool) {
        self.note("holder drops the socket", i64::from(panicking));
        self.look_at_clock();
        self.resume();
        self.socket_gone = Some(panicking);
        self.unreceived.clear();
        // The connection acts on it when it is polled next. A sender may close before.
        if !self.handler_runs && !self.closing {
            self.begin(Cause::Local(if panicking { 1011 } else { 1000 }));
        }
    }

    /// The handler is about to end.
    pub(crate) fn end_handler(&mut self, end: End) {
        self.note("handler ends", 0);
        self.handler_runs = false;
        match end {
            End::Ok => match self.socket_gone {
                None => {}
                Some(false) => self.close_now(1000),
                Some(true) => {
                    // Either is right: the handler has seen nothing of the panic.
                    self.begin(Cause::Local(1011));
                    self.close_now(1000);
                }
            },
            End::Error | End::Panic => self.close_now(1011),
            End::Frame(code) => self.close_now(code),
        }
    }

    /// Somebody was told how the connection ended.
    pub(crate) fn learn(&mut self, closed: &Closed) {
        if let Some(before) = self.closed.clone() {
            self.ensure(before == *closed, |_| {
                format!("{before:?} became {closed:?}")
            });
            return;
        }
        self.note("the connection is closed", i64::from(closed.is_clean()));
        self.closed = Some(closed.clone());
        let (side, clean) = (closed.side(), closed.is_clean());
        let code = closed.code().map(|code| code.get());
        self.ended(&format!("{closed:?}"), |cause| {
            cause.side() == side && cause.code() == code
        });
        let stream_closed = self.reset || self.may_have_given_up();
        let [Candidate { cause, .. }] = *self.causes else {
            return;
        };
        let peer_closed = self.peer_closed.is_some();
        match cause {
            Cause::Local(_) | Cause::Lifetime => {
                self.ensure(!clean || peer_closed, |_| {
                    "it ended cleanly without the peer's Close".to_owned()
                });
                // Nobody waits for a Close behind the rest of a message that does not come.
                let slow = self.slow || self.is_slow();
                let excused = stream_closed || self.violates || slow || (self.fin && !peer_closed);
                self.ensure(clean || excused, |_| {
                    "the peer's Close came and does not count, or had no time to come".to_owned()
                });
            }
            Cause::Peer(_) => self.ensure(clean || stream_closed, |_| {
                "the peer's Close was answered, yet it is not clean".to_owned()
            }),
            _ => self.ensure(!clean, |_| "it cannot have ended cleanly".to_owned()),
        }
        if let Cause::Local(code) | Cause::Peer(Some(code)) = cause {
            let expected = reason(code);
            self.ensure(closed.reason() == expected, |_| {
                format!("{expected:?} became {:?}", closed.reason())
            });
        }
    }

    /// A flush has failed: not everything was written.
    pub(crate) fn see_end(&mut self) {
        self.note("a flush fails", 0);
        self.refused = true;
        self.ended("a flush failed", |_| true);
    }

    /// A `close` has returned. By then `Sender::closed` has to be ready.
    pub(crate) fn see_over(&mut self, closed: Option<Closed>) {
        match closed {
            Some(closed) => self.learn(&closed),
            None => self.fail("close returned before the end".to_owned()),
        }
    }
}
