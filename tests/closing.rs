//! How connections end: which code the client reads, in which order, and what is not lost.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/pipe.rs"]
mod pipe;
#[path = "support/wire.rs"]
mod wire;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Config, Connections, CountedCode, Echo, Error, Handler,
    Message, Sender, Side, WebSocket, WebSocketLayer,
    error::{InvalidClose, RecvError, SendError},
};
use wire::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close, frame, read_close, read_frame, write,
};

const GUARD: Duration = Duration::from_secs(10);

async fn serve(handler: impl Handler) -> SocketAddr {
    serve_layer(WebSocketLayer::new(handler)).await
}

async fn serve_layer(layer: WebSocketLayer<impl Handler>) -> SocketAddr {
    let app = Router::new().fallback_service(layer.into_service());
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
async fn lets_a_handler_in_another_task_answer_what_came_before_the_end() {
    let reserved_bit = frame(FIN | 0x40 | TEXT, b"two");
    for (end, name) in [(&*reserved_bit, "violation"), (b"", "end of stream")] {
        let (server, mut client) = duplex(1024);
        let socket = WebSocket::from_io(server, Config::new());
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
    let (server, mut client) = duplex(1024);
    let socket = WebSocket::from_io(server, Config::new());
    let start = Instant::now();
    write(&mut client, &frame(FIN | TEXT, b"one")).await;
    write(&mut client, &frame(FIN | 0x40 | TEXT, b"two")).await;
    assert_eq!(read_close(&mut client).await, Some(1002));
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    drop(socket);
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

// Every way to end, in every order.

/// A way to end a connection of [`Ends`].
#[derive(Clone, Copy, Debug)]
enum Ending {
    Return,
    Fail,
    Panic,
    /// The handler returns a Close.
    Give(u16, &'static str),
    /// The handler calls `WebSocket::close`.
    Close(u16, &'static str),
    /// Another task calls `Sender::close`.
    Send(u16, &'static str),
    Shutdown,
    ShutdownWith(u16, &'static str),
    Lifetime,
    /// The client sends what it may not.
    Violate(&'static [u8]),
}

const LIFETIME: Duration = Duration::from_secs(60);

/// Ends with a code, and a reason if it is not for the crate to word.
const ENDINGS: [(Ending, u16, Option<&str>); 18] = [
    (Ending::Return, 1000, Some("")),
    (Ending::Fail, 1011, Some("")),
    (Ending::Panic, 1011, Some("")),
    (Ending::Give(4001, "kicked"), 4001, Some("kicked")),
    (Ending::Give(4999, ""), 4999, Some("")),
    (Ending::Give(3000, "registered"), 3000, Some("registered")),
    (Ending::Give(1008, "house rules"), 1008, Some("house rules")),
    (
        Ending::Close(1003, "text, please"),
        1003,
        Some("text, please"),
    ),
    (Ending::Close(4000, "bye"), 4000, Some("bye")),
    (Ending::Send(1013, "too slow"), 1013, Some("too slow")),
    (Ending::Shutdown, 1001, Some("")),
    (Ending::ShutdownWith(1012, "update"), 1012, Some("update")),
    (Ending::Lifetime, 1001, None),
    // An unmasked frame.
    (Ending::Violate(&[0x81, 0]), 1002, None),
    // A text of one byte, 0xff.
    (Ending::Violate(&[0x81, 0x81, 0, 0, 0, 0, 0xff]), 1007, None),
    // The head of a message of 16 MiB.
    (Ending::Violate(&[0x82, 0xff, 0, 0, 0, 0, 1]), 1009, None),
    // Empty fragments.
    (Ending::Violate(&EMPTY_FRAGMENTS), 1008, None),
    // Pings.
    (Ending::Violate(&PINGS), 1008, None),
];

/// One more than are allowed.
const EMPTY_FRAGMENTS: [u8; 17 * 6] = {
    let mut frames = [0; 17 * 6];
    let mut at = 0;
    while at < frames.len() {
        frames[at] = if at == 0 { BINARY } else { CONTINUATION };
        frames[at + 1] = 0x80;
        at += 6;
    }
    frames
};

/// One more than are allowed.
const PINGS: [u8; 201 * 6] = {
    let mut frames = [0; 201 * 6];
    let mut at = 0;
    while at < frames.len() {
        frames[at] = FIN | PING;
        frames[at + 1] = 0x80;
        at += 6;
    }
    frames
};

/// Ends as it is told to, when it is told to.
struct Ends {
    ending: Ending,
    now: Arc<Notify>,
    senders: mpsc::UnboundedSender<Sender>,
}

impl Handler for Ends {
    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        self.senders.send(socket.sender())?;
        self.now.notified().await;
        match self.ending {
            Ending::Return => Ok(()),
            Ending::Fail => Err("no database".into()),
            Ending::Panic => panic!("as told"),
            Ending::Give(code, reason) => {
                Err(CloseFrame::new(CloseCode::new(code)?, reason)?.into())
            }
            Ending::Close(code, reason) => Ok(socket.close(CloseCode::new(code)?, reason).await?),
            _ => unreachable!(),
        }
    }
}

/// A connection that waits to be ended.
struct Open {
    ending: Ending,
    client: DuplexStream,
    sender: Sender,
    connections: Connections,
    now: Arc<Notify>,
    opened: Instant,
}

impl Open {
    /// Has a connection served by hyper in memory, so that the clock can be stopped.
    async fn new(ending: Ending) -> Self {
        let (senders, mut opened) = mpsc::unbounded_channel();
        let now = Arc::new(Notify::new());
        let handler = Ends {
            ending,
            now: Arc::clone(&now),
            senders,
        };
        let mut config = Config::new();
        if let Ending::Lifetime = ending {
            config = config.max_lifetime(LIFETIME).without_keepalive();
        }
        let connections = Connections::new().shutdown_spread(Duration::ZERO);
        let layer = WebSocketLayer::new(handler)
            .config(config)
            .connections_in(&connections);
        let client = pipe::open(layer.into_service(), 4096).await;
        Self {
            ending,
            client,
            sender: opened.recv().await.unwrap(),
            connections,
            now,
            opened: Instant::now(),
        }
    }

    /// Causes the ending.
    async fn end(&mut self) {
        match self.ending {
            Ending::Send(code, reason) => {
                let code = CloseCode::new(code).unwrap();
                self.sender.close(code, reason).unwrap();
            }
            Ending::Shutdown => self.connections.close(),
            Ending::ShutdownWith(code, reason) => {
                let code = CloseCode::new(code).unwrap();
                let frame = CloseFrame::new(code, reason).unwrap();
                self.connections.close_with(frame);
            }
            Ending::Lifetime => sleep_until(self.opened + LIFETIME).await,
            Ending::Violate(bytes) => write(&mut self.client, bytes).await,
            _ => self.now.notify_one(),
        }
    }

    /// Reads the Close that has to be there, and returns its code and reason.
    async fn read_close(&mut self) -> (u16, String) {
        loop {
            let frame = read_frame(&mut self.client).await.expect("a Close");
            if frame.first != FIN | PONG {
                let reason = String::from_utf8(frame.payload[2..].to_vec()).unwrap();
                return (frame.close_code().unwrap(), reason);
            }
        }
    }

    /// Asserts that the end of the stream follows, and what is told of the end to others.
    async fn assert_told(mut self, side: Side, code: u16, reason: &str, clean: bool) {
        let ending = self.ending;
        assert_eq!(self.client.read(&mut [0]).await.unwrap(), 0, "{ending:?}");
        let closed = self.sender.closed().await;
        assert_eq!(closed.side(), side, "{ending:?}");
        assert_eq!(closed.code().map(CloseCode::get), Some(code), "{ending:?}");
        assert_eq!(closed.reason(), reason, "{ending:?}");
        assert_eq!(closed.is_clean(), clean, "{ending:?}");
        drop(self.client);
        // Those that were not to end by themselves.
        self.now.notify_one();
        let _ = timeout(GUARD, self.connections.wait()).await;
        let counts = self.connections.counts();
        let code = CloseCode::new(code).unwrap();
        let closed: Vec<_> = counts.closed().collect();
        let one = vec![((side, CountedCode::Code(code)), 1)];
        assert_eq!((counts.open(), closed), (0, one), "{ending:?}");
    }
}

/// Asserts that what was read is what the ending says.
fn assert_says(read: &(u16, String), code: u16, reason: Option<&str>, ending: Ending) {
    assert_eq!(read.0, code, "{ending:?}");
    match reason {
        Some(reason) => assert_eq!(read.1, reason, "{ending:?}"),
        None => assert_ne!(read.1, "", "{ending:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn says_why_when_this_side_closes_first() {
    for (ending, code, reason) in ENDINGS {
        let mut open = Open::new(ending).await;
        open.end().await;
        let read = open.read_close().await;
        assert_says(&read, code, reason, ending);
        write(&mut open.client, &close(code, &read.1)).await;
        // After a violation nothing is read any more.
        let clean = !matches!(ending, Ending::Violate(_));
        open.assert_told(Side::Local, code, &read.1, clean).await;
    }
}

#[tokio::test(start_paused = true)]
async fn repeats_the_code_of_a_peer_that_closes_first() {
    for (ending, ..) in ENDINGS {
        for code in [1000, 1001, 1003, 1011, 3000, 4321] {
            let mut open = Open::new(ending).await;
            write(&mut open.client, &close(code, "the peer's")).await;
            tokio::task::yield_now().await;
            open.end().await;
            assert_eq!(open.read_close().await, (code, String::new()), "{ending:?}");
            open.assert_told(Side::Remote, code, "the peer's", true)
                .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn says_why_when_the_closes_of_both_sides_cross() {
    for (ending, code, reason) in ENDINGS {
        let mut open = Open::new(ending).await;
        open.end().await;
        // Ours is on its way, and the peer has not seen it when it sends its own.
        sleep(Duration::from_millis(1)).await;
        write(&mut open.client, &close(4321, "the peer's")).await;
        let read = open.read_close().await;
        assert_says(&read, code, reason, ending);
        let clean = !matches!(ending, Ending::Violate(_));
        open.assert_told(Side::Local, code, &read.1, clean).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sends_one_close_and_tells_the_same_when_both_sides_close_in_one_moment() {
    for (ending, code, reason) in ENDINGS {
        for peer_first in [true, false] {
            let mut open = Open::new(ending).await;
            let close = close(4321, "the peer's");
            if peer_first {
                write(&mut open.client, &close).await;
            }
            open.end().await;
            if !peer_first {
                write(&mut open.client, &close).await;
            }
            let read = open.read_close().await;
            if read.0 == 4321 {
                assert_eq!(read.1, "");
                open.assert_told(Side::Remote, 4321, "the peer's", true)
                    .await;
            } else {
                assert_says(&read, code, reason, ending);
                let clean = !matches!(ending, Ending::Violate(_));
                open.assert_told(Side::Local, code, &read.1, clean).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn repeats_every_code_that_a_peer_may_send() {
    for code in (1000..=1003)
        .chain(1007..=1014)
        .chain([3000, 3999, 4000, 4999])
    {
        let (server, mut client) = duplex(1024);
        let mut socket = WebSocket::from_io(server, Config::new());
        write(&mut client, &close(code, &"x".repeat(123))).await;
        assert!(matches!(socket.recv().await, Ok(None)), "code {code}");
        assert_eq!(read_close(&mut client).await, Some(code));
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        let closed = socket.sender().closed().await;
        assert_eq!(closed.side(), Side::Remote);
        assert_eq!(closed.code().map(CloseCode::get), Some(code));
        assert_eq!(closed.reason(), "x".repeat(123));
        assert!(closed.is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn sends_every_code_that_may_be_sent_with_the_longest_reason() {
    let reason = "é".repeat(61) + "x";
    for code in (1000..=1003)
        .chain(1007..=1014)
        .chain([3000, 3999, 4000, 4999])
    {
        let (server, mut client) = duplex(1024);
        let socket = WebSocket::from_io(server, Config::new());
        let code = CloseCode::new(code).unwrap();
        socket.sender().close(code, &*reason).unwrap();
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.close_code(), Some(code.get()));
        assert_eq!(&frame.payload[2..], reason.as_bytes());
    }
}

#[test]
fn refuses_illegal_codes_when_they_are_written() {
    for code in 0..=u16::MAX {
        let legal = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        match CloseCode::new(code) {
            Ok(made) => assert!(legal && made.get() == code, "code {code}"),
            Err(error) => {
                assert!(!legal, "code {code}");
                assert_eq!(error, InvalidClose::Code { code });
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_long_reasons_when_they_are_written() {
    let long = Err(InvalidClose::Reason { len: 124 });
    for reason in ["x".repeat(124), "é".repeat(62)] {
        let frame = CloseFrame::new(CloseCode::NORMAL, reason.clone());
        assert_eq!(frame.map(|_| ()), long);
        let (server, mut client) = duplex(1024);
        let mut socket = WebSocket::from_io(server, Config::new());
        let sender = socket.sender();
        assert_eq!(sender.close(CloseCode::NORMAL, reason.clone()), long);
        assert_eq!(socket.close(CloseCode::NORMAL, reason).await, long);
        // Nothing has come of it.
        sender.send("still here").await.unwrap();
        assert_eq!(
            read_frame(&mut client).await.unwrap().payload,
            b"still here"
        );
    }
}

#[tokio::test]
async fn closes_with_1011_when_the_handler_makes_an_illegal_close() {
    async fn illegal(_socket: WebSocket) -> Result<(), BoxError> {
        Err(CloseFrame::new(CloseCode::new(1006)?, "")?.into())
    }
    let mut client = connect(illegal).await;
    assert_eq!(read_close(&mut client).await, Some(1011));
}

#[tokio::test]
async fn closes_with_the_close_that_a_handler_returns_as_any_error() {
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

#[tokio::test(start_paused = true)]
async fn tells_the_holder_what_the_peer_broke() {
    let cases: [(_, &[u8], _); 3] = [
        (1002, &[0x81, 0], "Protocol("),
        (1007, &[0x81, 0x81, 0, 0, 0, 0, 0xff], "InvalidUtf8"),
        (1009, &[0x82, 0xff, 0, 0, 0, 0, 1], "TooLarge"),
    ];
    for (code, violation, fault) in cases {
        let (server, mut client) = duplex(1024);
        let mut socket = WebSocket::from_io(server, Config::new());
        let bytes = [&frame(FIN | TEXT, b"good"), violation].concat();
        write(&mut client, &bytes).await;
        let sender = socket.sender();
        sender.closed().await;
        // What came before is received first, also if it is only asked for now.
        assert_eq!(socket.recv().await.unwrap(), Some(Message::from("good")));
        let error = socket.recv().await.unwrap_err();
        assert!(format!("{error:?}").starts_with(fault), "{error:?}");
        assert!(matches!(socket.recv().await, Ok(None)));
        // Nobody can say otherwise afterwards.
        sender.close(CloseCode::NORMAL, "").unwrap();
        drop(socket);
        assert_eq!(read_close(&mut client).await, Some(code));
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        let closed = sender.closed().await;
        assert_eq!(closed.side(), Side::Local);
        assert_eq!(closed.code().map(CloseCode::get), Some(code));
    }
}

// Many at once, over real connections.

/// Numbers that look random and are the same in every run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(high).unwrap() % end
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Runs all of the futures, some of them at once.
async fn run<F: Future<Output = ()> + Send + 'static>(futures: impl IntoIterator<Item = F>) {
    let mut tasks = JoinSet::new();
    let mut futures = futures.into_iter();
    loop {
        for future in futures.by_ref().take(16 - tasks.len()) {
            tasks.spawn(timeout(GUARD, future));
        }
        match tasks.join_next().await {
            Some(ended) => ended.unwrap().unwrap(),
            None => return,
        }
    }
}

/// Breaks a rule and goes on sending, with no regard to what comes back; then reads.
async fn violate(address: SocketAddr, number: usize) {
    const VIOLATIONS: [(u16, &[u8], usize); 7] = [
        (1002, &[0x81, 0], 1),
        (1002, &[0x83, 0x80], 1),
        (1002, &[0xc1, 0x80], 1),
        (1007, &[0x81, 0x81, 0, 0, 0, 0, 0xff], 1),
        (1009, &[0x82, 0xff, 0, 0, 0, 0, 1], 1),
        (1008, &EMPTY_FRAGMENTS, 1),
        // Many more than are allowed in the time that it takes.
        (1008, &PINGS, 10),
    ];
    let mut numbers = Numbers(0x9e37_79b9 + number as u64);
    let (code, violation, times) = VIOLATIONS[number % VIOLATIONS.len()];
    let mut client = wire::open(address, "/").await;
    // Something good before, and something behind it that is still in flight.
    let mut bytes = frame(FIN | BINARY, &vec![1; numbers.below(2000)]);
    bytes.extend(violation.repeat(times));
    bytes.resize(bytes.len() + numbers.below(400_000), 0);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (piece, left) = rest.split_at(rest.len().min(1 + numbers.below(100_000)));
        client.write_all(piece).await.unwrap();
        rest = left;
        if numbers.below(2) == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(read_close(&mut client).await, Some(code), "run {number}");
    let end = client.read(&mut [0]).await;
    assert_eq!(end.unwrap(), 0, "run {number}");
}

#[tokio::test]
async fn delivers_the_code_of_a_violation_in_all_of_1000_runs_with_data_in_flight() {
    let address = serve(Echo::new()).await;
    run((0..1000).map(|number| violate(address, number))).await;
}

/// Where a handler panics.
#[derive(Clone, Copy, Debug)]
enum Panics {
    Never,
    BeforeItAwaits,
    AtFirst,
    AfterReceiving(usize),
    AfterSending(usize),
    InAnotherTask(usize),
    InADestructor(usize),
}

/// An echo that panics where the plan of its connection says.
struct Risky(Vec<Panics>);

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

impl Handler for Risky {
    fn handle(&self, socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send {
        let number: usize = socket.request().path()[1..].parse().unwrap();
        let plan = self.0[number];
        if let Panics::BeforeItAwaits = plan {
            panic!("before it awaits");
        }
        risky_echo(socket, plan)
    }
}

async fn risky_echo(mut socket: WebSocket, plan: Panics) -> Result<(), BoxError> {
    if let Panics::AtFirst = plan {
        panic!("at first");
    }
    let mut count = 0;
    while let Some(message) = socket.recv().await? {
        count += 1;
        match plan {
            Panics::AfterReceiving(at) if at == count => panic!("after receiving"),
            Panics::InAnotherTask(at) if at == count => {
                tokio::spawn(async { panic!("in another task") }).await?;
            }
            Panics::InADestructor(at) if at == count => {
                let _dropped_here = PanicsInDrop;
                return Ok(());
            }
            _ => {}
        }
        socket.send(message).await?;
        match plan {
            Panics::AfterSending(at) if at == count => panic!("after sending"),
            _ => {}
        }
    }
    Ok(())
}

const MESSAGES: usize = 20;

impl Panics {
    /// Returns how many messages are answered.
    fn answered(self) -> usize {
        match self {
            Self::Never => MESSAGES,
            Self::BeforeItAwaits | Self::AtFirst => 0,
            Self::AfterReceiving(at) | Self::InAnotherTask(at) | Self::InADestructor(at) => at - 1,
            Self::AfterSending(at) => at,
        }
    }
}

/// What a client says.
fn messages(number: usize) -> [Vec<u8>; MESSAGES] {
    let mut numbers = Numbers(1 + number as u64);
    std::array::from_fn(|at| {
        let byte = u8::try_from((number + at) % 256).unwrap();
        vec![byte; numbers.below(3000)]
    })
}

/// Sends messages, reads the answers that are to come and then the end.
async fn converse(mut client: TcpStream, number: usize, plan: Panics) {
    let messages = messages(number);
    let frames: Vec<_> = messages
        .iter()
        .flat_map(|it| frame(FIN | BINARY, it))
        .collect();
    let (mut reader, mut writer) = client.split();
    let sending = async {
        for piece in frames.chunks(1000 + number * 30) {
            writer.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        for message in &messages[..plan.answered()] {
            let echo = read_frame(&mut reader).await.unwrap();
            assert!(echo.payload == *message, "{number} {plan:?}: {echo:?}");
        }
    };
    tokio::join!(sending, reading);
    let code = if let Panics::Never = plan {
        write(&mut client, &close(1000, "")).await;
        1000
    } else {
        1011
    };
    let end = read_frame(&mut client).await.unwrap();
    assert_eq!(end.close_code(), Some(code), "{number} {plan:?}");
    assert_eq!(
        end.payload.len(),
        2,
        "{number} {plan:?}: why is for the log"
    );
    if code == 1011 {
        write(&mut client, &close(1011, "")).await;
    }
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "{number} {plan:?}");
}

#[tokio::test]
async fn loses_nothing_of_900_connections_while_the_handlers_of_100_others_panic() {
    let mut numbers = Numbers(6455);
    let mut plans = vec![Panics::Never; 900];
    plans.extend((0..100).map(|_| {
        let at = 1 + numbers.below(MESSAGES);
        match numbers.below(6) {
            0 => Panics::BeforeItAwaits,
            1 => Panics::AtFirst,
            2 => Panics::AfterReceiving(at),
            3 => Panics::AfterSending(at),
            4 => Panics::InAnotherTask(at),
            _ => Panics::InADestructor(at),
        }
    }));
    numbers.shuffle(&mut plans);

    // None is given up before the last one is there.
    let config = Config::new().close_timeout(Duration::from_secs(60));
    let layer = WebSocketLayer::new(Risky(plans.clone())).config(config);
    let connections = layer.connections();
    let address = serve_layer(layer).await;
    let mut clients = Vec::new();
    for number in 0..plans.len() {
        clients.push(
            timeout(GUARD, wire::open(address, &format!("/{number}")))
                .await
                .unwrap(),
        );
    }
    assert_eq!(connections.counts().open(), 1000);
    let (mut answered, mut bytes) = (0, 0);
    for (number, plan) in plans.iter().enumerate() {
        answered += plan.answered() as u64;
        let answers = messages(number).into_iter().take(plan.answered());
        bytes += answers.map(|message| message.len() as u64).sum::<u64>();
    }
    let all = clients.into_iter().zip(plans).enumerate();
    run(all.map(|(number, (client, plan))| converse(client, number, plan))).await;

    let _ = timeout(GUARD, connections.wait()).await;
    let counts = connections.counts();
    assert_eq!((counts.open(), counts.accepted()), (0, 1000));
    let closed = [
        (
            (Side::Local, CountedCode::Code(CloseCode::INTERNAL_ERROR)),
            100,
        ),
        ((Side::Remote, CountedCode::Code(CloseCode::NORMAL)), 900),
    ];
    assert_eq!(counts.closed().collect::<Vec<_>>(), closed);
    assert_eq!(counts.refused().count(), 0);
    let traffic = counts.traffic();
    assert_eq!(
        (traffic.messages_sent(), traffic.bytes_sent()),
        (answered, bytes)
    );
    assert!(traffic.messages_received() >= 900 * MESSAGES as u64);
}
