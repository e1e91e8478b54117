//! Keepalive: when a peer is pinged, which pongs count as an answer, and when a peer is treated as gone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use support::{pipe, wire};
use tokio::{
    io::{AsyncReadExt, DuplexStream},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{Config, Echo, Message, Side, WebSocket, WebSocketLayer, error::RecvError};
use wire::{
    BINARY, CONTINUATION, FIN, PING, PONG, TEXT, assert_quiet, frame, header, read_frame,
    read_ping, write, write_pong,
};

const BUFFER: usize = 4096;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Asserts that the connection is dropped, without a Close or another ping.
async fn assert_dropped(mut client: DuplexStream) {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "the connection is dropped without a Close");
}

/// Asserts that `recv` reports a peer that did not answer.
async fn assert_unresponsive(mut socket: WebSocket) {
    let end = socket.recv().await;
    assert!(matches!(end, Err(RecvError::Unresponsive)), "{end:?}");
    let end = socket.recv().await;
    assert!(matches!(end, Ok(None)), "{end:?}");
    let closed = socket.sender().closed().await;
    let told = (closed.side(), closed.code(), closed.reason());
    assert_eq!(told, (Side::Local, None, ""));
    assert!(!closed.is_clean());
}

#[tokio::test(start_paused = true)]
async fn pings_after_twenty_seconds_of_silence() {
    let (_socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let start = Instant::now();
    assert_eq!(read_ping(&mut client).await.len(), 8);
    assert_eq!(start.elapsed(), seconds(20));
}

/// Asserts that an idle connection, whose last message has just come, pings after its silence.
async fn assert_pings_after_silence(mut socket: WebSocket, mut client: DuplexStream) {
    let start = Instant::now();
    let receiving = tokio::spawn(async move { socket.recv().await });
    let ping = timeout(10 * SILENCE, read_ping(&mut client)).await;
    assert_eq!(ping.unwrap().len(), 8);
    assert_eq!(start.elapsed(), SILENCE);
    receiving.abort();
}

const SILENCE: Duration = seconds(30);

/// Makes a connection whose timer is set for its next ping.
async fn idle_socket(config: Config) -> (WebSocket, DuplexStream) {
    let config = config.keepalive(SILENCE, SILENCE);
    let (mut socket, mut client) = pipe::socket(config, BUFFER);
    sleep(seconds(1)).await;
    write(&mut client, &frame(FIN | TEXT, b"first")).await;
    socket.recv().await.unwrap();
    sleep(seconds(1)).await;
    (socket, client)
}

/// The nearer deadline of a full inbox replaces that of the ping, and is reached when it counts no more.
#[tokio::test(start_paused = true)]
async fn pings_after_the_inbox_was_full() {
    let config = Config::new().max_inbox(1, 1000).receive_timeout(seconds(5));
    let (mut socket, mut client) = idle_socket(config).await;
    write(&mut client, &frame(FIN | TEXT, b"hi").repeat(3)).await;
    sleep(seconds(2)).await;
    for _ in 0..3 {
        socket.recv().await.unwrap();
    }
    assert_pings_after_silence(socket, client).await;
}

/// The same with the deadline of a message that arrives slowly.
#[tokio::test(start_paused = true)]
async fn pings_after_a_slow_message() {
    let config = Config::new().assembly_timeout(seconds(5));
    let (mut socket, mut client) = idle_socket(config).await;
    let message = frame(FIN | TEXT, b"slow");
    write(&mut client, &message[..3]).await;
    sleep(seconds(2)).await;
    write(&mut client, &message[3..]).await;
    socket.recv().await.unwrap();
    assert_pings_after_silence(socket, client).await;
}

#[tokio::test(start_paused = true)]
async fn gives_up_a_dead_peer_after_the_silence_and_the_wait_for_an_answer() {
    let (socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let start = Instant::now();
    read_ping(&mut client).await;
    assert_unresponsive(socket).await;
    assert_eq!(start.elapsed(), seconds(40));
    assert_dropped(client).await;
}

#[tokio::test(start_paused = true)]
async fn gives_up_a_peer_that_reads_nothing_either() {
    // The client reads nothing. The ping fits into the buffer of the pipe, so writing does not block.
    let (socket, _client) = pipe::socket(Config::new(), BUFFER);
    let start = Instant::now();
    assert_unresponsive(socket).await;
    assert_eq!(start.elapsed(), seconds(40));
}

#[tokio::test(start_paused = true)]
async fn follows_the_times_that_are_set() {
    let (socket, mut client) =
        pipe::socket(Config::new().keepalive(seconds(7), seconds(3)), BUFFER);
    let start = Instant::now();
    read_ping(&mut client).await;
    assert_eq!(start.elapsed(), seconds(7));
    assert_unresponsive(socket).await;
    assert_eq!(start.elapsed(), seconds(10));
}

#[tokio::test(start_paused = true)]
async fn counts_the_silence_from_the_last_received_frame() {
    let kinds = [
        ("text", frame(FIN | TEXT, b"hello")),
        ("binary", frame(FIN | BINARY, b"hello")),
        ("ping", frame(FIN | PING, b"hello")),
        ("pong nobody asked for", frame(FIN | PONG, b"hello")),
    ];
    for (name, bytes) in kinds {
        let (_socket, mut client) = pipe::socket(Config::new(), BUFFER);
        sleep(seconds(15)).await;
        write(&mut client, &bytes).await;
        let start = Instant::now();
        let mut sent = read_frame(&mut client).await.unwrap();
        if name == "ping" {
            assert_eq!(sent.first, FIN | PONG);
            sent = read_frame(&mut client).await.unwrap();
        }
        assert_eq!(sent.first, FIN | PING, "{name}");
        assert_eq!(start.elapsed(), seconds(20), "{name}");
    }
}

/// Asserts that at most `tokens` tokens are left. Each unsolicited pong costs one, and a full bucket has at least ten.
async fn assert_tokens_left(mut client: DuplexStream, tokens: usize) {
    write(&mut client, &frame(FIN | PONG, b"").repeat(tokens)).await;
    sleep(Duration::from_millis(1)).await;
    write(&mut client, &frame(FIN | PONG, b"")).await;
    let close = read_frame(&mut client).await.unwrap();
    assert_eq!(close.close_code(), Some(1008), "{tokens} were left");
}

/// Pongs that answer our pings do not count as control frames of the peer.
#[tokio::test(start_paused = true)]
async fn does_not_count_the_answers_to_its_pings() {
    // The bucket gets one token per second, and a ping is sent every 50 ms.
    let tiny = Duration::from_millis(50);
    let config = Config::new().max_control_frames(1, 10);
    let (socket, mut client) = pipe::socket(config.keepalive(tiny, tiny), BUFFER);
    for _ in 0..200 {
        let ping = read_ping(&mut client).await;
        sleep(Duration::from_millis(30)).await;
        write_pong(&mut client, &ping).await;
    }
    sleep(Duration::from_millis(1)).await;
    assert!(socket.round_trip().is_some());
    assert_tokens_left(client, 10).await;
}

/// A pong counts as an answer even after other messages, but only once.
#[tokio::test(start_paused = true)]
async fn does_not_count_an_answer_that_it_no_longer_waits_for() {
    let tiny = Duration::from_millis(50);
    let config = Config::new().max_control_frames(1, 10);
    let (mut socket, mut client) = pipe::socket(config.keepalive(tiny, tiny), BUFFER);
    for _ in 0..200 {
        let ping = read_ping(&mut client).await;
        // A message also shows that the peer is alive, so the connection no longer waits for the answer.
        write(&mut client, &frame(FIN | TEXT, b"busy")).await;
        assert_eq!(socket.recv().await.unwrap(), Some("busy".into()));
        write_pong(&mut client, &ping).await;
        sleep(Duration::from_millis(1)).await;
    }
    let ping = read_ping(&mut client).await;
    for _ in 0..4 {
        write_pong(&mut client, &ping).await;
    }
    assert_tokens_left(client, 7).await;
}

/// If the wait for an answer is longer than the silence, the next ping may be due before the answer.
#[tokio::test(start_paused = true)]
async fn counts_the_silence_from_a_message_that_comes_instead_of_a_pong() {
    let layer = WebSocketLayer::new(Echo::new());
    let layer = layer.config(Config::new().keepalive(seconds(5), seconds(60)));
    let mut client = pipe::open(layer.into_service(), BUFFER).await;
    read_ping(&mut client).await;
    let start = Instant::now();
    write(&mut client, &frame(FIN | TEXT, b"hello")).await;
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"hello");
    read_ping(&mut client).await;
    assert_eq!(start.elapsed(), seconds(5));
}

#[tokio::test(start_paused = true)]
async fn counts_the_silence_from_the_last_message() {
    let layer = WebSocketLayer::new(Echo::new());
    let layer = layer.config(Config::new().keepalive(seconds(5), seconds(60)));
    let mut client = pipe::open(layer.into_service(), BUFFER).await;
    for _ in 0..3 {
        sleep(seconds(4)).await;
        write(&mut client, &frame(FIN | TEXT, b"hello")).await;
        assert_eq!(read_frame(&mut client).await.unwrap().payload, b"hello");
    }
    let start = Instant::now();
    read_ping(&mut client).await;
    assert_eq!(start.elapsed(), seconds(5));
}

#[tokio::test(start_paused = true)]
async fn counts_the_silence_from_the_last_of_many_messages() {
    for (step, messages) in [
        (1, 1),
        (7, 1000),
        (300, 90),
        (900, 50),
        (1100, 50),
        (7900, 3),
    ] {
        let layer = WebSocketLayer::new(Echo::new());
        let layer = layer.config(Config::new().keepalive(seconds(8), seconds(60)));
        let mut client = pipe::open(layer.into_service(), BUFFER).await;
        let mut last = Instant::now();
        for _ in 0..messages {
            sleep(Duration::from_millis(step)).await;
            write(&mut client, &frame(FIN | TEXT, b"hello")).await;
            last = Instant::now();
            assert_eq!(read_frame(&mut client).await.unwrap().payload, b"hello");
        }
        read_ping(&mut client).await;
        let silence = last.elapsed();
        let case = format!("{silence:?} behind {messages} messages, one each {step} ms");
        assert_eq!(silence, seconds(8), "{case}");
        // A message while a ping is unanswered starts the silence again.
        sleep(seconds(3)).await;
        write(&mut client, &frame(FIN | TEXT, b"hello")).await;
        assert_eq!(read_frame(&mut client).await.unwrap().payload, b"hello");
        let start = Instant::now();
        read_ping(&mut client).await;
        assert_eq!(start.elapsed(), seconds(8), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn gives_up_in_time_where_messages_are_echoed() {
    let layer = WebSocketLayer::new(Echo::new());
    let layer = layer.config(Config::new().keepalive(seconds(8), Duration::from_millis(500)));
    let mut client = pipe::open(layer.into_service(), BUFFER).await;
    read_ping(&mut client).await;
    let start = Instant::now();
    sleep(Duration::from_millis(200)).await;
    write_pong(&mut client, b"not to this one").await;
    assert_dropped(client).await;
    assert_eq!(start.elapsed(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn keeps_a_peer_that_answers_every_ping() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let mut payloads = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        let payload = read_ping(&mut client).await;
        assert_eq!(start.elapsed(), seconds(20));
        // The answer comes at the last moment.
        sleep(seconds(20) - Duration::from_millis(1)).await;
        write_pong(&mut client, &payload).await;
        payloads.push(payload);
    }
    payloads.sort();
    payloads.dedup();
    assert_eq!(payloads.len(), 100, "no two pings are alike");
    write(&mut client, &frame(FIN | TEXT, b"still here")).await;
    let message = socket.recv().await.unwrap();
    assert_eq!(message, Some(Message::from("still here")));
}

#[tokio::test(start_paused = true)]
async fn sends_each_peer_another_nonce() {
    // A peer could answer a predictable nonce without reading the ping.
    let (_one, mut first) = pipe::socket(Config::new(), BUFFER);
    let (_other, mut second) = pipe::socket(Config::new(), BUFFER);
    let (first, second) = (read_ping(&mut first).await, read_ping(&mut second).await);
    assert_ne!(first[..6], second[..6]);
}

#[tokio::test(start_paused = true)]
async fn takes_no_other_pong_for_an_answer() {
    let (socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let old = read_ping(&mut client).await;
    write_pong(&mut client, &old).await;
    let payload = read_ping(&mut client).await;
    let asked = Instant::now();
    let mut longer = payload.clone();
    longer.push(0);
    for other in [&old[..], &payload[..7], &longer, b"", &[0; 125]] {
        sleep(seconds(3)).await;
        write_pong(&mut client, other).await;
    }
    assert_unresponsive(socket).await;
    assert_eq!(asked.elapsed(), seconds(20));
    assert_dropped(client).await;
}

#[tokio::test(start_paused = true)]
async fn does_not_take_a_pong_that_came_before_its_ping() {
    let (socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let old = read_ping(&mut client).await;
    write_pong(&mut client, &old).await;
    // The nonce of the next ping, if nonces were counted up.
    let next = u64::from_be_bytes(old.try_into().unwrap()).wrapping_add(1);
    sleep(seconds(19)).await;
    write_pong(&mut client, &next.to_be_bytes()).await;
    read_ping(&mut client).await;
    let asked = Instant::now();
    assert_unresponsive(socket).await;
    assert_eq!(asked.elapsed(), seconds(20));
}

#[tokio::test(start_paused = true)]
async fn takes_a_message_for_a_sign_of_life() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    read_ping(&mut client).await;
    sleep(seconds(19)).await;
    write(&mut client, &frame(FIN | TEXT, b"busy")).await;
    assert_eq!(socket.recv().await.unwrap(), Some(Message::from("busy")));
    assert_quiet(&mut client, seconds(20) - Duration::from_millis(1)).await;
    read_ping(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn returns_the_round_trip_of_the_last_answer() {
    let (socket, mut client) = pipe::socket(Config::new(), BUFFER);
    assert_eq!(socket.round_trip(), None);
    for millis in [70, 3000, 1] {
        let took = Duration::from_millis(millis);
        let payload = read_ping(&mut client).await;
        sleep(took).await;
        write_pong(&mut client, b"something else").await;
        write_pong(&mut client, &payload).await;
        // A second pong for the same ping does not count.
        sleep(seconds(1)).await;
        write_pong(&mut client, &payload).await;
        sleep(seconds(1)).await;
        assert_eq!(socket.round_trip(), Some(took));
    }
}

#[tokio::test(start_paused = true)]
async fn sends_nothing_without_keepalive() {
    let (mut socket, mut client) = pipe::socket(Config::new().without_keepalive(), BUFFER);
    assert_quiet(&mut client, seconds(24 * 60 * 60)).await;
    write(&mut client, &frame(FIN | TEXT, b"good morning")).await;
    let message = socket.recv().await.unwrap();
    assert_eq!(message, Some(Message::from("good morning")));
    assert_eq!(socket.round_trip(), None);
}

#[tokio::test(start_paused = true)]
async fn does_not_count_the_time_in_which_the_handler_lets_nothing_be_read() {
    let (mut socket, mut client) =
        pipe::socket(Config::new().receive_timeout(Duration::MAX), BUFFER);
    let ping = read_ping(&mut client).await;
    sleep(seconds(19)).await;
    // The pong follows messages for which the inbox has no room.
    for number in 0..20 {
        write(&mut client, &frame(FIN | BINARY, &[number])).await;
    }
    write_pong(&mut client, &ping).await;
    assert_quiet(&mut client, seconds(60 * 60)).await;
    for number in 0..20 {
        let message = socket.recv().await.unwrap();
        assert_eq!(message, Some(Message::from(vec![number])));
    }
    // From now on the silence counts again.
    let start = Instant::now();
    read_ping(&mut client).await;
    assert_eq!(start.elapsed(), seconds(20));
    assert_unresponsive(socket).await;
    assert_eq!(start.elapsed(), seconds(40));
}

#[tokio::test(start_paused = true)]
async fn does_not_count_the_time_in_which_output_is_blocked() {
    // While output is blocked, nothing is read, so a pong would not be seen.
    let (mut socket, mut client) = pipe::socket(Config::new().write_timeout(Duration::MAX), BUFFER);
    socket.send(vec![7; 2 * BUFFER]).await.unwrap();
    sleep(seconds(60 * 60)).await;
    let message = read_frame(&mut client).await.unwrap();
    assert_eq!(message.payload, vec![7; 2 * BUFFER]);
    let start = Instant::now();
    let payload = read_ping(&mut client).await;
    assert_eq!(start.elapsed(), seconds(20));
    write_pong(&mut client, &payload).await;
    read_ping(&mut client).await;
    assert_eq!(start.elapsed(), seconds(40));
}

#[tokio::test(start_paused = true)]
async fn keeps_a_peer_that_is_in_the_middle_of_a_long_message() {
    let (mut socket, mut client) =
        pipe::socket(Config::new().assembly_timeout(Duration::MAX), BUFFER);
    let mut message = header(FIN | BINARY, 200, true);
    message.extend([0; 4 + 200]);
    // A pong cannot overtake the message, even if the message arrives slowly.
    let (last, pieces) = message.split_last().unwrap();
    for piece in pieces.chunks(20) {
        write(&mut client, piece).await;
        assert_quiet(&mut client, seconds(59)).await;
    }
    write(&mut client, &[*last]).await;
    let received = socket.recv().await.unwrap();
    assert_eq!(received, Some(Message::from(vec![0; 200])));
}

#[tokio::test(start_paused = true)]
async fn keeps_a_peer_that_begins_a_long_message_instead_of_an_answer() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let ping = read_ping(&mut client).await;
    sleep(seconds(19)).await;
    write(&mut client, &frame(TEXT, b"one ")).await;
    for _ in 0..5 {
        assert_quiet(&mut client, seconds(11)).await;
        write(&mut client, &frame(CONTINUATION, b"more ")).await;
    }
    write(&mut client, &frame(FIN | CONTINUATION, b"last")).await;
    write_pong(&mut client, &ping).await;
    let received = socket.recv().await.unwrap();
    let text = "one more more more more more last";
    assert_eq!(received, Some(Message::from(text)));
    // After the message, keepalive works as before.
    let start = Instant::now();
    read_ping(&mut client).await;
    assert_eq!(start.elapsed(), seconds(20));
}
