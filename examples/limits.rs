//! Limits on the number of connections, in total and per address, and on each connection.
//!
//! ```text
//! cargo run --example limits
//! websocat ws://127.0.0.1:3000/ws
//! curl http://127.0.0.1:3000/counts
//! ```
//!
//! A third connection from the same address is refused with 429. A message over 1,000 bytes ends its
//! connection with 1009. A client that sends no message in its first minute is closed with 1008. `/counts`
//! shows the counts.
//!
//! Behind a proxy every peer has the proxy's address. Then return the address from the proxy's header field,
//! which clients must not be able to set.

use std::{env, error::Error, net::SocketAddr, time::Duration};

use axum::{Router, extract::ConnectInfo, routing::get};
use tokio::net::TcpListener;
use tower_websocket::{Config, Connections, Echo, WebSocketLayer};

pub(crate) fn app() -> Router {
    // All other settings have safe defaults.
    let config = Config::new()
        .max_message_size(1000)
        .max_outbox(100, 64 * 1024)
        .keepalive(Duration::from_secs(30), Duration::from_secs(10))
        .first_message_timeout(Duration::from_secs(60))
        .max_lifetime(Duration::from_secs(24 * 60 * 60));
    let connections = Connections::new().max_connections(1000);
    let layer = WebSocketLayer::new(Echo::new())
        .path("/ws")
        .config(config)
        .connections_in(&connections)
        .max_per_peer(2, |request| {
            let peer = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
            Some(peer.ip())
        });
    Router::new()
        .route("/", get("a WebSocket echoes at /ws, within limits\n"))
        .route(
            "/counts",
            get(async move || format!("{:#?}\n", connections.counts())),
        )
        .layer(layer)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();
    let argument = env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let address = match argument.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => argument,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    // Without this, axum does not provide the peer's address, and every handshake is refused with 500.
    let app = app().into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await?;
    Ok(())
}
