//! Admission: how many connections there may be, in all and of one key, and when a place is free
//! again.
//!
//! Most of it is served in memory under a stopped clock, where a wait costs no time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "admission/by_key.rs"]
mod by_key;
mod support;

use std::{
    future::{Ready, pending, ready},
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use pipe::{knock, open_at, serve, until_open};
use support::{pipe, wire};
use tokio::{
    io::{AsyncRead, AsyncWrite, duplex},
    sync::Semaphore,
    task::yield_now,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;
use tower_websocket::{
    Accept, BoxError, Connections, Echo, Handler, IntoHandler, Refusal, ResponseBody, WebSocket,
    WebSocketLayer,
};
use wire::{close, handshake, read_close, read_head, status, write};

const GUARD: Duration = Duration::from_secs(30);

/// Sends a handshake and reads the head of the answer.
async fn ask(client: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    let asked = async {
        write(client, handshake(path).as_bytes()).await;
        read_head(client).await
    };
    timeout(GUARD, asked).await.expect("no answer")
}

/// Does the closing handshake as the side that begins it, and leaves.
async fn leave(mut client: impl AsyncRead + AsyncWrite + Unpin) {
    write(&mut client, &close(1000, "")).await;
    assert_eq!(read_close(&mut client).await, Some(1000));
}

/// Asserts that the place of a layer that has only one is free, and its key is, too.
async fn assert_is_free(layer: &WebSocketLayer<impl Handler>) {
    until_open(&layer.connections(), 0).await;
    let client = open_at(layer, "/").await;
    assert_eq!(layer.connections().counts().open(), 1);
    drop(client);
}

fn at_most(max: usize) -> Connections {
    Connections::new().max_connections(max)
}

/// A layer that has one place, for connections and for the only key.
fn narrow<M, H: Handler>(handler: impl IntoHandler<M, Handler = H>) -> WebSocketLayer<H> {
    let layer = WebSocketLayer::new(handler).connections_in(&at_most(1));
    layer.max_per_key(1, |_| Some("everybody"))
}

#[tokio::test(start_paused = true)]
async fn refuses_more_than_the_maximum_with_503_and_says_when_to_retry() {
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&at_most(2));
    let connections = layer.connections();
    let first = open_at(&layer, "/").await;
    let _second = open_at(&layer, "/").await;

    let mut third = serve(layer.clone().into_service(), 1024);
    let head = ask(&mut third, "/").await.to_ascii_lowercase();
    assert_eq!(status(&head), 503);
    assert!(head.contains("\r\nretry-after: 10\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert_eq!(connections.counts().open(), 2);

    leave(first).await;
    until_open(&connections, 1).await;
    let _third = open_at(&layer, "/").await;
    assert_eq!(knock(&layer, "/").await.0, 503);
}

#[tokio::test(start_paused = true)]
async fn admits_any_number_without_a_maximum() {
    let layer =
        WebSocketLayer::new(Echo::new()).connections_in(&at_most(1).without_max_connections());
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(open_at(&layer, "/").await);
    }
    assert_eq!(layer.connections().counts().open(), 50);
}

#[tokio::test(start_paused = true)]
async fn takes_no_place_for_a_request_that_is_no_valid_handshake() {
    let layer = narrow(Echo::new());
    let mut client = serve(layer.clone().into_service(), 1024);
    let keyless = handshake("/").replace("Sec-WebSocket-Key", "X-Key");
    write(&mut client, keyless.as_bytes()).await;
    assert_eq!(status(&read_head(&mut client).await), 400);
    assert_is_free(&layer).await;
}

#[tokio::test(start_paused = true)]
async fn gives_the_place_back_when_the_connection_is_over_and_its_handler_still_works() {
    let returns = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&returns);
    let layer = narrow(move |mut socket: WebSocket| {
        let gate = Arc::clone(&gate);
        async move {
            while socket.recv().await?.is_some() {}
            let _ = gate.acquire().await?;
            Ok::<_, BoxError>(())
        }
    });
    leave(open_at(&layer, "/").await).await;
    until_open(&layer.connections(), 0).await;
    assert_eq!(layer.connections().counts().lingering(), 1);
    assert_is_free(&layer).await;
    returns.add_permits(2);
    layer.connections().wait().await;
    assert_eq!(layer.connections().counts().lingering(), 0);
}

#[tokio::test(start_paused = true)]
async fn holds_the_place_until_the_connection_has_ended() {
    let layer = narrow(async |_socket: WebSocket| Ok::<_, BoxError>(()));
    let mut silent = open_at(&layer, "/").await;
    let start = Instant::now();
    assert_eq!(read_close(&mut silent).await, Some(1000));
    sleep(Duration::from_millis(4900)).await;
    assert_eq!(knock(&layer, "/").await.0, 503, "the peer may still answer");
    until_open(&layer.connections(), 0).await;
    assert!(start.elapsed() >= Duration::from_secs(5));
    assert_is_free(&layer).await;
}

#[tokio::test(start_paused = true)]
async fn frees_the_place_when_the_client_leaves_during_accept() {
    struct Waits(Arc<Semaphore>);
    impl Handler for Waits {
        async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
            if request.uri.path() == "/wait" {
                self.0.add_permits(1);
                pending::<()>().await;
            }
            Ok(Accept::new())
        }
        async fn handle(&self, socket: WebSocket) -> Result<(), BoxError> {
            socket.sender().closed().await;
            Ok(())
        }
    }
    let accepting = Arc::new(Semaphore::new(0));
    let layer = narrow(Waits(Arc::clone(&accepting))).accept_timeout(Duration::MAX);
    let mut client = serve(layer.clone().into_service(), 1024);
    write(&mut client, handshake("/wait").as_bytes()).await;
    let _ = accepting.acquire().await.unwrap();
    assert_eq!(layer.connections().counts().open(), 1);
    assert_eq!(knock(&layer, "/").await.0, 503);
    drop(client);
    assert_is_free(&layer).await;
    let counts = layer.connections().counts();
    assert_eq!(counts.accepted(), 1, "the one that shows that it is free");
    assert_eq!(counts.refused_as("too_many_connections"), 1);
}

