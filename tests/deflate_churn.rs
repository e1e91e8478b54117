//! The resident memory of compressed connections that are opened and closed repeatedly.
//!
//! glibc returns a freed compressor to the system only if the process has freed no block of that size
//! before. Later ones stay in its heap. So the crate reuses compressors, and the test measures the memory
//! that is left at the end in a process that has freed nothing else.
//!
//! ```text
//! cargo test --features deflate --test deflate_churn -- --nocapture
//! ```

#![cfg(feature = "deflate")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use flate2::{Compress, FlushCompress};
use memory::{Growth, KIB, MIB, measure, run};
use support::{memory, pipe, wire};
use tokio::{
    io::{DuplexStream, duplex},
    time::sleep,
};
use tower_websocket::{Config, Deflate, Echo, UpgradeRequired, WebSocketLayer, WebSocketService};
use wire::{BINARY, FIN, frame, handshake_with, read_frame, upgrade, write};

const RSV1: u8 = 0x40;

const CONNECTIONS: usize = 300;
const GENERATIONS: usize = 12;
/// The maximum growth after all connections have ended.
const LEFT: usize = 32 * MIB;

const PARTS: &[(&str, fn())] = &[
    ("half of 300 connections at once, window 12", || {
        churn(12, 150);
    }),
    ("half of 300 connections at once, window 15", || {
        churn(15, 150);
    }),
    ("half of 300 connections one by one, window 15", || {
        churn(15, 1);
    }),
];

#[test]
fn holds_no_more_after_many_connections_than_after_the_first() {
    measure(
        "holds_no_more_after_many_connections_than_after_the_first",
        PARTS,
    );
}

type Service = WebSocketService<UpgradeRequired, Echo>;

/// Messages of several lengths, made before anything is measured.
fn messages() -> Vec<Vec<u8>> {
    let text: String = (0..1000).map(|n| format!("message {n}, ")).collect();
    let mut compress = Compress::new(flate2::Compression::new(6), false);
    let lens = (0..8).map(|n| 2 * KIB + 512 * n);
    let messages = lens.map(|len| {
        let mut compressed = Vec::with_capacity(2 * len);
        let text = &text.as_bytes()[..len];
        compress.reset();
        compress
            .compress_vec(text, &mut compressed, FlushCompress::Sync)
            .unwrap();
        compressed.truncate(compressed.len() - 4);
        frame(FIN | RSV1 | BINARY, &compressed)
    });
    let messages = messages.collect();
    // glibc would keep what it frees of this size from now on, the server's compressors included.
    std::mem::forget(compress);
    messages
}

/// Opens a connection that keeps a compressor and a decompressor from its first message on.
async fn open(service: &Service, message: &[u8]) -> DuplexStream {
    let (server, mut client) = duplex(4 * KIB);
    pipe::serve_on(server, service.clone());
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    upgrade(&mut client, &handshake_with("/", offer)).await;
    write(&mut client, message).await;
    let echoed = read_frame(&mut client).await.unwrap();
    assert_ne!(echoed.first & RSV1, 0);
    client
}

/// Replaces half of the connections in each generation, `at_once` of them at the same time.
fn churn(window_bits: u8, at_once: usize) {
    run(async move {
        let deflate = Deflate::new()
            .send_window_bits(window_bits)
            .send_context_takeover()
            .receive_context_takeover();
        let service = WebSocketLayer::new(Echo::new())
            .config(Config::new().deflate(deflate))
            .into_service();
        let messages = messages();
        let mut messages = messages.iter().cycle();
        let mut growth = Growth::start();
        let mut clients = Vec::with_capacity(CONNECTIONS);
        while clients.len() < CONNECTIONS {
            clients.push(open(&service, messages.next().unwrap()).await);
        }
        sleep(Duration::from_secs(1)).await;
        let first = growth.sample();
        for generation in 0..GENERATIONS {
            let mut replaced = 0;
            while replaced < CONNECTIONS / 2 {
                for _ in 0..at_once {
                    // Another half each time, from all over the list.
                    drop(clients.remove((replaced * 7 + generation) % clients.len()));
                    replaced += 1;
                }
                sleep(Duration::from_secs(1)).await;
                while clients.len() < CONNECTIONS {
                    clients.push(open(&service, messages.next().unwrap()).await);
                }
            }
            println!("- {} KiB", growth.sample() / KIB);
        }
        println!(
            "- first generation: {} KiB a connection",
            first / KIB / CONNECTIONS
        );
        growth.assert_within(first + first / 10, "twelve generations later, in all");
        drop(clients);
        sleep(Duration::from_secs(60)).await;
        growth.most = 0;
        growth.sample();
        growth.assert_within(LEFT, "when all have gone");
    });
}
