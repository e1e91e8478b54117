//! A closure that returns nothing.
// error: E0277
// says: this is not a handler of WebSocket connections
// says: ends in `Ok::<_, tower_websocket::Error>(())`

use tower_websocket::{WebSocket, WebSocketLayer};

fn main() {
    let _ = WebSocketLayer::new(async |mut socket: WebSocket| {
        while let Ok(Some(message)) = socket.recv().await {
            let _ = socket.send(message).await;
        }
    });
}
