//! WebSockets in axum's own style: handlers with extractors.
//!
//! [`Upgrade`] is an extractor like any other. It checks the handshake and takes a place among the
//! connections, the other arguments say who asks and for what, and
//! [`on_upgrade`](Upgrade::on_upgrade) answers and serves:
//!
//! ```no_run
//! use axum::{Router, extract::Path, response::Response, routing::any};
//! use tower_websocket::{Error, axum::Upgrade};
//!
//! async fn room(upgrade: Upgrade, Path(room): Path<String>) -> Response {
//!     upgrade.subprotocol("chat.v1").on_upgrade(async move |mut socket| {
//!         socket.send(format!("Welcome to {room}")).await?;
//!         while let Some(message) = socket.recv().await? {
//!             socket.send(message).await?;
//!         }
//!         Ok::<_, Error>(())
//!     })
//! }
//!
//! # async fn example() -> std::io::Result<()> {
//! let app: Router = Router::new().route("/rooms/{room}", any(room));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! axum::serve(listener, app).await
//! # }
//! ```
//!
//! `any` takes HTTP/2's handshakes too, which are no GET. With `get` only HTTP/1.1's arrive.
//!
//! # Settings
//!
//! Limits, origins and the registry of connections are those of a [`WebSocketLayer`] that has no handler:
//! [`UpgradeSettings`]. They come from
//!
//! - the request's extensions, for [`Upgrade`]: `Router::layer(Extension(settings))`;
//! - the state, for [`Upgrade<FromState>`](FromState), where `UpgradeSettings: FromRef<State>`;
//! - neither: then all are at their defaults. Pages of other origins are refused, and at most 10,000
//!   connections are open in the process. [`default_settings`] returns these, for their counts and for a
//!   shutdown.
//!
//! ```
//! use axum::{Extension, Router};
//! use tower_websocket::{Connections, OriginPolicy, axum::UpgradeSettings};
//!
//! let connections = Connections::new().max_connections(500);
//! let settings = UpgradeSettings::without_handler()
//!     .origin(OriginPolicy::same_host().allow("https://app.example")?)
//!     .connections_in(&connections);
//! let app: Router = Router::new().layer(Extension(settings));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # HTML or a socket
//!
//! `Option<Upgrade>` is `None` for requests that ask for no WebSocket. A handshake that is not valid is refused
//! also then.
//!
//! ```
//! use axum::response::{Html, IntoResponse, Response};
//! use tower_websocket::axum::Upgrade;
//!
//! async fn page_or_socket(upgrade: Option<Upgrade>) -> Response {
//!     match upgrade {
//!         None => Html("<h1>Hello</h1>").into_response(),
//!         Some(upgrade) => upgrade.on_upgrade(async |mut socket| {
//!             while let Ok(Some(message)) = socket.recv().await {
//!                 let _ = socket.send(message).await;
//!             }
//!         }),
//!     }
//! }
//! ```
//!
//! # Refusing
//!
//! A rejection of another extractor is the answer as it is, and so is any response that the function returns
//! without having called `on_upgrade`. The place among the connections is given back.
//! [`Upgrade::refuse`] counts the refusal and can close with a code that browsers show to their page.
//!
//! # Extractors in a layer's handler
//!
//! In [`Handler::accept`](crate::Handler::accept) and [`decide`](crate::decide), [`RequestPartsExt`] extracts,
//! and `?` refuses with the rejection as it is.
//!
//! # A layer in a route
//!
//! `Router::route_service("/ws", layer.into_service())` takes a [`WebSocketLayer`] that has a handler. In a route
//! of its own nothing is inside of the layer, and layers that are added later, such as auth, see its handshakes.

mod outcome;
mod parts;
mod rejection;
mod upgrade;

pub use self::{
    outcome::Outcome,
    parts::RequestPartsExt,
    rejection::UpgradeRejection,
    upgrade::{FromExtension, FromState, Upgrade, default_settings},
};
pub use crate::layer::NoHandler;
use crate::layer::WebSocketLayer;

/// The settings of [`Upgrade`]: a layer without a handler, made by
/// [`without_handler`](WebSocketLayer::without_handler).
pub type UpgradeSettings = WebSocketLayer<NoHandler>;
