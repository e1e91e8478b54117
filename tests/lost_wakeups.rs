//! A task that waits to receive or to send is woken, even if several tasks poll its futures.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use support::{
    pipe, settle,
    wire::{
        BINARY, CLOSE, FIN, PING, TEXT, close, frame, read_close, read_frame, read_payload, write,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    runtime,
    sync::{Barrier, mpsc, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, Config, Message, WebSocket, WebSocketLayer, error::SendError,
};

/// Less than any timeout of the connection. With a paused clock, this passes only when all tasks are
/// idle.
const GUARD: Duration = Duration::from_secs(1);
/// Longer than any of these tests takes in real time.
const HANG: Duration = Duration::from_secs(15);

#[tokio::test(start_paused = true)]
async fn continues_to_read_when_a_full_inbox_has_room() {
    for (messages, bytes) in [(1, 1000), (3, 1000), (100, 1), (100, 30)] {
        let config = Config::new().max_inbox(messages, bytes);
        let (mut socket, mut client) = pipe::socket(config, 1000);
        for number in 0..20 {
            write(&mut client, &frame(FIN | BINARY, &[number; 10])).await;
        }
        // Now the inbox is full and the connection is idle.
        settle().await;
        for number in 0..20 {
            let received = timeout(GUARD, socket.recv()).await;
            let received = received.unwrap_or_else(|_| panic!("{messages}, {bytes}: asleep"));
            assert_eq!(received.unwrap(), Some(Message::binary(vec![number; 10])));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn continues_to_read_when_a_slow_handler_makes_room() {
    let handler = async |mut socket: WebSocket| {
        // After this, the default inbox is full.
        sleep(GUARD / 2).await;
        let mut received = 0;
        while socket.recv().await?.is_some() {
            received += 1;
        }
        socket.send(format!("{received}")).await?;
        Ok::<_, BoxError>(())
    };
    let (mut client, _) = pipe::attach(handler).await;
    for _ in 0..40 {
        write(&mut client, &frame(FIN | TEXT, b"one more")).await;
    }
    write(&mut client, &close(1000, "")).await;
    let answer = timeout(GUARD, read_frame(&mut client)).await;
    assert_eq!(answer.expect("asleep").unwrap().payload, b"40");
}

#[tokio::test(start_paused = true)]
async fn sends_no_pong_after_a_close() {
    for pings in 1..4 {
        let (mut socket, mut client) = pipe::socket(Config::new().max_outbox(1, 100), 64);
        let sender = socket.sender();
        // Output is blocked, and a send waits for room.
        socket.send(vec![0; 200]).await.unwrap();
        let waits = tokio::spawn(async move { sender.send("more").await });
        settle().await;
        for ping in 0..pings {
            write(&mut client, &frame(FIN | PING, &[ping])).await;
        }
        // Some output is written, the pings are read, and output is blocked again.
        let mut some = [0; 20];
        client.read_exact(&mut some).await.unwrap();
        settle().await;
        socket.sender().close(CloseCode::NORMAL, "").unwrap();
        assert!(waits.await.unwrap().is_err());

        let mut rest = [0; 204 - 20];
        client.read_exact(&mut rest).await.unwrap();
        let mut frames = Vec::new();
        let reads = async {
            while let Some(frame) = read_frame(&mut client).await {
                frames.push(frame.first);
                if frame.first == FIN | CLOSE {
                    settle().await;
                    write(&mut client, &close(1000, "")).await;
                }
            }
        };
        timeout(GUARD, reads).await.unwrap();
        assert_eq!(frames.last(), Some(&(FIN | CLOSE)), "{frames:x?}");
    }
}

/// Polls a future once in one task, and awaits it in another, which has to be woken.
async fn polled_in_two_tasks<F>(mut future: Pin<Box<F>>) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let first = tokio::spawn(async move {
        let poll = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        (future, poll)
    });
    let (future, poll) = first.await.unwrap();
    match poll {
        Poll::Ready(output) => output,
        Poll::Pending => tokio::spawn(future).await.unwrap(),
    }
}

#[test]
fn wakes_the_task_that_a_future_has_moved_to() {
    on_threads(async {
        const EACH: u8 = 250;
        for round in 0..4 {
            let config = Config::new().max_inbox(1, 1).max_outbox(1, 1);
            let (mut socket, mut client) = pipe::socket(config, 16);
            let sender = socket.sender();
            let closed = sender.clone();
            let closed = polled_in_two_tasks(Box::pin(async move { closed.closed().await }));
            let closed = tokio::spawn(closed);
            let server = tokio::spawn(async move {
                for number in 0..EACH {
                    let recv = async move { (socket.recv().await, socket) };
                    let (received, back) = polled_in_two_tasks(Box::pin(recv)).await;
                    socket = back;
                    assert_eq!(received.unwrap(), Some(Message::binary(vec![number])));
                    for part in 0..3 {
                        let sender = sender.clone();
                        let send = async move { sender.send(vec![part; 20]).await };
                        polled_in_two_tasks(Box::pin(send)).await.unwrap();
                    }
                }
            });
            let client = tokio::spawn(async move {
                for number in 0..EACH {
                    write(&mut client, &frame(FIN | BINARY, &[number])).await;
                    for part in 0..3 {
                        let frame = read_frame(&mut client).await.unwrap();
                        assert_eq!(frame.payload, [part; 20]);
                    }
                }
                // The socket may be dropped before or after this.
                let code = if round % 2 == 0 { 1000 } else { 3000 };
                let _ = client.write_all(&close(code, "")).await;
                let _ = read_frame(&mut client).await;
            });
            tokio::try_join!(server, client, closed).unwrap();
        }
    });
}

/// Runs on two threads, and fails after 15 s, which only a hang takes.
fn on_threads(test: impl Future<Output = ()> + Send + 'static) {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let test = async { timeout(HANG, tokio::spawn(test)).await };
    let ended = runtime.block_on(test).expect("a wakeup was lost");
    ended.unwrap();
}

/// The ways in which a handler may wait for several futures.
#[derive(Clone, Copy, Debug)]
enum Way {
    Join,
    Select,
    /// Each future has its own waker, and is only polled when that is woken.
    Unordered,
    /// Different tasks poll the futures.
    Tasks,
}

/// Receives until the end while it sends, and returns the number of messages received.
async fn both_ways(mut socket: WebSocket, way: Way, count: u32) -> Result<u32, BoxError> {
    let sender = socket.sender();
    let send_all = move |from: u32, step: u32| {
        let sender = sender.clone();
        async move {
            let mut number = from;
            while number < count {
                sender.send(number.to_be_bytes().to_vec()).await?;
                number += step;
            }
            Ok::<_, SendError>(())
        }
    };
    let receive_all = async |socket: &mut WebSocket| {
        let mut received = 0;
        while let Some(message) = socket.recv().await? {
            assert_eq!(message.as_bytes(), u32::to_be_bytes(received));
            received += 1;
        }
        Ok::<_, BoxError>(received)
    };
    match way {
        Way::Join => {
            let (received, sent) = tokio::join!(receive_all(&mut socket), send_all(0, 1));
            sent?;
            received
        }
        Way::Select => {
            let sender = socket.sender();
            let (mut received, mut sent) = (0, 0);
            loop {
                tokio::select! {
                    message = socket.recv() => match message? {
                        Some(message) => {
                            assert_eq!(message.as_bytes(), u32::to_be_bytes(received));
                            received += 1;
                        }
                        None => return Ok(received),
                    },
                    result = sender.send(u32::to_be_bytes(sent).to_vec()), if sent < count => {
                        result?;
                        sent += 1;
                    }
                }
            }
        }
        Way::Unordered => {
            type Boxed<'a> = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send + 'a>>;
            let mut all: FuturesUnordered<Boxed<'_>> = FuturesUnordered::new();
            all.push(Box::pin(receive_all(&mut socket)));
            for part in 0..3 {
                let sends = send_all(part, 3);
                all.push(Box::pin(async move { Ok(sends.await.map(|()| 0)?) }));
            }
            let mut received = 0;
            while let Some(result) = all.next().await {
                received += result?;
            }
            Ok(received)
        }
        Way::Tasks => {
            let sends = [0, 1, 2].map(|part| tokio::spawn(send_all(part, 3)));
            let received = tokio::spawn(async move {
                let received = receive_all(&mut socket).await;
                (received.unwrap(), socket)
            });
            for sends in sends {
                sends.await??;
            }
            // The socket is dropped in this task.
            let (received, _socket) = received.await?;
            Ok(received)
        }
    }
}

async fn try_ways(count: u32, rounds: usize) {
    for round in 0..rounds {
        for way in [Way::Join, Way::Select, Way::Unordered, Way::Tasks] {
            let buffer = [7, 100][round % 2];
            let config = Config::new().max_inbox(1, 1).max_outbox(1, 1);
            let (results, mut result) = mpsc::unbounded_channel();
            let handler = move |socket| {
                let results = results.clone();
                async move {
                    results.send(both_ways(socket, way, count).await.unwrap())?;
                    Ok::<_, BoxError>(())
                }
            };
            let layer = WebSocketLayer::new(handler).config(config);
            let (client, _) = pipe::attach_layer(layer, buffer).await;
            let (mut reader, mut writer) = split(client);
            let (all_read, has_read) = oneshot::channel();
            let writes = async {
                for number in 0..count {
                    let message = frame(FIN | BINARY, &number.to_be_bytes());
                    write(&mut writer, &message).await;
                }
                has_read.await.unwrap();
                write(&mut writer, &close(1000, "")).await;
            };
            let reads = async {
                let mut numbers = Vec::new();
                for _ in 0..count {
                    let payload = read_payload(&mut reader).await;
                    numbers.push(u32::from_be_bytes(payload.try_into().unwrap()));
                }
                all_read.send(()).unwrap();
                assert_eq!(read_close(&mut reader).await, Some(1000));
                numbers.sort_unstable();
                assert!(numbers.into_iter().eq(0..count), "{way:?}");
            };
            let both = async { tokio::join!(writes, reads) };
            let ended = timeout(HANG, both).await;
            ended.unwrap_or_else(|_| panic!("{way:?}: a wakeup was lost"));
            assert_eq!(result.recv().await, Some(count), "{way:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn wakes_handlers_that_wait_for_several_futures() {
    // With a paused clock, a lost wakeup is noticed at once.
    try_ways(500, 2).await;
}

#[test]
fn wakes_handlers_that_wait_for_several_futures_on_threads() {
    on_threads(try_ways(500, 4));
}

#[test]
fn passes_messages_around_a_ring_of_connections() {
    on_threads(async {
        const COUNT: u32 = 500;
        const RING: usize = 4;
        let config = || Config::new().max_inbox(1, 1).max_outbox(1, 1);
        let (sockets, clients): (Vec<_>, Vec<_>) =
            (0..RING).map(|_| pipe::socket(config(), 16)).unzip();
        let mut senders: Vec<_> = sockets.iter().map(WebSocket::sender).collect();
        senders.rotate_left(1);
        let mut tasks = JoinSet::new();
        // Each task receives on one socket and sends on the next.
        for (mut socket, sender) in sockets.into_iter().zip(senders) {
            tasks.spawn(async move {
                for _ in 0..COUNT {
                    let message = socket.recv().await.unwrap().unwrap();
                    sender.send(message).await.unwrap();
                }
                assert_eq!(socket.recv().await.unwrap(), None);
            });
        }
        let turn = Arc::new(Barrier::new(RING));
        for client in clients {
            let turn = Arc::clone(&turn);
            tasks.spawn(async move {
                let (mut reader, mut writer) = split(client);
                let writes = async {
                    for number in 0..COUNT {
                        let message = frame(FIN | BINARY, &number.to_be_bytes());
                        write(&mut writer, &message).await;
                    }
                };
                let reads = async {
                    for number in 0..COUNT {
                        let frame = read_frame(&mut reader).await.unwrap();
                        assert_eq!(frame.payload, number.to_be_bytes());
                    }
                };
                tokio::join!(writes, reads);
                turn.wait().await;
                write(&mut writer, &close(1000, "")).await;
                assert_eq!(read_close(&mut reader).await, Some(1000));
            });
        }
        tasks.join_all().await;
    });
}
