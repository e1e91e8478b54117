//! Memory that a connection frees at its end, and when it yields.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    alloc::System,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{
    pipe,
    tap::{Tap, Tapped},
    wire,
};
use tokio::{
    io::{ReadBuf, duplex},
    sync::mpsc,
    task::yield_now,
    time::{sleep, timeout},
};
use tower_websocket::{BoxError, Config, Sender, WebSocket, WebSocketLayer};
use wire::{BINARY, FIN, frame, write};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Serializes the tests, because the allocator counts for the whole process.
static ONE: Mutex<()> = Mutex::new(());

const KIB: usize = 1024;

fn live() -> usize {
    let stats = GLOBAL.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn run(test: impl Future<Output = ()>) {
    let _one = ONE.lock();
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test);
}

/// Each peer disconnects in the middle of a message. The application keeps a `Sender` for each connection.
#[test]
fn a_sender_of_an_ended_connection_holds_no_received_bytes() {
    const CONNECTIONS: usize = 20;
    run(async {
        let mut senders: Vec<Sender> = Vec::new();
        let mut before = 0;
        for round in 0..2 * CONNECTIONS {
            if round == CONNECTIONS {
                // Memory that is allocated only once is allocated by now.
                before = live();
            }
            let (server, mut client) = duplex(64 * KIB);
            let mut socket = WebSocket::from_io(server, Config::new());
            senders.push(socket.sender());
            let whole = frame(FIN | BINARY, &vec![1; 1000 * KIB]);
            write(&mut client, &whole[..900 * KIB]).await;
            drop(client);
            timeout(Duration::from_secs(60), socket.recv())
                .await
                .unwrap()
                .unwrap_err();
            drop(socket);
            senders[round].closed().await;
            sleep(Duration::from_millis(1)).await;
        }
        let each = live().saturating_sub(before) / CONNECTIONS;
        assert!(each <= 4 * KIB, "{each} bytes each");
        drop(senders);
    });
}

/// A stream that always has a next message, once it is `full`.
struct Endless {
    message: Vec<u8>,
    full: Arc<AtomicBool>,
}

impl Tap for Endless {
    fn read(&mut self, buf: &mut ReadBuf<'_>) -> Option<Poll<io::Result<()>>> {
        if !self.full.load(Ordering::SeqCst) {
            return None;
        }
        buf.put_slice(&self.message);
        Some(Poll::Ready(Ok(())))
    }

    fn swallows(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }
}

/// Each poll of a connection's task ends because the task yields to others.
#[test]
fn connections_that_yield_hold_no_read_buffer() {
    const CONNECTIONS: usize = 50;
    run(async {
        let (told, mut begun) = mpsc::unbounded_channel();
        let handler = move |mut socket: WebSocket| {
            let told = told.clone();
            async move {
                let _ = told.send(());
                while let Some(message) = socket.recv().await? {
                    socket.send(message).await?;
                }
                Ok::<_, BoxError>(())
            }
        };
        let layer = WebSocketLayer::new(handler);
        let full = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let (server, mut client) = duplex(4096);
            let message = frame(FIN | BINARY, b"ping");
            let full = Arc::clone(&full);
            let stream = Tapped::new(server, Endless { message, full });
            pipe::serve_on(stream, layer.clone().into_service());
            wire::upgrade(&mut client, &wire::handshake("/")).await;
            begun.recv().await.unwrap();
            clients.push(client);
        }
        sleep(Duration::from_millis(1)).await;
        let before = live();
        full.store(true, Ordering::SeqCst);
        for client in &mut clients {
            write(client, b"x").await;
        }
        let mut most = 0;
        for _ in 0..10 {
            yield_now().await;
            most = most.max(live().saturating_sub(before));
        }
        let each = most / CONNECTIONS;
        assert!(each <= 8 * KIB, "{each} bytes each");
    });
}
