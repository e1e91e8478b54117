//! The connection's life: when to read, to write, to close and to give up.
//!
//! [`Driver::poll`] does what can be done without waiting and says what is next. Reading stops
//! while the handler's inbox is full or output is blocked, so neither side can make the other
//! one's memory grow.

mod closing;

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite};

use self::closing::Step;
use super::{
    engine::{Engine, Incoming},
    link::Link,
    timer::{Timer, now},
};
use crate::{
    close::{CloseCode, CloseFrame, Closed},
    codec::{Control, Event, Load, Role, Rules, Violation},
    config::Config,
    error::RecvError,
    keepalive::{Due, Keepalive},
    message::Message,
    rate::Bucket,
};

/// What one poll of the task may take in before the thread's other tasks get their turn.
const FRAMES: usize = 64;
const BYTES: usize = 256 * 1024;

/// How often a connection from which nothing is read asks whether its peer has gone.
const PROBE: Duration = Duration::from_secs(1);

/// How long a Close of the peer waits for the handler to answer what came before it.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// What a poll of the connection came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// Poll the handler, then the connection again.
    Again,
    /// Enough for now: let other tasks run.
    Yield,
    /// Nothing to do before something arrives or the handler acts.
    Idle,
    /// The connection is over.
    Over,
}

/// The connection's end of a [`Link`].
#[derive(Debug)]
pub(super) struct Driver<IO> {
    engine: Engine<IO>,
    link: Arc<Link>,
    phase: Phase,
    timer: Timer,
    /// What was taken in during this poll of the task.
    spent: Load,
    /// An end that was read and not acted on yet.
    waiting: Option<io::Result<Incoming>>,

    /// Since when the stream takes nothing of what is to be written.
    blocked: Option<Instant>,
    /// Something was written since the stream was flushed.
    unflushed: bool,
    /// Bytes of the output that are control frames, for which nobody waits.
    control_bytes: usize,
    /// The newest ping that could not be answered because output is blocked.
    owed: Option<Control>,

    keepalive: Option<Keepalive>,
    /// Since when nothing is read, so that neither silence nor slowness can be held against the
    /// peer.
    paused: Option<Instant>,
    /// The stream can tell meanwhile whether the peer has gone.
    probes: bool,
    control_frames: Bucket,
    first_message_due: Option<Instant>,
    lifetime_ends: Option<Instant>,
    write_limit: Duration,
    close_limit: Duration,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// The peer's Close has come; the handler may still answer what came before it.
    Answering {
        frame: Option<CloseFrame>,
        answer_at: Instant,
    },
    Closing {
        closed: Closed,
        deadline: Instant,
        step: Step,
    },
    Over,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    pub(super) fn new(io: IO, config: &Config, link: Arc<Link>, seed: u64) -> Self {
        let now = now();
        let rules = Rules {
            role: Role::Server,
            limits: config.limits(),
        };
        let engine = Engine::new(io, rules);
        link.set_contiguous(engine.is_contiguous());
        let keepalive = config.keepalive_intervals();
        Self {
            engine,
            link,
            phase: Phase::Open,
            timer: Timer::default(),
            spent: Load::default(),
            waiting: None,
            blocked: None,
            unflushed: false,
            control_bytes: 0,
            owed: None,
            keepalive: keepalive.map(|intervals| Keepalive::new(intervals, seed, now)),
            paused: None,
            probes: false,
            control_frames: Bucket::new(config.control_frames(), now),
            first_message_due: config.first_message_limit().map(|limit| now + limit),
            lifetime_ends: config.lifetime_limit().map(|limit| now + limit),
            write_limit: config.write_limit(),
            close_limit: config.close_limit(),
        }
    }

