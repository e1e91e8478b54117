//! The stream below the engine, with fast paths for TCP.

use std::{
    any::Any,
    io::{self, IoSlice, IoSliceMut},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

#[cfg(feature = "hub")]
use super::lender::{self, Lender};
use super::{Transport, tcp_write::write};

/// A stream that carries frames.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Returns the TCP stream, if this is one.
    fn tcp(&self) -> Option<&TcpStream>;

    /// Lends a TCP stream that a server has handed over. It has to be [taken back](Self::take_back) before anything
    /// else.
    #[cfg(feature = "hub")]
    fn lend(&mut self) -> Option<lender::Stream>;

    /// Takes the lent stream back.
    #[cfg(feature = "hub")]
    fn take_back(&mut self, stream: lender::Stream);

    /// Writes like `poll_write_vectored`. On TCP it first tries a write without a waker, tokio's readiness and its budget,
    /// and waits only if that would block.
    #[inline]
    fn poll_write_eagerly(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(tcp) = (*self).tcp() {
            match write(tcp, slices) {
                Ok(0) => {}
                written => return Poll::Ready(written),
            }
        }
        match slices {
            [bytes] => Pin::new(self).poll_write(cx, bytes),
            slices => Pin::new(self).poll_write_vectored(cx, slices),
        }
    }

    /// Ready with `Ok` when the peer has ended its half of the stream, and with an error when the
    /// peer is gone.
    ///
    /// It does not read. A TCP stream relies on the readiness that the system reports. An HTTP/2
    /// stream reports a reset only.
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

    /// Writes to a TCP socket that is not reported as writable. Returns 0 if the socket has no
    /// room.
    ///
    /// Linux reports a full socket as writable when a third of its send buffer is free, and the
    /// buffer may have 4 MiB. A write succeeds as soon as there is any room.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    fn write_without_readiness(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.tcp() {
            Some(tcp) => write(tcp, slices),
            None => Ok(0),
        }
    }

    /// Does nothing: other systems report a socket as writable as soon as it has room.
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    fn write_without_readiness(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(0)
    }

    /// Reads into several buffers at once on TCP. Other streams fill the first buffer only.
    fn poll_read_vectored(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(tcp) = (*self).tcp() {
            // tokio offers vectored reads for its own streams only, not in the `AsyncRead` trait.
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
            Some(transport) => Transport::tcp(transport),
            None => stream.downcast_ref(),
        }
    }

    #[cfg(feature = "hub")]
    fn lend(&mut self) -> Option<lender::Stream> {
        (self as &mut dyn Any).downcast_mut::<Lender>()?.lend()
    }

    #[cfg(feature = "hub")]
    fn take_back(&mut self, stream: lender::Stream) {
        if let Some(lender) = (self as &mut dyn Any).downcast_mut::<Lender>() {
            lender.take_back(stream);
        }
    }
}
