//! A server that allows extended CONNECT without the feature `http2` logs that, once in a process.

#![cfg(all(feature = "tracing", not(feature = "http2")))]

mod support;

use http2::{Session, connect, serve};
use support::{http2, log};
use tower_websocket::{Echo, WebSocketLayer};

#[tokio::test]
async fn says_at_info_level_once_what_is_wrong() {
    let (log, _guard) = log::capture();
    let layer = WebSocketLayer::new(Echo::new()).path("/ws");
    for _ in 0..2 {
        let session = Session::new(serve(layer.clone().into_service())).await;
        session.ask(connect()).await;
        session.ask(connect()).await;
    }
    assert_eq!(log.count("turn it on"), 1);
    assert_eq!(log.count(" INFO"), 1);
    assert_eq!(log.count("an extended CONNECT is passed on"), 4);
}
