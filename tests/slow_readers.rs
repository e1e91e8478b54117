//! Peers that read slowly are kept, over TCP, TLS and HTTP/2, and those that read nothing are not.
//!
//! The tests depend on how the system reports the state of real sockets, so they run in real time. All
//! run at once, and no test depends on speed. Tests that need no socket are in `stalls.rs`.
//!
//! The check with the default times takes two minutes and is not part of the other tests:
//! `tests/slow_readers/run`.

#![cfg(feature = "http2")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "slow_readers/net.rs"]
mod net;
mod support;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use net::{Buffers, Client, Transport, connect};
use support::{http2, pipe, wire};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_websocket::{BoxError, Config, Connections, Echo, Handler, WebSocket, WebSocketLayer};
use wire::{BINARY, FIN, TEXT, frame};

const KB: u32 = 1000;
const RATES: [u32; 4] = [KB, 5 * KB, 20 * KB, 50 * KB];
const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Tls, Transport::Http2];
const MIB: usize = 1024 * 1024;
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// The head of a large frame.
const HEAD: usize = 10;

/// Answers each message with a message of this many bytes.
#[derive(Clone)]
struct Answer(usize);

impl Handler for Answer {
    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        while socket.recv().await?.is_some() {
            socket.send(vec![7; self.0]).await?;
        }
        Ok(())
    }
}

/// A client, and what it reads at which rate.
#[derive(Clone, Copy, Debug)]
struct Reader {
    transport: Transport,
    /// Bytes a second.
    rate: u32,
    /// Bytes of the message.
    len: usize,
    /// The message is the client's own, sent back by `Echo`.
    echo: bool,
    buffers: Buffers,
}

/// The outcome of a connection.
struct Outcome {
    reader: Reader,
    /// It was dropped.
    is_gone: bool,
    /// The time until it was dropped, or until the test stopped watching it.
    lasted: Duration,
    /// Bytes that the client has read.
    read: usize,
}

impl Reader {
    const fn answer(transport: Transport, rate: u32, len: usize) -> Self {
        let buffers = Buffers {
            send: None,
            receive: None,
            window: None,
        };
        Self {
            transport,
            rate,
            len,
            echo: false,
            buffers,
        }
    }

    const fn echo(transport: Transport, rate: u32, len: usize) -> Self {
        Self {
            echo: true,
            ..Self::answer(transport, rate, len)
        }
    }

    /// Connects, reads, and watches for `limit`, or until everything is read or the connection is
    /// dropped.
    async fn watch(self, config: Config, limit: Duration) -> Outcome {
        let config = config.max_message_size(16 * MIB);
        let (client, connections) = self.begin(config).await;
        let start = Instant::now();
        let bytes = Arc::new(AtomicUsize::new(0));
        let reading = tokio::spawn(self.read(client, Arc::clone(&bytes)));
        let read = || bytes.load(Ordering::Relaxed);
        while connections.counts().open() > 0 && read() < self.len + HEAD && start.elapsed() < limit
        {
            sleep(20 * MILLI).await;
        }
        reading.abort();
        Outcome {
            reader: self,
            is_gone: connections.counts().open() == 0,
            lasted: start.elapsed(),
            read: read(),
        }
    }

    /// Connects and has the message sent.
    async fn begin(self, config: Config) -> (Client, Connections) {
        let (mut client, connections);
        // Made before: a client that is busy answers no pings.
        let message = match self.echo {
            true => frame(FIN | BINARY, &vec![7; self.len]),
            false => frame(FIN | TEXT, b"go"),
        };
        if self.echo {
            let layer = WebSocketLayer::new(Echo::new()).config(config);
            connections = layer.connections();
            client = connect(self.transport, self.buffers, layer).await;
        } else {
            let layer = WebSocketLayer::new(Answer(self.len)).config(config);
            connections = layer.connections();
            client = connect(self.transport, self.buffers, layer).await;
        }
        client.write(&message).await;
        (client, connections)
    }

    async fn read(self, mut client: Client, bytes: Arc<AtomicUsize>) {
        if self.rate > 0 {
            let add = |some| {
                bytes.fetch_add(some, Ordering::Relaxed);
            };
            // How it ends is seen by the server.
            let _ = client.read(self.rate, self.len + HEAD, add).await;
        }
        // The connection stays open when everything is read.
        std::future::pending::<()>().await;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reader = self.reader;
        let message = match reader.echo {
            true => format!("{} MB, echoed", reader.len / 1_000_000),
            false => format!("{} KiB", reader.len / 1024),
        };
        let fate = match self.is_gone {
            true => "**dropped**",
            false if self.read == reader.len + HEAD => "read",
            false => "kept",
        };
        let buffer = match reader.buffers.send {
            Some(bytes) => format!(", a send buffer of {} KiB", bytes / 1024),
            None => String::new(),
        };
        write!(
            f,
            "| {}{buffer} | {message} | {} KB/s | {fate} after {:.0} s | {} KB |",
            reader.transport.name(),
            f64::from(reader.rate) / f64::from(KB),
            self.lasted.as_secs_f64(),
            self.read / 1000,
        )
    }
}

