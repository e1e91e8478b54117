//! Every limit of a connection, each by itself: where it lies, what the peer reads when it is
//! passed, and what `recv` and `Sender::closed` tell of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use support::{pipe, wire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    Accept, BoxError, Buffered, CloseCode, Config, Echo, Handler, Message, Refusal, Side,
    WebSocket, WebSocketLayer,
    error::{RecvError, SendError, TrySendError},
};
use wire::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close, frame, handshake, header,
    read_close, read_frame, read_head, write,
};

/// What lies between a test and its socket, in each direction.
const BUFFER: usize = 1024;
const MIB: usize = 1024 * 1024;
const MILLI: Duration = Duration::from_millis(1);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Asserts what the holder of a socket and of a sender are told of an end that has come.
async fn assert_told(mut socket: WebSocket, fault: Option<&str>, code: Option<u16>, reason: &str) {
    let sender = socket.sender();
    let end = socket.recv().await;
    match (&end, fault) {
        (Err(error), Some(fault)) => assert_eq!(format!("{error:?}"), fault),
        (Ok(None), None) => {}
        _ => panic!("{end:?} instead of {fault:?}"),
    }
    let end = socket.recv().await;
    assert!(matches!(end, Ok(None)), "{end:?} after the end");
    assert_eq!(socket.send("late").await, Err(SendError::Closed));
    let late = sender.try_send("late").unwrap_err();
    assert_eq!(late, TrySendError::Closed(Message::from("late")));
    let closed = sender.closed().await;
    assert_eq!(closed.side(), Side::Local);
    assert_eq!(closed.code().map(CloseCode::get), code);
    assert_eq!(closed.reason(), reason);
    assert!(!closed.is_clean(), "no Close of the peer was read");
}

/// Asserts that the peer is told why, and so is the holder of the socket.
async fn assert_refused(socket: WebSocket, mut client: DuplexStream, fault: &str, code: u16) {
    let frame = loop {
        let frame = read_frame(&mut client).await.expect("a Close");
        if frame.first == FIN | CLOSE {
            break frame;
        }
    };
    assert_eq!(frame.close_code(), Some(code), "{fault}");
    let reason = String::from_utf8(frame.payload[2..].to_vec()).unwrap();
    assert_ne!(reason, "", "{fault}");
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "after the Close");
    assert_told(socket, Some(fault), Some(code), &reason).await;
}

/// Asserts that the connection is gone, and that nobody could be told.
async fn assert_dropped(socket: WebSocket, mut client: DuplexStream, fault: &str) {
    assert_told(socket, Some(fault), None, "").await;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= BUFFER, "{} bytes came", rest.len());
}

/// Receives a message, and returns its length.
async fn received(socket: &mut WebSocket) -> usize {
    socket.recv().await.unwrap().unwrap().len()
}

/// Writes until nothing is taken any more, `limit` bytes at most, and returns how many were.
async fn stuff(client: &mut DuplexStream, bytes: &[u8], limit: usize) -> usize {
    let mut written = 0;
    while written < limit {
        let start = written % bytes.len();
        match timeout(MILLI, client.write(&bytes[start..])).await {
            Ok(more) => written += more.unwrap(),
            Err(_) => break,
        }
    }
    written
}

// What a message may be.

#[tokio::test(start_paused = true)]
async fn refuses_a_message_over_the_limit_at_its_head() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_message_size(500), BUFFER);
    write(&mut client, &frame(FIN | BINARY, &[1; 500])).await;
    assert_eq!(received(&mut socket).await, 500);
    // Only the head, and of its mask nothing.
    write(&mut client, &header(FIN | BINARY, 501, true)).await;
    assert_refused(socket, client, "TooLarge", 1009).await;
}

#[tokio::test(start_paused = true)]
async fn refuses_fragments_that_are_over_the_limit_together() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_message_size(500), BUFFER);
    for _ in 0..2 {
        write(&mut client, &frame(BINARY, &[1; 300])).await;
        write(&mut client, &frame(FIN | CONTINUATION, &[1; 200])).await;
        assert_eq!(received(&mut socket).await, 500);
    }
    write(&mut client, &frame(BINARY, &[1; 300])).await;
    write(&mut client, &header(FIN | CONTINUATION, 201, true)).await;
    assert_refused(socket, client, "TooLarge", 1009).await;
}

