//! Tests of `examples/auth.rs`.

#[path = "../../examples/auth.rs"]
#[allow(dead_code, reason = "main is not called")]
mod example;

use serde_json::{Value, json};
use tokio::time::Instant;
use tower_websocket::{
    CloseCode,
    testing::{Request, connect},
};

use super::client::{code, text};

fn with(token: &str) -> Request {
    Request::new("/ws").header("authorization", format!("Bearer {token}"))
}

#[tokio::test(start_paused = true)]
async fn takes_the_token_from_each_place() {
    let places = [
        with("sesame"),
        Request::new("/ws").subprotocol("token.sesame"),
        Request::new("/ws").header("cookie", "theme=dark; token=sesame"),
        Request::new("/ws?room=1&token=%73esame"),
    ];
    for place in places {
        let place = place.subprotocol("chat.v1");
        let mut client = connect(example::app(), place).await.unwrap();
        assert_eq!(client.subprotocol(), Some("chat.v1"));
        assert_eq!(text(&mut client).await, "welcome, Ada");
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_with_json_without_a_valid_token() {
    for request in [Request::new("/ws"), with("guess"), with("")] {
        let error = connect(example::app(), request).await.unwrap_err();
        let refusal = error.refusal().unwrap();
        assert_eq!(refusal.status(), 401);
        assert_eq!(refusal.headers()["content-type"], "application/json");
        let body: Value = serde_json::from_slice(refusal.body()).unwrap();
        assert_eq!(body, json!({ "error": "a valid token is needed" }));
    }
}

#[tokio::test(start_paused = true)]
async fn closes_with_4401_if_the_token_has_expired() {
    let client = connect(example::app(), with("stale")).await.unwrap();
    let closed = client.closed().await;
    assert_eq!(closed.code(), Some(CloseCode::of::<4401>()));
    assert_eq!(closed.reason(), "the token has expired");
}

#[tokio::test(start_paused = true)]
async fn closes_with_4401_when_the_token_expires() {
    let mut client = connect(example::app(), with("brief")).await.unwrap();
    let start = Instant::now();
    assert_eq!(text(&mut client).await, "welcome, Grace");
    client.send("Hello").await.unwrap();
    assert_eq!(text(&mut client).await, "Hello");
    assert_eq!(code(&mut client).await, Some(4401));
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn refuses_the_third_connection_of_a_user_with_429() {
    let app = example::app();
    let first = connect(app.clone(), with("sesame")).await.unwrap();
    let _second = connect(app.clone(), with("sesame")).await.unwrap();
    let error = connect(app.clone(), with("sesame")).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().status(), 429);
    connect(app.clone(), with("brief")).await.unwrap();

    let mut first = first.into_socket();
    first.close(CloseCode::NORMAL, "").await.unwrap();
    connect(app, with("sesame")).await.unwrap();
}
