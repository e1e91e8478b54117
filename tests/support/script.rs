//! A stream in memory that the test controls, and that counts every call.
//!
//! It holds no kernel buffer, so the counts are exact. Each test runs with a paused clock.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod peer;

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::sleep,
};
use tower_websocket::{Config, Echo, Handler, IntoHandler, WebSocket, WebSocketLayer};

pub(crate) use self::peer::Peer;
use super::{pipe, wire};

/// Creates a socket on such a stream, without a handshake.
pub(crate) fn socket(config: Config) -> (WebSocket, Peer) {
    let (script, peer) = Script::new();
    (WebSocket::from_io(script, config), peer)
}

/// Serves a handler in the task of its connection, as a server does, and does the handshake.
pub(crate) async fn attach<M>(
    config: Config,
    vectored: bool,
    handler: impl IntoHandler<M, Handler: Handler>,
) -> Peer {
    attach_with(config, vectored, handler, &wire::handshake("/")).await
}

/// Like [`attach`], with the given handshake request.
pub(crate) async fn attach_with<M>(
    config: Config,
    vectored: bool,
    handler: impl IntoHandler<M, Handler: Handler>,
    request: &str,
) -> Peer {
    let (script, peer) = Script::new();
    peer.lock().vectored = vectored;
    let layer = WebSocketLayer::new(handler).config(config);
    pipe::serve_on(script, layer.into_service());
    peer.send(request);
    settle().await;
    assert!(peer.lock().output.starts_with(b"HTTP/1.1 101 "));
    peer.reset();
    peer
}

/// Serves two echoes: one in the task of its connection, and one in its own task.
pub(crate) async fn attach_echoes() -> [(&'static str, Peer); 2] {
    let elsewhere =
        async |socket: WebSocket| tokio::spawn(async { Echo::new().handle(socket).await }).await?;
    [
        ("own task", attach(Config::new(), true, Echo::new()).await),
        ("another task", attach(Config::new(), true, elsewhere).await),
    ]
}

/// Lets every task run until all of them are idle or wait for more than a millisecond.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// The server's end of the stream.
pub(crate) struct Script(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) input: VecDeque<Input>,
    /// Everything that was written.
    pub(crate) output: Vec<u8>,
    /// Output is counted, but not kept.
    pub(crate) discards: bool,
    /// The number of bytes that were read.
    pub(crate) read: usize,
    /// The number of bytes that were written.
    pub(crate) written: usize,
    /// The value of `written` at the last flush.
    pub(crate) flushed: usize,
    pub(crate) vectored: bool,
    /// The maximum number of bytes that one write takes.
    pub(crate) at_once: usize,
    /// The number of bytes that are taken before writes return `full`.
    pub(crate) room: usize,
    pub(crate) full: Full,
    /// The result of a flush. `None` means success.
    pub(crate) flush: Option<Full>,
    /// A shutdown never completes.
    pub(crate) stuck_in_shutdown: bool,
    pub(crate) calls: Calls,
    pub(crate) writes_after_shutdown: usize,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    /// The calls and bytes since the test last reset them. `worst` has the maximum of each.
    pub(crate) spell: Spell,
    pub(crate) worst: Spell,
}

/// The result of a read. Without input, a read is pending.
pub(crate) enum Input {
    /// A read takes from one segment only.
    Segment(VecDeque<u8>),
    /// `left` bytes of repeated `frames`, always available.
    Flood {
        frames: Vec<u8>,
        left: usize,
    },
    End,
    Error(ErrorKind),
}

/// The result of a write for which there is no room.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Full {
    #[default]
    Pending,
    Zero,
    Error(ErrorKind),
}

/// Calls of the stream's methods.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Calls {
    /// Reads that were pending.
    pub(crate) idle_reads: usize,
    /// Reads that returned bytes.
    pub(crate) reads: usize,
    /// Writes that took nothing.
    pub(crate) idle_writes: usize,
    /// Writes that took bytes.
    pub(crate) writes: usize,
    pub(crate) flushes: usize,
    pub(crate) shutdowns: usize,
}

/// Calls and bytes between two runs of another task.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spell {
    pub(crate) reads: usize,
    pub(crate) read: usize,
    pub(crate) written: usize,
}

impl Script {
    /// Creates a stream that takes everything that is written, and its controls.
    pub(crate) fn new() -> (Self, Peer) {
        let state = Arc::new(Mutex::new(State {
            vectored: true,
            at_once: usize::MAX,
            room: usize::MAX,
            ..State::default()
        }));
        (Self(Arc::clone(&state)), Peer(state))
    }

    /// Creates a stream without input that takes `bytes` bytes, one buffer at a time, and discards them.
    pub(crate) fn with_room(bytes: usize) -> (Self, Peer) {
        let (script, peer) = Self::new();
        let mut state = peer.lock();
        state.discards = true;
        state.vectored = false;
        state.room = bytes;
        drop(state);
        (script, peer)
    }
}

impl Input {
    pub(crate) fn segment(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Segment(bytes.into().into())
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
        self.writes_after_shutdown += usize::from(self.calls.shutdowns > 0);
        let mut taken = 0;
        for buffer in buffers {
            let some = buffer.len().min(self.at_once - taken).min(self.room);
            if !self.discards {
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
        match self.full {
            Full::Zero => Poll::Ready(Ok(0)),
            Full::Error(kind) => Poll::Ready(Err(kind.into())),
            Full::Pending => {
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
        let mut state = self.0.lock().unwrap();
        let before = buffer.filled().len();
        let is_done = match state.input.front_mut() {
            None => {
                state.calls.idle_reads += 1;
                // A connection that never sleeps would stop the paused clock for ever.
                assert!(state.calls.idle_reads < 1_000_000, "a busy loop");
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
                assert!(some > 0, "the frames do not fit into the buffer");
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
        self.0.lock().unwrap().write(cx, [buffer])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().unwrap();
        // Without vectored writes the trait's default takes the first buffer that is not empty.
        let used = if state.vectored { usize::MAX } else { 1 };
        let buffers = buffers.iter().map(|buffer| &**buffer);
        state.write(cx, buffers.filter(|buffer| !buffer.is_empty()).take(used))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().unwrap().vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap();
        state.calls.flushes += 1;
        match state.flush {
            None | Some(Full::Zero) => {
                state.flushed = state.written;
                Poll::Ready(Ok(()))
            }
            Some(Full::Pending) => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Full::Error(kind)) => Poll::Ready(Err(kind.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap();
        state.calls.shutdowns += 1;
        if state.stuck_in_shutdown {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}
