//! Tests of handlers, layers and whole services, without ports and without real time.
//!
//! Turn the feature `test-util` on for tests only:
//!
//! ```toml
//! [dev-dependencies]
//! tower-websocket = { version = "0.1", features = ["test-util"] }
//! tokio = { version = "1", features = ["macros", "rt", "test-util", "time"] }
//! ```
//!
//! [`connect`] opens a WebSocket of a service: of a `Router`, a stack of layers, or a handler with a layer around it.
//! The service runs under hyper's HTTP server, over a connection in memory. So requests pass through all layers, and
//! a client on the network would get the same answer.
//!
//! ```
//! use axum::Router;
//! use tower_websocket::{Error, Message, WebSocket, WebSocketLayer, testing};
//!
//! fn app() -> Router {
//!     let shout = WebSocketLayer::new(async |mut socket: WebSocket| {
//!         while let Some(message) = socket.recv().await? {
//!             socket.send(message.into_text()?.to_uppercase()).await?;
//!         }
//!         Ok::<_, Error>(())
//!     });
//!     Router::new().route_service("/shout", shout.into_service())
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Error> {
//! // In `#[tokio::test(start_paused = true)]`:
//! let mut client = testing::connect(app(), "/shout?loud").await?;
//! client.send("Hello").await?;
//! assert_eq!(client.recv().await?, Some(Message::text("HELLO")));
//! # Ok(())
//! # }
//! ```
//!
//! # Requests and refusals
//!
//! [`Request`] adds header fields, an origin and subprotocols. If the answer is not a 101,
//! [`ConnectError::refusal`] returns it, with status, fields and body:
//!
//! ```
//! use axum::{Router, middleware::{Next, from_fn}, response::IntoResponse};
//! use http::StatusCode;
//! use serde_json::{Value, json};
//! use tower_websocket::{Echo, WebSocketLayer, testing::{self, Request}};
//!
//! async fn auth(request: axum::extract::Request, next: Next) -> axum::response::Response {
//!     match request.headers().contains_key("authorization") {
//!         true => next.run(request).await,
//!         false => (StatusCode::UNAUTHORIZED, r#"{"error":"no token"}"#).into_response(),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let echo = WebSocketLayer::new(Echo::new()).into_service();
//! let app = Router::new().route_service("/ws", echo).layer(from_fn(auth));
//!
//! let error = testing::connect(app.clone(), "/ws").await.unwrap_err();
//! let refusal = error.refusal().unwrap();
//! assert_eq!(refusal.status(), 401);
//! let body: Value = serde_json::from_slice(refusal.body())?;
//! assert_eq!(body, json!({ "error": "no token" }));
//!
//! let request = Request::new("/ws").header("authorization", "Bearer sesame");
//! assert!(testing::connect(app, request).await.is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! # A handler without HTTP
//!
//! [`WebSocket::pair`] returns two connected sockets. Call the handler's function with the first one. There is no
//! request, no user and no close code from the handler's result: for these use [`connect`] with
//! `WebSocketLayer::new(handler).into_service()`.
//!
//! # Time
//!
//! With `#[tokio::test(start_paused = true)]` no test waits: tokio's clock jumps to the next deadline as soon as all
//! tasks are idle. So a test of the default keepalive, 40 s, takes no real time. Three things to know:
//!
//! - If a handler waits for something outside of the runtime, such as a real database or a thread of its own, the
//!   clock jumps while it waits, and the next timeout ends the wait. Use fakes there, or the real clock.
//!   (`spawn_blocking` stops the clock from jumping.)
//! - A wait for something that never happens does not end, because the pings of the keepalive keep the clock going.
//!   `tokio::time::timeout` bounds it, and also takes no real time.
//! - `std::time` goes on in real time. Use `tokio::time` in code that such tests run.
//!
//! # Faults
//!
//! A client takes all messages in, even if the test does not call `recv`. So a test that only waits is not a slow
//! client. [`Client::wire`] returns a handle that makes faults of networks and of clients:
//!
//! | To | Call | What the handler sees, by default |
//! | --- | --- | --- |
//! | stop reading | [`pause_reading`](Wire::pause_reading) | `send` waits, then [`SendError::Closed`](crate::error::SendError::Closed) |
//! | read slowly | [`read_slowly`](Wire::read_slowly) | `send` waits |
//! | send slowly | [`write_slowly`](Wire::write_slowly) | whole messages, or [`RecvError::TooSlow`](crate::error::RecvError::TooSlow) after 60 s for one |
//! | vanish, as a phone that is out of reach | [`pause_reading`](Wire::pause_reading) | [`RecvError::Unresponsive`](crate::error::RecvError::Unresponsive) after 40 s |
//! | answer no pings | [`answer_pings(false)`](Wire::answer_pings) | the same, but messages arrive |
//! | reset the connection | [`cut`](Wire::cut) | [`RecvError::Io`](crate::error::RecvError::Io) |
//! | end it without a Close | [`half_close`](Wire::half_close) | `RecvError::Io`; the client gets a Close with 1002 |
//! | break the protocol | [`send_raw`](Wire::send_raw) | [`RecvError::Protocol`](crate::error::RecvError::Protocol); the client gets a Close with 1002 |
//!
//! [`WebSocket::closed`] of the client returns how the connection ended, with the server's close code.
//!
//! # Limits
//!
//! The module has no HTTP/2. There, another request opens a WebSocket, which then has the same API.

mod client;
mod pings;
mod pipe;
mod request;
mod service;
mod wire;

use std::{io, panic::resume_unwind, sync::Arc};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::task::JoinHandle;

pub use self::{client::Client, request::Request, service::HttpService, wire::Wire};
use self::{pings::PingFilter, service::sealed::Io};
use crate::{
    client::{ConnectError, connect_with},
    codec::Role,
    config::Config,
    socket::{Setup, WebSocket},
};

/// Serves one connection of `service` in memory, and opens a WebSocket on it.
///
/// `request` is a path such as `"/ws?token=x"`, or a [`Request`] with header fields. It can also be an
/// [`http::Request`] or a [`client::Handshake`](crate::client::Handshake).
///
/// The service runs in a task. It takes one request, so clone an application to connect several times. Clones of a
/// layer share its registry.
///
/// # Errors
///
/// Every [`ConnectError`] but `Tls` and `NeedsTls`:
///
/// - [`Refused`](ConnectError::Refused), if the answer is not a 101. [`ConnectError::refusal`] returns it.
/// - [`Io`](ConnectError::Io), if the service fails. The text contains the service's error.
/// - [`InvalidRequest`](ConnectError::InvalidRequest), if the request is wrong, such as a path without a `/`.
/// - [`TimedOut`](ConnectError::TimedOut), if there is no answer within 60 s.
///
/// # Panics
///
/// Panics if the service panics, with its panic, and outside a tokio runtime with its time driver.
///
/// # Cancel safety
///
/// Dropping the future drops the connection.
pub async fn connect(
    service: impl HttpService,
    request: impl Into<Request>,
) -> Result<Client, ConnectError> {
    let (handshake, extensions) = request.into().into_parts()?;
    let (server, client) = pipe::pair(PingFilter::after_http());
    let wire = Wire::new(client.connection());
    let serving = service.serve(Io(server), extensions);
    match connect_with(handshake, client).await {
        Ok((socket, response)) => Ok(Client {
            socket,
            wire,
            response,
        }),
        Err(ConnectError::Io(error)) => Err(ConnectError::Io(failure(serving, error).await)),
        Err(error) => Err(error),
    }
}

/// Returns the error of a service that gave no answer, or `error` if the service has none.
async fn failure(serving: JoinHandle<io::Result<()>>, error: io::Error) -> io::Error {
    match serving.await.map_err(|error| error.try_into_panic()) {
        Ok(Err(of_service)) => of_service,
        Err(Ok(panic)) => resume_unwind(panic),
        Ok(Ok(())) | Err(Err(_)) => error,
    }
}

/// For tests, with the feature `test-util`.
impl WebSocket {
    /// Makes a server's socket and a client that is connected to it in memory.
    ///
    /// The server has the default [`Config`], the client has no limits. There was no handshake: the server's
    /// [`request`](Self::request) is empty, and there is no subprotocol. Each side is served in a task. The module
    /// [`testing`](crate::testing) describes time and faults.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime, or in one without its time driver.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{BoxError, WebSocket};
    ///
    /// async fn greet(mut socket: WebSocket) -> Result<(), BoxError> {
    ///     let name = socket.recv().await?.ok_or("nobody is there")?.into_text()?;
    ///     socket.send(format!("Hello {name}")).await?;
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), BoxError> {
    /// let (server, mut client) = WebSocket::pair();
    /// client.send("Ada").await?;
    /// greet(server).await?;
    /// assert_eq!(client.recv().await?.ok_or("no greeting")?.into_text()?, "Hello Ada");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn pair() -> (Self, Client) {
        Self::pair_with(Config::new())
    }

    /// Makes two connected sockets like [`pair`](Self::pair), with other limits and timeouts for the server.
    ///
    /// # Panics
    ///
    /// The same as [`pair`](Self::pair).
    #[must_use]
    pub fn pair_with(config: Config) -> (Self, Client) {
        let (server, client) = pipe::pair(PingFilter::of_frames());
        let wire = Wire::new(client.connection());
        let setup = Setup::new(Arc::new(request::patient()));
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let handshake = Default::default();
        let client = Client {
            socket: Self::take_over(Role::Client, client, Bytes::new(), setup, handshake),
            wire,
            response,
        };
        (Self::from_io(server, config), client)
    }
}
