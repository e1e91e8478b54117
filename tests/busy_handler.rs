//! Connections are served even while their handler is busy with other work.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use pipe::attach;
use support::{pipe, wire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, Connections, CountedCode, Message, Side, WebSocket, error::RecvError,
};
use wire::{BINARY, FIN, PING, PONG, TEXT, close, frame, read_close, read_frame, write};

const WORK: Duration = Duration::from_secs(3);
const MILLI: Duration = Duration::from_millis(1);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Works on each message for a long time, as with a slow database.
async fn work(mut socket: WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.recv().await? {
        sleep(WORK).await;
        socket.send(message).await?;
    }
    Ok(())
}

/// Asserts that no further bytes arrive, and that the server has dropped the stream.
async fn assert_gone(client: &mut DuplexStream) {
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    let byte = client.write_all(&[0]).await;
    assert!(byte.is_err(), "the server still reads");
}

/// Waits until no connection is left, at most `limit`.
async fn emptied(connections: &Connections, limit: Duration) {
    timeout(limit, connections.wait()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn answers_pings_at_once_while_the_handler_works() {
    let (mut client, _) = attach(work).await;
    let start = Instant::now();
    write(&mut client, &frame(FIN | TEXT, b"question")).await;
    for number in 0..29 {
        sleep(Duration::from_millis(100)).await;
        let asked = Instant::now();
        write(&mut client, &frame(FIN | PING, &[number])).await;
        let pong = read_frame(&mut client).await.unwrap();
        assert_eq!((pong.first, &*pong.payload), (FIN | PONG, &[number][..]));
        let took = asked.elapsed();
        assert!(took < Duration::from_millis(50), "{took:?}");
    }
    let answer = read_frame(&mut client).await.unwrap();
    assert_eq!(answer.payload, b"question");
    assert_eq!(start.elapsed(), WORK);
}

#[tokio::test(start_paused = true)]
async fn answers_a_ping_that_came_together_with_the_work() {
    let (mut client, _) = attach(work).await;
    let start = Instant::now();
    let segment = [
        frame(FIN | TEXT, b"one"),
        frame(FIN | PING, b"there?"),
        frame(FIN | TEXT, b"two"),
    ];
    write(&mut client, &segment.concat()).await;
    let pong = read_frame(&mut client).await.unwrap();
    assert_eq!((pong.first, &*pong.payload), (FIN | PONG, &b"there?"[..]));
    let took = start.elapsed();
    assert!(took < Duration::from_millis(50), "{took:?}");
    for (number, answer) in (1..).zip([b"one", b"two"]) {
        assert_eq!(read_frame(&mut client).await.unwrap().payload, answer);
        assert_eq!(start.elapsed(), number * WORK);
    }
}

/// Holds its socket and receives nothing.
async fn hold(socket: WebSocket) -> Result<(), BoxError> {
    socket.closed().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn answers_a_client_that_only_pings_while_the_inbox_is_full() {
    // The messages fill the inbox, either by their number or by their bytes.
    for (messages, len) in [(16, 1), (1, 64 * 1024), (3, 30 * 1024)] {
        let (mut client, connections) = attach(hold).await;
        for _ in 0..messages {
            write(&mut client, &frame(FIN | BINARY, &vec![7; len])).await;
        }
        // Of each ping and of each head it is the first byte that comes first.
        for number in 0..100 {
            for byte in frame(FIN | PING, &[number]) {
                write(&mut client, &[byte]).await;
            }
            let pong = read_frame(&mut client).await.unwrap();
            assert_eq!((pong.first, &*pong.payload), (FIN | PONG, &[number][..]));
            sleep(seconds(10)).await;
        }
        assert_eq!(connections.counts().traffic().messages_received(), messages);
        write(&mut client, &close(1000, "")).await;
        assert_eq!(read_close(&mut client).await, Some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn reads_no_further_than_a_message_for_which_there_is_no_room() {
    let (mut client, connections) = attach(hold).await;
    for _ in 0..16 {
        write(&mut client, &frame(FIN | BINARY, &[7])).await;
    }
    write(&mut client, &frame(FIN | PING, b"before")).await;
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"before");
    let segment = [
        frame(FIN | PING, b"still before"),
        frame(BINARY, b"no room"),
        frame(FIN | PING, b"behind"),
    ];
    write(&mut client, &segment.concat()).await;
    let pong = read_frame(&mut client).await.unwrap();
    assert_eq!(pong.payload, b"still before");
    let start = Instant::now();
    // The ping is not answered, and the client's silence does not count. The handler has five
    // minutes.
    assert_eq!(read_close(&mut client).await, Some(1008));
    let took = start.elapsed();
    assert!((seconds(300)..seconds(301)).contains(&took), "{took:?}");
    assert_eq!(connections.counts().traffic().messages_received(), 16);
}

#[tokio::test(start_paused = true)]
async fn sees_every_end_behind_a_full_inbox() {
    for (bytes, code) in [
        (close(4000, "bye"), Some(4000)),
        (frame(FIN | 0x3, b""), Some(1002)),
        (frame(FIN | 0xb, b""), Some(1002)),
        // Bytes after the end are ignored.
        (
            [frame(FIN | 0x8, &[0, 5]), frame(FIN | BINARY, b"late")].concat(),
            Some(1002),
        ),
        (
            [close(4000, "bye"), frame(FIN | BINARY, b"late")].concat(),
            Some(4000),
        ),
        (Vec::new(), Some(1002)),
    ] {
        let (mut client, connections) = attach(hold).await;
        for _ in 0..16 {
            write(&mut client, &frame(FIN | BINARY, &[7])).await;
        }
        let start = Instant::now();
        write(&mut client, &bytes).await;
        if bytes.is_empty() {
            client.shutdown().await.unwrap();
        }
        assert_eq!(read_close(&mut client).await, code, "{bytes:?}");
        let took = start.elapsed();
        assert!(took < seconds(2), "{took:?}");
        drop(client);
        emptied(&connections, seconds(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_sometimes_takes_a_message_is_not_dropped() {
    let (mut client, connections) = attach(async |mut socket: WebSocket| {
        while socket.recv().await?.is_some() {
            sleep(seconds(299)).await;
        }
        Ok::<_, BoxError>(())
    })
    .await;
    for _ in 0..40 {
        write(&mut client, &frame(FIN | BINARY, &[7])).await;
    }
    sleep(seconds(20 * 299 + 1)).await;
    let counts = connections.counts();
    assert_eq!(
        (counts.open(), counts.traffic().messages_received()),
        (1, 37)
    );
}

#[tokio::test(start_paused = true)]
async fn completes_the_close_of_a_client_while_the_handler_works() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let (mut client, connections) = attach(move |mut socket: WebSocket| {
        let ends = ends.clone();
        async move {
            let sender = socket.sender();
            assert_eq!(socket.recv().await?, Some(Message::from("question")));
            sleep(WORK).await;
            let end = (socket.recv().await?, sender.closed().await);
            ends.send(end)?;
            Ok::<_, BoxError>(())
        }
    })
    .await;
    let start = Instant::now();
    let segment = [
        frame(FIN | TEXT, b"question"),
        close(4000, "changed my mind"),
    ];
    write(&mut client, &segment.concat()).await;
    assert_eq!(read_close(&mut client).await, Some(4000));
    let took = start.elapsed();
    assert!(took <= seconds(1), "{took:?}");
    // The client reads to the end, which closes the TCP connection.
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    drop(client);
    assert_eq!(start.elapsed(), took);
    assert_eq!(connections.counts().open(), 1, "the handler works");

    let (end, closed) = ended.recv().await.unwrap();
    assert_eq!(start.elapsed(), WORK);
    assert_eq!(end, None);
    assert_eq!(closed.side(), Side::Remote);
    assert_eq!(closed.code().map(CloseCode::get), Some(4000));
    assert_eq!(closed.reason(), "changed my mind");
    assert!(closed.is_clean());
    emptied(&connections, seconds(1)).await;
    assert_eq!(connections.counts().open(), 0);
}

#[tokio::test(start_paused = true)]
async fn lets_the_handler_answer_what_came_before_a_close() {
    let (mut client, _) = attach(async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            sleep(Duration::from_millis(300)).await;
            socket.send(message).await?;
        }
        Ok::<_, BoxError>(())
    })
    .await;
    let segment = [
        frame(FIN | TEXT, b"one"),
        frame(FIN | TEXT, b"two"),
        frame(FIN | TEXT, b"three"),
        close(1000, ""),
    ];
    write(&mut client, &segment.concat()).await;
    for answer in [&b"one"[..], b"two", b"three"] {
        assert_eq!(read_frame(&mut client).await.unwrap().payload, answer);
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn writes_what_was_sent_before_the_work_at_once() {
    let (mut client, _) = attach(async |mut socket: WebSocket| {
        socket.send("working on it").await?;
        sleep(WORK).await;
        socket.send("done").await?;
        Ok::<_, BoxError>(())
    })
    .await;
    let start = Instant::now();
    for (message, at) in [(&b"working on it"[..], Duration::ZERO), (b"done", WORK)] {
        assert_eq!(read_frame(&mut client).await.unwrap().payload, message);
        assert_eq!(start.elapsed(), at);
    }
}

#[tokio::test(start_paused = true)]
async fn closes_at_once_when_another_task_asks_while_the_handler_works() {
    let (senders, mut opened) = mpsc::unbounded_channel();
    let (mut client, connections) = attach(move |socket: WebSocket| {
        let senders = senders.clone();
        async move {
            senders.send(socket.sender())?;
            sleep(WORK).await;
            Ok::<_, BoxError>(())
        }
    })
    .await;
    let sender = opened.recv().await.unwrap();
    let start = Instant::now();
    sender.send("last").await.unwrap();
    sender.close(CloseCode::TRY_AGAIN_LATER, "full").unwrap();
    let frame = read_frame(&mut client).await.unwrap();
    assert_eq!(frame.payload, b"last");
    let frame = read_frame(&mut client).await.unwrap();
    assert_eq!(frame.close_code(), Some(1013));
    write(&mut client, &close(1013, "")).await;
    assert!(sender.closed().await.is_clean());
    assert_eq!(start.elapsed(), Duration::ZERO);
    drop(client);
    emptied(&connections, seconds(60)).await;
    assert_eq!(start.elapsed(), WORK);
}

#[tokio::test(start_paused = true)]
async fn pings_a_silent_client_while_the_handler_works() {
    let (round_trips, mut measured) = mpsc::unbounded_channel();
    let (mut client, _) = attach(move |socket: WebSocket| {
        let round_trips = round_trips.clone();
        async move {
            sleep(seconds(60)).await;
            round_trips.send(socket.round_trip())?;
            Ok::<_, BoxError>(())
        }
    })
    .await;
    let start = Instant::now();
    let ping = read_frame(&mut client).await.unwrap();
    assert_eq!(ping.first, FIN | PING);
    assert_eq!(start.elapsed(), seconds(20));
    sleep(Duration::from_millis(80)).await;
    write(&mut client, &frame(FIN | PONG, &ping.payload)).await;
    let round_trip = measured.recv().await.unwrap();
    assert_eq!(round_trip, Some(Duration::from_millis(80)));
}

#[tokio::test(start_paused = true)]
async fn drops_a_dead_client_while_the_handler_works() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let (mut client, connections) = attach(move |mut socket: WebSocket| {
        let ends = ends.clone();
        async move {
            sleep(seconds(60)).await;
            ends.send(socket.recv().await)?;
            Ok::<_, BoxError>(())
        }
    })
    .await;
    let start = Instant::now();
    let ping = read_frame(&mut client).await.unwrap();
    assert_eq!(ping.first, FIN | PING);
    assert_gone(&mut client).await;
    assert_eq!(start.elapsed(), seconds(40));
    let counts = connections.counts();
    assert_eq!(
        (counts.open(), counts.lingering()),
        (0, 1),
        "the handler works"
    );
    let end = ended.recv().await.unwrap();
    assert!(matches!(end, Err(RecvError::Unresponsive)), "{end:?}");
    emptied(&connections, seconds(1)).await;
    let counts = connections.counts();
    assert_eq!(counts.open(), 0);
    assert_eq!(counts.closed_as(Side::Local, CountedCode::None), 1);
}

#[tokio::test(start_paused = true)]
async fn drops_a_client_that_ignores_the_close_after_five_seconds() {
    let (mut client, connections) = attach(async |_socket: WebSocket| Ok::<_, BoxError>(())).await;
    let start = Instant::now();
    assert_eq!(read_close(&mut client).await, Some(1000));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_gone(&mut client).await;
    assert_eq!(start.elapsed(), seconds(5));
    emptied(&connections, seconds(1)).await;
    assert_eq!(connections.counts().open(), 0);
}

#[tokio::test(start_paused = true)]
async fn drops_a_client_that_keeps_sending_after_the_close_after_five_seconds() {
    let (mut client, connections) = attach(async |_socket: WebSocket| Ok::<_, BoxError>(())).await;
    let start = Instant::now();
    let message = frame(FIN | BINARY, &[0; 1000]);
    while client.write_all(&message).await.is_ok() {
        assert!(start.elapsed() < seconds(60), "taken without end");
        sleep(MILLI).await;
    }
    let took = start.elapsed();
    assert!(
        (seconds(5)..=seconds(5) + MILLI).contains(&took),
        "{took:?}"
    );
    assert_eq!(read_close(&mut client).await, Some(1000));
    emptied(&connections, seconds(1)).await;
    assert_eq!(connections.counts().open(), 0);
}

#[tokio::test(start_paused = true)]
async fn drops_a_client_that_is_gone_without_waiting_for_the_handler() {
    let (mut client, connections) = attach(work).await;
    write(&mut client, &frame(FIN | TEXT, b"question")).await;
    sleep(MILLI).await;
    drop(client);
    let start = Instant::now();
    let early = timeout(MILLI, connections.wait()).await;
    assert!(early.is_err(), "the handler still works");
    emptied(&connections, seconds(60)).await;
    assert_eq!(start.elapsed(), WORK - MILLI);
    let counts = connections.counts();
    assert_eq!(
        (counts.open(), counts.traffic().messages_received()),
        (0, 1)
    );
    assert_eq!(counts.closed_as(Side::Remote, CountedCode::None), 1);
}
