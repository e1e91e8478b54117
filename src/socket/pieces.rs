//! How much of compressed messages one poll of a connection's task takes, in each way of receiving and
//! sending them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use flate2::{Compress, FlushCompress};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    sync::oneshot,
};

use super::{
    Introduction, Link, Served, Setup, WebSocket,
    session::{self, Session},
};
use crate::{
    any_error::BoxError,
    codec::{Deflate, Deflation, Outgoing, Role, counted},
    config::Config,
    extension::deflate::{Direction, Terms},
    message::Message,
    report::Name,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What a poll may inflate and compress together.
const MOST: usize = 256 * KIB;

/// The bytes that a task has inflated, put in one piece and compressed.
#[derive(Debug, Default)]
struct Counts {
    most: AtomicUsize,
    total: AtomicUsize,
}

impl Counts {
    /// Asserts that they are at least `total`, and were spread over many polls.
    fn assert_spread(&self, total: usize, way: &str) {
        let counted = self.total.swap(0, Ordering::Relaxed);
        let most = self.most.swap(0, Ordering::Relaxed);
        assert!(counted >= total, "{way}: {counted} bytes in all");
        assert!(most <= MOST, "{way}: {most} bytes in a poll");
    }
}

/// A future, of which each poll is counted by itself.
struct Counted<F> {
    future: Pin<Box<F>>,
    counts: Arc<Counts>,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        counted::take();
        let polled = self.future.as_mut().poll(cx);
        let counted = counted::take();
        self.counts.most.fetch_max(counted, Ordering::Relaxed);
        self.counts.total.fetch_add(counted, Ordering::Relaxed);
        polled
    }
}

fn deflation(context_takeover: bool) -> Deflation {
    let direction = Direction {
        window_bits: 15,
        context_takeover,
    };
    Deflate::new().level(1).agreed(Terms {
        send: direction,
        receive: direction,
    })
}

/// Serves one end of a pipe, and returns the other one.
fn serve<F>(
    context_takeover: bool,
    handle: impl FnOnce(WebSocket) -> F,
) -> (DuplexStream, Arc<Counts>)
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let (server, client) = duplex(64 * KIB);
    let config = Config::new().max_message_size(64 * MIB);
    let config = Arc::new(config);
    let name = Name {
        handler: "",
        path: "".into(),
    };
    let link = Arc::new(Link::new(Role::Server, name, Arc::clone(&config)));
    let served = Served {
        io: server,
        early: Bytes::new(),
        link,
        setup: Setup {
            deflation: Some(deflation(context_takeover)),
            ..Setup::new(config)
        },
    };
    let session: Session<_, F, ()> =
        session::serve(served, Box::<Introduction>::default(), (), handle);
    let counts = Arc::<Counts>::default();
    tokio::spawn(Counted {
        future: Box::pin(session),
        counts: Arc::clone(&counts),
    });
    (client, counts)
}

/// Gives the socket to the test.
fn serve_held(context_takeover: bool) -> (DuplexStream, Arc<Counts>, oneshot::Receiver<WebSocket>) {
    let (give, held) = oneshot::channel();
    let (client, counts) = serve(context_takeover, move |socket| async move {
        drop(give.send(socket));
        Ok(())
    });
    (client, counts, held)
}

/// The peer, as a client that is not ours.
struct Peer {
    io: DuplexStream,
    compress: Compress,
}

impl Peer {
    fn new(io: DuplexStream) -> Self {
        Self {
            io,
            compress: Compress::new(flate2::Compression::new(6), false),
        }
    }

    async fn send(&mut self, message: &Message) {
        let len = message.len();
        let mut compressed = Vec::with_capacity(len + len / 8 + 64);
        self.compress
            .compress_vec(message.as_bytes(), &mut compressed, FlushCompress::Sync)
            .unwrap();
        compressed.truncate(compressed.len() - 4);
        let mut outgoing = Outgoing::new(Role::Client);
        outgoing.push_compressed(message, &compressed.into(), true);
        while !outgoing.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[])];
            let bytes = outgoing.slices(&mut slices)[0].to_vec();
            self.io.write_all(&bytes).await.unwrap();
            let _ = outgoing.advance(bytes.len());
        }
    }
}

fn zeros(len: usize) -> Message {
    Message::binary(vec![0; len])
}

fn text(len: usize) -> Message {
    Message::text("wörd ".repeat(len / 6))
}

#[tokio::test]
async fn inflates_for_a_handler_in_pieces() {
    let (to_test, mut received) = tokio::sync::mpsc::unbounded_channel();
    let (client, counts) = serve(true, move |mut socket| async move {
        while let Some(message) = socket.recv().await? {
            to_test.send(message)?;
        }
        Ok(())
    });
    let mut peer = Peer::new(client);
    for message in [
        zeros(64 * MIB),
        text(3 * MIB),
        zeros(10 * KIB),
        text(100 * KIB),
    ] {
        peer.send(&message).await;
        assert!(received.recv().await.unwrap() == message);
        counts.assert_spread(message.len(), "in the connection's own task");
    }
}

#[tokio::test]
async fn inflates_for_another_task_in_pieces() {
    let (client, counts, held) = serve_held(false);
    let mut socket = held.await.unwrap();
    let mut peer = Peer::new(client);
    for message in [zeros(3 * MIB), text(3 * MIB)] {
        peer.compress.reset();
        peer.send(&message).await;
        counted::take();
        // A future that is dropped takes nothing with it.
        for _ in 0..3 {
            tokio::select! {
                biased;
                received = socket.recv() => panic!("all of {} bytes in so few polls", received.unwrap().unwrap().len()),
                () = tokio::task::yield_now() => {}
            }
        }
        assert!(socket.recv().await.unwrap() == Some(message.clone()));
        counts.assert_spread(message.len(), "for another task");
    }
}
