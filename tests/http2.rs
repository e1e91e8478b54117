//! The opening handshake over HTTP/2 (RFC 8441): what is answered how, and what is passed on.

#![cfg(feature = "http2")]

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body_util::{BodyStream, Full, StreamBody};
use http2::{Session, Tunnel, bare_connect, connect, serve};
use hyper::body::Incoming;
use support::{http2, wire};
use tokio::time::timeout;
use tower::{Layer, ServiceExt, service_fn};
use tower_websocket::{
    Accept, BoxError, CloseCode, Config, Connections, Echo, Handler, Refusal, ResponseBody,
    WebSocket, WebSocketLayer, WebSocketService, error::HandshakeError,
};
use wire::{FIN, TEXT, close, frame, read_close, read_frame, write};

/// An inner service that says what it was asked for.
async fn inner(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    let protocol = protocol.map_or("", hyper::ext::Protocol::as_str);
    let text = format!("{} {} {protocol}", request.method(), request.uri());
    // A CONNECT that is answered 2xx would become a tunnel.
    let status = match *request.method() {
        Method::CONNECT => StatusCode::IM_A_TEAPOT,
        _ => StatusCode::OK,
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}

async fn session<H: Handler>(layer: WebSocketLayer<H>) -> Session {
    Session::to(layer.layer(service_fn(inner))).await
}

/// Asserts that an answer has the fields of a text, and these.
fn assert_text(answer: &Tunnel, more: &[&str]) {
    let mut names = vec!["content-length", "content-type", "x-content-type-options"];
    names.extend(more);
    names.sort_unstable();
    assert_eq!(answer.names(), names);
}

#[tokio::test]
async fn answers_200_with_nothing_but_what_was_agreed_on() {
    let session = session(WebSocketLayer::new(Echo::new())).await;
    let mut plain = session.ask(connect()).await;
    assert_eq!(plain.status, StatusCode::OK);
    assert_eq!(plain.names(), [""; 0]);
    plain.echoes("hello").await;

    let layer = WebSocketLayer::new(Echo::new()).subprotocol("v2");
    let session = self::session(layer.subprotocol("v1")).await;
    let request = connect().header("sec-websocket-protocol", "v1, v2, v3");
    let chosen = session.ask(request).await;
    assert_eq!(chosen.names(), ["sec-websocket-protocol"]);
    assert_eq!(chosen.headers["sec-websocket-protocol"], "v2");
    let foreign = session
        .ask(connect().header("sec-websocket-protocol", "v3"))
        .await;
    assert_eq!(foreign.status, StatusCode::OK);
    assert_eq!(foreign.names(), [""; 0]);
}

#[cfg(feature = "deflate")]
#[tokio::test]
async fn compresses_where_that_was_agreed_on() {
    const RSV1: u8 = 0x40;
    // "Hello" as RFC 7692 §7.2.3.1 compresses it, and §7.2.3.2 when it refers to the one before.
    const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    const AGAIN: [u8; 5] = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let deflate = tower_websocket::Deflate::new().min_size(0);
    let takeover = deflate.receive_context_takeover().send_context_takeover();
    // By itself it would become larger.
    let alone = (FIN | TEXT, &b"Hello"[..]);
    for (deflate, agreed, second, echoes_of_both) in [
        (
            deflate,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=12",
            &HELLO[..],
            [alone, alone],
        ),
        (
            takeover,
            "permessage-deflate; server_max_window_bits=12",
            &AGAIN[..],
            [
                (FIN | TEXT | RSV1, &HELLO[..]),
                (FIN | TEXT | RSV1, &AGAIN[..]),
            ],
        ),
    ] {
        let config = Config::new().deflate(deflate);
        let session = session(WebSocketLayer::new(Echo::new()).config(config)).await;
        let offer = "permessage-deflate; client_max_window_bits";
        let request = connect().header("sec-websocket-extensions", offer);
        let mut tunnel = session.ask(request).await;
        assert_eq!(tunnel.status, StatusCode::OK);
        assert_eq!(tunnel.names(), ["sec-websocket-extensions"]);
        assert_eq!(tunnel.headers["sec-websocket-extensions"], agreed);
        for (payload, expected) in [&HELLO[..], second].into_iter().zip(echoes_of_both) {
            write(&mut tunnel, &frame(FIN | TEXT | RSV1, payload)).await;
            let echoed = read_frame(&mut tunnel).await.unwrap();
            assert_eq!((echoed.first, &*echoed.payload), expected, "{agreed}");
        }
        write(&mut tunnel, &frame(FIN | TEXT | RSV1, &[0xff])).await;
        assert_eq!(read_close(&mut tunnel).await, Some(1002), "{agreed}");

        // Not offered, not spoken, on a stream beside it.
        let mut plain = session.open().await;
        assert_eq!(plain.names(), [""; 0]);
        plain.echoes("Hello").await;
        write(&mut plain, &frame(FIN | TEXT | RSV1, &HELLO)).await;
        assert_eq!(read_close(&mut plain).await, Some(1002), "{agreed}");
    }
}

#[tokio::test]
async fn reads_frames_that_come_before_the_answer() {
    let session = session(WebSocketLayer::new(Echo::new())).await;
    let pending = session.send(connect()).await;
    let early = frame(FIN | TEXT, b"early");
    let mut tunnel = pending.followed_by(&early).answer().await.unwrap();
    assert_eq!(read_frame(&mut tunnel).await.unwrap().payload, b"early");
}

#[tokio::test]
async fn serves_many_sockets_and_plain_requests_on_one_connection() {
    let session = session(WebSocketLayer::new(Echo::new())).await;
    let mut tunnels = Vec::new();
    for _ in 0..20 {
        tunnels.push(session.open().await);
    }
    for (number, tunnel) in tunnels.iter_mut().enumerate() {
        tunnel.echoes(&format!("hello {number}")).await;
        let mut plain = session.ask(Request::get("https://example.com/plain")).await;
        assert_eq!(plain.status, StatusCode::OK);
        assert_eq!(plain.text().await, "GET https://example.com/plain ");
    }
    for tunnel in &mut tunnels {
        write(tunnel, &close(1000, "")).await;
        assert_eq!(read_close(tunnel).await, Some(1000));
    }
}

/// Notes what it sees of the request, and speaks of it.
struct Witness;

impl Handler for Witness {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        if request.headers.contains_key(header::AUTHORIZATION) {
            let cookie = HeaderValue::from_static("seen=1");
            Ok(Accept::new()
                .header(header::SET_COOKIE, cookie)
                .header(header::CONTENT_LENGTH, HeaderValue::from_static("7"))
                .header(header::CONNECTION, HeaderValue::from_static("close")))
        } else {
            Err(Refusal::unauthorized().message("who are you?"))
        }
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        assert_eq!(socket.request().version(), Version::HTTP_2);
        let target = socket.request().uri().to_string();
        socket.send(target).await?;
        socket.close(CloseCode::NORMAL, "").await?;
        Ok(())
    }
}

