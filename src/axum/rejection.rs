//! The response to a request that has no valid handshake.

use std::{error::Error, fmt};

use axum_core::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{StatusCode, Version};

use crate::handshake::{HandshakeError, answer};

/// Why an [`Upgrade`](super::Upgrade) could not be extracted: the request asks for no WebSocket, its handshake is
/// not valid, its origin is not allowed, or the limit on connections is reached.
///
/// Its response is the one of a [`WebSocketLayer`](crate::WebSocketLayer) to the same request: a status and a text.
/// The response to a handshake also has `Connection: close` (over HTTP/1.1), and the [`HandshakeError`] in its
/// extensions.
pub struct UpgradeRejection {
    // Boxed, because it travels as the error of results.
    response: Box<http::Response<Bytes>>,
    error: Option<HandshakeError>,
}

impl UpgradeRejection {
    /// Rejects a request that is not a handshake.
    pub(super) fn other(response: http::Response<Bytes>) -> Self {
        Self {
            response: Box::new(response),
            error: None,
        }
    }

    /// Rejects a handshake.
    pub(super) fn refused(error: HandshakeError, version: Version) -> Self {
        let response = answer::without_connection_headers(answer::failed(error.clone()), version);
        Self {
            response: Box::new(response),
            error: Some(error),
        }
    }

    /// Returns why the handshake is refused, or `None` if the request asks for no WebSocket.
    #[must_use]
    pub const fn error(&self) -> Option<&HandshakeError> {
        self.error.as_ref()
    }

    /// Returns the status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }
}

impl IntoResponse for UpgradeRejection {
    fn into_response(self) -> Response {
        self.response.map(Body::from)
    }
}

impl fmt::Debug for UpgradeRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeRejection")
            .field("status", &self.status())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for UpgradeRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => error.fmt(f),
            None => f.write_str("the request asks for no websocket"),
        }
    }
}

impl Error for UpgradeRejection {}
