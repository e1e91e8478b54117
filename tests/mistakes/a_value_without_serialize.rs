//! A value that serde cannot serialize, sent as JSON.
// error: E0277
// says: the trait bound `Move: serde::Serialize` is not satisfied

use tower_websocket::{Error, WebSocket, WebSocketLayer};

struct Move {
    _from: u8,
}

fn main() {
    let _ = WebSocketLayer::new(async |mut socket: WebSocket| {
        let wrong = Move { _from: 1 };
        socket.send_json(&wrong).await?;
        Ok::<_, Error>(())
    });
}
