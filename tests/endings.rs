//! Unexpected ends: half of a stream ends, a peer reads slowly, a task is dropped, or code panics.

mod support;

use std::{io, time::Duration};

use support::{
    pipe,
    script::{Input, Script},
    tcp, wire,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpStream,
    runtime,
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    Accept, BoxError, CloseCode, Config, Echo, Handler, Refusal, Side, WebSocket, WebSocketLayer,
    error::{RecvError, SendError},
};
use wire::{BINARY, FIN, close, frame, handshake, read_close, read_frame, write};

const GUARD: Duration = Duration::from_secs(10);

#[tokio::test]
async fn answers_a_peer_that_ends_its_half_right_behind_its_messages() {
    let mut client = tcp::open(WebSocketLayer::new(Echo::new()).into_service()).await;
    let messages: Vec<u8> = (0..10)
        .flat_map(|number| frame(FIN | BINARY, &[number]))
        .collect();
    write(&mut client, &messages).await;
    client.shutdown().await.unwrap();
    for number in 0..10 {
        let frame = timeout(GUARD, read_frame(&mut client)).await.unwrap();
        assert_eq!(frame.unwrap().payload, [number]);
    }
    assert_eq!(read_close(&mut client).await, Some(1002));
}

#[tokio::test(start_paused = true)]
async fn lets_a_slow_reader_have_what_was_accepted_before_the_close() {
    let (server, mut client) = duplex(1024);
    let mut socket = WebSocket::from_io(server, Config::new());
    for _ in 0..16 {
        socket.send(vec![7; 60_000]).await.unwrap();
    }
    let closed = tokio::spawn(async move {
        let sender = socket.sender();
        drop(socket);
        sender.closed().await
    });
    // 100 kB/s, as over a poor mobile network.
    let mut read = Vec::new();
    let mut buffer = [0; 1000];
    loop {
        sleep(Duration::from_millis(10)).await;
        match client.read(&mut buffer).await.unwrap() {
            0 => break,
            len => read.extend_from_slice(&buffer[..len]),
        }
        if read.ends_with(&[FIN | wire::CLOSE, 2, 3, 232]) {
            write(&mut client, &close(1000, "")).await;
        }
    }
    assert_eq!(read.len(), 16 * 60_004 + 4);
    let closed = closed.await.unwrap();
    assert!(closed.is_clean(), "{closed:?}");
    assert_eq!(closed.code(), Some(CloseCode::NORMAL));
}

