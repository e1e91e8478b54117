//! The handover: the HTTP server gives the connection to its task.
//!
//! The server does that after it has written the 101. The task waits for it, with a timeout, and refuses a
//! connection whose 101 was replaced. Over HTTP/2 the connection is one stream, and the answer is a 200.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::Extensions;
use hyper::upgrade::OnUpgrade;

use super::guard::Sent;
use crate::{
    socket::{Transport, http2::ResetGuard},
    words::BoxError,
};

/// A handover for which the connection's task waits.
#[derive(Debug)]
pub(crate) struct Handover {
    upgrade: OnUpgrade,
    /// A handle to hyper's task that sends for an HTTP/2 stream, if the server uses our executor.
    sending: Option<ResetGuard>,
}

impl Handover {
    /// Takes the [`OnUpgrade`] out of a request's extensions. Returns `None` if the server added none.
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Self> {
        let upgrade = extensions.remove::<OnUpgrade>()?;
        Some(Self {
            upgrade,
            sending: None,
        })
    }

    /// Lets an HTTP/2 stream be reset if its handover fails. Has to be called in the poll in which the
    /// handshake is accepted.
    pub(crate) fn accept_stream(&mut self) {
        self.sending = ResetGuard::accepted();
    }

    /// Waits for the connection, at most `limit`. Returns it with the bytes that the server has already read.
    /// `sent` is `None` over HTTP/2.
    pub(crate) async fn complete(
        self,
        sent: Option<Sent>,
        limit: Duration,
    ) -> Result<(Transport, Bytes), UpgradeError> {
        let mut upgrade = self.upgrade;
        let upgraded = match (&mut upgrade).now_or_never() {
            // Usually the 101 was written before the first poll of this task. Then no timer is needed.
            Some(upgraded) => Ok(upgraded),
            None => tokio::time::timeout(limit, upgrade).await,
        };
        match (upgraded, sent) {
            (Err(_), _) => Err(UpgradeError::Timeout),
            (Ok(Err(error)), _) if error.is_user() => Err(UpgradeError::Unsupported(error.into())),
            (Ok(Err(error)), _) => Err(UpgradeError::Failed(error.into())),
            (Ok(Ok(_)), Some(sent)) if !sent.is_set() => Err(UpgradeError::Replaced),
            (Ok(Ok(upgraded)), Some(_)) => Ok(Transport::connection(upgraded)),
            (Ok(Ok(upgraded)), None) => {
                Ok((Transport::stream(upgraded, self.sending), Bytes::new()))
            }
        }
    }
}

/// Why an accepted handshake did not become a WebSocket.
#[derive(Debug)]
pub(crate) enum UpgradeError {
    /// The server was started without upgrade support (hyper: `with_upgrades` is missing).
    Unsupported(BoxError),
    /// The server did not hand over the connection in time.
    Timeout,
    /// An outer layer replaced our 101 by another response.
    Replaced,
    /// The connection broke before the answer was written. Or an outer layer replaced the 200 over HTTP/2.
    Failed(BoxError),
}

impl UpgradeError {
    /// Returns the name of the notice if the server is set up wrong. A notice is logged at error level once a minute.
    pub(crate) const fn misconfigured(&self) -> Option<&'static str> {
        match self {
            Self::Unsupported(_) => Some("no_upgrades"),
            Self::Replaced => Some("replaced"),
            Self::Timeout | Self::Failed(_) => None,
        }
    }
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
