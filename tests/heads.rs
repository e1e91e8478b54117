//! The maximum size of a handshake's head, and the response to a larger one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use tower_websocket::WebSocketLayer;

#[cfg(feature = "http2")]
use support::http2;
use support::{
    handlers::Recorder,
    raw::{Head, Reply, exchange, handshake, upgrade},
    tcp::serve,
};

fn with_cookie(len: usize) -> Head {
    handshake().with("Cookie", &"x".repeat(len))
}

/// Returns the text of a 431.
async fn refused(layer: &WebSocketLayer<Recorder>, request: &Head) -> String {
    let server = serve(layer.clone().into_service()).await;
    let reply = Reply::parse(&exchange(server, request).await);
    assert_eq!(reply.status, 431);
    String::from_utf8(reply.body).unwrap()
}

#[tokio::test]
async fn a_431_says_how_much_is_too_much_and_of_what() {
    let layer = WebSocketLayer::new(Recorder::new());
    let text = refused(&layer, &with_cookie(20_000)).await;
    let (size, rest) = text.split_once(" bytes, ").unwrap();
    let size: usize = size.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((20_100..20_300).contains(&size), "{text}");
    assert_eq!(rest, "16384 are allowed; cookie has most");

    let target = format!("GET /ws?token={} HTTP/1.1", "x".repeat(20_000));
    let text = refused(&layer, &handshake().line(&target)).await;
    assert!(text.ends_with("; the target has most"), "{text}");
    let name = "x".repeat(20_000);
    let text = refused(&layer, &handshake().with(&name, "1")).await;
    assert!(text.contains("; xxxxx") && text.len() < 300, "{text}");
}

#[tokio::test]
async fn a_larger_head_can_be_allowed() {
    let layer = WebSocketLayer::new(Recorder::new()).max_head_size(64 * 1024);
    let server = serve(layer.clone().into_service()).await;
    upgrade(server, &with_cookie(60 * 1024)).await;
    let text = refused(&layer, &with_cookie(64 * 1024)).await;
    assert!(text.contains("65536 are allowed"), "{text}");
    let none = WebSocketLayer::new(Recorder::new()).max_head_size(0);
    refused(&none, &handshake()).await;
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn cookies_of_several_fields_count_together_over_http2() {
    let layer = WebSocketLayer::new(Recorder::new()).max_head_size(8 * 1024);
    let session = http2::Session::new(http2::serve(layer.into_service())).await;
    let ask = |cookies| {
        let request = http2::connect().header("x-large", "x".repeat(3 * 1024));
        (0..cookies).fold(request, |request, _| {
            request.header("cookie", "x".repeat(1024))
        })
    };
    assert_eq!(session.ask(ask(4)).await.status.as_u16(), 200);
    let mut refused = session.ask(ask(5)).await;
    assert_eq!(refused.status.as_u16(), 431);
    let text = refused.text().await;
    assert!(
        text.ends_with("8192 are allowed; cookie has most"),
        "{text}"
    );
    // That much hyper refuses by itself, without a text.
    let mut refused = session.ask(ask(16)).await;
    assert_eq!(refused.status.as_u16(), 431);
    assert_eq!(refused.text().await, "");
}

#[cfg(feature = "tracing")]
#[tokio::test]
async fn the_log_names_the_setting() {
    let (mut log, _guard) = support::log::capture();
    let layer = WebSocketLayer::new(Recorder::new());
    refused(&layer, &with_cookie(20_000)).await;
    log.names(
        "INFO",
        "cookie has most; see `WebSocketLayer::max_head_size`",
    )
    .await;
}
