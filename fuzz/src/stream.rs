//! An in-memory stream that a script controls.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// The maximum number of calls. A connection with more calls is in a busy loop, in which the paused clock
/// would never advance.
const MAX_CALLS: usize = 200_000;

/// The number of small reads or writes after a script asks for them. More would make scripts slow.
const PIECES: u32 = 100;

/// The connection's side.
pub(crate) struct Stream(Peer);

/// The script's side.
#[derive(Clone)]
pub(crate) struct Peer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    dropped: Notify,
}

pub(crate) struct State {
    input: VecDeque<u8>,
    /// The maximum size of a read, and the number of reads for which it holds.
    read_at_once: (usize, u32),
    end: Option<End>,
    pub(crate) output: Vec<u8>,
    /// The maximum size of a write, and the number of writes for which it holds.
    write_at_once: (usize, u32),
    /// The number of bytes that writes accept before `then`.
    room: usize,
    then: Then,
    stuck_in_flush: bool,
    stuck_in_shutdown: bool,
    vectored: bool,
    /// Whether a write, flush or shutdown had to wait or failed, or a read failed.
    pub(crate) impeded: bool,
    is_shut_down: bool,
    is_dropped: bool,
    calls: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy)]
pub(crate) enum End {
    Eof,
    Error,
}

/// The result of a write without room.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    Pending,
    Zero,
    Error,
}

impl Default for State {
    fn default() -> Self {
        Self {
            input: VecDeque::new(),
            read_at_once: (usize::MAX, 0),
            end: None,
            output: Vec::new(),
            write_at_once: (usize::MAX, 0),
            room: usize::MAX,
            then: Then::Pending,
            stuck_in_flush: false,
            stuck_in_shutdown: false,
            vectored: true,
            impeded: false,
            is_shut_down: false,
            is_dropped: false,
            calls: 0,
            reader: None,
            writer: None,
        }
    }
}

pub(crate) fn stream() -> (Stream, Peer) {
    let peer = Peer(Arc::default());
    (Stream(peer.clone()), peer)
}

impl Peer {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the behaviour of the stream, and wakes its tasks.
    fn set(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        self.set(|state| state.input.extend(bytes));
    }

    pub(crate) fn read_at_once(&self, bytes: usize) {
        self.set(|state| state.read_at_once = (bytes.max(1), PIECES));
    }

    /// Ends the input after the bytes that were sent.
    pub(crate) fn end(&self, end: End) {
        self.set(|state| state.end = state.end.or(Some(end)));
    }

    pub(crate) fn write_at_once(&self, bytes: usize) {
        self.set(|state| state.write_at_once = (bytes.max(1), PIECES));
    }

    pub(crate) fn write_one_buffer(&self) {
        self.set(|state| state.vectored = false);
    }

    /// Accepts this many more bytes, and then behaves as `then` says.
    pub(crate) fn take(&self, bytes: usize, then: Then) {
        self.set(|state| (state.room, state.then) = (bytes, then));
    }

    pub(crate) fn flush(&self, stuck: bool) {
        self.set(|state| state.stuck_in_flush = stuck);
    }

    pub(crate) fn shut_down(&self, stuck: bool) {
        self.set(|state| state.stuck_in_shutdown = stuck);
    }

    /// Waits until the connection has dropped the stream.
    pub(crate) async fn dropped(&self) {
        let dropped = self.0.dropped.notified();
        if !self.lock().is_dropped {
            dropped.await;
        }
    }
}

impl State {
    fn count(&mut self) {
        self.calls += 1;
        assert!(self.calls < MAX_CALLS, "busy loop");
    }

    fn write<'a>(
        &mut self,
        cx: &Context<'_>,
        buffers: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        self.count();
        assert!(!self.is_shut_down, "written after the shutdown");
        let mut asked = 0;
        let mut taken = 0;
        let at_once = piece(&mut self.write_at_once);
        for buffer in buffers {
            let some = buffer.len().min(at_once - taken).min(self.room);
            self.output.extend_from_slice(&buffer[..some]);
            asked += buffer.len();
            taken += some;
            if self.room != usize::MAX {
                self.room -= some;
            }
        }
        assert!(asked > 0, "empty write");
        if taken > 0 {
            return Poll::Ready(Ok(taken));
        }
        self.impeded = true;
        match self.then {
            Then::Zero => Poll::Ready(Ok(0)),
            Then::Error => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
            Then::Pending => {
                self.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn wait(&mut self, stuck: bool, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.count();
        if stuck {
            self.impeded = true;
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

/// Returns the maximum size of this read or write.
fn piece((bytes, times): &mut (usize, u32)) -> usize {
    if *times == 0 {
        return usize::MAX;
    }
    *times -= 1;
    *bytes
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        state.count();
        if state.input.is_empty() {
            return match state.end {
                Some(End::Eof) => Poll::Ready(Ok(())),
                Some(End::Error) => {
                    state.impeded = true;
                    Poll::Ready(Err(ErrorKind::ConnectionReset.into()))
                }
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let some = buffer.remaining().min(piece(&mut state.read_at_once));
        for byte in state.input.iter().take(some) {
            buffer.put_slice(&[*byte]);
        }
        let some = some.min(state.input.len());
        state.input.drain(..some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().write(cx, [buffer].into_iter())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        let used = if state.vectored { buffers.len() } else { 1 };
        state.write(cx, buffers[..used].iter().map(|buffer| &**buffer))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        let stuck = state.stuck_in_flush;
        state.wait(stuck, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        state.is_shut_down = true;
        let stuck = state.stuck_in_shutdown;
        state.wait(stuck, cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.lock().is_dropped = true;
        self.0.0.dropped.notify_waiters();
    }
}
