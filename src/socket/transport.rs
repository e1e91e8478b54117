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
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::http2::{self, ResetGuard};
use crate::config::TcpOptions;

/// A connection or HTTP/2 stream that an HTTP server has handed over.
#[derive(Debug)]
#[cfg_attr(
    any(not(feature = "hub"), all(test, tower_websocket_loom)),
    expect(dead_code, reason = "only rooms borrow a half")
)]
pub(crate) enum Transport {
    /// A TCP stream, without the boxes that servers keep it in.
    Tcp(TcpStream),
    /// A TCP stream that was [lent](Self::lend).
    Halves(OwnedReadHalf, OwnedWriteHalf),
    /// The writing half is lent. The connection takes it back before it writes.
    Lent(OwnedReadHalf),
    /// Any other connection, for example TLS.
    Other(Box<TokioIo<Upgraded>>),
    Stream(Box<http2::Stream<TokioIo<Upgraded>>>),
    /// Only while it changes.
    Nothing,
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
            Self::Halves(reader, _) | Self::Lent(reader) => Some(reader.as_ref()),
            Self::Other(_) | Self::Stream(_) | Self::Nothing => None,
        }
    }

    /// Lends the writing half of a TCP stream. It has to be [taken back](Self::take_back) before this writes again.
    #[cfg(all(feature = "hub", not(all(test, tower_websocket_loom))))]
    pub(super) fn lend(&mut self) -> Option<OwnedWriteHalf> {
        let (reader, writer) = match mem::replace(self, Self::Nothing) {
            // Split only now, because connections in no room need no halves.
            Self::Tcp(stream) => stream.into_split(),
            Self::Halves(reader, writer) => (reader, writer),
            other => {
                *self = other;
                return None;
            }
        };
        *self = Self::Lent(reader);
        Some(writer)
    }

    /// Takes back the half that was lent.
    #[cfg(all(feature = "hub", not(all(test, tower_websocket_loom))))]
    pub(super) fn take_back(&mut self, writer: OwnedWriteHalf) {
        *self = match mem::replace(self, Self::Nothing) {
            Self::Lent(reader) => Self::Halves(reader, writer),
            other => other,
        };
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

/// The half is lent.
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
            Self::Halves(reader, _) | Self::Lent(reader) => Pin::new(reader).poll_read(cx, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Stream(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Nothing => lent(),
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
            Self::Halves(_, writer) => Pin::new(writer).poll_write(cx, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Stream(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Lent(_) | Self::Nothing => lent(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Halves(_, writer) => Pin::new(writer).poll_write_vectored(cx, slices),
            Self::Other(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Stream(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Lent(_) | Self::Nothing => lent(),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Halves(..) | Self::Lent(_) => true,
            Self::Other(stream) => stream.is_write_vectored(),
            Self::Stream(stream) => stream.is_write_vectored(),
            Self::Nothing => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Other(stream) => Pin::new(stream).poll_flush(cx),
            Self::Stream(stream) => Pin::new(stream).poll_flush(cx),
            // TCP has no buffer to flush.
            Self::Tcp(_) | Self::Halves(..) | Self::Lent(_) | Self::Nothing => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Halves(_, writer) => Pin::new(writer).poll_shutdown(cx),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Stream(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Lent(_) | Self::Nothing => lent(),
        }
    }
}
