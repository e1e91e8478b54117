//! No WebSocket over HTTP/2 outlives its peer, for all messages of the peer and all kinds of handler.

#![cfg(feature = "http2")]

#[path = "outlive/mod.rs"]
mod outlive;
mod support;

use std::{io, time::Duration};

use http2::{Session, Tunnel};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use outlive::{
    Stream,
    network::{Cable, Kind, run},
};
use pipe::Served;
use support::{
    http2, pipe,
    tap::{Tap, Tapped},
    wire,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{mpsc, watch},
    time::sleep,
};
use tower_websocket::{Error, Http2Executor, WebSocket, WebSocketLayer};
use wire::{BINARY, FIN, frame};

/// More than any peer sends, so that no window blocks it.
const WINDOW: u32 = 1024 * 1024;

struct Http2;

/// A session that counts the bytes of DATA that have left, and those that were written.
struct Counted {
    _session: Session,
    left: watch::Receiver<usize>,
    written: usize,
}

impl Kind for Http2 {
    const STREAM: Stream = Stream::Http2;
    type Socket = Tunnel;
    type Session = Counted;

    fn serve(&self, stream: TcpStream, service: impl Served) {
        let service = TowerToHyperService::new(service);
        let connection = http2::server(Http2Executor::new())
            .initial_stream_window_size(WINDOW)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async { drop(connection.await) });
    }

    async fn open(&self, cable: Cable) -> (Tunnel, Counted) {
        let (counter, left) = watch::channel(0);
        let counting = Counting {
            counter,
            unseen: PREFACE,
            head: Vec::new(),
            data: false,
        };
        let session = Session::new(Tapped::new(cable, counting)).await;
        let tunnel = session.open().await;
        let counted = Counted {
            _session: session,
            left,
            written: 0,
        };
        (tunnel, counted)
    }

    /// Waits until the bytes have left, because a write to a tunnel only queues them.
    async fn write(
        &self,
        tunnel: &mut Tunnel,
        session: &mut Counted,
        bytes: &[u8],
    ) -> io::Result<()> {
        tunnel.write_all(bytes).await?;
        session.written += bytes.len();
        let written = session.written;
        let left = session.left.wait_for(|&left| left == written).await;
        left.map(drop).map_err(io::Error::other)
    }
}

/// The length of a client's preface (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// The length of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;

/// Counts the bytes of the DATA frames that leave a client's connection.
struct Counting {
    counter: watch::Sender<usize>,
    /// The number of bytes that are missing of the preface, or of a payload.
    unseen: usize,
    /// The bytes of an incomplete head.
    head: Vec<u8>,
    /// The payload is that of a DATA frame.
    data: bool,
}

impl Tap for Counting {
    fn written(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let passed = bytes.len().min(self.unseen);
            self.unseen -= passed;
            bytes = &bytes[passed..];
            if self.data {
                self.counter.send_modify(|left| *left += passed);
            }
            let rest = bytes.len().min(HEAD - self.head.len());
            self.head.extend(&bytes[..rest]);
            bytes = &bytes[rest..];
            if let [high, middle, low, kind, ..] = self.head[..] {
                if self.head.len() == HEAD {
                    self.unseen = u32::from_be_bytes([0, high, middle, low]) as usize;
                    self.data = kind == 0;
                    self.head.clear();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_over_http2_end_with_their_peers() {
    run(Http2).await;
}

/// The answer to the first message does not fit into the client's window.
#[tokio::test(start_paused = true)]
async fn everything_is_received_from_a_stream_that_is_reset_while_an_answer_waits_for_its_window() {
    const SENT: usize = 40;
    const TICK: Duration = Duration::from_millis(20);
    let (notes, mut heard) = mpsc::unbounded_channel();
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
        let notes = notes.clone();
        async move {
            let mut received = 0;
            while let Ok(Some(_)) = socket.recv().await {
                received += 1;
                if received == 1 {
                    socket.send(vec![0; 128 * 1024]).await?;
                }
                sleep(TICK).await;
            }
            notes.send(received)?;
            Ok::<_, Error>(())
        }
    });
    let connections = layer.connections();
    let session = Session::new(http2::serve(layer.into_service())).await;
    let mut tunnel = session.open().await;
    let message = frame(FIN | BINARY, b"and then");
    wire::write(&mut tunnel, &message.repeat(SENT)).await;
    sleep(3 * TICK).await;
    assert_eq!(
        connections.counts().traffic().messages_received(),
        17,
        "one made room"
    );
    drop(tunnel);
    assert_eq!(heard.recv().await, Some(SENT));
    connections.wait().await;
}
