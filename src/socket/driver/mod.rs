//! The connection's life: when to read, to write, to close and to give up.
//!
//! [`Driver::poll`] does what can be done without waiting and says what is next. Reading stops
//! at a message for which the handler's inbox has no room, and while output is blocked, so neither
//! side can make the other one's memory grow.

mod budget;
mod clock;
mod closing;
mod repeat;
mod stall;

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

pub(super) use self::repeat::Usual;
use self::{budget::Spent, clock::Terms, closing::Step, stall::Stall};
use super::{
    engine::{Engine, Incoming},
    io::Io,
    link::Link,
    session::Served,
    timer::{Timer, now},
};
use crate::{
    close::{CloseCode, CloseFrame, Closed},
    codec::{Compression, Control, Event, Load, Role, Rules, Violation},
    config::Config,
    error::RecvError,
    keepalive::{Keepalive, Pong},
    message::Message,
    rate::Bucket,
};

/// How long an end waits for the handler to answer what came before it, from the last message that
/// the handler took.
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
///
/// Its fields are in this order in memory: the stream is at the front, next to [`Usual`].
#[derive(Debug)]
#[repr(C)]
pub(super) struct Driver<IO> {
    engine: Engine<IO>,
    link: Arc<Link>,
    /// Messages are repeated, text behind this, rather than delivered.
    repeat: Option<Arc<str>>,
    /// Elsewhere, because few layers ask for any.
    terms: Option<Box<Terms>>,
    keepalive: Option<Keepalive>,
    /// What was taken in during this poll of the task.
    spent: Spent,
    phase: Phase,
    timer: Timer,
    /// An end that was read and not acted on yet.
    waiting: Option<Box<Waiting>>,
    /// Since when the stream takes nothing of what is to be written.
    blocked: Option<Instant>,
    /// Bytes of the output that are control frames, for which nobody waits.
    control_bytes: usize,
    /// The newest ping that could not be answered because output is blocked.
    owed: Option<Box<Control>>,
    /// Since when nothing is read, so that neither silence nor slowness can be held against the
    /// peer.
    paused: Option<Instant>,
    /// Since when a message has waited for room in the inbox and the handler has taken none.
    crowded: Option<Instant>,
    /// Since when the peer is known to have ended its half of the stream, behind what is not read yet.
    ended: Option<Instant>,
    /// Nothing can be written any more, for this error, but the stream still holds messages that the
    /// handler takes.
    cut_off: Option<io::Error>,
    control_frames: Bucket,
    config: Arc<Config>,
    /// Something was written since the stream was flushed.
    unflushed: bool,
    /// The stream can tell meanwhile whether the peer has gone.
    probes: bool,
    stall: Stall,
}

#[derive(Debug)]
struct Waiting {
    incoming: io::Result<Incoming>,
    /// Until when it waits for the handler's answers.
    ends: Option<Instant>,
}

impl Waiting {
    /// Returns whether nothing that the peer says comes behind it.
    fn is_end(&self) -> bool {
        match &self.incoming {
            Ok(Incoming::Event(event, _)) => matches!(event, Event::Close(_)),
            Ok(Incoming::Bytes(_)) => false,
            Ok(Incoming::End | Incoming::Violation(_)) | Err(_) => true,
        }
    }
}

#[derive(Debug)]
enum Phase {
    Open,
    /// The peer's Close has come; the handler may still answer what came before it.
    Answering(Box<Answering>),
    Closing(Box<Closing>),
    Over,
}

#[derive(Debug)]
struct Answering {
    frame: Option<CloseFrame>,
    answer_at: Instant,
}

#[derive(Debug)]
struct Closing {
    closed: Closed,
    deadline: Instant,
    step: Step,
}

impl<IO: Io> Driver<IO> {
    pub(super) fn new(served: Served<IO>, seed: u64) -> Self {
        let Served {
            io,
            early,
            config,
            link,
            deflation,
            probes,
        } = served;
        let now = now();
        let rules = Rules {
            role: link.role(),
            limits: config.limits(),
            deflation,
        };
        let engine = Engine::new(io, &early, rules);
        link.set_contiguous(engine.is_contiguous());
        let probes = probes || engine.is_tcp();
        if let Some(compression) = deflation.map(Compression::new) {
            link.set_compression(compression);
        }
        let keepalive = config.keepalive_intervals();
        Self {
            engine,
            link,
            repeat: None,
            phase: Phase::Open,
            timer: Timer::default(),
            spent: Spent::default(),
            waiting: None,
            blocked: None,
            unflushed: false,
            control_bytes: 0,
            owed: None,
            keepalive: keepalive.map(|_| Keepalive::new(seed, now)),
            paused: None,
            crowded: None,
            ended: None,
            cut_off: None,
            probes,
            control_frames: Bucket::new(config.control_frames(), now),
            terms: Terms::new(&config, now),
            stall: Stall::new(now),
            config,
        }
    }