#[tokio::test(start_paused = true)]
async fn refuses_a_mebibyte_and_one_byte_by_default() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let message = frame(FIN | BINARY, &vec![1; MIB]);
    let (length, ()) = tokio::join!(received(&mut socket), write(&mut client, &message));
    assert_eq!(length, MIB);
    write(&mut client, &header(FIN | BINARY, MIB + 1, true)).await;
    assert_refused(socket, client, "TooLarge", 1009).await;
}

#[tokio::test(start_paused = true)]
async fn refuses_a_frame_over_the_limit_of_frames() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_frame_size(100), BUFFER);
    let fragments = [
        frame(TEXT, &[b'x'; 100]),
        frame(CONTINUATION, &[b'x'; 100]),
        frame(FIN | CONTINUATION, &[b'x'; 100]),
    ];
    write(&mut client, &fragments.concat()).await;
    assert_eq!(received(&mut socket).await, 300);
    write(&mut client, &header(FIN | TEXT, 126, true)).await;
    assert_refused(socket, client, "TooLarge", 1009).await;
}

#[tokio::test(start_paused = true)]
async fn refuses_one_fragment_too_many() {
    for (config, allowed) in [
        (Config::new().max_fragments(20, 16), 20),
        (Config::new(), 16_384),
    ] {
        let (mut socket, mut client) = pipe::socket(config, 256 * 1024);
        let mut message = frame(BINARY, &[1]);
        for _ in 2..allowed {
            message.extend(frame(CONTINUATION, &[1]));
        }
        let begun = message.clone();
        message.extend(frame(FIN | CONTINUATION, &[1]));
        write(&mut client, &message).await;
        assert_eq!(received(&mut socket).await, allowed);
        // One of them is not the last.
        write(&mut client, &begun).await;
        write(&mut client, &frame(CONTINUATION, &[1])).await;
        write(&mut client, &frame(FIN | CONTINUATION, &[1])).await;
        assert_refused(socket, client, "TooManyFragments", 1008).await;
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_one_empty_fragment_too_many() {
    for (config, allowed) in [
        (Config::new().max_fragments(100, 5), 5),
        (Config::new(), 16),
    ] {
        let (mut socket, mut client) = pipe::socket(config, BUFFER);
        let mut message = frame(TEXT, b"");
        for _ in 1..allowed {
            message.extend(frame(CONTINUATION, b""));
        }
        let begun = message.clone();
        // Neither one with a payload nor the last one counts.
        message.extend(frame(CONTINUATION, b"x"));
        message.extend(frame(FIN | CONTINUATION, b""));
        write(&mut client, &message).await;
        assert_eq!(received(&mut socket).await, 1);
        write(&mut client, &begun).await;
        write(&mut client, &frame(CONTINUATION, b"")).await;
        assert_refused(socket, client, "TooManyFragments", 1008).await;
    }
}

#[tokio::test(start_paused = true)]
async fn gives_a_message_a_minute_from_its_first_byte_to_its_last() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let message = frame(FIN | BINARY, &[1; 100]);
    write(&mut client, &message[..1]).await;
    sleep(seconds(60) - MILLI).await;
    write(&mut client, &message[1..]).await;
    assert_eq!(received(&mut socket).await, 100);

    let start = Instant::now();
    for byte in &message[..60] {
        write(&mut client, &[*byte]).await;
        sleep(seconds(1)).await;
    }
    assert_refused(socket, client, "TooSlow", 1008).await;
    assert_eq!(start.elapsed(), seconds(60));
}

#[tokio::test(start_paused = true)]
async fn gives_all_fragments_of_a_message_one_time_together() {
    let (socket, mut client) = pipe::socket(Config::new().assembly_timeout(seconds(7)), BUFFER);
    let start = Instant::now();
    write(&mut client, &frame(TEXT, b"x")).await;
    // What stands between them changes nothing.
    for _ in 0..3 {
        sleep(seconds(2)).await;
        write(&mut client, &frame(FIN | PING, b"")).await;
        write(&mut client, &frame(CONTINUATION, b"x")).await;
    }
    assert_refused(socket, client, "TooSlow", 1008).await;
    assert_eq!(start.elapsed(), seconds(7));
}

#[tokio::test(start_paused = true)]
async fn gives_a_control_frame_no_longer_than_a_message() {
    let (socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let start = Instant::now();
    write(&mut client, &frame(FIN | PING, b"half")[..7]).await;
    assert_refused(socket, client, "TooSlow", 1008).await;
    assert_eq!(start.elapsed(), seconds(60));
}

#[tokio::test(start_paused = true)]
async fn does_not_count_the_time_in_which_output_is_blocked_for_a_message() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let message = frame(FIN | BINARY, &[1; 100]);
    write(&mut client, &message[..50]).await;
    sleep(MILLI).await;
    // The peer takes this slowly, and the other half of its message is not read before that.
    let sent = vec![7; 3 * BUFFER];
    socket.send(sent.clone()).await.unwrap();
    sleep(MILLI).await;
    write(&mut client, &message[50..]).await;
    let mut taken = vec![0; header(FIN | BINARY, sent.len(), false).len() + sent.len()];
    for piece in taken.chunks_mut(300) {
        sleep(seconds(9)).await;
        client.read_exact(piece).await.unwrap();
    }
    assert_eq!(received(&mut socket).await, 100);
}

// Control frames.

#[tokio::test(start_paused = true)]
async fn refuses_a_flood_of_control_frames() {
    for (config, rate, burst) in [
        (Config::new(), 100, 200),
        (Config::new().max_control_frames(2, 15), 2, 15),
    ] {
        let (socket, mut client) = pipe::socket(config, 64 * 1024);
        // Pongs count as well, and so nobody has to read answers here.
        write(&mut client, &frame(FIN | PONG, b"").repeat(burst)).await;
        sleep(seconds(1)).await;
        write(&mut client, &frame(FIN | PING, b"").repeat(rate)).await;
        for _ in 0..rate {
            let pong = read_frame(&mut client).await.unwrap();
            assert_eq!(pong.first, FIN | PONG);
        }
        write(&mut client, &frame(FIN | PING, b"")).await;
        assert_refused(socket, client, "TooManyControlFrames", 1008).await;
    }
}

#[tokio::test(start_paused = true)]
async fn lets_pings_come_at_the_rate_for_ever() {
    let (_socket, mut client) = pipe::socket(Config::new().max_control_frames(10, 10), BUFFER);
    for _ in 0..1000 {
        write(&mut client, &frame(FIN | PING, b"")).await;
        let pong = read_frame(&mut client).await.unwrap();
        assert_eq!(pong.first, FIN | PONG);
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_only_the_newest_ping_after_output_was_blocked() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_outbox(1, MIB), 256);
    let sending = tokio::spawn(async move {
        for _ in 0..3 {
            socket.send(vec![7; 1000]).await.unwrap();
        }
        socket
    });
    sleep(MILLI).await;
    let mut pings = Vec::new();
    for number in 0..20 {
        pings.extend(frame(FIN | PING, &[number]));
    }
    write(&mut client, &pings).await;
    let (mut pongs, mut messages) = (Vec::new(), 0);
    // To the end of the messages, and what follows them.
    while let Ok(frame) = timeout(seconds(1), read_frame(&mut client)).await {
        let frame = frame.unwrap();
        match frame.first {
            first if first == FIN | PONG => pongs.extend(frame.payload),
            _ => messages += 1,
        }
    }
    assert_eq!(messages, 3);
    assert_eq!(pongs, [19]);
    drop(sending.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn answers_a_ping_also_while_the_handler_sends_without_end() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let sending = tokio::spawn(async move { while socket.send(vec![7; 1000]).await.is_ok() {} });
    sleep(MILLI).await;
    write(&mut client, &frame(FIN | PING, b"when?")).await;
    // What waits to be written is a mebibyte. The pong may be behind that, but not behind all that
    // the handler will ever send.
    let mut bytes = 0;
    loop {
        let frame = read_frame(&mut client).await.unwrap();
        if frame.first == FIN | PONG {
            break;
        }
        bytes += frame.payload.len();
        assert!(bytes < 4 * MIB, "no pong after {bytes} bytes");
    }
    drop(client);
    sending.await.unwrap();
}

// What waits on either side of the handler.

/// Fills the inbox of a socket with messages of `size` bytes and asserts how many were read.
async fn assert_inbox_holds(config: Config, size: usize, messages: usize) {
    let (mut socket, mut client) = pipe::socket(config, BUFFER);
    let message = frame(FIN | BINARY, &vec![0; size]);
    let len = message.len();
    // What was read is in the inbox, or in what was read with the last of it, or is not read.
    let least = messages * len;
    let most = least + 2 * BUFFER;
    let taken = stuff(&mut client, &message, most + 100 * len).await;
    assert!(
        (least..=most).contains(&taken),
        "{taken} bytes taken, not {least} to {most}"
    );
    // It stays like that until they are received.
    sleep(seconds(60)).await;
    assert_eq!(stuff(&mut client, &message[taken % len..], 1).await, 0);
    for _ in 0..taken / len {
        assert_eq!(received(&mut socket).await, size);
    }
    assert_ne!(stuff(&mut client, &message[taken % len..], 1).await, 0);
}

#[tokio::test(start_paused = true)]
async fn stops_reading_at_sixteen_messages_that_were_not_received() {
    assert_inbox_holds(Config::new(), 50, 16).await;
    assert_inbox_holds(Config::new().max_inbox(100, MIB), 50, 100).await;
}

#[tokio::test(start_paused = true)]
async fn stops_reading_at_64_kib_that_were_not_received() {
    assert_inbox_holds(Config::new(), 8192, 8).await;
    assert_inbox_holds(Config::new().max_inbox(100, 20_000), 1000, 20).await;
}

#[tokio::test(start_paused = true)]
async fn takes_a_message_that_is_larger_than_the_inbox() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_inbox(1, 1), BUFFER);
    let message = frame(FIN | BINARY, &vec![0; 100_000]);
    for _ in 0..3 {
        let (length, ()) = tokio::join!(received(&mut socket), write(&mut client, &message));
        assert_eq!(length, 100_000);
    }
}

