//! An `Ok(())` whose error has no type.
// error: E0282
// says: type annotations needed
// says: Ok::<(), E>(())

use tower_websocket::{WebSocket, WebSocketLayer};

fn main() {
    let _ = WebSocketLayer::new(async |mut socket: WebSocket| {
        socket.send("Hello").await?;
        Ok(())
    });
}
