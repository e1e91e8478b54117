//! Why no connection came about.

use std::{convert::Infallible, error::Error, fmt, io, iter};

use bytes::Bytes;
use http::{Response, header::CONTENT_TYPE};

use crate::{connections::AdmitError, words::BoxError};

const PLAIN_TEXT: &[u8] = b"text/plain";
/// The most that is shown of a refusal's body, in bytes.
const MAX_EXPLANATION: usize = 200;

/// Why [`connect`](super::connect) or [`connect_with`](super::connect_with) made no connection.
///
/// The stream is dropped in every case.
///
/// The text of an error includes its causes, as in `no connection to the server: 127.0.0.1:3000: Connection
/// refused (os error 111)`. [`source`](Error::source) returns them as well, for code that looks for a
/// type; so print either the error alone or its sources, not both.
///
/// `Debug` has the text of the cause as well. Of a refusal it has the status and sizes: headers and the body
/// may hold secrets.
///
/// # Examples
///
/// ```
/// use tower_websocket::client::{ConnectError, connect};
///
/// # async fn example() {
/// match connect("ws://127.0.0.1:3000/ws").await {
///     Ok((socket, _)) => drop(socket),
///     Err(ConnectError::Refused(response)) => println!("refused: {}", response.status()),
///     Err(error) => println!("{error}"),
/// }
/// # }
/// ```
#[non_exhaustive]
pub enum ConnectError {
    /// The URL or the request is none for a WebSocket, as the source says. Nothing was sent.
    InvalidRequest(BoxError),
    /// The URL asks for TLS, and no [feature for it](super#tls) is on. Nothing was sent.
    NeedsTls,
    /// The TLS handshake failed: the certificate is not trusted or is that of another name, or the server
    /// does not speak TLS. Or there are no roots to trust.
    ///
    /// If a certificate is not trusted and roots of the system could not be loaded, the text says why they
    /// could not.
    Tls(BoxError),
    /// The name of the host does not resolve, the server could not be reached, or the stream ended or failed
    /// before the whole answer. Or the system has no random bytes for the handshake's key, and nothing was
    /// sent.
    Io(io::Error),
    /// The server answered with another status than 101.
    ///
    /// The body is what could be read of its first 64 KiB while there was time. If it is `text/plain`,
    /// the error's text has up to 200 bytes of it, what is not visible ASCII escaped.
    Refused(Box<Response<Bytes>>),
    /// The answer is not HTTP (it may be TLS, as the text then says), its head exceeds
    /// [`Handshake::max_response_head`](super::Handshake::max_response_head) or
    /// [`max_response_fields`](super::Handshake::max_response_fields), or it is a 101 that breaks
    /// RFC 6455 §4.1, as the source says.
    InvalidResponse(BoxError),
    /// The registry of [`Handshake::connections_in`](super::Handshake::connections_in) is full or shutting down.
    /// Nothing was sent, unless the shutdown began during the handshake.
    NotAdmitted(AdmitError),
    /// The handshake took longer than [`Handshake::timeout`](super::Handshake::timeout).
    TimedOut,
}

impl ConnectError {
    /// Returns whether the same attempt may succeed later: the server could not be reached, did not
    /// answer in time, or refused with 408, 425, 429, 500, 502, 503 or 504, or the registry is full.
    ///
    /// A name that does not resolve is such an error too, because resolvers do not say whether the name is
    /// wrong or the network is down.
    ///
    /// [`Reconnect`](super::Reconnect) tries again behind these.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Io(_) | Self::TimedOut | Self::NotAdmitted(AdmitError::Full) => true,
            Self::Refused(response) => {
                matches!(
                    response.status().as_u16(),
                    408 | 425 | 429 | 500 | 502..=504
                )
            }
            Self::InvalidRequest(_)
            | Self::NeedsTls
            | Self::Tls(_)
            | Self::InvalidResponse(_)
            | Self::NotAdmitted(AdmitError::ShuttingDown) => false,
        }
    }

    /// Returns the texts of the sources, without those that the text before has in it.
    fn causes(&self) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for cause in iter::successors(self.source(), |&error| error.source()) {
            let text = cause.to_string();
            if !texts.last().is_some_and(|last| last.contains(&text)) {
                texts.push(text);
            }
        }
        texts
    }

    pub(super) fn request(why: impl Into<BoxError>) -> Self {
        Self::InvalidRequest(why.into())
    }

    pub(super) fn response(why: impl Into<BoxError>) -> Self {
        Self::InvalidResponse(why.into())
    }

    #[cfg(any(
        feature = "rustls-tls-native-roots",
        feature = "rustls-tls-webpki-roots"
    ))]
    pub(super) fn tls(why: impl Into<BoxError>) -> Self {
        Self::Tls(why.into())
    }

    /// Returns what went wrong between hyper and the server.
    pub(super) fn of_exchange(error: hyper::Error) -> Self {
        if error.is_parse_too_large() {
            return Self::response(
                "its head is larger than max_response_head, or has more fields than max_response_fields",
            );
        }
        if error.is_parse() {
            return Self::response(error);
        }
        let kind = kind_of_io(&error).unwrap_or_else(|| {
            if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
                io::ErrorKind::UnexpectedEof
            } else {
                io::ErrorKind::Other
            }
        });
        Self::Io(io::Error::new(kind, error))
    }
}

