//! Why a registry refuses a connection.

use std::{error::Error, fmt};

use crate::handshake::HandshakeError;

/// Why a [`Connections`](crate::Connections) refused a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AdmitError {
    /// The limit of [`Connections::max_connections`](crate::Connections::max_connections) is reached.
    Full,
    /// [`Connections::close`](crate::Connections::close), [`close_with`](crate::Connections::close_with) or
    /// [`shutdown`](crate::Connections::shutdown) was called.
    ShuttingDown,
}

impl fmt::Display for AdmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many connections are open",
            Self::ShuttingDown => "the connections are being shut down",
        })
    }
}

impl Error for AdmitError {}

/// A layer answers both with 503.
impl From<AdmitError> for HandshakeError {
    fn from(error: AdmitError) -> Self {
        match error {
            AdmitError::Full => Self::TooManyConnections,
            AdmitError::ShuttingDown => Self::ShuttingDown,
        }
    }
}
