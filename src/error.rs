//! What can go wrong, one type per operation that fails.

use std::{error::Error as StdError, fmt, io};

use http::{HeaderValue, StatusCode};

use crate::message::Message;

/// Any error, boxed: what a [`Handler`](crate::Handler) returns when it fails.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Any error, for handlers that are closures: `?` turns everything into it that implements
/// [`std::error::Error`]. For a text or a [`BoxError`] there is [`Error::new`].
///
/// The error type of a closure has to be named in its last line, and this is the one to name.
/// [`BoxError`] does as well under most servers, but not where the compiler has to prove that a
/// connection spawned in a non-generic function is `Send`: it then asks for the conversion from a
/// box of *any* lifetime, which does not exist. This type has no lifetime to be forgotten.
///
/// Like the other catch-all error types it does not implement [`std::error::Error`] itself; it
/// converts into [`BoxError`], which does.
///
/// # Examples
///
/// ```
/// use tower_websocket::{Error, WebSocket, WebSocketLayer};
///
/// let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
///     while let Some(message) = socket.recv().await? {
///         let number: i64 = message.into_text()?.parse()?;
///         socket.send((number + 1).to_string()).await?;
///     }
///     Ok::<_, Error>(())
/// });
/// ```
pub struct Error(BoxError);

impl Error {
    /// Makes an error of a text, or of a box.
    #[must_use]
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<Error> for BoxError {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why an opening handshake was refused.
///
/// The peer has been answered with [`status`](Self::status) when this value is seen: it is left in
/// the extensions of the response, for outer layers to log or count.
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
    /// No `Connection` line names `upgrade` (RFC 6455 §4.2.1 item 4). Answered 400.
    MissingConnectionUpgrade,
    /// `Sec-WebSocket-Key` is missing, repeated, or not base64 of 16 bytes
    /// (RFC 6455 §4.2.1 item 5). Answered 400.
    InvalidKey,
    /// `Sec-WebSocket-Version` is not 13 (RFC 6455 §4.2.1 item 6). Answered 426.
    UnsupportedVersion,
    /// The `:protocol` of an extended CONNECT is not `websocket` (RFC 8441 §4, RFC 9220 §3).
    /// Answered 501.
    UnknownProtocol,
    /// The request has a body, which would be read as frames. Answered 400.
    UnexpectedBody,
    /// Target and header fields have more than 16 KiB together, which would be kept as long as the
    /// connection. Answered 431.
    HeadersTooLarge,
    /// The origin policy refuses this page (RFC 6455 §10.2). Answered 403.
    OriginDenied {
        /// The first `Origin` field as received.
        origin: Option<HeaderValue>,
    },
    /// `Sec-WebSocket-Protocol` is malformed or lists more than 32 subprotocols
    /// (RFC 6455 §4.2.1 item 8). Answered 400.
    InvalidSubprotocols,
    /// `Sec-WebSocket-Extensions` is malformed, makes more than 8 offers, or gives more than 16
    /// parameters to one (RFC 6455 §9.1). Answered 400.
    InvalidExtensions,
    /// There are as many connections as
    /// [`Connections::max_connections`](crate::Connections::max_connections) allows. Answered 503.
    TooManyConnections,
    /// [`WebSocketLayer::max_per_key`](crate::WebSocketLayer::max_per_key) allows no more
    /// connections of this key, or [`max_per_peer`](crate::WebSocketLayer::max_per_peer) of this
    /// peer. Answered 429.
    TooManyOfKey,
    /// The function of [`WebSocketLayer::max_per_peer`](crate::WebSocketLayer::max_per_peer) found
    /// no address in the request. Answered 500: the server is not set up to provide it.
    UnknownPeer,
    /// [`Connections::close`](crate::Connections::close) or
    /// [`Connections::shutdown`](crate::Connections::shutdown) was called. Answered 503.
    ShuttingDown,
    /// [`Handler::accept`](crate::Handler::accept) refused the request.
    Refused {
        /// What it was answered with.
        status: StatusCode,
    },
    /// [`Handler::accept`](crate::Handler::accept) took longer than
    /// [`WebSocketLayer::accept_timeout`](crate::WebSocketLayer::accept_timeout). Answered 503.
    AcceptTimeout,
    /// [`Handler::accept`](crate::Handler::accept) panicked. Answered 500.
    AcceptPanicked,
    /// The HTTP server does not hand out its connections, or no tokio runtime runs here. Answered
    /// 500: this is a mistake of whoever set up the server.
    UpgradeUnsupported,
}

impl HandshakeError {
    /// Returns the status that the peer was answered with.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::InvalidMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::InvalidHost
            | Self::MissingConnectionUpgrade
            | Self::InvalidKey
            | Self::UnexpectedBody
            | Self::InvalidSubprotocols
            | Self::InvalidExtensions => StatusCode::BAD_REQUEST,
            // 426 rather than 400: it names the version that would be accepted (RFC 6455 §4.4).
            Self::UnsupportedVersion => StatusCode::UPGRADE_REQUIRED,
            Self::UnknownProtocol => StatusCode::NOT_IMPLEMENTED,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
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
    /// Returns a short name for it that does not change, for the label of a metric.
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
            Self::HeadersTooLarge => "headers_too_large",
            Self::OriginDenied { .. } => "origin_denied",
            Self::InvalidSubprotocols => "invalid_subprotocols",
            Self::InvalidExtensions => "invalid_extensions",
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
            Self::MissingConnectionUpgrade => "connection does not name upgrade",
            Self::InvalidKey => "sec-websocket-key is not the base64 of 16 bytes, given once",
            Self::UnsupportedVersion => "sec-websocket-version 13 is the only one supported",
            Self::UnknownProtocol => "websocket is the only protocol supported",
            Self::UnexpectedBody => "a websocket handshake has no body",
            Self::HeadersTooLarge => "target and header fields have more than 16 KiB",
            Self::OriginDenied { .. } => "this origin may not connect",
            Self::InvalidSubprotocols => "sec-websocket-protocol is malformed or too long",
            Self::InvalidExtensions => "sec-websocket-extensions is malformed or too long",
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

impl StdError for HandshakeError {}

/// Why [`WebSocket::recv`](crate::WebSocket::recv) could not deliver another message.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// The peer broke a framing rule (RFC 6455 §5), or what it sent as compressed is no deflate
    /// stream (RFC 7692). A Close with 1002 has been sent.
    Protocol(BoxError),
    /// A text message, or the reason of a Close, is not UTF-8 (RFC 6455 §8.1). A Close with 1007
    /// has been sent.
    InvalidUtf8,
    /// A message or frame is larger than
    /// [`Config::max_message_size`](crate::Config::max_message_size) or
    /// [`max_frame_size`](crate::Config::max_frame_size). A Close with 1009 has been sent.
    TooLarge,
    /// A message has more fragments than
    /// [`Config::max_fragments`](crate::Config::max_fragments). A Close with 1008 has been sent.
    TooManyFragments,
    /// A compressed message has more final blocks with next to nothing in front of them than
    /// [`Deflate`](crate::Config::deflate) allows (RFC 7692 §7.2.3.4). A Close with 1008 has been sent.
    TooManyFinalBlocks,
    /// A message took longer than
    /// [`Config::assembly_timeout`](crate::Config::assembly_timeout). A Close with 1008 has been
    /// sent.
    TooSlow,
    /// More pings and pongs than
    /// [`Config::max_control_frames`](crate::Config::max_control_frames). A Close with 1008 has
    /// been sent.
    TooManyControlFrames,
    /// No message within
    /// [`Config::first_message_timeout`](crate::Config::first_message_timeout). A Close with 1008
    /// has been sent.
    NoFirstMessage,
    /// The handler took no message for
    /// [`Config::receive_timeout`](crate::Config::receive_timeout), and one waited for room. A Close
    /// with 1008 has been sent.
    NotReceived,
    /// The peer did not answer a ping within [`Config::keepalive`](crate::Config::keepalive). The
    /// connection is gone.
    Unresponsive,
    /// The peer took nothing of what was to be written for
    /// [`Config::write_timeout`](crate::Config::write_timeout). The connection is gone.
    Stalled,
    /// The connection is gone without a closing handshake.
    ///
    /// The kind is [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when the stream just ended, as
    /// it does when a browser is killed; a Close with 1002 is tried then, for a peer that ended
    /// only its own half. It is [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) when this
    /// side gave the connection up, as when its runtime ends.
    Io(io::Error),
}

impl RecvError {
    pub(crate) const fn text(&self) -> &'static str {
        match self {
            Self::Protocol(_) => "the peer broke the websocket protocol",
            Self::InvalidUtf8 => "the peer sent text that is not utf-8",
            Self::TooLarge => "the peer sent a message over the size limit",
            Self::TooManyFragments => "the peer sent a message in too many fragments",
            Self::TooManyFinalBlocks => {
                "the peer sent a compressed message with too many final blocks"
            }
            Self::TooSlow => "the peer took too long to send a message",
            Self::TooManyControlFrames => "the peer sent too many pings or pongs",
            Self::NoFirstMessage => "the peer sent no first message in time",
            Self::NotReceived => "no message was received in time",
            Self::Unresponsive => "the peer did not answer a ping in time",
            Self::Stalled => "the peer took nothing that was written",
            Self::Io(_) => "the connection is gone",
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl StdError for RecvError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Protocol(source) => Some(&**source),
            Self::Io(source) => Some(source),
            _ => None,
        }
    }
}

