//! The resident memory of a server whose client opens many WebSockets on one HTTP/2 connection.
//!
//! It is measured as in `memory`. The client's memory also counts, because it is in the same process. So
//! the client grants no window, or does not read, where only the server's memory matters.
//!
//! ```text
//! cargo test --features http2 --test http2_memory -- --nocapture
//! ```

#![cfg(feature = "http2")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, client};
use http2::{Session, connect, serve};
use memory::{Growth, KIB, MIB, measure, run};
use support::{
    http2, memory,
    tap::{Tap, Tapped},
    wire,
};
use tokio::{io::ReadBuf, runtime::Handle, time::sleep};
use tower_websocket::{BoxError, Connections, Echo, Handler, WebSocket, WebSocketLayer};
use wire::{FIN, TEXT, frame, write};

const SECOND: Duration = Duration::from_secs(1);
/// The bytes that the handler tries to send on each socket.
const OFFERED: usize = 100 * MIB;
/// The number of sockets that are stalled.
const STALLED: usize = 50;

const PARTS: &[(&str, fn())] = &[
    ("one of 200 that is never read", one_of_many),
    ("100 bytes, no window", || stalled(100, Stall::NoWindow)),
    ("2,000 bytes, no window", || stalled(2_000, Stall::NoWindow)),
    ("16 KiB, no window", || stalled(16 * KIB, Stall::NoWindow)),
    ("100 KiB, no window", || stalled(100 * KIB, Stall::NoWindow)),
    ("1 MiB, no window", || stalled(MIB, Stall::NoWindow)),
    ("2,000 bytes, a connection that is not read", || {
        stalled(2_000, Stall::NotRead);
    }),
    ("100 KiB, a connection that is not read", || {
        stalled(100 * KIB, Stall::NotRead);
    }),
    ("10,000 opened and reset", || resets(true)),
    ("10,000 reset before the answer", || resets(false)),
];

#[test]
fn holds_no_more_than_it_may_on_streams() {
    measure("holds_no_more_than_it_may_on_streams", PARTS);
}

/// Sends many copies of a message to a client that asks for it, once the client has sent a message.
/// Echoes for all other clients.
#[derive(Clone)]
struct Push(Bytes);

impl Handler for Push {
    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        if socket.request().header("x-push").is_none() {
            return Echo::new().handle(socket).await;
        }
        socket.recv().await?;
        for _ in 0..OFFERED / self.0.len() {
            socket.send(self.0.clone()).await?;
        }
        Ok(())
    }
}

fn layer(len: usize) -> (WebSocketLayer<Push>, Connections) {
    let layer = WebSocketLayer::new(Push(vec![1; len].into()));
    let connections = layer.connections();
    (layer, connections)
}

fn one_of_many() {
    run(async {
        let (layer, connections) = layer(10_000);
        let mut settings = client::Builder::new();
        settings.initial_window_size(0);
        let session = Session::with(&settings, serve(layer.into_service())).await;
        let mut siblings = Vec::new();
        for _ in 0..199 {
            siblings.push(session.open().await);
        }
        let mut unread = session.ask(connect().header("x-push", "1")).await;
        sleep(SECOND).await;
        let mut growth = Growth::start();
        write(&mut unread, &frame(FIN | TEXT, b"go")).await;
        for _ in 0..5 {
            sleep(SECOND).await;
            growth.sample();
        }
        assert_eq!(connections.counts().open(), 200);
        growth.assert_within(MIB + 64 * KIB, "growth by one");
        drop(unread);
    });
}

/// How a client keeps what is sent to it from arriving.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Stall {
    /// It gives no stream a window.
    NoWindow,
    /// It gives large windows, and does not read the connection.
    NotRead,
}

fn stalled(len: usize, stall: Stall) {
    run(async move {
        let (layer, connections) = layer(len);
        let mut settings = client::Builder::new();
        let window = match stall {
            Stall::NoWindow => 0,
            Stall::NotRead => 16 << 20,
        };
        settings
            .initial_window_size(window)
            .initial_connection_window_size(1 << 30);
        let reading = Arc::new(AtomicBool::new(true));
        let gate = Gate(Arc::clone(&reading));
        let io = Tapped::new(serve(layer.into_service()), gate);
        let session = Session::with(&settings, io).await;
        let mut tunnels = Vec::new();
        for _ in 0..STALLED {
            tunnels.push(session.open().await);
        }
        drop(tunnels);
        sleep(SECOND).await;
        let mut pending = Vec::new();
        let mut growth = Growth::start();
        // hyper keeps the data of a stream until the client reads, or its connection ends.
        for (what, bound) in [
            ("growth by 50", MIB + MIB / 2),
            (
                "with as many that were given up before",
                MIB + MIB / 2 + 128 * KIB,
            ),
        ] {
            for _ in 0..STALLED {
                let request = session.send(connect().header("x-push", "1")).await;
                pending.push(request.followed_by(&frame(FIN | TEXT, b"go")));
            }
            reading.store(stall == Stall::NoWindow, Ordering::Relaxed);
            for _ in 0..9 {
                sleep(SECOND).await;
                growth.sample();
            }
            assert_eq!(connections.counts().open(), STALLED);
            growth.assert_within(bound * STALLED, what);
            // Ten times `write_timeout`.
            sleep(SECOND * 93).await;
            assert_eq!(connections.counts().open(), 0);
        }
    });
}

fn resets(answered: bool) {
    run(async move {
        let (layer, connections) = layer(1);
        let session = Session::new(serve(layer.into_service())).await;
        let tasks = Handle::current().metrics();
        let mut witness = session.open().await;
        witness.echoes("hello").await;
        let mut growth = None;
        let before = tasks.num_alive_tasks();
        for number in 0..10_000 {
            // Later streams use the memory of the first thousand again.
            if number == 1_000 {
                growth = Some(Growth::start());
            }
            if answered {
                session.open().await.reset(Reason::CANCEL);
            } else {
                session.send(connect()).await.reset(Reason::CANCEL);
                // Servers end a connection on which more than 20 such resets come at once.
                witness.echoes("hello").await;
            }
            if let (Some(growth), 0) = (&mut growth, number % 100) {
                growth.sample();
            }
        }
        sleep(SECOND).await;
        let mut growth = growth.unwrap();
        growth.sample();
        growth.assert_within(256 * KIB, "growth");
        let counts = connections.counts();
        println!("- {counts:?}");
        assert_eq!(counts.open(), 1);
        assert_eq!(
            counts.closed().map(|(_, count)| count).sum::<u64>(),
            counts.accepted() - 1
        );
        assert_eq!(tasks.num_alive_tasks(), before);
        witness.echoes("hello").await;
    });
}

/// A stream that is not read while it is closed.
struct Gate(Arc<AtomicBool>);

impl Tap for Gate {
    fn read(&mut self, _: &mut ReadBuf<'_>) -> Option<Poll<io::Result<()>>> {
        (!self.0.load(Ordering::Relaxed)).then_some(Poll::Pending)
    }
}
