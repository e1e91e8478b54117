//! The echo server, which runs in a separate process.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Stdio},
};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_websocket::{BoxError, Config, Deflate, WebSocket, WebSocketLayer};
use tower_websocket_benches::cores::Cores;

use crate::{KIB, MIB};

/// Serves an echo at `/plain`, and with compression at `/alone` and, with context takeover, `/takeover`.
pub(crate) async fn serve() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let route = |deflate: Deflate| {
        let config = Config::new()
            .deflate(deflate.min_size(512))
            .max_message_size(64 * MIB);
        let layer = WebSocketLayer::new(echo).config(config);
        Router::new().route("/", get(async || "plain")).layer(layer)
    };
    let takeover = Deflate::new()
        .send_context_takeover()
        .receive_context_takeover();
    let plain = WebSocketLayer::new(echo);
    let app = Router::new()
        .nest_service("/plain", Router::new().layer(plain))
        .nest_service("/alone", route(Deflate::new()))
        .nest_service("/takeover", route(takeover));
    Ok(axum::serve(listener, app).await?)
}

async fn echo(mut socket: WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// A server in a separate process, which is killed when this value is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(cores: &Cores, program: &str) -> Result<Self, BoxError> {
        let mut child = cores
            .pinned_for_server(program)
            .arg("serve")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("the server has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse()?;
        Ok(Self { child, address })
    }

    /// Returns the CPU time of the process so far, in microseconds.
    pub(crate) fn cpu_time(&self) -> Result<f64, BoxError> {
        let account = fs::read_to_string(format!("/proc/{}/schedstat", self.child.id()))?;
        let nanoseconds = account.split(' ').next().ok_or("schedstat is empty")?;
        Ok(nanoseconds.parse::<f64>()? / 1e3)
    }

    /// Returns the resident memory of the process, in bytes.
    pub(crate) fn resident(&self) -> Result<usize, BoxError> {
        let sizes = fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages = sizes.split(' ').nth(1).ok_or("no size in statm")?;
        Ok(pages.parse::<usize>()? * 4 * KIB)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
