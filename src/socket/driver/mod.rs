//! The connection's life: when to read, to write, to close and to give up.
//!
//! [`Driver::poll`] does what can be done without waiting and says what is next. Reading stops
//! at a message for which the handler's inbox has no room, and while output is blocked, so neither
//! side can make the other one's memory grow.

mod clock;
mod closing;
mod stall;

use std::{
    io, mem,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use self::{clock::Terms, closing::Step, stall::Stall};
use super::{
    budget::Spent,
    engine::Engine,
    input::Input,
    io::Io,
    link::{Glance, Link, Next, Parked},
    receiver::{Found, Receiver},
    setup::{Served, Setup},
    timer::{self, Timer},
};
use crate::{
    close::{CloseCode, CloseFrame, Closed},
    codec::{Control, Event, Load, Role, Rules, Violation},
    config::Config,
    keepalive::{Keepalive, Pong},
    rate::Bucket,
    socket::RecvError,
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
#[derive(Debug)]
pub(super) struct Driver<IO> {
    engine: Engine<IO>,
    link: Arc<Link>,
    /// Elsewhere, because few layers ask for any.
    terms: Option<Box<Terms>>,
    keepalive: Option<Keepalive>,
    /// What was written, and read after the end, during this poll of the task.
    spent: Spent,
    /// Enough was decoded during this poll of the task.
    has_decoded: bool,
    /// When what has begun to arrive becomes too slow.
    assembly_due: Option<Instant>,
    phase: Phase,
    timer: Timer,
    /// The timer was set while nothing else was waited for.
    is_timer_quiet: bool,
    /// The stream had nothing to read when the task fell asleep, and is read first of all.
    listens: bool,
    /// The outbox has nothing that the output lacks, as far as was seen.
    has_taken_all: bool,
    /// What was written, and flushed if `is_flushed`, and the holder of the link is not told of yet.
    written: Load,
    is_flushed: bool,
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
    /// Elsewhere, because few handlers let messages wait.
    crowd: Option<Box<Crowd>>,
    control_frames: Bucket,
    config: Arc<Config>,
    /// Something was written since the stream was flushed.
    unflushed: bool,
    /// The stream can tell meanwhile whether the peer has gone.
    probes: bool,
    stall: Stall,
}

/// What is known of a connection that has stopped reading.
#[derive(Debug, Default)]
struct Crowd {
    /// Since when a message has waited for room in the inbox and the handler has taken none.
    since: Option<Instant>,
    /// Since when the peer is known to have ended its half of the stream, behind what is not read yet.
    ended: Option<Instant>,
    /// Nothing can be written any more, for this error, but the stream still holds messages that the
    /// handler takes.
    cut_off: Option<io::Error>,
}

/// What ends what is received.
#[derive(Debug)]
enum Fault {
    /// The end of the stream.
    End,
    Violation(Violation),
    Io(io::Error),
}

#[derive(Debug)]
struct Waiting {
    fault: Fault,
    /// Until when it waits for the handler's answers.
    ends: Option<Instant>,
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
            link,
            setup:
                Setup {
                    config,
                    deflation,
                    probes,
                },
        } = served;
        let now = timer::now();
        let rules = Rules {
            role: link.role(),
            limits: config.limits(),
            deflation,
        };
        let engine = Engine::new(io, rules.role);
        let probes = probes || engine.is_tcp();
        link.begin(rules, &early, engine.is_contiguous());
        let keepalive = config.keepalive_intervals();
        Self {
            engine,
            link,
            phase: Phase::Open,
            timer: Timer::default(),
            is_timer_quiet: false,
            listens: false,
            has_taken_all: false,
            written: Load::default(),
            is_flushed: false,
            spent: Spent::default(),
            has_decoded: false,
            assembly_due: None,
            waiting: None,
            blocked: None,
            unflushed: false,
            control_bytes: 0,
            owed: None,
            keepalive: keepalive.map(|_| Keepalive::new(seed, now)),
            paused: None,
            crowd: None,
            probes,
            control_frames: Bucket::new(config.control_frames(), now),
            terms: Terms::new(&config, now),
            stall: Stall::new(now),
            config,
        }
    }

    /// Does what can be done now.
    ///
    /// `now` may be as long ago as the handler has run in this poll of the task. It is asked for again
    /// where a wait begins, and when a timer is reached.
    pub(super) fn poll(&mut self, clock: &mut Instant, cx: &mut Context<'_>) -> Turn {
        let now = *clock;
        self.tell_written(cx);
        self.has_taken_all = false;
        let turn = match self.phase {
            Phase::Open => self.poll_open(now, cx),
            Phase::Answering(_) => self.poll_answering(now, cx),
            Phase::Closing(_) => self.poll_closing(now, cx),
            Phase::Over => Turn::Over,
        };
        match turn {
            Turn::Idle if self.poll_timer(now, cx).is_ready() => {
                *clock = timer::now();
                Turn::Again
            }
            turn => turn,
        }
    }

    /// Lets the task sleep, unless there is more to do for the connection or the handler.
    pub(super) fn park(&mut self, cx: &Context<'_>) -> Parked {
        let written = self.take_written();
        self.link.park(written, cx)
    }

    /// Ends a poll of the task in which others have to get their turn.
    pub(super) fn yields(&mut self, cx: &Context<'_>) {
        self.tell_written(cx);
        self.link.rest();
    }

    /// Ends a poll of the task: what is shared with other connections is given back.
    pub(super) fn rest(&mut self) {
        self.spent = Spent::default();
        self.has_decoded = false;
        self.engine.rest();
    }

    fn poll_open(&mut self, now: Instant, cx: &mut Context<'_>) -> Turn {
        let looks = self.blocked.is_none() && self.waiting.is_none();
        let close = match looks {
            true => None,
            false => self.link.take_close(),
        };
        if let Some(frame) = close {
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
                    self.pause();
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
        let flushed = self.poll_flush_later(now, cx);
        if self.blocked.is_some() && !self.reads_while_blocked() {
            self.pause();
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

    /// Reads and decodes until there is nothing to read, no room for the next message, or enough was
    /// done for now. Returns whether the handler got something, or what else became of the
    /// connection.
    fn read(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<bool, Turn> {
        let (mut delivered, mut new, mut is_read_out) = (false, None, false);
        if mem::take(&mut self.listens) {
            match self.poll_read(cx) {
                Poll::Pending => is_read_out = true,
                Poll::Ready(Ok(input)) => new = Some(input),
                Poll::Ready(Err(fault)) => {
                    self.waiting = Some(Box::new(Waiting { fault, ends: None }));
                    if let Some(frame) = self.link.take_close() {
                        return Err(self.begin_closing(frame, now, cx));
                    }
                }
            }
        }
        loop {
            if let Some(waiting) = self.waiting.take() {
                self.resume(now);
                return self.act_on(*waiting, delivered, now, cx);
            }
            self.resume(now);
            if self.blocked.is_none() {
                match self.link.glance(&mut new, &mut self.engine.output, cx) {
                    Glance::Receive => {
                        self.has_room();
                        self.assembly_due = None;
                        // Time is looked at when the handler has what has come.
                        return Err(Turn::Again);
                    }
                    Glance::Read {
                        buffer,
                        heard,
                        has_taken_all,
                    } => {
                        self.has_room();
                        self.assembly_due = None;
                        self.has_taken_all = has_taken_all;
                        if heard {
                            self.heard(now);
                            self.first_message_came();
                        }
                        match self.read_into(buffer, is_read_out, cx) {
                            Poll::Pending => return self.nothing_came(delivered, cx),
                            Poll::Ready(Ok(input)) => new = Some(input),
                            Poll::Ready(Err(fault)) => {
                                self.waiting = Some(Box::new(Waiting { fault, ends: None }));
                            }
                        }
                        continue;
                    }
                    Glance::Look => {}
                }
            }
            let output = self.blocked.is_none().then_some(&mut self.engine.output);
            let look = self.link.look(new.take(), output, now, cx);
            self.has_taken_all = look.has_taken_all;
            if look.heard {
                self.heard(now);
                self.first_message_came();
            }
            self.assembly_due = look.deadline;
            delivered |= look.delivered;
            if look.taken || !matches!(look.next, Next::Wait) {
                self.has_room();
            }
            let fault = match look.next {
                Next::Receive => return Ok(true),
                Next::Close(frame) => return Err(self.begin_closing(*frame, now, cx)),
                Next::Wait => {
                    self.crowd().since.get_or_insert_with(timer::now);
                    self.pause();
                    return Ok(delivered);
                }
                Next::Yield => {
                    self.has_decoded = true;
                    return Ok(delivered);
                }
                Next::Act(found) => self.act(found, now, cx)?,
                Next::Inflate(mut receiver) => {
                    let found = receiver.next(now);
                    self.link.put_back(receiver);
                    if let Found::Event(Event::Message(message)) = found {
                        self.link.deliver(message, cx);
                        delivered = true;
                        None
                    } else {
                        self.act(found, now, cx)?
                    }
                }
                Next::ReadLarge(receiver) => match self.read_large(receiver, now, cx) {
                    Poll::Pending => return self.nothing_came(delivered, cx),
                    Poll::Ready(Ok(())) => None,
                    Poll::Ready(Err(fault)) => Some(fault),
                },
                Next::Read(buffer) => match self.read_into(buffer, is_read_out, cx) {
                    Poll::Pending => return self.nothing_came(delivered, cx),
                    Poll::Ready(Ok(input)) => {
                        new = Some(input);
                        None
                    }
                    Poll::Ready(Err(fault)) => Some(fault),
                },
            };
            self.waiting = fault.map(|fault| Box::new(Waiting { fault, ends: None }));
        }
    }

    /// Reads into a buffer, unless it is known that there `is_nothing` to read.
    fn read_into(
        &mut self,
        buffer: Option<Box<Input>>,
        is_nothing: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Box<Input>, Fault>> {
        self.engine.keep(buffer);
        let read = match is_nothing {
            true => Poll::Pending,
            false => self.poll_read(cx),
        };
        self.listens = read.is_pending();
        read
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Input>, Fault>> {
        self.engine.poll_read(cx).map(|read| match read {
            Ok(Some(input)) => Ok(input),
            Ok(None) => Err(Fault::End),
            Err(error) => Err(Fault::Io(error)),
        })
    }

    /// The stream has nothing to read for now, which is the end where nothing can be written either.
    fn nothing_came(&mut self, delivered: bool, cx: &Context<'_>) -> Result<bool, Turn> {
        let error = match delivered {
            true => None,
            false => self.take_cut_off(),
        };
        match error {
            Some(error) => Err(self.lose(RecvError::Io(error), cx)),
            None => Ok(delivered),
        }
    }

    fn read_large(
        &mut self,
        mut receiver: Box<Receiver>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let read = match receiver.place() {
            Some(rooms) => self.engine.poll_read_large(cx, rooms),
            None => Poll::Ready(Ok(0)),
        };
        let len = match read {
            Poll::Ready(Ok(len)) => len,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        receiver.placed(len, now);
        self.link.put_back(receiver);
        read.map(|read| match read {
            Ok(0) => Err(Fault::End),
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::Io(error)),
        })
    }

    /// Acts on a control frame; returns what a violation comes to.
    fn act(
        &mut self,
        found: Found,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<Option<Fault>, Turn> {
        match found {
            Found::Event(Event::Message(_)) | Found::Nothing => {}
            Found::Event(Event::Ping(payload)) => {
                self.heard(now);
                self.take_control(now, cx)?;
                self.answer(payload);
            }
            Found::Event(Event::Pong(payload)) => {
                // Only a pong that answers none of our pings costs a token.
                if !self.take_pong(&payload, timer::now()) {
                    self.take_control(now, cx)?;
                }
            }
            Found::Event(Event::Close(frame)) => {
                self.link.end_input(frame.as_ref(), cx);
                self.phase = Phase::Answering(Box::new(Answering {
                    frame,
                    answer_at: timer::now() + self.answer_grace(),
                }));
                return Err(Turn::Again);
            }
            Found::Violation(violation) => return Ok(Some(Fault::Violation(violation))),
        }
        Ok(None)
    }

    /// Acts on what ends what is received, once the handler has had its time to answer what came
    /// before.
    fn act_on(
        &mut self,
        mut waiting: Waiting,
        delivered: bool,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<bool, Turn> {
        if self.link.has_taken() {
            waiting.ends = None;
        }
        let is_waited_for = match waiting.fault {
            Fault::End => !self.is_gone(cx) && self.awaits_answer(&mut waiting.ends, now),
            Fault::Violation(_) => self.awaits_answer(&mut waiting.ends, now),
            Fault::Io(_) => false,
        };
        if delivered || is_waited_for {
            self.waiting = Some(Box::new(waiting));
            return Ok(delivered);
        }
        Err(match waiting.fault {
            Fault::End => self.end_of_stream(cx),
            Fault::Violation(violation) => self.fail(fault(violation), violation.close_code(), cx),
            Fault::Io(error) => self.lose(RecvError::Io(error), cx),
        })
    }

    /// Returns whether an end has to wait for the handler, which may still answer what came before:
    /// for [`ANSWER_GRACE`] from the last message that it took.
    fn awaits_answer(&self, ends: &mut Option<Instant>, now: Instant) -> bool {
        if !self.link.is_unanswered() {
            return false;
        }
        now < *ends.get_or_insert_with(|| timer::now() + self.answer_grace())
    }

    /// Returns whether nothing that is written can reach the peer any more, as far as that is known:
    /// a stream of HTTP/2 that was reset reads like one that has ended.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_cut_off()
            || (self.probes && matches!(self.engine.poll_gone(cx), Poll::Ready(Err(_))))
    }

    /// Loses the connection, to which nothing can be written any more, unless messages wait for room
    /// that the peer sent before it ended: those are still the handler's. A TCP connection that is
    /// reset without a FIN loses them.
    fn cut_off(&mut self, error: io::Error, cx: &Context<'_>) -> Option<Turn> {
        let is_tcp = self.engine.is_tcp();
        let crowd = self.crowd();
        if crowd.since.is_none() || (is_tcp && crowd.ended.is_none()) {
            return Some(self.lose(RecvError::Io(error), cx));
        }
        crowd.cut_off = Some(error);
        self.blocked = None;
        None
    }

    fn crowd(&mut self) -> &mut Crowd {
        self.crowd.get_or_insert_default()
    }

    /// Notes that no message waits for room.
    #[inline]
    fn has_room(&mut self) {
        let Some(crowd) = &mut self.crowd else { return };
        crowd.since = None;
        if crowd.ended.is_none() && crowd.cut_off.is_none() {
            self.crowd = None;
        }
    }

    fn is_cut_off(&self) -> bool {
        let crowd = self.crowd.as_ref();
        crowd.is_some_and(|crowd| crowd.cut_off.is_some())
    }

    fn take_cut_off(&mut self) -> Option<io::Error> {
        self.crowd.as_mut()?.cut_off.take()
    }

    fn answer_grace(&self) -> Duration {
        ANSWER_GRACE.min(self.config.close_limit())
    }

    fn has_spent(&self) -> bool {
        self.has_decoded || self.spent.is_enough()
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
        Err(self.fail(fault, CloseCode::POLICY_VIOLATION, cx))
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
        let flushed = self.poll_flush_later(now, cx);
        let waits = self.tell_written(cx);
        flushed.map_ok(|is_more| is_more || waits)
    }

    fn take_written(&mut self) -> Option<Load> {
        mem::take(&mut self.is_flushed).then(|| mem::take(&mut self.written))
    }

    /// Tells the holder of the link what was written, and returns whether somebody waits for the room
    /// that this makes.
    fn tell_written(&mut self, cx: &Context<'_>) -> bool {
        let written = self.take_written();
        written.is_some_and(|written| self.link.written(written, true, cx))
    }

    /// Writes as [`poll_flush`](Self::poll_flush) does, but when everything is written, the holder of
    /// the link is told so later.
    fn poll_flush_later(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.is_cut_off() {
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
        if !was_blocked && !mem::take(&mut self.has_taken_all) {
            self.link.take_outgoing(&mut self.engine.output);
        }
        let mut moved = Load::default();
        loop {
            let written = match self.engine.poll_write(cx) {
                Poll::Pending if was_blocked => self.poll_write_without_readiness(now),
                written => written,
            };
            let Poll::Ready(written) = written? else {
                // Room that was made before counts also if not everything could be written.
                let has_moved = !moved.is_empty();
                if has_moved || self.blocked.is_none() {
                    let now = timer::now();
                    self.blocked = Some(now);
                    self.stall.begins(now);
                }
                return if has_moved && self.link.written(moved, false, cx) {
                    Poll::Ready(Ok(true))
                } else {
                    Poll::Pending
                };
            };
            if !written.is_empty() {
                self.unflushed = true;
                self.spent.add(0, written.bytes);
                self.stall.backlog.take(written.bytes, now);
                self.release(written, &mut moved);
            } else if let Some(payload) = self.owed.take() {
                self.push_control(|engine| engine.output.push_pong(&payload));
            } else {
                self.blocked = None;
                if mem::take(&mut self.unflushed) {
                    (self.written, self.is_flushed) = (moved, true);
                }
                return Poll::Ready(Ok(was_blocked));
            }
        }
    }

    /// Adds what was written of messages to `moved`. Room is made late rather than early: control
    /// frames count as written first.
    fn release(&mut self, mut written: Load, moved: &mut Load) {
        let control = written.bytes.min(self.control_bytes);
        self.control_bytes -= control;
        written.bytes -= control;
        moved.messages += written.messages;
        moved.bytes += written.bytes;
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
