//! The measured servers. A process runs one engine on one loopback port.

mod http2;
mod ours;
mod peers;
mod plain;
mod raw;
pub mod rooms;
pub mod shapes;
pub(crate) mod sinks;

use std::{
    hint::black_box,
    io::{self, Read},
    net::SocketAddr,
    process,
    str::FromStr,
    thread,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::{Builder, Runtime},
    sync::mpsc,
};

pub use self::ours::Observed;
use self::{rooms::Room, shapes::Shape};
use crate::BoxError;

/// The server of the connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// The baseline: sends the same bytes back, without HTTP and WebSockets.
    Raw,
    /// The same with one pass over all bytes, as a server needs to unmask.
    RawXor,
    /// Our layer under axum. Unless noted otherwise, the handlers here receive and send.
    Axum,
    /// Our layer with a handler that receives all messages that have arrived, under axum.
    AxumBatched,
    /// Our layer with metrics, with a log at debug level, or both.
    AxumObserved(Observed),
    /// Our layer with one of eight shapes of handler, under axum.
    Shape(Shape),
    /// Our layer around axum's whole router instead of each of its routes.
    AxumAround,
    /// Our service as a route of axum's router.
    AxumRoute,
    /// Our layer under hyper.
    Hyper,
    /// Plain requests without our layer.
    Plain(Plain),
    /// A peer that sends each answer as in its documentation.
    Peer(Peer),
    /// A peer that feeds its answers, and flushes when there is nothing left to read.
    Batched(Peer),
    /// A server that speaks only HTTP/2.
    Http2(Stack),
    /// A server of one room.
    Room(Room),
}

/// A server of plain requests only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plain {
    /// axum's router.
    Axum,
    /// The same with a layer that does nothing.
    AxumIdentity,
    /// The same with a layer that only changes the type of the response's body.
    AxumBody,
    /// A service under hyper.
    Hyper,
}

/// A server over HTTP/2, with the same handler as over HTTP/1.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stack {
    /// Our layer around axum's router.
    Axum,
    /// axum's `extract::ws`.
    AxumWs,
    /// yawc, with its own upgrade.
    Yawc,
}

/// Another WebSocket implementation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// axum's `extract::ws`, which uses tokio-tungstenite.
    AxumWs,
    /// hyper-tungstenite.
    HyperTungstenite,
    /// fastwebsockets, with its own upgrade.
    Fastwebsockets,
    /// tokio-websockets, with its own handshake.
    TokioWebsockets,
    /// yawc, with its own upgrade.
    Yawc,
    /// sockudo-ws, with its own handshake.
    Sockudo,
}

/// All engines of this binary, with their names in arguments and tables. The shapes of handler are in
/// [`shapes::SHAPES`].
pub const ENGINES: [(&str, Engine); 33] = [
    ("raw", Engine::Raw),
    ("raw-xor", Engine::RawXor),
    ("axum", Engine::Axum),
    ("axum-batched", Engine::AxumBatched),
    ("axum-observed", Engine::AxumObserved(Observed::All)),
    ("axum-metrics", Engine::AxumObserved(Observed::Metrics)),
    (
        "axum-without-spans",
        Engine::AxumObserved(Observed::WithoutSpans),
    ),
    ("axum-around", Engine::AxumAround),
    ("axum-route", Engine::AxumRoute),
    ("axum-plain", Engine::Plain(Plain::Axum)),
    ("axum-identity", Engine::Plain(Plain::AxumIdentity)),
    ("axum-body", Engine::Plain(Plain::AxumBody)),
    ("hyper", Engine::Hyper),
    ("hyper-plain", Engine::Plain(Plain::Hyper)),
    ("axum-ws", Engine::Peer(Peer::AxumWs)),
    ("hyper-tungstenite", Engine::Peer(Peer::HyperTungstenite)),
    ("fastwebsockets", Engine::Peer(Peer::Fastwebsockets)),
    ("tokio-websockets", Engine::Peer(Peer::TokioWebsockets)),
    ("yawc", Engine::Peer(Peer::Yawc)),
    ("sockudo-ws", Engine::Peer(Peer::Sockudo)),
    ("axum-ws-batched", Engine::Batched(Peer::AxumWs)),
    (
        "hyper-tungstenite-batched",
        Engine::Batched(Peer::HyperTungstenite),
    ),
    (
        "tokio-websockets-batched",
        Engine::Batched(Peer::TokioWebsockets),
    ),
    ("yawc-batched", Engine::Batched(Peer::Yawc)),
    ("sockudo-ws-batched", Engine::Batched(Peer::Sockudo)),
    ("axum-h2", Engine::Http2(Stack::Axum)),
    ("axum-ws-h2", Engine::Http2(Stack::AxumWs)),
    ("yawc-h2", Engine::Http2(Stack::Yawc)),
    ("room-bare", Engine::Room(Room::Bare)),
    ("room", Engine::Room(Room::Ours)),
    ("room-drop-oldest", Engine::Room(Room::DropOldest)),
    ("room-axum-ws", Engine::Room(Room::AxumWs)),
    ("room-socketioxide", Engine::Room(Room::Socketioxide)),
];

impl FromStr for Engine {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = ENGINES.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, engine)| *engine)
            .or_else(|| Shape::named(name).map(Self::Shape))
            .ok_or_else(|| format!("{name} is not an engine"))
    }
}

