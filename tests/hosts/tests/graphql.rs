//! Tests of the example `graphql`, without ports and without real time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../support/client.rs"]
mod client;
#[path = "../examples/graphql.rs"]
#[allow(dead_code, reason = "main is not called")]
mod example;

use std::time::Duration;

use client::{code, text};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower_websocket::testing::{Client, Request, connect};

fn request() -> Request {
    Request::new("/graphql").subprotocol("graphql-transport-ws")
}

/// Opens a connection with this payload of `connection_init`.
async fn open(payload: Value) -> Client {
    let mut client = connect(example::app(), request()).await.unwrap();
    let init = json!({ "type": "connection_init", "payload": payload });
    assert_eq!(answer(&mut client, init).await["type"], "connection_ack");
    client
}

async fn answer(client: &mut Client, message: Value) -> Value {
    client.send(message.to_string()).await.unwrap();
    next(client).await
}

async fn next(client: &mut Client) -> Value {
    serde_json::from_str(&text(client).await).unwrap()
}

fn subscribe(query: &str) -> Value {
    json!({ "type": "subscribe", "id": "1", "payload": { "query": query } })
}

fn data(data: &Value) -> Value {
    json!({ "type": "next", "id": "1", "payload": { "data": data } })
}

#[tokio::test(start_paused = true)]
async fn refuses_a_client_without_the_subprotocol() {
    for request in [
        Request::new("/graphql"),
        Request::new("/graphql").subprotocol("graphql-ws"),
    ] {
        let error = connect(example::app(), request).await.unwrap_err();
        assert_eq!(error.refusal().unwrap().status(), 400);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_a_query_with_the_name_of_the_connection() {
    let mut client = open(json!({ "name": "Ada" })).await;
    let hello = answer(&mut client, subscribe("{ hello }")).await;
    assert_eq!(hello, data(&json!({ "hello": "Hello, Ada" })));
    let complete = json!({ "type": "complete", "id": "1" });
    assert_eq!(next(&mut client).await, complete);
}

#[tokio::test(start_paused = true)]
async fn counts_down_once_in_a_second() {
    let mut client = open(Value::Null).await;
    let start = Instant::now();
    let first = subscribe("subscription { countdown(from: 2) }");
    let mut event = answer(&mut client, first).await;
    for count in [2, 1, 0] {
        assert_eq!(event, data(&json!({ "countdown": count })));
        event = next(&mut client).await;
    }
    assert_eq!(event, json!({ "type": "complete", "id": "1" }));
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_complete_stops_the_countdown() {
    let mut client = open(Value::Null).await;
    let first = subscribe("subscription { countdown(from: 1000) }");
    assert_eq!(answer(&mut client, first).await["type"], "next");
    let complete = json!({ "type": "complete", "id": "1" });
    assert_eq!(answer(&mut client, complete.clone()).await, complete);
    // In this time there would be more events.
    sleep(Duration::from_secs(10)).await;
    let pong = answer(&mut client, json!({ "type": "ping" })).await;
    assert_eq!(pong, json!({ "type": "pong" }));
}

#[tokio::test(start_paused = true)]
async fn closes_with_a_code_after_a_wrong_message() {
    let init = json!({ "type": "connection_init" }).to_string();
    let early = subscribe("{ hello }").to_string();
    for (messages, expected) in [
        (vec!["hello".to_owned()], 1002),
        (vec![early], 1011),
        (vec![init.clone(), init], 4429),
    ] {
        let mut client = connect(example::app(), request()).await.unwrap();
        for message in messages {
            client.send(message).await.unwrap();
        }
        assert_eq!(code(&mut client).await, Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn closes_with_1008_without_a_message_in_ten_seconds() {
    let mut client = connect(example::app(), request()).await.unwrap();
    let start = Instant::now();
    assert_eq!(code(&mut client).await, Some(1008));
    assert_eq!(start.elapsed().as_secs(), 10);
}