#[tokio::test(start_paused = true)]
async fn does_not_wait_for_ever_for_a_reader_of_one_byte_a_second() {
    let (server, mut client) = duplex(1);
    let mut socket = WebSocket::from_io(server, Config::new());
    socket.send(vec![7; 1_000_000]).await.unwrap();
    let reader = tokio::spawn(async move {
        while client.read_u8().await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let start = Instant::now();
    socket.close(CloseCode::NORMAL, "").await.unwrap();
    // 1,000,000 bytes at 16 KiB/s, and the 5 s of the closing.
    assert_eq!(start.elapsed(), Duration::from_secs(61 + 5));
    reader.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sends_the_close_also_when_no_time_is_given_for_it() {
    let (server, mut client) = duplex(1024);
    let mut socket = WebSocket::from_io(server, Config::new().close_timeout(Duration::ZERO));
    socket.close(CloseCode::NORMAL, "").await.unwrap();
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[test]
fn tells_the_holder_when_the_task_of_the_connection_dies() {
    let serving = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let holding = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (server, _client) = duplex(1024);
    let mut socket = serving.block_on(async { WebSocket::from_io(server, Config::new()) });
    let sender = socket.sender();
    holding.block_on(async {
        let waiting = tokio::spawn(async move { (socket.recv().await, socket) });
        tokio::task::yield_now().await;
        drop(tokio::task::spawn_blocking(move || drop(serving)).await);
        let (received, mut socket) = timeout(GUARD, waiting).await.unwrap().unwrap();
        match received {
            Err(RecvError::Io(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(socket.send("late").await, Err(SendError::Closed));
        let closed = timeout(GUARD, sender.closed()).await.unwrap();
        assert!(!closed.is_clean());
        assert_eq!(closed.side(), Side::Local);
        timeout(GUARD, socket.close(CloseCode::NORMAL, ""))
            .await
            .unwrap()
            .unwrap();
    });
}

#[tokio::test]
async fn lets_others_run_while_it_drains_a_stream_that_never_ends() {
    let (endless, peer) = Script::new();
    // Drained at once, because the first byte breaks the rules.
    peer.give(Input::Flood {
        frames: vec![0xff],
        left: usize::MAX,
    });
    let _socket = WebSocket::from_io(endless, Config::new());
    for _ in 0..10 {
        let before = peer.lock().read;
        tokio::task::yield_now().await;
        let after = peer.lock().read;
        assert!(after - before <= 512 * 1024, "{} at once", after - before);
    }
    assert!(peer.lock().read > 0);
}

/// Panics when it is formatted. With the text "dropped", also panics when it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0.contains("dropped"), "in drop");
    }
}

impl std::fmt::Display for Bomb {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("in display")
    }
}

impl std::fmt::Debug for Bomb {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("in debug")
    }
}

impl std::error::Error for Bomb {}

#[tokio::test]
async fn closes_with_1011_wherever_the_handler_panics() {
    async fn in_display(_: WebSocket) -> Result<(), BoxError> {
        Err(Bomb("").into())
    }
    async fn in_its_payload(_: WebSocket) -> Result<(), BoxError> {
        std::panic::panic_any(Bomb("dropped"));
    }
    let mut client = tcp::open(WebSocketLayer::new(in_display).into_service()).await;
    // Without a subscriber, the text of the error is not formatted.
    assert_eq!(read_close(&mut client).await, Some(1011));
    let mut client = tcp::open(WebSocketLayer::new(in_its_payload).into_service()).await;
    assert_eq!(read_close(&mut client).await, Some(1011));
}

#[tokio::test]
async fn answers_500_when_a_predicate_panics() {
    let layer = WebSocketLayer::new(Echo::new()).matching(|_| panic!("in the predicate"));
    let address = tcp::serve(layer.into_service()).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(request).await.unwrap();
    let head = timeout(GUARD, wire::read_head(&mut client)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
}

#[test]
fn answers_500_without_the_time_driver() {
    let without_time = runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    without_time.block_on(async {
        let service = WebSocketLayer::new(Echo::new()).into_service();
        let mut client = pipe::serve(service, 4096);
        write(&mut client, handshake("/").as_bytes()).await;
        let head = wire::read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
    });
}

/// Takes for ever to accept, and panics when it is not waited for any longer.
struct Slow;

impl Handler for Slow {
    async fn accept(&self, _: &mut http::request::Parts) -> Result<Accept, Refusal> {
        let _bomb = Bomb("dropped");
        std::future::pending().await
    }

    async fn handle(&self, _: WebSocket) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test]
async fn answers_503_when_what_is_given_up_panics() {
    let layer = WebSocketLayer::new(Slow).accept_timeout(Duration::ZERO);
    let address = tcp::serve(layer.into_service()).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    write(&mut client, handshake("/").as_bytes()).await;
    let head = timeout(GUARD, wire::read_head(&mut client)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}

#[tokio::test(start_paused = true)]
async fn ends_a_split_reader_when_the_other_half_closes() {
    use futures_util::{SinkExt, StreamExt};
    let (server, _client) = duplex(1024);
    let (mut sink, mut stream) = WebSocket::from_io(server, Config::new()).split();
    let start = Instant::now();
    let reader = tokio::spawn(async move { (stream.next().await.is_none(), Instant::now()) });
    tokio::task::yield_now().await;
    sink.close().await.unwrap();
    let (ended, when) = reader.await.unwrap();
    assert!(ended);
    assert_eq!(when, start, "not only when the peer has answered");
}

#[tokio::test(start_paused = true)]
async fn gives_a_large_message_its_turn_also_when_small_ones_are_polled_first() {
    let (server, mut client) = duplex(100_000);
    let mut socket = WebSocket::from_io(server, Config::new().max_outbox(1024, 1000));
    let reader = tokio::spawn(async move { while client.read_u8().await.is_ok() {} });
    let (small, large) = (socket.sender(), socket.sender());
    let mut sent = 0;
    let small = async {
        while sent < 1000 {
            small.send(vec![0; 600]).await.unwrap();
            sent += 1;
        }
    };
    tokio::select! {
        biased;
        () = small => panic!("a thousand small messages went first"),
        large = large.send(vec![1; 5000]) => large.unwrap(),
    }
    socket.close(CloseCode::NORMAL, "").await.unwrap();
    reader.await.unwrap();
}

#[tokio::test]
async fn closes_all_also_when_the_runtime_that_asked_for_it_is_gone() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let mut client = tcp::open(layer.into_service()).await;
    let asked = std::thread::spawn(move || {
        let short = runtime::Builder::new_current_thread().build().unwrap();
        short.block_on(async { connections.close() });
    });
    tokio::task::spawn_blocking(|| asked.join().unwrap())
        .await
        .unwrap();
    let code = timeout(GUARD, read_close(&mut client)).await.unwrap();
    assert_eq!(code, Some(1001));
}
