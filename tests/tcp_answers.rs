//! Answers over TCP, while other tasks send, flush, ping and close: nothing is lost, and no task sleeps too long.
//!
//! On TCP a connection usually ends its poll in one step, which streams in memory do not take.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use support::{
    settle, tcp,
    wire::{self, BINARY, CLOSE, FIN, PING, PONG, frame, read_close, read_frame, write},
    within,
};
use tokio::{
    net::{TcpStream, tcp::OwnedWriteHalf},
    runtime,
    sync::mpsc,
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, Config, Handler, IntoHandler, Message, WebSocket, WebSocketLayer,
    error::RecvError,
};

/// Longer than any of these tests takes.
const HANG: Duration = Duration::from_secs(60);
const EACH: u16 = 400;

/// Runs on two threads, and fails if a wake is lost.
fn on_threads(test: impl Future<Output = ()> + Send + 'static) {
    let mut builder = runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    let test = async { timeout(HANG, tokio::spawn(test)).await };
    runtime.block_on(test).expect("a wake was lost").unwrap();
}

fn numbered(kind: u8, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    vec![kind, high, low]
}

/// Sends numbered messages, in bursts of different lengths with pings between them.
async fn send_all(mut writer: OwnedWriteHalf) -> OwnedWriteHalf {
    for number in 0..EACH {
        write(&mut writer, &frame(FIN | BINARY, &numbered(0, number))).await;
        if number % 7 == 0 {
            write(&mut writer, &frame(FIN | PING, b"?")).await;
        }
        if number % 5 == 0 {
            yield_now().await;
        }
    }
    writer
}

/// Reads until the messages of all `kinds` have come, each kind in its order.
async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin), kinds: usize) {
    let mut next = vec![0; kinds];
    while next.iter().any(|next| *next < EACH) {
        let frame = read_frame(stream).await.unwrap();
        if frame.first != FIN | BINARY {
            continue;
        }
        let kind = usize::from(frame.payload[0]);
        assert_eq!(frame.payload, numbered(kind as u8, next[kind]));
        next[kind] += 1;
    }
}

async fn open<M>(config: Config, handler: impl IntoHandler<M, Handler: Handler>) -> TcpStream {
    // No ping wakes a connection that sleeps too long.
    let layer = WebSocketLayer::new(handler).config(config.without_keepalive());
    tcp::open(layer.into_service()).await
}

#[test]
fn messages_of_other_tasks_go_between_the_answers() {
    on_threads(async {
        let mut clients = JoinSet::new();
        for outbox in [1, 3, 1000, 1000] {
            let handler = async |mut socket: WebSocket| {
                let sender = socket.sender();
                let waiting = tokio::spawn(async move {
                    for number in 0..EACH {
                        sender.send(numbered(1, number)).await?;
                    }
                    Ok::<_, BoxError>(())
                });
                let sender = socket.sender();
                let flushing = tokio::spawn(async move {
                    let mut sink = sender;
                    for number in 0..EACH {
                        sink.feed(Message::binary(numbered(2, number))).await?;
                        if number % 3 == 0 {
                            sink.flush().await?;
                        }
                    }
                    sink.flush().await?;
                    Ok::<_, BoxError>(())
                });
                while let Some(message) = socket.recv().await? {
                    socket.send(message).await?;
                }
                waiting.await??;
                flushing.await??;
                Ok::<_, BoxError>(())
            };
            let config = Config::new().max_outbox(outbox, 1 << 20);
            clients.spawn(async move {
                let (mut reader, writer) = open(config, handler).await.into_split();
                let sending = tokio::spawn(send_all(writer));
                read_all(&mut reader, 3).await;
                let mut writer = sending.await.unwrap();
                write(&mut writer, &wire::close(1000, "")).await;
                assert_eq!(read_close(&mut reader).await, Some(1000));
            });
        }
        clients.join_all().await;
    });
}

