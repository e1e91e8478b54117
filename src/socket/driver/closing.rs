//! The end of a connection: what is still written and read, and for how long.

use std::{
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{Closing, Driver, Phase, Progress};
use crate::{
    codec::{Event, Role},
    socket::{RecvError, io::Io, link::Next, receiver::Found, timer},
    time::Moment,
    words::{CloseCode, CloseFrame, Closed, Side},
};

/// The lowest rate, in bytes a second, at which the closing lets a peer read.
pub(super) const MIN_RATE: usize = 16 * 1024;

/// The steps of the closing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Wait for both Closes: ours is `written`, and the peer's is `answered` when it was read or is
    /// not waited for.
    Exchange { written: bool, answered: bool },
    /// Shut down the writing half. A server does so at once, a client after the server has gone:
    /// TIME_WAIT then falls to the server (RFC 6455 §7.1.1).
    Shutdown,
    /// Read until the peer has gone. A stream that is dropped with unread bytes makes the kernel
    /// send a reset, which can destroy our Close on its way.
    Drain,
}

impl<IO: Io> Driver<IO> {
    /// Closes because the peer broke a rule. Queued messages are written before the Close.
    #[cold]
    pub(super) fn fail(&mut self, fault: RecvError, code: CloseCode, cx: &Context<'_>) -> Progress {
        let frame = match &fault {
            RecvError::Protocol(rule) => CloseFrame::truncated(code, rule.to_string()),
            fault => CloseFrame::truncated(code, fault.to_string()),
        };
        self.link.note_close(Some(&frame));
        self.link
            .end(Some(fault), Some(&mut self.engine.output), cx);
        let closed = Closed::new(Side::Local, Some(frame.clone()), false);
        self.enter_closing(closed, true, Some(frame))
    }

    /// Closes because the peer has ended its half of the stream. If it still reads, it gets the
    /// queued messages and a Close.
    #[cold]
    pub(super) fn end_of_stream(&mut self, cx: &Context<'_>) -> Progress {
        let gone = RecvError::Io(io::ErrorKind::UnexpectedEof.into());
        self.link.end(Some(gone), Some(&mut self.engine.output), cx);
        let code = CloseCode::PROTOCOL_ERROR;
        let frame = CloseFrame::truncated(code, "the stream ended without a close");
        let closed = Closed::new(Side::Remote, None, false);
        self.enter_closing(closed, true, Some(frame))
    }

    /// Ends a connection on which no Close can be sent.
    #[cold]
    pub(super) fn lose(&mut self, fault: RecvError, cx: &Context<'_>) -> Progress {
        let side = match fault {
            RecvError::Io(_) => Side::Remote,
            _ => Side::Local,
        };
        let closed = Closed::lost(side, fault.text());
        self.link.end(Some(fault), None, cx);
        self.finish(closed, cx)
    }

    /// Closes because this side wants to. The Close has no code if there is no `frame`.
    #[cold]
    pub(super) fn begin_closing(
        &mut self,
        frame: Option<CloseFrame>,
        now: Moment,
        cx: &Context<'_>,
    ) -> Progress {
        // Adjusts the deadlines if the connection was paused.
        self.resume(now);
        self.link.note_close(frame.as_ref());
        self.link.end(None, Some(&mut self.engine.output), cx);
        let closed = Closed::new(Side::Local, frame.clone(), false);
        // After the end of input no Close can come.
        let answered = self.take_pending_end().is_some();
        self.enter_closing(closed, answered, frame)
    }

    /// Answers the peer's Close once the handler has received all messages, or has had its time.
    #[cold]
    pub(super) fn poll_answering(&mut self, now: Moment, cx: &mut Context<'_>) -> Progress {
        let is_closing = self.link.take_close().is_some();
        let longer = self
            .link
            .holder_has_received()
            .then(|| timer::now() + self.answer_grace());
        let Phase::Answering(answering) = &mut self.phase else {
            return Progress::Again;
        };
        answering.answer_at = longer.unwrap_or(answering.answer_at);
        let ready = self.link.holder_is_done() || is_closing || answering.answer_at <= now;
        if ready {
            let frame = answering.frame.take();
            self.link.end(None, Some(&mut self.engine.output), cx);
            let echoed = frame
                .as_ref()
                .map(|frame| CloseFrame::without_reason(frame.code()));
            // Clean: both Closes have been exchanged once ours is written.
            return self.enter_closing(Closed::new(Side::Remote, frame, true), true, echoed);
        }
        match self.poll_flush(now, cx) {
            Poll::Ready(Ok(true)) => Progress::Again,
            Poll::Ready(Ok(false)) if self.budget_spent() => Progress::Yield,
            Poll::Ready(Ok(false)) | Poll::Pending => Progress::Idle,
            Poll::Ready(Err(_)) => {
                // The peer's Close has come, so it is the reason for the end.
                let frame = take_answering_frame(&mut self.phase);
                self.link.end(None, None, cx);
                self.finish(Closed::new(Side::Remote, frame, false), cx)
            }
        }
    }

