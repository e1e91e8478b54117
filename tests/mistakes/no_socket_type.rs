//! A closure whose argument has no type.
// error: E0282
// says: type annotations needed

use tower_websocket::{Error, WebSocketLayer};

fn main() {
    let _ = WebSocketLayer::new(async |mut socket| {
        socket.send("Hello").await?;
        Ok::<_, Error>(())
    });
}
