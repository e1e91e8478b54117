//! A socket that is cloned instead of a `Sender`.
// error: E0599
// says: no method named `clone` found for struct `WebSocket`

use tower_websocket::{Error, WebSocket, WebSocketLayer};

fn main() {
    let _ = WebSocketLayer::new(async |socket: WebSocket| {
        let mut other = socket.clone();
        other.send("Hello").await?;
        Ok::<_, Error>(())
    });
}
