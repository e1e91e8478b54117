//! The log of handshakes: one function per event. Without the `tracing` feature, the functions do nothing.
//!
//! Header fields are not logged, because they may be secret. The only exceptions are `Origin` and `Host` of a page
//! that was refused: the operator needs them to allow the page. The client chose them and the path, so they are
//! logged as [`Visible`](crate::words::header::Visible).
//!
//! A refusal is at info level once a minute for each origin, reason or status of a handler, otherwise at debug level.
//! Clients choose origins, so at most 64 of these a minute are at info. Counts go by a fixed label.

use std::fmt;

use http::Version;

use super::upgrade::UpgradeError;
#[cfg(feature = "tracing")]
use crate::words::header::Visible;
use crate::{handshake::HandshakeError, words::Panicked};

/// A handshake was refused. This is logged at info level if `is_news`, otherwise at debug level.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn refused(error: &HandshakeError, path: &str, is_news: bool) {
    #[cfg(feature = "tracing")]
    {
        let path = Visible(path.as_bytes());
        let (status, reason) = (error.status().as_u16(), error.label());
        let hint = match error {
            HandshakeError::OriginDenied { .. } => {
                "; to allow it, see `OriginPolicy::allow`, or `OriginPolicy::x_forwarded_host` where a \
                 proxy rewrites the host"
            }
            HandshakeError::HeadersTooLarge { .. } => "; see `WebSocketLayer::max_head_size`",
            _ => "",
        };
        let text = format_args!("websocket refused: {error}{hint}");
        match is_news {
            true => tracing::info!(status, reason, %path, "{text}"),
            false => tracing::debug!(status, reason, %path, "{text}"),
        }
    }
}

/// A handshake was accepted without any of the subprotocols that the client offered.
///
/// The names are not logged, because some clients send a token as a subprotocol.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn no_subprotocol(path: &str) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        path = %Visible(path.as_bytes()),
        "websocket accepted without a subprotocol, though the client offered some: browsers close \
         such a connection; see `WebSocketLayer::subprotocol` and `Accept::subprotocol`"
    );
}

/// Returns whether the info level is logged. Otherwise the layer need not find out why it passes a request on.
#[inline]
pub(crate) fn is_info_enabled() -> bool {
    #[cfg(feature = "tracing")]
    return tracing::enabled!(tracing::Level::INFO);
    #[cfg(not(feature = "tracing"))]
    return false;
}

/// A handshake is passed on, because the layer's target does not include it.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn passed_by(path: &str, target: &impl fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        path = %Visible(path.as_bytes()),
        "a websocket handshake is passed on, because this layer answers only {target}"
    );
}

/// A handshake is passed on, because the layer is switched off.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn switched_off(path: &str) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        path = %Visible(path.as_bytes()),
        "a websocket handshake is passed on, because this layer is switched off"
    );
}

/// A handshake is taken for a plain request, because a proxy has dropped a part of it.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn no_upgrade(path: &str, version: Version, is_news: bool) {
    #[cfg(feature = "tracing")]
    {
        let path = Visible(path.as_bytes());
        let (lack, remedy) = match version {
            Version::HTTP_09 | Version::HTTP_10 => (
                "over HTTP/1.0",
                "speak HTTP/1.1 (nginx: `proxy_http_version 1.1`) and send `Upgrade` and `Connection` on",
            ),
            _ => (
                "without `Upgrade: websocket`",
                "send `Upgrade` and `Connection` on",
            ),
        };
        let text = format_args!(
            "a websocket handshake {lack} is taken for a plain request: a proxy has to {remedy}"
        );
        match is_news {
            true => tracing::info!(%path, "{text}"),
            false => tracing::debug!(%path, "{text}"),
        }
    }
}

/// A plain request is for a path of the layer.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn plain(path: &str) {
    #[cfg(feature = "tracing")]
    {
        let path = Visible(path.as_bytes());
        tracing::debug!(
            %path,
            "a plain GET for a websocket is passed on: if it was a handshake, a proxy has dropped its fields"
        );
    }
}

/// An extended CONNECT over HTTP/2 is passed on, because the feature `http2` is off.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn connect_not_spoken(path: &str) {
    #[cfg(feature = "tracing")]
    {
        static LOGGED: std::sync::Once = std::sync::Once::new();
        LOGGED.call_once(|| {
            tracing::info!(
                "the server allows extended CONNECT over HTTP/2, and browsers then use it to open \
                 websockets, but the feature `http2` of tower-websocket is off: turn it on, or do not \
                 call `enable_connect_protocol` (axum's feature `http2` calls it); this is logged once"
            );
        });
        tracing::debug!(
            path = %Visible(path.as_bytes()),
            "an extended CONNECT is passed on, because the feature `http2` of tower-websocket is off"
        );
    }
}

/// A layer runs its handlers even if another response replaced the 101.
pub(crate) fn unguarded() {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        "`insecure_run_behind_any_response` is set: over HTTP/1.1, a websocket handler also runs if \
         an outer layer refuses the handshake after it was accepted"
    );
}

/// An accepted handshake did not become a connection. This is logged at error level if the server is set up wrong and
/// `is_news`, otherwise at debug level: a client that does not read the 101 causes the timeout.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn upgrade_failed(error: &UpgradeError, is_news: bool) {
    #[cfg(feature = "tracing")]
    {
        let source = std::error::Error::source(error);
        match error {
            UpgradeError::Unsupported(_) | UpgradeError::Replaced if is_news => {
                tracing::error!(source, "{error}");
            }
            _ => tracing::debug!(source, "{error}"),
        }
    }
}

/// The HTTP server of a handshake cannot serve WebSockets. This is logged at error level if `is_news`, otherwise at
/// debug level.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn upgrade_unsupported(is_news: bool) {
    #[cfg(feature = "tracing")]
    {
        let text = "no websocket handshake can be served: the http server puts no \
                    `hyper::upgrade::OnUpgrade` into the request, or runs outside a tokio runtime with \
                    its time driver";
        match is_news {
            true => tracing::error!("{text}"),
            false => tracing::debug!("{text}"),
        }
    }
}

/// The handler's `accept` panicked, or another function of the user that decides about a handshake.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn accept_panicked(panicked: &Panicked) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        %panicked,
        "the websocket handler, or a function given to its layer, panicked while accepting"
    );
}

/// A limit by key accepted a request without a key, and did not count it. This is logged once for each limit.
pub(crate) fn key_missing() {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        "a connection is not limited by `max_per_key`, because its function returned no key; if it \
         reads the peer's address, serve with `into_make_service_with_connect_info`, or use \
         `max_per_peer`, which refuses; this is logged once"
    );
}

/// A limit by peer refused a request without an address. This is logged once for each limit.
pub(crate) fn peer_missing() {
    #[cfg(feature = "tracing")]
    tracing::error!(
        "websocket handshakes are refused, because the function of `max_per_peer` returned no \
         address; serve with `into_make_service_with_connect_info`, or have your server put the \
         address into the extensions of each request; this is logged once"
    );
}
