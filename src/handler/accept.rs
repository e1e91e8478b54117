//! What a handler says to a request it takes.

use std::{any::Any, borrow::Cow, fmt};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::{
    config::Config,
    handshake::{Carried, Identity},
};

/// A handler's yes to a handshake, with what the 101 shall carry.
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

/// Makes the settings of one connection out of those of its layer.
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
    /// Accepts with the subprotocols of the layer and no further headers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes what the 101 in front of a Close carries.
    pub(crate) fn with_headers(response: Response<Bytes>) -> Self {
        Self {
            headers: response.into_parts().0.headers,
            drops_request: true,
            ..Self::default()
        }
    }

    /// Names a subprotocol that this connection can speak; call it again for the next best.
    ///
    /// The first one that the client offered is chosen and sent; if it offered none of them, none
    /// is sent and [`WebSocket::subprotocol`](crate::WebSocket::subprotocol) is `None`. One or
    /// more calls replace the list of the layer for this connection. Names are compared byte by
    /// byte, and one that is not a token (RFC 9110 §5.6.2) is never offered and so never chosen.
    #[must_use]
    pub fn subprotocol(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// Refuses the handshake with 400 if the client offered none of the subprotocols: those named here,
    /// or else the layer's.
    ///
    /// [`WebSocketLayer::require_subprotocol`](crate::WebSocketLayer::require_subprotocol) does it for
    /// all connections. Default: a connection without a subprotocol is accepted. Browsers give it up
    /// if they offered some.
    #[must_use]
    pub const fn require_subprotocol(mut self) -> Self {
        self.requires_subprotocol = true;
        self
    }

    /// Adds a header to the 101, such as `Set-Cookie`.
    ///
    /// The headers of the handshake itself (`Connection`, `Upgrade`, `Sec-WebSocket-*`) are the
    /// crate's and overwrite what is given here; headers that frame a body are left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Sends a value along to the handler, which gets it from
    /// [`WebSocket::take_carried`](crate::WebSocket::take_carried).
    ///
    /// The value need be neither `Clone` nor `Sync`. One of each type is carried: a second one
    /// replaces the first. It is dropped if the handshake fails, and with the socket if the handler
    /// does not take it. For two functions, [`decide`](crate::decide) passes a value on that cannot
    /// be missing.
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

    /// Takes a value out that [`carry`](Self::carry) put in, for tests of
    /// [`Handler::accept`](crate::Handler::accept).
    pub fn take_carried<T: Send + 'static>(&mut self) -> Option<T> {
        self.carried.take()
    }

    /// Gives the connection a value by which the application knows it again: its user, tenant or session.
    ///
    /// [`Connection::value`](crate::Connection::value) returns it to whoever looks through the registry, and
    /// [`WebSocket::identity`](crate::WebSocket::identity) to the handler. A second call replaces the value. It
    /// is dropped when the handshake fails, or when the handler has ended and nobody holds the socket or a
    /// [`Connection`](crate::Connection). To move a value into the handler, use [`carry`](Self::carry).
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
    /// fn log_out(connections: &Connections, user: u64) -> Result<usize, Box<dyn std::error::Error>> {
    ///     let frame = CloseFrame::new(CloseCode::new(4001)?, "logged out")?;
    ///     Ok(connections.close_where(
    ///         |connection| connection.value().is_some_and(|&User(other)| other == user),
    ///         frame,
    ///     ))
    /// }
    /// ```
    #[must_use]
    pub fn identify(mut self, value: impl Any + Send + Sync) -> Self {
        self.identity = Identity::new(value);
        self
    }

    /// Returns the subprotocols that were named here, the best first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.subprotocols.iter().map(AsRef::as_ref)
    }

    /// Returns the headers that were added.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Drops the request once the handshake is answered, for handlers that do not read it.
    ///
    /// [`WebSocket::request`](crate::WebSocket::request) then has the method, the path and the
    /// version, and neither query, header fields nor extensions.
    /// [`WebSocketLayer::without_request`](crate::WebSocketLayer::without_request) does it for all
    /// connections. Default: the request is kept as long as the connection.
    #[must_use]
    pub const fn without_request(mut self) -> Self {
        self.drops_request = true;
        self
    }

    /// Changes the settings of this connection: `configure` is given those of the layer and returns those
    /// that count. A second call replaces the first.
    ///
    /// It runs once the handler has accepted. If it panics, the handshake is refused with 500.
    ///
    /// # Examples
    ///
    /// A connection that lasts no longer than the token by which it was opened. It ends with 1001. A token
    /// that is over is to be refused before: the least lifetime is 1 s.
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
