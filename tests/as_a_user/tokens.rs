//! Tests of `examples/tokens.rs`.

#[path = "../../examples/tokens.rs"]
#[allow(dead_code, reason = "main is not called")]
mod example;

use axum::Router;
use tokio::time::{Instant, sleep};
use tower_websocket::testing::{Client, connect};

use super::{
    SECOND,
    client::{code, text},
    get,
};

/// Connects, asks a question, and receives the first tokens of the endless answer.
async fn ask(app: &Router) -> Client {
    let mut client = connect(app.clone(), "/ws").await.unwrap();
    client.send(r#"{"prompt":"to be?"}"#).await.unwrap();
    for token in ["to ", "be?", "to "] {
        let expected = format!(r#"{{"token":"{token}"}}"#);
        assert_eq!(text(&mut client).await, expected);
    }
    client
}

/// Returns the answer of `/running`, after all tasks have handled earlier events.
async fn running(app: &Router) -> String {
    sleep(SECOND / 1000).await;
    get(app, "/running").await
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_and_the_next_prompt_may_follow() {
    let mut client = connect(example::app(), "/ws").await.unwrap();
    for _ in 0..2 {
        client.send(r#"{"prompt":"so be it"}"#).await.unwrap();
        for token in ["so ", "be ", "it"] {
            let expected = format!(r#"{{"token":"{token}"}}"#);
            assert_eq!(text(&mut client).await, expected);
        }
        assert_eq!(text(&mut client).await, r#"{"end":"finished"}"#);
    }
}

#[tokio::test(start_paused = true)]
async fn stop_ends_the_generator_at_once() {
    let app = example::app();
    let mut client = ask(&app).await;
    assert_eq!(running(&app).await, "1 running\n");
    let start = Instant::now();
    client.send(r#""stop""#).await.unwrap();
    assert_eq!(text(&mut client).await, r#"{"end":"stopped"}"#);
    assert_eq!(start.elapsed().as_millis(), 0);
    assert_eq!(running(&app).await, "0 running\n");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_the_generator_at_once() {
    let app = example::app();
    let client = ask(&app).await;
    drop(client);
    assert_eq!(running(&app).await, "0 running\n");
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_the_generator_at_once() {
    let app = example::app();
    let client = ask(&app).await;
    client.wire().cut();
    assert_eq!(running(&app).await, "0 running\n");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_ends_the_generator_within_a_minute() {
    let app = example::app();
    let client = ask(&app).await;
    client.wire().pause_reading();
    sleep(60 * SECOND).await;
    assert_eq!(running(&app).await, "0 running\n");
}

#[tokio::test(start_paused = true)]
async fn the_generator_waits_while_the_client_does_not_read() {
    // The connection holds 64 KiB, and the outbox 64 KiB or 8 tokens.
    for (len, most) in [(16_000, 10), (4_000, 26)] {
        let mut client = connect(example::app(), "/ws").await.unwrap();
        client.wire().pause_reading();
        let prompt = format!(r#"{{"prompt":"{}?"}}"#, "x".repeat(len));
        client.send(prompt).await.unwrap();
        // Time for 100 tokens.
        sleep(5 * SECOND).await;
        client.wire().resume_reading();
        sleep(SECOND / 100).await;
        let mut ahead = 0;
        while client.try_recv().is_ok() {
            ahead += 1;
        }
        assert!((1..=most).contains(&ahead), "{ahead} tokens");
    }
}

#[tokio::test(start_paused = true)]
async fn the_fifth_prompt_waits_for_a_place() {
    let app = example::app();
    let mut asking = Vec::new();
    for _ in 0..4 {
        asking.push(ask(&app).await);
    }
    let mut fifth = connect(app.clone(), "/ws").await.unwrap();
    fifth.send(r#"{"prompt":"me"}"#).await.unwrap();
    sleep(60 * SECOND).await;
    assert!(fifth.try_recv().is_err());
    asking.pop();
    assert_eq!(text(&mut fifth).await, r#"{"token":"me"}"#);
}

#[tokio::test(start_paused = true)]
async fn wrong_messages_close_with_the_code_of_their_fault() {
    for (wrong, expected) in [
        (r#"{"prompt":"again"}"#, 1008),
        (r#"{"speak":1}"#, 1008),
        ("stop", 1007),
    ] {
        let mut client = ask(&example::app()).await;
        client.send(wrong).await.unwrap();
        assert_eq!(code(&mut client).await, Some(expected), "{wrong}");
    }
}
