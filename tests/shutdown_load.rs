//! 1,000 servers that are shut down while all their connections send in both directions.
//!
//! The test counts open files, so it is the only one in this file.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, serve::ListenerExt};
use support::{
    tcp, until_tasks,
    wire::{self, BINARY, FIN, close, frame, read_frame, write},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter},
    net::{TcpStream, tcp::OwnedWriteHalf},
    runtime::Builder,
    sync::Semaphore,
    task::JoinSet,
};
use tower_websocket::{
    BoxError, Config, Connections, Sender, WebSocket, WebSocketLayer, error::SendError,
};

/// More than a shutdown may need.
const LIMIT: Duration = Duration::from_secs(30);

const ROUNDS: usize = 1000;
const CLIENTS: usize = 2;
const ECHO: u8 = b'e';
const TICK: u8 = b't';

/// The numbers of messages that the handlers sent: echoes and ticks, for each client.
type Taken = Arc<Mutex<Vec<[u64; 2]>>>;

#[test]
fn loses_no_message_and_leaves_no_task_or_file_in_1000_shutdowns_under_load() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // After the first round, everything that is opened once and kept is open.
        let _ = within(round(0)).await;
        until_tasks(0).await;
        let files = open_files();
        let mut messages = 0;
        for number in 1..=ROUNDS {
            messages += within(round(number)).await;
        }
        until_tasks(0).await;
        assert_eq!(open_files(), files);
        println!("{ROUNDS} shutdowns, {messages} messages, {files} open files");
    });
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Small writes do not wait for delayed acknowledgements.
fn no_delay(stream: &mut TcpStream) {
    stream.set_nodelay(true).unwrap();
}

/// Serves clients, shuts down while they are busy, and returns the number of messages sent.
async fn round(number: usize) -> u64 {
    let taken: Taken = Arc::new(Mutex::new(vec![[0; 2]; CLIENTS]));
    let layer = WebSocketLayer::new({
        let taken = Arc::clone(&taken);
        move |socket| busy(socket, Arc::clone(&taken))
    });
    // Some rounds close at once, and some with a short spread.
    let spread = Duration::from_millis(u64::from(number % 4 == 0));
    let layer = layer
        .config(Config::new().max_outbox(16, 64 * 1024))
        .connections_in(&Connections::new().shutdown_spread(spread));
    let connections = layer.connections();
    let app = Router::new().fallback_service(layer.into_service());
    let (listener, address) = tcp::listen().await;
    let interrupt = Arc::new(Semaphore::new(0));

    let closing = connections.clone();
    let interrupted = Arc::clone(&interrupt);
    let server = tokio::spawn(async move {
        let signal = async move {
            let _ = interrupted.acquire().await;
            closing.close();
        };
        axum::serve(listener.tap_io(no_delay), app)
            .with_graceful_shutdown(signal)
            .await
    });
    let random = RandomState::new();
    let mut streams = Vec::new();
    for client in 0..CLIENTS {
        streams.push(wire::open(address, &format!("/{client}")).await);
    }
    let mut clients = JoinSet::new();
    for (client, stream) in streams.into_iter().enumerate() {
        // One of the clients begins the shutdown while it reads.
        let begin = (client == number % CLIENTS).then(|| Arc::clone(&interrupt));
        let after = random.hash_one(client) % 40;
        clients.spawn(async move { (client, read_all(stream, begin, after).await) });
    }
    let received = clients.join_all().await;
    server.await.unwrap().unwrap();
    let report = connections.shutdown(LIMIT).await;
    assert_eq!((report.clean, report.aborted), (CLIENTS as u64, 0));
    let counts = connections.counts();
    assert_eq!(counts.open(), 0);

    let taken = taken.lock().unwrap().clone();
    for (client, received) in received {
        assert_eq!(received, taken[client], "round {number}, client {client}");
    }
    let all = taken.iter().flatten().sum();
    assert_eq!(counts.traffic().messages_sent(), all);
    all
}

/// Echoes, while another task sends ticks.
async fn busy(mut socket: WebSocket, taken: Taken) -> Result<(), BoxError> {
    let client: usize = socket.request().path()[1..].parse()?;
    let pace = Arc::new(Semaphore::new(8));
    let ticking = tokio::spawn(tick(socket.sender(), Arc::clone(&pace)));
    let mut echoed = 0;
    while let Some(message) = socket.recv().await? {
        if socket.send(message).await.is_err() {
            break;
        }
        echoed += 1;
        pace.add_permits(1);
    }
    pace.close();
    let ticked = ticking.await?;
    taken.lock().unwrap()[client] = [echoed, ticked];
    Ok(())
}

async fn tick(sender: Sender, pace: Arc<Semaphore>) -> u64 {
    let mut ticks = 0;
    while let Ok(next) = pace.acquire().await {
        next.forget();
        // Some are large enough for a buffer of their own.
        let len = if ticks % 16 == 0 { 5000 } else { 40 };
        let mut message = vec![TICK; len];
        message[1..9].copy_from_slice(&u64::to_be_bytes(ticks));
        match sender.send(message).await {
            Ok(()) => ticks += 1,
            Err(SendError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    ticks
}

/// Sends messages to be echoed, a few ahead of the echoes.
async fn write_all(output: OwnedWriteHalf, pace: Arc<Semaphore>) -> OwnedWriteHalf {
    const AT_ONCE: u32 = 8;
    let mut output = BufWriter::new(output);
    let mut number = 0_u64;
    while let Ok(next) = pace.acquire_many(AT_ONCE).await {
        next.forget();
        for _ in 0..AT_ONCE {
            let message = [&[ECHO][..], &number.to_be_bytes()].concat();
            write(&mut output, &frame(FIN | BINARY, &message)).await;
            number += 1;
        }
        output.flush().await.unwrap();
    }
    output.into_inner()
}

/// Reads until the Close while it writes, and returns the numbers of echoes and ticks.
async fn read_all(stream: TcpStream, begin: Option<Arc<Semaphore>>, after: u64) -> [u64; 2] {
    let (input, output) = stream.into_split();
    let pace = Arc::new(Semaphore::new(16));
    let writing = tokio::spawn(write_all(output, Arc::clone(&pace)));
    let mut input = BufReader::new(input);
    let mut counts = [0_u64; 2];
    loop {
        let frame = read_frame(&mut input).await.expect("no Close");
        if frame.first != FIN | BINARY {
            assert_eq!(frame.close_code(), Some(1001));
            break;
        }
        let count = match frame.payload[0] {
            ECHO => &mut counts[0],
            TICK => &mut counts[1],
            other => panic!("{other}"),
        };
        assert_eq!(frame.payload[1..9], count.to_be_bytes(), "out of order");
        *count += 1;
        if frame.payload[0] == ECHO {
            pace.add_permits(1);
        }
        if let Some(begin) = begin.as_ref().filter(|_| counts[0] + counts[1] >= after) {
            begin.add_permits(1);
        }
    }
    pace.close();
    let mut output = writing.await.unwrap();
    write(&mut output, &close(1001, "")).await;
    let mut rest = Vec::new();
    input.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
    counts
}
