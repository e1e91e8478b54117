//! Ctrl-C that cuts nobody off: clients are told with 1001, and get all that was sent before.
//!
//! ```text
//! cargo run --example graceful_shutdown
//! websocat ws://127.0.0.1:3000/ws
//! ```
//!
//! Then press Ctrl-C where the server runs. From that moment on new connections are refused with
//! 503, each open one is closed within a second, at a random moment, so that not all clients come
//! back at once, and the server ends when the last one is gone, after 30 s at most:
//!
//! ```text
//! shutting down
//! 1 closed, 0 aborted
//! ```

use std::{env, error::Error, time::Duration};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, signal};
use tower_websocket::{Echo, WebSocketLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();
    let layer = WebSocketLayer::new(Echo::new()).path("/ws");
    let connections = layer.connections();
    let app = Router::new()
        .route("/", get("a WebSocket echoes at /ws until Ctrl-C\n"))
        .layer(layer);

    let argument = env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let address = match argument.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => argument,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);

    let closing = connections.clone();
    let interrupted = async move {
        if signal::ctrl_c().await.is_ok() {
            println!("shutting down");
            closing.close();
        }
    };
    // Returns when plain requests are answered; connections that were upgraded are ours to wait for.
    axum::serve(listener, app)
        .with_graceful_shutdown(interrupted)
        .await?;
    let report = connections.shutdown(Duration::from_secs(30)).await;
    println!("{} closed, {} aborted", report.clean, report.aborted);
    Ok(())
}
