//! Security: the protection that is on by default, and the settings that depend on the application.
//!
//! ```
//! use std::net::SocketAddr;
//! use axum::extract::ConnectInfo;
//! use tower_websocket::{Config, Connections, Echo, OriginPolicy, WebSocketLayer};
//!
//! # fn layer() -> Result<WebSocketLayer, tower_websocket::InvalidOrigin> {
//! let connections = Connections::new().max_buffered(1 << 30);
//! let origins = OriginPolicy::same_host().hosts(["example.com"])?;
//! let layer = WebSocketLayer::new(Echo::new())
//!     .origin(origins)
//!     .connections_in(&connections)
//!     .config(Config::new().max_message_rate(50, 200))
//!     .max_per_peer(20, |request| {
//!         Some(request.extensions.get::<ConnectInfo<SocketAddr>>()?.ip())
//!     });
//! # Ok(layer)
//! # }
//! ```
//!
//! # Set these yourself
//!
//! | Setting | Without it |
//! | --- | --- |
//! | [`max_per_peer`](crate::WebSocketLayer::max_per_peer), or [`max_per_key`](crate::WebSocketLayer::max_per_key) | One client can open all 10,000 connections. Others then get a 503. |
//! | [`Connections::max_buffered`](crate::Connections::max_buffered) | 10,000 clients can make the server hold 20 GiB. |
//! | [`max_message_rate`](crate::Config::max_message_rate), [`max_byte_rate`](crate::Config::max_byte_rate) | A client may send as fast as the handler receives. |
//! | [`OriginPolicy::hosts`](crate::OriginPolicy::hosts) | DNS rebinding reaches a server that trusts its network. |
//! | [authentication](super::authentication), [outside of the layer or in `accept`](super::layers) | Everybody may connect, except the pages of other sites. |
//! | a time limit for the head of a request | The server's: `axum::serve` has none, hyper has 30 s once it has a [timer](super::http2#tls), proxies have their own. |
//! | TLS | Proxies and networks can read and change messages. |
//!
//! # On by default
//!
//! | Attack | Defence |
//! | --- | --- |
//! | A foreign page connects with the user's cookies. | [`OriginPolicy::same_host`](crate::OriginPolicy::same_host): 403. |
//! | Messages, fragments, pings or heads without end; messages that never end | [Limits](super::limits), with a close code or a status. |
//! | A client that reads nothing | The queue is bounded, and the connection is dropped. |
//! | Connections of machines that are gone | Pings after 20 s of silence. |
//! | Malformed bytes | Never a panic: a status, a close code or an error. The parsers are fuzzed. |
//! | A handler that panics | Ends its own connection with 1011. |
//! | Compression bombs, and secrets guessed from the length of messages | Compression is off. [`Deflate`](crate::Deflate#security) has limits and the rules for secrets. |
//! | An outer layer that refuses after the fact | The handler runs only if the 101 was sent ([the exceptions](super::layers#layers-outside)). |
//! | Secrets in the log | [No payload, no query, no cookie](super::logs_and_metrics#lines). `Debug` of a socket or a refusal shows none either. |
//!
//! Methods that lower security begin with `insecure`: [`insecure_any`](crate::OriginPolicy::insecure_any),
//! [`insecure_null`](crate::OriginPolicy::insecure_null),
//! [`insecure_run_behind_any_response`](crate::WebSocketLayer::insecure_run_behind_any_response).
//!
//! The crate has no unsafe code.