    /// Has messages repeated, text behind `prefix`, by the connection itself: they are never seen
    /// by the holder of the link, of which there need not be one.
    pub(super) fn repeating(mut self, prefix: Arc<str>) -> Self {
        self.link.set_repeats();
        self.repeat = Some(prefix);
        self
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Does what can be done now.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Turn {
        let now = now();
        let turn = match self.phase {
            Phase::Open => self.poll_open(now, cx),
            Phase::Answering(_) => self.poll_answering(now, cx),
            Phase::Closing(_) => self.poll_closing(now, cx),
            Phase::Over => Turn::Over,
        };
        match turn {
            Turn::Idle if self.poll_timer(now, cx).is_ready() => Turn::Again,
            turn => turn,
        }
    }

    /// Ends a poll of the task: what is shared with other connections is given back.
    pub(super) fn rest(&mut self) {
        self.spent = Spent::default();
        self.engine.rest();
    }

    fn poll_open(&mut self, now: Instant, cx: &mut Context<'_>) -> Turn {
        if let Some(frame) = self.link.take_close() {
            return self.begin_closing(frame, now, cx);
        }
        if self.blocked.is_some() {
            // A server reads nothing before output moves again.
            match self.poll_flush(now, cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    if let Some(turn) = self.cut_off(error, cx) {
                        return turn;
                    }
                }
                Poll::Pending if self.reads_while_blocked() => {}
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
        let flushed = self.poll_flush(now, cx);
        if self.blocked.is_some() && !self.reads_while_blocked() {
            self.pause(now);
        }
        match flushed {
            Poll::Ready(Err(error)) => self.cut_off(error, cx).unwrap_or(Turn::Idle),
            _ if self.has_spent() => Turn::Yield,
            Poll::Ready(Ok(true)) => Turn::Again,
            Poll::Ready(Ok(false)) | Poll::Pending => Turn::Idle,
        }
    }

    /// Tells whether what arrives is read although output does not move. Servers do not; if clients
    /// did not either, each could wait for the other to read.
    fn reads_while_blocked(&self) -> bool {
        matches!(self.link.role(), Role::Client)
    }

    /// Reads and delivers until there is nothing to read, no room for the next message, or enough
    /// was done for now. Returns whether the handler got something, or what else became of the
    /// connection.
    fn read(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<bool, Turn> {
        let mut delivered = false;
        let mut has_room = self.has_room();
        loop {
            if self.has_read_enough() {
                return Ok(delivered);
            }
            // Control frames need no room.
            if !has_room && self.waiting.is_none() && self.engine.is_data_next() {
                self.crowded.get_or_insert(now);
                self.pause(now);
                return Ok(delivered);
            }
            self.resume(now);
            let mut next = match self.waiting.take() {
                Some(waiting) => *waiting,
                None => match self.poll_incoming(now, cx) {
                    Poll::Pending => match self.cut_off.take_if(|_| !delivered) {
                        Some(error) => return Err(self.lose(RecvError::Io(error), cx)),
                        None => return Ok(delivered),
                    },
                    Poll::Ready(incoming) => Waiting {
                        incoming,
                        ends: None,
                    },
                },
            };
            let holds_back = match next.incoming {
                Ok(Incoming::Event(..) | Incoming::Bytes(_)) => false,
                Ok(Incoming::End) => {
                    delivered || (!self.is_gone(cx) && self.awaits_answer(&mut next.ends, now))
                }
                Ok(Incoming::Violation(_)) => delivered || self.awaits_answer(&mut next.ends, now),
                Err(_) => delivered,
            };
            if holds_back {
                // The handler may answer what came before the end.
                self.waiting = Some(Box::new(next));
                return Ok(delivered);
            }
            let incoming = match next.incoming {
                Ok(incoming) => incoming,
                Err(error) => return Err(self.lose(RecvError::Io(error), cx)),
            };
            match incoming {
                Incoming::Bytes(bytes) => {
                    let work = self.engine.take_work();
                    self.spent.add(0, bytes + work);
                }
                Incoming::Event(Event::Message(message), read) => {
                    self.heard(now);
                    self.spent.add(1, read + self.engine.take_work());
                    self.first_message_came();
                    if let Some(more) = self.deliver(message, cx) {
                        delivered = true;
                        has_room = more;
                    }
                }
                Incoming::Event(Event::Ping(payload), _) => {
                    self.heard(now);
                    self.spent.add(1, 0);
                    self.take_control(now, cx)?;
                    self.answer(payload);
                }
                Incoming::Event(Event::Pong(payload), _) => {
                    self.spent.add(1, 0);
                    // Only a pong that answers none of our pings costs a token.
                    if !self.take_pong(&payload, now) {
                        self.take_control(now, cx)?;
                    }
                }
                Incoming::Event(Event::Close(frame), _) => {
                    self.link.end_input(frame.as_ref(), cx);
                    self.phase = Phase::Answering(Box::new(Answering {
                        frame,
                        answer_at: now + self.answer_grace(),
                    }));
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

    /// Returns whether there is room for another message.
    fn has_room(&mut self) -> bool {
        if self.repeat.is_some() {
            return true;
        }
        let room = self.link.room();
        if room.is_left || room.was_made {
            self.crowded = None;
        }
        if let Some(waiting) = self.waiting.as_mut().filter(|_| room.was_made) {
            waiting.ends = None;
        }
        room.is_left
    }

    /// Returns whether an end has to wait for the handler, which may still answer what came before:
    /// for [`ANSWER_GRACE`] from the last message that it took.
    fn awaits_answer(&self, ends: &mut Option<Instant>, now: Instant) -> bool {
        if !self.link.is_unanswered() {
            return false;
        }
        now < *ends.get_or_insert(now + self.answer_grace())
    }

    /// Returns whether nothing that is written can reach the peer any more, as far as that is known:
    /// a stream of HTTP/2 that was reset reads like one that has ended.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        self.cut_off.is_some()
            || (self.probes && matches!(self.engine.poll_gone(cx), Poll::Ready(Err(_))))
    }

    /// Loses the connection, to which nothing can be written any more, unless messages wait for room
    /// that the peer sent before it ended: those are still the handler's. A TCP connection that is
    /// reset without a FIN loses them.
    fn cut_off(&mut self, error: io::Error, cx: &Context<'_>) -> Option<Turn> {
        let was_reset = self.engine.is_tcp() && self.ended.is_none();
        if self.crowded.is_none() || was_reset {
            return Some(self.lose(RecvError::Io(error), cx));
        }
        self.cut_off = Some(error);
        self.blocked = None;
        None
    }

    fn answer_grace(&self) -> Duration {
        ANSWER_GRACE.min(self.config.close_limit())
    }

    fn has_spent(&self) -> bool {
        self.spent.is_enough()
    }

    fn has_read_enough(&self) -> bool {
        self.has_spent()
            && (!self.engine.is_within_large() || self.spent.is_enough_within(self.unwritten()))
    }

    /// Returns the bytes of messages that wait to be written, here and with the holder of the link.
    fn unwritten(&self) -> usize {
        match self.repeat {
            Some(_) => self.engine.output.load().bytes,
            None => self.link.buffered().bytes,
        }
    }

    /// Tells whether there is room for another message where this one went, unless it is repeated.
    fn deliver(&mut self, message: Message, cx: &Context<'_>) -> Option<bool> {
        self.link.traffic().received(1, message.len());
        let Some(prefix) = &self.repeat else {
            return Some(self.link.deliver(message, cx));
        };
        let received = message.len();
        let answer = message.behind(prefix);
        self.link.traffic().sent(1, answer.len());
        self.spent.add(0, answer.len() - received);
        let contiguous = self.engine.is_contiguous();
        self.engine.output.push(&answer, contiguous);
        None
    }

    /// Takes a pong, and returns whether it answers a ping of ours.
    fn take_pong(&mut self, payload: &[u8], now: Instant) -> bool {
        let Some(keepalive) = &mut self.keepalive else {
            return false;
        };
        keepalive.heard(now);
        let pong = keepalive.pong(payload, now);
        if let Pong::Awaited(round_trip) = pong {
            self.stall.backlog.was_read();
            self.link.set_round_trip(round_trip);
        }
        pong != Pong::Unasked
    }

    fn take_control(&mut self, now: Instant, cx: &Context<'_>) -> Result<(), Turn> {
        if self.control_frames.take(self.config.control_frames(), now) {
            return Ok(());
        }
        let fault = RecvError::TooManyControlFrames;
        Err(self.fail(fault, CloseCode::POLICY_VIOLATION, now, cx))
    }

    /// Answers a ping, or remembers the newest one while output is blocked: RFC 6455 §5.5.3 allows
    /// to answer only that.
    fn answer(&mut self, payload: Box<Control>) {
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
        if self.cut_off.is_some() {
            return match self.phase {
                Phase::Open | Phase::Answering(_) => Poll::Pending,
                Phase::Closing(_) | Phase::Over => {
                    Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
                }
            };
        }
        // What is sent while output is blocked waits until it has moved, and something was read:
        // else a handler that sends without end would keep the peer from being heard.
        let was_blocked = self.blocked.is_some();
        // What is repeated is in the output already, and nobody waits for its room.
        let is_shared = self.repeat.is_none();
        if is_shared && !was_blocked {
            self.link.take_outgoing(&mut self.engine.output);
        }
        let (mut moved, mut waits) = (false, false);
        loop {
            let written = match self.engine.poll_write(cx) {
                Poll::Pending if was_blocked => self.poll_write_without_readiness(now),
                written => written,
            };
            let Poll::Ready(written) = written? else {
                // Room that was made before counts also if not everything could be written.
                if moved || self.blocked.is_none() {
                    self.blocked = Some(now);
                    self.stall.begins(now);
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
                self.spent.add(0, written.bytes);
                self.stall.backlog.take(written.bytes, now);
                waits |= is_shared && self.release(written, cx);
            } else if let Some(payload) = self.owed.take() {
                self.push_control(|engine| engine.output.push_pong(&payload));
            } else {
                self.blocked = None;
                if std::mem::take(&mut self.unflushed) && is_shared {
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
        Violation::TooManyFinalBlocks => RecvError::TooManyFinalBlocks,
        Violation::TooSlow => RecvError::TooSlow,
    }
}
