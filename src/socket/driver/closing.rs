//! The end of a connection, whoever starts it: what is still written and read, and for how long.

use std::{
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{Closing, Driver, Phase, Turn};
use crate::{
    codec::{Event, Role},
    socket::{RecvError, io::Io, link::Next, receiver::Found, timer},
    time::Moment,
    words::{CloseCode, CloseFrame, Closed, Side},
};

/// The slowest reader, in bytes a second, that a closing waits for.
pub(super) const SLOWEST: usize = 16 * 1024;

/// What the closing waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// The Close frames to cross: ours to be written, and the peer's to be read unless it came
    /// before or is not to be waited for.
    Exchange { written: bool, answered: bool },
    /// The writing half to be shut down: by a server first of all, by a client when the server has
    /// gone, so that the wait at the end of TCP falls to the server (RFC 6455 §7.1.1).
    Shutdown,
    /// The peer to go. A stream dropped with unread bytes makes the kernel send a reset, which can
    /// destroy the Close that is still on its way; so everything is read until the peer is gone.
    Drain,
}

impl<IO: Io> Driver<IO> {
    /// The peer broke a rule: it is told, behind what had been sent before.
    pub(super) fn fail(&mut self, fault: RecvError, code: CloseCode, cx: &Context<'_>) -> Turn {
        let frame = match &fault {
            RecvError::Protocol(rule) => CloseFrame::with_cut_reason(code, &rule.to_string()),
            fault => CloseFrame::with_cut_reason(code, &fault.to_string()),
        };
        self.link.note_close(&frame);
        self.link
            .end(Some(fault), Some(&mut self.engine.output), cx);
        let closed = Closed::new(Side::Local, Some(frame.clone()), false);
        self.enter_closing(closed, true, Some(frame))
    }

    /// The peer has ended its half of the stream, and maybe the other, too: it gets what was sent
    /// before and a Close, if it still reads.
    pub(super) fn end_of_stream(&mut self, cx: &Context<'_>) -> Turn {
        let gone = RecvError::Io(io::ErrorKind::UnexpectedEof.into());
        self.link.end(Some(gone), Some(&mut self.engine.output), cx);
        let code = CloseCode::PROTOCOL_ERROR;
        let frame = CloseFrame::with_cut_reason(code, "the stream ended without a close");
        let closed = Closed::new(Side::Remote, None, false);
        self.enter_closing(closed, true, Some(frame))
    }

    /// The connection is gone, or has to be given up: nobody can be told.
    pub(super) fn lose(&mut self, fault: RecvError, cx: &Context<'_>) -> Turn {
        let side = match fault {
            RecvError::Io(_) => Side::Remote,
            _ => Side::Local,
        };
        let closed = Closed::lost(side, fault.text());
        self.link.end(Some(fault), None, cx);
        self.finish(closed, cx)
    }

    /// This side closes.
    pub(super) fn begin_closing(
        &mut self,
        frame: CloseFrame,
        now: Moment,
        cx: &Context<'_>,
    ) -> Turn {
        // The time in which nothing was read is not held against what was on its way.
        self.resume(now);
        self.link.note_close(&frame);
        self.link.end(None, Some(&mut self.engine.output), cx);
        let closed = Closed::new(Side::Local, Some(frame.clone()), false);
        // No answer comes behind an end that has been read already.
        let answered = self.waiting.take().is_some();
        self.enter_closing(closed, answered, Some(frame))
    }

    /// The peer has closed: it is answered when the handler is through with what came before.
    pub(super) fn poll_answering(&mut self, now: Moment, cx: &mut Context<'_>) -> Turn {
        let is_closing = self.link.take_close().is_some();
        let longer = self
            .link
            .has_taken()
            .then(|| timer::now() + self.answer_grace());
        let Phase::Answering(answering) = &mut self.phase else {
            return Turn::Again;
        };
        answering.answer_at = longer.unwrap_or(answering.answer_at);
        let ready = self.link.was_told() || is_closing || answering.answer_at <= now;
        if ready {
            let frame = answering.frame.take();
            self.link.end(None, Some(&mut self.engine.output), cx);
            let echoed = frame
                .as_ref()
                .map(|frame| CloseFrame::without_reason(frame.code()));
            // Both Closes are there as soon as ours is written.
            return self.enter_closing(Closed::new(Side::Remote, frame, true), true, echoed);
        }
        match self.poll_flush(now, cx) {
            Poll::Ready(Ok(true)) => Turn::Again,
            Poll::Ready(Ok(false)) if self.has_spent() => Turn::Yield,
            Poll::Ready(Ok(false)) | Poll::Pending => Turn::Idle,
            Poll::Ready(Err(_)) => {
                // The peer's Close has come, so that it is known how this ended.
                let frame = answering_frame(&mut self.phase);
                self.link.end(None, None, cx);
                self.finish(Closed::new(Side::Remote, frame, false), cx)
            }
        }
    }

    /// Begins the closing, in which our Close is sent with this `frame`.
    fn enter_closing(&mut self, closed: Closed, answered: bool, frame: Option<CloseFrame>) -> Turn {
        let bytes = self.engine.output.load().bytes + self.link.uncompressed();
        let written = false;
        self.phase = Phase::Closing(Box::new(Closing {
            closed,
            deadline: self.closing_deadline(bytes),
            step: Step::Exchange { written, answered },
            unsent: Some(frame),
        }));
        self.send_close();
        Turn::Again
    }