#[test]
fn a_handler_may_flush_split_or_pass_its_socket_on() {
    on_threads(async {
        let flushes = async |mut socket: WebSocket| {
            while let Some(message) = socket.recv().await? {
                socket.send(message).await?;
                socket.flush().await?;
            }
            Ok::<_, BoxError>(())
        };
        let forwards = async |socket: WebSocket| {
            let (sink, stream) = StreamExt::split(socket);
            stream.forward(sink).await?;
            Ok::<_, BoxError>(())
        };
        let passes_on = async |mut socket: WebSocket| {
            tokio::spawn(async move {
                while let Ok(Some(message)) = socket.recv().await {
                    let _ = socket.send(message).await;
                    let _ = socket.flush().await;
                }
            });
            Ok::<_, BoxError>(())
        };
        let streams = [
            open(Config::new(), flushes).await,
            open(Config::new(), forwards).await,
            open(Config::new(), passes_on).await,
        ];
        for stream in streams {
            let (mut reader, writer) = stream.into_split();
            let sending = tokio::spawn(send_all(writer));
            read_all(&mut reader, 1).await;
            drop(sending.await.unwrap());
        }
    });
}

#[test]
fn the_end_is_not_slept_through() {
    on_threads(async {
        for round in 0..200 {
            let handler = move |mut socket: WebSocket| async move {
                let sender = socket.sender();
                let closing = tokio::spawn(async move {
                    if round % 2 == 0 {
                        tokio::task::yield_now().await;
                    }
                    sender.close(CloseCode::NORMAL, "done")
                });
                while let Some(message) = socket.recv().await? {
                    // The close may come first.
                    let _ = socket.send(message).await;
                }
                closing.await??;
                Ok::<_, BoxError>(())
            };
            let mut stream = open(Config::new(), handler).await;
            write(&mut stream, &frame(FIN | BINARY, b"hello")).await;
            let mut code = None;
            while let Some(frame) = read_frame(&mut stream).await {
                if frame.first == FIN | CLOSE {
                    code = frame.close_code();
                    write(&mut stream, &wire::close(1000, "")).await;
                }
            }
            assert_eq!(code, Some(1000));
        }
    });
}

#[tokio::test]
async fn a_peer_that_stops_reading_gets_the_rest_later() {
    const COUNT: usize = 8000;
    fn answer(number: usize) -> Vec<u8> {
        (number as u64).to_be_bytes().repeat(250)
    }
    let handler = async |mut socket: WebSocket| {
        let mut number = 0;
        while let Some(message) = socket.recv().await? {
            for _ in 0..message.as_bytes()[0] {
                socket.send(answer(number)).await?;
                number += 1;
            }
        }
        Ok::<_, BoxError>(())
    };
    let mut stream = open(Config::new(), handler).await;
    // The answers to a message fit into one small write, and all of them fill both sockets.
    const ANSWERS: usize = 10;
    for _ in 0..COUNT / ANSWERS {
        write(&mut stream, &frame(FIN | BINARY, &[ANSWERS as u8])).await;
        // The server answers before the next message comes.
        settle().await;
    }
    for number in 0..COUNT {
        let frame = timeout(HANG, read_frame(&mut stream)).await;
        let frame = frame.expect("it sleeps").unwrap();
        assert_eq!(frame.payload, answer(number), "{number}");
    }
}

