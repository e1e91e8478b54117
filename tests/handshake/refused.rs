//! Handshakes that are refused before the handler is called.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use http::{HeaderValue, Request, StatusCode};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tower::{Service, ServiceExt};
use tower_websocket::{OriginPolicy, error::HandshakeError};

use super::{layer, numbered, promised, refuse, refuse_unasked};
use crate::support::{
    handlers::Recorder,
    raw::{KEY, Reply, exchange, handshake, handshake_head, upgrade},
    tcp::serve,
};

#[tokio::test]
async fn refuses_methods_other_than_get_with_405() {
    for method in [
        "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "BREW",
    ] {
        let request = handshake().line(&format!("{method} /ws HTTP/1.1"));
        let reply = refuse_unasked(&request, HandshakeError::InvalidMethod).await;
        assert_eq!(reply.status, 405);
        assert_eq!(reply.field("allow"), Some("GET"), "method {method}");
        assert_eq!(reply.body.is_empty(), method == "HEAD", "method {method}");
    }
}

#[tokio::test]
async fn refuses_a_handshake_without_upgrade_in_connection_with_400() {
    for request in [
        handshake().without("Connection"),
        handshake().replaced("Connection", ""),
        handshake().replaced("Connection", "keep-alive"),
        handshake().replaced("Connection", "close"),
        handshake().replaced("Connection", "no-upgrade"),
        handshake().replaced("Connection", "upgrade-insecure"),
        handshake().replaced("Connection", "keep-alive upgrade"),
        handshake().replaced("Connection", "\"upgrade\""),
        handshake()
            .replaced("Connection", "up")
            .with("Connection", "grade"),
    ] {
        let reply = refuse_unasked(&request, HandshakeError::MissingConnectionUpgrade).await;
        assert_eq!(reply.status, 400);
    }
}

#[tokio::test]
async fn refuses_a_handshake_without_exactly_one_host_with_400() {
    for request in [
        handshake().without("Host"),
        handshake().with("Host", "example.com"),
        handshake().with("Host", "example.org"),
        handshake()
            .line("GET http://example.com/ws HTTP/1.1")
            .without("Host"),
    ] {
        let reply = refuse_unasked(&request, HandshakeError::InvalidHost).await;
        assert_eq!(reply.status, 400);
    }
}

#[tokio::test]
async fn refuses_a_host_that_is_not_a_host_with_400() {
    for host in ["a b", "example.com/", "user@example.com", "example.com:x"] {
        let request = handshake().replaced("Host", host);
        refuse_unasked(&request, HandshakeError::InvalidHost).await;
    }
}

