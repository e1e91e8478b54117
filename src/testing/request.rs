//! The request that a test makes.

use std::{borrow::Cow, fmt, mem, time::Duration};

use http::{
    Extensions, HeaderName, HeaderValue,
    header::{HOST, ORIGIN},
};

use crate::{
    client::{ConnectError, Handshake},
    config::Config,
    words::BoxError,
};

/// The timeout of a handshake. It is longer than the server's timeouts, so that the server refuses first.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The settings of a client that takes all messages, like a browser, and leaves all decisions to the server.
pub(super) const fn patient() -> Config {
    Config::new()
        .max_message_size(usize::MAX)
        .max_inbox(usize::MAX, usize::MAX)
        .max_control_frames(u32::MAX, u32::MAX)
        .assembly_timeout(Duration::MAX)
        .receive_timeout(Duration::MAX)
        .write_timeout(Duration::MAX)
        .without_keepalive()
}

/// A request for a WebSocket, as [`connect`](super::connect) sends it.
///
/// It is made from a path, a URL, an [`http::Request`] or a [`client::Handshake`](Handshake). `connect` returns an
/// error if it is invalid.
///
/// The client takes every message of the server, even if the test does not receive it, answers pings, and has no
/// timeouts. So every end is the server's decision. A handshake that takes 60 s fails with
/// [`ConnectError::TimedOut`]. [`config`](Self::config) gives the client other settings.
///
/// # Examples
///
/// ```
/// use tower_websocket::testing::Request;
///
/// let request = Request::new("/desk?number=3")
///     .header("authorization", "Bearer of-the-desk")
///     .origin("https://example.com")
///     .subprotocol("desk.v2");
/// ```
#[must_use = "give it to `testing::connect`"]
pub struct Request {
    handshake: Result<Handshake, ConnectError>,
    /// The extensions that the service gets with the request.
    extensions: Extensions,
}

impl Request {
    /// Makes a request for a path, such as `/desk?number=3`, of the host `localhost`.
    ///
    /// A URL such as `ws://example.com/desk` names another host. The handshake is not encrypted in either case.
    pub fn new(target: impl AsRef<str>) -> Self {
        let target = target.as_ref();
        let handshake = match target.starts_with('/') {
            true => Handshake::new(format!("ws://localhost{target}")),
            false => Handshake::new(target),
        };
        let handshake = handshake.map(|handshake| handshake.config(patient()).timeout(TIMEOUT));
        Self {
            handshake,
            extensions: Extensions::new(),
        }
    }

    /// Adds a header field, for example `header("authorization", "Bearer sesame")`.
    pub fn header<N, V>(self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName, Error: Into<BoxError>>,
        V: TryInto<HeaderValue, Error: Into<BoxError>>,
    {
        self.change(|handshake| {
            let name = name.try_into().map_err(ConnectError::request)?;
            let value = value.try_into().map_err(ConnectError::request)?;
            Ok(handshake.header(name, value))
        })
    }

    /// Adds the field `Origin`, as a browser does for a page of this origin, such as `https://example.com`.
    ///
    /// Default: none, like a program. The layer then does not check the origin.
    pub fn origin(self, origin: &str) -> Self {
        self.header(ORIGIN, origin)
    }

    /// Offers a subprotocol. For several, call it in order of preference. Default: none.
    pub fn subprotocol(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.change(|handshake| Ok(handshake.subprotocol(name)))
    }

    /// Adds an extension to the request, as a server or an outer layer does: for example axum's `ConnectInfo` with the
    /// address of the client.
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.extensions.insert(value);
        self
    }

    /// Sets the limits and timeouts of the client. Default: none, see [`Request`].
    pub fn config(self, config: Config) -> Self {
        self.change(|handshake| Ok(handshake.config(config)))
    }

    fn change(mut self, change: impl FnOnce(Handshake) -> Result<Handshake, ConnectError>) -> Self {
        self.handshake = self.handshake.and_then(change);
        self
    }

    /// Returns the handshake, and the extensions for the service.
    pub(super) fn into_parts(self) -> Result<(Handshake, Extensions), ConnectError> {
        let mut handshake = self.handshake?;
        let request = handshake.request_mut();
        if request.uri().host().is_none() && !request.headers().contains_key(HOST) {
            let host = HeaderValue::from_static("localhost");
            request.headers_mut().insert(HOST, host);
        }
        let mut extensions = mem::take(request.extensions_mut());
        extensions.extend(self.extensions);
        Ok((handshake, extensions))
    }
}

/// Keeps the settings of the handshake.
impl From<Handshake> for Request {
    fn from(handshake: Handshake) -> Self {
        Self {
            handshake: Ok(handshake),
            extensions: Extensions::new(),
        }
    }
}

/// Without a host in the URI or a field `Host`, the host is `localhost`. The service gets the extensions.
impl From<http::Request<()>> for Request {
    fn from(request: http::Request<()>) -> Self {
        Handshake::from(request)
            .config(patient())
            .timeout(TIMEOUT)
            .into()
    }
}

impl From<&str> for Request {
    fn from(target: &str) -> Self {
        Self::new(target)
    }
}

impl From<&String> for Request {
    fn from(target: &String) -> Self {
        Self::new(target)
    }
}

impl From<String> for Request {
    fn from(target: String) -> Self {
        Self::new(target)
    }
}

// Not derived, like that of `Handshake`.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}
