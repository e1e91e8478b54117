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
//! With both it trusts either. The roots are loaded once in a process. If some of the system's cannot be
//! loaded, such as those in the file that `SSL_CERT_FILE` names, the error about a certificate that is not
//! trusted says why. rustls is used with the
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
//! A server can refuse by a Close right behind the handshake, with a code such as 4401: that is no error of
//! [`connect`], so look at [`close_frame`](WebSocket::close_frame) before you connect again.
//!
//! # When the client does not connect
//!
//! The text of a [`ConnectError`] has the cause: print it with `{}`.
//!
//! | Text | Cause | What to do |
//! | --- | --- | --- |
//! | `the url does not begin with ws://…` | `localhost:3000/ws` has no scheme. | Write `ws://localhost:3000/ws`. |
//! | `the URL asks for TLS: enable the feature…` | `wss://` without a feature. | See [TLS](#tls). |
//! | `failed to lookup address information` | The name does not resolve: it is misspelt, or the network is down. | Try `getent hosts NAME`, in the same container. |
//! | `Connection refused` | Nobody listens at the address and port that the text names. | Is the server up, on that port, and not on the loopback of another container? |
//! | `the server seems to speak TLS` | `ws://` to a port with TLS. nginx and Go answer `400 Bad Request` instead. | `wss://` |
//! | `the server seems not to speak TLS` | `wss://` to a port without TLS. | `ws://`, or the port of the proxy that speaks TLS. |
//! | `invalid peer certificate: UnknownIssuer` | The certificate is signed by nobody who is trusted, or the server does not send its intermediate certificates. | `SSL_CERT_FILE=ca.pem` with `rustls-tls-native-roots`, or [`connect_with`] and roots of your own. `(roots are missing: …)` names a file that was not loaded. |
//! | `invalid peer certificate: certificate not valid for name…` | The certificate is that of another name. | Dial a name that the text lists. |
//! | `invalid peer certificate: certificate expired…` | It is expired, or a clock is wrong. | Renew it. |
//! | `the server refused with 401` or `403` | A token is missing or wrong. Of a client without `Origin` this crate's server does not check the origin. | [`Handshake::header`] with `Authorization`, or what the server wants. |
//! | `the server refused with 404` | There is no WebSocket at this path, or a proxy has dropped `Upgrade`. | Compare the path, `/ws/` with `/ws`, too. |
//! | `the server refused with 426` | A proxy has dropped `Upgrade`, or speaks HTTP/1.0 to the server. | See [behind a proxy](crate::docs::when_it_does_not_connect#behind-a-proxy). |
//! | `the server refused with 200`, or a redirect | A web page is at this path. Redirects are not followed. | Dial the address that `Location` names. |
//! | `upgrade is not websocket`, `sec-websocket-accept does not answer the key` | Something between the two sides answers for the server, or the server breaks RFC 6455. | |
//! | `no place for another connection` | The registry of [`Handshake::connections_in`] is full or shutting down. | [`Connections::max_connections`](crate::Connections::max_connections) |
//! | `the handshake took too long` | A firewall drops packets, the server is busy, or something else listens at the port. | [`Handshake::timeout`], 10 s by default. |
//! | `connection closed before message completed` | The server or a proxy hung up without an answer: it may expect TLS. | Look into its log. |
//!
//! The causes of each status on the server's side are in
//! [`docs::when_it_does_not_connect`](crate::docs::when_it_does_not_connect).
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
    codec::random,
    config::Config,
    connections::Permit,
    handshake::{Carried, HandshakeRequest, Identity, key::answer_to},
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
    /// The `Sec-WebSocket-Accept` that answers the key.
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
            identity: self.identity,
        };
        let setup = Setup {
            deflation,
            ..Setup::new(Arc::new(self.config))
        };
        let socket = match self.permit {
            None => WebSocket::dialled(io, early, setup, introduction),
            Some(permit) => {
                let dialled = permit.dialled(io, early, setup, introduction);
                dialled.map_err(ConnectError::NotAdmitted)?
            }
        };
        Ok((socket, response))
    }
}
