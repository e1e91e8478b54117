//! After the end of a connection, its place is free at once, and its handler may still run for a while.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use support::{
    pipe,
    tap::{Tap, Tapped},
    wire::{
        BINARY, CLOSE, FIN, PING, PONG, TEXT, close, frame, handshake, read_close, read_frame,
        upgrade, write,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    CloseCode, Closed, Config, Connections, Error, Handler, IntoHandler, Side, WebSocket,
    WebSocketLayer,
    error::{RecvError, SendError},
};

const SECOND: Duration = Duration::from_secs(1);

async fn open(layer: &WebSocketLayer<impl Handler>) -> DuplexStream {
    pipe::open(layer.clone().into_service(), 4096).await
}

/// Sends a signal when it is dropped.
struct OnDrop(Option<oneshot::Sender<()>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(told) = self.0.take() {
            let _ = told.send(());
        }
    }
}

/// Returns a handler that never returns. The receiver gets one receiver for each future, which resolves when the
/// future is dropped.
fn endless() -> (impl Handler, mpsc::UnboundedReceiver<oneshot::Receiver<()>>) {
    let (begun, begins) = mpsc::unbounded_channel();
    let handler = move |socket: WebSocket| {
        let (told, dropped) = oneshot::channel();
        begun.send(dropped).unwrap();
        async move {
            let _told = OnDrop(Some(told));
            let _socket = socket;
            pending::<()>().await;
            Ok::<_, Error>(())
        }
    };
    (handler.into_handler(), begins)
}

