//! With our executor a WebSocket that is given up resets its own HTTP/2 stream, and no other. Over
//! pipes and on tokio's paused clock.

#![cfg(feature = "http2")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{convert::Infallible, future::pending, time::Duration};

use bytes::Bytes;
use h2::{Reason, client};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use http2::{Session, Tunnel, connect, serve};
use hyper::body::Incoming;
use support::{http2, wire};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_websocket::{
    BoxError, Config, Connections, CountedCode, Echo, Handler, Side, WebSocket, WebSocketLayer,
};
use wire::{close, read_close, read_frame, write};

const SECOND: Duration = Duration::from_secs(1);
/// Far more than anything may take; no time passes in waiting for it.
const GUARD: Duration = Duration::from_secs(600);

/// Does what the request asks for.
#[derive(Clone)]
struct Mixed;

impl Handler for Mixed {
    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        let has = |name| socket.request().header(name).is_some();
        let [pushes, ends, stays] = ["x-push", "x-end", "x-stay"].map(has);
        if pushes {
            loop {
                socket.send(vec![1; 100_000]).await?;
            }
        }
        if ends {
            return Ok(());
        }
        if stays {
            let _socket = socket;
            return pending().await;
        }
        Echo::new().handle(socket).await
    }
}

/// A client that has room for what it does not read, and a server that has other requests as well.
async fn session(config: Config) -> (Session, Connections) {
    let mut settings = client::Builder::new();
    settings.initial_connection_window_size(16 << 20);
    with(&settings, config).await
}

async fn with(settings: &client::Builder, config: Config) -> (Session, Connections) {
    let layer = WebSocketLayer::new(Mixed).path("/ws").config(config);
    let connections = layer.connections();
    let inner = service_fn(async |request: Request<Incoming>| {
        assert_ne!(request.uri().path(), "/panics");
        Ok::<_, Infallible>(Response::new(Full::from("plain")))
    });
    let session = Session::with(settings, serve(layer.layer(inner))).await;
    (session, connections)
}

async fn get(session: &Session, path: &str) -> Result<Tunnel, h2::Error> {
    let request = Request::get(format!("https://example.com{path}"));
    session.send(request).await.answer().await
}

/// Reads until the stream is reset, and returns the code and how much came before. That the server
/// ends its half instead fails.
async fn reset(tunnel: &mut Tunnel) -> (Reason, usize) {
    let mut bytes = 0;
    let read = async {
        loop {
            match tunnel.next().await.expect("the server has ended its half") {
                Ok(data) => bytes += data.len(),
                Err(error) => break error.reason().unwrap(),
            }
        }
    };
    (timeout(GUARD, read).await.unwrap(), bytes)
}

#[tokio::test(start_paused = true)]
async fn resets_a_stalled_stream_and_no_other() {
    let (session, connections) = session(Config::new()).await;
    let mut sibling = session.open().await;
    let start = Instant::now();
    let mut stalled = session.ask(connect().header("x-push", "1")).await;
    while connections.counts().open() == 2 {
        sleep(SECOND / 10).await;
        sibling.echoes("hello").await;
    }
    let reason = timeout(SECOND, stalled.was_reset()).await.unwrap();
    assert_eq!(reason, Reason::CANCEL);
    // Ten times `write_timeout`, because the stream has taken all of the client's window.
    let took = start.elapsed();
    assert!((SECOND * 100..SECOND * 101).contains(&took), "{took:?}");
    assert_eq!(
        connections
            .counts()
            .closed_as(Side::Local, CountedCode::None),
        1
    );
    sibling.echoes("hello").await;
    assert_eq!(get(&session, "/").await.unwrap().text().await, "plain");
    session.open().await.echoes("hello").await;
}

#[tokio::test(start_paused = true)]
async fn throws_away_what_a_client_without_a_window_has_not_taken() {
    let mut settings = client::Builder::new();
    settings.initial_window_size(0);
    let (session, _) = with(&settings, Config::new()).await;
    let mut stalled = session.ask(connect().header("x-push", "1")).await;
    assert_eq!(reset(&mut stalled).await, (Reason::CANCEL, 0));
}

#[tokio::test(start_paused = true)]
async fn resets_a_stream_whose_client_answers_no_ping() {
    let config = Config::new().keepalive(SECOND, SECOND);
    let (session, connections) = session(config).await;
    let mut silent = session.open().await;
    let start = Instant::now();
    let (reason, bytes) = reset(&mut silent).await;
    assert_eq!(reason, Reason::CANCEL);
    assert!(bytes > 0, "no ping has come");
    assert!((SECOND * 2..SECOND * 4).contains(&start.elapsed()));
    assert_eq!(
        connections
            .counts()
            .closed_as(Side::Local, CountedCode::None),
        1
    );
    session.open().await.echoes("hello").await;
}

