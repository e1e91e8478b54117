//! The reasons to refuse a handshake, and the status of each.

use std::{error::Error, fmt};

use http::{HeaderName, HeaderValue, StatusCode};

use crate::words::header::Visible;

/// The reason why an opening handshake was refused.
///
/// The crate puts this value into the extensions of the response, so that outer layers can log or count it.
/// The response has the status [`status`](Self::status).
///
/// # Examples
///
/// ```
/// use http::Response;
/// use tower_websocket::error::HandshakeError;
///
/// fn log<B>(response: &Response<B>) {
///     if let Some(refused) = response.extensions().get::<HandshakeError>() {
///         println!("{}: {refused}", response.status());
///     }
/// }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The method is not GET (RFC 6455 §4.2.1 item 1). Answered 405.
    InvalidMethod,
    /// `Host`, or `:authority` over HTTP/2, is missing, repeated, or not a host with or without a
    /// port (RFC 6455 §4.2.1 item 2, RFC 9112 §3.2, RFC 9113 §8.3.1). Answered 400.
    InvalidHost,
    /// `Connection` does not name `upgrade` (RFC 6455 §4.2.1 item 4). Answered 400.
    MissingConnectionUpgrade,
    /// `Sec-WebSocket-Key` is missing, repeated, or not base64 of 16 bytes
    /// (RFC 6455 §4.2.1 item 5). Answered 400.
    InvalidKey,
    /// `Sec-WebSocket-Version` is not 13 (RFC 6455 §4.2.1 item 6). Answered 426.
    UnsupportedVersion,
    /// The `:protocol` of an extended CONNECT is not `websocket` (RFC 8441 §4, RFC 9220 §3).
    /// Answered 501.
    UnknownProtocol,
    /// The request has a body, which would be read as frames. Or it has a `Content-Length` over HTTP/2, even
    /// of 0: the server would limit the WebSocket's own bytes to that length. Answered 400.
    UnexpectedBody,
    /// Target and header fields together have more bytes than
    /// [`WebSocketLayer::max_head_size`](crate::WebSocketLayer::max_head_size) allows (RFC 6585 §5). The
    /// connection would keep them until its end. Answered 431.
    HeadersTooLarge {
        /// The size of target and header fields, in bytes.
        size: usize,
        /// The limit, in bytes.
        max: usize,
        /// The largest field, or `None` if the target is larger than every field.
        largest: Option<HeaderName>,
    },
    /// The origin policy refuses this page (RFC 6455 §10.2). Answered 403.
    OriginDenied {
        /// The `Origin` field as received. Several lines are joined by commas.
        origin: HeaderValue,
        /// The host that the origin was compared with: the host of the request, or the one that a trusted
        /// proxy reports. It is empty if the proxy's field is malformed.
        host: Box<str>,
    },
    /// `Sec-WebSocket-Protocol` is malformed or lists more than 32 subprotocols
    /// (RFC 6455 §4.2.1 item 8). Answered 400.
    InvalidSubprotocols,
    /// `Sec-WebSocket-Extensions` is malformed, has more than 8 offers, or an offer has more than 16
    /// parameters (RFC 6455 §9.1). Answered 400.
    InvalidExtensions,
    /// The server requires a subprotocol, and the client offered none that the server speaks
    /// ([`Accept::require_subprotocol`](crate::Accept::require_subprotocol)). Answered 400.
    SubprotocolRequired {
        /// The subprotocols that the server speaks, separated by commas.
        spoken: Box<str>,
    },
    /// There are as many connections as
    /// [`Connections::max_connections`](crate::Connections::max_connections) allows. Answered 503.
    TooManyConnections,
    /// [`WebSocketLayer::max_per_key`](crate::WebSocketLayer::max_per_key) allows no more
    /// connections of this key, or [`max_per_peer`](crate::WebSocketLayer::max_per_peer) of this
    /// peer. Answered 429.
    TooManyOfKey,
    /// The function of [`WebSocketLayer::max_per_peer`](crate::WebSocketLayer::max_per_peer) found
    /// no address in the request. Answered 500: the server does not provide the address.
    UnknownPeer,
    /// [`Connections::close`](crate::Connections::close) or
    /// [`Connections::shutdown`](crate::Connections::shutdown) was called. Answered 503.
    ShuttingDown,
    /// [`Handler::accept`](crate::Handler::accept) refused the request.
    Refused {
        /// The status of the response.
        status: StatusCode,
    },
    /// [`Handler::accept`](crate::Handler::accept) took longer than
    /// [`WebSocketLayer::accept_timeout`](crate::WebSocketLayer::accept_timeout). Answered 503.
    AcceptTimeout,
    /// [`Handler::accept`](crate::Handler::accept) panicked, or another function that decides about a
    /// handshake: that of [`Accept::configure`](crate::Accept::configure), one given to the layer, or one
    /// given to its [`OriginPolicy`](crate::OriginPolicy). Answered 500.
    AcceptPanicked,
    /// The HTTP server does not hand out its connections, or the code does not run in a tokio runtime.
    /// Answered 500: the setup of the server is wrong.
    UpgradeUnsupported,
}

