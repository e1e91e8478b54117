//! The refusals of a handler, and the responses that clients get.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{convert::Infallible, net::IpAddr};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Version, header, request::Parts};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tower::ServiceExt;
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, CountedCode, Handler, Refusal, Side, WebSocket,
    WebSocketLayer, decide, error::HandshakeError, offered_subprotocols,
};

use support::{
    handlers::Recorder,
    raw::{Reply, exchange, handshake, handshake_head, text, upgrade},
    tcp::serve,
    wire, within,
};

/// Refuses everything in one way.
fn refusing(refusal: Refusal) -> Recorder {
    Recorder::deciding(move |_| Err(Box::new(refusal.clone())))
}

/// Returns the answer to a handshake that the handler refuses.
async fn refused(refusal: Refusal) -> Reply {
    let handler = refusing(refusal);
    let service = WebSocketLayer::new(handler.clone()).into_service();
    // The bytes after a handshake are frames for the client, so they must not be answered.
    let request = handshake().followed_by("GET /second HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let reply = Reply::parse(&exchange(serve(service).await, &request).await);
    assert_eq!(handler.calls(), ["accept"]);
    assert_eq!(reply.field("transfer-encoding"), None);
    reply
}

fn frame_4401() -> CloseFrame {
    CloseFrame::new(CloseCode::new(4401).unwrap(), "token expired").unwrap()
}

// Responses

#[tokio::test]
async fn texts_are_plain_and_not_sniffed() {
    for refusal in [
        Refusal::unauthorized(),
        Refusal::unauthorized().message("<script>alert(1)</script>"),
        Refusal::unauthorized().message(String::from("made")),
        Refusal::from(Response::builder().status(401).body("a response").unwrap()),
    ] {
        let body = refusal.body().clone();
        let reply = refused(refusal).await;
        assert_eq!((reply.status, &*reply.body), (401, &*body));
        let plain = Some("text/plain; charset=utf-8");
        assert_eq!(reply.field("content-type"), plain);
        assert_eq!(reply.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.field("connection"), Some("close"));
    }
}

#[tokio::test]
async fn refusals_of_the_crate_are_plain_and_not_sniffed() {
    let server = serve(WebSocketLayer::new(Recorder::new()).into_service()).await;
    let plain_get = handshake()
        .without("Upgrade")
        .replaced("Connection", "close");
    for request in [
        handshake().replaced("Sec-WebSocket-Version", "8"),
        handshake().with("Origin", "https://<b>.example"),
        handshake().without("Host"),
        plain_get,
    ] {
        let reply = Reply::parse(&exchange(server, &request).await);
        assert!(reply.status >= 400, "{request}");
        let plain = Some("text/plain; charset=utf-8");
        assert_eq!(reply.field("content-type"), plain, "{request}");
        let options = reply.field("x-content-type-options");
        assert_eq!(options, Some("nosniff"), "{request}");
    }
}

#[tokio::test]
async fn a_response_is_sent_as_it_is() {
    #[derive(Clone)]
    struct Mark;

    let response = Response::builder()
        .status(402)
        .header("content-type", "application/problem+json")
        .header("x-price", "3")
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2")
        // These are about another connection.
        .header("connection", "keep-alive, x-hop")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("content-length", "99")
        .header("transfer-encoding", "chunked")
        .extension(Mark)
        .body(vec![0, 159, 146, 150])
        .unwrap();
    let refusal = Refusal::from(response);
    assert_eq!(refusal.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(refusal.headers()["x-price"], "3");
    assert_eq!(&refusal.body()[..], [0, 159, 146, 150]);

    let reply = refused(refusal.clone()).await;
    assert_eq!(reply.status, 402);
    assert_eq!(reply.body, [0, 159, 146, 150]);
    assert_eq!(reply.all("set-cookie"), ["a=1", "b=2"]);
    let names = [
        "connection",
        "content-length",
        "content-type",
        "set-cookie",
        "set-cookie",
        "x-price",
    ];
    assert_eq!(reply.names(), names);
    assert_eq!(reply.field("connection"), Some("close"));

    let service = WebSocketLayer::new(refusing(refusal)).into_service();
    let response = service.oneshot(handshake_head()).await.unwrap();
    assert!(response.extensions().get::<Mark>().is_some());
}

#[tokio::test]
async fn a_response_of_any_version_is_sent_in_that_of_the_connection() {
    for version in [
        Version::HTTP_09,
        Version::HTTP_10,
        Version::HTTP_2,
        Version::HTTP_3,
    ] {
        let response = Response::builder().status(402).version(version);
        let refusal = Refusal::from(response.body("pay first").unwrap());
        let reply = refused(refusal).await;
        assert_eq!((reply.status, &*reply.body), (402, &b"pay first"[..]));
    }
}

#[tokio::test]
async fn a_status_without_a_body_gets_none() {
    let response = Response::builder().status(304).header("etag", "\"a\"");
    for refusal in [
        Refusal::new(StatusCode::NOT_MODIFIED),
        Refusal::from(response.body("a page").unwrap()),
    ] {
        let service = WebSocketLayer::new(refusing(refusal.clone())).into_service();
        let response = service.oneshot(handshake_head()).await.unwrap();
        assert_eq!(response.status(), 304);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "");
        let reply = refused(refusal).await;
        assert_eq!((reply.status, &*reply.body), (304, &b""[..]));
        assert_eq!(reply.field("content-type"), None);
    }
}

#[tokio::test]
async fn an_upgrade_that_is_relayed_is_named_in_connection() {
    let response = Response::builder()
        .status(426)
        .header("upgrade", "websocket")
        .header("connection", "upgrade")
        .header("sec-websocket-version", "13")
        .body("another version, please")
        .unwrap();
    let reply = refused(response.into()).await;
    assert_eq!(reply.field("upgrade"), Some("websocket"));
    assert_eq!(reply.field("connection"), Some("close, upgrade"));
    assert_eq!(reply.field("sec-websocket-version"), Some("13"));
}

#[tokio::test]
async fn a_response_without_a_failure_is_answered_500() {
    for status in [101, 200, 204, 206] {
        let response = Response::builder().status(status).body("fine").unwrap();
        assert_eq!(refused(response.into()).await.status, 500, "{status}");
    }
}

#[tokio::test]
async fn json_is_sent_with_its_type() {
    for refusal in [
        Refusal::forbidden().json(r#"{"error":"no"}"#),
        Refusal::forbidden().json(br#"{"error":"no"}"#.to_vec()),
        // The last call counts.
        Refusal::forbidden()
            .message("text")
            .json(r#"{"error":"no"}"#.to_owned()),
    ] {
        let reply = refused(refusal).await;
        assert_eq!(
            (reply.status, &*reply.body),
            (403, &br#"{"error":"no"}"#[..])
        );
        assert_eq!(reply.field("content-type"), Some("application/json"));
        assert_eq!(reply.field("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn a_body_of_any_kind_is_collected() {
    let frames = ["one", " and ", "two"].map(|text| Ok(Frame::data(Bytes::from(text))));
    let frames: Vec<Result<_, Infallible>> = frames.into();
    let streamed = StreamBody::new(futures_util::stream::iter(frames));
    let response = Response::builder().status(409).body(streamed).unwrap();
    let refusal = Refusal::collect(response).await;
    assert_eq!(refusal.status(), StatusCode::CONFLICT);
    assert_eq!(refusal.body(), "one and two");

    let frames = [Ok(Frame::data(Bytes::from("text"))), Err("gone")];
    let failing = StreamBody::new(futures_util::stream::iter(frames));
    let response = Response::builder().status(409).body(failing).unwrap();
    let refusal = Refusal::collect(response).await;
    assert_eq!(refusal.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_rejection_of_axum_is_sent_with_its_status_and_text() {
    use axum::{RequestPartsExt, extract::Query, response::IntoResponse};

    let handler = decide(
        async |request: &mut Parts| match request.extract::<Query<Vec<(String, u8)>>>().await {
            Ok(query) => Ok((Accept::new(), query.0)),
            Err(rejection) => Err(Refusal::collect(rejection.into_response()).await),
        },
        async |_: WebSocket, _| Ok::<_, BoxError>(()),
    );
    let server = serve(WebSocketLayer::new(handler).into_service()).await;
    let request = handshake().line("GET /ws?room=many HTTP/1.1");
    let reply = Reply::parse(&exchange(server, &request).await);
    assert_eq!(reply.status, 400);
    let body = String::from_utf8(reply.body).unwrap();
    assert!(body.starts_with("Failed to deserialize"), "{body}");
}

// Without a server

#[tokio::test]
async fn refusals_are_seen_where_no_connection_was_promised() {
    let handler = refusing(Refusal::unauthorized().message("who are you?"));
    let service = WebSocketLayer::new(handler.clone()).into_service();
    let response = service.oneshot(handshake_head()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "who are you?");
    assert_eq!(handler.calls(), ["accept"]);

    // Only one that was accepted meets the missing promise.
    let handler = Recorder::new();
    let layer = WebSocketLayer::new(handler.clone());
    let response = layer
        .clone()
        .into_service()
        .oneshot(handshake_head())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let why = response.extensions().get::<HandshakeError>();
    assert_eq!(why, Some(&HandshakeError::UpgradeUnsupported));
    assert_eq!(handler.calls(), ["accept"]);
    assert_eq!(layer.connections().counts().open(), 0);
}

#[tokio::test]
async fn what_a_handler_decided_can_be_read() {
    let (mut request, ()) = handshake_head().into_parts();
    let handler = decide(
        async |_: &mut Parts| {
            let accept = Accept::new()
                .subprotocol("v2")
                .subprotocol("v1".to_owned())
                .header(header::SET_COOKIE, HeaderValue::from_static("a=1"))
                .carry(7_u8);
            Ok((accept, "a value of decide"))
        },
        async |_: WebSocket, _| Ok::<_, BoxError>(()),
    );
    let mut accept = handler.accept(&mut request).await.unwrap();
    assert!(accept.subprotocols().eq(["v2", "v1"]));
    assert_eq!(accept.headers()[header::SET_COOKIE], "a=1");
    assert_eq!(accept.take_carried::<u8>(), Some(7));
    assert_eq!(accept.take_carried::<u8>(), None);

    let refusal = Refusal::close(frame_4401());
    assert_eq!(refusal.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(refusal.close_frame(), Some(&frame_4401()));
    assert_eq!(Refusal::forbidden().close_frame(), None);
    assert_eq!(Refusal::forbidden().body(), "Forbidden");
}

// A Close in place of a response

#[tokio::test]
async fn a_refusal_can_be_a_close_that_browsers_can_read() {
    let cookie = HeaderValue::from_static("token=; Max-Age=0");
    let handler = refusing(Refusal::close(frame_4401()).header(header::SET_COOKIE, cookie));
    let layer = WebSocketLayer::new(handler.clone()).max_per_key(0, |_| Some("nobody"));
    let server = serve(layer.clone().into_service()).await;
    // Frames that arrive with the handshake are not answered.
    let (mut client, reply) = upgrade(server, &handshake().followed_by(text("Hello"))).await;
    assert_eq!(reply.field("set-cookie"), Some("token=; Max-Age=0"));
    assert_eq!(reply.field("sec-websocket-protocol"), None);
    let answer = wire::close(4401, "");
    client.expect(&unmasked_close(4401, "token expired")).await;
    client.write(answer).await;
    assert_eq!(client.rest().await, b"");
    drop(client);
    within(layer.connections().wait()).await;
    assert_eq!(handler.calls(), ["accept"]);

    let counts = layer.connections().counts();
    let by_us = CountedCode::Code(CloseCode::new(4401).unwrap());
    assert_eq!(counts.accepted(), 1);
    assert_eq!(counts.refused().count(), 0);
    assert_eq!(counts.closed_as(Side::Local, by_us), 1);
}

/// A Close as a server writes it.
fn unmasked_close(code: u16, reason: &str) -> Vec<u8> {
    let len = u8::try_from(2 + reason.len()).unwrap();
    let head = [wire::FIN | wire::CLOSE, len];
    [&head[..], &code.to_be_bytes(), reason.as_bytes()].concat()
}

#[tokio::test]
async fn a_close_names_a_subprotocol_that_was_offered() {
    for (spoken, offered, named) in [
        (&["v2", "v1"][..], "v1, v2", Some("v2")),
        (&["v3"], "v1, v2", Some("v1")),
        (&[], "token.x", Some("token.x")),
        (&["v1"], "", None),
    ] {
        let layer = WebSocketLayer::new(refusing(Refusal::close(frame_4401())));
        let layer = spoken
            .iter()
            .fold(layer, |layer, name| layer.subprotocol(*name));
        // A refused handshake needs no subprotocol.
        let server = serve(layer.require_subprotocol().into_service()).await;
        let request = match offered {
            "" => handshake(),
            offered => handshake().with("Sec-WebSocket-Protocol", offered),
        };
        let (_client, reply) = upgrade(server, &request).await;
        assert_eq!(reply.field("sec-websocket-protocol"), named, "{offered:?}");
    }
}

#[tokio::test]
async fn a_close_takes_a_place_of_its_peer_until_it_is_answered() {
    let handler = refusing(Refusal::close(frame_4401()));
    let peer = |_: &Parts| Some(IpAddr::from([192, 0, 2, 1]));
    let layer = WebSocketLayer::new(handler).max_per_peer(1, peer);
    let server = serve(layer.clone().into_service()).await;
    let (mut first, _) = upgrade(server, &handshake()).await;
    let second = Reply::parse(&exchange(server, &handshake()).await);
    assert_eq!(second.status, 429);
    first.write(wire::close(4401, "")).await;
    first.rest().await;
    drop(first);
    within(layer.connections().wait()).await;
    upgrade(server, &handshake()).await;
}

// Subprotocols

#[tokio::test]
async fn a_subprotocol_can_be_required() {
    let by_layer = WebSocketLayer::new(Recorder::new())
        .subprotocol("v2")
        .subprotocol("v1")
        .require_subprotocol();
    let by_handler = WebSocketLayer::new(Recorder::deciding(|_| {
        let accept = Accept::new().subprotocol("v2").subprotocol("v1");
        Ok(accept.require_subprotocol())
    }));
    for layer in [by_layer, by_handler] {
        let server = serve(layer.clone().into_service()).await;
        let offering = |names| handshake().with("Sec-WebSocket-Protocol", names);
        let (_client, reply) = upgrade(server, &offering("v0, v1")).await;
        assert_eq!(reply.field("sec-websocket-protocol"), Some("v1"));
        for request in [handshake(), offering("v0"), offering("V1")] {
            let reply = Reply::parse(&exchange(server, &request).await);
            assert_eq!(reply.status, 400, "{request}");
            let body = String::from_utf8(reply.body).unwrap();
            assert!(body.ends_with(": v2, v1"), "{body}");
        }
        let counts = layer.connections().counts();
        assert_eq!(counts.refused_as("subprotocol_required"), 3);
    }
}

#[tokio::test]
async fn what_was_offered_can_be_read() {
    for (lines, offered) in [
        (&[][..], &[][..]),
        (&["chat, superchat"], &["chat", "superchat"]),
        (&["b", " ,a\t,, token.x"], &["b", "a", "token.x"]),
    ] {
        let mut request = handshake_head();
        for line in lines {
            let line = HeaderValue::from_static(line);
            let name = header::SEC_WEBSOCKET_PROTOCOL;
            request.headers_mut().append(name, line);
        }
        assert!(offered_subprotocols(request.headers()).eq(offered.iter().copied()));
    }
}

#[cfg(feature = "tracing")]
#[tokio::test]
async fn offers_that_come_to_nothing_are_logged_without_their_names() {
    let (mut log, _guard) = support::log::capture();
    let layer = WebSocketLayer::new(Recorder::new()).subprotocol("v1");
    let server = serve(layer.into_service()).await;
    let offering = |names| handshake().with("Sec-WebSocket-Protocol", names);
    upgrade(server, &handshake()).await;
    upgrade(server, &offering("v1, hush")).await;
    assert_eq!(log.count("without a subprotocol"), 0);
    upgrade(server, &offering("hush")).await;
    log.names("DEBUG", "without a subprotocol").await;
    assert_eq!(log.count("hush"), 0);
}

// The log

/// A handler that refuses most of what it is asked does not fill the log.
#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn are_told_once_a_minute_for_each_status() {
    let (log, _guard) = support::log::capture();
    let handler = Recorder::deciding(|request| {
        Err(Box::new(match request.uri.query() {
            Some("late") => Refusal::new(StatusCode::GONE),
            _ => Refusal::unauthorized(),
        }))
    });
    let service = WebSocketLayer::new(handler).into_service();
    let ask = async |query: &str| {
        let mut client = support::pipe::serve(service.clone(), 4096);
        let request = wire::handshake(&format!("/ws?{query}"));
        wire::write(&mut client, request.as_bytes()).await;
        wire::read_head(&mut client).await;
    };
    for query in ["", "late", "", "", "late"] {
        ask(query).await;
    }
    let told = |level: &str, status: &str| {
        log.count(&format!(
            "{level} tower_websocket::layer::report: websocket refused: the handler refused with {status}"
        ))
    };
    assert_eq!((told(" INFO", "401"), told("DEBUG", "401")), (1, 2));
    assert_eq!((told(" INFO", "410"), told("DEBUG", "410")), (1, 1));
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    ask("").await;
    assert_eq!(told(" INFO", "401"), 2);
}
