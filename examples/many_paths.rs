//! Two WebSocket handlers and plain routes on one server: a layer for each path.
//!
//! ```text
//! cargo run --example many_paths
//! curl http://127.0.0.1:3000/
//! websocat ws://127.0.0.1:3000/echo
//! websocat ws://127.0.0.1:3000/shout
//! ```

use std::env;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_websocket::{Echo, Error, WebSocket, WebSocketLayer};

pub(crate) fn app() -> Router {
    // A closure is a handler. An `async fn` with the same signature is one, too.
    let shout = WebSocketLayer::new(async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            socket.send(message.into_text()?.to_uppercase()).await?;
        }
        Ok::<_, Error>(())
    });

    // Each layer handles the requests for its own path and passes on all others.
    Router::new()
        .route("/", get("try /echo and /shout with a WebSocket\n"))
        .route("/health", get("ok\n"))
        .layer(WebSocketLayer::new(Echo::new()).path("/echo"))
        .layer(shout.path("/shout"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();
    let argument = env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let address = match argument.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => argument,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    axum::serve(listener, app()).await?;
    Ok(())
}
