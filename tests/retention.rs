//! How much memory an idle connection keeps of what it has done before.
//!
//! The allocator counts live bytes for the whole process. A test harness has threads of its own, so
//! there is none: the program is the test. The streams are in memory and allocate nothing once they
//! are made, and the clock is tokio's paused one, so that the figures are the same in every run.
//!
//! ```text
//! cargo test --all-features --test retention
//! ```

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "retention/client.rs"]
mod client;
#[cfg(feature = "deflate")]
#[path = "retention/compressed.rs"]
mod compressed;
#[path = "retention/histories.rs"]
mod histories;
#[path = "retention/server.rs"]
mod server;
mod support;

use std::{
    alloc::System,
    fmt::Display,
    slice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use client::Peer;
use histories::{ALONE, Act, HISTORIES, History};
#[cfg(feature = "deflate")]
use histories::{ALONE_COMPRESSED, COMPRESSED_HISTORIES};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stream::End;
use support::{pipe, stream, wire};
use tokio::{io::AsyncReadExt, task::JoinHandle, time::sleep};
use tower_websocket::{BoxError, Config, WebSocket, WebSocketLayer};
use wire::{handshake_with, upgrade};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Connections that are open at once.
const CONNECTIONS: usize = 50;
/// Rounds of them in which pools may fill.
const MOST_ROUNDS: usize = 32;
/// Pools may still take a few buffers.
const BUFFERS: isize = 128 * 1024;
/// The capacity of a stream in each direction: enough for two flushes of 60 KB in one poll.
const CAPACITY: usize = 128 * KIB;
/// The paused clock moves on only when there is nothing else to do.
const MOMENT: Duration = Duration::from_millis(1);

/// A way to serve a connection, and whether its stream writes several buffers at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Host {
    Handler {
        vectored: bool,
    },
    FromIo {
        vectored: bool,
    },
    #[cfg_attr(
        not(feature = "deflate"),
        expect(dead_code, reason = "nothing is compressed without the feature")
    )]
    Compressed {
        vectored: bool,
    },
}

impl Host {
    fn name(&self) -> &'static str {
        match self {
            Self::Handler { vectored: true } => "handler",
            Self::FromIo { vectored: true } => "from_io",
            Self::Compressed { vectored: true } => "deflate",
            _ => "(1 at once)",
        }
    }
}

const HOSTS: [Host; 4] = [
    Host::Handler { vectored: true },
    Host::Handler { vectored: false },
    Host::FromIo { vectored: true },
    Host::FromIo { vectored: false },
];

/// For histories of compressed messages.
#[cfg(feature = "deflate")]
const COMPRESSED: [Host; 2] = [
    Host::Compressed { vectored: true },
    Host::Compressed { vectored: false },
];

fn main() {
    println!("Bytes that an idle connection keeps, more than one that did nothing");
    let failed = compare(&HOSTS, &ALONE, HISTORIES);
    #[cfg(feature = "deflate")]
    let failed = [
        failed,
        compare(&COMPRESSED, &ALONE_COMPRESSED, COMPRESSED_HISTORIES),
    ]
    .concat();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Prints a table, and returns what is past its bound in it.
fn compare(hosts: &[Host], alone: &[History], mixed: &[History]) -> Vec<String> {
    let mut failed = Vec::new();
    print_row("", hosts.iter().map(Host::name));
    let mut base = vec![0; hosts.len()];
    for (row, history) in alone.iter().chain(mixed).enumerate() {
        let mut kept = Vec::new();
        for ((&host, base), &most) in hosts.iter().zip(&base).zip(history.most) {
            let held = on_a_thread(settled(host, slice::from_ref(history)));
            let idle = held.idle - base;
            kept.push(idle);
            let what = format!("{}, {host:?}", history.name);
            if idle > most {
                failed.push(format!("{what}: {idle} bytes, {most} at most"));
            }
            if held.left != 0 {
                failed.push(format!("{what}: {} bytes left when closed", held.left));
            }
        }
        print_row(history.name, &kept);
        if row == 0 {
            base = kept;
        }
    }
    let left: Vec<isize> = hosts
        .iter()
        .map(|&host| on_a_thread(left_by(host, mixed)))
        .collect();
    print_row(
        "left by the last 500 of 2,000 that did one of these and closed",
        &left,
    );
    if left.iter().any(|&left| left > BUFFERS) {
        failed.push(format!("2,000 connections: {left:?} bytes left"));
    }
    failed
}

fn print_row(name: &str, cells: impl IntoIterator<Item: Display>) {
    print!("{name:64}");
    for cell in cells {
        print!(" {cell:>9}");
    }
    println!();
}

struct Held {
    /// Bytes of an idle connection.
    idle: isize,
    /// Bytes of all of them when they are closed.
    left: isize,
}

/// Runs on a thread with buffers and a runtime of its own.
fn on_a_thread<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let run = move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(future)
    };
    thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// Measures connections again and again until they leave no more behind than they found: then the
