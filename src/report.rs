//! What is told to the operator: one function per event, silent without the `tracing` feature.

use crate::{error::BoxError, upgrade::UpgradeError};

/// An accepted handshake came to nothing.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "nobody is told")
)]
pub(crate) fn upgrade_failed(error: &UpgradeError) {
    #[cfg(feature = "tracing")]
    match error {
        UpgradeError::Unsupported(source) => {
            tracing::error!(source = &**source as &dyn std::error::Error, "{error}");
        }
        UpgradeError::Timeout | UpgradeError::Replaced => tracing::warn!("{error}"),
        UpgradeError::Failed(source) => {
            tracing::debug!(source = &**source as &dyn std::error::Error, "{error}");
        }
    }
}

/// A handshake arrived where none can be served.
pub(crate) fn upgrade_unsupported() {
    #[cfg(feature = "tracing")]
    tracing::error!(
        "no websocket handshake can be served: the http server puts no `hyper::upgrade::OnUpgrade` \
         into the request, or runs outside tokio"
    );
}

/// The handler's `accept` panicked.
pub(crate) fn accept_panicked() {
    #[cfg(feature = "tracing")]
    tracing::error!("the websocket handler panicked while accepting");
}

/// The handler returned an error of its own.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "nobody is told")
)]
pub(crate) fn handler_failed(error: &BoxError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        error = &**error as &dyn std::error::Error,
        "the websocket handler failed"
    );
}

/// The handler panicked.
pub(crate) fn handler_panicked() {
    #[cfg(feature = "tracing")]
    tracing::error!("the websocket handler panicked");
}