/// The configuration of the server's runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct Threads {
    /// The number of workers of the multi-thread runtime, or `None` for the current-thread runtime.
    pub workers: Option<usize>,
    /// The runtime's `event_interval`, or `None` for tokio's default.
    pub event_interval: Option<u32>,
}

impl Threads {
    fn runtime(self) -> io::Result<Runtime> {
        let mut builder = match self.workers {
            None => Builder::new_current_thread(),
            Some(workers) => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(workers);
                builder
            }
        };
        if let Some(polls) = self.event_interval {
            builder.event_interval(polls);
        }
        builder.enable_all().build()
    }
}

/// The configuration of a server process.
#[derive(Clone, Copy, Debug)]
pub struct Serve {
    /// The engine that serves.
    pub engine: Engine,
    /// The runtime.
    pub threads: Threads,
    /// Whether the process exits at the end of its standard input, which comes when its parent ends.
    pub attached: bool,
}

/// Prints its address, and serves until the process ends.
///
/// # Errors
///
/// If no port is available, or the listener fails.
pub fn serve(serve: &Serve) -> Result<(), BoxError> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let (zero, zeros) = mpsc::unbounded_channel();
    if serve.attached {
        thread::spawn(move || {
            let orders = io::stdin().lock().bytes().map_while(Result::ok);
            for _ in orders {
                if zero.send(()).is_err() {
                    break;
                }
            }
            process::exit(0);
        });
    }
    let engine = serve.engine;
    serve.threads.runtime()?.block_on(async move {
        tokio::spawn(obey(zeros));
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        if engine == Engine::Room(Room::DropOldest) {
            // Otherwise the kernel keeps megabytes for each member that has stopped reading.
            socket.set_send_buffer_size(64 * 1024)?;
        }
        // With a smaller backlog, thousands of clients at once would have to repeat their SYN.
        let listener = socket.listen(4096)?;
        println!("listening on {}", listener.local_addr()?);
        // Spawn, because on the multi-thread runtime no worker runs the future of `block_on`.
        tokio::spawn(accept(engine, listener)).await?
    })
}

/// The name of [`zero_counts`], and the answer after it was called.
pub(crate) const ZERO_COUNTS: &str = "zero_counts";

/// Zeroes callgrind's counts for each order. Callgrind zeroes the counts of the calling thread, so a task makes the
/// call: on the current-thread runtime it has the same thread as the connections.
async fn obey(mut orders: mpsc::UnboundedReceiver<()>) {
    while orders.recv().await.is_some() {
        zero_counts();
        println!("{ZERO_COUNTS}");
    }
}

/// Callgrind zeroes its counts when this function is entered (`--zero-before`).
#[inline(never)]
fn zero_counts() {
    black_box(ZERO_COUNTS);
}

async fn accept(engine: Engine, listener: TcpListener) -> Result<(), BoxError> {
    match engine {
        Engine::Raw => raw::serve(&listener, None).await,
        Engine::RawXor => raw::serve(&listener, Some([0; 4])).await,
        Engine::Axum => ours::axum(listener).await,
        Engine::AxumBatched => ours::axum_batched(listener).await,
        Engine::AxumObserved(observed) => ours::axum_observed(listener, observed).await,
        Engine::Shape(shape) => plain::serve_axum(listener, shapes::router(shape)).await,
        Engine::AxumAround => ours::axum_around(listener).await,
        Engine::AxumRoute => ours::axum_route(listener).await,
        Engine::Hyper => ours::hyper(&listener).await,
        Engine::Plain(Plain::Axum) => plain::axum(listener).await,
        Engine::Plain(Plain::AxumIdentity) => plain::axum_identity(listener).await,
        Engine::Plain(Plain::AxumBody) => plain::axum_body(listener).await,
        Engine::Plain(Plain::Hyper) => plain::hyper(&listener).await,
        Engine::Peer(Peer::AxumWs) => peers::axum_ws(listener, false).await,
        Engine::Peer(Peer::HyperTungstenite) => peers::hyper_tungstenite(&listener, false).await,
        Engine::Peer(Peer::Fastwebsockets) => peers::fastwebsockets(&listener).await,
        Engine::Peer(Peer::TokioWebsockets) => peers::tokio_websockets(&listener, false).await,
        Engine::Peer(Peer::Yawc) => peers::yawc(&listener, false).await,
        Engine::Peer(Peer::Sockudo) => peers::sockudo(&listener, false).await,
        Engine::Batched(Peer::AxumWs) => peers::axum_ws(listener, true).await,
        Engine::Batched(Peer::HyperTungstenite) => peers::hyper_tungstenite(&listener, true).await,
        Engine::Batched(Peer::Fastwebsockets) => Err("fastwebsockets has no sink to feed".into()),
        Engine::Batched(Peer::TokioWebsockets) => peers::tokio_websockets(&listener, true).await,
        Engine::Batched(Peer::Yawc) => peers::yawc(&listener, true).await,
        Engine::Batched(Peer::Sockudo) => peers::sockudo(&listener, true).await,
        Engine::Http2(stack) => http2::serve(&listener, stack).await,
        Engine::Room(room) => rooms::serve(room, listener).await,
    }
}
