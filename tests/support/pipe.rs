//! Connections in memory, served by hyper, so that the clock can be stopped.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, duplex},
    time::{sleep, timeout},
};
use tower::Service;
use tower_websocket::{
    BoxError, Config, Connections, Counts, Handler, IntoHandler, ResponseBody, WebSocket,
    WebSocketLayer,
};

use super::wire;

/// A timeout that is longer than any wait here.
const GUARD: Duration = Duration::from_secs(30);

/// A service as an HTTP server takes it.
pub(crate) trait HttpService:
    Service<
        Request<Incoming>,
        Response = Response<<Self as HttpService>::Body>,
        Error: Into<BoxError>,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
    S: Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
}

/// A service of this crate. Its inner service answers with strings.
pub(crate) trait Served: HttpService<Body = ResponseBody<String>> {}

impl<S: HttpService<Body = ResponseBody<String>>> Served for S {}

/// Makes a socket on a stream that holds `capacity` bytes in each direction. Returns the peer's end as well.
pub(crate) fn socket(config: Config, capacity: usize) -> (WebSocket, DuplexStream) {
    let (server, client) = duplex(capacity);
    (WebSocket::from_io(server, config), client)
}

/// Serves one connection, which holds `capacity` bytes in each direction.
pub(crate) fn serve(service: impl Served, capacity: usize) -> DuplexStream {
    let (server, client) = duplex(capacity);
    serve_on(server, service);
    client
}

/// Serves a stream. The service may have any body. Errors are ignored: the client sees how the connection ends.
pub(crate) fn serve_on(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: impl HttpService,
) {
    let service = TowerToHyperService::new(service);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::spawn(connection.with_upgrades());
}

/// Serves one connection, which holds `capacity` bytes in each direction, and opens a WebSocket on
/// it at `/`.
pub(crate) async fn open(service: impl Served, capacity: usize) -> DuplexStream {
    let mut client = serve(service, capacity);
    wire::upgrade(&mut client, &wire::handshake("/")).await;
    client
}

/// Opens a WebSocket of a handler, over a pipe of 4 KiB; returns its layer's connections as well.
pub(crate) async fn attach<M>(
    handler: impl IntoHandler<M, Handler: Handler>,
) -> (DuplexStream, Connections) {
    attach_layer(WebSocketLayer::new(handler), 4096).await
}

/// Opens a WebSocket of a layer; returns the layer's connections as well.
pub(crate) async fn attach_layer<H: Handler>(
    layer: WebSocketLayer<H>,
    capacity: usize,
) -> (DuplexStream, Connections) {
    let connections = layer.connections();
    (open(layer.into_service(), capacity).await, connections)
}

/// Serves one connection and sends a request on it; returns the head of the answer and the
/// connection.
pub(crate) async fn ask(service: impl Served, request: &str) -> (String, DuplexStream) {
    let mut client = serve(service, 64 * 1024);
    let asked = async {
        wire::write(&mut client, request.as_bytes()).await;
        wire::read_head(&mut client).await
    };
    let head = timeout(GUARD, asked).await.unwrap();
    (head, client)
}

/// Asks a layer for a WebSocket at `path`, with further lines, each with its end; returns the head of
/// the answer and the connection.
pub(crate) async fn ask_at<H: Handler>(
    layer: &WebSocketLayer<H>,
    path: &str,
    lines: &str,
) -> (String, DuplexStream) {
    let request = wire::handshake_with(path, lines);
    ask(layer.clone().into_service(), &request).await
}

/// Asks a layer for a WebSocket at `path` as a user, whom `X-User` names.
pub(crate) async fn ask_as<H: Handler>(
    layer: &WebSocketLayer<H>,
    path: &str,
    user: &str,
) -> (String, DuplexStream) {
    ask_at(layer, path, &format!("X-User: {user}\r\n")).await
}

/// Opens a WebSocket at `path` of a layer as a user; returns the first message of the handler.
pub(crate) async fn greeting<H: Handler>(
    layer: &WebSocketLayer<H>,
    path: &str,
    user: &str,
) -> String {
    let (head, mut client) = ask_as(layer, path, user).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let first = timeout(GUARD, wire::read_frame(&mut client)).await;
    String::from_utf8(first.unwrap().unwrap().payload).unwrap()
}

/// Asks a layer for a WebSocket at `path`; returns the status of the answer and the connection.
pub(crate) async fn knock<H: Handler>(
    layer: &WebSocketLayer<H>,
    path: &str,
) -> (u16, DuplexStream) {
    let (head, client) = ask_at(layer, path, "").await;
    (wire::status(&head), client)
}

/// Opens a WebSocket at `path` of a layer.
pub(crate) async fn open_at<H: Handler>(layer: &WebSocketLayer<H>, path: &str) -> DuplexStream {
    let (status, client) = knock(layer, path).await;
    assert_eq!(status, 101, "{path}");
    client
}

/// Opens this many WebSockets at `/` of a layer.
pub(crate) async fn open_many<H: Handler>(
    layer: &WebSocketLayer<H>,
    count: usize,
) -> Vec<DuplexStream> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(open_at(layer, "/").await);
    }
    clients
}

/// Waits under a paused clock until this many connections are open.
pub(crate) async fn until_open(connections: &Connections, open: usize) {
    until(connections, |counts| counts.open() == open).await;
}

/// Waits under a paused clock until no connection is open, and returns the counts.
pub(crate) async fn until_idle(connections: &Connections) -> Counts {
    until(connections, |counts| counts.open() == 0).await
}

/// Waits under a paused clock until the counts fulfil a condition, and returns them.
pub(crate) async fn until(
    connections: &Connections,
    condition: impl Fn(&Counts) -> bool,
) -> Counts {
    for _ in 0..100_000 {
        let counts = connections.counts();
        if condition(&counts) {
            return counts;
        }
        sleep(Duration::from_millis(1)).await;
    }
    panic!("not reached in 100 s: {connections:?}");
}
