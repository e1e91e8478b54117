//! Tests of `examples/axum.rs`.

#[path = "../../examples/axum.rs"]
#[allow(dead_code, reason = "main is not called")]
mod example;

use axum::Router;
use tower_websocket::testing::{Client, connect};

use super::{
    SECOND,
    client::{code, text},
    get,
};

fn app() -> Router {
    example::app().0
}

/// Enters a room, and sends a line, so that the guest is in the room when this returns.
async fn enter(app: &Router, room: &str, name: &str) -> Client {
    let path = format!("/api/rooms/{room}?name={name}");
    let mut client = connect(app.clone(), path).await.unwrap();
    client.send("hello").await.unwrap();
    assert_eq!(text(&mut client).await, format!("{name}: hello"));
    client
}

#[tokio::test(start_paused = true)]
async fn guests_of_a_room_see_the_lines_of_each_other() {
    let app = app();
    let mut ada = enter(&app, "tea", "Ada").await;
    let mut grace = enter(&app, "tea", "Grace").await;
    assert_eq!(text(&mut ada).await, "Grace: hello");
    ada.send("sugar?").await.unwrap();
    assert_eq!(text(&mut grace).await, "Ada: sugar?");
}

#[tokio::test(start_paused = true)]
async fn a_room_does_not_see_the_lines_of_another() {
    let app = app();
    let mut ada = enter(&app, "tea", "Ada").await;
    let mut grace = enter(&app, "coffee%20bar", "Grace").await;
    ada.send("sugar?").await.unwrap();
    assert_eq!(text(&mut ada).await, "Ada: sugar?");
    grace.send("milk?").await.unwrap();
    assert_eq!(text(&mut grace).await, "Grace: milk?");
}

#[tokio::test(start_paused = true)]
async fn a_guest_without_a_name_gets_the_rejection_of_axum() {
    let error = connect(app(), "/api/rooms/tea").await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.status(), 400);
    let body = String::from_utf8_lossy(refusal.body());
    assert!(body.contains("missing field `name`"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_reads_too_slowly_is_closed_with_1008() {
    let app = app();
    let mut slow = enter(&app, "tea", "Slow").await;
    slow.wire().pause_reading();
    let mut ada = enter(&app, "tea", "Ada").await;
    for _ in 0..400 {
        ada.send("x".repeat(4096)).await.unwrap();
        text(&mut ada).await;
    }
    slow.wire().resume_reading();
    assert_eq!(code(&mut slow).await, Some(1008));
}

#[tokio::test(start_paused = true)]
async fn the_count_answers_plain_requests_and_sockets_of_all_paths() {
    let app = app();
    let _guest = enter(&app, "tea", "Ada").await;
    let _echo = connect(app.clone(), "/api/echo").await.unwrap();
    let mut open = connect(app.clone(), "/api/open").await.unwrap();
    open.send("?").await.unwrap();
    assert_eq!(text(&mut open).await, "3 open\n");
    assert_eq!(get(&app, "/api/open").await, "3 open\n");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_closes_the_connections_of_all_paths() {
    let (app, connections) = example::app();
    let mut guest = enter(&app, "tea", "Ada").await;
    let mut echo = connect(app.clone(), "/api/echo").await.unwrap();
    let report = connections.shutdown(30 * SECOND).await;
    assert_eq!((report.clean, report.aborted), (2, 0));
    assert_eq!(code(&mut guest).await, Some(1001));
    assert_eq!(code(&mut echo).await, Some(1001));
    let refused = connect(app, "/api/open").await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().status(), 503);
}
