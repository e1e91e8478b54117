//! Tests of `examples/feed.rs`.

#[path = "../../examples/feed.rs"]
#[allow(dead_code, reason = "main is not called")]
mod example;

use tokio::{
    task::yield_now,
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    CloseCode,
    testing::{Client, connect},
};

use super::{SECOND, client::text};

/// Receives a message, and returns the number of its tick.
async fn tick(client: &mut Client) -> u64 {
    let text = text(client).await;
    let first = text.lines().next().unwrap();
    first.strip_prefix("tick ").unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn begins_with_the_latest_prices() {
    let (app, prices) = example::app();
    prices.send_replace(example::prices(7));
    let mut client = connect(app, "/feed").await.unwrap();
    assert_eq!(text(&mut client).await, example::prices(7));
}

#[tokio::test(start_paused = true)]
async fn sends_each_change_to_a_client_that_keeps_up() {
    let (app, prices) = example::app();
    let mut client = connect(app, "/feed").await.unwrap();
    assert_eq!(tick(&mut client).await, 0);
    for number in 1..1000 {
        prices.send_replace(example::prices(number));
        assert_eq!(tick(&mut client).await, number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_latest_prices_and_no_backlog() {
    let (app, prices) = example::app();
    let mut client = connect(app, "/feed").await.unwrap();
    client.wire().pause_reading();
    for number in 1..=10_000 {
        prices.send_replace(example::prices(number));
        yield_now().await;
    }
    client.wire().resume_reading();
    let mut ticks = vec![tick(&mut client).await];
    while ticks.last() != Some(&10_000) {
        ticks.push(tick(&mut client).await);
    }
    // The 64 KiB of the connection hold 44 messages. Of the others only the outbox and `send` hold one each.
    assert!(ticks.len() < 50, "{ticks:?}");
    assert!(ticks.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn drops_a_client_that_reads_nothing() {
    let (app, prices) = example::app();
    let client = connect(app, "/feed").await.unwrap();
    client.wire().pause_reading();
    let start = Instant::now();
    // The last receiver is dropped with the handler.
    while !prices.is_closed() {
        // A slow reader has about 100 s for the 64 KiB of the connection.
        assert!(start.elapsed() < 120 * SECOND);
        prices.send_replace(example::prices(1));
        sleep(SECOND / 10).await;
    }
    assert!(start.elapsed() > 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn ends_with_a_client_that_leaves_a_quiet_feed() {
    let (app, prices) = example::app();
    let mut client = connect(app, "/feed").await.unwrap();
    client.send("bye").await.unwrap();
    client.close(CloseCode::NORMAL, "").await.unwrap();
    timeout(SECOND, prices.closed()).await.unwrap();
}
