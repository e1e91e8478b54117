//! A layer in `Router::route` instead of `route_service`.
// error: E0308
// says: MethodRouter
// says: WebSocketLayer

use axum::Router;
use tower_websocket::{Echo, WebSocketLayer};

fn main() {
    let _: Router = Router::new().route("/ws", WebSocketLayer::new(Echo::new()));
}
