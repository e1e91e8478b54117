//! The settings of an opening handshake.
//!
//! Source: [RFC 6455 §3](https://www.rfc-editor.org/rfc/rfc6455#section-3) and
//! [§4.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.1).

use std::{any::Any, borrow::Cow, fmt, time::Duration};

use http::{HeaderName, HeaderValue, Request};

use super::{ConnectError, exchange::HeadLimits, url};
use crate::{config::Config, connections::Connections, handshake::Identity, time::limit::clamp};

/// The minimum of [`Handshake::timeout`].
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
/// The maximum of [`Handshake::max_response_fields`]. hyper allocates space for all of them, and `HeaderMap`
/// panics beyond some 24,000.
const MAX_FIELDS: usize = 10_000;

/// An opening handshake: the URL, the offered subprotocols, and the settings of the connection.
///
/// It is made from a URL or a [`Request`]. The fields of the handshake (`Connection`, `Upgrade`, the key and
/// the version) are added when it is sent, and replace those of a request. `Host` is taken from the URL, unless
/// the field is given.
///
/// # Examples
///
/// ```
/// use http::{HeaderValue, header};
/// use tower_websocket::{Config, client::{self, ConnectError, Handshake}};
///
/// # async fn example() -> Result<(), ConnectError> {
/// let handshake = Handshake::new("ws://127.0.0.1:3000/desk")?
///     .header(header::AUTHORIZATION, HeaderValue::from_static("Bearer of-the-desk"))
///     .subprotocol("desk.v2")
///     .subprotocol("desk.v1")
///     .config(Config::new().max_message_size(64 * 1024));
/// let (socket, _response) = client::connect(handshake).await?;
/// println!("subprotocol: {:?}", socket.subprotocol());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handshake {
    pub(super) request: Request<()>,
    pub(super) subprotocols: Vec<Cow<'static, str>>,
    pub(super) config: Config,
    pub(super) timeout: Duration,
    pub(super) limits: HeadLimits,
    pub(super) connections: Option<Connections>,
    pub(super) identity: Identity,
}

impl Handshake {
    /// Makes a handshake for a URL such as `ws://127.0.0.1:3000/desk?number=3`.
    ///
    /// The scheme is `ws` or `wss`. `http` and `https` mean the same. The default port is 80 or 443. A
    /// link-local IPv6 address may have a zone: `[fe80::1%25eth0]`
    /// ([RFC 6874](https://www.rfc-editor.org/rfc/rfc6874)) or `[fe80::1%eth0]`. The zone is not sent to the
    /// server.
    ///
    /// Characters of the path and the query that are not allowed in a URL, such as spaces and characters outside
    /// of ASCII, are percent-encoded as UTF-8. A `%` is not changed.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidRequest`] if `url`
    ///
    /// - is not such a URL,
    /// - has a fragment or a control character,
    /// - has a host that is not ASCII (use its `xn--` form), or
    /// - has a user name. Send credentials in a [`header`](Self::header) instead.
    pub fn new(url: impl AsRef<str>) -> Result<Self, ConnectError> {
        let mut request = Request::new(());
        *request.uri_mut() = url::parse(url.as_ref())?;
        Ok(Self::from(request))
    }

    /// Adds a header field to the request.
    ///
    /// If the value is not ASCII, connecting fails with [`ConnectError::InvalidRequest`].
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.request.headers_mut().append(name, value);
        self
    }

    /// Offers a subprotocol. Call it several times, in order of preference.
    ///
    /// [`WebSocket::subprotocol`](crate::WebSocket::subprotocol) returns the server's choice, if there is one.
    /// Connecting fails with [`ConnectError::InvalidRequest`] if a name is not a token or is offered twice, or if
    /// there are more than 32 names.
    #[must_use]
    pub fn subprotocol(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// Sets the limits and timeouts of the connection. Default: [`Config::new`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Adds the connection to a registry, which counts, lists and closes it, and limits the number of
    /// connections. Default: none.
    ///
    /// The registry is asked before anything is dialled. If it has no place, connecting fails with
    /// [`ConnectError::NotAdmitted`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{Connections, client::{self, ConnectError, Handshake}};
    ///
    /// # async fn example(all: Connections) -> Result<(), ConnectError> {
    /// let handshake = Handshake::new("ws://127.0.0.1:3000/feed")?.connections_in(&all);
    /// let (socket, _response) = client::connect(handshake).await?;
    /// assert!(all.get(socket.id()).is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn connections_in(mut self, connections: &Connections) -> Self {
        self.connections = Some(connections.clone());
        self
    }

    /// Gives the connection a value by which the application finds it, like
    /// [`Accept::identify`](crate::Accept::identify) on the server side.
    ///
    /// Clones of the handshake share the value. Default: none.
    #[must_use]
    pub fn identify(mut self, value: impl Any + Send + Sync) -> Self {
        self.identity = Identity::new(value);
        self
    }

    /// Bounds the time from the lookup of the host to the end of the server's answer, including TLS.
    ///
    /// Minimum: 200 ms, because a handshake needs several round trips. Default: 10 s.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = clamp(MIN_TIMEOUT, limit);
        self
    }

    /// Caps the head of the server's answer, in bytes: its first line, its fields and the empty line.
    ///
    /// With a larger head connecting fails with [`ConnectError::InvalidResponse`]. Default: 16 KiB.
    #[must_use]
    pub const fn max_response_head(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Caps the number of fields in the server's answer. A 101 has at least three.
    ///
    /// With more fields connecting fails with [`ConnectError::InvalidResponse`]. Maximum: 10,000. Default: 100.
    #[must_use]
    pub const fn max_response_fields(mut self, count: usize) -> Self {
        self.limits.fields = if count < MAX_FIELDS {
            count
        } else {
            MAX_FIELDS
        };
        self
    }

    /// Returns the request, with the URL as it was given.
    #[cfg(feature = "test-util")]
    pub(crate) const fn request_mut(&mut self) -> &mut Request<()> {
        &mut self.request
    }

    /// Returns whether the URL requires TLS.
    pub(super) fn is_encrypted(&self) -> Result<bool, ConnectError> {
        url::is_encrypted(self.request.uri())
    }

    /// Returns the host and the port to connect to.
    pub(super) fn address(&self) -> Result<(String, u16), ConnectError> {
        url::address(self.request.uri())
    }
}

impl From<Request<()>> for Handshake {
    fn from(request: Request<()>) -> Self {
        Self {
            request,
            subprotocols: Vec::new(),
            config: Config::new(),
            timeout: Duration::from_secs(10),
            limits: HeadLimits {
                bytes: 16 * 1024,
                fields: 100,
            },
            connections: None,
            identity: Identity::default(),
        }
    }
}

impl TryFrom<&str> for Handshake {
    type Error = ConnectError;

    fn try_from(url: &str) -> Result<Self, ConnectError> {
        Self::new(url)
    }
}

impl TryFrom<&String> for Handshake {
    type Error = ConnectError;

    fn try_from(url: &String) -> Result<Self, ConnectError> {
        Self::new(url)
    }
}

impl TryFrom<String> for Handshake {
    type Error = ConnectError;

    fn try_from(url: String) -> Result<Self, ConnectError> {
        Self::new(url)
    }
}

// Not derived: the URL and the fields may contain secrets.
impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_no_secrets() {
        let handshake = Handshake::new("ws://h/?token=secret").unwrap();
        assert!(!format!("{handshake:?}").contains("secret"));
    }
}
