//! What the engine reads from and writes to.

use std::{
    any::Any,
    io::{self, IoSlice, IoSliceMut},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::FutureExt;
#[cfg(any(target_os = "android", target_os = "linux"))]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use super::Transport;

/// A stream that carries frames.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Returns the TCP stream that it is, if it is one.
    fn tcp(&self) -> Option<&TcpStream>;

    /// Writes as `poll_write` does. A TCP stream is written to at once, without a waker and tokio's
    /// budget for the task, and only waited for when it takes nothing.
    #[inline]
    fn poll_write_eagerly(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(tcp) = (*self).tcp() {
            match tcp.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
        Pin::new(self).poll_write(cx, bytes)
    }

    /// Ready when the peer has ended its half of the stream, with an error when it is gone, as far
    /// as that is known without reading: by a TCP stream where the system says so, by a stream of
    /// HTTP/2 when it was reset.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(tcp) = (*self).tcp() else {
            let flushed = ready!(Pin::new(self).poll_flush(cx));
            return flushed.map_or_else(|error| Poll::Ready(Err(error)), |()| Poll::Pending);
        };
        let any = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
        let Some(known) = tcp.ready(any).now_or_never() else {
            return Poll::Pending;
        };
        let known = known?;
        if known.is_error() || known.is_write_closed() {
            let error = tcp.take_error()?;
            return Poll::Ready(Err(error.unwrap_or(io::ErrorKind::ConnectionReset.into())));
        }
        match known.is_read_closed() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Writes to a TCP socket that is not known to be writable. Returns 0 if it has no room.
    ///
    /// Linux reports a full socket as writable only when a third of its send buffer is free again, and
    /// that has up to 4 MiB. A write succeeds as soon as there is any room.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    fn write_without_readiness(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // No signal where the connection is broken. The same number on every architecture.
        const MSG_NOSIGNAL: i32 = 0x4000;
        let Some(tcp) = self.tcp() else {
            return Ok(0);
        };
        match SockRef::from(tcp).send_vectored_with_flags(slices, MSG_NOSIGNAL) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            written => written,
        }
    }

    /// Elsewhere a socket is writable as soon as there is room.
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    fn write_without_readiness(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(0)
    }

    /// Reads into several buffers at once, where the stream can; else into the first.
    fn poll_read_vectored(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(tcp) = (*self).tcp() {
            // tokio has this for its own streams only, and not as a method of the trait.
            loop {
                ready!(tcp.poll_read_ready(cx))?;
                match tcp.try_read_vectored(buffers) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read),
                }
            }
        }
        let Some(first) = buffers.first_mut() else {
            return Poll::Ready(Ok(0));
        };
        let mut first = ReadBuf::new(first);
        ready!(Pin::new(self).poll_read(cx, &mut first))?;
        Poll::Ready(Ok(first.filled().len()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + 'static> Io for IO {
    #[inline]
    fn tcp(&self) -> Option<&TcpStream> {
        let stream = self as &dyn Any;
        match stream.downcast_ref() {
            Some(Transport::Tcp(tcp)) => Some(tcp),
            Some(Transport::Other(_) | Transport::Stream(_)) => None,
            None => stream.downcast_ref(),
        }
    }
}
