//! The memory of an idle connection that a function of axum serves, compared with one that a layer serves.
//!
//! The allocator counts for the whole process, so this file has one test.
//!
//! ```text
//! cargo test --all-features --test axum_memory -- --nocapture
//! ```
#![cfg(feature = "axum")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{alloc::System, time::Duration};

use axum::{Extension, Router, response::Response, routing::any};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use pipe::until_open;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{pipe, wire};
use tokio::io::duplex;
use tower_websocket::{
    Connections, Error, WebSocket, WebSocketLayer,
    axum::{Upgrade, UpgradeSettings},
};
use wire::{handshake, read_head, write};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONNECTIONS: usize = 50;

async fn usual(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

async fn function(upgrade: Upgrade) -> Response {
    upgrade.on_upgrade(usual)
}

fn live() -> i64 {
    let stats = ALLOCATOR.stats();
    let [allocated, deallocated] =
        [stats.bytes_allocated, stats.bytes_deallocated].map(|bytes| i64::try_from(bytes).unwrap());
    allocated - deallocated
}

/// Returns the bytes that one of 50 connections holds on average, including both ends of its pipe.
async fn held(app: Router, connections: &Connections) -> i64 {
    let open = async || {
        let (near, mut client) = duplex(4096);
        let service = TowerToHyperService::new(app.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(near), service);
        tokio::spawn(async { drop(connection.with_upgrades().await) });
        write(&mut client, handshake("/ws").as_bytes()).await;
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 101"));
        client
    };
    // Warm up: the first connections of a thread allocate more.
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        clients.push(open().await);
    }
    clients.clear();
    until_open(connections, 0).await;
    let before = live();
    for _ in 0..CONNECTIONS {
        clients.push(open().await);
    }
    until_open(connections, CONNECTIONS).await;
    // Lets the tasks take over their connections.
    tokio::time::sleep(Duration::from_secs(1)).await;
    (live() - before) / i64::try_from(CONNECTIONS).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_function_holds_as_much_as_a_layers_handler() {
    let layer = WebSocketLayer::new(usual).without_request();
    let connections = layer.connections();
    let of_layer = held(
        Router::new().route_service("/ws", layer.into_service()),
        &connections,
    )
    .await;

    let settings = UpgradeSettings::without_handler().without_request();
    let connections = settings.connections();
    let app = Router::new().route("/ws", any(function));
    let of_function = held(app.layer(Extension(settings)), &connections).await;
    println!("a layer's handler: {of_layer} bytes, a function of axum: {of_function} bytes");
    assert!(
        of_function <= of_layer + 64,
        "{of_function}, not {of_layer}"
    );
    assert!(of_function < 4096, "{of_function} bytes");
}
