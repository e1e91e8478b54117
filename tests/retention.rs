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

mod support;

use std::{
    alloc::System,
    fmt::Display,
    iter, slice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt, future::BoxFuture};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stream::End;
use support::{pipe, stream, wire};
use tokio::{
    io::AsyncReadExt,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower_websocket::{
    BoxError, Config, Message, Sender, WebSocket, WebSocketLayer, error::TrySendError,
};
use wire::{BINARY, CONTINUATION, FIN, PING, PONG, handshake_with, header, read_frame, upgrade};

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

/// What the server's side of a connection does before it only receives.
type Act = fn(WebSocket) -> BoxFuture<'static, WebSocket>;
/// What the client's side does until then.
type Drive = fn(Peer) -> BoxFuture<'static, Peer>;

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

#[derive(Clone, Copy)]
struct History {
    name: &'static str,
    act: Act,
    drive: Drive,
    /// How many bytes more than a connection that did nothing each of the hosts may keep.
    most: &'static [isize],
}

/// Measured alone: the first is what the others are compared with, and when the second takes place is
/// random.
const ALONE: [History; 2] = [
    History {
        name: "nothing",
        act: |socket| async { socket }.boxed(),
        drive: |peer| async { peer }.boxed(),
        most: &[4096, 4096, 2400, 2400],
    },
    History {
        name: "a ping of the keepalive answered",
        act: |socket| async { socket }.boxed(),
        drive: |peer| answers(peer).boxed(),
        most: &[16, 16, 16, 16],
    },
];

#[cfg(feature = "deflate")]
const ALONE_COMPRESSED: [History; 1] = [History {
    most: &[4096, 4096],
    ..ALONE[0]
}];

const HISTORIES: &[History] = &[
    History {
        name: "64 x 32 B by `send`",
        act: |socket| sends(socket, 64, 32).boxed(),
        drive: |peer| drains(peer, 64 * 34).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "60 x 1,000 B by `send`",
        act: |socket| sends(socket, 60, 1000).boxed(),
        drive: |peer| drains(peer, 60 * 1004).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "1,000 x 2,000 B by `send`",
        act: |socket| sends(socket, 1000, 2000).boxed(),
        drive: |peer| drains(peer, 1000 * 2004).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "1 MiB by `send`",
        act: |socket| sends(socket, 1, MIB).boxed(),
        drive: |peer| drains(peer, MIB + 10).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "1,000 x 2,000 B by `send`, read in two halves",
        act: |socket| sends(socket, 1000, 2000).boxed(),
        drive: |peer| drains_in_halves(peer, 1000 * 2004).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "60 x 1,000 B fed to a `Sink`",
        act: |socket| flushes(socket, 0, 60).boxed(),
        drive: |peer| drains(peer, 60 * 1004).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "60 x 1,000 B fed to a `Sink`, a flush, 5 B sent",
        act: |socket| flushes(socket, 1, 60).boxed(),
        drive: |peer| drains(peer, 60 * 1004 + 7).boxed(),
        most: &[96, 96, 80, 64],
    },
    History {
        name: "2 flushes in one poll, 10 KB each, 5 B sent",
        act: |socket| flushes(socket, 2, 10).boxed(),
        drive: |peer| drains(peer, 2 * 10 * 1004 + 7).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "2 flushes in one poll, 60 KB each, 5 B sent",
        act: |socket| flushes(socket, 2, 60).boxed(),
        drive: |peer| drains(peer, 2 * 60 * 1004 + 7).boxed(),
        most: &[64, 64, 80, 64],
    },
    History {
        name: "64 x 32 B by a `Sender` in another task",
        act: |socket| sends_elsewhere(socket, 1, 64, 32).boxed(),
        drive: |peer| drains(peer, 64 * 34).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "1,000 x 2,000 B by a `Sender` in another task",
        act: |socket| sends_elsewhere(socket, 1, 1000, 2000).boxed(),
        drive: |peer| drains(peer, 1000 * 2004).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "64 KiB by a `Sender` in each of 20 tasks",
        act: |socket| sends_elsewhere(socket, 20, 1, 64 * KIB).boxed(),
        drive: |peer| drains_late(peer, 20 * (64 * KIB + 10)).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "an outbox full of 32 B drained",
        act: |socket| fills(socket, 32).boxed(),
        drive: |peer| drains_late(peer, 1024 * 34).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "an outbox full of 2,000 B drained",
        act: |socket| fills(socket, 2000).boxed(),
        drive: |peer| drains_late(peer, 523 * 2004).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "an outbox full of 8 KiB drained",
        act: |socket| fills(socket, 8 * KIB).boxed(),
        drive: |peer| drains_late(peer, 127 * 8196).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "an outbox full of 1,000 B drained, 10 `send` cancelled",
        act: |socket| cancels(socket).boxed(),
        drive: |peer| drains_late(peer, 1024 * 1004).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "100 `recv` cancelled",
        act: |socket| receives_in_vain(socket).boxed(),
        drive: |peer| sleep(200 * MOMENT).map(|()| peer).boxed(),
        most: &[0, 0, 0, 0],
    },
    History {
        name: "32 B echoed",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| asks(peer, 1, 32).boxed(),
        most: &[112, 112, 112, 112],
    },
    History {
        name: "64 x 32 B echoed",
        act: |socket| echoes(socket, 64).boxed(),
        drive: |peer| asks(peer, 64, 32).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "64 x 1,000 B echoed",
        act: |socket| echoes(socket, 64).boxed(),
        drive: |peer| asks(peer, 64, 1000).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "64 x 1,000 B echoed, received late",
        act: |socket| echoes_late(socket, 64).boxed(),
        drive: |peer| asks(peer, 64, 1000).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "12 x 10 KB echoed by split halves",
        act: |socket| echoes_in_halves(socket, 12).boxed(),
        drive: |peer| asks(peer, 12, 10_000).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "1 MiB echoed",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| asks(peer, 1, MIB).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "1 MiB echoed, in 64 frames",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| asks_in_pieces(peer, MIB).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "256 KiB echoed, in 64 frames that come in halves, pings between",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| asks_in_halves(peer, 256 * KIB).boxed(),
        most: &[96, 96, 96, 96],
    },
    History {
        name: "150 pings of 125 B",
        act: |socket| async { socket }.boxed(),
        drive: |peer| pings(peer, 150).boxed(),
        most: &[0, 0, 0, 0],
    },
    History {
        name: "150 pings of 125 B, one at a time",
        act: |socket| async { socket }.boxed(),
        drive: |peer| pings(peer, 1).boxed(),
        most: &[16, 16, 16, 16],
    },
];

#[cfg(feature = "deflate")]
const COMPRESSED_HISTORIES: &[History] = &[
    History {
        name: "4 x 10 KB compressed by `send`",
        act: |socket| sends(socket, 4, 10_000).boxed(),
        drive: |peer| compressed::drains_some(peer).boxed(),
        most: &[64, 64],
    },
    History {
        name: "64 KiB compressed echoed",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| compressed::asks(peer, 1).boxed(),
        most: &[64, 64],
    },
    History {
        name: "64 KiB compressed echoed, in 16 frames",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| compressed::asks(peer, 16).boxed(),
        most: &[64, 64],
    },
    History {
        name: "16 KiB of noise echoed",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| compressed::makes_noise(peer).boxed(),
        most: &[64, 64],
    },
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

// ---------------------------------------------------------------------------------------------
// Measuring.

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

// ---------------------------------------------------------------------------------------------
// The server's side.

fn message(len: usize) -> Message {
    Message::binary(vec![7; len])
}

async fn sends(mut socket: WebSocket, count: usize, len: usize) -> WebSocket {
    for _ in 0..count {
        socket.send(message(len)).await.unwrap();
    }
    socket
}

/// Feeds `count` messages of 1,000 bytes before each flush, and sends a small one at the end.
async fn flushes(mut socket: WebSocket, flushes: usize, count: usize) -> WebSocket {
    for _ in 0..flushes.max(1) {
        for _ in 0..count {
            socket.feed(message(1000)).await.unwrap();
        }
        if flushes > 0 {
            socket.flush().await.unwrap();
        }
    }
    if flushes > 0 {
        SinkExt::send(&mut socket, message(5)).await.unwrap();
    }
    socket
}

async fn sends_elsewhere(socket: WebSocket, tasks: usize, count: usize, len: usize) -> WebSocket {
    let send = |sender: Sender| async move {
        for _ in 0..count {
            sender.send(message(len)).await.unwrap();
        }
    };
    let tasks = (0..tasks).map(|_| tokio::spawn(send(socket.sender())));
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    socket
}

/// Sends until there is no room.
fn fill(sender: &Sender, len: usize) {
    while !matches!(sender.try_send(message(len)), Err(TrySendError::Full(_))) {}
}

/// Fills the outbox and waits until all of it is written.
async fn fills(mut socket: WebSocket, len: usize) -> WebSocket {
    fill(&socket.sender(), len);
    socket.flush().await.unwrap();
    socket
}

async fn cancels(mut socket: WebSocket) -> WebSocket {
    fill(&socket.sender(), 1000);
    for _ in 0..10 {
        assert!(socket.send(message(1000)).now_or_never().is_none());
    }
    socket.flush().await.unwrap();
    socket
}

async fn receives_in_vain(mut socket: WebSocket) -> WebSocket {
    for _ in 0..100 {
        assert!(timeout(MOMENT, socket.recv()).await.is_err());
    }
    socket
}

async fn echoes(mut socket: WebSocket, count: usize) -> WebSocket {
    for _ in 0..count {
        let message = socket.recv().await.unwrap().unwrap();
        socket.send(message).await.unwrap();
    }
    socket
}

async fn echoes_late(socket: WebSocket, count: usize) -> WebSocket {
    sleep(MOMENT).await;
    echoes(socket, count).await
}

async fn echoes_in_halves(socket: WebSocket, count: usize) -> WebSocket {
    let (mut sink, mut stream) = socket.split();
    for _ in 0..count {
        let message = stream.next().await.unwrap().unwrap();
        sink.send(message).await.unwrap();
    }
    sink.reunite(stream).unwrap()
}

// ---------------------------------------------------------------------------------------------
// The client's side.

struct Peer(End);

/// Builds a frame with a mask that changes nothing, which takes no time.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&*header(first, payload.len(), true), &[0; 4], payload].concat()
}

impl Peer {
    async fn write(&mut self, bytes: &[u8]) {
        wire::write(&mut self.0, bytes).await;
    }

    /// Reads until nothing more comes or `most` bytes have come, and returns how many did.
    async fn read(&mut self, most: usize) -> usize {
        let mut bytes = vec![0; 16 * KIB];
        let mut len = 0;
        while len < most {
            let bytes = &mut bytes[..(16 * KIB).min(most - len)];
            match timeout(5 * MOMENT, self.0.read(bytes)).await {
                Ok(read) => len += read.unwrap(),
                Err(_) => break,
            }
        }
        self.0.forget_reader();
        len
    }
}

async fn drains(mut peer: Peer, len: usize) -> Peer {
    assert_eq!(peer.read(usize::MAX).await, len);
    peer
}

async fn drains_late(peer: Peer, len: usize) -> Peer {
    sleep(3 * MOMENT).await;
    drains(peer, len).await
}

async fn drains_in_halves(mut peer: Peer, len: usize) -> Peer {
    assert_eq!(peer.read(len / 2).await, len / 2);
    drains_late(peer, len - len / 2).await
}

/// Writes messages, and reads the same without their masks.
async fn asks(mut peer: Peer, count: usize, len: usize) -> Peer {
    let frame = frame(FIN | BINARY, &vec![7; len]);
    peer.write(&frame.repeat(count)).await;
    drains(peer, count * (frame.len() - 4)).await
}

/// Returns the 64 frames of a message.
fn pieces(len: usize) -> Vec<Vec<u8>> {
    let piece = vec![7; len / 64];
    let first = frame(BINARY, &piece);
    let last = frame(FIN | CONTINUATION, &piece);
    let middle = iter::repeat_n(frame(CONTINUATION, &piece), 62);
    iter::once(first).chain(middle).chain([last]).collect()
}

/// Writes a message in pieces, and reads it in one.
async fn asks_in_pieces(mut peer: Peer, len: usize) -> Peer {
    for piece in pieces(len) {
        peer.write(&piece).await;
    }
    drains(peer, len + 10).await
}

/// The same with a pause within each piece, and a pause and a ping behind each.
async fn asks_in_halves(mut peer: Peer, len: usize) -> Peer {
    for piece in pieces(len) {
        let (first, second) = piece.split_at(piece.len() / 2);
        peer.write(first).await;
        sleep(MOMENT).await;
        peer.write(second).await;
        sleep(MOMENT).await;
        peer.write(&frame(FIN | PING, b"between")).await;
    }
    drains(peer, len + 10 + 64 * 9).await
}

/// Writes 150 pings, and reads as many pongs.
async fn pings(mut peer: Peer, at_once: usize) -> Peer {
    let pings = frame(FIN | PING, &[1; 125]).repeat(at_once);
    for _ in 0..150 / at_once {
        peer.write(&pings).await;
        peer = drains(peer, at_once * 127).await;
    }
    peer
}

/// Answers a ping of the server's.
async fn answers(mut peer: Peer) -> Peer {
    let ping = read_frame(&mut peer.0).await.unwrap();
    assert_eq!(ping.first, FIN | PING);
    peer.write(&frame(FIN | PONG, &ping.payload)).await;
    peer
}

#[cfg(feature = "deflate")]
mod compressed {
    use flate2::{Compress, Compression, FlushCompress};

    use super::{BINARY, CONTINUATION, FIN, KIB, Peer, drains, frame};

    const RSV1: u8 = 0x40;

    /// Writes a message of 64 KiB in frames, and reads the answer.
    pub(super) async fn asks(mut peer: Peer, frames: usize) -> Peer {
        let message: Vec<u8> = (0..64 * KIB).map(|at| (at / 256) as u8).collect();
        let mut compressed = Vec::with_capacity(4 * KIB);
        Compress::new(Compression::fast(), false)
            .compress_vec(&message, &mut compressed, FlushCompress::Sync)
            .unwrap();
        // The sender cuts the tail off.
        compressed.truncate(compressed.len() - 4);
        let pieces = compressed.chunks(compressed.len().div_ceil(frames));
        let last = pieces.len() - 1;
        for (number, piece) in pieces.enumerate() {
            let first = if number == 0 {
                RSV1 | BINARY
            } else {
                CONTINUATION
            };
            let fin = if number == last { FIN } else { 0 };
            peer.write(&frame(fin | first, piece)).await;
        }
        drains_some(peer).await
    }

    /// Reads answers that are much shorter than what was sent.
    pub(super) async fn drains_some(mut peer: Peer) -> Peer {
        let len = peer.read(usize::MAX).await;
        assert!((1..2 * KIB).contains(&len), "{len} bytes");
        peer
    }

    /// Writes a message that does not become smaller, and reads the answer.
    pub(super) async fn makes_noise(mut peer: Peer) -> Peer {
        let mut state = 1_u64;
        let noise = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        let noise: Vec<u8> = (0..16 * KIB).map(noise).collect();
        let frame = frame(FIN | BINARY, &noise);
        peer.write(&frame).await;
        drains(peer, frame.len() - 4).await
    }
}
