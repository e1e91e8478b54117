//! A type that does not implement `Handler`.
// error: E0277
// says: this is not a handler of WebSocket connections
// says: a type that implements `Handler`

use tower_websocket::WebSocketLayer;

struct Chat;

fn main() {
    let _ = WebSocketLayer::new(Chat);
}
