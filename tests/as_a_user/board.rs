//! Tests of `examples/board.rs`.

#[path = "../../examples/board.rs"]
#[allow(dead_code, reason = "main is not called")]
mod example;

use std::collections::BTreeMap;

use example::{Board, SENSORS};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tower_websocket::testing::{Client, connect};

use super::{SECOND, client::text, get};

/// Receives a message, and notes the numbers of its readings. They only grow.
async fn read(client: &mut Client, seen: &mut BTreeMap<String, u64>) {
    let readings = match serde_json::from_str(&text(client).await).unwrap() {
        Value::Array(readings) => readings,
        reading => vec![reading],
    };
    for reading in readings {
        let key = reading["key"].as_str().unwrap().to_owned();
        let number = reading["number"].as_u64().unwrap();
        assert!(Some(number) > seen.insert(key, number));
    }
}

/// Sends this number of readings of each sensor, 200 a second.
async fn report(board: &Board, each: usize) {
    for sensor in (0..SENSORS).cycle().take(each * SENSORS) {
        board.report(sensor).unwrap();
        sleep(SECOND / 200).await;
    }
}

#[tokio::test(start_paused = true)]
async fn begins_with_all_readings_and_then_sends_each() {
    let (app, board) = example::app();
    let (mut client, mut seen) = (connect(app, "/ws").await.unwrap(), BTreeMap::new());
    read(&mut client, &mut seen).await;
    assert_eq!(seen.len(), SENSORS);
    report(&board, 2).await;
    for _ in 0..2 * SENSORS {
        read(&mut client, &mut seen).await;
    }
    assert!(seen.values().all(|number| *number == 3));
    assert!(client.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_gets_the_newest_reading_of_each_sensor_and_no_backlog() {
    let (app, board) = example::app();
    let mut client = connect(app.clone(), "/ws").await.unwrap();
    client.wire().pause_reading();
    report(&board, 100).await;
    client.wire().resume_reading();
    let (start, mut seen, mut messages) = (Instant::now(), BTreeMap::new(), 0);
    while seen.len() < SENSORS || seen.values().any(|number| *number < 101) {
        read(&mut client, &mut seen).await;
        messages += 1;
    }
    assert_eq!(start.elapsed().as_secs(), 0);
    // The 64 KiB of the connection hold some.
    assert!(messages < 1500, "{messages}");
    let now: Value = serde_json::from_str(&get(&app, "/now").await).unwrap();
    assert!(now["superseded"].as_u64() > Some(3000), "{now}");
}

#[tokio::test(start_paused = true)]
async fn a_link_with_a_fifth_of_the_rate_brings_every_sensor() {
    let (app, board) = example::app();
    let (mut client, mut seen) = (connect(app, "/ws").await.unwrap(), BTreeMap::new());
    // 40 messages of 50 bytes a second.
    client.wire().read_slowly(100, SECOND / 20);
    let reporting = tokio::spawn(async move { report(&board, 200).await });
    while !reporting.is_finished() {
        read(&mut client, &mut seen).await;
    }
    // These messages have waited half a minute in the 64 KiB of the connection, where a round of all sensors is 1.3 s.
    let (oldest, newest) = (seen.values().min(), seen.values().max());
    assert!(newest.unwrap() - oldest.unwrap() < 12, "{seen:?}");
}
