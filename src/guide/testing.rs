//! Tests, without ports and without real time.
//!
//! With the feature `test-util`, [`testing::connect`](crate::testing::connect) opens a WebSocket of the application, in
//! memory and through all of its layers. Here a connection ends with its user's token, an hour later by tokio's clock:
//!
//! ```
//! # #[cfg(feature = "test-util")] {
//! use std::time::Duration;
//! use axum::Router;
//! use tower_websocket::{
//!     Accept, CloseCode, Error, Refusal, WebSocket, WebSocketLayer, decide, testing,
//! };
//!
//! fn app() -> Router {
//!     let layer = WebSocketLayer::new(decide(
//!         async |request| {
//!             let token = request.uri.query().ok_or_else(Refusal::unauthorized)?;
//!             let good_for = token.parse().map(Duration::from_secs);
//!             let good_for = good_for.map_err(|_| Refusal::forbidden())?;
//!             Ok((Accept::new().configure(move |config| config.max_lifetime(good_for)), ()))
//!         },
//!         async |mut socket: WebSocket, ()| {
//!             while socket.recv().await?.is_some() {}
//!             Ok::<_, Error>(())
//!         },
//!     ));
//!     Router::new().route_service("/ws", layer.into_service())
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In `#[tokio::test(start_paused = true)]`:
//! let client = testing::connect(app(), "/ws?3600").await?;
//! assert_eq!(client.closed().await.code(), Some(CloseCode::GOING_AWAY));
//!
//! let refused = testing::connect(app(), "/ws").await.unwrap_err();
//! assert_eq!(refused.refusal().ok_or("it was not refused")?.status(), 401);
//! # Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```
//!
//! | To test | Use |
//! | --- | --- |
//! | an application, its layers and routes | [`testing::connect`](crate::testing::connect) |
//! | a function that serves a socket | [`WebSocket::pair`](crate::WebSocket::pair) |
//! | a decision alone | a call of `accept`, as below |
//! | a client that stops reading, reads slowly, vanishes or sends garbage | [the faults of `testing`](crate::testing#faults) |
//! | TLS, HTTP/2, real clients | a listener on `127.0.0.1:0` |
//!
//! # Rooms
//!
//! Give the application its hub, so that the test can look into it. Several clients are several calls of `connect`, and
//! each has its own faults. Here one of three stops reading, until the room sends it away:
//!
//! ```
//! # #[cfg(all(feature = "hub", feature = "test-util"))] {
//! use std::time::Duration;
//! use axum::Router;
//! use tower_websocket::{
//!     BoxError, CloseCode, WebSocket, WebSocketLayer, hub::Hub, testing::connect, with_state,
//! };
//!
//! async fn chat(mut socket: WebSocket, hub: Hub) -> Result<(), BoxError> {
//!     let room = hub.room("tea").join(&socket, ()).await?;
//!     while let Some(message) = socket.recv().await? {
//!         room.send(message)?;
//!     }
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let hub = Hub::new();
//! let chat = WebSocketLayer::new(with_state(hub.clone(), chat)).into_service();
//! let app = Router::new().route_service("/chat", chat);
//! let mut ada = connect(app.clone(), "/chat").await?;
//! let mut grace = connect(app.clone(), "/chat").await?;
//! let slow = connect(app, "/chat").await?;
//! // The handlers join. The clock is paused: it advances when all tasks wait.
//! tokio::time::sleep(Duration::from_millis(1)).await;
//! assert_eq!(hub.room("tea").len_here(), 3);
//!
//! slow.wire().pause_reading();
//! while hub.room("tea").len_here() == 3 {
//!     ada.send("x".repeat(1000)).await?;
//!     for client in [&mut ada, &mut grace] {
//!         assert!(client.recv().await?.is_some());
//!     }
//! }
//! slow.wire().resume_reading();
//! assert_eq!(slow.closed().await.code(), Some(CloseCode::TRY_AGAIN_LATER));
//!
//! grace.wire().cut();
//! tokio::time::sleep(Duration::from_millis(1)).await;
//! assert_eq!(hub.room("tea").len_here(), 1);
//! # Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```
//!
//! With another [policy](super::slow_members) the client stays in the room. Then look at
//! [`Membership::lag`](crate::hub::Membership::lag), or call `resume_reading` and receive.
//!
//! Code that only needs a hub and sockets needs no application: join with the server's socket of
//! [`WebSocket::pair`](crate::WebSocket::pair).
//!
//! # A decision alone
//!
//! This needs no feature and no server. [`Accept`](crate::Accept) and [`Refusal`](crate::Refusal) return what was
//! decided:
//!
//! ```
//! use http::{Request, StatusCode, request::Parts};
//! use tower_websocket::{Accept, BoxError, Handler, Refusal, WebSocket};
//!
//! struct Desk;
//!
//! impl Handler for Desk {
//!     async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
//!         match request.headers.get("authorization") {
//!             Some(_) => Ok(Accept::new().subprotocol("desk.v1").carry(7_u64)),
//!             None => Err(Refusal::unauthorized()),
//!         }
//!     }
//!
//!     async fn handle(&self, _socket: WebSocket) -> Result<(), BoxError> {
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), http::Error> {
//! let (mut stranger, ()) = Request::new(()).into_parts();
//! let refusal = Desk.accept(&mut stranger).await.unwrap_err();
//! assert_eq!(refusal.status(), StatusCode::UNAUTHORIZED);
//!
//! let known = Request::builder().header("authorization", "Bearer x").body(())?;
//! let mut accept = Desk.accept(&mut known.into_parts().0).await.unwrap();
//! assert_eq!(accept.subprotocols().collect::<Vec<_>>(), ["desk.v1"]);
//! assert_eq!(accept.take_carried::<u64>(), Some(7));
//! # Ok(())
//! # }
//! ```
//!
//! `tower::ServiceExt::oneshot` also shows refusals, with the status and the body of the whole service. The request
//! needs all fields of a handshake. Without `Host` the answer is 400. A handshake that is accepted gets a 500, because
//! no server hands over a connection.
