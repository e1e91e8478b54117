//! A connection stays open while its handler runs or its `WebSocket` exists.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use pipe::attach;
use support::{handlers::echo, pipe, wire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{Notify, mpsc},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Connections, Error, Handler, IntoHandler, Message, WebSocket,
    WebSocketLayer, error::SendError,
};
use wire::{BINARY, FIN, PING, PONG, TEXT, close, frame, read_close, read_frame, write};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// An hour, with everything that has a limit over.
const LONG: Duration = Duration::from_secs(60 * 60);

async fn assert_echoes(client: &mut DuplexStream) {
    write(client, &frame(FIN | TEXT, b"there?")).await;
    let answer = read_frame(client).await.unwrap();
    assert_eq!(
        (answer.first, &*answer.payload),
        (FIN | TEXT, &b"there?"[..])
    );
}

/// Answers pings for this time, and asserts that no other frame arrives.
async fn keep_alive(client: &mut DuplexStream, time: Duration) {
    let end = Instant::now() + time;
    while let Ok(ping) = tokio::time::timeout_at(end, read_frame(client)).await {
        let ping = ping.unwrap();
        assert_eq!(ping.first, FIN | PING, "{ping:?}");
        write(client, &frame(FIN | PONG, &ping.payload)).await;
    }
}

/// Answers pings until a message comes.
async fn read_message(client: &mut DuplexStream) -> Vec<u8> {
    loop {
        let frame = read_frame(client).await.unwrap();
        if frame.first != FIN | PING {
            return frame.payload;
        }
        write(client, &wire::frame(FIN | PONG, &frame.payload)).await;
    }
}

/// Ends the closing handshake of a server that has closed with `code`.
async fn assert_closed(mut client: DuplexStream, code: u16, connections: &Connections) {
    assert_eq!(read_close(&mut client).await, Some(code));
    write(&mut client, &close(code, "")).await;
    drop(client);
    timeout(SECOND, connections.wait()).await.unwrap();
    assert_eq!(connections.counts().open(), 0);
}

#[tokio::test(start_paused = true)]
async fn stays_open_when_the_socket_was_moved_and_the_handler_has_returned() {
    let (mut client, connections) = attach(async |socket: WebSocket| {
        tokio::spawn(echo(socket));
        Ok::<_, Error>(())
    })
    .await;
    assert_echoes(&mut client).await;
    keep_alive(&mut client, LONG).await;
    assert_echoes(&mut client).await;
    let counts = connections.counts();
    assert_eq!((counts.open(), counts.handed_on()), (1, 1));
    write(&mut client, &close(4000, "")).await;
    assert_closed(client, 4000, &connections).await;
    assert_eq!(connections.counts().handed_on(), 1, "counted once");
}

#[tokio::test(start_paused = true)]
async fn stays_open_when_both_halves_were_moved() {
    let (mut client, connections) = attach(async |socket: WebSocket| {
        let (mut sink, mut stream) = socket.split();
        let (messages, mut queue) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(message) = queue.recv().await {
                sink.send(message).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                messages.send(message).unwrap();
            }
        });
        Ok::<_, Error>(())
    })
    .await;
    for _ in 0..3 {
        assert_echoes(&mut client).await;
        keep_alive(&mut client, SECOND).await;
    }
    write(&mut client, &close(1000, "")).await;
    assert_closed(client, 1000, &connections).await;
}

#[tokio::test(start_paused = true)]
async fn stays_open_for_a_handler_that_dropped_its_socket() {
    let (mut client, connections) = attach(async |socket: WebSocket| {
        let sender = socket.sender();
        drop(socket);
        for number in 0..3_u8 {
            sleep(LONG).await;
            sender.send(vec![number]).await?;
        }
        Ok::<_, Error>(())
    })
    .await;
    for number in 0..3 {
        // Far more than an inbox holds.
        for _ in 0..100 {
            write(&mut client, &frame(FIN | BINARY, &[0; 2000])).await;
        }
        write(&mut client, &frame(FIN | PING, b"there?")).await;
        assert_eq!(read_frame(&mut client).await.unwrap().first, FIN | PONG);
        assert_eq!(read_message(&mut client).await, [number]);
    }
    assert_closed(client, 1000, &connections).await;
}

#[tokio::test(start_paused = true)]
async fn a_sender_keeps_nothing_open() {
    let (senders, mut sender) = mpsc::unbounded_channel();
    let (client, connections) = attach(move |socket: WebSocket| {
        let senders = senders.clone();
        async move {
            senders.send(socket.sender())?;
            Ok::<_, Error>(())
        }
    })
    .await;
    let sender = sender.recv().await.unwrap();
    assert_closed(client, 1000, &connections).await;
    assert_eq!(sender.send("late").await, Err(SendError::Closed));
    assert_eq!(connections.counts().handed_on(), 0);
}

/// Moves the socket to a task that holds it, and ends as `end` does when `ends` says so.
fn moves<F, R>(ends: &Arc<Notify>, end: F) -> impl Handler
where
    F: Fn() -> R + Clone + Send + Sync + 'static,
    R: Into<Result<(), BoxError>>,
{
    let ends = Arc::clone(ends);
    let handler = move |socket: WebSocket| {
        let (ends, end) = (Arc::clone(&ends), end.clone());
        async move {
            tokio::spawn(async move {
                let _socket = socket;
                pending::<()>().await;
            });
            ends.notified().await;
            end().into()
        }
    };
    handler.into_handler()
}

