//! What carries a WebSocket after its handshake: a whole connection, or one HTTP/2 stream of many.
//!
//! A stream is no socket, and this makes up for the difference: what is written to it at once, and
//! how it ends.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::executor::Sending;

/// The most that one write hands to an HTTP/2 server: a DATA frame of the default size
/// (RFC 9113 §4.2).
///
/// hyper takes up to four writes before the first of them may be sent, whatever the peer's window,
/// and each is copied. So a stream that stands still holds 64 KiB there.
const WRITE: usize = 16 * 1024;

/// How long the peer may take to end its half of an HTTP/2 stream after we have ended ours.
///
/// hyper resets a stream that is dropped before, right behind what was written last, and clients
/// have lost the Close that way. Unlike with a socket nothing else has to be waited for.
const END: Duration = Duration::from_secs(1);

/// A connection or stream that was handed over.
#[derive(Debug)]
pub(crate) struct Transport<IO> {
    /// Dropped first: what sends for the stream is stopped before it can take the end of `io` for
    /// the end of what is sent.
    kind: Kind,
    io: IO,
}

#[derive(Debug)]
enum Kind {
    Connection,
    Stream {
        /// The time left to the peer, since our half has ended.
        end: Option<Pin<Box<Sleep>>>,
        /// Resets the stream if its end does not come first.
        sending: Option<Sending>,
    },
}

impl<IO> Transport<IO> {
    /// Takes a connection of its own, whose I/O is passed on as it is.
    pub(crate) const fn connection(io: IO) -> Self {
        let kind = Kind::Connection;
        Self { kind, io }
    }

    /// Takes one stream of an HTTP/2 connection.
    pub(crate) const fn stream(io: IO, sending: Option<Sending>) -> Self {
        let kind = Kind::Stream { end: None, sending };
        Self { kind, io }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Transport<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Kind::Stream { end: Some(end), .. } = &mut self.kind {
            if end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Transport<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = match self.kind {
            Kind::Connection => bytes.len(),
            Kind::Stream { .. } => bytes.len().min(WRITE),
        };
        Pin::new(&mut self.io).poll_write(cx, &bytes[..most])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.kind {
            Kind::Connection => Pin::new(&mut self.io).poll_write_vectored(cx, slices),
            Kind::Stream { .. } => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                self.poll_write(cx, first.map_or(&[], |slice| slice))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self.kind, Kind::Connection) && self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = Pin::new(&mut self.io).poll_shutdown(cx);
        if let Kind::Stream { end, sending } = &mut self.kind {
            if let Some(sending) = sending {
                sending.ends();
            }
            if end.is_none() && shutdown.is_ready() {
                *end = Some(Box::pin(sleep(END)));
            }
        }
        shutdown
    }
}
