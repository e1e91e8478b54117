//! A working stream with a hook: the test can answer a call itself, or observe it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The hook of a stream. By default, all calls reach the stream.
pub(crate) trait Tap {
    /// Answers a read in the place of the stream, or returns `None`.
    fn read(&mut self, _: &mut ReadBuf<'_>) -> Option<Poll<io::Result<()>>> {
        None
    }

    /// Runs after the stream has completed a read.
    fn has_read(&mut self, _: &mut Context<'_>) {}

    /// Returns whether writes are discarded and do not reach the stream.
    fn swallows(&self) -> bool {
        false
    }

    /// Observes bytes that the stream has taken.
    fn written(&mut self, _: &[u8]) {}
}

/// A stream with a [`Tap`]. It writes one buffer at a time, as TLS streams do.
pub(crate) struct Tapped<IO, T> {
    io: IO,
    tap: T,
}

impl<IO, T: Tap> Tapped<IO, T> {
    pub(crate) const fn new(io: IO, tap: T) -> Self {
        Self { io, tap }
    }
}

impl<IO: AsyncRead + Unpin, T: Tap + Unpin> AsyncRead for Tapped<IO, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(answer) = self.tap.read(buffer) {
            return answer;
        }
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() {
            self.tap.has_read(cx);
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin, T: Tap + Unpin> AsyncWrite for Tapped<IO, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.tap.swallows() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(len)) = written {
            self.tap.written(&bytes[..len]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
