//! Reading: messages for the handler, control frames, and the end of input.

use std::{
    mem,
    task::{Context, Poll},
};

use super::{Answering, Driver, EndCause, PendingEnd, Phase, Progress};
use crate::{
    codec::{Control, Event, Violation},
    socket::{
        RecvError,
        input::Input,
        io::Io,
        link::{Command, FastPath, Next},
        receiver::{Found, Receiver},
        timer,
    },
    time::Moment,
    words::CloseCode,
};

impl<IO: Io> Driver<IO> {
    /// Reads and decodes until there is nothing to read, the inbox is full, or the budget of the
    /// poll is spent. Returns whether the handler has something to receive.
    pub(super) fn read(&mut self, now: Moment, cx: &mut Context<'_>) -> Result<bool, Progress> {
        let (mut delivered, mut new, mut is_read_out) = (false, None, false);
        if mem::take(&mut self.reads_first) {
            match self.poll_read(cx) {
                Poll::Pending => is_read_out = true,
                Poll::Ready(Ok(input)) => new = Some(input),
                Poll::Ready(Err(cause)) => {
                    self.end_input(cause);
                    if let Some(frame) = self.link.take_close() {
                        return Err(self.begin_closing(frame, now, cx));
                    }
                }
            }
        }
        loop {
            if let Some(pending_end) = self.take_pending_end() {
                self.resume(now);
                return self.handle_end(pending_end, delivered, now, cx);
            }
            self.resume(now);
            if self.blocked_since.is_none() {
                match self.link.fast_path(&mut new, &mut self.engine.output, cx) {
                    FastPath::Receive => {
                        self.note_inbox_room();
                        self.assembly_due = None;
                        // Deadlines are checked after the handler has received the message.
                        return Err(Progress::Again);
                    }
                    FastPath::Read {
                        buffer,
                        message_decoded,
                        outbox_empty,
                    } => {
                        self.note_inbox_room();
                        self.assembly_due = None;
                        self.outbox_empty = outbox_empty;
                        if message_decoded {
                            self.reset_keepalive(now);
                            self.first_message_came();
                        }
                        match self.read_into(buffer, is_read_out, cx) {
                            Poll::Pending => return self.on_nothing_read(delivered, cx),
                            Poll::Ready(Ok(input)) => new = Some(input),
                            Poll::Ready(Err(cause)) => self.end_input(cause),
                        }
                        continue;
                    }
                    FastPath::NotTaken => {}
                }
            }
            if !self.decode(&mut new, &mut delivered, is_read_out, now, cx)? {
                return Ok(delivered);
            }
        }
    }