/// Sends messages of `size` bytes to a peer that does not read, and asserts how many are taken.
async fn assert_outbox_holds(config: Config, size: usize, messages: usize) {
    let (mut socket, mut client) = pipe::socket(config.write_timeout(Duration::MAX), BUFFER);
    let sender = socket.sender();
    let message = Message::from(vec![0; size]);
    let mut taken = 0;
    while timeout(MILLI, socket.send(message.clone())).await.is_ok() {
        taken += 1;
        assert!(taken < 10_000, "{size} bytes are taken without end");
    }
    // What the stream itself has taken makes room again, for whole messages.
    let frame_len = header(FIN | BINARY, size, false).len() + size;
    let most = messages + BUFFER / frame_len;
    assert!(
        (messages..=most).contains(&taken),
        "{taken} messages of {size} bytes taken, not {messages} to {most}"
    );
    let buffered = sender.buffered();
    assert_eq!(buffered.bytes, taken * frame_len - BUFFER);
    assert!(buffered.messages <= taken, "{buffered:?}");
    assert!(buffered.messages * frame_len >= buffered.bytes);
    assert_eq!(
        sender.try_send(message.clone()),
        Err(TrySendError::Full(message.clone()))
    );
    // It waits as long as nothing is read, and no longer. What gave up waiting was not taken.
    let waited = timeout(seconds(9), socket.send(message.clone())).await;
    assert!(waited.is_err(), "{waited:?}");
    let sending = tokio::spawn(async move { socket.send(message).await.map(|()| socket) });
    for _ in 0..=taken {
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.payload.len(), size);
    }
    let _socket = sending.await.unwrap().unwrap();
    let more = timeout(MILLI, client.read(&mut [0])).await;
    assert!(more.is_err(), "{more:?}");
    assert_eq!(sender.buffered(), Buffered::default());
}

