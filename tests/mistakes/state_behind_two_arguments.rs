//! A closure for `with_state` that takes only a socket.
// error: E0593
// says: takes 1 argument

use tower_websocket::{Error, WebSocket, WebSocketLayer, with_state};

fn main() {
    let _ = WebSocketLayer::new(with_state("Hello", async |mut socket: WebSocket| {
        socket.send("Hello").await?;
        Ok::<_, Error>(())
    }));
}
