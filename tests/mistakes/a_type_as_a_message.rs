//! A type that is neither text nor bytes, sent as a message.
// error: E0277
// says: `&Move` is not a message
// says: `send_json(&value)`

use tower_websocket::{Error, WebSocket, WebSocketLayer};

struct Move {
    _from: u8,
}

fn main() {
    let _ = WebSocketLayer::new(async |mut socket: WebSocket| {
        let wrong = Move { _from: 1 };
        socket.send(&wrong).await?;
        Ok::<_, Error>(())
    });
}
