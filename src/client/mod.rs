//! The client: makes the opening handshake. Its [`WebSocket`] works like a server's.
//!
//! [`connect`] dials a URL. [`connect_with`] uses a stream that is already open. Both take a URL, a
//! [`Request`], or a [`Handshake`] with settings, and return the socket and the head of the server's answer.
//! A spawned task serves the connection until the socket is dropped, which closes with 1000.
//!
//! # Examples
//!
//! ```no_run
//! use tower_websocket::{Error, client};
//!
//! #[tokio::main]
//! async fn main() {
//!     if let Err(error) = greet().await {
//!         eprintln!("{error}");
//!         std::process::exit(1);
//!     }
//! }
//!
//! async fn greet() -> Result<(), Error> {
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
//! The same handler can serve accepted and dialled connections:
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
//! With one of two features [`connect`] supports `wss://` URLs. Each of them adds rustls:
//!
//! | Feature | Trusted roots |
//! | --- | --- |
//! | `rustls-tls-native-roots` | the roots of the system, or those in the files of `SSL_CERT_FILE` and `SSL_CERT_DIR` |
//! | `rustls-tls-webpki-roots` | Mozilla's roots, compiled in: they are as old as the build |
//!
//! With both features the roots of both are trusted. The roots are loaded once in a process. If system roots
//! cannot be loaded, for example from the file in `SSL_CERT_FILE`, the error for an untrusted certificate gives
//! the reason. rustls uses the `CryptoProvider` that the application has installed as its default, or else
//! ring. Without these features `wss://` URLs fail with [`ConnectError::NeedsTls`].
//!
//! For client certificates, your own roots or another TLS library use [`connect_with`], which takes any
//! stream:
//!
//! ```
//! use tokio::io::{AsyncRead, AsyncWrite};
//! use tower_websocket::{WebSocket, client::{ConnectError, connect_with}};
//!
//! /// `tls` is, for example, the stream of `tokio_rustls::TlsConnector::connect`.
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
//! [`connect`] uses no proxy and ignores variables such as `HTTPS_PROXY`. [`connect_with`] takes any stream:
//! `examples/client_proxy.rs` opens a tunnel through an HTTP proxy (`CONNECT`), and `examples/client_unix.rs`
//! dials a Unix socket.
//!
//! # Connecting again
//!
//! [`Reconnect`] connects again when a connection has ended, after a growing random delay.
//!
//! A server can also refuse with a Close directly after the handshake, with a code such as 4401. For
//! [`connect`] this is not an error, so check [`close_frame`](WebSocket::close_frame) before you connect again.
//!
//! # When the client does not connect
//!
//! The text of a [`ConnectError`] gives the cause. Print it with `{}`.
//!
//! | Text | Cause | What to do |
//! | --- | --- | --- |
//! | `the url does not begin with ws://…` | `localhost:3000/ws` has no scheme. | Write `ws://localhost:3000/ws`. |
//! | `the URL asks for TLS: enable the feature…` | `wss://` without a feature. | See [TLS](#tls). |
//! | `failed to lookup address information` | The name does not resolve: it is wrong, or the network is down. | Run `getent hosts NAME` in the same container. |
//! | `Connection refused` | Nothing listens on the address and port in the text. | Check that the server runs, on that port, and not on the loopback of another container. |
//! | `the server seems to speak TLS` | `ws://` to a port with TLS. nginx and Go answer `400 Bad Request` instead. | Use `wss://`. |
//! | `the server seems not to speak TLS` | `wss://` to a port without TLS. | Use `ws://`, or the port of the proxy that has TLS. |
//! | `invalid peer certificate: UnknownIssuer` | No trusted root has signed the certificate, or the server does not send its intermediate certificates. | `SSL_CERT_FILE=ca.pem` with `rustls-tls-native-roots`, or [`connect_with`] and your own roots. `(roots are missing: …)` names a file that was not loaded. |
//! | `invalid peer certificate: certificate not valid for name…` | The certificate is for another name. | Dial a name that the text lists. |
//! | `invalid peer certificate: certificate expired…` | The certificate has expired, or a clock is wrong. | Renew it. |
//! | `the server refused with 401` or `403` | A token is missing or wrong. (This crate's server does not check the origin if the client sends no `Origin`.) | [`Handshake::header`] with `Authorization`, or another field that the server requires. |
//! | `the server refused with 404` | There is no WebSocket at this path, or a proxy has dropped `Upgrade`. | Compare the paths: `/ws/` is not `/ws`. |
//! | `the server refused with 426` | A proxy has dropped `Upgrade`, or uses HTTP/1.0 to the server. | See [behind a proxy](crate::guide::proxies). |
//! | `the server refused with 200`, or a redirect | A web page is at this path. Redirects are not followed. | Dial the address in `Location`. |
//! | `upgrade is not websocket`, `sec-websocket-accept does not answer the key` | A program between client and server answered, or the server breaks RFC 6455. | |
//! | `no place for another connection` | The registry of [`Handshake::connections_in`] is full or shutting down. | Raise [`Connections::max_connections`](crate::Connections::max_connections). |
//! | `the handshake took too long` | A firewall drops packets, the server is busy, or another program listens on the port. | [`Handshake::timeout`], 10 s by default. |
//! | `connection closed before message completed` | The server or a proxy closed the connection without an answer. It may expect TLS. | Check its log. |
//!
//! [`guide::when_it_does_not_connect`](crate::guide::when_it_does_not_connect) lists the causes of each status on
//! the server.
//!
//! # Limits
//!
//! [`Config`] has the same limits and defaults for both sides. [`Handshake::max_response_head`] and
//! [`Handshake::max_response_fields`] limit the head of an answer. The first 64 KiB of a refusal's body are
//! kept. [`Handshake::timeout`] bounds the whole handshake. Frames are masked with unpredictable keys
//! ([RFC 6455 §5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.3)). At the end of a connection the client
//! waits for the server to close the stream, at most
//! [`Config::close_timeout`](crate::Config::close_timeout).

