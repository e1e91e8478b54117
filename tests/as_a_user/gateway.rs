//! Tests of `examples/gateway.rs`.

#[path = "../../examples/gateway.rs"]
#[allow(dead_code, reason = "main is not called")]
mod example;

use std::{
    future::pending,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::Router;
use http::{HeaderValue, header::SET_COOKIE, request::Parts};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tower_websocket::{
    Accept, CloseCode, CloseFrame, Closed, Echo, Error, Handler, Refusal, WebSocket,
    WebSocketLayer,
    client::{ConnectError, Handshake},
    decide,
    error::SendError,
    testing::{Client, Request, Wire, connect},
    with_state,
};

use super::{
    SECOND,
    client::{code, text},
};

/// Makes a gateway to an upstream in memory, and the wires of its upstream connections.
fn gateway_with_wires(upstream: impl Handler) -> (Router, Arc<Mutex<Vec<Wire>>>) {
    let upstream = Router::new().layer(WebSocketLayer::new(upstream));
    let wires = Arc::<Mutex<Vec<_>>>::default();
    let all = Arc::clone(&wires);
    let app = example::app("ws://upstream.example/", move |handshake: Handshake| {
        let (upstream, all) = (upstream.clone(), Arc::clone(&all));
        async move {
            let client = connect(upstream, handshake).await?;
            all.lock().unwrap().push(client.wire());
            let response = client.response().clone();
            Ok((client.into_socket(), response))
        }
    });
    (app, wires)
}

fn gateway(upstream: impl Handler) -> Router {
    gateway_with_wires(upstream).0
}

/// Connects to an upstream that echoes, and reports the end of its connection.
async fn reporting() -> (Client, mpsc::UnboundedReceiver<Closed>) {
    let (ends, end) = mpsc::unbounded_channel();
    let app = gateway(with_state(ends, async |mut socket: WebSocket, ends| {
        while let Ok(Some(message)) = socket.recv().await {
            socket.send(message).await?;
        }
        ends.send(socket.closed().await).map_err(Error::new)
    }));
    let mut client = connect(app, "/").await.unwrap();
    client.send("Hello").await.unwrap();
    assert_eq!(text(&mut client).await, "Hello");
    (client, end)
}

#[tokio::test(start_paused = true)]
async fn passes_messages_on_in_both_directions() {
    let mut client = connect(gateway(Echo::new()), "/any/path").await.unwrap();
    client.send("Hello").await.unwrap();
    client.send(vec![1, 2, 3]).await.unwrap();
    assert_eq!(text(&mut client).await, "Hello");
    assert_eq!(*client.recv().await.unwrap().unwrap().as_bytes(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_upstream_gets_the_request_and_the_client_the_answer() {
    let app = gateway(decide(
        async |request: &mut Parts| {
            let cookie = HeaderValue::from_static("seen=1");
            let accept = Accept::new().subprotocol("v2").header(SET_COOKIE, cookie);
            let [auth, cookie] = ["authorization", "cookie"].map(|name| &request.headers[name]);
            Ok((accept, format!("{} {auth:?} {cookie:?}", request.uri)))
        },
        async |mut socket, seen| Ok::<_, Error>(socket.send(seen).await?),
    ));
    let request = Request::new("/desk?n=1")
        .subprotocol("v1")
        .subprotocol("v2");
    let request = request.header("authorization", "Bearer x");
    let request = request.header("cookie", "a=b").origin("http://localhost");
    let mut client = connect(app, request).await.unwrap();
    assert_eq!(client.subprotocol(), Some("v2"));
    assert_eq!(client.response().headers()[SET_COOKIE], "seen=1");
    assert_eq!(text(&mut client).await, r#"/desk?n=1 "Bearer x" "a=b""#);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_upstream_reaches_the_client() {
    let app = gateway(decide(
        async |_| Err(Refusal::unauthorized().message("who are you?")),
        async |_: WebSocket, ()| Ok::<_, Error>(()),
    ));
    let error = connect(app, "/").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().status(), 401);
    assert_eq!(error.refusal().unwrap().body(), "who are you?");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_cannot_be_reached_is_a_502() {
    let app = example::app("ws://upstream.example", async |_| {
        Err(ConnectError::Io(io::ErrorKind::ConnectionRefused.into()))
    });
    let error = connect(app, "/").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().status(), 502);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_does_not_answer_is_a_504() {
    let app = gateway(decide(
        async |_| pending::<Result<(Accept, ()), Refusal>>().await,
        async |_: WebSocket, ()| Ok::<_, Error>(()),
    ));
    let start = Instant::now();
    let error = connect(app, "/").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().status(), 504);
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_upstream_sees_the_close_of_the_client() {
    let (mut client, mut end) = reporting().await;
    client.close(CloseCode::of::<4321>(), "done").await.unwrap();
    let closed = end.recv().await.unwrap();
    assert_eq!(closed.code().map(CloseCode::get), Some(4321));
    assert_eq!(closed.reason(), "done");
}

#[tokio::test(start_paused = true)]
async fn the_upstream_sees_a_close_without_a_code() {
    let (mut client, mut end) = reporting().await;
    client.close_without_code().await;
    let closed = end.recv().await.unwrap();
    assert_eq!((closed.code(), closed.is_clean()), (None, true));
}

#[tokio::test(start_paused = true)]
async fn the_upstream_sees_1001_if_the_client_is_lost() {
    let (client, mut end) = reporting().await;
    client.wire().cut();
    let closed = end.recv().await.unwrap();
    assert_eq!(closed.code(), Some(CloseCode::GOING_AWAY));
}

#[tokio::test(start_paused = true)]
async fn the_client_sees_the_close_of_the_upstream_after_its_messages() {
    let app = gateway(with_state((), async |mut socket: WebSocket, ()| {
        socket.send("last words").await?;
        let frame = CloseFrame::new(CloseCode::of::<4002>(), "enough")?;
        Err::<(), _>(Error::new(frame))
    }));
    let mut client = connect(app, "/").await.unwrap();
    assert_eq!(text(&mut client).await, "last words");
    let closed = client.closed().await;
    assert_eq!(closed.code().map(CloseCode::get), Some(4002));
    assert_eq!(closed.reason(), "enough");
}

#[tokio::test(start_paused = true)]
async fn the_client_sees_1014_if_the_upstream_is_lost() {
    let (app, wires) = gateway_with_wires(Echo::new());
    let mut client = connect(app, "/").await.unwrap();
    wires.lock().unwrap()[0].cut();
    assert_eq!(code(&mut client).await, Some(1014));
}

/// Sends without end, and counts its messages.
async fn flood(mut socket: WebSocket, sent: Arc<AtomicUsize>) -> Result<(), SendError> {
    loop {
        socket.send(vec![0; 10_000]).await?;
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_slows_the_upstream_down() {
    let sent = Arc::<AtomicUsize>::default();
    let app = gateway(with_state(Arc::clone(&sent), flood));
    let mut client = connect(app, "/").await.unwrap();
    client.wire().pause_reading();
    sleep(SECOND).await;
    let held = sent.load(Ordering::Relaxed);
    // Two outboxes of 1 MiB, an inbox, and the buffers of two wires.
    assert!((200..300).contains(&held), "{held} messages");
    sleep(5 * SECOND).await;
    assert_eq!(sent.load(Ordering::Relaxed), held);
    client.wire().resume_reading();
    for _ in 0..2 * held {
        client.recv().await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_does_not_read_slows_the_client_down() {
    let app = gateway(with_state((), async |mut socket: WebSocket, ()| {
        sleep(5 * SECOND).await;
        for _ in 0..500 {
            socket.recv().await?;
        }
        Ok::<_, Error>(socket.send("all 500").await?)
    }));
    let mut client = connect(app, "/").await.unwrap();
    let start = Instant::now();
    for _ in 0..500 {
        client.send(vec![0; 10_000]).await.unwrap();
    }
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(text(&mut client).await, "all 500");
}
