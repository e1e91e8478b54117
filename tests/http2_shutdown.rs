//! Servers that wait for their HTTP/2 connections end when the sockets on them are closed.

#![cfg(feature = "http2")]

mod support;

use std::{future::pending, sync::Arc, time::Duration};

use axum::Router;
use h2::{Reason, client};
use http2::{Session, Tunnel, connect};
use hyper_util::{
    rt::TokioIo,
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use support::{http2, tcp, wire};
use tokio::{
    io::{DuplexStream, duplex},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};
use tower_websocket::{
    BoxError, Connections, Echo, Handler, Http2Executor, WebSocket, WebSocketLayer,
};
use wire::{close, read_close, read_frame, write};

/// Far more than anything may take.
const GUARD: Duration = Duration::from_secs(30);

/// Closes without delay.
fn at_once() -> Connections {
    Connections::new().shutdown_spread(Duration::ZERO)
}

/// Reads the Close, answers it and ends its half, as clients do.
async fn is_told(tunnel: &mut Tunnel) {
    assert_eq!(read_close(tunnel).await, Some(1001));
    write(tunnel, &close(1001, "")).await;
    tunnel.end();
    assert!(read_frame(tunnel).await.is_none());
}

#[tokio::test]
async fn axum_serve_ends_when_the_sockets_are_closed() {
    let layer = WebSocketLayer::new(Echo::new())
        .path("/ws")
        .connections_in(&at_once());
    let connections = layer.connections();
    let app = Router::new().layer(layer);
    let (listener, address) = tcp::listen().await;

    let interrupted = Arc::new(Notify::new());
    let signal = {
        let (interrupted, closing) = (Arc::clone(&interrupted), connections.clone());
        async move {
            interrupted.notified().await;
            closing.close();
        }
    };
    let server = axum::serve(listener, app).with_graceful_shutdown(signal);
    let mut server = tokio::spawn(server.into_future());

    let session = Session::new(TcpStream::connect(address).await.unwrap()).await;
    let mut tunnels = [session.open().await, session.open().await];
    for tunnel in &mut tunnels {
        tunnel.echoes("hello").await;
    }
    interrupted.notify_one();
    for tunnel in &mut tunnels {
        timeout(GUARD, is_told(tunnel)).await.unwrap();
    }
    drop(session);
    timeout(GUARD, &mut server).await.unwrap().unwrap().unwrap();
    let report = connections.shutdown(GUARD).await;
    assert_eq!((report.clean, report.aborted), (2, 0));
}

/// Serves one connection, and returns hyper-util's shutdown, which waits for the end of the connection.
fn serve<H: Handler>(
    layer: WebSocketLayer<H>,
) -> (
    GracefulShutdown,
    JoinHandle<Result<(), BoxError>>,
    DuplexStream,
) {
    let graceful = GracefulShutdown::new();
    let (near, far) = duplex(1 << 16);
    let mut builder = auto::Builder::new(Http2Executor::new());
    builder.http2().enable_connect_protocol();
    let service = TowerToHyperService::new(layer.into_service());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(near), service);
    let served = tokio::spawn(graceful.watch(connection.into_owned()));
    (graceful, served, far)
}

#[tokio::test]
async fn hyper_util_ends_when_the_sockets_are_closed() {
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&at_once());
    let connections = layer.connections();
    let (graceful, served, far) = serve(layer);

    let session = Session::new(far).await;
    let mut tunnel = session.open().await;
    tunnel.echoes("hello").await;
    let shutdown = tokio::spawn(graceful.shutdown());
    // Nothing ends before the sockets do.
    tunnel.echoes("hello").await;
    assert!(!shutdown.is_finished());
    connections.close();
    timeout(GUARD, is_told(&mut tunnel)).await.unwrap();
    timeout(GUARD, shutdown).await.unwrap().unwrap();
    timeout(GUARD, served).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_nothing_is_not_waited_for_longer_than_the_closing_takes() {
    let handler = async |socket: WebSocket| {
        // Nor is a handler that does not look at its socket.
        let _socket = socket;
        pending::<()>().await;
        Ok::<_, BoxError>(())
    };
    let layer = WebSocketLayer::new(handler).connections_in(&at_once());
    let connections = layer.connections();
    let (graceful, served, far) = serve(layer);
    let session = Session::new(far).await;
    let _tunnel = session.open().await;

    let shutdown = tokio::spawn(graceful.shutdown());
    connections.close();
    // The default of `close_timeout`, in which the client sends no Close.
    let limit = Duration::from_secs(6);
    timeout(limit, shutdown).await.unwrap().unwrap();
    timeout(limit, served).await.unwrap().unwrap().unwrap();
    assert_eq!(connections.counts().lingering(), 1);
    let report = connections.shutdown(limit).await;
    assert_eq!((report.clean, report.aborted), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_not_waited_for_longer_than_the_closing_takes() {
    let push = |mut socket: WebSocket| async move {
        while socket.send(vec![1; 100_000]).await.is_ok() {}
        Ok::<_, BoxError>(())
    };
    let layer = WebSocketLayer::new(push).connections_in(&at_once());
    let connections = layer.connections();
    let (graceful, served, far) = serve(layer);
    let mut settings = client::Builder::new();
    settings.initial_window_size(0);
    let session = Session::with(&settings, far).await;
    let mut stalled = session.ask(connect()).await;

    let shutdown = tokio::spawn(graceful.shutdown());
    connections.close();
    // The default of `write_timeout`; without our executor hyper would wait for the client.
    let limit = Duration::from_secs(11);
    timeout(limit, shutdown).await.unwrap().unwrap();
    timeout(limit, served).await.unwrap().unwrap().unwrap();
    assert_eq!(stalled.was_reset().await, Reason::CANCEL);
    assert_eq!(connections.counts().open(), 0);
}
