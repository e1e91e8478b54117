//! The client's side: the opening handshake, after which the [`WebSocket`] is the same as a
//! server's.
//!
//! [`connect`] dials a URL, [`connect_with`] takes a stream that is open already. Both take
//! a URL, a [`Request`], or a [`Handshake`] with settings, and return the socket
//! together with the head of the server's answer. A task is spawned that serves the connection
//! until the socket is dropped, which closes with 1000.
//!
//! # Examples
//!
//! ```no_run
//! use tower_websocket::{Error, client};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     let (mut socket, _response) = client::connect("ws://127.0.0.1:3000/ws").await?;
//!     socket.send("Hello").await?;
//!     if let Some(message) = socket.recv().await? {
//!         println!("{}", message.into_text()?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # One handler for both sides
//!
//! A handler serves whatever connection it is given, accepted or dialled:
//!
//! ```
//! use tower_websocket::{BoxError, Error, Handler, WebSocket, WebSocketLayer, client};
//!
//! #[derive(Clone)]
//! struct Peer;
//!
//! impl Handler for Peer {
//!     async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
//!         socket.send("here I am").await?;
//!         while let Some(message) = socket.recv().await? {
//!             println!("{} bytes from a peer", message.len());
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # async fn example() -> Result<(), Error> {
//! let accepted = WebSocketLayer::new(Peer);
//! let (dialled, _response) = client::connect("ws://127.0.0.1:3000/peers").await?;
//! Peer.handle(dialled).await.map_err(Error::new)?;
//! # Ok(())
//! # }
//! ```
//!
//! # TLS
//!
//! [`connect`] takes `wss://` URLs with one of two features, each of which brings rustls:
//!
//! | Feature | Trusts |
//! | --- | --- |
//! | `rustls-tls-native-roots` | the roots of the system, or those in the files that `SSL_CERT_FILE` and `SSL_CERT_DIR` name |
//! | `rustls-tls-webpki-roots` | Mozilla's roots, compiled in: they are as old as the build |
//!
//! With both it trusts either. The roots are loaded once in a process. rustls is used with the
//! `CryptoProvider` that the application has installed as its default, or with ring. Without these
//! features `wss://` URLs fail with [`ConnectError::NeedsTls`].
//!
//! Client certificates, roots of your own and other TLS libraries go with [`connect_with`], which takes
//! any stream:
//!
//! ```
//! use tokio::io::{AsyncRead, AsyncWrite};
//! use tower_websocket::{WebSocket, client::{ConnectError, connect_with}};
//!
//! /// `tls` is what `tokio_rustls::TlsConnector::connect` returns, for one.
//! async fn secure<IO>(tls: IO) -> Result<WebSocket, ConnectError>
//! where
//!     IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
//! {
//!     let (socket, _response) = connect_with("wss://example.com/ws", tls).await?;
//!     Ok(socket)
//! }
//! ```
//!
//! # Proxies and Unix sockets
//!
//! [`connect`] uses no proxy, whatever variables such as `HTTPS_PROXY` say. [`connect_with`] takes any
//! stream: `examples/client_proxy.rs` asks an HTTP proxy for a tunnel (`CONNECT`), and
//! `examples/client_unix.rs` dials a Unix socket.
//!
//! # Connecting again
//!
//! [`Reconnect`] makes one connection after the other, with a growing and random delay in between.
//!
//! # Limits
//!
//! [`Config`] has the same limits for both sides, with the same defaults. The head of
//! an answer is held to [`Handshake::max_response_head`] and [`Handshake::max_response_fields`], 64 KiB are
//! kept of a refusal's body, and all of it has [`Handshake::timeout`]. Frames are masked with keys that
//! nobody can foretell ([RFC 6455 §5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.3)). When a
//! connection ends, a client leaves it to the server to close the stream first, for as long as
//! [`Config::close_timeout`](crate::Config::close_timeout) allows.

mod backoff;
mod dial;
mod error;
mod exchange;
mod names;
mod reconnect;
mod request;
mod response;
#[cfg(any(
    feature = "rustls-tls-native-roots",
    feature = "rustls-tls-webpki-roots"
))]
mod tls;
#[cfg(not(any(
    feature = "rustls-tls-native-roots",
    feature = "rustls-tls-webpki-roots"
)))]
#[path = "without_tls.rs"]
mod tls;
mod url;

use std::sync::Arc;

use data_encoding::BASE64;
use http::{HeaderValue, Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};

pub use self::{error::ConnectError, reconnect::Reconnect, request::Handshake};
use self::{
    exchange::{HeadLimits, Switched, exchange},
    response::Agreed,
};
use crate::{
    config::Config,
    handshake::{Carried, HandshakeRequest, key::answer_to},
    random,
    socket::{Introduction, Setup, WebSocket},
};

