//! An extractor as an argument of a layer's handler.
// error: E0277
// says: this is not a handler of WebSocket connections
// says: for axum's extractors `axum::Upgrade`

use axum::extract::Path;
use tower_websocket::{Error, WebSocket, WebSocketLayer};

async fn room(Path(room): Path<String>, mut socket: WebSocket) -> Result<(), Error> {
    socket.send(room).await?;
    Ok(())
}

fn main() {
    let _ = WebSocketLayer::new(room);
}
