//! Limits on clients, and the memory of connections.
//!
//! All limits have safe defaults, except limits that depend on the application: by address, by user, of rates, and of
//! the memory of all connections.
//!
//! ```
//! use std::{net::SocketAddr, time::Duration};
//! use axum::extract::ConnectInfo;
//! use tower_websocket::{Config, Connections, Echo, WebSocketLayer};
//!
//! let connections = Connections::new()
//!     .max_connections(20_000)
//!     .max_buffered(1 << 30);
//! let config = Config::new()
//!     .max_message_size(64 * 1024)
//!     .max_message_rate(20, 100)
//!     .first_message_timeout(Duration::from_secs(10));
//! let layer = WebSocketLayer::new(Echo::new())
//!     .config(config)
//!     .connections_in(&connections)
//!     .max_per_peer(10, |request| {
//!         Some(request.extensions.get::<ConnectInfo<SocketAddr>>()?.ip())
//!     });
//! ```
//!
//! `ConnectInfo` needs `into_make_service_with_connect_info` in axum. Behind a proxy read
//! [the address from a field](super::proxies#the-address-of-the-client).
//! [`Accept::configure`](crate::Accept::configure) changes the limits of one connection, for example for anonymous
//! users.
//!
//! # Handshakes and connections
//!
//! | Limit | Default | Past it |
//! | --- | --- | --- |
//! | [`Connections::max_connections`](crate::Connections::max_connections) | 10,000 | 503 |
//! | [`max_per_peer`](crate::WebSocketLayer::max_per_peer), [`max_per_key`](crate::WebSocketLayer::max_per_key) | none | 429 |
//! | [`max_head_size`](crate::WebSocketLayer::max_head_size) | 16 KiB | 431 |
//! | [`accept_timeout`](crate::WebSocketLayer::accept_timeout) | 10 s | 503 |
//! | [`upgrade_timeout`](crate::WebSocketLayer::upgrade_timeout) | 10 s | dropped |
//! | [`Connections::max_buffered`](crate::Connections::max_buffered) | none | 1013 for the connection that holds most |
//!
//! # Messages
//!
//! | Limit | Default | Past it |
//! | --- | --- | --- |
//! | [`max_message_size`](crate::Config::max_message_size), [`max_frame_size`](crate::Config::max_frame_size) | 1 MiB | 1009 |
//! | [`max_fragments`](crate::Config::max_fragments) | 16,384 frames, 16 of them empty | 1008 |
//! | [`max_control_frames`](crate::Config::max_control_frames) | 100 a second, 200 at once | 1008 |
//! | [`max_message_rate`](crate::Config::max_message_rate), [`max_byte_rate`](crate::Config::max_byte_rate) | none | 1008 |
//! | [`max_inbox`](crate::Config::max_inbox) | 16 messages, 64 KiB | reading stops until the handler receives |
//! | [`max_outbox`](crate::Config::max_outbox) | 1,024 messages, 1 MiB | [`send`](crate::Sender::send) waits, [`try_send`](crate::Sender::try_send) fails |
//!
//! # Time
//!
//! | Limit | Default | Past it |
//! | --- | --- | --- |
//! | [`assembly_timeout`](crate::Config::assembly_timeout) of one message | 60 s | 1008 |
//! | [`first_message_timeout`](crate::Config::first_message_timeout) | none | 1008 |
//! | [`max_lifetime`](crate::Config::max_lifetime) | none | 1001 |
//! | [`keepalive`](crate::Config::keepalive): silence, then no answer to a ping | 20 s, 20 s | dropped |
//! | [`write_timeout`](crate::Config::write_timeout) of a peer that takes no data | 10 s | dropped |
//! | [`receive_timeout`](crate::Config::receive_timeout) of a handler that takes no messages | 5 minutes | 1008 |
//! | [`close_timeout`](crate::Config::close_timeout) | 5 s | dropped |
//! | [`handler_grace`](crate::Config::handler_grace) of a handler whose connection ended | 30 s | its future is dropped |
//!
//! [`Duration::MAX`](std::time::Duration::MAX) disables a timeout. Values below the minimum of a setting are raised
//! to it.
//!
//! # Memory of a connection
//!
//! An idle connection of a small handler uses 2.3 KB under axum, whatever it did before. This includes the request, at
//! its own size, and the values that the server and other layers put into its extensions. axum's `Router` puts its
//! `OriginalUri` there, which keeps 8 KiB of the server's read buffer in memory.
//! [`without_request`](crate::WebSocketLayer::without_request) frees all of it.
//!
//! A connection holds at most one message that arrives, the inbox and the outbox.
//! [`Connections::max_buffered`](crate::Connections::max_buffered) bounds the sum of all connections; its page has the
//! arithmetic. Compression with context takeover costs more ([`Deflate`](crate::Deflate)).
//!
//! # Many connections
//!
//! - Each one is a file descriptor. A usual limit is 1,024 in a process (`ulimit -n`).
//! - If more than 256 tasks are ready on one saturated worker of tokio's multi-thread runtime, some go to the global
//!   queue, and their connections wait longer. Set `event_interval` of the runtime's builder, or use current-thread
//!   runtimes.
//! - glibc may keep the memory of many large messages. Set `GLIBC_TUNABLES=glibc.malloc.mmap_threshold=131072`, or use
//!   another allocator.