/// Connects to a `ws://` or `wss://` URL over TCP and makes the opening handshake.
///
/// Returns the socket and the head of the server's answer. If the host has several addresses, the
/// next one is tried 250 ms after the one before, or as soon as one fails, IPv4 and IPv6 in turn; the
/// first connection is used and the others are dropped
/// ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)). `TCP_NODELAY` is set. `wss://` takes
/// a feature, see [TLS](self#tls).
///
/// # Errors
///
/// Every [`ConnectError`].
///
/// # Panics
///
/// Panics outside a tokio runtime, or in one without its time or I/O driver.
///
/// # Cancel safety
///
/// Dropping the future drops the connection, whatever the server has made of it.
///
/// # Examples
///
/// ```
/// use tower_websocket::client::{ConnectError, connect};
///
/// # async fn example() -> Result<(), ConnectError> {
/// let (socket, response) = connect("ws://127.0.0.1:3000/ws").await?;
/// println!("served by {:?}", response.headers().get("server"));
/// # Ok(())
/// # }
/// ```
pub async fn connect<H>(handshake: H) -> Result<(WebSocket, Response<()>), ConnectError>
where
    H: TryInto<Handshake>,
    H::Error: Into<ConnectError>,
{
    let handshake = handshake.try_into().map_err(Into::into)?;
    let (host, port) = handshake.address()?;
    let is_encrypted = handshake.is_encrypted()?;
    // Nothing is dialled for a request that cannot be sent.
    let prepared = Prepared::of(handshake)?;
    let dialled = timeout_at(prepared.deadline, dial(&host, port, is_encrypted))
        .await
        .map_err(|_| ConnectError::TimedOut)??;
    match dialled {
        Dialled::Plain(stream) => prepared.on(stream).await,
        Dialled::Encrypted(stream) => prepared.on(stream).await,
    }
}

/// Makes the opening handshake on a stream that is connected already, such as one with TLS.
///
/// Returns the socket and the head of the server's answer. The URL says what is asked for; nothing
/// is dialled. A request may come without a host in its URI, when it has a `Host`.
///
/// # Errors
///
/// Every [`ConnectError`] but [`NeedsTls`](ConnectError::NeedsTls) and [`Tls`](ConnectError::Tls).
///
/// # Panics
///
/// Panics outside a tokio runtime, or in one without its time driver.
///
/// # Cancel safety
///
/// Dropping the future drops the stream.
///
/// # Examples
///
/// ```
/// use tower_websocket::client::{ConnectError, connect_with};
///
/// # async fn example() -> Result<(), ConnectError> {
/// let (io, _server) = tokio::io::duplex(1024);
/// let (socket, _response) = connect_with("wss://example.com/ws", io).await?;
/// # Ok(())
/// # }
/// ```
pub async fn connect_with<H, IO>(
    handshake: H,
    io: IO,
) -> Result<(WebSocket, Response<()>), ConnectError>
where
    H: TryInto<Handshake>,
    H::Error: Into<ConnectError>,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = handshake.try_into().map_err(Into::into)?;
    Prepared::of(handshake)?.on(io).await
}

/// A connection on which the opening handshake can be made.
enum Dialled<Tls> {
    Plain(TcpStream),
    Encrypted(Tls),
}

async fn dial(
    host: &str,
    port: u16,
    is_encrypted: bool,
) -> Result<Dialled<impl AsyncRead + AsyncWrite + Unpin + Send + use<>>, ConnectError> {
    let connector = match is_encrypted {
        true => Some(tls::connector().await?),
        false => None,
    };
    let stream = dial::tcp(host, port).await.map_err(ConnectError::Io)?;
    // Without it a small message may wait for the answer to the one before.
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    Ok(match connector {
        Some(connector) => Dialled::Encrypted(connector.connect(host, stream).await?),
        None => Dialled::Plain(stream),
    })
}

/// A handshake whose request is complete.
struct Prepared {
    request: Request<()>,
    /// What the server has to answer to the key.
    accept: String,
    config: Config,
    limits: HeadLimits,
    deadline: Instant,
}

impl Prepared {
    fn of(handshake: Handshake) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + handshake.timeout;
        let config = handshake.config.clone();
        let limits = handshake.limits;
        let nonce = random::nonce().map_err(|error| ConnectError::Io(error.into()))?;
        let key = BASE64.encode(&nonce);
        let accept = answer_to(key.as_bytes());
        let key = HeaderValue::try_from(key).map_err(ConnectError::request)?;
        Ok(Self {
            request: handshake.into_request(key)?,
            accept,
            config,
            limits,
            deadline,
        })
    }

    async fn on<IO>(self, io: IO) -> Result<(WebSocket, Response<()>), ConnectError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sent, ()) = self.request.clone().into_parts();
        let Switched {
            response,
            io,
            early,
        } = exchange(io, self.request, self.limits, self.deadline).await?;
        let Agreed {
            subprotocol,
            deflation,
        } = response::check(&response, &sent.headers, &self.accept, &self.config)?;
        let introduction = Introduction {
            request: HandshakeRequest::new(sent),
            subprotocol: subprotocol.and_then(|name| name.to_str().map(Box::from).ok()),
            carried: Carried::default(),
        };
        let setup = Setup {
            deflation,
            ..Setup::new(Arc::new(self.config))
        };
        let socket = WebSocket::dialled(io, early, setup, introduction);
        Ok((socket, response))
    }
}
