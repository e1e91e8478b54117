//! WebSockets over a Unix socket, for programs on one machine.
//!
//! ```text
//! cargo run --features client --example client_unix -- /tmp/ws.sock --serve
//! cargo run --features client --example client_unix -- /tmp/ws.sock
//! ```
//!
//! The first command is the server. The second command is a client that sends `hello` and prints the answer.
//! The permissions of the socket file decide who may connect, so the server checks no token.

#[cfg(unix)]
use std::{env, fs, io, path::Path, process::ExitCode};

#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
#[cfg(unix)]
use tower_websocket::{
    CloseCode, Echo, Error, WebSocket, WebSocketLayer,
    client::{ConnectError, connect_with},
};

#[cfg(unix)]
#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{error}");
    ExitCode::FAILURE
}

#[cfg(unix)]
async fn run() -> Result<(), Error> {
    let mut arguments = env::args().skip(1);
    let path = arguments.next();
    let path = Path::new(path.as_deref().unwrap_or("/tmp/ws.sock"));
    if arguments.next().as_deref() == Some("--serve") {
        return Ok(serve(path).await?);
    }
    let mut socket = connect(path).await?;
    socket.send("hello").await?;
    if let Some(message) = socket.recv().await? {
        println!("{}", message.into_text()?);
    }
    socket.close(CloseCode::NORMAL, "").await?;
    Ok(())
}

/// Connects to the server that listens at `path`.
#[cfg(unix)]
pub(crate) async fn connect(path: &Path) -> Result<WebSocket, ConnectError> {
    let stream = UnixStream::connect(path).await.map_err(ConnectError::Io)?;
    // A URL needs a host, which is sent in `Host`. Any name works.
    let (socket, _response) = connect_with("ws://localhost/ws", stream).await?;
    Ok(socket)
}

/// Serves WebSockets at the socket file `path`.
#[cfg(unix)]
pub(crate) async fn serve(path: &Path) -> io::Result<()> {
    // Remove the socket file of a server that was killed.
    if path.exists() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    println!("listening on {}", path.display());
    let app = axum::Router::new().layer(WebSocketLayer::new(Echo::new()).path("/ws"));
    axum::serve(listener, app).await
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this system has no Unix sockets");
}