#[tokio::test(start_paused = true)]
async fn lets_send_wait_at_1024_messages_that_were_not_written() {
    assert_outbox_holds(Config::new(), 50, 1024).await;
    assert_outbox_holds(Config::new().max_outbox(10, MIB), 50, 10).await;
}

#[tokio::test(start_paused = true)]
async fn lets_send_wait_at_a_mebibyte_that_was_not_written() {
    assert_outbox_holds(Config::new(), 16_000, MIB / 16_004).await;
    assert_outbox_holds(Config::new().max_outbox(1024, 10_000), 996, 10).await;
}

#[tokio::test(start_paused = true)]
async fn takes_a_message_that_is_larger_than_the_outbox_when_nothing_else_waits() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_outbox(10, 100), BUFFER);
    for _ in 0..3 {
        timeout(MILLI, socket.send(vec![0; 100_000]))
            .await
            .unwrap()
            .unwrap();
        let full = socket.sender().try_send("x").unwrap_err();
        assert_eq!(full, TrySendError::Full(Message::from("x")));
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.payload.len(), 100_000);
    }
}

#[tokio::test(start_paused = true)]
async fn has_nothing_buffered_any_more_when_the_connection_is_gone() {
    let (mut socket, _client) = pipe::socket(Config::new(), BUFFER);
    let sender = socket.sender();
    socket.send(vec![7; 2 * BUFFER]).await.unwrap();
    sender.closed().await;
    assert_eq!(sender.buffered(), Buffered::default());
}

