//! An async closure that captures state, which `with_state` should pass. The compiler shows its own message here.
// error: async closure does not implement `Fn` because it captures state
// says: IntoHandler

use std::sync::Arc;

use tower_websocket::{Error, WebSocket, WebSocketLayer};

fn main() {
    let greeting = Arc::new(String::from("Hello"));
    let _ = WebSocketLayer::new(async move |mut socket: WebSocket| {
        socket.send(greeting.as_str()).await?;
        Ok::<_, Error>(())
    });
}
