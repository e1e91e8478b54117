//! How many messages, and how many of their bytes, a peer may send in a time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use support::{pipe, wire};
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    time::{sleep, timeout},
};
use tower_websocket::{Config, Message, WebSocket, error::RecvError};
use wire::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, frame, read_frame, write};

const MIB: usize = 1024 * 1024;
const SECOND: Duration = Duration::from_secs(1);
const GUARD: Duration = Duration::from_secs(3600);

/// Receives until the end, and returns how many messages came and what ended them.
async fn received(socket: &mut WebSocket) -> (usize, Option<RecvError>) {
    let mut messages = 0;
    loop {
        match timeout(GUARD, socket.recv()).await.unwrap() {
            Ok(Some(_)) => messages += 1,
            Ok(None) => return (messages, None),
            Err(fault) => return (messages, Some(fault)),
        }
    }
}

/// Asserts that `count` messages were received, and that the next one was too much.
async fn assert_too_fast(mut socket: WebSocket, mut client: DuplexStream, count: usize) {
    let (messages, fault) = received(&mut socket).await;
    assert_eq!(messages, count);
    assert!(matches!(fault, Some(RecvError::TooFast)), "{fault:?}");
    let close = loop {
        let frame = timeout(GUARD, read_frame(&mut client)).await.unwrap();
        let frame = frame.unwrap();
        if frame.first == FIN | CLOSE {
            break frame;
        }
    };
    assert_eq!(close.close_code(), Some(1008));
    assert_eq!(
        &close.payload[2..],
        b"the peer sent too many messages, or too many bytes"
    );
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "after the Close");
}

