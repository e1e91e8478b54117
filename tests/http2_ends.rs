//! How a WebSocket on an HTTP/2 stream ends: whose half ends when, and which resets are sent and
//! heard. Over pipes and on tokio's paused clock.

#![cfg(feature = "http2")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{sync::Arc, time::Duration};

use h2::{Reason, client};
use http2::{Session, Tunnel, serve, serve_by};
use hyper_util::rt::TokioExecutor;
use support::{http2, wire};
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    sync::{Notify, mpsc},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    BoxError, Closed, Config, Connections, CountedCode, Echo, Handler, IntoHandler, Side,
    WebSocket, WebSocketLayer, WebSocketService, error::RecvError,
};
use wire::{BINARY, FIN, TEXT, close, frame, read_close, read_frame, write};

const SECOND: Duration = Duration::from_secs(1);
/// Far more than anything may take; no time passes in waiting for it.
const GUARD: Duration = Duration::from_secs(600);

async fn session<M, H: Handler>(
    handler: impl IntoHandler<M, Handler = H>,
) -> (Session, Connections) {
    let layer = WebSocketLayer::new(handler);
    let connections = layer.connections();
    let service = layer.into_service();
    (Session::new(serve(service)).await, connections)
}

/// Serves by an executor that is not ours, under which hyper alone decides how a stream ends.
fn serve_elsewhere<H: Handler>(layer: WebSocketLayer<H>) -> DuplexStream {
    let (near, far) = duplex(1 << 16);
    serve_by(TokioExecutor::new(), near, layer.into_service());
    far
}

/// Waits until no connection is left, and returns how long that took.
async fn emptied(connections: &Connections) -> Duration {
    let start = Instant::now();
    let waited = timeout(GUARD, connections.wait()).await;
    assert!(waited.is_ok(), "{connections:?}");
    assert_eq!(connections.counts().open(), 0);
    start.elapsed()
}

