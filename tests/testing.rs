//! The feature `test-util`: the services and requests that it takes, and the effect of each fault.

#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    convert::Infallible, future::pending, io::ErrorKind, panic::AssertUnwindSafe, time::Duration,
};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout};
use tower::{ServiceBuilder, service_fn};
use tower_http::trace::TraceLayer;
use tower_websocket::{
    Accept, BoxError, CloseCode, Config, Echo, Handler, Message, Refusal, WebSocket,
    WebSocketLayer,
    client::{ConnectError, Handshake},
    error::{RecvError, SendError},
    testing::{Client, HttpService, Request, connect},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

async fn assert_echoes(client: &mut WebSocket) {
    client.send("Hello").await.unwrap();
    assert_eq!(client.recv().await.unwrap(), Some(Message::text("Hello")));
}

async fn assert_serves(service: impl HttpService) {
    assert_echoes(&mut connect(service, "/ws").await.unwrap()).await;
}

fn echo() -> WebSocketLayer {
    WebSocketLayer::new(Echo::new()).path("/ws")
}

/// Sends the parts of the request that reached the service.
struct Witness;

impl Handler for Witness {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        let fields = &request.headers;
        let field = |name: &str| fields.get(name).map(|value| value.to_str().unwrap());
        let number = request.extensions.get::<u32>();
        let seen = format!(
            "{} {:?} {:?} {:?} {number:?}",
            request.uri,
            field("host").unwrap(),
            field("x-user"),
            field("origin"),
        );
        let cookie = HeaderValue::from_static("id=1");
        let accept = Accept::new().header(header::SET_COOKIE, cookie);
        Ok(accept.subprotocol("b").carry(seen))
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        let seen: String = socket.take_carried().unwrap();
        socket.send(seen).await?;
        Ok(())
    }
}

async fn witnessed(request: impl Into<Request>) -> String {
    let service = WebSocketLayer::new(Witness).into_service();
    let mut client = connect(service, request).await.unwrap();
    let message = client.recv().await.unwrap().unwrap();
    message.into_text().unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn drives_routers_and_stacks_with_any_bodies() {
    assert_serves(Router::new().layer(echo())).await;
    assert_serves(Router::new().route_service("/ws", echo().into_service())).await;
    assert_serves(WebSocketLayer::new(Echo::new()).into_service()).await;

    let hyper = service_fn(async |_: http::Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("Hello"))))
    });
    let layers = ServiceBuilder::new().layer(TraceLayer::new_for_http());
    assert_serves(layers.layer(echo()).service(hyper)).await;

    let axum =
        service_fn(async |_: http::Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
    let layers = ServiceBuilder::new().layer(echo());
    let into_axum = |request: http::Request<Incoming>| request.map(Body::new);
    assert_serves(layers.map_request(into_axum).service(axum)).await;

    // This service is not `Clone`.
    struct Once;
    let once = Once;
    let service = service_fn(move |_: http::Request<Incoming>| {
        let Once = &once;
        async { Ok::<_, Infallible>(Response::new(String::new())) }
    });
    assert_serves(ServiceBuilder::new().layer(echo()).service(service)).await;
}

#[tokio::test(start_paused = true)]
async fn waits_until_a_service_is_ready() {
    let slow = ServiceBuilder::new()
        .concurrency_limit(1)
        .buffer(1)
        .service(Router::new().layer(echo()));
    let [first, second] = [slow.clone(), slow].map(assert_serves);
    tokio::join!(first, second);
}

#[tokio::test(start_paused = true)]
async fn takes_requests_in_every_form() {
    let seen = r#"/ws?a=1 "localhost" None None None"#;
    assert_eq!(witnessed("/ws?a=1").await, seen);
    assert_eq!(witnessed(String::from("/ws?a=1")).await, seen);
    assert_eq!(witnessed(&String::from("/ws?a=1")).await, seen);
    assert_eq!(
        witnessed(http::Request::get("/ws?a=1").body(()).unwrap()).await,
        seen
    );
    assert_eq!(
        witnessed(Handshake::new("ws://localhost/ws?a=1").unwrap()).await,
        seen
    );

    let request = Request::new("wss://example.com:8443/a b")
        .header("x-user", "ada")
        .header(header::COOKIE, HeaderValue::from_static("a=b"))
        .origin("https://example.com:8443")
        .extension(7_u32);
    assert_eq!(
        witnessed(request).await,
        r#"/a%20b "example.com:8443" Some("ada") Some("https://example.com:8443") Some(7)"#
    );
    let request = http::Request::get("/").extension(8_u32);
    let request = request.header("Host", "example.com").body(()).unwrap();
    assert_eq!(
        witnessed(request).await,
        r#"/ "example.com" None None Some(8)"#
    );
}

