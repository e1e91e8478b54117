//! Tests the layer around tonic's router, on axum's server and on tonic's own server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../support/host/mod.rs"]
mod host;
#[path = "../../support/log.rs"]
mod log;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    task::{Context, Poll},
};

use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{
    body::Body,
    server::NamedService,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tower::Service;
use tower_websocket::{Echo, WebSocketLayer};

use crate::host::{
    HELLO, assert_serves_both, connect_beside_http, listen, plain,
    websocket::{assert_closes, assert_echoes},
    within,
};

/// A named service like those that tonic generates. It repeats the body of every call.
#[derive(Clone, Debug)]
struct Repeat;

impl NamedService for Repeat {
    const NAME: &'static str = "test.Repeat";
}

impl Service<Request<Body>> for Repeat {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let body = request
            .into_body()
            .with_trailers(async { Some(Ok(trailers)) });
        let response = Response::builder().header(header::CONTENT_TYPE, "application/grpc");
        ready(Ok(response.body(Body::new(body)).unwrap()))
    }
}

/// Calls [`Repeat`] over HTTP/2 as a gRPC client does.
async fn assert_repeats(address: SocketAddr) {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let client = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
    let (mut client, connection) = client.unwrap();
    tokio::spawn(connection);

    // A gRPC message: not compressed, five bytes long.
    let message = Bytes::from_static(b"\0\0\0\0\x05Hello");
    let call = Request::post(format!("http://{address}/test.Repeat/Once"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(message.clone()))
        .unwrap();
    let response = client.send_request(call).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(
        body.trailers().expect("gRPC has trailers")["grpc-status"],
        "0"
    );
    assert_eq!(body.to_bytes(), message);
}

#[tokio::test]
async fn axum_serves_sockets_beside_the_routes_of_tonic() {
    let app = Routes::new(Repeat)
        .into_axum_router()
        .route("/hello", get(|| async { HELLO }))
        .route("/mirror", axum::routing::any(plain::mirror))
        .layer(WebSocketLayer::new(Echo::new()).path("/ws"));
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, app).await });

    assert_serves_both(address, "/ws").await;
    within(async {
        assert_repeats(address).await;
        let mut client = connect_beside_http(address, "/ws").await;
        assert_repeats(address).await;
        assert_echoes(&mut client).await;
        assert_closes(client).await;
    })
    .await;
}

#[tokio::test]
async fn server_of_tonic_does_not_hand_out_its_connections() {
    let (mut log, _guard) = log::capture();
    let (listener, address) = listen().await;
    tokio::spawn(
        Server::builder()
            .accept_http1(true)
            .layer(WebSocketLayer::new(Echo::new()).path("/ws"))
            .add_service(Repeat)
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
    within(async {
        assert_repeats(address).await;

        // The client reads the 101, and then the end of the connection.
        let mut stream = TcpStream::connect(address).await.unwrap();
        let handshake = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(handshake.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, rest) = answer.split_once("\r\n\r\n").expect("a whole head");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(rest, "");
    })
    .await;
    log.names("ERROR", "`with_upgrades`").await;
}
