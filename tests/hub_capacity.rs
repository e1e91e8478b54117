//! The memory of idle connections and of rooms, and the time of a message to all members, over TCP.
//!
//! As a test, it has a few connections. The figures of the guide are those of more connections, in a release build:
//!
//! ```text
//! cargo test --release --features hub --test hub_capacity -- 10000
//! ```
//!
//! The server has one thread, and its clients are another process. Each part has processes of its own, because an
//! allocator does not give all memory back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    alloc::System,
    cell::Cell,
    env, fs,
    io::Write,
    process::Stdio,
    rc::Rc,
    time::{Duration, Instant},
};

use axum::Router;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{ChildStdout, Command},
    runtime::Builder,
    task::{LocalSet, spawn_local, yield_now},
};
use tower_websocket::{BoxError, Config, Connections, WebSocket, WebSocketLayer, hub::Hub};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// As many as the usual limit of 1,024 open files allows.
const FEW: usize = 500;
const PAYLOAD: usize = 100;
/// The bytes of a server's frame with this payload.
const FRAME: usize = 2 + PAYLOAD;
const ROUNDS: usize = 21;
/// The rooms that the handler joins, and the most bytes that a connection may allocate.
const PARTS: [(&str, usize); 4] = [
    ("no room", 3000),
    ("one room", 3300),
    ("ten rooms", 5500),
    ("a room of its own", 4200),
];

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    match &arguments[..] {
        [role, address, number] if role == "clients" => {
            let clients = clients(address.clone(), number.parse().unwrap());
            LocalSet::new().block_on(&runtime, clients);
        }
        [role, part, number] if role == "server" => {
            let part = PARTS.into_iter().find(|(name, _)| name == part).unwrap();
            runtime.block_on(server(part, number.parse().unwrap()));
        }
        _ => {
            let number = arguments.iter().find_map(|number| number.parse().ok());
            let number: usize = number.unwrap_or(FEW);
            println!("{number} connections:");
            for (part, _) in PARTS {
                let mut server = std::process::Command::new(env::current_exe().unwrap());
                let status = server.args(["server", part, &number.to_string()]).status();
                assert!(status.unwrap().success(), "{part}");
            }
        }
    }
}

fn app(part: &'static str, hub: Hub) -> Router {
    let handler = move |mut socket: WebSocket| {
        let hub = hub.clone();
        async move {
            let rooms: Vec<String> = match part {
                "one room" => vec!["all".into()],
                "ten rooms" => (0..10).map(|room| format!("room {room}")).collect(),
                "a room of its own" => vec![format!("room of {}", socket.id())],
                _ => Vec::new(),
            };
            for room in rooms {
                hub.room(room).join(&socket, ()).await?.keep();
            }
            while socket.recv().await?.is_some() {}
            Ok::<_, BoxError>(())
        }
    };
    let connections = Connections::new().max_connections(usize::MAX);
    // The clients answer no pings.
    let hour = Duration::from_secs(3600);
    let layer = WebSocketLayer::new(handler)
        .config(Config::new().keepalive(hour, hour))
        .connections_in(&connections)
        .without_request();
    Router::new().route_service("/", layer.into_service())
}

async fn server((part, most): (&'static str, usize), number: usize) {
    let hub: Hub = Hub::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = app(part, hub.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut clients = Command::new(env::current_exe().unwrap())
        .args(["clients", &address, &number.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (region, before) = (Region::new(ALLOCATOR), resident());
    let mut told = BufReader::new(clients.stdout.take().unwrap()).lines();
    wait(&mut told, "open").await;
    let rooms = match part {
        "no room" => 0,
        "ten rooms" => 10,
        _ => 1,
    };
    while hub.counts().members < rooms * number {
        yield_now().await;
    }
    let stats = region.change();
    let allocated = (stats.bytes_allocated - stats.bytes_deallocated) / number;
    let resident = (resident() - before) / number;
    println!("- {part}: a connection has {allocated} bytes allocated, {resident} resident");
    assert!(allocated < most, "{allocated} bytes");
    if part == "one room" {
        all_get_a_message(&hub, number, &mut told).await;
    }
}

/// Sends messages to all, one after the other.
async fn all_get_a_message(hub: &Hub, number: usize, told: &mut Lines<BufReader<ChildStdout>>) {
    let (mut sending, mut all, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (busy, start) = (cpu_time(), Instant::now());
        let sent = hub.room("all").send(vec![7; PAYLOAD]).unwrap();
        sending.push(start.elapsed());
        assert_eq!(sent.members_here, number);
        wait(told, "got").await;
        all.push(start.elapsed());
        cpu.push(cpu_time() - busy);
    }
    println!(
        "- a message of {PAYLOAD} bytes: `send` takes {:?}, the last member has it after {:?}, {:?} of CPU",
        median(sending),
        median(all),
        median(cpu)
    );
    assert_eq!(hub.counts().delivered, (ROUNDS * number) as u64);
}

/// Connects and reports "open". Then reports "got" for each message that all have received.
async fn clients(address: String, number: usize) {
    let received = Rc::new(Cell::new(0));
    for _ in 0..number {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let handshake = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(handshake.as_bytes()).await.unwrap();
        let mut buffer = vec![0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 101"));
        assert!(buffer[..read].ends_with(b"\r\n\r\n"));
        let received = Rc::clone(&received);
        spawn_local(async move {
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                received.set(received.get() + read);
                if received.get() % (number * FRAME) == 0 {
                    tell("got");
                }
            }
        });
    }
    tell("open");
    // Until the server has ended.
    let _ = tokio::io::stdin().read(&mut [0]).await;
}

fn tell(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}").unwrap();
    out.flush().unwrap();
}

async fn wait(told: &mut Lines<BufReader<ChildStdout>>, what: &str) {
    let line = tokio::time::timeout(Duration::from_secs(120), told.next_line());
    assert_eq!(line.await.unwrap().unwrap().as_deref(), Some(what));
}

/// Returns the bytes of anonymous memory that are resident.
fn resident() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

/// Returns the time that this process has used, as the scheduler counts it.
fn cpu_time() -> Duration {
    let counts = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = counts
        .split_whitespace()
        .next()
        .and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
