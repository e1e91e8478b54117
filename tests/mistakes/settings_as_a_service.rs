//! Settings without a handler as the service of a route.
// error: E0277
// says: `NoHandler` does not implement `Handler`

use axum::Router;
use tower_websocket::axum::UpgradeSettings;

fn main() {
    let _: Router =
        Router::new().route_service("/ws", UpgradeSettings::without_handler().into_service());
}
