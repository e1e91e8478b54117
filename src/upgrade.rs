//! From a sent 101 to a connection that speaks frames.
//!
//! The HTTP server hands the connection over after it wrote the 101, so this waits in a task of its
//! own, for a bounded time, and only believes in a connection whose 101 really went out.

use std::{
    error::Error,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Extensions;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::error::BoxError;

/// A connection that was handed over.
#[derive(Debug)]
pub(crate) enum Connection {
    /// A TCP stream, out of the boxes in which servers keep it.
    Tcp(TcpStream),
    /// Whatever else a server may have.
    Other(Box<TokioIo<Upgraded>>),
}

impl Connection {
    /// Unwraps what a server hands over: the connection, and what it has read of it already.
    fn new(upgraded: Upgraded) -> (Self, Bytes) {
        // hyper's own server keeps the stream as it is, the one of hyper-util in a type of its own.
        let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => return (Self::tcp(parts.io), parts.read_buf),
            Err(upgraded) => upgraded,
        };
        match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => (Self::tcp(parts.io), parts.read_buf),
            Err(upgraded) => {
                let stream = Box::new(TokioIo::new(upgraded));
                (Self::Other(stream), Bytes::new())
            }
        }
    }

    fn tcp(stream: TokioIo<TcpStream>) -> Self {
        Self::Tcp(stream.into_inner())
    }

    /// Has small messages sent at once, where the stream is within reach.
    pub(crate) fn set_nodelay(&self) {
        if let Self::Tcp(stream) = self {
            // Fails on a connection that is broken, which will be noticed.
            let _ = stream.set_nodelay(true);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
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
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Whether the body of our 101 reached the HTTP server: the guard against an outer layer that
/// replaced the response.
///
/// hyper hands over the connection for any response to a request with `Upgrade`, even a 403 that
/// took the place of our 101. It asks the body that it is about to send whether it is at its end;
/// the body of the 101 notes that here, and one that was thrown away is never asked. A layer that
/// replaces the status alone, and keeps the body, cannot be told apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicBool>);

impl Sent {
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn was_noted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A handover that the HTTP server has promised.
#[derive(Debug)]
pub(crate) struct Handover(OnUpgrade);

impl Handover {
    /// Takes the promise out of a request's extensions; `None` if the server made none.
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove::<OnUpgrade>().map(Self)
    }

    /// Waits for the connection, at most `limit`; it comes with what was read of it already.
    pub(crate) async fn complete(
        self,
        sent: Sent,
        limit: Duration,
    ) -> Result<(Connection, Bytes), UpgradeError> {
        match tokio::time::timeout(limit, self.0).await {
            Err(_) => Err(UpgradeError::Timeout),
            Ok(Err(error)) if error.is_user() => Err(UpgradeError::Unsupported(error.into())),
            Ok(Err(error)) => Err(UpgradeError::Failed(error.into())),
            Ok(Ok(_)) if !sent.was_noted() => Err(UpgradeError::Replaced),
            Ok(Ok(upgraded)) => Ok(Connection::new(upgraded)),
        }
    }
}

/// Why no WebSocket came of an accepted handshake.
#[derive(Debug)]
pub(crate) enum UpgradeError {
    /// The server was started without upgrade support (hyper: `with_upgrades` is missing).
    Unsupported(BoxError),
    /// The server did not hand over the connection in time.
    Timeout,
    /// An outer layer sent another response in place of our 101.
    Replaced,
    /// The connection broke before the 101 was written.
    Failed(BoxError),
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported(_) => {
                "the http server does not hand out its connections (hyper needs `with_upgrades`, \
                 tonic's routes `into_axum_router`)"
            }
            Self::Timeout => "the http server did not hand over the connection in time",
            Self::Replaced => {
                "an outer layer replaced the 101 by another response, or wrapped its body in one \
                 that does not forward `is_end_stream`"
            }
            Self::Failed(_) => "the connection broke before the 101 was sent",
        })
    }
}

impl Error for UpgradeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unsupported(source) | Self::Failed(source) => Some(&**source),
            Self::Timeout | Self::Replaced => None,
        }
    }
}
