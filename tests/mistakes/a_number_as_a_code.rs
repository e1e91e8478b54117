//! A bare number as a close code.
// error: E0308
// says: expected `CloseCode`, found integer

use tower_websocket::{Error, WebSocket, WebSocketLayer};

fn main() {
    let _ = WebSocketLayer::new(async |socket: WebSocket| {
        socket.close(4001, "bye").await?;
        Ok::<_, Error>(())
    });
}
