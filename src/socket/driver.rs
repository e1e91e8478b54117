//! The connection's life: when to read, to write, to close and to give up.
//!
//! [`Driver::poll`] does what can be done without waiting and says whether more is to do after the
//! handler had its turn. Reading stops while the handler's inbox is full or output is blocked, so
//! neither side can make the other one's memory grow.

use std::{
    collections::VecDeque,
    future::Future,
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Sleep, sleep},
};

use super::{
    engine::{Engine, Incoming, close_code},
    link::{Link, Load},
};
use crate::{close::CloseFrame, config::Config, error::RecvError, message::Message};

/// What a poll of the connection came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// Poll the handler, then the connection again.
    Again,
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
    close_limit: Duration,
    phase: Phase,
    /// Handed to the engine and not flushed yet.
    unflushed: Load,
    /// The last flush did not come through.
    blocked: bool,
    /// Kept so that its memory is used again.
    outgoing: VecDeque<Message>,
}

#[derive(Debug)]
enum Phase {
    Open,
    Closing {
        deadline: Pin<Box<Sleep>>,
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
    pub(super) async fn new(io: IO, config: &Config, link: Arc<Link>) -> Self {
        Self {
            engine: Engine::new(io, config).await,
            link,
            close_limit: config.close_limit(),
            phase: Phase::Open,
            unflushed: Load::default(),
            blocked: false,
            outgoing: VecDeque::new(),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Turn {
        if let Phase::Open = self.phase {
            let turn = self.poll_open(cx);
            if let Phase::Open = self.phase {
                return turn;
            }
        }
        match self.poll_closing(cx) {
            Poll::Pending => Turn::Idle,
            Poll::Ready(()) => {
                self.phase = Phase::Over;
                self.link.closed(cx);
                Turn::Over
            }
        }
    }

    /// What it returns counts only if the connection stays open.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Turn {
        match self.write_outgoing() {
            Err(error) => return self.lose(error, cx),
            Ok(Some(frame)) => return self.send_close(&frame, false),
            Ok(None) => {}
        }
        if self.blocked {
            // Nothing is read before output moves again.
            return match self.poll_flush(cx) {
                Poll::Pending => Turn::Idle,
                Poll::Ready(Err(error)) => self.lose(error, cx),
                Poll::Ready(Ok(_)) => Turn::Again,
            };
        }
        while self.link.has_room() {
            match self.engine.poll_read(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(Incoming::Control)) => {}
                Poll::Ready(Ok(Incoming::Message(message))) => {
                    self.link.deliver(message, cx);
                    // What the handler replies is gathered with the replies to what is still to be
                    // read, and flushed when there is nothing left to be read.
                    return Turn::Again;
                }
                Poll::Ready(Ok(Incoming::Close)) => {
                    self.link.end(None, cx);
                    self.begin_closing(true);
                    return Turn::Again;
                }
                Poll::Ready(Ok(Incoming::End)) => {
                    return self.lose(io::ErrorKind::UnexpectedEof.into(), cx);
                }
                Poll::Ready(Err(fault)) => return self.fail(fault, cx),
            }
        }
        if self.unflushed.is_empty() {
            return Turn::Idle;
        }
        match self.poll_flush(cx) {
            Poll::Pending => Turn::Idle,
            Poll::Ready(Err(error)) => self.lose(error, cx),
            Poll::Ready(Ok(true)) => Turn::Again,
            Poll::Ready(Ok(false)) => Turn::Idle,
        }
    }

    /// Moves what the handler sent into the engine and returns the Close that is to follow.
    fn write_outgoing(&mut self) -> io::Result<Option<CloseFrame>> {
        let close = self.link.take_outgoing(&mut self.outgoing);
        for message in self.outgoing.drain(..) {
            self.unflushed.add(&message);
            self.engine.write(message)?;
        }
        Ok(close)
    }

    /// Ready with whether the handler waits for the room that this made.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let flushed = self.engine.poll_flush(cx);
        self.blocked = flushed.is_pending();
        ready!(flushed)?;
        Poll::Ready(Ok(self.link.written(mem::take(&mut self.unflushed), cx)))
    }

    /// The peer broke a rule, or the connection: it is told, if it can be.
    fn fail(&mut self, fault: RecvError, cx: &Context<'_>) -> Turn {
        let code = close_code(&fault);
        self.link.end(Some(fault), cx);
        match (code, self.write_outgoing()) {
            (Some(code), Ok(_)) => self.send_close(&CloseFrame::without_reason(code), true),
            _ => {
                self.phase = Phase::Over;
                Turn::Over
            }
        }
    }

    fn lose(&mut self, error: io::Error, cx: &Context<'_>) -> Turn {
        self.fail(RecvError::Io(error), cx)
    }

    fn send_close(&mut self, frame: &CloseFrame, answered: bool) -> Turn {
        match self.engine.write_close(frame) {
            Ok(()) => self.begin_closing(answered),
            Err(_) => self.phase = Phase::Over,
        }
        Turn::Again
    }

    fn begin_closing(&mut self, answered: bool) {
        self.phase = Phase::Closing {
            deadline: Box::pin(sleep(self.close_limit)),
            step: Step::Exchange {
                written: false,
                answered,
            },
        };
    }

    /// Ready when the stream can be dropped. Errors end it, too: nobody is left to be told.
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Phase::Closing { deadline, step } = &mut self.phase else {
                return Poll::Ready(());
            };
            if deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let next = match *step {
                Step::Exchange { written, answered } => {
                    ready!(self.poll_exchange(written, answered, cx))
                }
                Step::Shutdown => ready!(self.engine.poll_shutdown(cx)).map(|()| Step::Drain),
                Step::Drain => return self.engine.poll_drain(cx).map(drop),
            };
            match (&mut self.phase, next) {
                (Phase::Closing { step, .. }, Ok(next)) => *step = next,
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Writes and reads at once: a peer that is itself blocked in writing reads our Close only
    /// after we have read what it writes.
    fn poll_exchange(
        &mut self,
        mut written: bool,
        mut answered: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Step>> {
        if !written && self.poll_flush(cx)?.is_ready() {
            written = true;
        }
        while !answered {
            match self.engine.poll_read(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(Incoming::Message(_) | Incoming::Control)) => {}
                Poll::Ready(Ok(Incoming::Close | Incoming::End) | Err(_)) => answered = true,
            }
        }
        if written && answered {
            self.link.closed(cx);
            return Poll::Ready(Ok(Step::Shutdown));
        }
        if let Phase::Closing { step, .. } = &mut self.phase {
            *step = Step::Exchange { written, answered };
        }
        if answered {
            // Nobody is listened to any more, but what arrives has to go somewhere.
            let _ = self.engine.poll_drain(cx)?;
        }
        Poll::Pending
    }
}
