//! The examples' handlers, tested as an application tests its own: with `tower_websocket::testing`, without ports and
//! without real time. Larger examples have their own files.

#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "as_a_user/auth.rs"]
mod auth;
#[cfg(feature = "hub")]
#[path = "as_a_user/board.rs"]
mod board;
#[path = "support/client.rs"]
mod client;
#[path = "../examples/echo.rs"]
#[allow(dead_code, reason = "main is not called")]
mod echo;
#[cfg(feature = "axum")]
#[path = "as_a_user/extractors.rs"]
mod extractors;
#[path = "as_a_user/feed.rs"]
mod feed;
#[path = "as_a_user/gateway.rs"]
mod gateway;
#[path = "../examples/graceful_shutdown.rs"]
#[allow(dead_code, reason = "main is not called")]
mod graceful_shutdown;
#[path = "../examples/handler.rs"]
#[allow(dead_code, reason = "main is not called")]
mod handler;
#[cfg(feature = "json")]
#[path = "as_a_user/json_rpc.rs"]
mod json_rpc;
#[path = "../examples/limits.rs"]
#[allow(dead_code, reason = "main is not called")]
mod limits;
#[path = "../examples/many_paths.rs"]
#[allow(dead_code, reason = "main is not called")]
mod many_paths;
#[cfg(feature = "hub")]
#[path = "as_a_user/rooms.rs"]
mod rooms;
#[cfg(feature = "json")]
#[path = "as_a_user/tokens.rs"]
mod tokens;
#[path = "as_a_user/tunnel.rs"]
mod tunnel;

use std::{net::SocketAddr, time::Duration};

use axum::extract::ConnectInfo;
use client::{code, text};
use tokio::time::Instant;
use tower_websocket::{
    CloseCode, Message, Side,
    error::RecvError,
    testing::{Request, connect},
};

const SECOND: Duration = Duration::from_secs(1);

/// Sends a plain GET, and returns the text of the answer.
#[cfg(any(feature = "axum", feature = "hub", feature = "json"))]
async fn get(app: &axum::Router, path: &str) -> String {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    let request = http::Request::get(path).body(axum::body::Body::empty());
    let request = request.unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Makes a request as the user with this token.
fn desk(token: &str) -> Request {
    Request::new("/desk").header("authorization", format!("Bearer {token}"))
}

/// Makes a request from this address.
fn from(address: [u8; 4]) -> Request {
    let peer = SocketAddr::from((address, 50_000));
    Request::new("/ws").extension(ConnectInfo(peer))
}

#[tokio::test(start_paused = true)]
async fn the_desk_welcomes_a_user_with_a_token() {
    let mut client = connect(handler::app(), desk("sesame")).await.unwrap();
    assert_eq!(text(&mut client).await, "welcome, Ada");
    client.send("Hello").await.unwrap();
    assert_eq!(text(&mut client).await, "Ada: Hello");
}

#[tokio::test(start_paused = true)]
async fn the_desk_takes_the_token_from_the_query_of_a_page() {
    let request = Request::new("/desk?token=swordfish").origin("http://localhost");
    let mut client = connect(handler::app(), request).await.unwrap();
    assert_eq!(text(&mut client).await, "welcome, Grace");
}

#[tokio::test(start_paused = true)]
async fn the_desk_refuses_a_wrong_token_with_401() {
    let error = connect(handler::app(), desk("guess")).await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.status(), 401);
    assert_eq!(refusal.headers()["www-authenticate"], "Bearer");
    assert_eq!(refusal.body(), "a valid token is needed\n");
}

#[tokio::test(start_paused = true)]
async fn the_desk_closes_an_expired_token_with_4401() {
    let client = connect(handler::app(), desk("stale")).await.unwrap();
    let closed = client.closed().await;
    assert_eq!(closed.code().map(CloseCode::get), Some(4401));
    assert_eq!(closed.reason(), "the token has expired");
}