mod backoff;
mod dial;
mod error;
mod exchange;
mod head;
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
    codec::{Role, random},
    config::Config,
    connections::Permit,
    handshake::{Carried, HandshakeRequest, Identity, key::answer_to},
    socket::{HandshakeInfo, Setup, Values, WebSocket},
};

/// Connects to a `ws://` or `wss://` URL over TCP and makes the opening handshake.
///
/// Returns the socket and the head of the server's answer. If the host has several addresses, they are tried
/// one after the other, IPv4 and IPv6 in turn: the next one after 250 ms, or as soon as an attempt fails. The
/// first connection is used and all other attempts are dropped
/// ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)). `TCP_NODELAY` is set. `wss://` requires a feature, see
/// [TLS](self#tls).
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
/// Dropping the future drops the connection, even if the server has already accepted it.
///
/// # Examples
///
/// ```
/// use tower_websocket::client::{ConnectError, connect};
///
/// # async fn example() -> Result<(), ConnectError> {
/// let (socket, response) = connect("ws://127.0.0.1:3000/ws").await?;
/// println!("server: {:?}", response.headers().get("server"));
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
    // Before dialling, because an invalid request cannot be sent.
    let prepared = Prepared::of(handshake)?;
    let dialled = timeout_at(prepared.deadline, dial(&host, port, is_encrypted))
        .await
        .map_err(|_| ConnectError::TimedOut)??;
    match dialled {
        Dialled::Plain(stream) => prepared.connect_over(stream).await,
        Dialled::Encrypted(stream) => prepared.connect_over(stream).await,
    }
}

/// Makes the opening handshake on a connected stream, such as one with TLS.
///
/// Returns the socket and the head of the server's answer. The URL gives the path and `Host` of the request;
/// it is not dialled. A request with a `Host` field needs no host in its URI.
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
    Prepared::of(handshake)?.connect_over(io).await
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
    // Without it a small message may wait until the previous one is acknowledged.
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    Ok(match connector {
        Some(connector) => Dialled::Encrypted(connector.connect(host, stream).await?),
        None => Dialled::Plain(stream),
    })
}

/// A handshake that is ready to be sent.
struct Prepared {
    request: Request<()>,
    /// The expected `Sec-WebSocket-Accept`.
    accept: String,
    config: Config,
    limits: HeadLimits,
    deadline: Instant,
    /// The place in a registry, if there is one.
    permit: Option<Permit>,
    identity: Identity,
}

impl Prepared {
    fn of(handshake: Handshake) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + handshake.timeout;
        let config = handshake.config.clone();
        let limits = handshake.limits;
        let connections = handshake.connections.clone();
        let identity = handshake.identity.clone();
        let nonce = random::nonce().map_err(|error| ConnectError::Io(error.into()))?;
        let key = BASE64.encode(&nonce);
        let accept = answer_to(key.as_bytes());
        let key = HeaderValue::try_from(key).map_err(ConnectError::request)?;
        let request = handshake.into_request(key)?;
        let permit = connections.map(|connections| connections.admit());
        Ok(Self {
            request,
            accept,
            config,
            limits,
            deadline,
            permit: permit.transpose().map_err(ConnectError::NotAdmitted)?,
            identity,
        })
    }

    async fn connect_over<IO>(self, io: IO) -> Result<(WebSocket, Response<()>), ConnectError>
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
        let info = HandshakeInfo {
            handler: "client",
            request: HandshakeRequest::new(sent),
            subprotocol: subprotocol.and_then(|name| name.to_str().map(Box::from).ok()),
        };
        let values = Values::new(Carried::default(), self.identity);
        let setup = Setup {
            deflation,
            ..Setup::new(Arc::new(self.config))
        };
        let socket = match self.permit {
            None => WebSocket::take_over(Role::Client, io, early, setup, (info, values)),
            Some(permit) => permit
                .take_over(Role::Client, io, early, setup, (info, values))
                .map_err(ConnectError::NotAdmitted)?,
        };
        Ok((socket, response))
    }
}
