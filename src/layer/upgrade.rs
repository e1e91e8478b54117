//! From a sent 101 to a connection that speaks frames.
//!
//! The HTTP server hands the connection over after it has written the 101. So this waits in the task of the
//! connection, for a bounded time, and takes only a connection whose 101 was sent. Over HTTP/2 the
//! connection is one stream of many, and the answer a 200.

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

/// A handover that the HTTP server has promised.
#[derive(Debug)]
pub(crate) struct Handover {
    promise: OnUpgrade,
    /// What will send for a stream of HTTP/2, if that is within reach.
    sending: Option<ResetGuard>,
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
        self.sending = ResetGuard::accepted();
    }

    /// Waits for the connection, at most `limit`; it comes with what was read of it already. Over
    /// HTTP/1 there is a guard.
    pub(crate) async fn complete(
        self,
        sent: Option<Sent>,
        limit: Duration,
    ) -> Result<(Transport, Bytes), UpgradeError> {
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
            (Ok(Ok(upgraded)), Some(_)) => Ok(Transport::connection(upgraded)),
            (Ok(Ok(upgraded)), None) => {
                Ok((Transport::stream(upgraded, self.sending), Bytes::new()))
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
