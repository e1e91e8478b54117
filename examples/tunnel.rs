//! A tunnel: carries TCP connections over WebSockets, through proxies and firewalls that pass only HTTP.
//!
//! ```text
//! cargo run --features client --example tunnel serve 0.0.0.0:3000 --to 127.0.0.1:22
//! cargo run --features client --example tunnel connect ws://127.0.0.1:3000 --listen 127.0.0.1:2222
//! ssh -p 2222 127.0.0.1
//! ```
//!
//! The first command runs where the TCP server can be reached, the second one where its clients are. Each TCP
//! connection gets a WebSocket of its own. If the TCP server cannot be reached, the handshake is refused with 502.
//!
//! A WebSocket has no half-close. So the end of one direction ends both, after all bytes of that direction: `ssh`
//! and HTTP work, `nc -N` does not get an answer that comes after the end of its input.
//!
//! Everyone who can connect to the server reaches the TCP server. `examples/handler` shows how to check a token.

use std::{env, future::Future, io, time::Duration};

use axum::Router;
use http::{StatusCode, request::Parts};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
};
use tower_websocket::{
    Accept, BoxError, Config, Refusal, WebSocket, WebSocketLayer,
    client::{Handshake, connect},
    decide,
};

/// The most bytes of a message.
const MESSAGE: usize = 64 * 1024;

/// Returns the settings of both sides.
///
/// A program may pause for an hour, such as a terminal after Ctrl-S, also before it reads the last bytes. The price:
/// a peer that vanishes without a sign is found after an hour only. The pings keep proxies from closing an idle
/// connection.
pub(crate) const fn config() -> Config {
    let pause = Duration::from_secs(60 * 60);
    Config::new()
        .receive_timeout(pause)
        .write_timeout(pause)
        .close_timeout(pause)
        .handler_grace(pause)
        .keepalive(Duration::from_secs(20), pause)
}

/// Copies bytes in both directions, until both have ended.
pub(crate) async fn join<T>(socket: WebSocket, mut tcp: T) -> Result<(), BoxError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = socket.into_io();
    copy_bidirectional_with_sizes(&mut socket, &mut tcp, MESSAGE, MESSAGE).await?;
    Ok(())
}

/// Returns the server's side. `dial` connects to the TCP server, or to that of a test.
pub(crate) fn app<D, F, T>(dial: D) -> Router
where
    D: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tunnel = decide(
        move |_: &mut Parts| {
            let dialled = dial();
            async move {
                let tcp = dialled.await.map_err(|error| {
                    eprintln!("no connection to the TCP server: {error}");
                    Refusal::new(StatusCode::BAD_GATEWAY)
                })?;
                Ok((Accept::new(), tcp))
            }
        },
        join,
    );
    let layer = WebSocketLayer::new(tunnel).config(config());
    Router::new().fallback_service(layer.into_service())
}

async fn serve(address: &str, to: &str) -> Result<(), BoxError> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    let to = to.to_owned();
    let dial = move || {
        let to = to.clone();
        async move {
            let tcp = TcpStream::connect(to).await?;
            tcp.set_nodelay(true)?;
            Ok(tcp)
        }
    };
    axum::serve(listener, app(dial)).await?;
    Ok(())
}

async fn listen(url: &str, address: &str) -> Result<(), BoxError> {
    let handshake = Handshake::new(url)?.config(config());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (tcp, peer) = listener.accept().await?;
        let handshake = handshake.clone();
        tokio::spawn(async move {
            if let Err(error) = forward(tcp, handshake).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn forward(tcp: TcpStream, handshake: Handshake) -> Result<(), BoxError> {
    tcp.set_nodelay(true)?;
    let (socket, _response) = connect(handshake).await?;
    join(socket, tcp).await
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt::init();
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", address, "--to", to] => serve(address, to).await,
        ["connect", url, "--listen", address] => listen(url, address).await,
        _ => {
            Err("usage: tunnel serve ADDRESS --to HOST:PORT | connect URL --listen ADDRESS".into())
        }
    }
}