/// Why [`WebSocket::send`](crate::WebSocket::send) did not queue a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is closing or gone; nothing can be sent any more.
    Closed,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection is closed"),
        }
    }
}

impl StdError for SendError {}

/// Why [`Sender::try_send`](crate::Sender::try_send) did not queue a message, which it gives back.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum TrySendError {
    /// There is no room before more has been written
    /// ([`Config::max_outbox`](crate::Config::max_outbox)), or others wait for what there is.
    Full(Message),
    /// The connection is closing or gone; nothing can be sent any more.
    Closed(Message),
}

impl TrySendError {
    /// Returns the message.
    #[must_use]
    pub fn into_message(self) -> Message {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

// Without the message: errors are logged, and messages are the users' secrets.
impl fmt::Debug for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl fmt::Display for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "no room for another message",
            Self::Closed(_) => "the connection is closed",
        })
    }
}

impl StdError for TrySendError {}

/// Why [`WebSocket::try_recv`](crate::WebSocket::try_recv) returned no message.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryRecvError {
    /// No whole message is there yet.
    Empty,
    /// The peer has closed the connection, or this side has: nothing will come any more.
    Ended,
    /// Nothing will come any more, for this reason. Later calls return [`Ended`](Self::Ended).
    Failed(RecvError),
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no message has arrived"),
            Self::Ended => f.write_str("the connection has ended"),
            Self::Failed(_) => f.write_str("receiving failed"),
        }
    }
}