    /// Does what can be done now.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Turn {
        let now = now();
        let turn = match self.phase {
            Phase::Open => self.poll_open(now, cx),
            Phase::Answering { .. } => self.poll_answering(now, cx),
            Phase::Closing { .. } => self.poll_closing(now, cx),
            Phase::Over => Turn::Over,
        };
        match turn {
            Turn::Idle if self.timer.poll(self.next_due(), cx).is_ready() => Turn::Again,
            turn => turn,
        }
    }

    /// Ends a poll of the task: what is shared with other connections is given back.
    pub(super) fn rest(&mut self) {
        self.spent = Load::default();
        self.engine.rest();
    }

    fn poll_open(&mut self, now: Instant, cx: &mut Context<'_>) -> Turn {
        if let Some(frame) = self.link.take_close() {
            return self.begin_closing(frame, now, cx);
        }
        if self.blocked.is_some() {
            // Nothing is read before output moves again.
            match self.poll_flush(now, cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return self.lose(RecvError::Io(error), cx),
                Poll::Pending => {
                    self.pause(now);
                    return self.on_time(now, cx).unwrap_or(Turn::Idle);
                }
            }
        }
        let delivered = match self.read(now, cx) {
            Ok(delivered) => delivered,
            Err(turn) => return turn,
        };
        if let Some(turn) = self.on_time(now, cx) {
            return turn;
        }
        if delivered {
            // What the handler replies is gathered with the replies to what is still to be read,
            // and flushed when there is nothing left to be read.
            return Turn::Again;
        }
        match self.poll_flush(now, cx) {
            Poll::Ready(Err(error)) => self.lose(RecvError::Io(error), cx),
            _ if self.has_spent() => Turn::Yield,
            Poll::Ready(Ok(true)) => Turn::Again,
            Poll::Ready(Ok(false)) | Poll::Pending => Turn::Idle,
        }
    }

    /// Reads and delivers until there is nothing to read, no room, or enough was done for now.
    /// Tells whether the handler got something, or what else became of the connection.
    fn read(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<bool, Turn> {
        let mut delivered = false;
        loop {
            if !self.link.has_room() {
                self.pause(now);
                return Ok(delivered);
            }
            if self.has_spent() {
                return Ok(delivered);
            }
            self.resume(now);
            let incoming = match self.waiting.take() {
                Some(incoming) => incoming,
                None => match self.engine.poll_incoming(cx, now) {
                    Poll::Pending => return Ok(delivered),
                    Poll::Ready(incoming) => incoming,
                },
            };
            if delivered && !matches!(incoming, Ok(Incoming::Event(_) | Incoming::Bytes(_))) {
                // The handler may answer what came before the end.
                self.waiting = Some(incoming);
                return Ok(true);
            }
            let incoming = match incoming {
                Ok(incoming) => incoming,
                Err(error) => return Err(self.lose(RecvError::Io(error), cx)),
            };
            match incoming {
                Incoming::Bytes(bytes) => self.spent.bytes += bytes,
                Incoming::Event(Event::Message(message)) => {
                    self.heard(now);
                    self.spent.messages += 1;
                    self.first_message_due = None;
                    self.deliver(message, cx);
                    delivered = true;
                }
                Incoming::Event(Event::Ping(payload)) => {
                    self.heard(now);
                    self.spent.messages += 1;
                    self.take_control(now, cx)?;
                    self.answer(payload);
                }
                Incoming::Event(Event::Pong(payload)) => {
                    self.spent.messages += 1;
                    self.take_control(now, cx)?;
                    self.take_pong(&payload, now);
                }
                Incoming::Event(Event::Close(frame)) => {
                    self.link.end_input(cx);
                    self.phase = Phase::Answering {
                        frame,
                        answer_at: now + ANSWER_GRACE.min(self.close_limit),
                    };
                    return Err(Turn::Again);
                }
                Incoming::End => {
                    return Err(self.end_of_stream(now, cx));
                }
                Incoming::Violation(violation) => {
                    return Err(self.fail(fault(violation), violation.close_code(), now, cx));
                }
            }
        }
    }

    fn has_spent(&self) -> bool {
        self.spent.messages >= FRAMES || self.spent.bytes >= BYTES
    }

    fn deliver(&self, message: Message, cx: &Context<'_>) {
        self.link.traffic().received(message.len());
        self.link.deliver(message, cx);
    }

    fn pause(&mut self, now: Instant) {
        let _ = self.paused.get_or_insert(now);
    }

    /// Has the stream asked, if it `probes`, now and then whether the peer has gone, while nothing is read: one of
    /// HTTP/2 that was reset says so when it is flushed, and wakes nobody.
    pub(super) fn probing(mut self, probes: bool) -> Self {
        self.probes = probes;
        self
    }

    fn probe(&mut self, cx: &mut Context<'_>) -> Option<Turn> {
        if !self.probes {
            return None;
        }
        let error = self.engine.poll_gone(cx)?;
        Some(self.lose(RecvError::Io(error), cx))
    }

    fn resume(&mut self, now: Instant) {
        if let Some(since) = self.paused.take() {
            let longer = now.saturating_duration_since(since);
            self.engine.excuse(longer);
            self.first_message_due = self.first_message_due.map(|due| due + longer);
            self.heard(now);
        }
    }

    fn heard(&mut self, now: Instant) {
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.excuse(now);
        }
    }

    fn take_pong(&mut self, payload: &[u8], now: Instant) {
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.heard(now);
            keepalive.pong(payload, now);
            if let Some(round_trip) = keepalive.round_trip() {
                self.link.set_round_trip(round_trip);
            }
        }
    }

    fn take_control(&mut self, now: Instant, cx: &Context<'_>) -> Result<(), Turn> {
        if self.control_frames.take(now) {
            return Ok(());
        }
        let fault = RecvError::TooManyControlFrames;
        Err(self.fail(fault, CloseCode::POLICY_VIOLATION, now, cx))
    }

    /// Answers a ping, or remembers the newest one while output is blocked: RFC 6455 §5.5.3 allows
    /// to answer only that.
    fn answer(&mut self, payload: Control) {
        if self.blocked.is_some() {
            self.owed = Some(payload);
        } else {
            self.push_control(|engine| engine.output.push_pong(&payload));
        }
    }

    fn push_control(&mut self, push: impl FnOnce(&mut Engine<IO>)) {
        let before = self.engine.output.load().bytes;
        push(&mut self.engine);
        self.control_bytes += self.engine.output.load().bytes - before;
    }

    /// Writes what was sent, until there is nothing left or the stream takes no more. Ready with
    /// whether there is more to do at once: the handler waits for the room that this made, or more
    /// was sent while output was blocked.
    fn poll_flush(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        // What is sent while output is blocked waits until it has moved, and something was read:
        // else a handler that sends without end would keep the peer from being heard.
        let was_blocked = self.blocked.is_some();
        if !was_blocked {
            self.link.take_outgoing(&mut self.engine.output);
        }
        let (mut moved, mut waits) = (false, false);
        loop {
            let Poll::Ready(written) = self.engine.poll_write(cx)? else {
                // Room that was made before counts also if not everything could be written.
                if moved || self.blocked.is_none() {
                    self.blocked = Some(now);
                }
                return if waits {
                    Poll::Ready(Ok(true))
                } else {
                    Poll::Pending
                };
            };
            if !written.is_empty() {
                moved = true;
                self.unflushed = true;
                self.spent.bytes += written.bytes;
                waits |= self.release(written, cx);
            } else if let Some(payload) = self.owed.take() {
                self.push_control(|engine| engine.output.push_pong(&payload));
            } else {
                self.blocked = None;
                if std::mem::take(&mut self.unflushed) {
                    self.link.flushed(cx);
                }
                return Poll::Ready(Ok(waits || was_blocked));
            }
        }
    }

    fn release(&mut self, mut written: Load, cx: &Context<'_>) -> bool {
        // Room is made late rather than early: control frames count as written first.
        let control = written.bytes.min(self.control_bytes);
        self.control_bytes -= control;
        written.bytes -= control;
        self.link.written(written, cx)
    }

    fn is_stalled(&self, now: Instant) -> bool {
        self.blocked
            .is_some_and(|since| since + self.write_limit <= now)
    }

    /// Does what the clock asks for; tells what became of the connection, if anything.
    fn on_time(&mut self, now: Instant, cx: &mut Context<'_>) -> Option<Turn> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.is_stalled(now) {
            return Some(self.lose(RecvError::Stalled, cx));
        }
        if is_due(self.lifetime_ends) {
            let frame = CloseFrame::because(CloseCode::GOING_AWAY, "end of lifetime");
            return Some(self.begin_closing(frame, now, cx));
        }
        if self.paused.is_some() {
            return self.probe(cx);
        }
        if is_due(self.first_message_due) {
            let fault = RecvError::NoFirstMessage;
            return Some(self.fail(fault, CloseCode::POLICY_VIOLATION, now, cx));
        }
        if is_due(self.engine.deadline()) {
            let fault = RecvError::TooSlow;
            return Some(self.fail(fault, CloseCode::POLICY_VIOLATION, now, cx));
        }
        // A pong cannot overtake the rest of what is arriving, for which there is a time of its own.
        if self.engine.is_receiving() {
            self.heard(now);
        }
        match self.keepalive.as_mut()?.poll(now) {
            Due::Later(_) => None,
            Due::Gone => Some(self.lose(RecvError::Unresponsive, cx)),
            Due::Ping(payload) => {
                self.push_control(|engine| engine.output.push_ping(&payload));
                None
            }
        }
    }

    /// Returns when the clock asks for something next.
    fn next_due(&self) -> Option<Instant> {
        let dues = match &self.phase {
            Phase::Open => [
                self.blocked.map(|since| since + self.write_limit),
                self.lifetime_ends,
                self.first_message_due.filter(|_| self.paused.is_none()),
                self.engine.deadline().filter(|_| self.paused.is_none()),
                match self.paused {
                    // Being woken is enough: every poll asks.
                    Some(_) => self.probes.then(|| now() + PROBE),
                    None => self.keepalive.as_ref().map(Keepalive::deadline),
                },
            ],
            Phase::Answering { answer_at, .. } => [Some(*answer_at), None, None, None, None],
            Phase::Closing { deadline, .. } => [
                self.blocked.map(|since| since + self.write_limit),
                Some(*deadline),
                None,
                None,
                None,
            ],
            Phase::Over => [None; 5],
        };
        dues.into_iter().flatten().min()
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        self.link.lost();
    }
}

fn fault(violation: Violation) -> RecvError {
    match violation {
        Violation::Protocol(rule) => RecvError::Protocol(rule.into()),
        Violation::InvalidUtf8 => RecvError::InvalidUtf8,
        Violation::TooLarge => RecvError::TooLarge,
        Violation::TooManyFragments => RecvError::TooManyFragments,
        Violation::TooSlow => RecvError::TooSlow,
    }
}
