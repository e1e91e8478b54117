//! The number of allocations in code that should allocate nothing, or almost nothing.
//!
//! The allocator counts for the whole process, and a test harness has its own thread. So this program has
//! no harness: it is the test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    alloc::System,
    convert::Infallible,
    future::{Future, Ready, ready},
    iter,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use axum::Router;
use bytes::Bytes;
use http::{Request, Response};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use support::{tcp, wire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tower::{Layer, Service};
use tower_websocket::{
    BoxError, Echo, Error, Handler, IntoHandler, Message, WebSocket, WebSocketLayer,
};
use wire::{BINARY, FIN, frame};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KIB: usize = 1024;
const MESSAGES: usize = 1000;

fn main() {
    assert_eq!(passing_on(), 0, "a request that is passed on");
    // The message itself, which the handler owns.
    assert_eq!(echoed(Echo::new(), 32), MESSAGES, "32 bytes, echoed");
    for len in [32, KIB, 2 * KIB] {
        let allocated = echoed(repeat, len);
        assert_eq!(allocated, MESSAGES, "{len} bytes through a handler");
    }
    for len in [16 * KIB, KIB * KIB] {
        let allocated = echoed(repeat, len);
        assert!(allocated <= 2 * MESSAGES, "{allocated} for {len} bytes");
    }

    // The message itself, and no buffer to read into.
    let len = 128 * KIB;
    let bytes = exchanged(repeat, &frame(FIN | BINARY, &vec![b'x'; len]), len + 10).bytes_allocated;
    assert!(bytes < MESSAGES * len * 5 / 4, "{bytes} bytes for 128 KiB");

    // The request alone: sending allocates nothing.
    for (len, count) in [
        (32, 1),
        (KIB, 1),
        (2 * KIB, 1),
        (16 * KIB, 1),
        (KIB * KIB, 1),
        // Half of what may wait to be written.
        (16 * KIB, 32),
    ] {
        let case = format!("{count} x {len} bytes");
        let answers = Answers::new(len, count);
        assert_eq!(answered(answers.here(), &answers), MESSAGES, "{case}");
        assert_eq!(
            answered(answers.elsewhere(), &answers),
            MESSAGES,
            "{case} from another task"
        );
    }
    println!("what is allocated is as little as it should be");
}

async fn repeat(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// The answers to each received message.
#[derive(Clone)]
struct Answers {
    payload: Bytes,
    count: usize,
}

impl Answers {
    fn new(len: usize, count: usize) -> Self {
        let payload = Bytes::from_owner(vec![b'x'; len]);
        Self { payload, count }
    }

    fn messages(&self) -> impl Iterator<Item = Message> {
        iter::repeat_n(Message::Binary(self.payload.clone()), self.count)
    }

    fn here(&self) -> impl Handler {
        let answers = self.clone();
        let handler = move |mut socket: WebSocket| {
            let answers = answers.clone();
            async move {
                while socket.recv().await?.is_some() {
                    for message in answers.messages() {
                        socket.send(message).await?;
                    }
                }
                Ok::<_, BoxError>(())
            }
        };
        handler.into_handler()
    }

    /// Has another task send them.
    fn elsewhere(&self) -> impl Handler {
        let answers = self.clone();
        let handler = move |mut socket: WebSocket| {
            let answers = answers.clone();
            async move {
                let came = Arc::new(Notify::new());
                let (sender, comes) = (socket.sender(), Arc::clone(&came));
                let task = tokio::spawn(async move {
                    loop {
                        comes.notified().await;
                        for message in answers.messages() {
                            sender.send(message).await.unwrap();
                        }
                    }
                });
                while socket.recv().await?.is_some() {
                    came.notify_one();
                }
                task.abort();
                Ok::<_, BoxError>(())
            }
        };
        handler.into_handler()
    }
}

/// Returns the allocations of plain requests through the layer, in all.
fn passing_on() -> usize {
    #[derive(Clone)]
    struct Inner;

    impl Service<Request<()>> for Inner {
        type Response = Response<()>;
        type Error = Infallible;
        type Future = Ready<Result<Response<()>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            ready(Ok(Response::new(())))
        }
    }

    let mut service = WebSocketLayer::new(Echo::new()).path("/ws").layer(Inner);
    let request = |_| Request::get("/plain").header("host", "a").body(()).unwrap();
    let requests: Vec<_> = (0..MESSAGES).map(request).collect();
    let mut context = Context::from_waker(Waker::noop());
    let region = Region::new(ALLOCATOR);
    for request in requests {
        let response = pin!(service.call(request)).poll(&mut context);
        assert!(matches!(response, Poll::Ready(Ok(_))));
    }
    region.change().allocations
}

/// Returns the allocations for as many messages of `len` bytes, once a few have come and gone.
fn echoed<M>(handler: impl IntoHandler<M, Handler: Handler>, len: usize) -> usize {
    let frame = frame(FIN | BINARY, &vec![b'x'; len]);
    // The answer has no mask.
    let answer = frame.len() - 4;
    exchanged(handler, &frame, answer).allocations
}

/// Returns the allocations for as many requests, once a few are answered.
fn answered<M>(handler: impl IntoHandler<M, Handler: Handler>, answers: &Answers) -> usize {
    let len = answers.payload.len();
    let answer = answers.count * (wire::header(FIN | BINARY, len, false).len() + len);
    exchanged(handler, &frame(FIN | BINARY, b"request"), answer).allocations
}

fn exchanged<M>(
    handler: impl IntoHandler<M, Handler: Handler>,
    frame: &[u8],
    answer: usize,
) -> Stats {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let app = Router::new().layer(WebSocketLayer::new(handler));
        let mut client = tcp::open(app).await;

        let mut received = vec![0; answer];
        exchange(&mut client, frame, &mut received, 10).await;
        let region = Region::new(ALLOCATOR);
        exchange(&mut client, frame, &mut received, MESSAGES).await;
        region.change()
    })
}

async fn exchange(client: &mut TcpStream, frame: &[u8], received: &mut [u8], times: usize) {
    for _ in 0..times {
        client.write_all(frame).await.unwrap();
        client.read_exact(received).await.unwrap();
    }
}