#[tokio::test(start_paused = true)]
async fn shows_the_answer() {
    let service = WebSocketLayer::new(Witness).into_service();
    let request = Request::new("/").subprotocol("a").subprotocol("b");
    let client = connect(service, request).await.unwrap();
    assert_eq!(client.subprotocol(), Some("b"));
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.response().headers()["set-cookie"], "id=1");
    assert_eq!(client.request().path(), "/");
}

#[tokio::test(start_paused = true)]
async fn returns_refusals_with_fields_and_body() {
    let app = Router::new().route(
        "/page",
        get((StatusCode::IM_A_TEAPOT, [("a", "b")], "short and stout")),
    );
    let error = connect(app, "/page").await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.status(), 418);
    assert_eq!(refusal.headers()["a"], "b");
    assert_eq!(refusal.body(), "short and stout");
}

#[tokio::test(start_paused = true)]
async fn returns_refusals_with_bodies_of_any_length() {
    for len in 0..300 {
        let forbid = service_fn(move |_: http::Request<Incoming>| async move {
            let mut answer = Response::new(Full::new(Bytes::from(vec![b'x'; len])));
            *answer.status_mut() = StatusCode::FORBIDDEN;
            Ok::<_, Infallible>(answer)
        });
        let error = connect(forbid, "/ws").await.unwrap_err();
        let refusal = error.refusal().unwrap();
        assert_eq!(refusal.body().len(), len, "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn reports_mistakes_in_a_request() {
    for (request, reason) in [
        (Request::new("ws"), "does not begin with ws://"),
        (Request::new("/ws#here"), "fragment"),
        (
            Request::new("/ws").header("x user", ""),
            "invalid HTTP header name",
        ),
        (
            Request::new("/ws").header("x-user", "a\nb"),
            "failed to parse header value",
        ),
        (Request::new("/ws").subprotocol("a b"), "not a token"),
    ] {
        let error = connect(Router::new(), request).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::InvalidRequest(_)),
            "{error:?}"
        );
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.refusal().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn returns_the_error_of_a_service() {
    let service = service_fn(async |_: http::Request<Incoming>| {
        Err::<Response<String>, BoxError>("the database is gone".into())
    });
    let error = connect(service, "/").await.unwrap_err();
    assert!(matches!(error, ConnectError::Io(_)), "{error:?}");
    assert!(
        error.to_string().contains("the database is gone"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn panics_with_the_panic_of_a_service() {
    let service = service_fn(
        async |_: http::Request<Incoming>| -> Result<Response<String>, Infallible> {
            panic!("of the service")
        },
    );
    let connected = AssertUnwindSafe(connect(service, "/")).catch_unwind();
    let panic = connected.await.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"of the service"));
}

#[tokio::test(start_paused = true)]
async fn gives_up_after_a_minute_and_later_than_the_server() {
    let never = service_fn(
        async |_: http::Request<Incoming>| -> Result<Response<String>, Infallible> {
            pending().await
        },
    );
    let start = Instant::now();
    let error = connect(never, "/").await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 60);

    let never = tower_websocket::decide(
        async |_: &mut Parts| pending::<Result<(Accept, ()), Refusal>>().await,
        async |_: WebSocket, ()| Ok::<_, BoxError>(()),
    );
    let error = connect(WebSocketLayer::new(never).into_service(), "/").await;
    assert_eq!(error.unwrap_err().refusal().unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn a_pair_is_connected() {
    let (mut server, mut client) = WebSocket::pair();
    server.send("one").await.unwrap();
    client.send(vec![2]).await.unwrap();
    assert_eq!(client.recv().await.unwrap(), Some(Message::text("one")));
    assert_eq!(server.recv().await.unwrap(), Some(Message::binary(vec![2])));
    assert_eq!(client.response().status(), 101);
    drop(server);
    assert_eq!(client.recv().await.unwrap(), None);
    assert_eq!(client.closed().await.code(), Some(CloseCode::NORMAL));
}

#[tokio::test(start_paused = true)]
async fn a_pair_has_the_settings_of_the_server_and_a_client_without_limits() {
    let (mut server, mut client) = WebSocket::pair_with(Config::new().max_message_size(10));
    server.send("x".repeat(2 << 20)).await.unwrap();
    assert_eq!(client.recv().await.unwrap().unwrap().len(), 2 << 20);
    client.send("x".repeat(11)).await.unwrap();
    assert!(matches!(server.recv().await, Err(RecvError::TooLarge)));
    assert_eq!(client.recv().await.unwrap(), None);
    assert_eq!(
        client.closed().await.code(),
        Some(CloseCode::MESSAGE_TOO_BIG)
    );
}

/// The client reads, answers pings, and has no timeout of its own.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_receive_stays_connected() {
    let (mut server, mut client) = WebSocket::pair();
    for _ in 0..1000 {
        server.send(vec![0; 1000]).await.unwrap();
        sleep(10 * SECOND).await;
    }
    sleep(HOUR).await;
    assert!(server.round_trip().is_some());
    for _ in 0..1000 {
        assert_eq!(client.recv().await.unwrap().unwrap().len(), 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_works_without_its_wire_and_the_wire_without_its_client() {
    let client = connect(Router::new().layer(echo()), "/ws").await.unwrap();
    let wire = client.wire();
    let mut socket = client.into_socket();
    assert_echoes(&mut socket).await;
    wire.clone().cut();
    assert!(matches!(socket.recv().await, Err(RecvError::Io(_))));
}

/// Sends until it fails, and returns the number of messages of 1,000 bytes.
async fn flood(socket: &mut WebSocket) -> usize {
    let mut sent = 0;
    while socket.send(vec![0; 1000]).await.is_ok() {
        sent += 1;
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_reading_blocks_the_server_and_can_go_on() {
    let (mut server, mut client) = WebSocket::pair_with(Config::new().max_outbox(10, 1 << 20));
    client.wire().pause_reading();
    // The pipe holds 64 KiB, and the queue ten messages.
    let blocked = timeout(SECOND, flood(&mut server)).await;
    assert!(blocked.is_err());
    assert!(timeout(SECOND, client.recv()).await.is_err());
    client.wire().resume_reading();
    for _ in 0..70 {
        assert_eq!(client.recv().await.unwrap().unwrap().len(), 1000);
    }
    assert!(server.send("on").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_reading_for_long_is_dropped() {
    let (mut server, client) = WebSocket::pair();
    client.wire().pause_reading();
    assert!(flood(&mut server).await > 1000);
    assert!(matches!(server.recv().await, Err(RecvError::Stalled)));
    assert_eq!(server.send("").await, Err(SendError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_is_noticed() {
    let (mut server, client) = WebSocket::pair();
    client.wire().pause_reading();
    let start = Instant::now();
    assert!(matches!(server.recv().await, Err(RecvError::Unresponsive)));
    assert_eq!(start.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn reads_and_writes_at_a_speed() {
    // A frame of 100 bytes: its head has two bytes, and the mask of a client four.
    let (mut server, mut client) = WebSocket::pair_with(Config::new().without_keepalive());
    client.wire().read_slowly(2, SECOND);
    let start = Instant::now();
    server.send("x".repeat(98)).await.unwrap();
    client.recv().await.unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), 49);

    client.wire().write_slowly(3, HOUR);
    sleep(SECOND).await;
    client.wire().write_slowly(20, 2 * SECOND);
    let start = Instant::now();
    client.send("x".repeat(94)).await.unwrap();
    server.recv().await.unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), 8);

    for (bytes, every) in [
        (0, Duration::ZERO),
        (1, Duration::ZERO),
        (usize::MAX, Duration::MAX),
    ] {
        let (mut server, mut client) = WebSocket::pair();
        client.wire().write_slowly(bytes, every);
        client.wire().read_slowly(bytes, every);
        let start = Instant::now();
        client.send("Hello").await.unwrap();
        let message = server.recv().await.unwrap().unwrap();
        server.send(message).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap().len(), 5);
        assert_eq!(start.elapsed(), Duration::ZERO, "{bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_takes_too_long_ends_the_connection() {
    let (mut server, mut client) = WebSocket::pair();
    client.wire().write_slowly(1, SECOND);
    client.send(vec![0; 100]).await.unwrap();
    let start = Instant::now();
    assert!(matches!(server.recv().await, Err(RecvError::TooSlow)));
    assert_eq!(start.elapsed().as_secs(), 60);
    assert_eq!(client.recv().await.unwrap(), None);
    assert_eq!(
        client.closed().await.code(),
        Some(CloseCode::POLICY_VIOLATION)
    );
}

#[tokio::test(start_paused = true)]
async fn a_cut_resets_both_sides_and_loses_bytes() {
    let (mut server, mut client) = WebSocket::pair();
    client.wire().pause_reading();
    server.send("lost").await.unwrap();
    sleep(SECOND).await;
    client.wire().cut();
    for side in [&mut server, &mut *client] {
        match side.recv().await {
            Err(RecvError::Io(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            other => panic!("{other:?}"),
        }
        assert_eq!(side.closed().await.code(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_gets_everything_and_a_close() {
    let (mut server, mut client) = WebSocket::pair();
    client.send("last").await.unwrap();
    sleep(SECOND).await;
    client.wire().half_close();
    client.wire().send_raw(b"\x89\x80\0\0\0\0");
    assert_eq!(server.recv().await.unwrap(), Some(Message::text("last")));
    server.send("answer").await.unwrap();
    assert!(matches!(server.recv().await, Err(RecvError::Io(_))));
    assert_eq!(client.recv().await.unwrap(), Some(Message::text("answer")));
    assert_eq!(client.recv().await.unwrap(), None);
    assert_eq!(
        client.closed().await.code(),
        Some(CloseCode::PROTOCOL_ERROR)
    );
}

#[tokio::test(start_paused = true)]
async fn raw_bytes_are_frames_or_garbage() {
    let (mut server, mut client) = WebSocket::pair();
    client.send("one").await.unwrap();
    sleep(SECOND).await;
    client.wire().send_raw(b"\x81\x83\0\0\0\0two");
    assert_eq!(server.recv().await.unwrap(), Some(Message::text("one")));
    assert_eq!(server.recv().await.unwrap(), Some(Message::text("two")));
    client.wire().send_raw([0xff; 100_000]);
    assert!(matches!(server.recv().await, Err(RecvError::Protocol(_))));
    assert_eq!(client.recv().await.unwrap(), None);
    assert_eq!(
        client.closed().await.code(),
        Some(CloseCode::PROTOCOL_ERROR)
    );
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_unless_the_test_forbids_it() {
    let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
        let error = socket.recv().await.err();
        Err::<(), _>(error.unwrap())
    });
    let connections = layer.connections();
    let mut client = connect(layer.into_service(), "/").await.unwrap();
    sleep(HOUR).await;
    client.wire().answer_pings(false);
    client.wire().answer_pings(true);
    sleep(HOUR).await;
    assert_eq!(connections.counts().open(), 1);
    client.wire().answer_pings(false);
    let start = Instant::now();
    assert!(matches!(client.recv().await, Err(RecvError::Io(_))));
    assert!(start.elapsed() <= 61 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn debug_shows_no_secrets() {
    let request = Request::new("/?token=secret").header("a", "secret");
    assert!(!format!("{request:?}").contains("secret"));
    let client: Client = connect(WebSocketLayer::new(Witness).into_service(), request)
        .await
        .unwrap();
    assert_eq!(
        format!("{client:?} {:?}", client.wire()),
        "Client { .. } Wire { .. }"
    );
}