#[tokio::test(start_paused = true)]
async fn refuses_the_message_that_is_too_much() {
    for (config, payload, allowed) in [
        (Config::new().max_message_rate(1, 15), 0, 15),
        (Config::new().max_message_rate(1, 15), 1000, 15),
        (Config::new().max_message_rate(1, 100), 7, 100),
        (Config::new().max_byte_rate(1, 1000), 100, 10),
        (Config::new().max_byte_rate(1, 999), 100, 9),
        (
            Config::new().max_byte_rate(1, 2000).max_message_rate(1, 11),
            100,
            11,
        ),
        (
            Config::new().max_byte_rate(1, 300).max_message_rate(1, 11),
            100,
            3,
        ),
    ] {
        let (socket, mut client) = pipe::socket(config, MIB);
        let message = frame(FIN | BINARY, &vec![0; payload]);
        write(&mut client, &message.repeat(allowed + 1)).await;
        assert_too_fast(socket, client, allowed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn takes_messages_at_the_rate_for_ever() {
    let config = Config::new()
        .max_message_rate(10, 10)
        .max_byte_rate(100, 20);
    let (mut socket, mut client) = pipe::socket(config, MIB);
    for _ in 0..1000 {
        write(&mut client, &frame(FIN | TEXT, b"ten bytes.")).await;
        assert_eq!(
            socket.recv().await.unwrap().unwrap(),
            Message::from("ten bytes.")
        );
        sleep(SECOND / 10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn counts_a_message_whatever_its_form() {
    // In fragments, with control frames between, which do not count.
    let (socket, mut client) = pipe::socket(Config::new().max_message_rate(1, 10), MIB);
    let message = [
        frame(TEXT, b"one "),
        frame(FIN | PING, b""),
        frame(CONTINUATION, b"message"),
        frame(FIN | PONG, b""),
        frame(FIN | CONTINUATION, b""),
    ];
    write(&mut client, &message.concat().repeat(11)).await;
    assert_too_fast(socket, client, 10).await;

    // So large that it is read to its place.
    let (socket, mut client) = pipe::socket(Config::new().max_byte_rate(1, 700_000), MIB);
    let message = frame(FIN | BINARY, &vec![7; 300_000]);
    for _ in 0..3 {
        write(&mut client, &message).await;
    }
    assert_too_fast(socket, client, 2).await;

    // Larger than may ever come.
    let (socket, mut client) = pipe::socket(Config::new().max_byte_rate(u32::MAX, 99), MIB);
    write(&mut client, &frame(FIN | BINARY, &[7; 100])).await;
    assert_too_fast(socket, client, 0).await;
}

/// The peer keeps to the rate, and the handler takes nothing for a while.
#[tokio::test(start_paused = true)]
async fn does_not_hold_a_slow_handler_against_its_peer() {
    for (pause, inbox) in [(2, 1), (60, 1), (60, 16), (290, 3)] {
        let config = Config::new()
            .max_message_rate(2, 10)
            .max_byte_rate(20, 100)
            .max_inbox(inbox, 64 * 1024);
        let (mut socket, mut client) = pipe::socket(config, MIB);
        let peer = tokio::spawn(async move {
            for _ in 0..2 * pause {
                write(&mut client, &frame(FIN | TEXT, b"ten bytes.")).await;
                sleep(SECOND / 2).await;
            }
            client
        });
        sleep(Duration::from_secs(pause)).await;
        for _ in 0..2 * pause {
            let message = socket.recv().await;
            assert_eq!(
                message.unwrap().unwrap(),
                Message::from("ten bytes."),
                "{pause} s"
            );
        }
        // The credit for the pause is used up.
        let mut client = peer.await.unwrap();
        sleep(2 * SECOND).await;
        write(&mut client, &frame(FIN | TEXT, b"").repeat(100)).await;
        let (messages, fault) = received(&mut socket).await;
        assert!(messages < 25, "{messages} at once after {pause} s");
        assert!(matches!(fault, Some(RecvError::TooFast)), "{fault:?}");
    }
}

/// Nothing is read while output is blocked.
#[tokio::test(start_paused = true)]
async fn does_not_hold_blocked_output_against_the_peer() {
    let config = Config::new()
        .max_message_rate(2, 10)
        .write_timeout(Duration::MAX);
    let (server, mut client) = duplex(4096);
    let mut socket = WebSocket::from_io(server, config);
    socket.send(vec![0; 100_000]).await.unwrap();
    for _ in 0..100 {
        sleep(SECOND / 2).await;
        write(&mut client, &frame(FIN | TEXT, b"")).await;
    }
    let answer = timeout(GUARD, read_frame(&mut client)).await.unwrap();
    assert_eq!(answer.unwrap().payload.len(), 100_000);
    for _ in 0..100 {
        assert_eq!(socket.recv().await.unwrap().unwrap(), Message::from(""));
    }
}

#[tokio::test(start_paused = true)]
async fn counts_what_a_handler_discards() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_message_rate(1, 10), MIB);
    let closed = socket.closed();
    socket.ignore_incoming();
    write(&mut client, &frame(FIN | TEXT, b"").repeat(11)).await;
    let closed = timeout(GUARD, closed).await.unwrap();
    assert_eq!(closed.code().map(|code| code.get()), Some(1008));
}

#[cfg(all(feature = "deflate", feature = "test-util"))]
#[tokio::test(start_paused = true)]
async fn counts_inflated_bytes() {
    use tower_websocket::{
        Deflate, Echo, WebSocketLayer,
        testing::{Request, connect},
    };

    let config = Config::new().max_byte_rate(1, 100_000);
    let layer = WebSocketLayer::new(Echo::new()).config(config.deflate(Deflate::new()));
    let request = Request::new("/").config(Config::new().deflate(Deflate::new()));
    let mut socket = connect(layer.into_service(), request).await.unwrap();
    for _ in 0..2 {
        socket.send(vec![0; 50_000]).await.unwrap();
        assert_eq!(socket.recv().await.unwrap().unwrap().len(), 50_000);
    }
    socket.send(vec![0; 50_000]).await.unwrap();
    assert!(socket.recv().await.unwrap().is_none());
    let closed = socket.closed().await;
    assert_eq!(closed.code().map(|code| code.get()), Some(1008));
}
