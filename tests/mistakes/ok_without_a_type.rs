//! An `Ok(())` whose error has no type.
// error: E0282
// says: type annotations needed
// says: Ok::<(), E>(())

use tower_websocket::{WebSocket, WebSocketLayer};

fn main() {
    let _ = WebSocketLayer::new(async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok(())
    });
}
