//! A service instead of a layer.
// error: E0277
// says: WebSocketService<UpgradeRequired>: tower_layer::Layer<Route>

use axum::Router;
use tower_websocket::{Echo, WebSocketService};

fn main() {
    let _: Router = Router::new().layer(WebSocketService::new(Echo::new()));
}
