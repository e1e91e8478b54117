//! One stream of an HTTP/2 connection.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::ResetGuard;

/// The most bytes of one write to an HTTP/2 server: a DATA frame of the default size (RFC 9113
/// §4.2).
///
/// hyper takes and copies up to four writes before it may send the first one, whatever the peer's
/// window is. So a blocked stream holds 64 KiB there.
const MAX_WRITE: usize = 16 * 1024;

/// How long the peer may take to end its half of the stream after we have ended ours.
///
/// hyper resets a stream that is dropped earlier, right after the last output, and clients have
/// lost the Close that way. A socket needs no such wait.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// A stream of HTTP/2 that a server has handed over.
#[derive(Debug)]
pub(crate) struct Stream<IO> {
    /// Runs from the end of our half: the time that the peer has left.
    end_timer: Option<Pin<Box<Sleep>>>,
    /// Resets the stream unless it ends before. Declared before `io`, so it is dropped first: the
    /// send task would take the end of `io` for the end of the output.
    reset_guard: Option<ResetGuard>,
    io: IO,
}

impl<IO> Stream<IO> {
    pub(crate) const fn new(io: IO, reset_guard: Option<ResetGuard>) -> Self {
        Self {
            end_timer: None,
            reset_guard,
            io,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Stream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.end_timer {
            if end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

/// Writes one buffer at a time, so that the size of each write is known.
impl<IO: AsyncWrite + Unpin> AsyncWrite for Stream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = bytes.len().min(MAX_WRITE);
        Pin::new(&mut self.io).poll_write(cx, &bytes[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = Pin::new(&mut self.io).poll_shutdown(cx);
        if let Some(reset_guard) = &mut self.reset_guard {
            reset_guard.stream_ended();
        }
        if self.end_timer.is_none() && shutdown.is_ready() {
            self.end_timer = Some(Box::pin(sleep(END_TIMEOUT)));
        }
        shutdown
    }
}