#[tokio::test(start_paused = true)]
async fn the_second_version_of_the_desk_numbers_the_lines() {
    let request = desk("sesame").subprotocol("desk.v1").subprotocol("desk.v2");
    let mut client = connect(handler::app(), request).await.unwrap();
    assert_eq!(client.subprotocol(), Some("desk.v2"));
    assert_eq!(text(&mut client).await, "welcome, Ada");
    client.send("Hello").await.unwrap();
    assert_eq!(text(&mut client).await, "1 Ada: Hello");
}

#[tokio::test(start_paused = true)]
async fn the_desk_closes_with_1003_after_a_binary_message() {
    let mut client = connect(handler::app(), desk("sesame")).await.unwrap();
    client.send(vec![1, 2, 3]).await.unwrap();
    assert_eq!(code(&mut client).await, Some(1003));
}

#[tokio::test(start_paused = true)]
async fn the_desk_closes_the_first_connection_of_a_user_who_comes_again() {
    let app = handler::app();
    let mut first = connect(app.clone(), desk("sesame")).await.unwrap();
    assert_eq!(text(&mut first).await, "welcome, Ada");
    let mut second = connect(app, desk("sesame")).await.unwrap();
    assert_eq!(code(&mut first).await, Some(4001));
    assert_eq!(text(&mut second).await, "welcome, Ada");
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_connection_is_reset_can_come_again() {
    let app = handler::app();
    let mut first = connect(app.clone(), desk("sesame")).await.unwrap();
    assert_eq!(text(&mut first).await, "welcome, Ada");
    first.wire().cut();
    assert!(matches!(first.recv().await, Err(RecvError::Io(_))));
    let mut second = connect(app, desk("sesame")).await.unwrap();
    assert_eq!(text(&mut second).await, "welcome, Ada");
}

#[tokio::test(start_paused = true)]
async fn each_path_has_its_own_handler() {
    for (path, answer) in [("/echo", "Hello"), ("/shout", "HELLO")] {
        let mut client = connect(many_paths::app(), path).await.unwrap();
        client.send("Hello").await.unwrap();
        assert_eq!(text(&mut client).await, answer, "{path}");
    }
    let error = connect(many_paths::app(), "/whisper").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().status(), 404);
}

#[tokio::test(start_paused = true)]
async fn shouts_messages_that_arrive_byte_by_byte() {
    let mut client = connect(many_paths::app(), "/shout").await.unwrap();
    client.wire().write_slowly(1, SECOND / 10);
    let start = Instant::now();
    client.send("Is anybody there?").await.unwrap();
    assert_eq!(text(&mut client).await, "IS ANYBODY THERE?");
    assert!(start.elapsed() > SECOND);
}

#[tokio::test(start_paused = true)]
async fn shouts_all_that_came_before_the_client_ended_its_half() {
    let mut client = connect(many_paths::app(), "/shout").await.unwrap();
    client.send("one").await.unwrap();
    client.send("two").await.unwrap();
    client.flush().await.unwrap();
    client.wire().half_close();
    assert_eq!(text(&mut client).await, "ONE");
    assert_eq!(text(&mut client).await, "TWO");
    assert_eq!(code(&mut client).await, Some(1002));
}

#[tokio::test(start_paused = true)]
async fn closes_with_1002_after_garbage() {
    let client = connect(many_paths::app(), "/shout").await.unwrap();
    client.wire().send_raw("GET / HTTP/1.1\r\n\r\n");
    let closed = client.closed().await;
    assert_eq!(closed.code(), Some(CloseCode::PROTOCOL_ERROR));
    assert_eq!(closed.side(), Side::Remote);
}

