//! The answer of a handler that accepts a request.

use std::{any::Any, borrow::Cow, fmt};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::{
    config::Config,
    handshake::{Carried, Identity},
};

/// Accepts a handshake. Holds the subprotocols and headers for the 101, and settings of the connection.
///
/// # Examples
///
/// ```
/// use http::{HeaderValue, header::SET_COOKIE};
/// use tower_websocket::Accept;
///
/// let accept = Accept::new()
///     .subprotocol("chat.v2")
///     .subprotocol("chat.v1")
///     .header(SET_COOKIE, HeaderValue::from_static("seen=1"));
/// ```
///
/// Source: [RFC 6455 §4.2.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2).
#[derive(Debug, Default)]
pub struct Accept {
    pub(crate) subprotocols: Vec<Cow<'static, str>>,
    pub(crate) headers: HeaderMap,
    pub(crate) carried: Carried,
    pub(crate) identity: Identity,
    pub(crate) drops_request: bool,
    pub(crate) requires_subprotocol: bool,
    pub(crate) configure: Option<Configure>,
}

/// Derives the settings of one connection from those of its layer.
pub(crate) struct Configure(Box<dyn FnOnce(Config) -> Config + Send + Sync>);

impl Configure {
    pub(crate) fn apply(self, config: Config) -> Config {
        (self.0)(config)
    }
}

impl fmt::Debug for Configure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Configure(..)")
    }
}

impl Accept {
    /// Accepts with the subprotocols of the layer, and without additional headers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts a handshake that is refused with a Close. Takes the headers of `response` into the 101.
    pub(crate) fn with_headers(response: Response<Bytes>) -> Self {
        Self {
            headers: response.into_parts().0.headers,
            drops_request: true,
            ..Self::default()
        }
    }

    /// Adds a subprotocol that this connection supports. Call it several times, in order of preference.
    ///
    /// The first one that the client offered is chosen and sent. If the client offered none of them, none is
    /// sent and [`WebSocket::subprotocol`](crate::WebSocket::subprotocol) is `None`. The names given here
    /// replace the list of the layer for this connection. Names are compared byte by byte. A name that is not a
    /// token (RFC 9110 §5.6.2) is never chosen, because no client can offer it.
    #[must_use]
    pub fn subprotocol(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// Refuses the handshake with 400 if the client offered none of the subprotocols named here, or, if none
    /// are named, of the layer's.
    ///
    /// [`WebSocketLayer::require_subprotocol`](crate::WebSocketLayer::require_subprotocol) does the same for
    /// all connections. Default: a connection without a subprotocol is accepted. A browser that offered
    /// subprotocols closes such a connection.
    #[must_use]
    pub const fn require_subprotocol(mut self) -> Self {
        self.requires_subprotocol = true;
        self
    }

    /// Adds a header to the 101, such as `Set-Cookie`.
    ///
    /// The crate sets the headers of the handshake (`Connection`, `Upgrade`, `Sec-WebSocket-*`) and overwrites
    /// values given here. It removes headers that frame a body, such as `Content-Length`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Passes a value to the handler, which gets it from
    /// [`WebSocket::take_carried`](crate::WebSocket::take_carried).
    ///
    /// The value need be neither `Clone` nor `Sync`. There is one value of each type: a second one replaces the
    /// first. The value is dropped if the handshake fails, or together with the socket if the handler does not
    /// take it. [`decide`](crate::decide) passes the value as an argument, so it cannot be missing there.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::request::Parts;
    /// use tower_websocket::{Accept, BoxError, Handler, Refusal, WebSocket};
    ///
    /// struct Desk;
    ///
    /// struct User(String);
    ///
    /// impl Handler for Desk {
    ///     async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
    ///         let name = request.headers.get("x-user").and_then(|name| name.to_str().ok());
    ///         let user = User(name.ok_or_else(Refusal::unauthorized)?.to_owned());
    ///         Ok(Accept::new().carry(user))
    ///     }
    ///
    ///     async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
    ///         let User(name) = socket.take_carried().ok_or("accept carries a user")?;
    ///         socket.send(format!("Hello {name}")).await?;
    ///         Ok(())
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn carry<T: Send + 'static>(mut self, value: T) -> Self {
        self.carried.put(value);
        self
    }

    /// Takes a value that [`carry`](Self::carry) added. For tests of
    /// [`Handler::accept`](crate::Handler::accept).
    pub fn take_carried<T: Send + 'static>(&mut self) -> Option<T> {
        self.carried.take()
    }

    /// Gives the connection a value by which the application finds it: its user, tenant or session.
    ///
    /// [`Connection::value`](crate::Connection::value) returns it from the registry, and
    /// [`WebSocket::identity`](crate::WebSocket::identity) in the handler. A second call replaces the value. The
    /// value is dropped when the handshake fails. Otherwise it is dropped when the handler has ended and no socket
    /// or [`Connection`](crate::Connection) is left. To move a value into the handler, use
    /// [`carry`](Self::carry).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{Accept, CloseCode, CloseFrame, Connections};
    ///
    /// struct User(u64);
    ///
    /// fn accept(user: u64) -> Accept {
    ///     Accept::new().identify(User(user))
    /// }
    ///
    /// fn log_out(connections: &Connections, user: u64) -> usize {
    ///     connections.close_where(
    ///         |connection| connection.value().is_some_and(|&User(other)| other == user),
    ///         CloseFrame::truncated(CloseCode::of::<4001>(), "logged out"),
    ///     )
    /// }
    /// ```
    #[must_use]
    pub fn identify(mut self, value: impl Any + Send + Sync) -> Self {
        self.identity = Identity::new(value);
        self
    }

    /// Returns the subprotocols that were added, in order of preference.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.subprotocols.iter().map(AsRef::as_ref)
    }

    /// Returns the headers that were added.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Drops the request once the handshake is answered. For handlers that do not read it.
    ///
    /// [`WebSocket::request`](crate::WebSocket::request) then has the method, path and version, but no query,
    /// no header fields and no extensions.
    /// [`WebSocketLayer::without_request`](crate::WebSocketLayer::without_request) does the same for all
    /// connections. Default: the request is kept until the connection ends.
    #[must_use]
    pub const fn without_request(mut self) -> Self {
        self.drops_request = true;
        self
    }

    /// Changes the settings of this connection. `configure` gets the settings of the layer and returns those of
    /// the connection. A second call replaces the first.
    ///
    /// `configure` runs after the handler has accepted. If it panics, the handshake is refused with 500.
    ///
    /// # Examples
    ///
    /// A connection that ends with 1001 when its token expires. An expired token has to be refused before,
    /// because the minimum lifetime is 1 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_websocket::Accept;
    ///
    /// fn accept(token_is_good_for: Duration) -> Accept {
    ///     Accept::new().configure(move |config| config.max_lifetime(token_is_good_for))
    /// }
    /// ```
    #[must_use]
    pub fn configure(
        mut self,
        configure: impl FnOnce(Config) -> Config + Send + Sync + 'static,
    ) -> Self {
        self.configure = Some(Configure(Box::new(configure)));
        self
    }
}