/// pools of the thread and of the process have what they keep.
async fn settled(host: Host, histories: &[History]) -> Held {
    let mut held = round(host, histories).await;
    for _ in 0..MOST_ROUNDS {
        if held.left == 0 {
            break;
        }
        held = round(host, histories).await;
    }
    held
}

/// Returns the bytes that the second quarter of 2,000 connections leaves.
async fn left_by(host: Host, histories: &[History]) -> isize {
    let mut left = 0;
    for number in 0..2000 / CONNECTIONS {
        let held = round(host, histories).await;
        if number * CONNECTIONS >= 1500 {
            left += held.left;
        }
    }
    left
}

/// Measures connections from before they are opened until they are closed.
async fn round(host: Host, histories: &[History]) -> Held {
    let start = live();
    let streams = streams(host);
    let before = live();
    let peers = open(host, histories, streams).await;
    let idle = (live() - before) / CONNECTIONS as isize;
    close(peers).await;
    let left = live() - start;
    Held { idle, left }
}

fn live() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

fn streams(host: Host) -> Vec<(End, End)> {
    let (Host::Handler { vectored } | Host::FromIo { vectored } | Host::Compressed { vectored }) =
        host;
    let pairs = (0..CONNECTIONS).map(|_| stream::pair(CAPACITY, vectored));
    pairs.collect()
}

/// Opens connections, one on each stream, and waits until all of them are idle.
async fn open(host: Host, histories: &[History], streams: Vec<(End, End)>) -> Vec<Peer> {
    let acted = Arc::new(AtomicUsize::new(0));
    let histories = histories.iter().cycle();
    let drives: Vec<JoinHandle<Peer>> = streams
        .into_iter()
        .zip(histories)
        .map(|((server, client), history)| {
            let (act, drive) = (history.act, history.drive);
            let acted = Arc::clone(&acted);
            tokio::spawn(async move { drive(serve(host, server, client, act, acted).await).await })
        })
        .collect();
    let mut peers = Vec::with_capacity(CONNECTIONS);
    for drive in drives {
        peers.push(drive.await.unwrap());
    }
    sleep(MOMENT).await;
    assert_eq!(acted.load(Ordering::Relaxed), CONNECTIONS, "idle");
    peers
}

async fn serve(
    host: Host,
    server: End,
    mut client: End,
    act: Act,
    acted: Arc<AtomicUsize>,
) -> Peer {
    let handler = move |socket| handle(socket, act, Arc::clone(&acted));
    let mut offer = "";
    match host {
        Host::FromIo { .. } => {
            let socket = WebSocket::from_io(server, Config::new());
            tokio::spawn(handler(socket));
            return Peer(client);
        }
        Host::Handler { .. } => {
            pipe::serve_on(server, WebSocketLayer::new(handler).into_service());
        }
        Host::Compressed { .. } => {
            let layer = WebSocketLayer::new(handler);
            #[cfg(feature = "deflate")]
            let layer = layer.config(Config::new().deflate(tower_websocket::Deflate::new()));
            pipe::serve_on(server, layer.into_service());
            offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        }
    }
    upgrade(&mut client, &handshake_with("/", offer)).await;
    Peer(client)
}

async fn handle(socket: WebSocket, act: Act, acted: Arc<AtomicUsize>) -> Result<(), BoxError> {
    let mut socket = act(socket).await;
    acted.fetch_add(1, Ordering::Relaxed);
    while socket.recv().await?.is_some() {}
    Ok(())
}

/// Ends connections, half of them without a Close, and waits until nothing is left to be done.
async fn close(peers: Vec<Peer>) {
    for (number, mut peer) in peers.into_iter().enumerate() {
        if number % 2 == 0 {
            peer.write(&wire::close(1000, "")).await;
            assert_eq!(wire::read_close(&mut peer.0).await, Some(1000));
            assert_eq!(peer.0.read(&mut [0]).await.unwrap(), 0);
        }
    }
    sleep(Duration::from_secs(60)).await;
}
