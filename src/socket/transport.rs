//! The stream below a WebSocket after the handshake: a whole connection, or one HTTP/2 stream.

#[cfg(all(feature = "hub", not(all(test, tower_websocket_loom))))]
use std::mem;
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
#[cfg_attr(
    any(not(feature = "hub"), all(test, tower_websocket_loom)),
    expect(dead_code, reason = "only rooms borrow a stream")
)]
pub(crate) enum Transport {
    /// A TCP stream, without the boxes that servers keep it in.
    Tcp(TcpStream),
    /// A TCP stream that was [lent](Self::lend).
    Boxed(Box<TcpStream>),
    /// The stream is lent. The connection takes it back before it does anything else.
    Lent,
    /// Any other connection, for example TLS.
    Other(Box<TokioIo<Upgraded>>),
    Stream(Box<http2::Stream<TokioIo<Upgraded>>>),
}

impl Transport {
    /// Unwraps a connection. Returns the bytes that were read from it before, too.
    pub(crate) fn connection(upgraded: Upgraded) -> (Self, Bytes) {
        // The stream is taken out of its box, to set its options and to save the box. The server of hyper keeps the
        // plain stream. That of hyper-util, which `axum::serve` uses, wraps it in its own type: only `auto` can
        // unwrap that. The feature `server-auto` is not needed, and would turn HTTP/2 on.
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

    /// Returns the TCP stream, if this is one.
    #[inline]
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Boxed(stream) => Some(stream),
            Self::Other(_) | Self::Stream(_) | Self::Lent => None,
        }
    }

    /// Lends a TCP stream. It has to be [taken back](Self::take_back) before anything else.
    #[cfg(all(feature = "hub", not(all(test, tower_websocket_loom))))]
    pub(super) fn lend(&mut self) -> Option<Box<TcpStream>> {
        match mem::replace(self, Self::Lent) {
            // Boxed only now: connections in no room have one cache line less to read.
            Self::Tcp(stream) => Some(Box::new(stream)),
            Self::Boxed(stream) => Some(stream),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Takes the lent stream back.
    #[cfg(all(feature = "hub", not(all(test, tower_websocket_loom))))]
    pub(super) fn take_back(&mut self, stream: Box<TcpStream>) {
        *self = Self::Boxed(stream);
    }

    /// Sets the options of a TCP socket, and does nothing for other transports.
    ///
    /// Errors are ignored: they mean that the connection is broken, which the next read or write
    /// reports.
    pub(crate) fn set(&self, options: TcpOptions) {
        let Some(stream) = self.tcp() else { return };
        if options.nodelay {
            let _ = stream.set_nodelay(true);
        }
        #[cfg(any(target_os = "android", target_os = "linux"))]
        if let Some(bytes) = options.notsent_lowat {
            let _ = SockRef::from(stream).set_tcp_notsent_lowat(bytes);
        }
    }
}

/// The stream is lent.
fn lent<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Boxed(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Stream(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Lent => lent(),
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
            Self::Boxed(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Stream(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Lent => lent(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Boxed(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
            Self::Other(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Stream(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Lent => lent(),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Boxed(stream) => stream.is_write_vectored(),
            Self::Other(stream) => stream.is_write_vectored(),
            Self::Stream(stream) => stream.is_write_vectored(),
            Self::Lent => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Other(stream) => Pin::new(stream).poll_flush(cx),
            Self::Stream(stream) => Pin::new(stream).poll_flush(cx),
            // TCP has no buffer to flush.
            Self::Tcp(_) | Self::Boxed(_) | Self::Lent => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Boxed(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Stream(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Lent => lent(),
        }
    }
}
