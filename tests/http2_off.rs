//! Without the feature `http2` no request over HTTP/2 is a handshake.

#![cfg(not(feature = "http2"))]

mod support;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use http2::{Session, bare_connect, connect, serve};
use support::http2;
use tower::{Layer, service_fn};
use tower_websocket::{Echo, WebSocketLayer, WebSocketService};

#[tokio::test]
async fn passes_every_connect_on() {
    let inner = service_fn(async |request: Request<_>| {
        let _: hyper::body::Incoming = request.into_body();
        let mut response = Response::new(Full::<Bytes>::default());
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        Ok::<_, Infallible>(response)
    });
    let session = Session::new(serve(WebSocketLayer::new(Echo::new()).layer(inner))).await;
    for request in [connect(), bare_connect("connect-udp")] {
        let passed = session.ask(request).await;
        assert_eq!(passed.status, StatusCode::IM_A_TEAPOT);
    }
}

#[tokio::test]
async fn a_service_without_an_inner_one_says_what_it_speaks() {
    let session = Session::new(serve(WebSocketService::new(Echo::new()))).await;
    for request in [connect(), bare_connect("connect-udp")] {
        let mut refused = session.ask(request).await;
        assert_eq!(refused.status, StatusCode::UPGRADE_REQUIRED);
        assert_eq!(
            refused.text().await,
            "websockets are not served over HTTP/2 here: connect over HTTP/1.1"
        );
    }
}