/// Returns the kind of the stream's error that an error comes from, if it comes from one.
fn kind_of_io(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut sources = iter::successors(error.source(), |&error| error.source());
    sources.find_map(|source| source.downcast_ref().map(io::Error::kind))
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidRequest(_) => "invalid WebSocket request",
            Self::NeedsTls => {
                "the URL asks for TLS: enable the feature rustls-tls-native-roots or \
                 rustls-tls-webpki-roots, or give an encrypted stream to connect_with"
            }
            Self::Tls(_) => "no TLS connection to the server",
            Self::Io(_) => "no connection to the server",
            Self::Refused(response) => {
                write!(f, "the server refused with {}", response.status())?;
                return match explanation(response) {
                    Some(text) => write!(f, ": {text}"),
                    None => Ok(()),
                };
            }
            Self::InvalidResponse(_) => "invalid answer to the WebSocket handshake",
            Self::NotAdmitted(_) => "no place for another connection",
            Self::TimedOut => "the handshake took too long",
        })?;
        for text in self.causes() {
            write!(f, ": {text}")?;
        }
        Ok(())
    }
}

// The headers and the body of a refusal may hold secrets, and `main` prints errors so.
impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::InvalidRequest(_) => "InvalidRequest",
            Self::NeedsTls => return f.write_str("NeedsTls"),
            Self::Tls(_) => "Tls",
            Self::Io(_) => "Io",
            Self::Refused(response) => {
                return f
                    .debug_struct("Refused")
                    .field("status", &response.status())
                    .field("headers", &response.headers().len())
                    .field("body_bytes", &response.body().len())
                    .finish();
            }
            Self::InvalidResponse(_) => "InvalidResponse",
            Self::NotAdmitted(_) => "NotAdmitted",
            Self::TimedOut => return f.write_str("TimedOut"),
        };
        let causes = self.causes().join(": ");
        f.debug_tuple(name)
            .field(&format_args!("{causes}"))
            .finish()
    }
}

/// Returns what a refusal says in plain text, in visible ASCII and cut to [`MAX_EXPLANATION`] bytes.
///
/// It may end in a log, so what would be read as a new line or as a command of the terminal is escaped.
fn explanation(response: &Response<Bytes>) -> Option<String> {
    let kind = response.headers().get(CONTENT_TYPE)?.as_bytes();
    let plain = kind.get(..PLAIN_TEXT.len())?;
    if !plain.eq_ignore_ascii_case(PLAIN_TEXT) {
        return None;
    }
    let body = response.body().trim_ascii();
    let mut text = String::new();
    for &byte in body.iter().take(MAX_EXPLANATION) {
        match byte {
            b' '..=b'~' if byte != b'\\' => text.push(char::from(byte)),
            _ => text.extend(byte.escape_ascii().map(char::from)),
        }
    }
    if body.len() > MAX_EXPLANATION {
        text.push_str("...");
    }
    (!text.is_empty()).then_some(text)
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::InvalidRequest(source) | Self::InvalidResponse(source) | Self::Tls(source) => {
                Some(&**source)
            }
            Self::Io(source) => Some(source),
            Self::NotAdmitted(source) => Some(source),
            _ => None,
        }
    }
}

/// What a [`Handshake`](super::Handshake) is made into itself cannot fail.
impl From<Infallible> for ConnectError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