#[tokio::test]
async fn asks_the_handler_and_shows_it_the_request() {
    let session = session(WebSocketLayer::new(Witness)).await;
    let mut refused = session.ask(connect()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_text(&refused, &[]);
    assert_eq!(refused.text().await, "who are you?");

    let mut accepted = session
        .ask(connect().header(header::AUTHORIZATION, "Bearer x"))
        .await;
    assert_eq!(accepted.status, StatusCode::OK);
    assert_eq!(accepted.names(), ["set-cookie"]);
    let told = read_frame(&mut accepted).await.unwrap();
    assert_eq!(told.payload, b"https://example.com/ws");
    assert_eq!(read_close(&mut accepted).await, Some(1000));
}

#[tokio::test]
async fn refuses_what_breaks_a_rule_and_goes_on_with_the_connection() {
    let session = session(WebSocketLayer::new(Echo::new()).path("/ws")).await;
    let with = |name: &str, value: &str| connect().header(name, value);
    let to = |uri: &str| {
        Request::connect(uri)
            .extension(h2::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
    };
    for (request, status, reason) in [
        (
            bare_connect("websocket"),
            426,
            "sec-websocket-version 13 is the only one supported",
        ),
        (
            bare_connect("websocket").header("sec-websocket-version", "8"),
            426,
            "sec-websocket-version 13 is the only one supported",
        ),
        (
            with("sec-websocket-version", "13"),
            426,
            "sec-websocket-version 13 is the only one supported",
        ),
        (
            bare_connect("connect-udp"),
            501,
            "websocket is the only protocol supported",
        ),
        (
            with("origin", "https://evil.example"),
            403,
            "pages of https://evil.example may not connect to example.com",
        ),
        (
            to("https://evil.example/ws").header("origin", "https://example.com"),
            403,
            "pages of https://example.com may not connect to evil.example",
        ),
        (
            to("https://example.com:8443/ws").header("origin", "https://example.com"),
            403,
            "pages of https://example.com may not connect to example.com:8443",
        ),
        (
            with("origin", "null").header("host", "null"),
            403,
            "pages of null may not connect to example.com",
        ),
        (
            to("https://me@example.com/ws"),
            400,
            "the host is not a host and port, given once",
        ),
        (
            with("sec-websocket-protocol", "a,,a"),
            400,
            "sec-websocket-protocol is malformed or too long",
        ),
        (
            with("sec-websocket-extensions", "x;;"),
            400,
            "sec-websocket-extensions is malformed or too long",
        ),
    ] {
        let mut refused = session.ask(request).await;
        assert_eq!(refused.status.as_u16(), status, "{reason}");
        match status {
            426 => assert_text(&refused, &["sec-websocket-version"]),
            _ => assert_text(&refused, &[]),
        }
        assert_eq!(refused.text().await, reason);
    }
    let same = with("origin", "https://example.com");
    assert_eq!(session.ask(same).await.status, StatusCode::OK);
    let default_port = to("https://example.com:443/ws").header("origin", "https://example.com");
    assert_eq!(session.ask(default_port).await.status, StatusCode::OK);
}

#[tokio::test]
async fn leaves_its_reason_to_outer_layers() {
    let service = WebSocketLayer::new(Echo::new()).layer(service_fn(inner));
    let noting = service.map_response(|response: Response<ResponseBody<_>>| {
        let error = response.extensions().get::<HandshakeError>();
        let label = error.map_or("none", HandshakeError::label);
        response.map(|_| Full::<Bytes>::from(label))
    });
    let session = Session::new(serve(noting)).await;
    let mut refused = session.ask(bare_connect("connect-ip")).await;
    assert_eq!(refused.text().await, "unknown_protocol");
}

#[tokio::test]
async fn passes_on_what_is_not_its_own() {
    let session = session(WebSocketLayer::new(Echo::new()).path("/ws")).await;
    let elsewhere =
        || Request::connect("https://example.com/elsewhere").header("sec-websocket-version", "13");
    let protocol = h2::ext::Protocol::from_static;
    for (request, text) in [
        (
            Request::connect("example.com:443"),
            "CONNECT example.com:443 ",
        ),
        (
            elsewhere().extension(protocol("websocket")),
            "CONNECT https://example.com/elsewhere websocket",
        ),
        (
            elsewhere().extension(protocol("connect-udp")),
            "CONNECT https://example.com/elsewhere connect-udp",
        ),
    ] {
        let mut passed = session.ask(request).await;
        assert_eq!(passed.status, StatusCode::IM_A_TEAPOT, "{text}");
        assert_eq!(passed.text().await, text);
    }
    for request in [
        Request::get("https://example.com/ws"),
        // `Upgrade` says nothing here.
        Request::get("https://example.com/ws").header("sec-websocket-version", "13"),
    ] {
        let mut passed = session.ask(request).await;
        assert_eq!(passed.text().await, "GET https://example.com/ws ");
    }
    let off = WebSocketLayer::new(Echo::new()).enabled(false);
    let session = self::session(off).await;
    assert_eq!(session.ask(connect()).await.status, StatusCode::IM_A_TEAPOT);
}

#[tokio::test]
async fn answers_426_without_naming_an_upgrade_where_there_is_no_inner_service() {
    let session = Session::new(serve(WebSocketService::new(Echo::new()))).await;
    let mut plain = session.ask(Request::get("https://example.com/")).await;
    assert_eq!(plain.status, StatusCode::UPGRADE_REQUIRED);
    assert_text(&plain, &[]);
    assert_eq!(plain.text().await, "this address speaks websocket");
    session.open().await.echoes("beside it").await;
}

#[tokio::test]
async fn holds_the_limits_of_connections() {
    let layer = WebSocketLayer::new(Echo::new())
        .connections_in(&Connections::new().max_connections(3))
        .max_per_key(2, |request| {
            request.headers.get("x-user").map(HeaderValue::len)
        });
    let connections = layer.connections();
    let session = session(layer).await;
    let of_user = || connect().header("x-user", "me");
    let mut first = session.ask(of_user()).await;
    let second = session.ask(of_user()).await;
    let third = session.ask(of_user()).await;
    assert_eq!(third.status, StatusCode::TOO_MANY_REQUESTS);
    let other = session.open().await;
    let full = session.ask(connect()).await;
    assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_text(&full, &["retry-after"]);
    assert_eq!(connections.counts().open(), 3);

    write(&mut first, &close(1000, "")).await;
    assert_eq!(read_close(&mut first).await, Some(1000));
    first.end();
    while connections.counts().open() == 3 {
        tokio::task::yield_now().await;
    }
    let again = session.ask(of_user()).await;
    assert_eq!(again.status, StatusCode::OK);

    connections.close();
    let late = session.ask(connect()).await;
    assert_eq!(late.status, StatusCode::SERVICE_UNAVAILABLE);
    for mut tunnel in [second, other, again] {
        assert_eq!(read_close(&mut tunnel).await, Some(1001));
        write(&mut tunnel, &close(1001, "")).await;
        tunnel.end();
        assert_eq!(read_frame(&mut tunnel).await, None);
    }
    let report = connections.shutdown(Duration::from_secs(10)).await;
    assert_eq!((report.clean, report.aborted), (3, 0));
}

#[tokio::test]
async fn a_panic_in_accept_ends_its_own_stream_alone() {
    struct Panics;
    impl Handler for Panics {
        async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
            assert!(!request.headers.contains_key("x-panic"), "as it is told to");
            Ok(Accept::new())
        }

        async fn handle(&self, socket: WebSocket) -> Result<(), BoxError> {
            Echo::new().handle(socket).await
        }
    }
    let session = session(WebSocketLayer::new(Panics)).await;
    let mut open = session.open().await;
    let panicked = session.ask(connect().header("x-panic", "1")).await;
    assert_eq!(panicked.status, StatusCode::INTERNAL_SERVER_ERROR);
    open.echoes("still here").await;
}

/// Counts how often it is run.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

impl Handler for Counted {
    async fn handle(&self, _: WebSocket) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test]
async fn runs_no_handler_when_an_outer_layer_refuses() {
    let handler = Counted::default();
    let layer = WebSocketLayer::new(handler.clone());
    let connections = layer.connections();
    let service = layer.layer(service_fn(inner));
    // The layer changes only the status and keeps our body. Over HTTP/1.1 the guard could not detect that.
    let refusing = service.map_response(|mut response: Response<ResponseBody<_>>| {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    });
    let session = Session::new(serve(refusing)).await;
    let refused = session.ask(connect()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    timeout(Duration::from_secs(10), connections.wait())
        .await
        .unwrap();
    assert_eq!(connections.counts().open(), 0);
    assert_eq!(handler.0.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn needs_no_outer_layer_to_forward_the_question_for_the_end() {
    let service = WebSocketLayer::new(Echo::new()).layer(service_fn(inner));
    // This body does not say that it is at its end before it was read, which on HTTP/1 would keep
    // the handler from running.
    let wrapping = service.map_response(|response: Response<ResponseBody<Full<Bytes>>>| {
        response.map(BodyStream::new).map(StreamBody::new)
    });
    let session = Session::new(serve(wrapping)).await;
    session.open().await.echoes("hello").await;
}
