//! Echoes over streams in memory, on one and on two workers of the multi-thread runtime.
//!
//! With two workers, a lock or an atomic that connections share would cost time. The echo of bytes shows how much
//! of the second worker the runtime itself can use.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::{Builder, Runtime},
};
use tower_websocket::{Error, WebSocket, WebSocketLayer};

use super::Plan;
use crate::{
    BoxError,
    cores::Cores,
    load::{
        client::HANDSHAKE,
        frames::{Answer, Shape},
    },
    subject::serve,
    table::{Table, grouped, median},
};

/// The size of messages.
const SIZE: usize = 32;
/// The numbers of connections.
const CONNECTIONS: [usize; 2] = [100, 1000];
/// The capacity of a stream, in bytes.
const CAPACITY: usize = 4096;

/// The server at one end of each stream.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// It echoes bytes.
    Bytes,
    /// Our layer, with a handler that echoes messages, under hyper.
    Layer,
}

/// Measures both servers with one and with two workers, and prints a table.
pub(super) fn run(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    cores.unpin();
    let mut table = Table::new([
        "messages per second in memory",
        "1 worker",
        "2 workers",
        "2 ÷ 1",
    ]);
    for count in CONNECTIONS {
        for (name, server) in [("bytes", Server::Bytes), ("layer", Server::Layer)] {
            let mut rounds = Vec::new();
            for _ in 0..plan.rounds {
                rounds.push((
                    rate(server, count, 1, plan, cores)?,
                    rate(server, count, 2, plan, cores)?,
                ));
            }
            table.row(vec![
                format!("{name}, {count} connections"),
                grouped(median(rounds.iter().map(|(one, _)| *one))),
                grouped(median(rounds.iter().map(|(_, two)| *two))),
                format!("{:.2}", median(rounds.iter().map(|(one, two)| two / one))),
            ]);
        }
    }
    cores.pin_again();
    println!("### two workers\n");
    table.publish("two-workers", plan.into.as_deref())
}

/// Returns the messages per second of all connections together.
fn rate(
    server: Server,
    connections: usize,
    workers: usize,
    plan: &Plan,
    cores: &Cores,
) -> Result<f64, BoxError> {
    let runtime = runtime(workers, cores)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let guard = runtime.enter();
    let count = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let (stream, peer) = duplex(CAPACITY);
            server.start(stream);
            let (is_over, count) = (Arc::clone(&is_over), Arc::clone(&count));
            tokio::spawn(client(server, peer, is_over, count))
        })
        .collect();
    drop(guard);
    thread::sleep(plan.warm_up().max(Duration::from_millis(50)));
    let (begun, before) = (Instant::now(), count.load(Ordering::Relaxed));
    thread::sleep(plan.time);
    let took = begun.elapsed().as_secs_f64();
    let echoed = count.load(Ordering::Relaxed) - before;
    is_over.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for client in clients {
            client.await??;
        }
        Ok::<_, BoxError>(())
    })?;
    Ok(echoed as f64 / took)
}

/// Makes a runtime whose workers have a core each.
fn runtime(workers: usize, cores: &Cores) -> Result<Runtime, BoxError> {
    let (cores, started) = (cores.clone(), AtomicUsize::new(0));
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .on_thread_start(move || {
            cores.pin_thread(started.fetch_add(1, Ordering::Relaxed) % workers);
        })
        .build()?;
    Ok(runtime)
}

impl Server {
    fn start(self, mut stream: DuplexStream) {
        match self {
            Self::Bytes => {
                tokio::spawn(async move {
                    let mut buffer = [0; CAPACITY];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        if stream.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
            Self::Layer => {
                let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
                    while let Some(message) = socket.recv().await? {
                        socket.send(message).await?;
                    }
                    Ok::<_, Error>(())
                });
                serve(&layer, stream);
            }
        }
    }
}

/// Sends a message and awaits its echo, again and again.
async fn client(
    server: Server,
    mut stream: DuplexStream,
    is_over: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
) -> Result<(), BoxError> {
    /// The messages between two looks at what all clients share.
    const BATCH: usize = 64;
    let websocket = matches!(server, Server::Layer);
    if websocket {
        stream.write_all(HANDSHAKE).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
    }
    let shape = Shape {
        size: SIZE,
        text: false,
        websocket,
        answer: Answer::Same,
    };
    let (request, reply) = (shape.request(), shape.reply());
    let mut answer = vec![0; reply.len()];
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            stream.write_all(&request).await?;
            stream.read_exact(&mut answer).await?;
        }
        if answer != reply {
            return Err("the answer is wrong".into());
        }
        count.fetch_add(BATCH, Ordering::Relaxed);
    }
    Ok(())
}