/// Closes with 1000, and reads to the end.
async fn leave(mut client: DuplexStream) {
    write(&mut client, &close(1000, "")).await;
    while read_frame(&mut client).await.unwrap().first != FIN | CLOSE {}
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn drops_a_handler_that_goes_on_for_30_seconds() {
    let (handler, mut begins) = endless();
    let layer = WebSocketLayer::new(handler);
    let client = open(&layer).await;
    let dropped = begins.recv().await.unwrap();
    leave(client).await;
    let start = Instant::now();
    pipe::until_open(&layer.connections(), 0).await;
    assert_eq!(layer.connections().counts().lingering(), 1);
    dropped.await.unwrap();
    let took = start.elapsed();
    assert!((30 * SECOND..31 * SECOND).contains(&took), "{took:?}");
    layer.connections().wait().await;
    let counts = layer.connections().counts();
    assert_eq!((counts.open(), counts.lingering()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn drops_a_handler_after_the_grace_that_is_set() {
    for (grace, at) in [
        (SECOND, SECOND),
        (100 * SECOND, 100 * SECOND),
        (Duration::MAX, Duration::MAX),
    ] {
        let (handler, mut begins) = endless();
        let config = Config::new().handler_grace(grace);
        let layer = WebSocketLayer::new(handler).config(config);
        let client = open(&layer).await;
        let mut dropped = begins.recv().await.unwrap();
        leave(client).await;
        let start = Instant::now();
        let limit = 24 * 60 * 60 * SECOND;
        match timeout(limit, &mut dropped).await {
            Ok(_) => {
                let took = start.elapsed();
                assert!((at..at + SECOND).contains(&took), "{took:?}");
            }
            Err(_) => assert_eq!(at, Duration::MAX, "{grace:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn drops_the_handler_that_has_gone_on_longest_when_there_are_too_many() {
    let (handler, mut begins) = endless();
    let connections = Connections::new().max_connections(2);
    let layer = WebSocketLayer::new(handler).connections_in(&connections);
    let mut dropped = Vec::new();
    for number in 0..5 {
        let client = open(&layer).await;
        dropped.push(begins.recv().await.unwrap());
        leave(client).await;
        pipe::until_open(&connections, 0).await;
        sleep(SECOND).await;
        assert_eq!(connections.counts().lingering(), (number + 1).min(2));
        for (other, dropped) in dropped.iter_mut().enumerate() {
            let is_dropped =
                !matches!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            assert_eq!(is_dropped, other + 2 <= number, "{other} after {number}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_drops_no_handler_before_its_grace() {
    let (handler, mut begins) = endless();
    let layer = WebSocketLayer::new(handler);
    let client = open(&layer).await;
    let mut dropped = begins.recv().await.unwrap();
    let connections = layer.connections().max_connections(0);
    leave(client).await;
    pipe::until_open(&connections, 0).await;
    assert_eq!(connections.counts().lingering(), 1);
    assert!(timeout(28 * SECOND, &mut dropped).await.is_err());
    timeout(3 * SECOND, dropped).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn gives_back_the_place_of_a_key_when_the_connection_is_over() {
    let (handler, mut begins) = endless();
    let layer = WebSocketLayer::new(handler).max_per_key(1, |_| Some("everybody"));
    for _ in 0..3 {
        let client = open(&layer).await;
        begins.recv().await.unwrap();
        leave(client).await;
        pipe::until_open(&layer.connections(), 0).await;
    }
    assert_eq!(layer.connections().counts().lingering(), 3);
}

#[tokio::test(start_paused = true)]
async fn waits_for_handlers_that_go_on_when_it_shuts_down() {
    let (handler, mut begins) = endless();
    let layer = WebSocketLayer::new(handler);
    let client = open(&layer).await;
    begins.recv().await.unwrap();
    leave(client).await;
    pipe::until_open(&layer.connections(), 0).await;
    let start = Instant::now();
    let report = layer.connections().shutdown(5 * SECOND).await;
    assert_eq!((report.clean, report.aborted), (0, 1));
    assert_eq!(start.elapsed(), 5 * SECOND);
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn names_handler_and_path_when_it_drops_a_handler() {
    async fn goes_on(_socket: WebSocket) -> Result<(), Error> {
        pending().await
    }
    let (mut log, _guard) = support::log::capture();
    let layer = WebSocketLayer::new(goes_on);
    let mut client = pipe::serve(layer.clone().into_service(), 4096);
    upgrade(&mut client, &handshake("/rooms/7?token=secret")).await;
    leave(client).await;
    layer.connections().wait().await;
    log.names("WARN", "goes_on").await;
    log.names("WARN", "path=/rooms/7").await;
    log.names("WARN", "is dropped").await;
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn says_once_that_a_handler_returned_and_left_its_socket_behind() {
    let (mut log, _guard) = support::log::capture();
    let layer = WebSocketLayer::new(async |socket: WebSocket| {
        forget(socket);
        Ok::<_, Error>(())
    });
    let mut client = open(&layer).await;
    for _ in 0..3 {
        write(&mut client, &frame(FIN | PING, b"there?")).await;
        assert_eq!(read_frame(&mut client).await.unwrap().first, FIN | PONG);
    }
    log.names("DEBUG", "its websocket is still in use elsewhere")
        .await;
    assert_eq!(log.count("its websocket is still in use elsewhere"), 1);
    assert_eq!(layer.connections().counts().handed_on(), 1);
}

/// How the future of [`WebSocket::closed`] ends for a handler that only sends, and after how long.
async fn told(act: impl AsyncFnOnce(DuplexStream), config: Config) -> (Closed, Duration) {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let handler = move |mut socket: WebSocket| {
        let ends = ends.clone();
        async move {
            let closed = socket.closed();
            tokio::pin!(closed);
            let start = Instant::now();
            loop {
                tokio::select! {
                    () = sleep(60 * 60 * SECOND) => socket.send("news").await?,
                    end = &mut closed => {
                        ends.send((end, start.elapsed()))?;
                        return Ok::<_, Error>(());
                    }
                }
            }
        }
    };
    let layer = WebSocketLayer::new(handler).config(config);
    act(open(&layer).await).await;
    ended.recv().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_only_sends_is_told_of_the_end() {
    let (end, after) = told(async |client| leave(client).await, Config::new()).await;
    assert_eq!((end.side(), end.is_clean()), (Side::Remote, true));
    assert!(after <= 2 * SECOND, "{after:?}");

    let (end, after) = told(async |client| drop(client), Config::new()).await;
    assert_eq!((end.side(), end.is_clean()), (Side::Remote, false));
    assert!(after <= SECOND, "{after:?}");

    // A peer that is silent is there no more.
    let (end, after) = told(async |client| forget(client), Config::new()).await;
    assert_eq!((end.side(), end.is_clean()), (Side::Local, false));
    assert!((40 * SECOND..41 * SECOND).contains(&after), "{after:?}");
}

/// Keeps one end of a connection without doing anything with it.
fn forget(end: impl Send + 'static) {
    tokio::spawn(async move {
        let _end = end;
        pending::<()>().await;
    });
}

#[tokio::test(start_paused = true)]
async fn ignores_what_comes_and_answers_pings_and_closes() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
        let ends = ends.clone();
        async move {
            socket.ignore_incoming();
            let end = socket.recv().await;
            ends.send((end, socket.close_frame()))?;
            Ok::<_, Error>(())
        }
    });
    let mut client = open(&layer).await;
    for _ in 0..10 {
        for _ in 0..100 {
            write(&mut client, &frame(FIN | BINARY, &[7; 1000])).await;
        }
        write(&mut client, &frame(FIN | PING, b"there?")).await;
        assert_eq!(read_frame(&mut client).await.unwrap().first, FIN | PONG);
    }
    let start = Instant::now();
    write(&mut client, &close(4001, "enough")).await;
    assert_eq!(read_close(&mut client).await, Some(4001));
    assert_eq!(
        start.elapsed(),
        Duration::ZERO,
        "nobody waits for an answer"
    );
    let (end, frame) = ended.recv().await.unwrap();
    assert!(matches!(end, Ok(None)), "{end:?}");
    let frame = frame.unwrap();
    assert_eq!((frame.code().get(), frame.reason()), (4001, "enough"));
    assert_eq!(
        layer.connections().counts().traffic().messages_received(),
        1000
    );
}

#[tokio::test(start_paused = true)]
async fn ignores_within_the_limits() {
    let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
        socket.ignore_incoming();
        assert!(matches!(socket.recv().await, Err(RecvError::TooLarge)));
        assert!(socket.recv().await?.is_none());
        Ok::<_, Error>(())
    });
    let layer = layer.config(Config::new().max_message_size(5));
    let mut client = open(&layer).await;
    write(&mut client, &frame(FIN | TEXT, b"12345")).await;
    write(&mut client, &frame(FIN | TEXT, b"123456")).await;
    assert_eq!(read_close(&mut client).await, Some(1009));
}

#[tokio::test(start_paused = true)]
async fn discards_what_came_before_it_was_told_to_ignore() {
    let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
        // The inbox is full, and more waits.
        sleep(10 * SECOND).await;
        socket.ignore_incoming();
        assert!(socket.recv().await?.is_none());
        Ok::<_, Error>(())
    });
    let mut client = open(&layer).await;
    for _ in 0..40 {
        write(&mut client, &frame(FIN | TEXT, b"unread")).await;
    }
    write(&mut client, &close(1000, "")).await;
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn says_how_the_connection_was_closed_when_nothing_more_comes() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
        let ends = ends.clone();
        async move {
            assert_eq!(socket.close_frame(), None);
            while socket.recv().await?.is_some() {}
            ends.send(socket.close_frame())?;
            Ok::<_, Error>(())
        }
    });
    let connections = layer.connections();

    let mut client = open(&layer).await;
    write(&mut client, &close(4000, "bye")).await;
    let frame = ended.recv().await.unwrap().unwrap();
    assert_eq!((frame.code().get(), frame.reason()), (4000, "bye"));

    let mut client = open(&layer).await;
    write(&mut client, &wire_close_without_code()).await;
    assert_eq!(ended.recv().await.unwrap(), None);

    let _client = open(&layer).await;
    connections.close();
    let frame = ended.recv().await.unwrap().unwrap();
    assert_eq!(frame.code(), CloseCode::GOING_AWAY);
}

fn wire_close_without_code() -> Vec<u8> {
    frame(FIN | CLOSE, b"")
}

/// A stream on which reading panics once that is asked for, as no stream should.
struct Faulty(Arc<AtomicBool>);

impl Tap for Faulty {
    fn read(&mut self, _: &mut ReadBuf<'_>) -> Option<Poll<io::Result<()>>> {
        assert!(!self.0.load(Ordering::Relaxed), "of the stream");
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_ours_gives_back_place_stream_and_waiters() {
    let (sockets, mut socket) = mpsc::unbounded_channel();
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
        let sockets = sockets.clone();
        async move {
            let sender = socket.sender();
            let receives = tokio::spawn(async move { socket.recv().await });
            sockets.send((sender, receives))?;
            pending::<()>().await;
            Ok::<_, Error>(())
        }
    });
    let layer = layer.max_per_key(1, |_| Some("everybody"));
    #[cfg(feature = "tracing")]
    let (mut log, _guard) = support::log::capture();
    let panics = Arc::new(AtomicBool::new(false));
    let (near, mut client) = duplex(4096);
    let stream = Tapped::new(near, Faulty(Arc::clone(&panics)));
    pipe::serve_on(stream, layer.clone().into_service());
    upgrade(&mut client, &handshake("/")).await;
    let (sender, receives) = socket.recv().await.unwrap();

    panics.store(true, Ordering::Relaxed);
    write(&mut client, &frame(FIN | TEXT, b"one")).await;
    let end = sender.closed().await;
    assert_eq!((end.side(), end.is_clean()), (Side::Local, false));
    let received = receives.await.unwrap();
    assert!(matches!(received, Err(RecvError::Io(_))), "{received:?}");
    assert_eq!(sender.send("late").await, Err(SendError::Closed));
    assert_eq!(
        client.read(&mut [0]).await.unwrap(),
        0,
        "the stream is dropped"
    );
    layer.connections().wait().await;
    let counts = layer.connections().counts();
    assert_eq!((counts.open(), counts.lingering()), (0, 0));
    let _client = open(&layer).await;
    #[cfg(feature = "tracing")]
    log.names("ERROR", "serving a websocket panicked").await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_ours_wakes_the_holder_of_a_detached_socket() {
    let panics = Arc::new(AtomicBool::new(false));
    let (near, mut client) = duplex(4096);
    let stream = Tapped::new(near, Faulty(Arc::clone(&panics)));
    let mut socket = WebSocket::from_io(stream, Config::new());
    write(&mut client, &frame(FIN | TEXT, b"one")).await;
    assert!(socket.recv().await.unwrap().is_some());
    panics.store(true, Ordering::Relaxed);
    write(&mut client, &frame(FIN | TEXT, b"two")).await;
    let received = socket.recv().await;
    assert!(matches!(received, Err(RecvError::Io(_))), "{received:?}");
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn a_connection_that_a_shutdown_aborts_has_its_line_in_the_log() {
    let (mut log, _guard) = support::log::capture();
    let (handler, mut begins) = endless();
    let layer = WebSocketLayer::new(handler);
    let client = open(&layer).await;
    begins.recv().await.unwrap();
    let report = layer.connections().shutdown(SECOND / 2).await;
    assert_eq!(report.aborted, 1);
    log.names("DEBUG", "websocket closed").await;
    log.names("DEBUG", "reason=aborted").await;
    drop(client);
}

#[cfg(feature = "tracing")]
#[test]
fn a_connection_whose_runtime_is_dropped_has_its_line_in_the_log() {
    let (log, _guard) = support::log::capture();
    let notify = Arc::new(tokio::sync::Notify::new());
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let server = runtime();
    let client = server.block_on(async {
        let notify = Arc::clone(&notify);
        let layer = WebSocketLayer::new(move |socket: WebSocket| {
            notify.notify_one();
            async move {
                socket.closed().await;
                Ok::<_, Error>(())
            }
        });
        open(&layer).await
    });
    server.block_on(notify.notified());
    drop(server);
    runtime().block_on(async {
        let mut log = log;
        log.names("DEBUG", "websocket closed").await;
        log.names("DEBUG", "reason=aborted").await;
    });
    drop(client);
}

/// Returns how many of 16 messages a handler receives that takes one every three seconds.
async fn received_slowly(end: &[u8]) -> usize {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
        let counted = Arc::clone(&counted);
        async move {
            while let Ok(Some(_)) = socket.recv().await {
                counted.fetch_add(1, Ordering::Relaxed);
                sleep(3 * SECOND).await;
            }
            Ok::<_, Error>(())
        }
    });
    let mut client = open(&layer).await;
    write(&mut client, &frame(FIN | TEXT, b"one").repeat(16)).await;
    write(&mut client, end).await;
    client.shutdown().await.unwrap();
    layer.connections().wait().await;
    taken.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_receives_all_that_came_before_the_end() {
    assert_eq!(received_slowly(b"").await, 16);
    assert_eq!(received_slowly(&close(1000, "")).await, 16);
}

#[tokio::test(start_paused = true)]
async fn the_first_close_stays_the_peers() {
    for (bytes, first) in [
        (close(4000, "theirs"), Some(4000)),
        (frame(FIN | CLOSE, b""), None),
    ] {
        let (ends, mut ended) = mpsc::unbounded_channel();
        let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
            let ends = ends.clone();
            async move {
                assert!(socket.recv().await?.is_none());
                let closed = socket.closed();
                socket.close(CloseCode::NORMAL, "ours").await?;
                ends.send((socket.close_frame(), closed.await))?;
                Ok::<_, Error>(())
            }
        });
        let mut client = open(&layer).await;
        write(&mut client, &bytes).await;
        let (frame, closed) = ended.recv().await.unwrap();
        assert_eq!(frame.map(|frame| frame.code().get()), first);
        assert_eq!(closed.code().map(CloseCode::get), first);
    }
}

#[tokio::test(start_paused = true)]
async fn the_close_can_be_read_when_this_side_closes_by_itself() {
    let (server, _client) = duplex(4096);
    let mut socket = WebSocket::from_io(server, Config::new().max_lifetime(SECOND));
    assert_eq!(socket.recv().await.unwrap(), None);
    let frame = socket.close_frame().unwrap();
    assert_eq!(frame.code(), CloseCode::GOING_AWAY);

    let (server, mut client) = duplex(4096);
    let mut socket = WebSocket::from_io(server, Config::new());
    write(&mut client, &frame_of_no_kind()).await;
    assert!(socket.recv().await.is_err());
    let frame = socket.close_frame().unwrap();
    assert_eq!(frame.code(), CloseCode::PROTOCOL_ERROR);
}

fn frame_of_no_kind() -> Vec<u8> {
    frame(FIN | 0x3, b"")
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_was_dropped_is_no_clean_end() {
    let (handler, mut begins) = endless();
    let layer = WebSocketLayer::new(handler);
    let client = open(&layer).await;
    begins.recv().await.unwrap();
    tokio::spawn(leave_when_told(client));
    let report = layer.connections().shutdown(120 * SECOND).await;
    assert_eq!((report.clean, report.aborted), (0, 1));
}

async fn leave_when_told(mut client: DuplexStream) {
    while read_frame(&mut client).await.unwrap().first != FIN | CLOSE {}
    write(&mut client, &close(1001, "")).await;
    client.shutdown().await.unwrap();
    forget(client);
}
