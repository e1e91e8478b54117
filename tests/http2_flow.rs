//! Many sockets on one HTTP/2 connection: each makes progress, even if another one is blocked.
//!
//! tokio's paused clock advances only when no task can make progress. So if an exchange takes no time,
//! it has not waited for a timer.

#![cfg(feature = "http2")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use h2::client;
use http2::{Session, Tunnel, connect, serve};
use support::{http2, wire};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_websocket::{BoxError, Echo, Handler, WebSocket, WebSocketLayer};
use wire::{BINARY, FIN, close, frame, read_close, read_frame, write};

const SOCKETS: usize = 200;
const SECOND: Duration = Duration::from_secs(1);

/// Echoes, unless the request asks for something else.
#[derive(Clone)]
struct Mixed;

impl Handler for Mixed {
    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        if socket.request().header("x-push").is_some() {
            loop {
                socket.send(vec![1; 10_000]).await?;
            }
        }
        if socket.request().header("x-deaf").is_some() {
            // Receives nothing.
            socket.sender().closed().await;
            return Ok(());
        }
        Echo::new().handle(socket).await
    }
}

/// A client that has room for what it does not read, beside what it does.
async fn session() -> Session {
    let mut settings = client::Builder::new();
    settings.initial_connection_window_size(16 << 20);
    let service = WebSocketLayer::new(Mixed).into_service();
    Session::with(&settings, serve(service)).await
}

/// Has messages of many sizes echoed, and returns how long each took.
async fn echoes(tunnel: &mut Tunnel, number: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    for round in 0..20 {
        let payload = vec![u8::try_from(number).unwrap(); (number * 37 + round * 997) % 5_000];
        let start = Instant::now();
        write(tunnel, &frame(FIN | BINARY, &payload)).await;
        let echoed = read_frame(tunnel).await.unwrap();
        took.push(start.elapsed());
        assert!(echoed.payload == payload, "socket {number}, round {round}");
    }
    took
}

/// Opens the other sockets, has all of them echo at once, and returns the 99th percentile.
async fn others_echo(session: &Session) -> Duration {
    let mut echoing = JoinSet::new();
    for number in 1..SOCKETS {
        let mut tunnel = session.open().await;
        echoing.spawn(async move {
            let took = echoes(&mut tunnel, number).await;
            (took, tunnel)
        });
    }
    let (mut took, mut tunnels) = (Vec::new(), Vec::new());
    while let Some(echoed) = echoing.join_next().await {
        let (durations, tunnel) = echoed.unwrap();
        took.extend(durations);
        tunnels.push(tunnel);
    }
    for tunnel in &mut tunnels {
        write(tunnel, &close(1000, "")).await;
        assert_eq!(read_close(tunnel).await, Some(1000));
        tunnel.end();
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[tokio::test(start_paused = true)]
async fn echoes_on_200_sockets_at_once() {
    let session = session().await;
    let mut first = session.open().await;
    assert!(others_echo(&session).await < SECOND / 20);
    let _ = echoes(&mut first, 0).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_never_read_stops_no_other() {
    let session = session().await;
    let unread = session.ask(connect().header("x-push", "1")).await;
    sleep(SECOND).await;
    assert!(others_echo(&session).await < SECOND / 20);
    drop(unread);
}

/// The client fills the windows of these streams. With the settings of `http2::server`, the window of
/// the connection has room for all of them.
#[tokio::test(start_paused = true)]
async fn handlers_that_receive_nothing_stop_no_other() {
    let session = session().await;
    let mut deaf = Vec::new();
    for _ in 0..100 {
        let mut tunnel = session.ask(connect().header("x-deaf", "1")).await;
        write(&mut tunnel, &frame(FIN | BINARY, &[1; 10_000]).repeat(50)).await;
        deaf.push(tunnel);
    }
    sleep(SECOND).await;
    let mut echoing = session.open().await;
    for took in echoes(&mut echoing, 7).await {
        assert!(took < SECOND / 20, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_any_size_come_through_small_windows() {
    let session = Session::new(serve(WebSocketLayer::new(Echo::new()).into_service())).await;
    let mut tunnel = session.open().await;
    for len in [5, 0, 200, 20_000, 60_000, 65_536, 100_000, 1 << 20] {
        let payload: Vec<u8> = (0..len).map(|at: usize| at.to_le_bytes()[1]).collect();
        write(&mut tunnel, &frame(FIN | BINARY, &payload)).await;
        let echoed = read_frame(&mut tunnel).await.unwrap();
        assert!(echoed.payload == payload, "{len} bytes");
    }
}
