//! The limits on the time of writes, of the first message, and of a connection.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{CloseCode, Config, Side, error::RecvError};

use super::{BUFFER, MILLI, assert_dropped, assert_refused, received, seconds};
use crate::support::{
    pipe,
    wire::{BINARY, FIN, PING, TEXT, close, frame, read_frame, write},
};

#[tokio::test(start_paused = true)]
async fn drops_a_peer_that_takes_nothing_for_ten_seconds() {
    for (config, limit) in [
        (Config::new(), seconds(10)),
        (Config::new().write_timeout(seconds(3)), seconds(3)),
    ] {
        let (mut socket, client) = pipe::socket(config, BUFFER);
        let start = Instant::now();
        // Also one that still sends.
        while socket.send(vec![7; 100_000]).await.is_ok() {}
        assert_eq!(start.elapsed(), limit);
        assert_dropped(socket, client, "Stalled").await;
    }
}

#[tokio::test(start_paused = true)]
async fn drops_a_peer_that_takes_nothing_while_it_sends() {
    let (mut socket, client) = pipe::socket(Config::new(), BUFFER);
    let (mut reader, mut writer) = tokio::io::split(client);
    let flood = tokio::spawn(async move {
        let message = frame(FIN | BINARY, &[0; 500]);
        for _ in 0..10_000 {
            if writer.write_all(&message).await.is_err() {
                return true;
            }
        }
        false
    });
    let start = Instant::now();
    socket.send(vec![7; 2 * BUFFER]).await.unwrap();
    let end = loop {
        match socket.recv().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Err(RecvError::Stalled)), "{end:?}");
    assert_eq!(start.elapsed(), seconds(10));
    assert!(flood.await.unwrap(), "10,000 messages were taken");
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.len(), BUFFER);
}

#[tokio::test(start_paused = true)]
async fn keeps_a_peer_that_takes_little_but_something() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    socket.send(vec![7; 2 * BUFFER]).await.unwrap();
    for _ in 0..100 {
        sleep(seconds(10) - MILLI).await;
        client.read_u8().await.unwrap();
    }
    let start = Instant::now();
    let end = socket.recv().await;
    assert!(matches!(end, Err(RecvError::Stalled)), "{end:?}");
    assert_eq!(start.elapsed(), seconds(10));
}

#[tokio::test(start_paused = true)]
async fn waits_only_so_long_for_the_first_message() {
    let config = Config::new().first_message_timeout(seconds(30));
    let (socket, mut client) = pipe::socket(config.clone(), BUFFER);
    let start = Instant::now();
    // Neither pings nor a part of a message count.
    sleep(seconds(29)).await;
    write(&mut client, &frame(FIN | PING, b"")).await;
    write(&mut client, &frame(TEXT, b"x")).await;
    assert_refused(socket, client, "NoFirstMessage", 1008).await;
    assert_eq!(start.elapsed(), seconds(30));

    let (mut socket, mut client) = pipe::socket(config.without_keepalive(), BUFFER);
    sleep(seconds(30) - MILLI).await;
    write(&mut client, &frame(FIN | TEXT, b"hello")).await;
    assert_eq!(received(&mut socket).await, 5);
    let later = timeout(seconds(60 * 60), client.read(&mut [0])).await;
    assert!(later.is_err(), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn waits_for_a_first_message_as_long_as_it_takes_by_default() {
    let (mut socket, mut client) = pipe::socket(Config::new().without_keepalive(), BUFFER);
    sleep(seconds(60 * 60)).await;
    write(&mut client, &frame(FIN | TEXT, b"hello")).await;
    assert_eq!(received(&mut socket).await, 5);
}

#[tokio::test(start_paused = true)]
async fn ends_a_connection_with_1001_when_its_lifetime_is_over() {
    let config = Config::new().max_lifetime(seconds(60)).without_keepalive();
    let (mut socket, mut client) = pipe::socket(config, BUFFER);
    let start = Instant::now();
    let closer = tokio::spawn(async move {
        sleep(seconds(60) - MILLI).await;
        // However busy it is.
        write(&mut client, &frame(FIN | TEXT, b"last")).await;
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.close_code(), Some(1001));
        assert_eq!(start.elapsed(), seconds(60));
        write(&mut client, &close(1001, "")).await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        String::from_utf8(frame.payload[2..].to_vec()).unwrap()
    });
    // Earlier messages are received, and the end is not an error.
    let closed = socket.sender().closed().await;
    assert_eq!(received(&mut socket).await, 4);
    assert!(matches!(socket.recv().await, Ok(None)));
    assert_eq!(closed.side(), Side::Local);
    assert_eq!(closed.code(), Some(CloseCode::GOING_AWAY));
    assert_eq!(closed.reason(), closer.await.unwrap());
    assert!(closed.is_clean());
}
