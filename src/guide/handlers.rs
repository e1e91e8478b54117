//! Handlers and their state.
//!
//! A function or an async closure is a handler. A handler's closure cannot capture state.
//! [`with_state`](crate::with_state) makes a handler of a function and its state:
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
//! use tower_websocket::{Error, WebSocketLayer, with_state};
//!
//! let best = Arc::new(AtomicU64::new(0));
//! let scores = WebSocketLayer::new(with_state(best, async |mut socket, best| {
//!     while let Some(message) = socket.recv().await? {
//!         let score: u64 = message.into_text()?.parse()?;
//!         let before = best.fetch_max(score, Ordering::Relaxed);
//!         socket.send(format!("the best is {}", score.max(before))).await?;
//!     }
//!     Ok::<_, Error>(())
//! }));
//! ```
//!
//! | You need | Use |
//! | --- | --- |
//! | no state | an `async fn(WebSocket) -> Result<(), E>`, or such a closure |
//! | state | [`with_state`](crate::with_state) |
//! | a decision before the 101, or a value from the request | [`decide`](crate::decide), which passes the value on |
//! | both | a type that implements [`Handler`](crate::Handler) |
//! | axum's extractors | [`axum::Upgrade`](crate::axum::Upgrade), see [below](#with-axums-extractors) |
//! | handlers of different types in one list or field | [`BoxHandler`](crate::BoxHandler) |
//!
//! # A type
//!
//! The state is in its fields. `accept` decides, [`carry`](crate::Accept::carry) passes a value to `handle`:
//!
//! ```
//! use std::collections::HashMap;
//! use http::request::Parts;
//! use tower_websocket::{Accept, BoxError, Handler, Refusal, WebSocket, WebSocketLayer};
//!
//! struct Greeter {
//!     greetings: HashMap<String, String>,
//! }
//!
//! struct Language(String);
//!
//! impl Handler for Greeter {
//!     async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
//!         let language = request.uri.query().unwrap_or("en").to_owned();
//!         if !self.greetings.contains_key(&language) {
//!             return Err(Refusal::forbidden().message("no greeting in this language"));
//!         }
//!         Ok(Accept::new().carry(Language(language)))
//!     }
//!
//!     async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
//!         let Language(language) = socket.take_carried().ok_or("accept carries a language")?;
//!         socket.send(self.greetings[&language].as_str()).await?;
//!         Ok(())
//!     }
//! }
//!
//! let greetings = HashMap::from([("en".to_owned(), "Hello".to_owned())]);
//! let layer = WebSocketLayer::new(Greeter { greetings });
//! ```
//!
//! # With axum's extractors
//!
//! With the feature `axum`, a handler is a route like others ([the module](crate::axum) has its settings):
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, extract::{Path, State}, response::Response, routing::any};
//! use tower_websocket::{Error, axum::Upgrade};
//!
//! #[derive(Clone)]
//! struct App {
//!     motto: &'static str,
//! }
//!
//! async fn room(upgrade: Upgrade, Path(room): Path<String>, State(app): State<App>) -> Response {
//!     upgrade.on_upgrade(async move |mut socket| {
//!         socket.send(format!("Welcome to {room}: {}", app.motto)).await?;
//!         while let Some(message) = socket.recv().await? {
//!             socket.send(message).await?;
//!         }
//!         Ok::<_, Error>(())
//!     })
//! }
//!
//! let app: Router = Router::new()
//!     .route("/rooms/{room}", any(room))
//!     .with_state(App { motto: "be kind" });
//! # }
//! ```
//!
//! # Facts
//!
//! - A handler and its connection are one task. A handler that blocks its thread also stops pings and Closes. Use
//!   `tokio::task::spawn_blocking`.
//! - While a handler waits for a database, pings are answered, and a Close is noticed, until the
//!   [inbox](crate::Config::max_inbox) is full.
//! - A panic closes its connection with 1011. No other connection notices.
//! - The end of a connection does not drop its handler at once ([what it sees](super::ends#the-handler)).
//! - A task that a handler spawns outlives it. Keep such tasks in a `tokio::task::JoinSet`, which aborts them when it
//!   is dropped.
//! - A handler may move its `WebSocket` to another task and return. The connection stays open.
//!
//! # When it does not compile
//!
//! | Error | Cause | Write |
//! | --- | --- | --- |
//! | `type annotations needed` | A closure ends in `Ok(())`. | `Ok::<_, Error>(())` with [`Error`](crate::Error) |
//! | `this is not a handler of WebSocket connections` | It returns `()`, or has other arguments. | one `WebSocket`, and a `Result` |
//! | `async closure does not implement Fn because it captures state` | | [`with_state`](crate::with_state) |
//! | the same in [`decide`](crate::decide), which has no state | | a type, as above, or [a closure with an `async` block](crate::decide#examples) |
//! | `future cannot be sent between threads safely` | An `Rc`, or a lock of `std`, is held across an `.await`. | an `Arc`; a block that drops the lock before |
//! | `?` and a text or `BoxError` in a closure | [`Error`](crate::Error) converts only from errors. | `Error::new("text")` |