#[tokio::test(start_paused = true)]
async fn frees_the_place_when_accept_does_not_accept() {
    struct Moody;
    impl Handler for Moody {
        async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
            match request.uri.path() {
                "/refuse" => return Err(Refusal::forbidden()),
                "/panic" => panic!("in accept"),
                "/late" => sleep(Duration::from_secs(11)).await,
                _ => {}
            }
            Ok(Accept::new())
        }
        async fn handle(&self, socket: WebSocket) -> Result<(), BoxError> {
            socket.sender().closed().await;
            Ok(())
        }
    }
    for (path, expected) in [("/refuse", 403), ("/panic", 500), ("/late", 503)] {
        let layer = narrow(Moody);
        assert_eq!(knock(&layer, path).await.0, expected, "{path}");
        assert_eq!(layer.connections().counts().open(), 0, "{path}");
        assert_is_free(&layer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn frees_the_place_when_the_server_does_not_hand_out_connections() {
    let layer = narrow(Echo::new());
    let (server, mut client) = duplex(1024);
    let service = TowerToHyperService::new(layer.clone().into_service());
    let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(async { drop(connection.await) });
    assert_eq!(status(&ask(&mut client, "/").await), 101);
    assert_is_free(&layer).await;
}

#[tokio::test(start_paused = true)]
async fn frees_the_place_when_an_outer_layer_replaces_the_101() {
    let layer = narrow(Echo::new());
    let service = layer.clone().into_service();
    let outer = ServiceExt::<Request<Incoming>>::map_response(service, |_| {
        let mut other = Response::new(ResponseBody::default());
        *other.status_mut() = StatusCode::FORBIDDEN;
        let close = HeaderValue::from_static("close");
        other.headers_mut().insert(header::CONNECTION, close);
        other
    });
    let mut client = serve(outer, 1024);
    assert_eq!(status(&ask(&mut client, "/").await), 403);
    assert_is_free(&layer).await;
}

#[tokio::test(start_paused = true)]
async fn frees_the_place_when_the_client_leaves_before_the_101_is_written() {
    let layer = narrow(Echo::new());
    // Too little room for the 101, so that the server is still writing it.
    let mut client = serve(layer.clone().into_service(), 32);
    write(&mut client, handshake("/").as_bytes()).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(layer.connections().counts().open(), 1);
    drop(client);
    assert_is_free(&layer).await;
}

#[tokio::test(start_paused = true)]
async fn frees_the_place_when_the_connection_is_not_handed_over_in_time() {
    let layer = narrow(Echo::new());
    let mut client = serve(layer.clone().into_service(), 32);
    let start = Instant::now();
    write(&mut client, handshake("/").as_bytes()).await;
    sleep(Duration::from_millis(9900)).await;
    assert_eq!(layer.connections().counts().open(), 1);
    until_open(&layer.connections(), 0).await;
    assert!(start.elapsed() >= Duration::from_secs(10));
    assert_is_free(&layer).await;
}

/// Panics when it is dropped.
struct Trap;

impl Drop for Trap {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

#[tokio::test(start_paused = true)]
async fn frees_the_place_when_the_handler_panics() {
    fn at_once(_: WebSocket) -> Ready<Result<(), BoxError>> {
        panic!("before it awaits")
    }
    async fn later(_socket: WebSocket) -> Result<(), BoxError> {
        sleep(Duration::from_secs(1)).await;
        panic!("after it awaited")
    }
    async fn in_drop(socket: WebSocket) -> Result<(), BoxError> {
        let _trap = Trap;
        socket.sender().closed().await;
        Ok(())
    }
    /// Panics when its future is dropped, after it was ready.
    fn ready_trap(_: WebSocket) -> impl Future<Output = Result<(), BoxError>> {
        let trap = Trap;
        let mut ready = ready(Ok(()));
        std::future::poll_fn(move |cx| {
            let _ = &trap;
            std::pin::Pin::new(&mut ready).poll(cx)
        })
    }
    panics_and_frees(at_once, 1011).await;
    panics_and_frees(later, 1011).await;
    panics_and_frees(in_drop, 1000).await;
    panics_and_frees(ready_trap, 1011).await;
}

/// Asserts that a handler that panics on its own, or when the peer closes, leaves nothing behind.
async fn panics_and_frees<M>(handler: impl IntoHandler<M, Handler: Handler>, code: u16) {
    let layer = narrow(handler);
    for _ in 0..3 {
        let mut client = open_at(&layer, "/").await;
        if code == 1000 {
            write(&mut client, &close(1000, "")).await;
        }
        assert_eq!(read_close(&mut client).await, Some(code));
        if code != 1000 {
            write(&mut client, &close(code, "")).await;
        }
        drop(client);
        until_open(&layer.connections(), 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn counts_the_connections_of_all_clones_together() {
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&at_most(2));
    let layer = layer.max_per_key(1, |request| {
        (request.uri.path() == "/key").then_some("the same")
    });
    let other = layer.clone();
    let first = open_at(&layer, "/key").await;
    assert_eq!(knock(&other, "/key").await.0, 429);
    let _second = open_at(&other, "/").await;
    assert_eq!(knock(&layer, "/").await.0, 503);
    assert_eq!(other.connections().counts().open(), 2);
    leave(first).await;
    until_open(&other.connections(), 1).await;
    let _first = open_at(&other, "/key").await;
}

#[tokio::test(start_paused = true)]
async fn counts_the_connections_of_layers_that_share_them_together() {
    let connections = at_most(2);
    let layers = ["/one", "/two"].map(|path| {
        let layer = WebSocketLayer::new(Echo::new());
        layer.path(path).connections_in(&connections)
    });
    let first = open_at(&layers[0], "/one").await;
    let _second = open_at(&layers[1], "/two").await;
    assert_eq!(knock(&layers[0], "/one").await.0, 503);
    assert_eq!(knock(&layers[1], "/two").await.0, 503);
    let counts = connections.counts();
    assert_eq!((counts.open(), counts.accepted()), (2, 2));
    leave(first).await;
    until_open(&layers[1].connections(), 1).await;
    let _first = open_at(&layers[1], "/two").await;
}

/// A setting through one handle applies to all handles, before and after a layer uses the registry.
#[tokio::test(start_paused = true)]
async fn changes_the_maximum_through_any_handle() {
    let connections = Connections::default();
    let clone = connections.clone().max_connections(1);
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&connections);
    let _first = open_at(&layer, "/").await;
    assert_eq!(knock(&layer, "/").await.0, 503);
    drop(clone);

    let raised = layer.connections().max_connections(2);
    let _second = open_at(&layer, "/").await;
    assert_eq!(knock(&layer, "/").await.0, 503);

    let _lowered = raised.max_connections(1);
    assert_eq!(connections.counts().open(), 2, "none is ended");
    assert_eq!(knock(&layer, "/").await.0, 503);

    let _none = connections.clone().without_max_connections();
    let _third = open_at(&layer, "/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admits_exactly_the_maximum_when_all_ask_at_once() {
    const MAX: usize = 50;
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&at_most(MAX));
    for round in 0..3 {
        let asking: Vec<_> = (0..4 * MAX)
            .map(|_| {
                let layer = layer.clone();
                tokio::spawn(async move { knock(&layer, "/").await })
            })
            .collect();
        let mut admitted = Vec::new();
        for answer in asking {
            match answer.await.unwrap() {
                (101, client) => admitted.push(client),
                (status, _) => assert_eq!(status, 503),
            }
        }
        assert_eq!(admitted.len(), MAX, "round {round}");
        drop(admitted);
        let all_left = async {
            while layer.connections().counts().open() > 0 {
                yield_now().await;
            }
        };
        timeout(GUARD, all_left).await.unwrap();
    }
    assert_eq!(layer.connections().counts().accepted(), 3 * MAX as u64);
}