#[tokio::test(start_paused = true)]
async fn an_error_or_panic_of_the_handler_decides_wherever_the_socket_is() {
    type End = fn() -> Result<(), BoxError>;
    let ends: [(u16, End); 3] = [
        (4001, || {
            Err(CloseFrame::new(CloseCode::new(4001)?, "enough")?.into())
        }),
        (1011, || Err("no database".into())),
        (1011, || panic!("of the handler")),
    ];
    for (code, end) in ends {
        let notify = Arc::default();
        let (mut client, connections) = attach(moves(&notify, end)).await;
        keep_alive(&mut client, LONG).await;
        notify.notify_one();
        assert_closed(client, code, &connections).await;
        assert_eq!(connections.counts().handed_on(), 0, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_holder_of_the_socket_decides_after_the_handler() {
    for (code, panics) in [(1000, false), (1011, true)] {
        let drops = Arc::new(Notify::new());
        let dropped = Arc::clone(&drops);
        let (mut client, connections) = attach(move |socket: WebSocket| {
            let dropped = Arc::clone(&dropped);
            async move {
                tokio::spawn(async move {
                    let _socket = socket;
                    dropped.notified().await;
                    assert!(!panics, "of the holder");
                });
                Ok::<_, Error>(())
            }
        })
        .await;
        keep_alive(&mut client, LONG).await;
        drops.notify_one();
        assert_closed(client, code, &connections).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_handler_decides_after_the_last_holder_of_the_socket() {
    let returns = Arc::new(Notify::new());
    let returned = Arc::clone(&returns);
    let (mut client, connections) = attach(move |socket: WebSocket| {
        let returned = Arc::clone(&returned);
        async move {
            let holder = tokio::spawn(async move {
                let _socket = socket;
                panic!("of the holder");
            });
            let _: Result<(), _> = holder.await;
            returned.notified().await;
            Ok::<_, Error>(())
        }
    })
    .await;
    keep_alive(&mut client, LONG).await;
    returns.notify_one();
    assert_closed(client, 1000, &connections).await;
}

/// Answers after half a second, which is less than an end waits.
async fn answer_slowly(mut socket: WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.recv().await? {
        sleep(SECOND / 2).await;
        socket.send(message).await?;
    }
    Ok(())
}

/// The same with the halves of the socket.
async fn answer_slowly_with_halves(socket: WebSocket) -> Result<(), BoxError> {
    let (mut sink, mut stream) = socket.split();
    while let Some(message) = stream.next().await.transpose()? {
        sleep(SECOND / 2).await;
        sink.send(message).await?;
    }
    Ok(())
}

async fn move_and_return(socket: WebSocket) -> Result<(), BoxError> {
    tokio::spawn(answer_slowly(socket));
    Ok(())
}

async fn move_and_wait(socket: WebSocket) -> Result<(), BoxError> {
    tokio::spawn(answer_slowly(socket)).await?
}

/// Asserts that three messages are answered before an end that came together with them.
async fn assert_answers_before<M>(handler: impl IntoHandler<M, Handler: Handler>, holder: &str) {
    let layer = WebSocketLayer::new(handler);
    let ends = [
        ("violation", frame(FIN | 0x3, b""), Some(1002)),
        ("violation in a close", frame(FIN | 0x8, &[0]), Some(1002)),
        ("close", close(4000, "bye"), Some(4000)),
        ("empty close", frame(FIN | 0x8, b""), None),
        ("end of the stream", Vec::new(), Some(1002)),
    ];
    for (end, bytes, code) in ends {
        let mut client = pipe::open(layer.clone().into_service(), 4096).await;
        let messages = [b"1", b"2", b"3"].map(|text| frame(FIN | TEXT, text));
        write(&mut client, &[messages.concat(), bytes.clone()].concat()).await;
        if bytes.is_empty() {
            client.shutdown().await.unwrap();
        }
        for text in [b"1", b"2", b"3"] {
            let answer = read_frame(&mut client).await.unwrap();
            assert_eq!(answer.payload, text, "{holder}, {end}");
        }
        assert_eq!(read_close(&mut client).await, code, "{holder}, {end}");
        if !bytes.is_empty() {
            client.shutdown().await.unwrap();
        }
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "{holder}, {end}");
    }
    timeout(SECOND, layer.connections().wait()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn answers_what_came_before_an_end_wherever_the_socket_is() {
    assert_answers_before(answer_slowly, "the handler").await;
    assert_answers_before(answer_slowly_with_halves, "halves").await;
    assert_answers_before(move_and_return, "another task").await;
    assert_answers_before(move_and_wait, "a task that is awaited").await;
}

#[tokio::test(start_paused = true)]
async fn an_end_does_not_wait_long_for_a_handler_that_answers_nothing() {
    for holder in ["the handler", "another task"] {
        let (mut client, _) = attach(move |mut socket: WebSocket| async move {
            let hangs = async move {
                let message = socket.recv().await?;
                assert_eq!(message, Some(Message::from("one")));
                pending::<()>().await;
                Ok::<_, Error>(())
            };
            match holder {
                "the handler" => hangs.await,
                _ => tokio::spawn(hangs).await?,
            }
        })
        .await;
        let start = Instant::now();
        let bytes = [frame(FIN | TEXT, b"one"), frame(FIN | 0x3, b"")];
        write(&mut client, &bytes.concat()).await;
        assert_eq!(read_close(&mut client).await, Some(1002), "{holder}");
        let took = start.elapsed();
        assert!((SECOND..SECOND + 10 * MILLI).contains(&took), "{took:?}");
    }
}
