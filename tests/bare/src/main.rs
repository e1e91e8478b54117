//! Answers `GET /` on a free port of 127.0.0.1. The first line of its output is the address.
//!
//! ```text
//! cargo run                        with only axum
//! cargo run --features websocket   with an echo at /ws
//! ```

use std::io::{self, Write};

use axum::{Router, routing::get};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> io::Result<()> {
    let app = Router::new().route("/", get(|| async { "hello over HTTP" }));
    #[cfg(feature = "websocket")]
    let app = app.layer({
        use tower_websocket::{Echo, WebSocketLayer};
        WebSocketLayer::new(Echo::new()).path("/ws")
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    axum::serve(listener, app).await
}
