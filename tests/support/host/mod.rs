//! Tests that every host has to pass, with the clients of hyper and tokio-tungstenite.
//!
//! The tests of the member `tests/hosts` include it, too.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

pub(crate) mod plain;
pub(crate) mod websocket;

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use tokio::net::TcpListener;

use self::{
    plain::{assert_mirrored, get, handshake},
    websocket::{Client, assert_closes, assert_echoes, connect},
};

/// The body of `GET /hello` on every server that is tested.
pub(crate) const HELLO: &str = "hello over HTTP";

/// Listens on a free port of the loopback interface.
pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Fails a test that hangs. Nothing that passes waits for it.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    let limit = Duration::from_secs(60);
    let output = tokio::time::timeout(limit, future).await;
    output.unwrap_or_else(|_| panic!("nothing happened for {limit:?}"))
}

/// Asserts that a server serves plain HTTP and WebSockets side by side.
///
/// The server answers `GET /hello` with [`HELLO`], everything on `/mirror` with [`plain::mirror`],
/// and has a WebSocket that echoes unchanged at `socket`.
pub(crate) async fn assert_serves_both(address: SocketAddr, socket: &str) {
    within(async {
        assert_hello(address).await;
        let mut client = connect(address, socket).await;
        assert_echoes(&mut client).await;
        assert_passes_the_rest(address).await;
        assert_hello(address).await;
        assert_echoes(&mut client).await;
        assert_closes(client).await;
        assert_hello(address).await;
    })
    .await;
}

/// Opens a connection and asserts that plain HTTP is answered meanwhile.
pub(crate) async fn connect_beside_http(address: SocketAddr, socket: &str) -> Client {
    let mut client = connect(address, socket).await;
    assert_hello(address).await;
    assert_echoes(&mut client).await;
    client
}

/// Asserts that `GET /hello` is answered.
pub(crate) async fn assert_hello(address: SocketAddr) {
    let response = get(address, "/hello").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.body(), HELLO);
}

/// Asserts that requests that are not the layer's reach the mirror as they were sent.
async fn assert_passes_the_rest(address: SocketAddr) {
    let host = address.to_string();

    let post = Request::post("/mirror?a=1&b=%20")
        .header(header::HOST, &host)
        .header("x-custom", "kept");
    let body = Full::new(Bytes::from("line\n".repeat(10_000)));
    assert_mirrored(address, post.body(body).unwrap()).await;

    let other_protocol = Request::get("/mirror")
        .header(header::HOST, &host)
        .header(header::CONNECTION, "Upgrade, HTTP2-Settings")
        .header(header::UPGRADE, "h2c")
        .header("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA");
    assert_mirrored(address, other_protocol.body(Full::default()).unwrap()).await;

    assert_mirrored(address, handshake(address, "/mirror")).await;
}
