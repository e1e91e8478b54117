//! Shutdown: refuse new clients, close the open ones with a code, wait.
//!
//! ```no_run
//! use std::time::Duration;
//! use axum::Router;
//! use tokio::{net::TcpListener, signal};
//! use tower_websocket::{CloseCode, CloseFrame, Connections, Echo, WebSocketLayer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let connections = Connections::new().shutdown_spread(Duration::from_secs(5));
//! let layer = WebSocketLayer::new(Echo::new()).connections_in(&connections);
//! let app = Router::new().route_service("/ws", layer.into_service());
//! let listener = TcpListener::bind("127.0.0.1:3000").await?;
//!
//! let closing = connections.clone();
//! let restart = CloseFrame::new(CloseCode::SERVICE_RESTART, "")?;
//! let interrupted = async move {
//!     let _ = signal::ctrl_c().await;
//!     closing.close_with(restart);
//! };
//! axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
//! let report = connections.shutdown(Duration::from_secs(25)).await;
//! println!("{} closed, {} aborted", report.clean, report.aborted);
//! # Ok(())
//! # }
//! ```
//!
//! **`with_graceful_shutdown` alone is not enough.** It waits for HTTP requests, and not for upgraded connections: it
//! returns while all WebSockets are open. If `main` then ends, every client sees 1006.
//!
//! # In order
//!
//! 1. [`close`](crate::Connections::close) or [`close_with`](crate::Connections::close_with): new handshakes get a 503.
//!    Each connection is closed at a random moment within
//!    [`shutdown_spread`](crate::Connections::shutdown_spread), 1 s by default, so that not all clients reconnect at
//!    once. The code is 1001, or that of `close_with`.
//! 2. Each connection writes what was sent before, and waits for the peer's Close, at most
//!    [`Config::close_timeout`](crate::Config::close_timeout). `recv` returns `None`.
//! 3. Handlers return. [`wait`](crate::Connections::wait) waits for all of this without a limit.
//! 4. [`shutdown`](crate::Connections::shutdown) waits at most for its grace, and then aborts: it drops handlers and
//!    streams.
//!
//! # Facts
//!
//! - Choose a grace that is longer than `shutdown_spread` and `close_timeout` together, and shorter than that of the
//!   orchestrator. Kubernetes waits 30 s after SIGTERM.
//! - A registry for several layers and clients shuts all of them down with one report
//!   ([`connections_in`](crate::WebSocketLayer::connections_in)). axum's extractor without settings uses
//!   [`default_settings`](crate::axum::default_settings).
//! - Tasks that a handler has spawned are not waited for. Keep them in a `JoinSet` of the handler, which aborts them.
//! - Over HTTP/2 the server itself waits for open streams: [limit that wait](super::http2#the-end-of-a-stream).
//! - `examples/graceful_shutdown.rs` is the shortest server. `examples/production.rs` has SIGTERM and a readiness check
//!   that fails from then on.
