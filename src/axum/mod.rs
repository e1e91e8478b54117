//! WebSockets in axum's own style: handlers with extractors.
//!
//! [`Upgrade`] is an extractor like any other. It checks the handshake and takes a place among the
//! connections. The function's other arguments are ordinary extractors.
//! [`on_upgrade`](Upgrade::on_upgrade) answers the handshake and serves the connection:
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
//! Handshakes over HTTP/2 use the method CONNECT. `any` also routes these; `get` routes only those over HTTP/1.1.
//!
//! # Settings
//!
//! [`UpgradeSettings`] holds limits, origins and the registry of connections. It is a [`WebSocketLayer`] that has
//! no handler.
//!
//! - [`Upgrade`] takes the settings from the request's extensions: `Router::layer(Extension(settings))`. Without
//!   that extension all settings have their defaults: pages of other origins are refused, and at most 10,000
//!   connections are open in the process. [`default_settings`] returns these settings, for their counts and for
//!   a shutdown.
//! - [`Upgrade<FromState>`](FromState) takes the settings from the router's state, where
//!   `UpgradeSettings: FromRef<State>`.
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
//! `Option<Upgrade>` is `None` for requests that ask for no WebSocket. An invalid handshake is still refused.
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
//! If another extractor rejects the request, the client gets that rejection unchanged. If the function does not
//! call `on_upgrade`, the client gets the function's response unchanged. In both cases the place among the
//! connections is freed. [`Upgrade::refuse`] also counts the refusal, and can close with a code that browsers show
//! to their page.
//!
//! # Extractors in a layer's handler
//!
//! In [`Handler::accept`](crate::Handler::accept) and [`decide`](crate::decide), use the methods of
//! [`RequestPartsExt`]. `?` then refuses the handshake with the unchanged rejection.
//!
//! # A layer in a route
//!
//! A [`WebSocketLayer`] that has a handler can serve one route: `Router::route_service("/ws", layer.into_service())`.
//! It then has no inner service. Layers that are added to the router later, such as authentication, see its
//! handshakes.

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