#[tokio::test(start_paused = true)]
async fn refuses_the_third_connection_of_an_address_with_429() {
    let app = limits::app();
    let _first = connect(app.clone(), from([192, 0, 2, 1])).await.unwrap();
    let _second = connect(app.clone(), from([192, 0, 2, 1])).await.unwrap();
    let third = connect(app.clone(), from([192, 0, 2, 1])).await;
    assert_eq!(third.unwrap_err().refusal().unwrap().status(), 429);
    connect(app, from([192, 0, 2, 2])).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closes_with_1009_after_more_than_1000_bytes() {
    let mut client = connect(limits::app(), from([192, 0, 2, 1])).await.unwrap();
    client.send("x".repeat(1000)).await.unwrap();
    assert_eq!(text(&mut client).await.len(), 1000);
    client.send("x".repeat(1001)).await.unwrap();
    assert_eq!(code(&mut client).await, Some(1009));
}

#[tokio::test(start_paused = true)]
async fn closes_with_1008_after_a_minute_without_a_message() {
    let mut client = connect(limits::app(), from([192, 0, 2, 1])).await.unwrap();
    let start = Instant::now();
    assert_eq!(code(&mut client).await, Some(1008));
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn drops_a_client_that_answers_no_ping() {
    let mut client = connect(limits::app(), from([192, 0, 2, 1])).await.unwrap();
    client.wire().answer_pings(false);
    client.send("Hello").await.unwrap();
    assert_eq!(text(&mut client).await, "Hello");
    let start = Instant::now();
    assert_eq!(code(&mut client).await, None);
    assert_eq!(start.elapsed().as_secs(), 30 + 10);
}

#[tokio::test(start_paused = true)]
async fn keeps_a_client_that_answers_pings_for_a_day() {
    let mut client = connect(limits::app(), from([192, 0, 2, 1])).await.unwrap();
    client.send("Hello").await.unwrap();
    let start = Instant::now();
    assert_eq!(code(&mut client).await, Some(1001));
    assert_eq!(start.elapsed().as_secs(), 24 * 60 * 60);
}

#[tokio::test(start_paused = true)]
async fn drops_a_client_that_sends_and_does_not_read() {
    let mut client = connect(limits::app(), from([192, 0, 2, 1])).await.unwrap();
    client.wire().pause_reading();
    let start = Instant::now();
    while client.send("x".repeat(1000)).await.is_ok() {}
    // A slow reader has about 100 s for the 64 KiB of the connection.
    assert!((10..120).contains(&start.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn keeps_a_client_that_reads_slowly() {
    let mut client = connect(limits::app(), from([192, 0, 2, 1])).await.unwrap();
    client.wire().read_slowly(1000, SECOND);
    let start = Instant::now();
    for _ in 0..200 {
        client.send("x".repeat(1000)).await.unwrap();
    }
    for _ in 0..200 {
        assert_eq!(text(&mut client).await.len(), 1000);
    }
    assert_eq!(start.elapsed().as_secs(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_closes_with_1001_and_refuses_new_clients_with_503() {
    let (app, connections) = graceful_shutdown::app();
    let mut client = connect(app.clone(), "/ws").await.unwrap();
    connections.close();
    let error = connect(app, "/ws").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().status(), 503);
    let report = connections.shutdown(30 * SECOND).await;
    assert_eq!((report.clean, report.aborted), (1, 0));
    assert_eq!(code(&mut client).await, Some(1001));
}

#[tokio::test(start_paused = true)]
async fn echoes_text_with_a_prefix_and_binary_unchanged() {
    let mut client = connect(echo::app(), "/ws").await.unwrap();
    client.send("Hello").await.unwrap();
    assert_eq!(text(&mut client).await, "Echo: Hello");
    client.send(vec![1, 2, 3]).await.unwrap();
    let message = client.recv().await.unwrap();
    assert_eq!(message, Some(Message::binary(vec![1, 2, 3])));
}

#[tokio::test(start_paused = true)]
async fn refuses_pages_of_other_hosts() {
    let own = Request::new("ws://example.com/ws").origin("https://example.com");
    connect(echo::app(), own).await.unwrap();
    let other = Request::new("ws://example.com/ws").origin("https://other.example");
    let error = connect(echo::app(), other).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().status(), 403);
}
