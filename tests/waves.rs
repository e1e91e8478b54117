//! The memory that is left after all clients with large messages have disconnected.
//!
//! Each part runs in its own process, over TCP with axum. All clients of a wave connect, send and
//! disconnect at the same time. The head of `memory` describes the measurement.
//!
//! ```text
//! cargo test --features deflate --test waves -- --nocapture
//! ```

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{alloc::System, fs, net::SocketAddr, sync::Arc, time::Duration};

use memory::{Growth, KIB, MIB, measure, measure_with};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{memory, pipe, tcp, wire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime,
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tower_websocket::{Config, Connections, Error, WebSocket, WebSocketLayer};
use wire::{BINARY, CONTINUATION, FIN, TEXT, frame, header};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const GUARD: Duration = Duration::from_secs(60);
const RSV1: u8 = 0x40;
/// Waves of the parts that take long in a build that is not optimized.
const FEW: usize = 3;
/// Waves of the others.
const MANY: usize = 10;
/// May be left of large messages after any wave.
const LEFT: usize = 16 * MIB;
/// May be left after a wave beyond what the first one left: a slab that is kept, and where in the heap
/// something small lies.
const NOISE: usize = 4 * MIB;

const PARTS: &[(&str, fn())] = &[
    ("100 x 1 MiB, unfinished", || {
        unfinished(1, MANY, 100, large(BINARY, MIB));
    }),
    ("100 x 1 MiB, unfinished, two workers", || {
        unfinished(2, MANY, 100, large(BINARY, MIB));
    }),
    ("100 x 1 MiB of text, unfinished", || {
        unfinished(1, FEW, 100, large(TEXT, MIB));
    }),
    (
        "100 x 1 MiB in fragments of 1,000 bytes, unfinished",
        || {
            unfinished(1, FEW, 100, fragments(1000));
        },
    ),
    ("100 x 1 MiB in fragments of 64 KiB, unfinished", || {
        unfinished(1, FEW, 100, fragments(64 * KIB));
    }),
    #[cfg(feature = "deflate")]
    ("100 x 1 MiB compressed, unfinished", || {
        unfinished(1, FEW, 100, compressed());
    }),
    ("1,000 x 100 KiB, unfinished", || {
        let count = 1000.min(open_files() / 2 - 50);
        unfinished(1, FEW, count, large(BINARY, 100_000 * KIB / count));
    }),
    ("100 x 1 MiB, the connections stay open", stay_open),
    ("10,000 connections", connections),
];

/// Makes glibc always map large blocks. By default, after it has freed a block of up to 32 MiB, it takes blocks of
/// that size from its heap. It does not return heap memory below a byte in use, or in a thread's cache.
const ALWAYS_MAPPED: &str = "glibc.malloc.mmap_threshold=131072";

/// Parts that measure delivered messages, whose memory goes back to the allocator.
const DELIVERED: &[(&str, fn())] = &[
    ("100 x 1 MiB, echoed", || {
        echoed(1, FEW, frame(FIN | BINARY, &[b'a'; MIB]));
    }),
    ("100 x 1 MiB, echoed, two workers", || {
        echoed(2, FEW, frame(FIN | BINARY, &[b'a'; MIB]));
    }),
    ("100 x 1 MiB of text, echoed", || {
        echoed(1, FEW, frame(FIN | TEXT, &[b'a'; MIB]));
    }),
];

#[test]
fn leaves_little_behind_when_all_are_gone() {
    measure("leaves_little_behind_when_all_are_gone", PARTS);
}

#[test]
fn leaves_little_behind_of_messages_that_were_delivered() {
    let test = "leaves_little_behind_of_messages_that_were_delivered";
    measure_with(&[("GLIBC_TUNABLES", ALWAYS_MAPPED)], test, DELIVERED);
}

async fn repeat(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

struct Server {
    address: SocketAddr,
    connections: Connections,
    /// Additional fields in each client's handshake.
    offer: &'static str,
}

impl Server {
    /// Serves on a port of its own, and has what the first connection costs paid by one that behaves.
    async fn start(offer: &'static str) -> Self {
        let config = Config::new().without_keepalive();
        #[cfg(feature = "deflate")]
        let config = config.deflate(tower_websocket::Deflate::new());
        let layer = WebSocketLayer::new(repeat).config(config);
        let connections = layer.connections();
        let address = tcp::serve(layer.into_service()).await;
        let server = Self {
            address,
            connections,
            offer,
        };
        let mut client = server.open().await;
        let warm = frame(FIN | TEXT, b"warm");
        client.write_all(&warm).await.unwrap();
        client.read_exact(&mut [0; 6]).await.unwrap();
        drop(client);
        server.until_alone().await;
        server
    }

    async fn open(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        wire::upgrade(&mut stream, &wire::handshake_with("/", self.offer)).await;
        stream
    }

    async fn open_all(&self, count: usize) -> Vec<TcpStream> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(self.open().await);
        }
        assert_eq!(self.connections.counts().open(), count);
        clients
    }

    /// Waits until the server has read all that was sent to it.
    async fn until_read(&self) {
        until(|| !is_anything_queued(self.address.port())).await;
        // It was read to where it stays; a worker may still have to count it.
        for _ in 0..10 {
            yield_now().await;
        }
    }

    /// Waits until no connection is left.
    async fn until_alone(&self) {
        until(|| {
            let counts = self.connections.counts();
            counts.open() + counts.lingering() == 0
        })
        .await;
    }
}

