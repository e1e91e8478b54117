//! A stream in memory that allocates only when it is made.
//!
//! The buffers of [`tokio::io::duplex`] grow with its traffic, which would hide the memory of a connection.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Makes the two ends of a stream that holds `capacity` bytes in each direction.
///
/// With `vectored`, several buffers are written at once, as to TCP; otherwise one at a time, as to
/// TLS.
pub(crate) fn pair(capacity: usize, vectored: bool) -> (End, End) {
    let (up, down) = (Pipe::new(capacity), Pipe::new(capacity));
    let end = |reads: &Shared, writes: &Shared| End {
        reads: Arc::clone(reads),
        writes: Arc::clone(writes),
        vectored,
    };
    (end(&up, &down), end(&down, &up))
}

type Shared = Arc<Mutex<Pipe>>;

/// One end of a stream. Dropping it ends the stream for the other end.
#[derive(Debug)]
pub(crate) struct End {
    reads: Shared,
    writes: Shared,
    vectored: bool,
}

impl End {
    /// Forgets the task that waits to read, after a test has dropped it.
    pub(crate) fn forget_reader(&self) {
        let waker = self.reads.lock().unwrap().reader.take();
        drop(waker);
    }
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    /// A ring buffer. It holds `len` bytes, from `start` on.
    bytes: Box<[u8]>,
    start: usize,
    len: usize,
    is_read: bool,
    is_written: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(capacity: usize) -> Shared {
        Arc::new(Mutex::new(Self {
            bytes: vec![0; capacity].into(),
            start: 0,
            len: 0,
            is_read: true,
            is_written: true,
            reader: None,
            writer: None,
        }))
    }

    /// Takes the next bytes that are in one piece, at most `most`.
    fn take(&mut self, most: usize) -> &[u8] {
        let start = self.start;
        let len = most.min(self.len).min(self.bytes.len() - start);
        self.start = (start + len) % self.bytes.len();
        self.len -= len;
        &self.bytes[start..start + len]
    }

    /// Stores as many bytes as fit in one piece, and returns their number.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let end = (self.start + self.len) % self.bytes.len();
        let room = (self.bytes.len() - self.len).min(self.bytes.len() - end);
        let len = bytes.len().min(room);
        self.bytes[end..end + len].copy_from_slice(&bytes[..len]);
        self.len += len;
        len
    }

    /// Wakes both sides, and forgets them.
    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.reads.lock().unwrap();
        if pipe.len == 0 && pipe.is_written {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        for _ in 0..2 {
            buffer.put_slice(pipe.take(buffer.remaining()));
        }
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.writes.lock().unwrap();
        if !pipe.is_read {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.len == pipe.bytes.len() {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut written = 0;
        for bytes in slices {
            let first = pipe.put(bytes);
            written += first + pipe.put(&bytes[first..]);
        }
        pipe.wake();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.writes.lock().unwrap();
        pipe.is_written = false;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut pipe = self.reads.lock().unwrap();
        pipe.is_read = false;
        pipe.wake();
        drop(pipe);
        let mut pipe = self.writes.lock().unwrap();
        pipe.is_written = false;
        pipe.wake();
    }
}
