//! The stream that the connection is served on: a pipe in memory that may read and write in pieces,
//! and fails when it is polled without end.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::{oracle::Shared, schedule::Random};

pub(crate) struct Stream {
    io: DuplexStream,
    random: Random,
    oracle: Shared,
    /// The maximum number of bytes for one read or write.
    most: Option<usize>,
    /// One write takes several buffers.
    vectored: bool,
}

impl Stream {
    pub(crate) fn new(io: DuplexStream, oracle: Shared, seed: u64) -> Self {
        let mut random = Random::new(seed.rotate_left(16));
        let pieces = oracle.lock().limits().pieces;
        let most = pieces.then(|| random.pick(&[1, 8, 100, 4000]));
        let vectored = random.below(2) == 0;
        Self {
            io,
            random,
            oracle,
            most,
            vectored,
        }
    }

    /// Counts a poll, and returns how many bytes may be read or written in it.
    fn poll_most(&mut self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        self.oracle.lock().poll_stream()?;
        let Some(most) = self.most else {
            return Poll::Ready(Ok(usize::MAX));
        };
        if self.random.below(8) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(1 + self.random.below(most)))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = ready!(self.poll_most(cx))?;
        if most >= buffer.remaining() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let mut bytes = vec![0; most];
        let mut piece = ReadBuf::new(&mut bytes);
        let poll = Pin::new(&mut self.io).poll_read(cx, &mut piece);
        buffer.put_slice(piece.filled());
        poll
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = ready!(self.poll_most(cx))?;
        let bytes = &bytes[..most.min(bytes.len())];
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = Vec::new();
        for buffer in buffers.iter().take(3) {
            bytes.extend_from_slice(buffer);
        }
        self.poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_most(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_most(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