// Times.

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
    // What came before is received, and the end is no failure.
    let closed = socket.sender().closed().await;
    assert_eq!(received(&mut socket).await, 4);
    assert!(matches!(socket.recv().await, Ok(None)));
    assert_eq!(closed.side(), Side::Local);
    assert_eq!(closed.code(), Some(CloseCode::GOING_AWAY));
    assert_eq!(closed.reason(), closer.await.unwrap());
    assert!(closed.is_clean());
}

// The closing handshake.

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

// The opening handshake.

/// Accepts after so long.
struct Slow(Duration);

impl Handler for Slow {
    async fn accept(&self, _: &mut http::request::Parts) -> Result<Accept, Refusal> {
        sleep(self.0).await;
        Ok(Accept::new())
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        while socket.recv().await?.is_some() {}
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_with_503_when_the_handler_takes_too_long_to_accept() {
    for (set, limit) in [(None, seconds(10)), (Some(seconds(2)), seconds(2))] {
        let layer = |slow| match set {
            Some(limit) => WebSocketLayer::new(slow).accept_timeout(limit),
            None => WebSocketLayer::new(slow),
        };
        let late = layer(Slow(limit + MILLI));
        let connections = late.connections();
        let mut client = pipe::serve(late.into_service(), BUFFER);
        let start = Instant::now();
        write(&mut client, handshake("/").as_bytes()).await;
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(start.elapsed(), limit);
        let counts = connections.counts();
        assert_eq!((counts.open, counts.accepted), (0, 0));
        assert_eq!(counts.refused["accept_timeout"], 1);

        pipe::open(layer(Slow(limit - MILLI)).into_service(), BUFFER).await;
    }
}

#[tokio::test(start_paused = true)]
async fn gives_up_a_connection_that_is_not_handed_over_in_time() {
    let layer = WebSocketLayer::new(Echo::new());
    for (layer, limit) in [
        (WebSocketLayer::new(Echo::new()), seconds(10)),
        (layer.upgrade_timeout(seconds(2)), seconds(2)),
    ] {
        let connections = layer.connections();
        // The 101 does not fit, and is not read: hyper cannot hand over the connection.
        let mut client = pipe::serve(layer.into_service(), 16);
        let start = Instant::now();
        write(&mut client, handshake("/").as_bytes()).await;
        sleep(MILLI).await;
        let counts = connections.counts();
        assert_eq!((counts.open, counts.accepted), (1, 1));
        connections.wait().await;
        assert_eq!(start.elapsed(), limit);
        let counts = connections.counts();
        assert_eq!((counts.open, counts.accepted), (0, 1));
        assert_eq!(counts.closed[&(Side::Local, None)], 1);
        // Whoever reads it later finds nobody there.
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
