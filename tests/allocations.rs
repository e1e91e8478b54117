//! What is allocated where nothing, or next to nothing, should be.
//!
//! The allocator counts for the whole process, and a test harness has a thread of its own: so there
//! is none, and the program is the test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/wire.rs"]
mod wire;

use std::{
    alloc::System,
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use axum::Router;
use http::{Request, Response};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Layer, Service};
use tower_websocket::{Echo, Error, Handler, WebSocket, WebSocketLayer};
use wire::{BINARY, FIN, frame};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: usize = 1000;

fn main() {
    assert_eq!(passing_on(), 0, "a request that is passed on");
    println!(
        "{} {} {} {} {}",
        echoed(Echo::new(), 32),
        echoed(repeat, 32),
        echoed(repeat, 1000),
        echoed(repeat, 2000),
        echoed(repeat, 16384)
    );
    // The message itself, which the handler owns.
    assert_eq!(echoed(Echo::new(), 32), MESSAGES, "32 bytes, echoed");
    for len in [32, 1000, 2000] {
        assert_eq!(
            echoed(repeat, len),
            MESSAGES,
            "{len} bytes through a handler"
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
fn echoed(handler: impl Handler, len: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().layer(WebSocketLayer::new(handler));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let mut client = wire::open(address, "/").await;

        let frame = frame(FIN | BINARY, &vec![b'x'; len]);
        // What comes back has no mask.
        let mut received = vec![0; frame.len() - 4];
        exchange(&mut client, &frame, &mut received, 10).await;
        let region = Region::new(ALLOCATOR);
        exchange(&mut client, &frame, &mut received, MESSAGES).await;
        region.change().allocations
    })
}

async fn exchange(client: &mut TcpStream, frame: &[u8], received: &mut [u8], times: usize) {
    for _ in 0..times {
        client.write_all(frame).await.unwrap();
        client.read_exact(received).await.unwrap();
    }
}
