//! A function for `on_upgrade` that returns something.
// error: E0277
// says: a connection cannot end in
// says: returns nothing, or `Result<(), E>`

use axum::response::Response;
use tower_websocket::axum::Upgrade;

async fn chat(upgrade: Upgrade) -> Response {
    upgrade.on_upgrade(async |_| String::from("bye"))
}

fn main() {
    let _ = chat;
}
