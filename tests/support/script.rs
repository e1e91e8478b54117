//! A stream that does what the test says, and counts every call. It holds no kernel buffer, so each
//! figure is exact.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod peer;

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::peer::Peer;

/// The server's end of a stream that does what the test says.
pub(crate) struct Script(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) input: VecDeque<Input>,
    pub(crate) output: Vec<u8>,
    /// The output is counted and not kept.
    pub(crate) swallows: bool,
    pub(crate) read: usize,
    pub(crate) written: usize,
    pub(crate) vectored: bool,
    /// The bytes that one write takes.
    pub(crate) at_once: usize,
    /// The bytes that are taken before `then`.
    pub(crate) room: usize,
    pub(crate) then: Then,
    /// What flushing comes to, other than being done.
    pub(crate) flush: Option<Then>,
    /// Bytes that were written before the stream was last flushed.
    pub(crate) flushed: usize,
    /// Shutting down never gets done.
    pub(crate) stuck_in_shutdown: bool,
    pub(crate) calls: Calls,
    pub(crate) after_shutdown: usize,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    /// What was read and written since another task ran, and the most there was of it.
    pub(crate) spell: Spell,
    pub(crate) worst: Spell,
}

/// What a read finds; there is nothing to read when there is none.
pub(crate) enum Input {
    /// Each read takes from one segment.
    Segment(VecDeque<u8>),
    /// So many bytes of frames that repeat themselves, always there.
    Flood {
        frames: Vec<u8>,
        left: usize,
    },
    End,
    Error(ErrorKind),
}

/// What a write comes to after there is no room any more.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Then {
    #[default]
    Pending,
    Zero,
    Error(ErrorKind),
}

/// Calls of the stream's methods.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Calls {
    /// Reads that found nothing.
    pub(crate) idle_reads: usize,
    /// Reads that found bytes.
    pub(crate) reads: usize,
    /// Writes that took nothing.
    pub(crate) idle_writes: usize,
    /// Writes that took bytes.
    pub(crate) writes: usize,
    pub(crate) flushes: usize,
    pub(crate) shutdowns: usize,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spell {
    pub(crate) reads: usize,
    pub(crate) read: usize,
    pub(crate) written: usize,
}

impl Script {
    pub(crate) fn new() -> (Self, Peer) {
        let state = Arc::new(Mutex::new(State {
            vectored: true,
            at_once: usize::MAX,
            room: usize::MAX,
            ..State::default()
        }));
        (Self(Arc::clone(&state)), Peer(state))
    }

    /// Makes a stream that takes so many bytes, one buffer at a time, and brings nothing.
    pub(crate) fn with_room(bytes: usize) -> (Self, Peer) {
        let (script, peer) = Self::new();
        peer.set(|state| {
            state.swallows = true;
            state.vectored = false;
            state.room = bytes;
        });
        (script, peer)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn note_spell(&mut self) {
        self.worst.reads = self.worst.reads.max(self.spell.reads);
        self.worst.read = self.worst.read.max(self.spell.read);
        self.worst.written = self.worst.written.max(self.spell.written);
    }

    fn write<'a>(
        &mut self,
        cx: &Context<'_>,
        buffers: impl IntoIterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        if self.calls.shutdowns > 0 {
            self.after_shutdown += 1;
        }
        let mut taken = 0;
        for buffer in buffers {
            let some = buffer.len().min(self.at_once - taken).min(self.room);
            if !self.swallows {
                self.output.extend_from_slice(&buffer[..some]);
            }
            taken += some;
            if self.room != usize::MAX {
                self.room -= some;
            }
        }
        if taken > 0 {
            self.calls.writes += 1;
            self.written += taken;
            self.spell.written += taken;
            self.note_spell();
            return Poll::Ready(Ok(taken));
        }
        self.calls.idle_writes += 1;
        match self.then {
            Then::Zero => Poll::Ready(Ok(0)),
            Then::Error(kind) => Poll::Ready(Err(kind.into())),
            Then::Pending => {
                self.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let before = buffer.filled().len();
        let is_done = match state.input.front_mut() {
            None => {
                state.calls.idle_reads += 1;
                // A connection that never sleeps would keep the clock from going on.
                assert!(state.calls.idle_reads < 1_000_000, "busy with nothing");
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Some(Input::End) => return Poll::Ready(Ok(())),
            Some(Input::Error(kind)) => return Poll::Ready(Err((*kind).into())),
            Some(Input::Segment(bytes)) => {
                let some = bytes.len().min(buffer.remaining());
                let some: Vec<u8> = bytes.drain(..some).collect();
                buffer.put_slice(&some);
                bytes.is_empty()
            }
            Some(Input::Flood { frames, left }) => {
                let some = (buffer.remaining() / frames.len()).min(*left / frames.len());
                assert!(some > 0, "the frames are small");
                for _ in 0..some {
                    buffer.put_slice(frames);
                }
                *left -= some * frames.len();
                *left < frames.len()
            }
        };
        if is_done {
            state.input.pop_front();
        }
        state.calls.reads += 1;
        let read = buffer.filled().len() - before;
        state.read += read;
        state.spell.reads += 1;
        state.spell.read += read;
        state.note_spell();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().write(cx, [buffer])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        // As the default of the trait: the first that is not empty.
        let used = if state.vectored { usize::MAX } else { 1 };
        let buffers = buffers.iter().map(|buffer| &**buffer);
        state.write(cx, buffers.filter(|buffer| !buffer.is_empty()).take(used))
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        state.calls.flushes += 1;
        match state.flush {
            None | Some(Then::Zero) => {
                state.flushed = state.written;
                Poll::Ready(Ok(()))
            }
            Some(Then::Pending) => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Then::Error(kind)) => Poll::Ready(Err(kind.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        state.calls.shutdowns += 1;
        if state.stuck_in_shutdown {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}
