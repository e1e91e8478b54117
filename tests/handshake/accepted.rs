//! Handshakes that are accepted, in every form the RFC allows.

use http::{HeaderValue, header};
use tower_websocket::{Accept, WebSocketLayer};

use super::{accept, layer, numbered};
use crate::support::{
    handlers::Recorder,
    raw::{ANSWER, KEY, handshake, request, text, upgrade},
    tcp::serve,
};

#[tokio::test]
async fn answers_the_key_of_the_rfc_and_sends_nothing_that_was_not_asked_for() {
    let reply = accept(&handshake()).await;
    assert_eq!(
        reply.names(),
        ["connection", "sec-websocket-accept", "upgrade"]
    );
    assert_eq!(reply.field("sec-websocket-accept"), Some(ANSWER));
    assert!(
        reply
            .field("connection")
            .unwrap()
            .eq_ignore_ascii_case("upgrade")
    );
    assert!(
        reply
            .field("upgrade")
            .unwrap()
            .eq_ignore_ascii_case("websocket")
    );
}

#[tokio::test]
async fn agrees_to_no_extension_and_to_no_subprotocol_of_its_own() {
    let extensions = "permessage-deflate; client_max_window_bits";
    let request = handshake()
        .with("Sec-WebSocket-Extensions", extensions)
        .with("Sec-WebSocket-Protocol", "chat");
    let reply = accept(&request).await;
    assert_eq!(reply.field("sec-websocket-extensions"), None);
    assert_eq!(reply.field("sec-websocket-protocol"), None);
}

#[tokio::test]
async fn frames_no_body_in_a_101() {
    let handler = Recorder::deciding(|_| {
        Ok(Accept::new()
            .header(header::CONTENT_LENGTH, HeaderValue::from_static("7"))
            .header(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            ))
    });
    let app = axum::Router::new()
        .route("/ws", axum::routing::get(|| async { "not reached" }))
        .layer(layer(handler));
    // axum adds a `Content-Length` of zero, which hyper does not send.
    let (_, reply) = upgrade(serve(app).await, &handshake()).await;
    for name in ["content-length", "content-type", "transfer-encoding"] {
        assert_eq!(reply.field(name), None, "{name}");
    }
}

#[tokio::test]
async fn answers_on_each_of_its_paths() {
    let layer = WebSocketLayer::new(Recorder::new()).path("/a").path("/b");
    let server = serve(layer.into_service()).await;
    for path in ["/a", "/b", "/a?query", "http://example.com/b"] {
        let line = format!("GET {path} HTTP/1.1");
        upgrade(server, &handshake().line(&line)).await;
    }
}

#[tokio::test]
async fn accepts_every_spelling_the_rfc_allows() {
    for request in [
        handshake().replaced("Upgrade", "h2c, websocket"),
        handshake().replaced("Upgrade", "websocket,h2c"),
        handshake()
            .replaced("Upgrade", "h2c")
            .with("Upgrade", "websocket"),
        handshake().replaced("Upgrade", "WebSocket"),
        handshake().replaced("Upgrade", "WEBSOCKET"),
        handshake().replaced("Connection", "keep-alive, Upgrade"),
        handshake().replaced("Connection", "upgrade,keep-alive"),
        handshake()
            .replaced("Connection", "keep-alive")
            .with("Connection", "Upgrade"),
        handshake().replaced("Connection", "UPGRADE"),
        handshake().replaced("Connection", ", \tuPGRADE\t,"),
        handshake().with("Content-Length", "0"),
        // RFC 6455 §4.1 itself has a key whose unused bits are not zero.
        handshake().replaced("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEC=="),
        handshake().with("Origin", "http://example.com"),
        handshake().with("Origin", "https://EXAMPLE.com"),
        handshake()
            .replaced("Host", "example.com:8080")
            .with("Origin", "http://example.com:8080"),
        handshake().line("GET /ws?token=1 HTTP/1.1"),
        // The target's own authority wins (RFC 9112 §3.2.2).
        handshake()
            .line("GET http://example.com/ws HTTP/1.1")
            .replaced("Host", "proxy.example")
            .with("Origin", "http://example.com"),
        request("GET /ws HTTP/1.1")
            .with("host", "example.com")
            .with("UPGRADE", "websocket")
            .with("connection", "Upgrade")
            .with("SEC-WEBSOCKET-KEY", KEY)
            .with("sec-websocket-version", "13"),
    ] {
        accept(&request).await;
    }
}

#[tokio::test]
async fn accepts_lists_up_to_their_limits() {
    let parameters = format!("x{}", "; p=1".repeat(16));
    accept(&handshake().with("Sec-WebSocket-Protocol", &numbered(32))).await;
    accept(&handshake().with("Sec-WebSocket-Extensions", &[&*parameters; 8].join(", "))).await;
}

#[tokio::test]
async fn processes_frames_that_came_with_the_handshake() {
    let service = layer(Recorder::new()).into_service();
    let second = text("second");
    let (begun, rest) = second.split_at(3);
    let request = handshake().followed_by(text("first")).followed_by(begun);
    let (mut client, _) = upgrade(serve(service).await, &request).await;
    assert_eq!(client.text().await, "first");
    client.write(rest).await;
    assert_eq!(client.text().await, "second");
}
