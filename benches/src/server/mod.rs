//! The servers that are measured: one engine, on one port of loopback, in a process of its own.

mod http2;
mod ours;
mod peers;
mod plain;
mod raw;
pub mod shapes;
pub(crate) mod sinks;

use std::{io, net::SocketAddr, process, str::FromStr, thread};

use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::{Builder, Runtime},
};

use self::shapes::Shape;
use crate::BoxError;

/// What answers the connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// The same bytes back, without HTTP and WebSockets: the floor.
    Raw,
    /// The same, once all of them were gone over as a mask is.
    RawXor,
    /// Our layer, under axum. Its handler receives and sends, here and where nothing else is said.
    Axum,
    /// Our layer with a handler that receives as many messages as have come, under axum.
    AxumBatched,
    /// Our layer with one of eight shapes of handler, under axum.
    Shape(Shape),
    /// Our layer around the whole of axum's router rather than each of its routes.
    AxumAround,
    /// Our service as a route of axum's router.
    AxumRoute,
    /// Our layer under hyper.
    Hyper,
    /// No WebSockets: what plain requests cost without our layer.
    Plain(Plain),
    /// A peer, which sends each answer as its documentation does.
    Peer(Peer),
    /// A peer whose answers are fed, and flushed when there is nothing left to read.
    Batched(Peer),
    /// HTTP/2, and nothing else.
    Http2(Stack),
}

/// What answers plain requests, and no others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plain {
    /// axum's router.
    Axum,
    /// The same with a layer that does nothing at all.
    AxumIdentity,
    /// The same with a layer that does nothing but to give the response's body another type.
    AxumBody,
    /// A service under hyper.
    Hyper,
}

/// What answers over HTTP/2, each as it does over HTTP/1.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stack {
    /// Our layer around axum's router.
    Axum,
    /// axum's `extract::ws`.
    AxumWs,
    /// yawc, with its own upgrade.
    Yawc,
}

/// Another implementation of WebSockets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// axum's `extract::ws`, which is tokio-tungstenite.
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

/// Every engine that is written in Rust, by the name it has in arguments and tables. The shapes of
/// handler have a table of their own, [`shapes::SHAPES`].
pub const ENGINES: [(&str, Engine); 25] = [
    ("raw", Engine::Raw),
    ("raw-xor", Engine::RawXor),
    ("axum", Engine::Axum),
    ("axum-batched", Engine::AxumBatched),
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
];

impl FromStr for Engine {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = ENGINES.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, engine)| *engine)
            .or_else(|| Shape::named(name).map(Self::Shape))
            .ok_or_else(|| format!("no engine is called {name}"))
    }
}

/// How the server's runtime is built.
#[derive(Clone, Copy, Debug, Default)]
pub struct Threads {
    /// The workers of the multi-thread runtime; with none it is the current-thread one.
    pub workers: Option<usize>,
    /// After how many polls the runtime looks for events, where that is not tokio's own number.
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

/// What one server process is asked to be.
#[derive(Clone, Copy, Debug)]
pub struct Serve {
    /// What answers.
    pub engine: Engine,
    /// The runtime it runs on.
    pub threads: Threads,
    /// Whether it ends with its standard input, which is how it ends when its parent is killed.
    pub attached: bool,
}

/// Serves until the process is ended, and prints the address it listens on.
///
/// # Errors
///
/// When no port can be had, or the listener fails.
pub fn serve(serve: &Serve) -> Result<(), BoxError> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    if serve.attached {
        thread::spawn(|| {
            drop(io::copy(&mut io::stdin(), &mut io::sink()));
            process::exit(0);
        });
    }
    let engine = serve.engine;
    serve.threads.runtime()?.block_on(async move {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        // With fewer, thousands of clients at once wait for their SYN to be sent again.
        let listener = socket.listen(4096)?;
        println!("listening on {}", listener.local_addr()?);
        // On the multi-thread runtime what `block_on` runs is no worker's task.
        tokio::spawn(accept(engine, listener)).await?
    })
}

async fn accept(engine: Engine, listener: TcpListener) -> Result<(), BoxError> {
    match engine {
        Engine::Raw => raw::serve(&listener, None).await,
        Engine::RawXor => raw::serve(&listener, Some([0; 4])).await,
        Engine::Axum => ours::axum(listener).await,
        Engine::AxumBatched => ours::axum_batched(listener).await,
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
    }
}
