//! A Close in place of a response, and clients that do not answer it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use http::request::Parts;
use pipe::serve;
use support::{pipe, wire};
use tokio::{
    io::{AsyncReadExt, DuplexStream},
    task::yield_now,
    time::Instant,
};
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Config, Connections, Handler, Refusal, WebSocket,
    WebSocketLayer, decide,
};
use wire::{CLOSE, FIN, read_frame, read_head};

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

fn layer() -> WebSocketLayer<impl Handler> {
    let accept = async |_: &mut Parts| -> Result<(Accept, ()), Refusal> {
        let frame = CloseFrame::new(CloseCode::new(4401)?, "token expired")?;
        Err(Refusal::close(frame))
    };
    let handle = async |_: WebSocket, ()| Ok::<_, BoxError>(());
    let config = Config::new().close_timeout(CLOSE_TIMEOUT);
    WebSocketLayer::new(decide(accept, handle)).config(config)
}

/// Sends a handshake that is accepted, and reads nothing of what comes back.
async fn ask(layer: &WebSocketLayer<impl Handler>, room: usize) -> DuplexStream {
    let mut client = serve(layer.clone().into_service(), room);
    wire::write(&mut client, wire::handshake("/ws").as_bytes()).await;
    while layer.connections().counts().accepted() == 0 {
        yield_now().await;
    }
    client
}

/// Reads the 101, one Close and the end.
async fn assert_closed(mut client: DuplexStream) {
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 101 "));
    let frame = read_frame(&mut client).await.unwrap();
    assert_eq!(frame.first, FIN | CLOSE);
    assert_eq!(frame.payload, b"\x11\x31token expired");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

async fn until_idle(connections: &Connections) -> Duration {
    let begin = Instant::now();
    connections.wait().await;
    begin.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_holds_its_place_for_the_close_timeout() {
    let layer = layer();
    let client = ask(&layer, 64 * 1024).await;
    let took = until_idle(&layer.connections()).await;
    let bound = CLOSE_TIMEOUT..CLOSE_TIMEOUT + Duration::from_millis(100);
    assert!(bound.contains(&took), "{took:?}");
    assert_closed(client).await;
    assert_eq!(layer.connections().counts().lingering(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_holds_its_place_for_a_bounded_time() {
    // Room for less than the 101, then for less than the Close behind it.
    for room in [150, 64] {
        let layer = layer();
        let _client = ask(&layer, room).await;
        let took = until_idle(&layer.connections()).await;
        assert!(took <= Duration::from_secs(60), "{room}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_holds_no_place() {
    let layer = layer();
    drop(ask(&layer, 64 * 1024).await);
    let took = until_idle(&layer.connections()).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_sends_no_second_close() {
    let layer = layer();
    let client = ask(&layer, 64 * 1024).await;
    let connections = layer.connections();
    let report = connections.shutdown(Duration::from_secs(30)).await;
    assert_eq!((report.clean, report.aborted), (0, 1));
    assert_closed(client).await;
}
