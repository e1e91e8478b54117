//! The closing handshake: the code that the client reads, the order, and the time limits.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use support::{
    pipe, tcp,
    wire::{
        BINARY, CLOSE, FIN, PING, PONG, TEXT, close, frame, read_close, read_frame, read_payload,
        write,
    },
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Config, Echo, Error, Handler, IntoHandler, Message, Side,
    WebSocket, WebSocketLayer,
    error::{InvalidClose, RecvError, SendError},
};

async fn connect<M>(handler: impl IntoHandler<M, Handler: Handler>) -> TcpStream {
    tcp::open(WebSocketLayer::new(handler).into_service()).await
}

/// Asserts that the stream ends now. A reset is an error.
async fn read_end(client: &mut TcpStream) {
    let mut rest = Vec::new();
    within(client.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"", "nothing follows a Close");
}

#[tokio::test]
async fn closes_with_1000_when_the_handler_returns() {
    let mut client = connect(async |_socket: WebSocket| Ok::<_, BoxError>(())).await;
    assert_eq!(read_close(&mut client).await, Some(1000));
    write(&mut client, &close(1000, "")).await;
    read_end(&mut client).await;
}

#[tokio::test]
async fn closes_with_1011_when_the_handler_fails() {
    let mut client = connect(async |_socket: WebSocket| Err::<(), _>("no database")).await;
    let frame = read_frame(&mut client).await.unwrap();
    assert_eq!(frame.close_code(), Some(1011));
    assert_eq!(frame.payload.len(), 2, "the error is only logged");
}

#[tokio::test]
async fn closes_with_1011_when_the_handler_panics() {
    async fn panics(mut socket: WebSocket) -> Result<(), BoxError> {
        let message = socket.recv().await?;
        panic!("on {message:?}");
    }
    let mut client = connect(panics).await;
    write(&mut client, &frame(FIN | TEXT, b"boo")).await;
    assert_eq!(read_close(&mut client).await, Some(1011));
    write(&mut client, &close(1011, "")).await;
    read_end(&mut client).await;
}

#[tokio::test]
async fn closes_with_1011_when_the_handler_panics_before_it_awaits() {
    fn panics(_: WebSocket) -> std::future::Ready<Result<(), BoxError>> {
        panic!("at once")
    }
    let mut client = connect(panics).await;
    assert_eq!(read_close(&mut client).await, Some(1011));
}

#[tokio::test]
async fn closes_with_the_code_and_reason_of_the_handler() {
    async fn kick(mut socket: WebSocket) -> Result<(), BoxError> {
        socket.close(CloseCode::new(4001)?, "kicked").await?;
        Ok(())
    }
    let mut client = connect(kick).await;
    let frame = read_frame(&mut client).await.unwrap();
    assert_eq!(frame.close_code(), Some(4001));
    assert_eq!(&frame.payload[2..], b"kicked");
}

#[tokio::test]
async fn waits_in_close_until_the_peer_has_answered() {
    let (closed, mut is_closed) = oneshot::channel();
    let closed = std::sync::Mutex::new(Some(closed));
    let mut client = connect(move |mut socket: WebSocket| {
        let closed = closed.lock().unwrap().take().unwrap();
        async move {
            socket.close(CloseCode::NORMAL, "").await?;
            closed.send(()).unwrap();
            Ok::<_, InvalidClose>(())
        }
    })
    .await;
    assert_eq!(read_close(&mut client).await, Some(1000));
    assert!(
        is_closed.try_recv().is_err(),
        "the peer has not answered yet"
    );
    write(&mut client, &close(1000, "")).await;
    within(is_closed).await.unwrap();
    read_end(&mut client).await;
}

#[tokio::test]
async fn refuses_a_reason_that_is_too_long_and_stays_open() {
    async fn long(mut socket: WebSocket) -> Result<(), BoxError> {
        let refused = socket.close(CloseCode::NORMAL, "x".repeat(124)).await;
        assert_eq!(refused, Err(InvalidClose::Reason { len: 124 }));
        socket.send("still here").await?;
        Ok(())
    }
    let mut client = connect(long).await;
    assert_eq!(read_payload(&mut client).await, b"still here");
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test]
async fn answers_the_close_of_the_peer_with_its_code() {
    for code in [1000, 1001, 3000, 4999] {
        let mut client = connect(Echo::new()).await;
        write(&mut client, &close(code, "bye")).await;
        assert_eq!(read_close(&mut client).await, Some(code));
        read_end(&mut client).await;
    }
}

