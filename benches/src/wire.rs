//! An in-memory stream: a read always gets frames, and writes are only counted.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client's side, which a benchmark drives.
#[derive(Debug)]
pub struct Wire(Arc<Mutex<State>>);

/// The server side, which is never closed.
#[derive(Debug)]
pub struct Stream(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// The frame that the server reads repeatedly.
    frame: Vec<u8>,
    at: usize,
    left: usize,
    reader: Option<Waker>,
    written: usize,
    wanted: usize,
    waiter: Option<Waker>,
}

/// Makes the two sides of a stream.
#[must_use]
pub fn wire() -> (Wire, Stream) {
    let state = Arc::new(Mutex::new(State {
        frame: Vec::new(),
        at: 0,
        left: 0,
        reader: None,
        written: 0,
        wanted: 0,
        waiter: None,
    }));
    (Wire(Arc::clone(&state)), Stream(state))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// Sets the frame that the server reads next. The server must have read all previous frames.
    pub fn load(&self, frame: Vec<u8>) {
        let mut state = lock(&self.0);
        state.frame = frame;
        state.at = 0;
    }

    /// Lets the server read the frame `times` times, and waits until it has written at least `bytes` more bytes.
    pub async fn exchange(&self, times: usize, bytes: usize) {
        let reader = {
            let mut state = lock(&self.0);
            state.left += times * state.frame.len();
            state.written = 0;
            state.wanted = bytes;
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            if state.written >= state.wanted {
                return Poll::Ready(());
            }
            state.waiter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let state = &mut *lock(&self.0);
        if state.left == 0 {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while state.left > 0 && buffer.remaining() > 0 {
            let rest = &state.frame[state.at..];
            let taken = rest.len().min(buffer.remaining()).min(state.left);
            buffer.put_slice(&rest[..taken]);
            state.left -= taken;
            state.at = (state.at + taken) % state.frame.len();
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream {
    fn count(&self, bytes: usize) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        state.written += bytes;
        if state.written >= state.wanted
            && let Some(waiter) = state.waiter.take()
        {
            drop(state);
            waiter.wake();
        }
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.count(bytes.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.count(slices.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
