//! From a sent 101 to a connection that speaks frames.
//!
//! The HTTP server hands the connection over after it wrote the 101, so this waits in a task of its
//! own, for a bounded time, and only believes in a connection whose 101 really went out. Over HTTP/2
//! the connection is one stream of many, and the answer a 200.

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
use futures_util::FutureExt;
use http::{Extensions, Request};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto};
#[cfg(any(target_os = "android", target_os = "linux"))]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{any_error::BoxError, config::TcpOptions, executor::Sending, transport::Transport};

/// A connection that was handed over.
#[derive(Debug)]
pub(crate) enum Connection {
    /// A TCP stream, out of the boxes in which servers keep it.
    Tcp(TcpStream),
    /// Whatever else a server may have.
    Other(Box<Transport<TokioIo<Upgraded>>>),
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
                let stream = Transport::connection(TokioIo::new(upgraded));
                (Self::Other(Box::new(stream)), Bytes::new())
            }
        }
    }

    fn tcp(stream: TokioIo<TcpStream>) -> Self {
        Self::Tcp(stream.into_inner())
    }

    /// Takes one stream of an HTTP/2 connection.
    fn stream(upgraded: Upgraded, sending: Option<Sending>) -> Self {
        let stream = Transport::stream(TokioIo::new(upgraded), sending);
        Self::Other(Box::new(stream))
    }

    /// Sets the options of the socket, where that is within reach. What fails does so on a connection that
    /// is broken, which will be noticed.
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

/// Returns the protocol that an extended CONNECT over HTTP/2 names (RFC 8441 §4).
#[cfg(feature = "http2")]
pub(crate) fn protocol<A>(request: &Request<A>) -> Option<&str> {
    if request.version() != http::Version::HTTP_2 || request.method() != http::Method::CONNECT {
        return None;
    }
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    protocol.map(hyper::ext::Protocol::as_str)
}

/// Returns nothing: without the feature `http2` an extended CONNECT is the inner service's.
#[cfg(not(feature = "http2"))]
pub(crate) const fn protocol<A>(_: &Request<A>) -> Option<&str> {
    None
}

/// Whether the body of our 101 reached the HTTP server: the guard against an outer layer that
/// replaced the response. It is there for HTTP/1 only: over HTTP/2 hyper goes by the status that
/// is sent, and asks no body anything.
///
/// hyper hands over the connection for any response to a request with `Upgrade`, even a 403 that
/// took the place of our 101. It asks the body that it is about to send whether it is at its end;
/// the body of the 101 notes that here, and one that was thrown away is never asked. It notes as well
/// that it is read, which a layer does that collects bodies and sends on what it got.
///
/// Three things cannot be told apart: a layer that replaces the status alone and keeps the body, one that
/// reads the body and then answers something else, and one that wraps the body in one that asks nothing
/// until it is polled, which that of a 101 is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicBool>);

impl Sent {
    /// Makes one that believes in every response.
    pub(crate) fn unguarded() -> Self {
        let sent = Self::default();
        sent.note();
        sent
    }

    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn was_noted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A handover that the HTTP server has promised.
#[derive(Debug)]
pub(crate) struct Handover {
    promise: OnUpgrade,
    /// What will send for a stream of HTTP/2, if that is within reach.
    sending: Option<Sending>,
}

impl Handover {
    /// Takes the promise out of a request's extensions; `None` if the server made none.
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Self> {
        let promise = extensions.remove::<OnUpgrade>()?;
        Some(Self {
            promise,
            sending: None,
        })
    }

    /// Is to be called for a stream of HTTP/2, in the poll in which the handshake is accepted: from
    /// now on the stream is reset if it comes to nothing.
    pub(crate) fn accept_stream(&mut self) {
        self.sending = Sending::accepted();
    }

    /// Waits for the connection, at most `limit`; it comes with what was read of it already. Over
    /// HTTP/1 there is a guard.
    pub(crate) async fn complete(
        self,
        sent: Option<Sent>,
        limit: Duration,
    ) -> Result<(Connection, Bytes), UpgradeError> {
        let mut promise = self.promise;
        let promised = match (&mut promise).now_or_never() {
            // Usually the 101 was written before this task had its first turn, and no timer is needed.
            Some(promised) => Ok(promised),
            None => tokio::time::timeout(limit, promise).await,
        };
        match (promised, sent) {
            (Err(_), _) => Err(UpgradeError::Timeout),
            (Ok(Err(error)), _) if error.is_user() => Err(UpgradeError::Unsupported(error.into())),
            (Ok(Err(error)), _) => Err(UpgradeError::Failed(error.into())),
            (Ok(Ok(_)), Some(sent)) if !sent.was_noted() => Err(UpgradeError::Replaced),
            (Ok(Ok(upgraded)), Some(_)) => Ok(Connection::new(upgraded)),
            (Ok(Ok(upgraded)), None) => {
                Ok((Connection::stream(upgraded, self.sending), Bytes::new()))
            }
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
    /// The connection broke before the 101 was written, or over HTTP/2 another response was sent in
    /// its place.
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
                 that does not forward `is_end_stream`; put it inside of the `WebSocketLayer`, or around \
                 other routes only, or see `insecure_run_behind_any_response`"
            }
            Self::Failed(_) => {
                "the connection broke before the 101 was sent, or over http/2 an outer layer refused"
            }
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
