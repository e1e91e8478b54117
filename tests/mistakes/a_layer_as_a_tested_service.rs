//! A layer in `testing::connect`, which drives services.
// error: this is not an HTTP service that a test can drive
// says: `.into_service()`

use tower_websocket::{Echo, WebSocketLayer, testing};

fn main() {
    let _ = testing::connect(WebSocketLayer::new(Echo::new()), "/");
}
