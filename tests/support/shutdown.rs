//! Helpers for the tests of a shutdown.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use tokio::io::DuplexStream;
use tower_websocket::{Connections, Echo, WebSocketLayer};

use super::pipe;

/// A timeout that is longer than any shutdown here.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// A registry whose shutdown closes all connections at once.
pub(crate) fn at_once() -> Connections {
    Connections::new().shutdown_spread(Duration::ZERO)
}

/// An echo with such a registry.
pub(crate) fn echo() -> WebSocketLayer<Echo> {
    WebSocketLayer::new(Echo::new()).connections_in(&at_once())
}

/// Opens a connection of an [`echo`].
pub(crate) async fn open_echo() -> (WebSocketLayer<Echo>, Connections, DuplexStream) {
    let layer = echo();
    let client = pipe::open_at(&layer, "/").await;
    (layer.clone(), layer.connections(), client)
}

/// Shuts down, and returns the numbers of clean and of aborted connections.
pub(crate) async fn shutdown(connections: &Connections) -> (u64, u64) {
    let report = connections.shutdown(LIMIT).await;
    (report.clean, report.aborted)
}