/// Watches all of them at once.
async fn watch(readers: Vec<Reader>, config: &Config, limit: Duration) -> Vec<Outcome> {
    let mut watching = JoinSet::new();
    for (number, reader) in readers.into_iter().enumerate() {
        let config = config.clone();
        watching.spawn(async move { (number, reader.watch(config, limit).await) });
    }
    let mut outcomes = watching.join_all().await;
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_slow_readers() {
    let config = Config::new()
        .write_timeout(3 * SECOND)
        .keepalive(2 * SECOND, 2 * SECOND);
    let mut readers = Vec::new();
    for transport in TRANSPORTS {
        readers.extend(RATES.map(|rate| Reader::answer(transport, rate, MIB)));
    }
    // More than the system's buffers take at once.
    readers.push(Reader::answer(Transport::Tcp, 50 * KB, 12 * MIB));
    readers.push(Reader::echo(Transport::Tcp, 50 * KB, 12 * MIB));
    let mut small = Reader::answer(Transport::Tcp, 5 * KB, 12 * MIB);
    small.buffers.receive = Some(8 * 1024);
    readers.push(small);
    let mut small = Reader::answer(Transport::Tls, 20 * KB, 12 * MIB);
    small.buffers.send = Some(128 * 1024);
    readers.push(small);
    // In steps of 1,500 bytes.
    let mut small = Reader::answer(Transport::Http2, 1500, MIB);
    small.buffers.window = Some(3000);
    readers.push(small);
    let outcomes = watch(readers, &config, 14 * SECOND).await;
    for outcome in &outcomes {
        println!("{outcome}");
    }
    for outcome in outcomes {
        assert!(!outcome.is_gone, "{outcome} {:?}", outcome.reader);
        assert!(outcome.read > 0, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drops_those_who_read_nothing() {
    let mut watching = JoinSet::new();
    // At most three times `write_timeout` over TCP, else ten times.
    for (transport, len, limit) in [
        (Transport::Tcp, 8 * MIB, 3 * SECOND),
        (Transport::Tls, 8 * MIB, SECOND / 2),
        (Transport::Http2, MIB, SECOND / 2),
    ] {
        for echo in [false, true] {
            let reader = match echo {
                true => Reader::echo(transport, 0, len),
                false => Reader::answer(transport, 0, len),
            };
            let config = Config::new().write_timeout(limit);
            watching.spawn(async move { (limit, reader.watch(config, 60 * SECOND).await) });
        }
    }
    for (limit, outcome) in watching.join_all().await {
        println!("{outcome}");
        assert!(outcome.is_gone, "{outcome}");
        assert!(outcome.lasted >= limit, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes: tests/slow_readers/run"]
async fn keeps_slow_readers_with_the_default_times() {
    let mut readers = Vec::new();
    for transport in TRANSPORTS {
        readers.extend(RATES.map(|rate| Reader::answer(transport, rate, MIB)));
    }
    for transport in TRANSPORTS {
        readers.extend(RATES.map(|rate| Reader::echo(transport, rate, 12_000_000)));
    }
    readers.extend(RATES.map(|rate| {
        let mut small = Reader::echo(Transport::Tls, rate, 12_000_000);
        small.buffers.send = Some(256 * 1024);
        small
    }));
    // The slowest reader that `Config::write_timeout` promises to keep, for any amount of unread bytes.
    let promised = |reader: &Reader| match reader.transport {
        _ if reader.len == MIB => true,
        Transport::Tcp => reader.rate >= 5 * KB,
        Transport::Tls if reader.buffers.send.is_some() => reader.rate >= 5 * KB,
        Transport::Tls => reader.rate >= 20 * KB,
        Transport::Http2 => true,
    };
    let outcomes = watch(readers, &Config::new(), 120 * SECOND).await;
    println!("\n| Over | Message | Reads | Connection | Has read |");
    println!("| --- | --- | --- | --- | --- |");
    for outcome in &outcomes {
        println!("{outcome}");
    }
    for outcome in outcomes {
        assert!(!outcome.is_gone || !promised(&outcome.reader), "{outcome}");
    }
}
