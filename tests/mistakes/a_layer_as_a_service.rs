//! A layer as the service of a route.
// error: E0277
// says: a `WebSocketLayer` goes around a service, and is not one
// says: layer.into_service()

use axum::Router;
use tower_websocket::{Echo, WebSocketLayer};

fn main() {
    let _: Router = Router::new().route_service("/ws", WebSocketLayer::new(Echo::new()));
}
