//! The connection's life: when to read, to write, to close and to give up.
//!
//! [`Driver::poll`] does what can be done without waiting and says what is next. Reading stops
//! while the handler's inbox is full or output is blocked, so neither side can make the other
//! one's memory grow.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    engine::{Engine, Incoming},
    link::Link,
    timer::{Timer, now},
};
use crate::{
    close::{CloseCode, CloseFrame, Closed, Side},
    codec::{Control, Event, Load, Violation},
    config::Config,
    error::RecvError,
    keepalive::{Due, Keepalive},
    message::Message,
    rate::Bucket,
};

/// What one poll of the task may take in before the thread's other tasks get their turn.
const FRAMES: usize = 64;
const BYTES: usize = 256 * 1024;

/// The slowest reader, in bytes a second, that a closing waits for.
const SLOWEST: usize = 16 * 1024;

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

/// What the closing waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// The Close frames to cross: ours to be written, and the peer's to be read unless it came
    /// before or is not to be waited for.
    Exchange { written: bool, answered: bool },
    /// The writing half to be shut down.
    Shutdown,
    /// The peer to go. A stream dropped with unread bytes makes the kernel send a reset, which can
    /// destroy the Close that is still on its way; so everything is read until the peer is gone.
    Drain,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    pub(super) fn new(io: IO, config: &Config, link: Arc<Link>, seed: u64) -> Self {
        let now = now();
        let engine = Engine::new(io, config.limits());
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

    fn resume(&mut self, now: Instant) {
        if let Some(since) = self.paused.take() {
            self.engine.excuse(now.saturating_duration_since(since));
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
        if is_due(self.first_message_due) {
            let fault = RecvError::NoFirstMessage;
            return Some(self.fail(fault, CloseCode::POLICY_VIOLATION, now, cx));
        }
        if self.paused.is_some() {
            return None;
        }
        if is_due(self.engine.deadline()) {
            let fault = RecvError::TooSlow;
            return Some(self.fail(fault, CloseCode::POLICY_VIOLATION, now, cx));
        }
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
                self.first_message_due,
                self.engine.deadline().filter(|_| self.paused.is_none()),
                self.keepalive
                    .as_ref()
                    .filter(|_| self.paused.is_none())
                    .map(Keepalive::deadline),
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

    /// The peer broke a rule: it is told, behind what had been sent before.
    fn fail(&mut self, fault: RecvError, code: CloseCode, now: Instant, cx: &Context<'_>) -> Turn {
        let frame = match &fault {
            RecvError::Protocol(rule) => CloseFrame::because(code, &rule.to_string()),
            fault => CloseFrame::because(code, &fault.to_string()),
        };
        self.link
            .end(Some(fault), Some(&mut self.engine.output), cx);
        self.send_close(Some(&frame));
        let closed = Closed::new(Side::Local, Some(frame), false);
        self.enter_closing(closed, true, now)
    }

    /// The peer has ended its half of the stream, and maybe the other, too: it gets what was sent
    /// before and a Close, if it still reads.
    fn end_of_stream(&mut self, now: Instant, cx: &Context<'_>) -> Turn {
        let gone = RecvError::Io(io::ErrorKind::UnexpectedEof.into());
        self.link.end(Some(gone), Some(&mut self.engine.output), cx);
        let code = CloseCode::PROTOCOL_ERROR;
        self.send_close(Some(&CloseFrame::because(
            code,
            "the stream ended without a close",
        )));
        self.enter_closing(Closed::new(Side::Remote, None, false), true, now)
    }

    /// The connection is gone, or has to be given up: nobody can be told.
    fn lose(&mut self, fault: RecvError, cx: &Context<'_>) -> Turn {
        let side = match fault {
            RecvError::Io(_) => Side::Remote,
            _ => Side::Local,
        };
        self.link.end(Some(fault), None, cx);
        self.finish(Closed::new(side, None, false), cx)
    }

    /// This side closes.
    fn begin_closing(&mut self, frame: CloseFrame, now: Instant, cx: &Context<'_>) -> Turn {
        self.link.end(None, Some(&mut self.engine.output), cx);
        self.send_close(Some(&frame));
        let closed = Closed::new(Side::Local, Some(frame), false);
        self.enter_closing(closed, false, now)
    }

    /// The peer has closed: it is answered when the handler is through with what came before.
    fn poll_answering(&mut self, now: Instant, cx: &mut Context<'_>) -> Turn {
        let is_closing = self.link.take_close().is_some();
        let Phase::Answering { frame, answer_at } = &mut self.phase else {
            return Turn::Again;
        };
        let ready = self.link.was_told() || is_closing || *answer_at <= now;
        if ready {
            let frame = frame.take();
            self.link.end(None, Some(&mut self.engine.output), cx);
            let echoed = frame
                .as_ref()
                .map(|frame| CloseFrame::without_reason(frame.code()));
            self.send_close(echoed.as_ref());
            // Both Closes are there as soon as ours is written.
            return self.enter_closing(Closed::new(Side::Remote, frame, true), true, now);
        }
        match self.poll_flush(now, cx) {
            Poll::Ready(Ok(true)) => Turn::Again,
            Poll::Ready(Ok(false)) | Poll::Pending => Turn::Idle,
            Poll::Ready(Err(error)) => self.lose(RecvError::Io(error), cx),
        }
    }

    /// Queues the last frame that is written.
    fn send_close(&mut self, frame: Option<&CloseFrame>) {
        if let Some(payload) = self.owed.take() {
            self.push_control(|engine| engine.output.push_pong(&payload));
        }
        self.push_control(|engine| engine.output.push_close(frame));
    }

    fn enter_closing(&mut self, closed: Closed, answered: bool, now: Instant) -> Turn {
        // What was accepted before is still to be written, so that a slow reader gets the time that
        // it takes at the slowest rate that is put up with.
        let seconds = self.engine.output.load().bytes / SLOWEST;
        let written = false;
        self.phase = Phase::Closing {
            closed,
            deadline: now + self.close_limit + Duration::from_secs(seconds as u64),
            step: Step::Exchange { written, answered },
        };
        Turn::Again
    }

    /// Errors end the closing, too: nobody is left to be told.
    fn poll_closing(&mut self, now: Instant, cx: &mut Context<'_>) -> Turn {
        let _ = self.link.take_close();
        loop {
            let Phase::Closing {
                closed,
                deadline,
                step,
            } = &self.phase
            else {
                return Turn::Over;
            };
            let (overdue, step) = (*deadline <= now || self.is_stalled(now), *step);
            if overdue {
                let mut late = closed.clone();
                late.set_clean(late.is_clean() && !matches!(step, Step::Exchange { .. }));
                // With no time at all for the closing the Close is still sent.
                let _ = self.poll_flush(now, cx);
                return self.finish(late, cx);
            }
            let next = match step {
                Step::Exchange { written, answered } => {
                    self.poll_exchange(written, answered, now, cx)
                }
                Step::Shutdown => self.engine.poll_shutdown(cx).map_ok(|()| Some(Step::Drain)),
                Step::Drain => self.poll_drain(cx).map_ok(|()| None),
            };
            let Poll::Ready(next) = next else {
                let enough = self.has_spent();
                return if enough { Turn::Yield } else { Turn::Idle };
            };
            let Phase::Closing {
                closed,
                step: current,
                ..
            } = &mut self.phase
            else {
                return Turn::Over;
            };
            if let Ok(Some(next)) = next {
                *current = next;
                continue;
            }
            // A peer that resets the connection after the Closes have crossed loses nothing by it.
            let mut closed = closed.clone();
            closed.set_clean(closed.is_clean() && !matches!(step, Step::Exchange { .. }));
            return self.finish(closed, cx);
        }
    }

    /// Writes and reads at once: a peer that is itself blocked in writing reads our Close only
    /// after we have read what it writes.
    fn poll_exchange(
        &mut self,
        mut written: bool,
        mut answered: bool,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Step>>> {
        if !written {
            written = self.poll_written(now, cx)?.is_ready();
        }
        while !answered && !self.has_spent() {
            match self.engine.poll_incoming(cx, now) {
                Poll::Pending => break,
                Poll::Ready(Ok(Incoming::Event(Event::Close(_)))) => {
                    answered = true;
                    if let Phase::Closing { closed, .. } = &mut self.phase {
                        closed.set_clean(true);
                    }
                }
                Poll::Ready(Ok(Incoming::Event(_))) => self.spent.messages += 1,
                Poll::Ready(Ok(Incoming::Bytes(bytes))) => self.spent.bytes += bytes,
                Poll::Ready(Ok(Incoming::End | Incoming::Violation(_)) | Err(_)) => answered = true,
            }
        }
        if answered && !written {
            // Nobody is listened to any more, but what arrives has to go somewhere.
            let _ = self.poll_drain(cx)?;
        }
        if let Phase::Closing {
            closed,
            step,
            deadline,
        } = &mut self.phase
        {
            if written && matches!(step, Step::Exchange { written: false, .. }) {
                // Everything is with the peer, and so there is no reason to wait longer for it.
                *deadline = (*deadline).min(now + self.close_limit);
            }
            *step = Step::Exchange { written, answered };
            if written && answered {
                self.link.closed(closed.clone(), cx);
                return Poll::Ready(Ok(Some(Step::Shutdown)));
            }
        }
        Poll::Pending
    }

    /// Reads bytes and throws them away, until there are no more.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.has_spent() {
            match ready!(self.engine.poll_discard(cx))? {
                0 => return Poll::Ready(Ok(())),
                bytes => self.spent.bytes += bytes,
            }
        }
        Poll::Pending
    }

    /// Ready when everything is written.
    fn poll_written(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while ready!(self.poll_flush(now, cx))? {}
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self, closed: Closed, cx: &Context<'_>) -> Turn {
        self.link.closed(closed, cx);
        self.phase = Phase::Over;
        Turn::Over
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
