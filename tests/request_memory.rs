//! The memory that an idle connection keeps of its opening handshake, in bytes of live allocations.
//!
//! The allocator counts for the whole process, so this file has one test. The handler is a usual
//! one, the request that of a browser, and the streams are pipes in memory.
//!
//! ```text
//! cargo test --test request_memory -- --nocapture
//! ```

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::alloc::System;

use pipe::{serve, until_open};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{pipe, wire};
use tower_websocket::{Error, Handler, WebSocket, WebSocketLayer};
use wire::{read_head, write};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONNECTIONS: usize = 50;

/// A request of Chromium with a session cookie.
const REQUEST: &str = "GET /rooms/blue?since=17 HTTP/1.1\r\n\
    Host: example.com\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/140.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: http://example.com\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

async fn usual(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

fn live() -> i64 {
    let stats = ALLOCATOR.stats();
    let [allocated, deallocated] =
        [stats.bytes_allocated, stats.bytes_deallocated].map(|bytes| i64::try_from(bytes).unwrap());
    allocated - deallocated
}

/// Returns what each of 50 connections holds, the two ends of its pipe included.
async fn held(layer: WebSocketLayer<impl Handler>) -> i64 {
    let connections = layer.connections();
    let service = layer.into_service();
    let open = async || {
        let mut client = serve(service.clone(), 4096);
        write(&mut client, REQUEST.as_bytes()).await;
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 101"));
        client
    };
    // Warm up: the first connections of a thread allocate more.
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        clients.push(open().await);
    }
    clients.clear();
    until_open(&connections, 0).await;
    let before = live();
    for _ in 0..CONNECTIONS {
        clients.push(open().await);
    }
    until_open(&connections, CONNECTIONS).await;
    // Until the tasks have taken their connections over.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    (live() - before) / i64::try_from(CONNECTIONS).unwrap()
}

#[tokio::test(start_paused = true)]
async fn keeps_the_request_in_one_compact_allocation() {
    let usual_holds = held(WebSocketLayer::new(usual)).await;
    let without_holds = held(WebSocketLayer::new(usual).without_request()).await;
    println!("a usual handler: {usual_holds} bytes, without the request: {without_holds} bytes");
    let request = usual_holds - without_holds;
    let len = i64::try_from(REQUEST.len()).unwrap();
    assert!(request <= len, "{request} bytes for a request of {len}");
    // With a `HeaderMap` it was 6.1 KB.
    assert!(usual_holds < 4096, "{usual_holds} bytes");
}
