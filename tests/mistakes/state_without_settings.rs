//! `FromState` with a state that has no settings.
// error: E0308
// says: expected `WebSocketLayer<NoHandler>`, found `App`

use axum::{Router, response::Response, routing::any};
use tower_websocket::axum::{FromState, Upgrade};

#[derive(Clone)]
struct App;

async fn chat(upgrade: Upgrade<FromState>) -> Response {
    upgrade.on_upgrade(async |_| {})
}

fn main() {
    let _: Router = Router::new().route("/ws", any(chat)).with_state(App);
}