/// Asserts that the server has ended its half without a reset.
async fn ends(tunnel: &mut Tunnel) {
    let read = timeout(GUARD, tunnel.read(&mut [0])).await.unwrap();
    assert_eq!(read.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn ends_its_half_behind_the_close_and_waits_for_that_of_the_client() {
    let (session, connections) = session(Echo::new()).await;
    let mut tunnel = session.open().await;
    write(&mut tunnel, &close(1000, "done")).await;
    assert_eq!(read_close(&mut tunnel).await, Some(1000));
    ends(&mut tunnel).await;
    sleep(SECOND * 9 / 10).await;
    assert_eq!(connections.counts().open(), 1);
    tunnel.end();
    assert!(emptied(&connections).await < SECOND / 100);
    // Both halves have ended, and no reset came in between.
    assert!(tunnel.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn resets_a_stream_that_the_client_leaves_open_after_a_second() {
    let (session, connections) = session(Echo::new()).await;
    let mut tunnel = session.open().await;
    write(&mut tunnel, &close(1000, "")).await;
    assert_eq!(read_close(&mut tunnel).await, Some(1000));
    ends(&mut tunnel).await;
    let start = Instant::now();
    // The Close has been read; "no error" says that nothing more of the request is of use.
    assert_eq!(tunnel.was_reset().await, Reason::NO_ERROR);
    assert!((SECOND..SECOND * 2).contains(&start.elapsed()));
    emptied(&connections).await;
    assert_eq!(session.open().await.status, 200);
}

/// A client that floods after the end is not listened to for longer.
#[tokio::test(start_paused = true)]
async fn resets_after_a_second_also_while_the_client_goes_on_sending() {
    let (session, connections) = session(Echo::new()).await;
    let mut tunnel = session.open().await;
    write(&mut tunnel, &[0xff; 16]).await;
    assert_eq!(read_close(&mut tunnel).await, Some(1002));
    ends(&mut tunnel).await;
    let start = Instant::now();
    let reason = loop {
        tokio::select! {
            reason = tunnel.was_reset() => break reason,
            () = sleep(SECOND / 50) => {}
        }
        write(&mut tunnel, &[0; 16]).await;
    };
    assert_eq!(reason, Reason::NO_ERROR);
    assert!((SECOND..SECOND * 2).contains(&start.elapsed()));
    emptied(&connections).await;
}

#[tokio::test(start_paused = true)]
async fn says_with_a_close_why_it_ends() {
    let returns = |result: Result<(), &'static str>| {
        move |socket: WebSocket| async move {
            drop(socket);
            result.map_err(BoxError::from)
        }
    };
    for (handler, code) in [
        (returns(Ok(())), 1000),
        (returns(Err("out of paper")), 1011),
    ] {
        let (session, _) = session(handler).await;
        let mut tunnel = session.open().await;
        assert_eq!(read_close(&mut tunnel).await, Some(code));
        write(&mut tunnel, &close(code, "")).await;
        ends(&mut tunnel).await;
    }
    for (bytes, code) in [
        (&frame(FIN | TEXT, b"\xff")[..], 1007),
        (&[FIN | TEXT, 0], 1002),
        (&wire::header(FIN | BINARY, 2 << 20, true), 1009),
    ] {
        let (session, _) = session(Echo::new()).await;
        let mut tunnel = session.open().await;
        write(&mut tunnel, bytes).await;
        assert_eq!(read_close(&mut tunnel).await, Some(code));
        ends(&mut tunnel).await;
    }
}

#[tokio::test(start_paused = true)]
async fn closes_with_1002_when_the_client_ends_without_a_close() {
    let (session, connections) = session(Echo::new()).await;
    let mut tunnel = session.open().await;
    write(&mut tunnel, &frame(FIN | TEXT, b"last")).await;
    tunnel.end();
    assert_eq!(read_frame(&mut tunnel).await.unwrap().payload, b"last");
    assert_eq!(read_close(&mut tunnel).await, Some(1002));
    ends(&mut tunnel).await;
    assert!(emptied(&connections).await < SECOND / 100);
}

/// Gives its test the end of each connection, and does what that says.
#[derive(Clone)]
struct Told {
    ends: mpsc::UnboundedSender<End>,
    goes_on: Arc<Notify>,
}

#[derive(Debug)]
struct End {
    closed: Closed,
    received: usize,
    error: Option<RecvError>,
}

impl Told {
    fn new() -> (Self, mpsc::UnboundedReceiver<End>) {
        let (ends, end) = mpsc::unbounded_channel();
        let goes_on = Arc::default();
        (Self { ends, goes_on }, end)
    }
}

/// Is busy with something else until the connection has ended, and receives then.
impl Handler for Told {
    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        let closed = socket.sender().closed().await;
        let (mut received, mut error) = (0, None);
        loop {
            match socket.recv().await {
                Ok(Some(_)) => received += 1,
                Ok(None) => break,
                Err(fault) => error = Some(fault),
            }
        }
        let end = End {
            closed,
            received,
            error,
        };
        self.ends.send(end).unwrap();
        self.goes_on.notified().await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn hears_a_reset_at_once_while_the_handler_is_busy() {
    for reason in [
        Reason::CANCEL,
        Reason::NO_ERROR,
        Reason::INTERNAL_ERROR,
        Reason::STREAM_CLOSED,
    ] {
        let (handler, mut ends) = Told::new();
        let goes_on = Arc::clone(&handler.goes_on);
        let (session, connections) = session(handler).await;
        let mut tunnel = session.open().await;
        write(&mut tunnel, &frame(FIN | TEXT, b"one")).await;
        sleep(SECOND).await;
        let start = Instant::now();
        tunnel.reset(reason);
        let end = timeout(GUARD, ends.recv()).await.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO, "{reason:?}");
        assert_eq!(end.closed.side(), Side::Remote, "{reason:?}");
        assert!(!end.closed.is_clean(), "{reason:?}");
        assert_eq!(end.received, 1, "{reason:?}");
        assert!(matches!(end.error, Some(RecvError::Io(_))), "{end:?}");
        let counts = connections.counts();
        assert_eq!((counts.open(), counts.lingering()), (0, 1), "{reason:?}");
        goes_on.notify_one();
        assert_eq!(emptied(&connections).await, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn hears_a_reset_within_a_second_while_nothing_is_read() {
    let (handler, mut ends) = Told::new();
    handler.goes_on.notify_one();
    let (session, connections) = session(handler).await;
    let mut tunnel = session.open().await;
    // More than the inbox, the read buffer and the window take together.
    write(&mut tunnel, &frame(FIN | BINARY, &[1; 8 << 10]).repeat(64)).await;
    sleep(SECOND * 100).await;
    let start = Instant::now();
    tunnel.reset(Reason::CANCEL);
    let end = timeout(GUARD, ends.recv()).await.unwrap().unwrap();
    assert!(start.elapsed() <= SECOND, "{:?}", start.elapsed());
    assert!((1..64).contains(&end.received), "{end:?}");
    assert!(matches!(end.error, Some(RecvError::Io(_))), "{end:?}");
    assert_eq!(emptied(&connections).await, Duration::ZERO);
}

/// Sends without end.
async fn push(mut socket: WebSocket) -> Result<(), BoxError> {
    loop {
        socket.send(vec![1; 100_000]).await?;
    }
}

#[tokio::test(start_paused = true)]
async fn hears_a_reset_at_once_while_output_is_blocked() {
    let (session, connections) = session(push).await;
    let mut tunnel = session.open().await;
    sleep(SECOND).await;
    assert_eq!(connections.counts().open(), 1);
    tunnel.reset(Reason::CANCEL);
    assert_eq!(emptied(&connections).await, Duration::ZERO);
    assert_eq!(
        connections
            .counts()
            .closed_as(Side::Remote, CountedCode::None),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn gives_a_stalled_stream_up_by_any_executor() {
    // The client's window, of 64 KiB for the streams, is that of the connection as well.
    let mut settings = client::Builder::new();
    settings.initial_connection_window_size(16 << 20);
    let layer = WebSocketLayer::new(|socket: WebSocket| async move {
        match socket.request().header("x-push").is_some() {
            true => push(socket).await,
            false => Echo::new().handle(socket).await,
        }
    });
    let connections = layer.connections();
    let session = Session::with(&settings, serve_elsewhere(layer)).await;
    let mut sibling = session.open().await;
    let start = Instant::now();
    let mut stalled = session.ask(http2::connect().header("x-push", "1")).await;
    while connections.counts().open() == 2 {
        sleep(SECOND / 10).await;
        write(&mut sibling, &frame(FIN | TEXT, b"hello")).await;
        assert_eq!(read_frame(&mut sibling).await.unwrap().payload, b"hello");
    }
    // Ten times `write_timeout`, because the stream has taken all of the client's window.
    let took = start.elapsed();
    assert!((SECOND * 100..SECOND * 101).contains(&took), "{took:?}");
    assert_eq!(
        connections
            .counts()
            .closed_as(Side::Local, CountedCode::None),
        1
    );

    // When the client reads again, it gets the bytes that hyper had taken, and then the end.
    let mut bytes = 0;
    while let Some(data) = stalled.next().await {
        let data = data.unwrap();
        bytes += data.len();
        stalled.release(data.len());
    }
    assert!(bytes <= 128 << 10, "{bytes}");
    assert_eq!(stalled.was_reset().await, Reason::NO_ERROR);
    write(&mut sibling, &frame(FIN | TEXT, b"again")).await;
    assert_eq!(read_frame(&mut sibling).await.unwrap().payload, b"again");
}

/// With another executor, hyper itself ends a dropped stream: without a Close, but with "no error" as
/// if it were complete.
#[tokio::test(start_paused = true)]
async fn ends_an_aborted_stream_without_a_close_by_any_executor() {
    let (handler, _ends) = Told::new();
    let layer = WebSocketLayer::new(handler);
    let connections = layer.connections();
    let session = Session::new(serve_elsewhere(layer)).await;
    let mut tunnel = session.open().await;
    let report = connections.shutdown(Duration::ZERO).await;
    assert_eq!((report.clean, report.aborted), (0, 1));
    assert_eq!(connections.counts().open(), 0);
    assert!(read_frame(&mut tunnel).await.is_none());
    assert_eq!(tunnel.was_reset().await, Reason::NO_ERROR);
}

#[tokio::test(start_paused = true)]
async fn ends_every_socket_with_the_connection() {
    let layer = WebSocketLayer::new(Echo::new()).config(Config::new());
    let connections = layer.connections();
    let service: WebSocketService<_, _> = layer.into_service();
    let (near, far) = tokio::io::duplex(1 << 16);
    let server = http2::serve_on(near, service);
    let session = Session::new(far).await;
    let mut tunnels = Vec::new();
    for _ in 0..50 {
        tunnels.push(session.open().await);
    }
    assert_eq!(connections.counts().open(), 50);
    server.abort();
    assert_eq!(emptied(&connections).await, Duration::ZERO);
    assert_eq!(
        connections
            .counts()
            .closed_as(Side::Remote, CountedCode::None),
        50
    );
}
