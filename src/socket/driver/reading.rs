//! What is read: messages for the handler, control frames to act on, and the end of it.

use std::{
    mem,
    task::{Context, Poll},
};

use super::{Answering, Driver, Fault, Phase, Turn, Waiting};
use crate::{
    codec::{Control, Event, Violation},
    socket::{
        RecvError,
        input::Input,
        io::Io,
        link::{Glance, Next},
        receiver::{Found, Receiver},
        timer,
    },
    time::{Moment, keepalive::Pong},
    words::CloseCode,
};

impl<IO: Io> Driver<IO> {
    /// Reads and decodes until there is nothing to read, no room for the next message, or enough was
    /// done for now. Returns whether the handler got something, or what else became of the
    /// connection.
    pub(super) fn read(&mut self, now: Moment, cx: &mut Context<'_>) -> Result<bool, Turn> {
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
                    self.waits_for_room();
                    self.pause();
                    return Ok(delivered);
                }
                Next::Yield => {
                    self.has_done_enough = true;
                    return Ok(delivered);
                }
                Next::Act(found) => self.act(found, now, cx)?,
                Next::Inflate(receiver) => match self.inflate(receiver, now) {
                    None => return Ok(delivered),
                    Some(Found::Event(Event::Message(message))) => {
                        self.link.deliver(message, cx);
                        delivered = true;
                        None
                    }
                    Some(found) => self.act(found, now, cx)?,
                },
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

    /// Inflates what has come, and returns what it is; `None` if the poll's share is used up before.
    pub(super) fn inflate(&mut self, mut receiver: Box<Receiver>, now: Moment) -> Option<Found> {
        let found = receiver.inflate(&mut self.inflates, now);
        self.link.put_back(receiver);
        self.has_done_enough |= found.is_none();
        found
    }

    pub(super) fn read_large(
        &mut self,
        mut receiver: Box<Receiver>,
        now: Moment,
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
        now: Moment,
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
        now: Moment,
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
    fn awaits_answer(&self, ends: &mut Option<Moment>, now: Moment) -> bool {
        if !self.link.is_unanswered() {
            return false;
        }
        now < *ends.get_or_insert_with(|| timer::now() + self.answer_grace())
    }

    /// Returns whether nothing that is written can reach the peer any more, as far as that is known:
    /// a stream of HTTP/2 that was reset reads like one that has ended.
    pub(super) fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_cut_off()
            || (self.probes && matches!(self.engine.poll_gone(cx), Poll::Ready(Err(_))))
    }

    /// Takes a pong, and returns whether it answers a ping of ours.
    fn take_pong(&mut self, payload: &[u8], now: Moment) -> bool {
        let Some(keepalive) = &mut self.keepalive else {
            return false;
        };
        keepalive.heard(now);
        let pong = keepalive.pong(payload, now);
        if let Pong::Awaited(round_trip) = pong {
            self.stall.backlog.was_read();
            self.link.set_round_trip(round_trip);
            if let Some(meter) = &self.meter {
                meter.round_trip(round_trip);
            }
        }
        pong != Pong::Unasked
    }

    fn take_control(&mut self, now: Moment, cx: &Context<'_>) -> Result<(), Turn> {
        if self
            .control_frames
            .take(1, self.link.config().control_frames(), now)
        {
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
}

fn fault(violation: Violation) -> RecvError {
    match violation {
        Violation::Protocol(rule) => RecvError::Protocol(rule.into()),
        Violation::InvalidUtf8 => RecvError::InvalidUtf8,
        Violation::TooLarge => RecvError::TooLarge,
        Violation::TooManyFragments => RecvError::TooManyFragments,
        Violation::TooManyFinalBlocks => RecvError::TooManyFinalBlocks,
        Violation::TooSlow => RecvError::TooSlow,
        Violation::TooFast => RecvError::TooFast,
    }
}