#[tokio::test(start_paused = true)]
async fn resets_a_stream_that_is_aborted_at_a_shutdown() {
    let (session, connections) = session(Config::new()).await;
    let mut aborted = session.ask(connect().header("x-stay", "1")).await;
    connections.shutdown(Duration::ZERO).await;
    assert_eq!(reset(&mut aborted).await.0, Reason::CANCEL);
}

/// Answers no Close, and takes none either.
#[tokio::test(start_paused = true)]
async fn resets_a_stream_to_which_no_close_can_be_sent() {
    let mut settings = client::Builder::new();
    settings.initial_window_size(0);
    let (session, connections) = with(&settings, Config::new()).await;
    let start = Instant::now();
    let mut ended = session.ask(connect().header("x-end", "1")).await;
    assert_eq!(reset(&mut ended).await, (Reason::CANCEL, 0));
    // The time to close, and that of an ended stream to send the rest.
    let took = start.elapsed();
    assert!((SECOND * 6..SECOND * 7).contains(&took), "{took:?}");
    assert_eq!(connections.counts().open(), 0);
}

#[tokio::test(start_paused = true)]
async fn ends_a_stream_behind_a_close_that_is_not_answered() {
    for limit in [Duration::ZERO, SECOND * 5] {
        let (session, connections) = session(Config::new().close_timeout(limit)).await;
        let mut ended = session.ask(connect().header("x-end", "1")).await;
        assert_eq!(read_close(&mut ended).await, Some(1000), "{limit:?}");
        assert!(read_frame(&mut ended).await.is_none(), "{limit:?}");
        assert_eq!(ended.was_reset().await, Reason::NO_ERROR, "{limit:?}");
        assert_eq!(connections.counts().open(), 0, "{limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn resets_no_stream_that_is_closed() {
    let (session, connections) = session(Config::new()).await;
    let mut tunnel = session.open().await;
    tunnel.echoes("hello").await;
    write(&mut tunnel, &close(1000, "")).await;
    assert_eq!(read_close(&mut tunnel).await, Some(1000));
    assert!(read_frame(&mut tunnel).await.is_none());
    sleep(SECOND / 2).await;
    tunnel.end();
    sleep(SECOND * 5).await;
    assert!(tunnel.next().await.is_none());
    assert_eq!(connections.counts().open(), 0);
}

/// The answer that was sent in place of ours is not cut short with the handshake.
#[tokio::test(start_paused = true)]
async fn leaves_an_answer_alone_that_an_outer_layer_put_in_the_place_of_ours() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let accepting = layer.into_service();
    let outer = service_fn(move |request: Request<Incoming>| {
        let accepting = accepting.clone();
        async move {
            let accepted = accepting.oneshot(request).await?;
            assert_eq!(accepted.status(), StatusCode::OK);
            // Long enough for the connection's task to be waiting.
            sleep(SECOND).await;
            let body = Full::new(Bytes::from(vec![b'n'; 100_000]));
            let mut refusal = Response::new(body);
            *refusal.status_mut() = StatusCode::FORBIDDEN;
            Ok::<_, Infallible>(refusal)
        }
    });
    let mut settings = client::Builder::new();
    settings.initial_window_size(1 << 20);
    settings.initial_connection_window_size(1 << 20);
    let session = Session::with(&settings, serve(outer)).await;
    let mut refused = session.ask(connect()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(refused.text().await.len(), 100_000);
    assert_eq!(connections.counts().open(), 0);
}

/// The answer is sent after the handover of the stream has timed out.
#[tokio::test(start_paused = true)]
async fn resets_a_stream_that_comes_too_late() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let accepting = layer.into_service();
    let outer = service_fn(move |request: Request<Incoming>| {
        let accepting = accepting.clone();
        async move {
            let accepted = accepting.oneshot(request).await;
            sleep(SECOND * 60).await;
            accepted
        }
    });
    let session = Session::new(serve(outer)).await;
    let mut late = session.open().await;
    assert_eq!(connections.counts().open(), 0);
    assert_eq!(reset(&mut late).await, (Reason::CANCEL, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_request_is_answered_is_left_to_its_own_stream() {
    // The sibling answers no pings.
    let (session, _) = session(Config::new().without_keepalive()).await;
    let mut sibling = session.open().await;
    let mut stalled = session.ask(connect().header("x-push", "1")).await;
    assert!(get(&session, "/panics").await.is_err());
    sibling.echoes("hello").await;
    assert_eq!(get(&session, "/").await.unwrap().text().await, "plain");
    let reason = timeout(GUARD, stalled.was_reset()).await.unwrap();
    assert_eq!(reason, Reason::CANCEL);
    sibling.echoes("hello").await;
    session.open().await.echoes("hello").await;
}
