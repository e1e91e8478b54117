//! The error of a failed attempt to connect.

use std::{convert::Infallible, error::Error, fmt, io, iter};

use bytes::Bytes;
use http::{Response, header::CONTENT_TYPE};

use crate::{connections::AdmitError, words::BoxError};

const PLAIN_TEXT: &[u8] = b"text/plain";
/// The maximum length of a refusal's text in an error, in bytes.
const MAX_EXPLANATION: usize = 200;

/// Why [`connect`](super::connect) or [`connect_with`](super::connect_with) failed.
///
/// The stream is dropped in every case.
///
/// The text of an error includes its causes, as in `no connection to the server: 127.0.0.1:3000: Connection
/// refused (os error 111)`. [`source`](Error::source) returns the causes too, for code that looks for a type.
/// So do not print an error together with its sources.
///
/// `Debug` also includes the causes. For a refusal it has only the status and sizes, because headers and body
/// may contain secrets.
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
    /// The URL or the request is not valid for a WebSocket. The source gives the reason. Nothing was sent.
    InvalidRequest(BoxError),
    /// The URL requires TLS, but no [feature for it](super#tls) is on. Nothing was sent.
    NeedsTls,
    /// The TLS handshake failed. The certificate is not trusted or is for another name, the server does not
    /// support TLS, or there are no trusted roots.
    ///
    /// If a certificate is not trusted and system roots could not be loaded, the text gives the reason for
    /// that.
    Tls(BoxError),
    /// The host does not resolve, the server could not be reached, or the stream ended or failed before the
    /// end of the answer. Or the system has no random bytes for the handshake's key; then nothing was sent.
    Io(io::Error),
    /// The server answered with another status than 101.
    ///
    /// The body has at most its first 64 KiB, or less if reading it failed or took too long. If it is
    /// `text/plain`, the error's text has up to 200 bytes of it; all except visible ASCII is escaped.
    Refused(Box<Response<Bytes>>),
    /// The answer is invalid. The source gives the reason.
    ///
    /// - It is not HTTP. If it is TLS, the text says so.
    /// - Its head exceeds [`Handshake::max_response_head`](super::Handshake::max_response_head) or
    ///   [`max_response_fields`](super::Handshake::max_response_fields).
    /// - It is a 101 that breaks RFC 6455 §4.1.
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
    /// This includes a name that does not resolve, because resolvers do not report whether the name is wrong
    /// or the network is down.
    ///
    /// [`Reconnect`](super::Reconnect) tries again after these errors.
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

    /// Returns the server's response if it [refused](Self::Refused) the handshake.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_websocket::client::ConnectError;
    ///
    /// fn is_expired(error: &ConnectError) -> bool {
    ///     let status = error.refusal().map(|response| response.status());
    ///     status == Some(StatusCode::UNAUTHORIZED)
    /// }
    /// ```
    #[must_use]
    pub fn refusal(&self) -> Option<&Response<Bytes>> {
        match self {
            Self::Refused(response) => Some(response),
            _ => None,
        }
    }

    /// Returns the texts of the sources. Skips a text that the previous one contains.
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

    pub(crate) fn request(why: impl Into<BoxError>) -> Self {
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

    /// Converts an error of hyper's client.
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

/// Returns the kind of the I/O error that caused an error, if there is one.
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

// Not derived: headers and body of a refusal may contain secrets, and a `main` that returns an error prints
// its `Debug`.
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

/// Returns the plain text of a refusal's body, cut to [`MAX_EXPLANATION`] bytes.
///
/// The text may be logged, so new lines and control sequences of terminals are escaped.
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

/// For the conversion of a [`Handshake`](super::Handshake) into itself, which cannot fail.
impl From<Infallible> for ConnectError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