#[tokio::test]
async fn refuses_a_key_that_is_not_sixteen_bytes_given_once_with_400() {
    let key = |key| handshake().replaced("Sec-WebSocket-Key", key);
    for request in [
        handshake().without("Sec-WebSocket-Key"),
        handshake().with("Sec-WebSocket-Key", KEY),
        handshake().with("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        key(""),
        key("AAA"),
        key("AAAA"),
        // 15 and 17 bytes.
        key("dGhlIHNhbXBsZSBub25j"),
        key("dGhlIHNhbXBsZSBub25jZSE="),
        // Not padded, padded too much, not the alphabet.
        key("dGhlIHNhbXBsZSBub25jZQ"),
        key("dGhlIHNhbXBsZSBub25jZQ==="),
        key("-_hlIHNhbXBsZSBub25jZQ=="),
        key("dGhlIHNhbXBs ZSBub25jZQ=="),
        key("dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        let reply = refuse_unasked(&request, HandshakeError::InvalidKey).await;
        assert_eq!(reply.status, 400);
    }
}

#[tokio::test]
async fn refuses_versions_other_than_13_with_426_and_names_13() {
    let version = |version| handshake().replaced("Sec-WebSocket-Version", version);
    for request in [
        handshake().without("Sec-WebSocket-Version"),
        handshake().with("Sec-WebSocket-Version", "13"),
        version(""),
        version("0"),
        version("8"),
        version("12"),
        version("14"),
        version("013"),
        version("13.0"),
        version("13, 8"),
        // A key that only another version has.
        version("8").without("Sec-WebSocket-Key"),
    ] {
        let reply = refuse_unasked(&request, HandshakeError::UnsupportedVersion).await;
        assert_eq!(reply.status, 426);
        assert_eq!(reply.field("sec-websocket-version"), Some("13"));
        assert_eq!(reply.field("upgrade"), Some("websocket"));
        // RFC 9110 §7.8: a sender of `Upgrade` names it in `Connection`, too.
        let connection = reply.field("connection").unwrap();
        assert!(
            connection.split(", ").any(|option| option == "upgrade"),
            "{connection}"
        );
    }
}

#[tokio::test]
async fn refuses_a_request_body_with_400() {
    for request in [
        handshake().with("Content-Length", "5").followed_by("Hello"),
        handshake()
            .with("Transfer-Encoding", "chunked")
            .followed_by("5\r\nHello\r\n0\r\n\r\n"),
        handshake()
            .with("Transfer-Encoding", "chunked")
            .followed_by("0\r\n\r\n"),
    ] {
        let reply = refuse_unasked(&request, HandshakeError::UnexpectedBody).await;
        assert_eq!(reply.status, 400);
    }
}

fn denied(origin: &'static str) -> HandshakeError {
    HandshakeError::OriginDenied {
        origin: HeaderValue::from_static(origin),
        host: "example.com".into(),
    }
}

#[tokio::test]
async fn refuses_pages_of_other_origins_with_403() {
    for origin in [
        "http://evil.example",
        "http://example.com.evil.example",
        "http://notexample.com",
        "http://example.com:8080",
        "example.com",
        "null",
        "",
    ] {
        let request = handshake().with("Origin", origin);
        let reply = refuse_unasked(&request, denied(origin)).await;
        assert_eq!(reply.status, 403, "origin {origin:?}");
    }
    let same = "http://example.com";
    let twice = handshake().with("Origin", same).with("Origin", same);
    refuse_unasked(&twice, denied("http://example.com, http://example.com")).await;
}

#[tokio::test]
async fn asks_the_origin_policy_of_the_layer() {
    let page = |origin| handshake().with("Origin", origin);
    let policy = OriginPolicy::same_host()
        .allow("https://*.example.org")
        .unwrap();
    let listed = layer(Recorder::new()).origin(policy);
    let server = serve(listed.clone().into_service()).await;
    upgrade(server, &page("https://app.example.org")).await;
    let other = "https://example.org";
    refuse(listed, &page(other), denied(other)).await;

    let open = layer(Recorder::new()).origin(OriginPolicy::insecure_any());
    upgrade(
        serve(open.into_service()).await,
        &page("http://evil.example"),
    )
    .await;
}

#[tokio::test]
async fn refuses_malformed_and_endless_lists_with_400() {
    let name = "Sec-WebSocket-Protocol";
    for request in [
        handshake().with(name, ""),
        handshake().with(name, ","),
        handshake().with(name, "two words"),
        handshake().with(name, "\"chat\""),
        handshake().with(name, "chat, chat"),
        handshake().with(name, "chat").with(name, "chat"),
        handshake().with(name, &numbered(33)),
        handshake().with(name, &numbered(32)).with(name, "last"),
    ] {
        let reply = refuse_unasked(&request, HandshakeError::InvalidSubprotocols).await;
        assert_eq!(reply.status, 400);
    }
    let name = "Sec-WebSocket-Extensions";
    for request in [
        handshake().with(name, ""),
        handshake().with(name, "foo;"),
        handshake().with(name, "foo; a="),
        handshake().with(name, "foo; a=\"b c\""),
        handshake().with(name, &["x"; 9].join(", ")),
        handshake().with(name, &["x"; 8].join(", ")).with(name, "x"),
        handshake().with(name, &format!("x{}", "; p=1".repeat(17))),
    ] {
        let reply = refuse_unasked(&request, HandshakeError::InvalidExtensions).await;
        assert_eq!(reply.status, 400);
    }
}

#[tokio::test]
async fn answers_500_without_the_promise_of_a_connection_and_names_it_in_the_log() {
    #[cfg(feature = "tracing")]
    let (mut log, _guard) = crate::support::log::capture();
    let handler = Recorder::new();
    let service = layer(handler.clone()).into_service();
    let server = serve(service.map_request(|mut request: Request<Incoming>| {
        request.extensions_mut().remove::<OnUpgrade>().unwrap();
        request
    }));
    let reply = Reply::parse(&exchange(server.await, &handshake()).await);
    assert_eq!(reply.status, 500);
    assert_eq!(reply.field("connection"), Some("close"));
    assert_eq!(handler.calls(), ["accept"]);
    #[cfg(feature = "tracing")]
    log.names("ERROR", "OnUpgrade").await;
}

#[test]
fn answers_500_outside_of_tokio() {
    let handler = Recorder::new();
    let mut service = layer(handler.clone()).into_service();
    let answer = pin!(service.call(promised(handshake_head())));
    let Poll::Ready(answer) = answer.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("nothing can be waited for");
    };
    assert_eq!(answer.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(handler.calls(), [""; 0]);
}
