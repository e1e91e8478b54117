//! Tests of `examples/json_rpc.rs`.

#[path = "../../examples/json_rpc.rs"]
#[allow(dead_code, reason = "main is not called")]
mod example;

use serde_json::{Value, json};
use tokio::time::Instant;
use tower_websocket::testing::{Client, connect};

use super::client::code;

async fn open() -> Client {
    connect(example::app(), "/rpc").await.unwrap()
}

fn request(method: &str, params: &Value, id: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params, "id": id })
}

async fn answer(client: &mut Client, message: Value) -> Value {
    client.send_json(&message).await.unwrap();
    client.recv_json().await.unwrap().unwrap()
}

fn error(code: i32, message: &str, id: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "error": { "code": code, "message": message }, "id": id })
}

#[tokio::test(start_paused = true)]
async fn answers_requests_by_position_and_by_name() {
    let mut client = open().await;
    for (params, id) in [
        (json!([42, 23]), json!(1)),
        (json!({ "subtrahend": 23, "minuend": 42 }), json!("two")),
        (json!([42, 23]), json!(null)),
    ] {
        let expected = json!({ "jsonrpc": "2.0", "result": 19, "id": id });
        let message = request("subtract", &params, &id);
        assert_eq!(answer(&mut client, message).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_a_wrong_request_with_its_error() {
    let mut client = open().await;
    for (method, params, code, message) in [
        ("foobar", json!([]), -32601, "Method not found"),
        ("subtract", json!([1]), -32602, "Invalid params"),
        ("subtract", json!([i64::MIN, 1]), -32000, "Out of range"),
    ] {
        let request = request(method, &params, &json!(7));
        let expected = error(code, message, &json!(7));
        assert_eq!(answer(&mut client, request).await, expected, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_an_invalid_request_with_32600() {
    let mut client = open().await;
    let invalid = error(-32600, "Invalid Request", &Value::Null);
    for message in [
        json!({ "method": "subtract", "params": [42, 23], "id": 1 }),
        json!({ "jsonrpc": "2.0", "method": 1, "params": "bar" }),
        request("subtract", &json!([42, 23]), &json!([])),
        json!("subtract"),
        json!([]),
        json!(vec![0; 101]),
    ] {
        assert_eq!(
            answer(&mut client, message.clone()).await,
            invalid,
            "{message}"
        );
    }
    assert_eq!(answer(&mut client, json!([1])).await, json!([invalid]));
}

#[tokio::test(start_paused = true)]
async fn answers_text_that_is_not_json_with_32700() {
    let mut client = open().await;
    client.send(r#"{"jsonrpc": "2.0", "method"#).await.unwrap();
    let answer: Value = client.recv_json().await.unwrap().unwrap();
    assert_eq!(answer, error(-32700, "Parse error", &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn closes_with_1003_after_a_binary_message() {
    let mut client = open().await;
    client.send(vec![1, 2, 3]).await.unwrap();
    assert_eq!(code(&mut client).await, Some(1003));
}

#[tokio::test(start_paused = true)]
async fn answers_a_batch_without_its_notifications() {
    let mut client = open().await;
    let notification = json!({ "jsonrpc": "2.0", "method": "subtract", "params": [1, 2] });
    client.send_json(&json!([notification])).await.unwrap();
    client.send_json(&notification).await.unwrap();
    let batch = json!([
        request("subtract", &json!([3, 2]), &json!(1)),
        notification,
        request("foobar", &json!([]), &json!(2)),
    ]);
    let expected = json!([
        { "jsonrpc": "2.0", "result": 1, "id": 1 },
        error(-32601, "Method not found", &json!(2)),
    ]);
    assert_eq!(answer(&mut client, batch).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_does_not_hold_up_the_next_one() {
    let mut client = open().await;
    let start = Instant::now();
    let slow = request("wait", &json!([60]), &json!(1));
    client.send_json(&slow).await.unwrap();
    let fast = request("wait", &json!([1]), &json!(2));
    assert_eq!(answer(&mut client, fast).await["id"], 2);
    assert_eq!(start.elapsed().as_secs(), 1);
    let last: Value = client.recv_json().await.unwrap().unwrap();
    assert_eq!((&last["id"], start.elapsed().as_secs()), (&json!(1), 60));
}

#[tokio::test(start_paused = true)]
async fn runs_at_most_16_calls_at_the_same_time() {
    let mut client = open().await;
    let start = Instant::now();
    let message = request("wait", &json!([1]), &json!(1));
    for _ in 0..32 {
        client.send_json(&message).await.unwrap();
    }
    for number in 0..32 {
        client.recv().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 1 + number / 16, "{number}");
    }
}