/// Waits for what only can be asked for.
async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(GUARD, waiting).await.unwrap();
}

/// Returns whether the kernel holds bytes from or for a connection of `port`.
fn is_anything_queued(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let mut next = || fields.next().unwrap();
        let (local, remote, state, queues) = (next(), next(), next(), next());
        let established = state == "01";
        established
            && (local.ends_with(&port) || remote.ends_with(&port))
            && queues != "00000000:00000000"
    })
}

/// Returns how many files may be open.
fn open_files() -> usize {
    let table = fs::read_to_string("/proc/self/limits").unwrap();
    let line = table
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.unwrap().split_whitespace().nth(3).unwrap();
    soft.parse().unwrap_or(usize::MAX)
}

/// Runs waves. Each wave holds `held` bytes, and the memory is measured after its end.
fn run(
    workers: usize,
    waves: usize,
    held: usize,
    offer: &'static str,
    wave: &impl AsyncFn(&Server, &dyn Fn()),
) {
    let mut builder = match workers {
        1 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().unwrap().block_on(async {
        let server = Server::start(offer).await;
        let mut growth = Growth::start();
        let mut left = Vec::new();
        for _ in 0..waves {
            wave(&server, &|| {
                let mut during = Growth::since(&growth);
                // Some of it lies in memory that the process had before.
                let least = held - held / 10;
                assert!(during.sample() >= least, "{} KiB", during.most / KIB);
            })
            .await;
            server.until_alone().await;
            // Another worker may still be about to free some of it.
            let most = left.first().map_or(LEFT, |first| first + NOISE);
            let settled = async {
                while Growth::since(&growth).sample() > most {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            let _ = timeout(Duration::from_secs(5), settled).await;
            left.push(growth.sample());
        }
        let kib: Vec<usize> = left.iter().map(|left| left / KIB).collect();
        println!("- left, in KiB: {kib:?}");
        growth.assert_within(LEFT, "left");
        assert_no_growth(&left);
    });
}

/// Asserts that the last two waves, or one of them, left no more than the first one. What a wave adds for ever is left
/// by both. A single wave can leave more, because glibc returns memory only above the last block in use, and only
/// when that is more than twice the largest block that was mapped.
fn assert_no_growth(left: &[usize]) {
    let last = left[left.len() - 2..].iter().min().unwrap();
    assert!(*last <= left[0] + NOISE, "{left:?}");
}

/// Opens 10,000 connections at once, over pipes, which need no file descriptors. glibc keeps memory of
/// freed tasks: 10,000 tokio tasks of 1.5 KB each also leave 20 MiB. So the test counts live bytes, and
/// asserts that later waves leave no more resident memory than the first one.
fn connections() {
    memory::run(async {
        let layer = WebSocketLayer::new(repeat);
        let connections = layer.connections();
        let service = layer.into_service();
        let wave = async |count| {
            let mut clients = Vec::with_capacity(count);
            for _ in 0..count {
                let mut client = pipe::open(service.clone(), KIB).await;
                wire::write(&mut client, &frame(FIN | TEXT, b"hello")).await;
                client.read_exact(&mut [0; 7]).await.unwrap();
                clients.push(client);
            }
            let held = live();
            drop(clients);
            pipe::until_open(&connections, 0).await;
            // Lets abandoned timers expire.
            sleep(Duration::from_secs(60)).await;
            held
        };
        wave(1).await;
        let mut growth = Growth::start();
        let start = live();
        let mut left = Vec::new();
        for _ in 0..3 {
            let held = wave(10_000).await - start;
            let lives = live() - start;
            println!(
                "- live, in KiB: {} of {}",
                lives / KIB as isize,
                held / KIB as isize
            );
            assert!(held > 10 * MIB as isize, "{held}");
            assert!(lives <= MIB as isize, "{lives}");
            left.push(growth.sample());
        }
        let kib: Vec<usize> = left.iter().map(|left| left / KIB).collect();
        println!("- left, in KiB: {kib:?}");
        assert_no_growth(&left);
    });
}

/// Returns the bytes that are allocated.
fn live() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Clients that send all of `bytes`, without which nothing is a message, and go.
fn unfinished(workers: usize, waves: usize, count: usize, bytes: Vec<u8>) {
    let bytes: Arc<[u8]> = bytes.into();
    // Bytes of compressed messages are marked.
    let offer = match bytes[0] & RSV1 {
        0 => "",
        _ => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
    };
    run(workers, waves, 95 * MIB, offer, &async |server, check| {
        let mut sending = JoinSet::new();
        for mut client in server.open_all(count).await {
            let bytes = Arc::clone(&bytes);
            sending.spawn(async move {
                client.write_all(&bytes).await.unwrap();
                client
            });
        }
        let clients = sending.join_all().await;
        server.until_read().await;
        check();
        assert_eq!(server.connections.counts().open(), count);
        drop(clients);
    });
}

/// Clients that send a message at the same time, and stay when it is echoed.
fn stay_open() {
    const CLIENTS: usize = 100;

    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(async {
        let server = Server::start("").await;
        let mut growth = Growth::start();
        let mut sending = JoinSet::new();
        for mut client in server.open_all(CLIENTS).await {
            sending.spawn(async move {
                client.write_all(&large(BINARY, MIB)).await.unwrap();
                client
            });
        }
        let clients = sending.join_all().await;
        server.until_read().await;
        assert!(Growth::since(&growth).sample() > 90 * MIB);
        let mut reading = JoinSet::new();
        for mut client in clients {
            client.write_all(b"a").await.unwrap();
            reading
                .spawn(async move { while client.read(&mut [0; 4 * KIB]).await.unwrap() > 0 {} });
        }
        until(|| Growth::since(&growth).sample() <= LEFT).await;
        growth.sample();
        growth.assert_within(LEFT, "left");
        assert_eq!(server.connections.counts().open(), CLIENTS);
    });
}

/// A message of `len` bytes but for its last one.
fn large(opcode: u8, len: usize) -> Vec<u8> {
    let mut bytes = frame(FIN | opcode, &vec![b'a'; len]);
    bytes.pop();
    bytes
}

/// A message of almost 1 MiB but for its last fragment.
fn fragments(len: usize) -> Vec<u8> {
    let mut bytes = frame(BINARY, &vec![b'a'; len]);
    let more = frame(CONTINUATION, &vec![b'a'; len]);
    bytes.extend(more.repeat(MIB / len - 2));
    bytes.extend(header(FIN | CONTINUATION, len / 2, true));
    bytes
}

/// A message that is inflated to 1 MiB, but for its last frame.
#[cfg(feature = "deflate")]
fn compressed() -> Vec<u8> {
    use flate2::{Compress, Compression, FlushCompress};

    let mut state = 1_u32;
    let payload: Vec<u8> = (0..MIB)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 29) as u8
        })
        .collect();
    let mut deflated = Vec::with_capacity(2 * MIB);
    Compress::new(Compression::fast(), false)
        .compress_vec(&payload, &mut deflated, FlushCompress::Sync)
        .unwrap();
    frame(RSV1 | BINARY, &deflated)
}

/// Clients that send `message`, and go when they have read it.
fn echoed(workers: usize, waves: usize, message: Vec<u8>) {
    const CLIENTS: usize = 100;

    let message: Arc<[u8]> = message.into();
    run(workers, waves, 0, "", &async |server, check| {
        let mut sending = JoinSet::new();
        for mut client in server.open_all(CLIENTS).await {
            let message = Arc::clone(&message);
            sending.spawn(async move {
                let (mut reader, mut writer) = client.split();
                let reading = async {
                    let mut bytes = [0; 4 * KIB];
                    // The answer has no mask.
                    let mut missing = message.len() - 4;
                    while missing > 0 {
                        let most = missing.min(bytes.len());
                        let read = reader.read(&mut bytes[..most]).await.unwrap();
                        assert_ne!(read, 0);
                        missing -= read;
                    }
                };
                tokio::join!(async { writer.write_all(&message).await.unwrap() }, reading);
                client
            });
        }
        let clients = sending.join_all().await;
        check();
        drop(clients);
    });
}
