//! An echo without a network, to measure an engine without the kernel.

use std::{convert::Infallible, str::FromStr};

use fastwebsockets::{FragmentCollector, Role};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::{Builder, Runtime},
};
use tokio_websockets::ServerBuilder;
use tower::{Layer, service_fn};
use tower_websocket::{Config, Echo, Error, Handler, WebSocket, WebSocketLayer};

use crate::{
    BoxError,
    load::{client::HANDSHAKE, frames::Shape},
    server::sinks::batched,
    wire::{Stream, Wire, wire},
};

/// The engines that can run without a network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// Our layer with `Echo`, under hyper.
    Layer,
    /// `WebSocket::from_io` with a task that receives and sends.
    FromIo,
    /// fastwebsockets, after the handshake.
    Fastwebsockets,
    /// tokio-websockets, after the handshake, with batched answers.
    TokioWebsockets,
    /// sockudo-ws, after the handshake, with batched answers.
    Sockudo,
}

/// All engines, with their names in tables.
pub const ENGINES: [(&str, Engine); 5] = [
    ("layer", Engine::Layer),
    ("from_io", Engine::FromIo),
    ("fastwebsockets", Engine::Fastwebsockets),
    ("tokio-websockets-batched", Engine::TokioWebsockets),
    ("sockudo-ws-batched", Engine::Sockudo),
];

impl FromStr for Engine {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = ENGINES.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, engine)| *engine)
            .ok_or_else(|| format!("{name} is not an engine without a network"))
    }
}

/// A connection in memory to an echo.
#[derive(Debug)]
pub struct Subject {
    runtime: Runtime,
    wire: Wire,
    reply: usize,
}

impl Subject {
    /// Makes a connection and has one message echoed.
    ///
    /// # Errors
    ///
    /// If the runtime cannot be built.
    pub fn new(engine: Engine, shape: Shape) -> Result<Self, BoxError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (wire, stream) = wire();
        runtime.block_on(async {
            start(engine, stream);
            if engine == Engine::Layer {
                wire.load(HANDSHAKE.to_vec());
                wire.exchange(1, 1).await;
            }
            wire.load(shape.request());
        });
        let subject = Self {
            runtime,
            wire,
            reply: shape.reply().len(),
        };
        subject.echo(1);
        Ok(subject)
    }

    /// Has this many messages echoed. The engine can read all of them at once.
    pub fn echo(&self, times: usize) {
        let bytes = times * self.reply;
        self.runtime.block_on(self.wire.exchange(times, bytes));
    }
}

/// Spawns hyper's server with `layer` on `stream`.
pub(crate) fn serve<H: Handler>(
    layer: &WebSocketLayer<H>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let service = layer.layer(service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(String::new()))
    }));
    let connection = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades();
    tokio::spawn(async move { drop(connection.await) });
}

/// Spawns the engine on `stream`.
fn start(engine: Engine, stream: Stream) {
    match engine {
        Engine::Layer => serve(&WebSocketLayer::new(Echo::new()), stream),
        Engine::FromIo => {
            let mut socket = WebSocket::from_io(stream, Config::new());
            tokio::spawn(async move {
                while let Some(message) = socket.recv().await? {
                    socket.send(message).await?;
                }
                Ok::<_, Error>(())
            });
        }
        Engine::Fastwebsockets => {
            let socket = fastwebsockets::WebSocket::after_handshake(stream, Role::Server);
            tokio::spawn(tokio::task::unconstrained(async move {
                let mut socket = FragmentCollector::new(socket);
                while let Ok(frame) = socket.read_frame().await {
                    if socket.write_frame(frame).await.is_err() {
                        return;
                    }
                }
            }));
        }
        Engine::TokioWebsockets => {
            tokio::spawn(batched(ServerBuilder::new().serve(stream), Some));
        }
        Engine::Sockudo => {
            let config = sockudo_ws::Config::default();
            let socket = sockudo_ws::WebSocketStream::server(stream, config);
            tokio::spawn(batched(socket, Some));
        }
    }
}