impl StdError for TryRecvError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Failed(fault) => Some(fault),
            Self::Empty | Self::Ended => None,
        }
    }
}

/// Why a close code or reason was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum InvalidClose {
    /// The number may not stand in a Close frame (RFC 6455 §7.4).
    Code {
        /// The number.
        code: u16,
    },
    /// The reason is longer than the 123 bytes that fit a control frame (RFC 6455 §5.5).
    Reason {
        /// Its length in bytes.
        len: usize,
    },
}

impl fmt::Display for InvalidClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { code } => write!(f, "close code {code} may not be sent"),
            Self::Reason { len } => write!(f, "close reason of {len} bytes is over 123"),
        }
    }
}

impl StdError for InvalidClose {}

/// [`Message::into_text`](crate::Message::into_text) was called on a binary message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct NotText;

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message is binary, not text")
    }
}

impl StdError for NotText {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_bounds_of_boxed_errors() {
        fn boxed(_: impl Into<BoxError>) {}
        boxed(HandshakeError::InvalidKey);
        boxed(RecvError::InvalidUtf8);
        boxed(SendError::Closed);
        boxed(InvalidClose::Code { code: 1006 });
        boxed(NotText);
        boxed(Error::from(NotText));
    }

    #[test]
    fn keeps_the_source_out_of_the_message() {
        let error = RecvError::Io(io::Error::other("cable cut"));
        assert!(!error.to_string().contains("cable cut"));
        assert_eq!(error.source().unwrap().to_string(), "cable cut");
    }
}
