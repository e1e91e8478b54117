//! `send_timeout`: a send with a time limit, which returns its message if it fails.

mod support;

use std::{pin::pin, task::Poll, time::Duration};

use support::{
    pipe,
    schedule::poll_once,
    settle,
    wire::{BINARY, FIN, read_frame},
    within,
};
use tokio::time::Instant;
use tower_websocket::{
    CloseCode, Config, Message,
    error::{SendError, SendTimeoutError},
};

const SECOND: Duration = Duration::from_secs(1);

/// Returns settings with room for one message.
fn tight() -> Config {
    Config::new()
        .max_outbox(1, 1000)
        .write_timeout(Duration::MAX)
        .without_keepalive()
}

#[tokio::test(start_paused = true)]
async fn gives_the_message_back_when_the_time_is_over() {
    let (mut socket, mut client) = pipe::socket(tight(), 4);
    let sender = socket.sender();
    sender.send_timeout("first", SECOND).await.unwrap();
    let start = Instant::now();
    let late = sender.send_timeout("second", 3 * SECOND).await.unwrap_err();
    assert_eq!(late, SendTimeoutError::Timeout(Message::text("second")));
    assert_eq!(start.elapsed(), 3 * SECOND);
    // The connection is open, and its queue is as before.
    let late = socket.send_timeout("third", SECOND).await.unwrap_err();
    assert_eq!(late.into_message(), Message::text("third"));
    assert_eq!(sender.buffered().messages, 1);
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"first");
    within(socket.send_timeout("again", Duration::MAX))
        .await
        .unwrap();
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"again");
}

#[tokio::test(start_paused = true)]
async fn sends_when_room_comes_in_time() {
    let (mut socket, mut client) = pipe::socket(tight(), 4);
    socket
        .send_timeout(vec![1; 90], Duration::ZERO)
        .await
        .unwrap();
    let sender = socket.sender();
    let waits = tokio::spawn(async move { sender.send_timeout(vec![2; 90], SECOND).await });
    settle().await;
    for number in 1..=2 {
        let frame = within(read_frame(&mut client)).await.unwrap();
        assert_eq!(
            (frame.first, frame.payload),
            (FIN | BINARY, vec![number; 90])
        );
    }
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_gives_up_at_once() {
    let (mut socket, _client) = pipe::socket(tight(), 4);
    let start = Instant::now();
    socket
        .send_timeout(vec![1; 90], Duration::ZERO)
        .await
        .unwrap();
    let late = socket.send_timeout(vec![2; 90], Duration::ZERO).await;
    assert!(matches!(late, Err(SendTimeoutError::Timeout(_))));
    assert!(start.elapsed() <= Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn gives_the_message_back_when_the_connection_closes() {
    let (mut socket, client) = pipe::socket(tight(), 4);
    socket.send(vec![1; 90]).await.unwrap();
    let sender = socket.sender();
    let waits = tokio::spawn(async move { sender.send_timeout("lost", Duration::MAX).await });
    settle().await;
    drop(client);
    let closed = within(waits).await.unwrap().unwrap_err();
    assert_eq!(closed, SendTimeoutError::Closed(Message::text("lost")));
    let closed = socket.send_timeout("late", SECOND).await.unwrap_err();
    assert_eq!(closed, SendTimeoutError::Closed(Message::text("late")));
    assert_eq!(socket.send("late").await, Err(SendError::Closed));
}

/// A future that is dropped, or whose time is over, leaves the queue.
#[tokio::test(start_paused = true)]
async fn leaves_the_queue_when_it_is_dropped_or_late() {
    let (mut socket, mut client) = pipe::socket(tight(), 4);
    socket.send(vec![1; 90]).await.unwrap();
    let sender = socket.sender();
    {
        let mut dropped = pin!(sender.send_timeout("dropped", SECOND));
        assert!(poll_once(dropped.as_mut()).is_pending());
        sender.send_timeout("late", SECOND).await.unwrap_err();
    }
    let mut last = pin!(sender.send_timeout("last", Duration::MAX));
    assert!(poll_once(last.as_mut()).is_pending());
    assert_eq!(read_frame(&mut client).await.unwrap().payload, [1; 90]);
    settle().await;
    assert_eq!(poll_once(last.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"last");
    sender.close(CloseCode::NORMAL, "").unwrap();
}