    /// Queues our Close, the last frame that is written, unless something before it is still to be
    /// compressed.
    pub(super) fn send_close(&mut self) {
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        if self.link.uncompressed() > 0 {
            return;
        }
        let Some(frame) = closing.unsent.take() else {
            return;
        };
        if let Some(payload) = self.owed.take() {
            self.push_control(|engine| engine.output.push_pong(&payload));
        }
        self.push_control(|engine| engine.output.push_close(frame.as_ref()));
        let deadline = self.closing_deadline(self.engine.output.load().bytes);
        if let Phase::Closing(closing) = &mut self.phase {
            closing.deadline = closing.deadline.min(deadline);
        }
    }

    /// Returns until when the closing may last if so many bytes are still to be written: a slow reader
    /// gets the time that it takes at the slowest rate that is put up with.
    fn closing_deadline(&self, bytes: usize) -> Moment {
        let seconds = Duration::from_secs((bytes / SLOWEST) as u64);
        timer::now() + self.link.config().close_limit() + seconds
    }

    /// Errors end the closing, too: nobody is left to be told.
    pub(super) fn poll_closing(&mut self, now: Moment, cx: &mut Context<'_>) -> Turn {
        let _ = self.link.take_close();
        let role = self.link.role();
        loop {
            let Phase::Closing(closing) = &self.phase else {
                return Turn::Over;
            };
            let step = closing.step;
            // A task that runs late may have been given room meanwhile.
            let is_late = closing.deadline <= now
                || (self.is_stalled(now)
                    && self.poll_written(now, cx).is_pending()
                    && self.is_stalled(now));
            let Phase::Closing(closing) = &self.phase else {
                return Turn::Over;
            };
            if is_late {
                let mut late = closing.closed.clone();
                late.set_clean(late.is_clean() && !matches!(step, Step::Exchange { .. }));
                // With no time at all for the closing the Close is still sent, and a stream that is
                // dropped without its end might lose it.
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
                let enough = self.has_spent();
                return if enough { Turn::Yield } else { Turn::Idle };
            };
            let Phase::Closing(closing) = &mut self.phase else {
                return Turn::Over;
            };
            if let Ok(Some(next)) = next {
                closing.step = next;
                continue;
            }
            // A peer that resets the connection after the Closes have crossed loses nothing by it.
            let mut closed = closing.closed.clone();
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
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Step>>> {
        if !written {
            written = self.poll_written(now, cx)?.is_ready();
        }
        while !answered && !self.has_spent() {
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
            // Nobody is listened to any more, but what arrives has to go somewhere.
            let _ = self.poll_drain(cx)?;
        }
        if let Phase::Closing(closing) = &mut self.phase {
            if written && matches!(closing.step, Step::Exchange { written: false, .. }) {
                // Everything is with the peer, and so there is no reason to wait longer for it.
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

    /// Reads and decodes what is discarded but for a Close; `None` when nothing more comes.
    fn poll_discarded(&mut self, now: Moment, cx: &mut Context<'_>) -> Poll<Option<Found>> {
        let mut new = None;
        loop {
            let look = self.link.look(new.take(), None, now, cx);
            return Poll::Ready(match look.next {
                Next::Act(found) => Some(found),
                // It is closing already.
                Next::Close(_) => continue,
                Next::Inflate(receiver) => match self.inflate(receiver, now) {
                    None => return Poll::Pending,
                    found => found,
                },
                Next::ReadLarge(receiver) => match ready!(self.read_large(receiver, now, cx)) {
                    Ok(()) => continue,
                    Err(_) => None,
                },
                Next::Read(buffer) => {
                    self.engine.keep(buffer);
                    match ready!(self.engine.poll_read(cx)) {
                        Ok(Some(input)) => {
                            new = Some(input);
                            continue;
                        }
                        Ok(None) | Err(_) => None,
                    }
                }
                Next::Yield | Next::Receive | Next::Wait => {
                    self.has_done_enough = true;
                    return Poll::Pending;
                }
            });
        }
    }

    /// A stream that has something to write for its shutdown, as TLS has, may be able to only after
    /// we have read what the peer writes.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = self.engine.poll_shutdown(cx)?;
        if shutdown.is_pending() {
            let _ = self.poll_drain(cx)?;
        }
        shutdown.map(Ok)
    }

    /// Reads bytes and throws them away, until there are no more.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.has_spent() {
            match ready!(self.engine.poll_discard(cx))? {
                0 => return Poll::Ready(Ok(())),
                bytes => self.spent.add(0, bytes),
            }
        }
        Poll::Pending
    }

    /// Ready when everything is written, our Close included.
    fn poll_written(&mut self, now: Moment, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while ready!(self.poll_flush(now, cx))? {}
        match &self.phase {
            Phase::Closing(closing) if closing.unsent.is_some() => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn finish(&mut self, closed: Closed, cx: &Context<'_>) -> Turn {
        self.link.closed(closed, cx);
        self.phase = Phase::Over;
        Turn::Over
    }
}

/// Takes the peer's Close out of a phase in which it is answered.
fn answering_frame(phase: &mut Phase) -> Option<CloseFrame> {
    match phase {
        Phase::Answering(answering) => answering.frame.take(),
        _ => None,
    }
}