impl HandshakeError {
    /// Returns the status of the response.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::InvalidMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::InvalidHost
            | Self::MissingConnectionUpgrade
            | Self::InvalidKey
            | Self::UnexpectedBody
            | Self::InvalidSubprotocols
            | Self::InvalidExtensions
            | Self::SubprotocolRequired { .. } => StatusCode::BAD_REQUEST,
            // 426 rather than 400: the response names the supported version (RFC 6455 §4.4).
            Self::UnsupportedVersion => StatusCode::UPGRADE_REQUIRED,
            Self::UnknownProtocol => StatusCode::NOT_IMPLEMENTED,
            Self::HeadersTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::OriginDenied { .. } => StatusCode::FORBIDDEN,
            Self::Refused { status } => *status,
            Self::AcceptTimeout | Self::TooManyConnections | Self::ShuttingDown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::TooManyOfKey => StatusCode::TOO_MANY_REQUESTS,
            Self::AcceptPanicked | Self::UnknownPeer | Self::UpgradeUnsupported => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

impl HandshakeError {
    /// Returns a short, stable name for use as a metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::InvalidMethod => "invalid_method",
            Self::InvalidHost => "invalid_host",
            Self::MissingConnectionUpgrade => "missing_connection_upgrade",
            Self::InvalidKey => "invalid_key",
            Self::UnsupportedVersion => "unsupported_version",
            Self::UnknownProtocol => "unknown_protocol",
            Self::UnexpectedBody => "unexpected_body",
            Self::HeadersTooLarge { .. } => "headers_too_large",
            Self::OriginDenied { .. } => "origin_denied",
            Self::InvalidSubprotocols => "invalid_subprotocols",
            Self::InvalidExtensions => "invalid_extensions",
            Self::SubprotocolRequired { .. } => "subprotocol_required",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyOfKey => "too_many_of_key",
            Self::UnknownPeer => "unknown_peer",
            Self::ShuttingDown => "shutting_down",
            Self::Refused { .. } => "refused",
            Self::AcceptTimeout => "accept_timeout",
            Self::AcceptPanicked => "accept_panicked",
            Self::UpgradeUnsupported => "upgrade_unsupported",
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidMethod => "a websocket handshake is a GET request",
            Self::InvalidHost => "the host is not a host and port, given once",
            Self::MissingConnectionUpgrade => {
                "connection does not name upgrade: does a proxy drop it?"
            }
            Self::InvalidKey => "sec-websocket-key is not the base64 of 16 bytes, given once",
            Self::UnsupportedVersion => "sec-websocket-version 13 is the only one supported",
            Self::UnknownProtocol => "websocket is the only protocol supported",
            Self::UnexpectedBody => {
                "a websocket handshake has no body, and over http/2 no content-length"
            }
            Self::HeadersTooLarge { size, max, largest } => {
                write!(
                    f,
                    "target and header fields have {size} bytes, {max} are allowed; "
                )?;
                return match largest {
                    Some(name) => write!(f, "{} has most", Visible(name.as_str().as_bytes())),
                    None => f.write_str("the target has most"),
                };
            }
            Self::OriginDenied { origin, host } => {
                let origin = Visible(origin.as_bytes());
                return match &**host {
                    "" => write!(
                        f,
                        "pages of {origin} may not connect: the forwarded host is malformed"
                    ),
                    host => {
                        let host = Visible(host.as_bytes());
                        write!(f, "pages of {origin} may not connect to {host}")
                    }
                };
            }
            Self::InvalidSubprotocols => "sec-websocket-protocol is malformed or too long",
            Self::InvalidExtensions => "sec-websocket-extensions is malformed or too long",
            Self::SubprotocolRequired { spoken } => {
                return write!(
                    f,
                    "sec-websocket-protocol offers none of the subprotocols spoken here: {spoken}"
                );
            }
            Self::TooManyConnections => "too many connections",
            Self::TooManyOfKey => "too many connections of yours",
            Self::UnknownPeer => "the address of the peer is not known",
            Self::ShuttingDown => "the service is going down",
            Self::Refused { status } => return write!(f, "the handler refused with {status}"),
            Self::AcceptTimeout => "the handler took too long to accept",
            Self::AcceptPanicked => "the handler panicked while accepting",
            Self::UpgradeUnsupported => "this server is not set up for websockets",
        })
    }
}

impl Error for HandshakeError {}
