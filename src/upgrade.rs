//! From a sent 101 to a connection that speaks frames.
//!
//! The HTTP server hands the connection over after it wrote the 101, so this waits in a task of its
//! own, for a bounded time, and only believes in a connection whose 101 really went out. Over HTTP/2
//! the connection is one stream of many, and the answer a 200.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Extensions, Request};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::{error::BoxError, transport::Transport};

/// A connection that was handed over.
pub(crate) type Connection = Transport<TokioIo<Upgraded>>;

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

    /// Waits for the connection, at most `limit`. Over HTTP/1 there is a guard.
    pub(crate) async fn complete(
        self,
        sent: Option<&Sent>,
        limit: Duration,
    ) -> Result<Connection, UpgradeError> {
        match tokio::time::timeout(limit, self.0).await {
            Err(_) => Err(UpgradeError::Timeout),
            Ok(Err(error)) if error.is_user() => Err(UpgradeError::Unsupported(error.into())),
            Ok(Err(error)) => Err(UpgradeError::Failed(error.into())),
            Ok(Ok(_)) if sent.is_some_and(|sent| !sent.was_noted()) => Err(UpgradeError::Replaced),
            Ok(Ok(upgraded)) => {
                let io = TokioIo::new(upgraded);
                Ok(match sent {
                    Some(_) => Transport::connection(io),
                    None => Transport::stream(io),
                })
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
                 that does not forward `is_end_stream`"
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