    /// Decodes once. Returns whether the poll goes on reading.
    #[inline(never)]
    fn decode(
        &mut self,
        new: &mut Option<Box<Input>>,
        delivered: &mut bool,
        is_read_out: bool,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Result<bool, Progress> {
        let is_blocked = self.blocked_since.is_some();
        let output = (!is_blocked).then_some(&mut self.engine.output);
        let decoded = self.link.decode(new.take(), output, now, cx);
        self.outbox_empty = decoded.outbox_empty;
        if decoded.message_decoded {
            self.reset_keepalive(now);
            self.first_message_came();
        }
        self.assembly_due = decoded.deadline;
        *delivered |= decoded.delivered;
        if decoded.holder_received || !matches!(decoded.next, Next::Wait) {
            self.note_inbox_room();
        }
        let cause = match decoded.next {
            Next::Receive => {
                *delivered = true;
                return Ok(false);
            }
            Next::Run(command) => match *command {
                Command::Close(frame) => return Err(self.begin_closing(frame, now, cx)),
                Command::Ping => {
                    self.send_ping();
                    None
                }
            },
            Next::Wait => {
                self.note_inbox_full();
                self.pause();
                return Ok(false);
            }
            Next::Yield => {
                self.must_yield = true;
                return Ok(false);
            }
            Next::Handle(found) => self.handle(found, now, cx)?,
            Next::Inflate(receiver) => match self.inflate(receiver, now) {
                None => return Ok(false),
                Some(Found::Event(Event::Message(message))) => {
                    self.link.deliver(message, cx);
                    *delivered = true;
                    None
                }
                Some(found) => self.handle(found, now, cx)?,
            },
            Next::ReadLarge(receiver) => match self.read_large(receiver, now, cx) {
                Poll::Pending => return self.on_nothing_read(*delivered, cx).map(|_| false),
                Poll::Ready(Ok(())) => None,
                Poll::Ready(Err(cause)) => Some(cause),
            },
            Next::Read(buffer) => match self.read_into(buffer, is_read_out, cx) {
                Poll::Pending => return self.on_nothing_read(*delivered, cx).map(|_| false),
                Poll::Ready(Ok(input)) => {
                    *new = Some(input);
                    None
                }
                Poll::Ready(Err(cause)) => Some(cause),
            },
        };
        if let Some(cause) = cause {
            self.end_input(cause);
        }
        Ok(true)
    }

    /// Notes that the input ends.
    #[cold]
    fn end_input(&mut self, cause: EndCause) {
        self.rare_mut().pending_end = Some(Box::new(PendingEnd { cause, ends: None }));
    }

    pub(super) fn pending_end(&self) -> Option<&PendingEnd> {
        self.rare.as_ref()?.pending_end.as_deref()
    }

    pub(super) fn is_end_pending(&self) -> bool {
        self.pending_end().is_some()
    }

    pub(super) fn take_pending_end(&mut self) -> Option<Box<PendingEnd>> {
        self.rare.as_mut()?.pending_end.take()
    }

    /// Reads into a buffer, unless the caller knows that there `is_nothing` to read.
    fn read_into(
        &mut self,
        buffer: Option<Box<Input>>,
        is_nothing: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Box<Input>, EndCause>> {
        self.engine.set_buffer(buffer);
        let read = match is_nothing {
            true => Poll::Pending,
            false => self.poll_read(cx),
        };
        self.reads_first = read.is_pending();
        read
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Input>, EndCause>> {
        self.engine.poll_read(cx).map(|read| match read {
            Ok(Some(input)) => Ok(input),
            Ok(None) => Err(EndCause::EndOfStream),
            Err(error) => Err(EndCause::Io(error)),
        })
    }

    /// Handles a stream that has nothing to read now. After a write error this is the end of the
    /// connection.
    fn on_nothing_read(&mut self, delivered: bool, cx: &Context<'_>) -> Result<bool, Progress> {
        let error = match delivered {
            true => None,
            false => self.take_write_error(),
        };
        match error {
            Some(error) => Err(self.lose(RecvError::Io(error), cx)),
            None => Ok(delivered),
        }
    }

    /// Inflates the input. Returns `None` if the budget of the poll is used up first.
    pub(super) fn inflate(&mut self, mut receiver: Receiver, now: Moment) -> Option<Found> {
        let found = receiver.inflate(&mut self.inflate_budget, now);
        self.link.put_back(receiver);
        self.must_yield |= found.is_none();
        found
    }

    pub(super) fn read_large(
        &mut self,
        mut receiver: Receiver,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), EndCause>> {
        let read = match receiver.direct_read() {
            Some(rooms) => self.engine.poll_read_large(cx, rooms),
            None => Poll::Ready(Ok(0)),
        };
        let len = match read {
            Poll::Ready(Ok(len)) => len,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        receiver.finish_direct_read(len, now);
        self.link.put_back(receiver);
        read.map(|read| match read {
            Ok(0) => Err(EndCause::EndOfStream),
            Ok(_) => Ok(()),
            Err(error) => Err(EndCause::Io(error)),
        })
    }

    /// Handles a control frame. Returns the cause if the input ends.
    fn handle(
        &mut self,
        found: Found,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Result<Option<EndCause>, Progress> {
        match found {
            Found::Event(Event::Message(_)) | Found::Nothing => {}
            Found::Event(Event::Ping(payload)) => {
                self.reset_keepalive(now);
                self.count_control_frame(now, cx)?;
                self.answer_ping(payload);
            }
            Found::Event(Event::Pong(payload)) => {
                // Only an unexpected pong counts against the limit.
                if !self.note_pong(&payload, timer::now(), cx) {
                    self.count_control_frame(now, cx)?;
                }
            }
            Found::Event(Event::Close(frame)) => {
                self.link.end_input(frame.as_ref(), cx);
                self.phase = Phase::Answering(Box::new(Answering {
                    frame,
                    answer_at: timer::now() + self.answer_grace(),
                }));
                return Err(Progress::Again);
            }
            Found::Violation(violation) => return Ok(Some(EndCause::Violation(violation))),
        }
        Ok(None)
    }

    /// Handles the end of input, once the handler has had its time to answer earlier messages.
    #[cold]
    fn handle_end(
        &mut self,
        mut pending_end: Box<PendingEnd>,
        delivered: bool,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Result<bool, Progress> {
        if self.link.holder_has_received() {
            pending_end.ends = None;
        }
        let waits_for_handler = match pending_end.cause {
            EndCause::EndOfStream => {
                !self.is_gone(cx) && self.awaits_answer(&mut pending_end.ends, now)
            }
            EndCause::Violation(_) => self.awaits_answer(&mut pending_end.ends, now),
            EndCause::Io(_) => false,
        };
        if delivered || waits_for_handler {
            self.rare_mut().pending_end = Some(pending_end);
            return Ok(delivered);
        }
        Err(match pending_end.cause {
            EndCause::EndOfStream => match self.take_reset() {
                Some(error) => self.lose(RecvError::Io(error), cx),
                None => self.end_of_stream(cx),
            },
            EndCause::Violation(violation) => {
                self.fail(recv_error(violation), violation.close_code(), cx)
            }
            EndCause::Io(error) => self.lose(RecvError::Io(error), cx),
        })
    }

    /// Returns whether the end has to wait for the handler's answers: up to `ANSWER_GRACE` after
    /// the last message that it received.
    fn awaits_answer(&self, ends: &mut Option<Moment>, now: Moment) -> bool {
        if !self.link.holder_may_answer() {
            return false;
        }
        now < *ends.get_or_insert_with(|| timer::now() + self.answer_grace())
    }

    /// Returns whether the peer is known to receive nothing any more. An HTTP/2 stream that was
    /// reset reads like one that has ended.
    pub(super) fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        self.has_write_error()
            || (self.probes && matches!(self.engine.poll_gone(cx), Poll::Ready(Err(_))))
    }

    fn count_control_frame(&mut self, now: Moment, cx: &Context<'_>) -> Result<(), Progress> {
        if self
            .control_frames
            .take(1, self.link.config().control_frames(), now)
        {
            return Ok(());
        }
        let fault = RecvError::TooManyControlFrames;
        Err(self.fail(fault, CloseCode::POLICY_VIOLATION, cx))
    }

    pub(super) fn take_unanswered_ping(&mut self) -> Option<Box<Control>> {
        self.rare.as_mut()?.unanswered_ping.take()
    }

    /// Answers a ping. While output is blocked only the newest ping is kept, which RFC 6455 §5.5.3
    /// allows.
    fn answer_ping(&mut self, payload: Box<Control>) {
        if self.blocked_since.is_some() {
            self.rare_mut().unanswered_ping = Some(payload);
        } else {
            self.push_control(|engine| engine.output.push_pong(&payload));
        }
    }
}

fn recv_error(violation: Violation) -> RecvError {
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
