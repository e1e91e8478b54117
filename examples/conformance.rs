//! The server that test suites and load generators are pointed at.
//!
//! ```text
//! cargo run --release --example conformance
//! cargo run --release --example conformance 9001 --max-message 1048576
//! websocat ws://127.0.0.1:3000/any/path
//! ```
//!
//! A WebSocket on every path, every message echoed unchanged, subprotocol `chat` when offered, any
//! origin, messages up to 64 MiB unless told otherwise, in up to 1,048,576 fragments; a plain `GET`
//! on any path answers 200. With `--features deflate` every message is compressed as the client
//! wishes, context takeover included. `tests/autobahn/run` runs the Autobahn test suite against it.

use std::{env, error::Error, net::SocketAddr};

use axum::Router;
use tokio::net::{TcpListener, TcpSocket};
use tower_websocket::{Config, Echo, OriginPolicy, WebSocketLayer};

const USAGE: &str = "usage: conformance [PORT | ADDRESS:PORT] [--max-message BYTES]";

/// 64 MiB in pieces of 64 bytes: suites send messages in smaller fragments than clients do.
const MAX_FRAGMENTS: u32 = 1 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (address, max_message) = arguments(env::args().skip(1))?;

    let config = Config::new()
        .max_message_size(max_message)
        .max_fragments(MAX_FRAGMENTS, 16);
    #[cfg(feature = "deflate")]
    let config = config.deflate(
        tower_websocket::Deflate::new()
            .min_size(0)
            .send_window_bits(15)
            .send_context_takeover()
            .receive_context_takeover(),
    );
    let websocket = WebSocketLayer::new(Echo::new())
        .subprotocol("chat")
        .origin(OriginPolicy::insecure_any())
        .config(config);
    let app = Router::new()
        .fallback(async || "a WebSocket echoes here\n")
        .layer(websocket);

    let listener = listen(address)?;
    println!("listening on http://{}/", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// Where to listen, and the largest message in bytes.
fn arguments(
    mut arguments: impl Iterator<Item = String>,
) -> Result<(SocketAddr, usize), Box<dyn Error>> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 3000));
    let mut max_message = 64 << 20;
    while let Some(argument) = arguments.next() {
        if argument == "--max-message" {
            max_message = arguments.next().ok_or(USAGE)?.parse()?;
        } else if let Ok(port) = argument.parse() {
            address.set_port(port);
        } else {
            address = argument.parse().map_err(|_| USAGE)?;
        }
    }
    Ok((address, max_message))
}

/// Listens with room for thousands of clients that connect in the same instant: tokio's default
/// of 128 would leave most of them to the kernel's retries, seconds apart.
fn listen(address: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(4096)?)
}
