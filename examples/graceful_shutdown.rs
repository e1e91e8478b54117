//! A graceful shutdown on Ctrl-C: clients get all messages that were sent before, and a Close with 1001.
//!
//! ```text
//! cargo run --example graceful_shutdown
//! websocat ws://127.0.0.1:3000/ws
//! ```
//!
//! Then press Ctrl-C in the terminal of the server. New connections are now refused with 503. Each open
//! connection is closed at a random moment within one second, so that not all clients reconnect at once.
//! The server ends when the last connection is closed, after 30 s at most:
//!
//! ```text
//! shutting down
//! 1 closed, 0 aborted
//! ```

use std::{env, error::Error, time::Duration};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, signal};
use tower_websocket::{Connections, Echo, WebSocketLayer};

/// Returns the application, and the registry of its connections.
pub(crate) fn app() -> (Router, Connections) {
    let layer = WebSocketLayer::new(Echo::new()).path("/ws");
    let connections = layer.connections();
    let app = Router::new()
        .route("/", get("a WebSocket echoes at /ws until Ctrl-C\n"))
        .layer(layer);
    (app, connections)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();
    let (app, connections) = app();
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
    // Returns when all plain requests are answered. It does not wait for upgraded connections.
    axum::serve(listener, app)
        .with_graceful_shutdown(interrupted)
        .await?;
    let report = connections.shutdown(Duration::from_secs(30)).await;
    println!("{} closed, {} aborted", report.clean, report.aborted);
    Ok(())
}
