//! No mistake: what the other files are compiled with is sound.

use tower_websocket::{Error, WebSocket, WebSocketLayer};

fn main() {
    let _ = WebSocketLayer::new(async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok::<_, Error>(())
    });
}
