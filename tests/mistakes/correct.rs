//! A correct program: it shows that the package itself compiles.

use tower_websocket::{Error, WebSocket, WebSocketLayer};

fn main() {
    let _ = WebSocketLayer::new(async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok::<_, Error>(())
    });
}
