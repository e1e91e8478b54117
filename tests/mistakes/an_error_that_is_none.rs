//! A handler whose error type does not convert into `BoxError`.
// error: E0277
// says: From<u8>

use tower_websocket::{WebSocket, WebSocketLayer};

fn main() {
    let _ = WebSocketLayer::new(async |_: WebSocket| Err::<(), u8>(1));
}