async fn echo(mut socket: WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

async fn read(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let frame = within(read_frame(stream)).await.expect("a frame");
    (frame.first & 0xf, frame.payload)
}

/// Echoes one message.
async fn exchange(stream: &mut TcpStream) {
    write(stream, &frame(FIN | BINARY, b"hello")).await;
    assert_eq!(read(stream).await, (BINARY, b"hello".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_message_is_a_sign_of_life_and_silence_gets_a_ping() {
    let times = Duration::from_secs(20);
    let layer = WebSocketLayer::new(echo).config(Config::new().keepalive(times, times));
    let address = tcp::serve(layer.into_service()).await;
    // The first message comes with the handshake, before any timer is set.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let message = frame(FIN | BINARY, b"hello");
    let both = [wire::handshake("/").as_bytes(), &message].concat();
    write(&mut stream, &both).await;
    let head = wire::read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(read(&mut stream).await, (BINARY, b"hello".to_vec()));
    for _ in 0..5 {
        sleep(Duration::from_secs(15)).await;
        exchange(&mut stream).await;
    }
    let ping = timeout(2 * times, read_frame(&mut stream)).await.unwrap();
    assert_eq!(ping.unwrap().first, FIN | PING);
}

#[tokio::test(start_paused = true)]
async fn after_the_first_message_none_is_due() {
    let limit = Duration::from_secs(10);
    for config in [Config::new(), Config::new().without_keepalive()] {
        let layer = WebSocketLayer::new(echo).config(config.first_message_timeout(limit));
        let mut stream = tcp::open(layer.into_service()).await;
        exchange(&mut stream).await;
        sleep(limit + limit / 2).await;
        exchange(&mut stream).await;
    }
}

/// A reader that is behind gets more time for its pong, as if the answers had been written in another way.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_answers_has_time_for_its_pong() {
    let times = Duration::from_secs(20);
    let layer = WebSocketLayer::new(echo).config(Config::new().keepalive(times, times));
    let mut stream = tcp::open(layer.into_service()).await;
    // 512 bytes a second are 117 seconds for these.
    for _ in 0..60 {
        write(&mut stream, &frame(FIN | BINARY, &[1; 1000])).await;
        settle().await;
    }
    sleep(4 * times).await;
    for _ in 0..60 {
        assert_eq!(read(&mut stream).await, (BINARY, vec![1; 1000]));
    }
    let ping = read(&mut stream).await;
    assert_eq!(ping.0, PING);
    wire::write_pong(&mut stream, &ping.1).await;
    exchange(&mut stream).await;
}

#[tokio::test]
async fn a_pong_before_an_answer_leaves_before_it() {
    let mut stream = open(Config::new(), echo).await;
    for _ in 0..3 {
        let both = [frame(FIN | PING, b"?"), frame(FIN | BINARY, b"!")].concat();
        write(&mut stream, &both).await;
        assert_eq!(read(&mut stream).await, (PONG, b"?".to_vec()));
        assert_eq!(read(&mut stream).await, (BINARY, b"!".to_vec()));
    }
}

#[tokio::test]
async fn the_error_of_a_write_is_the_reason_of_the_end() {
    let client = Arc::new(Mutex::new(None::<TcpStream>));
    let (tell, mut told) = mpsc::channel(1);
    let own = Arc::clone(&client);
    let handler = move |mut socket: WebSocket| {
        let (client, tell) = (Arc::clone(&own), tell.clone());
        async move {
            let _ = socket.recv().await?;
            // It resets the connection, which the runtime does not learn before the answer is written.
            let client = client.lock().unwrap().take().unwrap();
            client.set_zero_linger().unwrap();
            drop(client);
            socket.send("to nobody").await?;
            tell.send(socket.recv().await).await?;
            Ok::<_, BoxError>(())
        }
    };
    let stream = open(Config::new(), handler).await;
    let message = frame(FIN | BINARY, b"hello");
    // The handler runs on this thread, after the next await.
    assert_eq!(stream.try_write(&message).unwrap(), message.len());
    *client.lock().unwrap() = Some(stream);
    let ended = within(told.recv()).await.unwrap();
    let Err(RecvError::Io(error)) = ended else {
        panic!("{ended:?} is not an error of the stream");
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_peer_that_is_gone_ends_the_connection() {
    let (ended, mut end) = mpsc::channel(1);
    let handler = move |mut socket: WebSocket| {
        let ended = ended.clone();
        async move {
            let mut result = socket.recv().await.map(|_| ());
            while result.is_ok() && socket.send("into the void").await.is_ok() {
                // Each round sleeps once, so each answer is written alone.
                let received = timeout(Duration::from_millis(1), socket.recv()).await;
                result = received
                    .unwrap_or(Ok(Some(Message::text("none"))))
                    .map(|_| ());
            }
            ended.send(()).await?;
            Ok::<_, BoxError>(())
        }
    };
    let mut stream = open(Config::new(), handler).await;
    write(&mut stream, &frame(FIN | BINARY, b"hello")).await;
    let _ = read_frame(&mut stream).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let ended = timeout(HANG, end.recv()).await;
    assert!(ended.expect("it was not noticed").is_some());
}