    /// Starts the closing. Our Close is sent with this `frame`.
    pub(super) fn enter_closing(
        &mut self,
        closed: Closed,
        answered: bool,
        frame: Option<CloseFrame>,
    ) -> Progress {
        let bytes = self.engine.output.load().bytes + self.link.uncompressed();
        let written = false;
        self.phase = Phase::Closing(Box::new(Closing {
            closed,
            deadline: self.closing_deadline(bytes),
            step: Step::Exchange { written, answered },
            unsent_close: Some(frame),
        }));
        self.send_close();
        Progress::Again
    }

    /// Queues our Close, the last frame, unless earlier messages have to be compressed first.
    pub(super) fn send_close(&mut self) {
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        if self.link.uncompressed() > 0 {
            return;
        }
        let Some(frame) = closing.unsent_close.take() else {
            return;
        };
        if let Some(payload) = self.take_unanswered_ping() {
            self.push_control(|engine| engine.output.push_pong(&payload));
        }
        self.push_control(|engine| engine.output.push_close(frame.as_ref()));
        let deadline = self.closing_deadline(self.engine.output.load().bytes);
        if let Phase::Closing(closing) = &mut self.phase {
            closing.deadline = closing.deadline.min(deadline);
        }
    }

    /// Returns the deadline of a closing that has to write `bytes`. It includes the time that the
    /// slowest accepted reader takes.
    fn closing_deadline(&self, bytes: usize) -> Moment {
        let seconds = Duration::from_secs((bytes / MIN_RATE) as u64);
        timer::now() + self.link.config().close_limit() + seconds
    }

    /// Continues the closing. An error ends it, too.
    #[cold]
    pub(super) fn poll_closing(&mut self, now: Moment, cx: &mut Context<'_>) -> Progress {
        let _ = self.link.take_close();
        let role = self.link.role();
        loop {
            let Phase::Closing(closing) = &self.phase else {
                return Progress::Over;
            };
            let step = closing.step;
            // Before giving up, try once more: output may have moved while the task was late.
            let is_late = closing.deadline <= now
                || (self.is_stalled(now)
                    && self.poll_written(now, cx).is_pending()
                    && self.is_stalled(now));
            let Phase::Closing(closing) = &self.phase else {
                return Progress::Over;
            };
            if is_late {
                let mut late = closing.closed.clone();
                late.set_clean(late.is_clean() && !matches!(step, Step::Exchange { .. }));
                // With a timeout of zero the Close is written only here. A stream that is dropped
                // without a shutdown might lose it.
                let is_exchange = matches!(step, Step::Exchange { .. });
                if matches!(self.poll_written(now, cx), Poll::Ready(Ok(()))) && is_exchange {
                    let _ = self.engine.poll_shutdown(cx);
                }
                return self.finish(late, cx);
            }
            let next = match step {
                Step::Exchange { written, answered } => {
                    self.poll_exchange(written, answered, now, cx)
                }
                Step::Shutdown => self.poll_shutdown(cx).map_ok(|()| match role {
                    Role::Server => Some(Step::Drain),
                    Role::Client => None,
                }),
                Step::Drain => self.poll_drain(cx).map_ok(|()| match role {
                    Role::Server => None,
                    Role::Client => Some(Step::Shutdown),
                }),
            };
            let Poll::Ready(next) = next else {
                let enough = self.budget_spent();
                return if enough {
                    Progress::Yield
                } else {
                    Progress::Idle
                };
            };
            let Phase::Closing(closing) = &mut self.phase else {
                return Progress::Over;
            };
            if let Ok(Some(next)) = next {
                closing.step = next;
                continue;
            }
            // A reset after both Closes does not make the end unclean.
            let mut closed = closing.closed.clone();
            closed.set_clean(closed.is_clean() && !matches!(step, Step::Exchange { .. }));
            return self.finish(closed, cx);
        }
    }

