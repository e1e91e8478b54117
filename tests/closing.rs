//! How connections end: which code the client reads, in which order, and what is not lost.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/wire.rs"]
mod wire;

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, Config, Echo, Handler, Message, Side, WebSocket, WebSocketLayer,
    error::{InvalidClose, RecvError, SendError},
};
use wire::{BINARY, CLOSE, FIN, PING, PONG, TEXT, close, frame, read_close, read_frame, write};

const GUARD: Duration = Duration::from_secs(10);

async fn serve(handler: impl Handler) -> SocketAddr {
    let app = Router::new().fallback_service(WebSocketLayer::new(handler).into_service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn connect(handler: impl Handler) -> TcpStream {
    wire::open(serve(handler).await, "/").await
}

/// Reads to the end of the stream; a reset is an error.
async fn read_end(client: &mut TcpStream) {
    let mut rest = Vec::new();
    timeout(GUARD, client.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
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
    assert_eq!(frame.payload.len(), 2, "the reason stays in the log");
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
    timeout(GUARD, is_closed).await.unwrap().unwrap();
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
    assert_eq!(
        read_frame(&mut client).await.unwrap().payload,
        b"still here"
    );
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
async fn echoes_everything_that_came_before_the_close() {
    let mut client = connect(Echo::new()).await;
    let mut segment = Vec::new();
    for number in 0..10u8 {
        segment.extend(frame(FIN | BINARY, &[number]));
    }
    segment.extend(close(1000, ""));
    write(&mut client, &segment).await;
    for number in 0..10 {
        assert_eq!(read_frame(&mut client).await.unwrap().payload, [number]);
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
    read_end(&mut client).await;
}

#[tokio::test]
async fn sends_what_was_queued_before_the_handler_returned() {
    async fn burst(mut socket: WebSocket) -> Result<(), BoxError> {
        for number in 0..100 {
            socket.send(vec![number; 1000]).await?;
        }
        Ok(())
    }
    let mut client = connect(burst).await;
    for number in 0..100 {
        assert_eq!(
            read_frame(&mut client).await.unwrap().payload,
            [number; 1000]
        );
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test]
async fn closes_once_when_both_sides_close_at_once() {
    let mut client = connect(async |_socket: WebSocket| Ok::<_, BoxError>(())).await;
    write(&mut client, &close(4000, "me first")).await;
    // Whichever the server saw first, it sends one Close and then the end.
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
    assert_eq!(
        timeout(GUARD, seen.recv()).await.unwrap(),
        Some(Err(SendError::Closed))
    );
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
    match timeout(GUARD, seen.recv()).await.unwrap().unwrap() {
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
    let pong = timeout(GUARD, read_frame(&mut client))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((pong.first, &*pong.payload), (FIN | PONG, &b"there?"[..]));
}

#[tokio::test(start_paused = true)]
async fn answers_a_close_after_a_second_when_nobody_receives() {
    let (server, mut client) = duplex(1024);
    let socket = WebSocket::from_io(server, Config::new());
    let start = Instant::now();
    write(&mut client, &close(4001, "")).await;
    assert_eq!(read_close(&mut client).await, Some(4001));
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    assert_eq!(socket.sender().closed().await.side(), Side::Remote);
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_a_peer_that_ignores_the_close() {
    let (server, mut client) = duplex(1024);
    let mut socket = WebSocket::from_io(server, Config::new());
    let start = Instant::now();
    socket.close(CloseCode::NORMAL, "").await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(read_close(&mut client).await, Some(1000));
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_a_peer_that_keeps_sending_after_the_close() {
    let (server, mut client) = duplex(1024);
    let mut socket = WebSocket::from_io(server, Config::new());
    let sender = tokio::spawn(async move {
        while client
            .write_all(&frame(FIN | BINARY, &[0; 500]))
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let start = Instant::now();
    socket.close(CloseCode::NORMAL, "").await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    sender.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reaches_a_peer_that_is_blocked_in_writing_when_we_close() {
    let (server, mut client) = duplex(64);
    let mut socket = WebSocket::from_io(server, Config::new());
    for _ in 0..10 {
        socket.send(vec![1; 100]).await.unwrap();
    }
    let closing = tokio::spawn(async move { socket.close(CloseCode::NORMAL, "").await });
    // Writes all it has before it reads anything.
    for _ in 0..100 {
        write(&mut client, &frame(FIN | BINARY, &[2; 100])).await;
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
    write(&mut client, &close(1000, "")).await;
    closing.await.unwrap().unwrap();
}

#[tokio::test]
async fn closes_a_detached_socket_when_it_is_dropped() {
    let (server, mut client) = duplex(1024);
    let mut socket = WebSocket::from_io(server, Config::new());
    socket.send("bye").await.unwrap();
    drop(socket);
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"bye");
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test]
async fn closes_a_detached_socket_with_1011_when_its_holder_panics() {
    let (server, mut client) = duplex(1024);
    let socket = WebSocket::from_io(server, Config::new());
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
    timeout(GUARD, is_done).await.unwrap().unwrap();
}