#[tokio::test]
async fn answers_an_empty_close_with_an_empty_one() {
    let mut client = connect(Echo::new()).await;
    write(&mut client, &frame(FIN | CLOSE, b"")).await;
    assert_eq!(read_close(&mut client).await, None);
    read_end(&mut client).await;
}

#[tokio::test]
async fn echoes_all_messages_that_came_before_the_close() {
    let mut client = connect(Echo::new()).await;
    let mut segment = Vec::new();
    for number in 0..10u8 {
        segment.extend(frame(FIN | BINARY, &[number]));
    }
    segment.extend(close(1000, ""));
    write(&mut client, &segment).await;
    for number in 0..10 {
        assert_eq!(read_payload(&mut client).await, [number]);
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
    read_end(&mut client).await;
}

#[tokio::test]
async fn sends_all_messages_that_were_queued_before_the_handler_returned() {
    async fn burst(mut socket: WebSocket) -> Result<(), BoxError> {
        for number in 0..100 {
            socket.send(vec![number; 1000]).await?;
        }
        Ok(())
    }
    let mut client = connect(burst).await;
    for number in 0..100 {
        assert_eq!(read_payload(&mut client).await, [number; 1000]);
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test]
async fn closes_once_when_both_sides_close_at_once() {
    let mut client = connect(async |_socket: WebSocket| Ok::<_, BoxError>(())).await;
    write(&mut client, &close(4000, "me first")).await;
    // The code depends on which Close the server sees first. Only one Close comes back.
    let code = read_close(&mut client).await;
    assert!(matches!(code, Some(1000 | 4000)), "{code:?}");
    read_end(&mut client).await;
}

#[tokio::test]
async fn ends_recv_and_refuses_send_after_the_peer_has_closed() {
    let (results, mut seen) = mpsc::unbounded_channel();
    let mut client = connect(move |mut socket: WebSocket| {
        let results = results.clone();
        async move {
            assert_eq!(socket.recv().await?, Some(Message::from("last")));
            assert_eq!(socket.recv().await?, None);
            assert_eq!(socket.recv().await?, None);
            socket.sender().closed().await;
            results.send(socket.send("late").await)?;
            Ok::<_, BoxError>(())
        }
    })
    .await;
    let segment = [frame(FIN | TEXT, b"last"), close(1000, "")].concat();
    write(&mut client, &segment).await;
    assert_eq!(within(seen.recv()).await, Some(Err(SendError::Closed)));
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test]
async fn reports_a_peer_that_left_without_a_close() {
    let (results, mut seen) = mpsc::unbounded_channel();
    let client = connect(move |mut socket: WebSocket| {
        let results = results.clone();
        async move {
            results.send(socket.recv().await)?;
            Ok::<_, BoxError>(())
        }
    })
    .await;
    drop(client);
    match within(seen.recv()).await.unwrap() {
        Err(RecvError::Io(error)) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn answers_a_ping_while_the_handler_waits_for_something_else() {
    let mut client = connect(async |_socket: WebSocket| {
        std::future::pending::<()>().await;
        Ok::<_, BoxError>(())
    })
    .await;
    write(&mut client, &frame(FIN | PING, b"there?")).await;
    let pong = within(read_frame(&mut client)).await.unwrap();
    assert_eq!((pong.first, &*pong.payload), (FIN | PONG, &b"there?"[..]));
}

#[tokio::test(start_paused = true)]
async fn answers_a_close_after_a_second_when_nobody_receives() {
    let (socket, mut client) = pipe::socket(Config::new(), 1024);
    let start = Instant::now();
    write(&mut client, &close(4001, "")).await;
    assert_eq!(read_close(&mut client).await, Some(4001));
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    assert_eq!(socket.sender().closed().await.side(), Side::Remote);
}

#[tokio::test(start_paused = true)]
async fn lets_a_handler_in_another_task_answer_messages_that_came_before_the_end() {
    let reserved_bit = frame(FIN | 0x40 | TEXT, b"two");
    for (end, name) in [(&*reserved_bit, "violation"), (b"", "end of stream")] {
        let (socket, mut client) = pipe::socket(Config::new(), 1024);
        let start = Instant::now();
        tokio::spawn(async move { Echo::new().handle(socket).await });
        write(&mut client, &[&frame(FIN | TEXT, b"one"), end].concat()).await;
        if end.is_empty() {
            client.shutdown().await.unwrap();
        }
        let echoed = read_frame(&mut client).await.unwrap();
        assert_eq!(
            (echoed.first, &*echoed.payload),
            (FIN | TEXT, &b"one"[..]),
            "{name}"
        );
        assert_eq!(read_close(&mut client).await, Some(1002), "{name}");
        assert_eq!(start.elapsed(), Duration::ZERO, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn acts_on_a_violation_after_a_second_when_nobody_receives() {
    let (socket, mut client) = pipe::socket(Config::new(), 1024);
    let start = Instant::now();
    write(&mut client, &frame(FIN | TEXT, b"one")).await;
    write(&mut client, &frame(FIN | 0x40 | TEXT, b"two")).await;
    assert_eq!(read_close(&mut client).await, Some(1002));
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    drop(socket);
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_a_peer_that_ignores_the_close() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
    let start = Instant::now();
    socket.close(CloseCode::NORMAL, "").await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(read_close(&mut client).await, Some(1000));
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_a_peer_that_keeps_sending_after_the_close() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
    let sender = tokio::spawn(async move {
        while client
            .write_all(&frame(FIN | BINARY, &[0; 500]))
            .await
            .is_ok()
        {
            sleep(Duration::from_millis(10)).await;
        }
    });
    let start = Instant::now();
    socket.close(CloseCode::NORMAL, "").await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    sender.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sends_the_close_to_a_peer_that_writes_before_it_reads() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 64);
    for _ in 0..10 {
        socket.send(vec![1; 100]).await.unwrap();
    }
    let closing = tokio::spawn(async move { socket.close(CloseCode::NORMAL, "").await });
    // The peer writes everything before it reads.
    for _ in 0..100 {
        write(&mut client, &frame(FIN | BINARY, &[2; 100])).await;
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
    write(&mut client, &close(1000, "")).await;
    closing.await.unwrap().unwrap();
}

#[tokio::test]
async fn closes_a_detached_socket_when_it_is_dropped() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
    socket.send("bye").await.unwrap();
    drop(socket);
    assert_eq!(read_payload(&mut client).await, b"bye");
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test]
async fn closes_a_detached_socket_with_1011_when_its_holder_panics() {
    let (socket, mut client) = pipe::socket(Config::new(), 1024);
    let holder = tokio::spawn(async move {
        let _held = socket;
        panic!("with the socket in hand");
    });
    assert!(holder.await.unwrap_err().is_panic());
    assert_eq!(read_close(&mut client).await, Some(1011));
}

#[tokio::test]
async fn lets_a_handler_finish_after_the_connection_is_gone() {
    let (done, is_done) = oneshot::channel();
    let done = std::sync::Mutex::new(Some(done));
    let (go, wait) = oneshot::channel::<()>();
    let wait = std::sync::Mutex::new(Some(wait));
    let mut client = connect(move |mut socket: WebSocket| {
        let done = done.lock().unwrap().take().unwrap();
        let wait = wait.lock().unwrap().take().unwrap();
        async move {
            while socket.recv().await?.is_some() {}
            wait.await?;
            done.send(()).unwrap();
            Ok::<_, BoxError>(())
        }
    })
    .await;
    write(&mut client, &close(1000, "")).await;
    assert_eq!(read_close(&mut client).await, Some(1000));
    read_end(&mut client).await;
    drop(client);
    go.send(()).unwrap();
    within(is_done).await.unwrap();
}

#[tokio::test]
async fn closes_with_1011_when_the_handler_creates_an_illegal_close_code() {
    async fn illegal(_socket: WebSocket) -> Result<(), BoxError> {
        Err(CloseFrame::new(CloseCode::new(1006)?, "")?.into())
    }
    let mut client = connect(illegal).await;
    assert_eq!(read_close(&mut client).await, Some(1011));
}

#[tokio::test]
async fn closes_with_the_close_frame_that_a_handler_returns_as_an_error() {
    fn kicked() -> CloseFrame {
        CloseFrame::new(CloseCode::new(4001).unwrap(), "kicked").unwrap()
    }
    let mut clients = [
        connect(async |_: WebSocket| Err::<(), _>(kicked())).await,
        connect(async |_: WebSocket| Err::<(), _>(Error::from(kicked()))).await,
        connect(async |_: WebSocket| Err::<(), BoxError>(kicked().into())).await,
    ];
    for client in &mut clients {
        let frame = read_frame(client).await.unwrap();
        assert_eq!(frame.close_code(), Some(4001));
        assert_eq!(&frame.payload[2..], b"kicked");
    }
}