    /// Writes and reads at the same time: a peer whose own output is blocked reads our Close only
    /// after we have read.
    fn poll_exchange(
        &mut self,
        mut written: bool,
        mut answered: bool,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Step>>> {
        if !written {
            written = self.poll_written(now, cx)?.is_ready();
        }
        while !answered && !self.budget_spent() {
            match self.poll_discarded(now, cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Found::Event(Event::Close(_)))) => {
                    answered = true;
                    if let Phase::Closing(closing) = &mut self.phase {
                        closing.closed.set_clean(true);
                    }
                }
                Poll::Ready(Some(Found::Event(_) | Found::Nothing)) => {}
                Poll::Ready(Some(Found::Violation(_)) | None) => answered = true,
            }
        }
        if answered && !written {
            // Input is discarded, so that the peer's output is not blocked.
            let _ = self.poll_drain(cx)?;
        }
        if let Phase::Closing(closing) = &mut self.phase {
            if written && matches!(closing.step, Step::Exchange { written: false, .. }) {
                // The peer has all our output, so only the usual timeout remains.
                let limit = self.link.config().close_limit();
                closing.deadline = closing.deadline.min(timer::now() + limit);
            }
            closing.step = Step::Exchange { written, answered };
            if written && answered {
                self.link.closed(closing.closed.clone(), cx);
                return Poll::Ready(Ok(Some(match self.link.role() {
                    Role::Server => Step::Shutdown,
                    Role::Client => Step::Drain,
                })));
            }
        }
        Poll::Pending
    }

    /// Reads, decodes and discards messages. Ready with other items, or with `None` at the end of
    /// input.
    fn poll_discarded(&mut self, now: Moment, cx: &mut Context<'_>) -> Poll<Option<Found>> {
        let mut new = None;
        loop {
            let decoded = self.link.decode(new.take(), None, now, cx);
            return Poll::Ready(match decoded.next {
                Next::Handle(found) => Some(found),
                // The connection is closing already.
                Next::Run(_) => continue,
                Next::Inflate(receiver) => match self.inflate(receiver, now) {
                    None => return Poll::Pending,
                    found => found,
                },
                Next::ReadLarge(receiver) => match ready!(self.read_large(receiver, now, cx)) {
                    Ok(()) => continue,
                    Err(_) => None,
                },
                Next::Read(buffer) => {
                    self.engine.set_buffer(buffer);
                    match ready!(self.engine.poll_read(cx)) {
                        Ok(Some(input)) => {
                            new = Some(input);
                            continue;
                        }
                        Ok(None) | Err(_) => None,
                    }
                }
                Next::Yield | Next::Receive | Next::Wait => {
                    self.must_yield = true;
                    return Poll::Pending;
                }
            });
        }
    }

    /// Shuts the stream down, and reads meanwhile: TLS may be able to write its last bytes only
    /// after we have read the peer's.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = self.engine.poll_shutdown(cx)?;
        if shutdown.is_pending() {
            let _ = self.poll_drain(cx)?;
        }
        shutdown.map(Ok)
    }

    /// Reads and discards bytes until the end of the stream.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.budget_spent() {
            match ready!(self.engine.poll_discard(cx))? {
                0 => return Poll::Ready(Ok(())),
                bytes => self.spent.add(0, bytes),
            }
        }
        Poll::Pending
    }

    /// Ready when all output is written, including our Close.
    fn poll_written(&mut self, now: Moment, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while ready!(self.poll_flush(now, cx))? {}
        match &self.phase {
            Phase::Closing(closing) if closing.unsent_close.is_some() => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn finish(&mut self, closed: Closed, cx: &Context<'_>) -> Progress {
        self.link.closed(closed, cx);
        self.phase = Phase::Over;
        Progress::Over
    }
}

/// Takes the peer's Close out of the answering phase.
fn take_answering_frame(phase: &mut Phase) -> Option<CloseFrame> {
    match phase {
        Phase::Answering(answering) => answering.frame.take(),
        _ => None,
    }
}
