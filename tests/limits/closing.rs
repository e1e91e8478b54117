//! The closing handshake.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, sleep},
};
use tower_websocket::{CloseCode, Config, WebSocket};

use super::{BUFFER, MILLI, assert_told, seconds};
use crate::support::{
    pipe,
    wire::{BINARY, CONTINUATION, FIN, PING, TEXT, close, frame, header, read_close, write},
};

/// Waits until the server has let go of the stream.
async fn assert_let_go(mut client: DuplexStream) {
    let byte = client.write_all(&[0]).await;
    assert!(byte.is_err(), "the server still reads");
}

/// Closes and asserts that it takes exactly `limit`, and that the peer has not answered.
async fn assert_gives_up(mut socket: WebSocket, limit: Duration) {
    let start = Instant::now();
    socket.close(CloseCode::NORMAL, "bye").await.unwrap();
    assert_eq!(start.elapsed(), limit);
    assert_told(socket, None, Some(1000), "bye").await;
}

#[tokio::test(start_paused = true)]
async fn gives_a_peer_that_ignores_the_close_five_seconds() {
    for (config, limit) in [
        (Config::new(), seconds(5)),
        (Config::new().close_timeout(seconds(2)), seconds(2)),
    ] {
        let (socket, mut client) = pipe::socket(config, BUFFER);
        assert_gives_up(socket, limit).await;
        assert_eq!(read_close(&mut client).await, Some(1000));
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_let_go(client).await;
    }
}

/// Writes `bytes` again and again, and asserts that they are taken until `end` and no longer.
async fn assert_takes_until(end: Instant, mut client: impl AsyncWriteExt + Unpin, bytes: &[u8]) {
    while client.write_all(bytes).await.is_ok() {
        assert!(Instant::now() < end + MILLI, "taken too long");
        sleep(MILLI).await;
    }
    assert!(Instant::now() >= end, "not taken long enough");
}

#[tokio::test(start_paused = true)]
async fn gives_a_peer_that_goes_on_sending_no_longer() {
    for bytes in [
        frame(FIN | BINARY, &[0; 500]),
        frame(CONTINUATION, b""),
        frame(FIN | PING, b"").repeat(100),
        header(FIN | BINARY, 1_000_000, true),
        vec![0xff; 500],
    ] {
        let (socket, client) = pipe::socket(Config::new(), BUFFER);
        let (mut reader, writer) = tokio::io::split(client);
        socket.sender().close(CloseCode::NORMAL, "bye").unwrap();
        assert_takes_until(Instant::now() + seconds(5), writer, &bytes).await;
        assert_eq!(read_close(&mut reader).await, Some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn gives_a_peer_that_does_not_read_the_close_no_longer() {
    let (mut socket, client) = pipe::socket(Config::new(), BUFFER);
    socket.send(vec![7; 2 * BUFFER]).await.unwrap();
    sleep(seconds(2)).await;
    assert_gives_up(socket, seconds(5)).await;
    assert_let_go(client).await;
}

#[tokio::test(start_paused = true)]
async fn gives_a_peer_no_longer_because_much_was_sent_before_the_close() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    for _ in 0..10 {
        socket.send(vec![7; 50_000]).await.unwrap();
    }
    let start = Instant::now();
    let sender = socket.sender();
    sender.close(CloseCode::NORMAL, "").unwrap();
    // It reads all of that at once, and then ignores the Close behind it.
    assert_eq!(read_close(&mut client).await, Some(1000));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(!sender.closed().await.is_clean());
    assert_eq!(start.elapsed(), seconds(5));
    assert_let_go(client).await;
}

#[tokio::test(start_paused = true)]
async fn drops_a_peer_that_takes_nothing_for_ten_seconds_also_while_closing() {
    let (mut socket, client) = pipe::socket(Config::new().close_timeout(seconds(60)), BUFFER);
    socket.send(vec![7; 2 * BUFFER]).await.unwrap();
    sleep(seconds(4)).await;
    assert_gives_up(socket, seconds(6)).await;
    assert_let_go(client).await;
}

#[tokio::test(start_paused = true)]
async fn gives_a_peer_that_reads_the_close_in_drops_no_longer() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    socket.send(vec![7; 2 * BUFFER]).await.unwrap();
    let reader = tokio::spawn(async move {
        for _ in 0..1000 {
            sleep(Duration::from_millis(10)).await;
            if client.read_u8().await.is_err() {
                break;
            }
        }
        client
    });
    assert_gives_up(socket, seconds(5)).await;
    assert_let_go(reader.await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn gives_a_peer_that_has_answered_but_does_not_leave_five_seconds() {
    let (socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let sender = socket.sender();
    let start = Instant::now();
    sender.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(read_close(&mut client).await, Some(1000));
    write(&mut client, &close(1000, "")).await;
    // That is all there is to wait for, and was clean.
    assert!(sender.closed().await.is_clean());
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_takes_until(start + seconds(5), client, &[0; 100]).await;
}

#[tokio::test(start_paused = true)]
async fn gives_a_peer_that_closed_first_five_seconds_to_leave() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    sleep(seconds(3)).await;
    let start = Instant::now();
    write(&mut client, &close(4000, "")).await;
    assert!(matches!(socket.recv().await, Ok(None)));
    assert_eq!(read_close(&mut client).await, Some(4000));
    assert_takes_until(start + seconds(5), client, &[0; 100]).await;
}

#[tokio::test(start_paused = true)]
async fn gives_a_peer_that_broke_the_rules_five_seconds_to_leave() {
    let (_socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let start = Instant::now();
    write(&mut client, &frame(FIN | TEXT, b"\xff")).await;
    assert_eq!(read_close(&mut client).await, Some(1007));
    assert_takes_until(start + seconds(5), client, &[0; 100]).await;
}
