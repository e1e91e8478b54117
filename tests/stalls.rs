//! The time that a connection waits for a peer that reads nothing, or answers no ping. It depends on the bytes
//! that the stream has taken before. The tests use tokio's paused clock.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use support::{pipe, script::Script, wire};
use tokio::{
    io::{AsyncRead, duplex},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{Config, Echo, WebSocket, WebSocketLayer, error::RecvError};
use wire::{FIN, PING, PONG, TEXT, frame, read_frame, write};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const SECOND: Duration = Duration::from_secs(1);
/// Far more than any step takes. The clock is paused, so the wait takes no real time.
const GUARD: Duration = Duration::from_secs(100_000);

/// Waits until the connection is given up, and returns how long that took.
async fn given_up(socket: &mut WebSocket) -> Duration {
    let start = Instant::now();
    let end = timeout(GUARD, socket.recv()).await.unwrap();
    assert!(matches!(end, Err(RecvError::Stalled)), "{end:?}");
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_a_slow_reader_needs_for_what_the_stream_has_taken() {
    for (taken, limit, expected) in [
        (0, 10, 10),
        (5 * KIB, 10, 10),
        (16 * KIB, 10, 32),
        (32 * KIB, 10, 64),
        (MIB, 10, 100),
        (MIB, 3, 30),
        (16 * KIB, 60, 60),
    ] {
        let limit = Duration::from_secs(limit);
        let (stream, _peer) = Script::with_room(taken);
        let mut socket = WebSocket::from_io(stream, Config::new().write_timeout(limit));
        socket.send(vec![7; 2 * MIB]).await.unwrap();
        let took = given_up(&mut socket).await;
        assert_eq!(took, SECOND * expected, "{taken} bytes, {limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_no_longer_for_what_has_long_been_read() {
    let (stream, _peer) = Script::with_room(32 * KIB);
    let config = Config::new().without_keepalive();
    let mut socket = WebSocket::from_io(stream, config);
    socket.send(vec![7; 32 * KIB - 4]).await.unwrap();
    sleep(SECOND * 64).await;
    socket.send("more").await.unwrap();
    assert_eq!(given_up(&mut socket).await, SECOND * 10);
}

/// Some HTTP/2 clients do this: they grant half of a window each time they have read that much.
#[tokio::test(start_paused = true)]
async fn keeps_a_peer_that_takes_32_kib_every_32_seconds() {
    let (stream, peer) = Script::with_room(64 * KIB);
    let mut socket = WebSocket::from_io(stream, Config::new());
    socket.send(vec![7; 2 * MIB]).await.unwrap();
    for _ in 0..60 {
        sleep(SECOND * 32).await;
        peer.add_room(32 * KIB);
    }
    assert_eq!(given_up(&mut socket).await, SECOND * 100);
}

#[tokio::test(start_paused = true)]
async fn sleeps_while_output_is_blocked() {
    let (stream, peer) = Script::with_room(MIB);
    let mut socket = WebSocket::from_io(stream, Config::new());
    socket.send(vec![7; 2 * MIB]).await.unwrap();
    sleep(SECOND).await;
    let written = || peer.calls().writes + peer.calls().idle_writes;
    let asked = written();
    assert_eq!(given_up(&mut socket).await, SECOND * 99);
    assert!(written() - asked <= 2, "{} writes", written() - asked);
}

#[tokio::test(start_paused = true)]
async fn holds_no_more_than_the_outbox_for_a_peer_that_takes_a_byte_now_and_then() {
    const OUTBOX: usize = 64 * KIB;
    let lifetime = SECOND * 3600;
    let config = Config::new().max_outbox(100, OUTBOX).max_lifetime(lifetime);
    let (stream, peer) = Script::with_room(0);
    let socket = WebSocket::from_io(stream, config);
    let sender = socket.sender();
    let pusher = tokio::spawn({
        let sender = sender.clone();
        async move { while sender.send(vec![7; 10 * KIB]).await.is_ok() {} }
    });
    let start = Instant::now();
    let trickle = tokio::spawn(async move {
        loop {
            sleep(SECOND * 9).await;
            peer.add_room(1);
        }
    });
    while start.elapsed() < lifetime {
        let buffered = sender.buffered().bytes;
        assert!(buffered <= OUTBOX + 10 * KIB, "{buffered}");
        sleep(SECOND * 9).await;
    }
    // Then the closing takes 5 s, and one more second for each 16 KiB that waits.
    let closed = timeout(SECOND * 20, sender.closed()).await.unwrap();
    assert!(!closed.is_clean(), "{closed:?}");
    pusher.await.unwrap();
    trickle.abort();
}

/// Waits for a ping of ours and returns its payload.
async fn ping(client: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    loop {
        let frame = read_frame(client).await.unwrap();
        if frame.first == FIN | PING {
            return frame.payload;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waits_for_a_pong_as_long_as_a_slow_reader_needs_for_what_comes_before() {
    for (sent, answer, expected) in [
        (1, 20, 20),
        // A slow reader reads this before the ping is due.
        (10 * KIB, 20, 20),
        (40 * KIB, 20, 60),
        (90 * KIB, 20, 160),
        (MIB, 20, 200),
        (MIB, 1, 10),
        (MIB, 3600, 3600),
    ] {
        let (server, _client) = duplex(2 * MIB);
        let config = Config::new().keepalive(SECOND * 20, SECOND * answer);
        let mut socket = WebSocket::from_io(server, config);
        let start = Instant::now();
        socket.send(vec![7; sent]).await.unwrap();
        let end = timeout(GUARD, socket.recv()).await.unwrap();
        assert!(matches!(end, Err(RecvError::Unresponsive)), "{end:?}");
        let took = start.elapsed() - SECOND * 20;
        let expected = SECOND * expected;
        assert_eq!(took, expected, "{sent} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_for_a_pong_also_behind_what_echo_has_repeated() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let mut client = pipe::open(layer.into_service(), MIB).await;
    for _ in 0..100 {
        write(&mut client, &frame(FIN | TEXT, &[b'x'; KIB])).await;
        sleep(SECOND / 100).await;
    }
    let start = Instant::now();
    while connections.counts().open() > 0 {
        sleep(SECOND).await;
    }
    // 20 s and up to 2.5 s until the ping, and then 2 s for each KiB that is unread.
    let took = start.elapsed();
    assert!((SECOND * 195..SECOND * 206).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn takes_a_late_pong_for_a_sign_that_all_was_read() {
    let (server, mut client) = duplex(2 * MIB);
    let mut socket = WebSocket::from_io(server, Config::new());
    socket.send(vec![7; MIB]).await.unwrap();
    let receiving = tokio::spawn(async move { socket.recv().await });
    let payload = ping(&mut client).await;
    sleep(SECOND * 190).await;
    write(&mut client, &frame(FIN | PONG, &payload)).await;
    // 20 s of silence, and 20 s for the next answer.
    sleep(SECOND * 39).await;
    assert!(!receiving.is_finished());
    let end = timeout(SECOND * 2, receiving).await.unwrap().unwrap();
    assert!(matches!(end, Err(RecvError::Unresponsive)), "{end:?}");
}

/// A peer that disappears is noticed equally soon after a long conversation.
#[tokio::test(start_paused = true)]
async fn does_not_add_up_what_is_sent_in_a_long_conversation() {
    let (server, client) = duplex(MIB);
    let mut socket = WebSocket::from_io(server, Config::new());
    let (mut reader, mut writer) = tokio::io::split(client);
    tokio::spawn(async move { while read_frame(&mut reader).await.is_some() {} });
    for _ in 0..3600 {
        write(&mut writer, &frame(FIN | TEXT, b"hello")).await;
        let message = timeout(GUARD, socket.recv()).await.unwrap().unwrap();
        socket.send(message.unwrap()).await.unwrap();
        socket.send(vec![7; 200]).await.unwrap();
        sleep(SECOND).await;
    }
    let start = Instant::now();
    let end = timeout(GUARD, socket.recv()).await.unwrap();
    assert!(matches!(end, Err(RecvError::Unresponsive)), "{end:?}");
    let took = start.elapsed();
    assert!(took <= SECOND * 40, "{took:?}");
}
