//! The stream below a WebSocket after the handshake: a whole connection, or one HTTP/2 stream.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::{rt::TokioIo, server::conn::auto};
#[cfg(any(target_os = "android", target_os = "linux"))]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::http2::{self, ResetGuard};
use crate::config::TcpOptions;

/// A connection or HTTP/2 stream that an HTTP server has handed over.
#[derive(Debug)]
pub(crate) enum Transport {
    /// A TCP stream, without the boxes that servers keep it in.
    Tcp(TcpStream),
    /// Any other connection, for example TLS.
    Other(Box<TokioIo<Upgraded>>),
    Stream(Box<http2::Stream<TokioIo<Upgraded>>>),
}

impl Transport {
    /// Unwraps a connection. Returns the bytes that were read from it before, too.
    pub(crate) fn connection(upgraded: Upgraded) -> (Self, Bytes) {
        // The server of hyper keeps the plain stream. The server of hyper-util wraps it in its own
        // type.
        let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => return (Self::Tcp(parts.io.into_inner()), parts.read_buf),
            Err(upgraded) => upgraded,
        };
        match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => (Self::Tcp(parts.io.into_inner()), parts.read_buf),
            Err(upgraded) => {
                let stream = Box::new(TokioIo::new(upgraded));
                (Self::Other(stream), Bytes::new())
            }
        }
    }

    /// Wraps one stream of an HTTP/2 connection.
    pub(crate) fn stream(upgraded: Upgraded, reset_guard: Option<ResetGuard>) -> Self {
        let stream = http2::Stream::new(TokioIo::new(upgraded), reset_guard);
        Self::Stream(Box::new(stream))
    }

    /// Sets the options of a TCP socket, and does nothing for other transports.
    ///
    /// Errors are ignored: they mean that the connection is broken, which the next read or write
    /// reports.
    pub(crate) fn set(&self, options: TcpOptions) {
        let Self::Tcp(stream) = self else { return };
        if options.nodelay {
            let _ = stream.set_nodelay(true);
        }
        #[cfg(any(target_os = "android", target_os = "linux"))]
        if let Some(bytes) = options.notsent_lowat {
            let _ = SockRef::from(stream).set_tcp_notsent_lowat(bytes);
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Stream(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Stream(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Other(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Stream(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Other(stream) => stream.is_write_vectored(),
            Self::Stream(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Other(stream) => Pin::new(stream).poll_flush(cx),
            Self::Stream(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Stream(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
