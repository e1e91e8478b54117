//! The opening handshake over HTTP/1.1, byte by byte: what is accepted, what is refused and how.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::pin,
    sync::{Arc, Mutex, OnceLock},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_websocket::{
    Accept, BoxError, Handler, OriginPolicy, Refusal, WebSocket, WebSocketLayer,
    error::HandshakeError,
};

use support::{
    handlers::Recorder,
    raw::{
        ANSWER, Client, Head, KEY, Reply, exchange, handshake, handshake_head, request, text,
        upgrade,
    },
    tcp::serve,
    within,
};

/// A service behind the layer that no handshake may reach.
async fn unreachable<A>(_: Request<A>) -> Result<Response<String>, Infallible> {
    panic!("the inner service was called");
}

/// A layer on which everything is at its default.
fn layer<H: Handler>(handler: H) -> WebSocketLayer<H> {
    WebSocketLayer::new(handler).path("/ws")
}

/// Sends a handshake that has to be refused, and asserts what every
/// refusal has in common: it is complete, it is the last thing on its connection, and it leaves
/// its reason to outer layers.
async fn refuse<H: Handler>(
    layer: WebSocketLayer<H>,
    request: &Head,
    why: HandshakeError,
) -> Reply {
    let reason = Arc::new(OnceLock::new());
    let noted = Arc::clone(&reason);
    let service = layer.layer(service_fn(unreachable::<Incoming>));
    let server = serve(service.map_response(move |response: Response<_>| {
        let error = response.extensions().get::<HandshakeError>();
        noted.set(error.cloned()).unwrap();
        response
    }));

    // Whatever follows was meant as frames: it must not be answered as a request.
    let pipelined = "GET /second HTTP/1.1\r\nHost: example.com\r\n\r\n";
    let bytes = exchange(server.await, &request.clone().followed_by(pipelined)).await;
    let reply = Reply::parse(&bytes);

    let status = why.status().as_u16();
    assert_eq!(reply.status, status, "answer to\n{request}");
    assert_eq!(reason.get(), Some(&Some(why)), "reason left for\n{request}");
    let connection = reply.field("connection").unwrap().to_ascii_lowercase();
    let mut options = connection.split(", ");
    assert!(
        options.any(|option| option == "close"),
        "answer to\n{request}"
    );
    assert_eq!(
        reply.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(reply.field("transfer-encoding"), None);
    let length: usize = reply.field("content-length").unwrap().parse().unwrap();
    assert!((1..200).contains(&length), "a short text of {length} bytes");
    if !request.to_string().starts_with("HEAD ") {
        let body = String::from_utf8(reply.body.clone()).unwrap();
        assert_eq!(
            body.len(),
            length,
            "body {body:?} of the answer to\n{request}"
        );
    }
    reply
}

/// Asserts that a handshake is refused before anybody is asked.
async fn refuse_unasked(request: &Head, why: HandshakeError) -> Reply {
    let handler = Recorder::new();
    let reply = refuse(layer(handler.clone()), request, why).await;
    assert_eq!(handler.calls(), [""; 0], "asked about\n{request}");
    reply
}

/// Asserts that a handshake is accepted and the connection speaks frames.
async fn accept(request: &Head) -> Reply {
    let handler = Recorder::new();
    let service = layer(handler.clone()).layer(service_fn(unreachable::<Incoming>));
    let (mut client, reply) = upgrade(serve(service).await, request).await;
    client.write(text("Hello")).await;
    assert_eq!(client.text().await, "Hello");
    assert_eq!(handler.calls(), ["accept", "handle"]);
    reply
}

// What is accepted

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

// What is refused before the handler is asked

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
    let (mut log, _guard) = support::log::capture();
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

// What the handler decides

#[tokio::test]
async fn sends_what_the_handler_refused_with() {
    let handler = Recorder::deciding(|request| {
        let refusal = if request.uri.query() == Some("short") {
            Refusal::from(StatusCode::TOO_MANY_REQUESTS)
        } else {
            Refusal::unauthorized()
                .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
                .header(header::SET_COOKIE, HeaderValue::from_static("a=1"))
                .header(header::SET_COOKIE, HeaderValue::from_static("b=2"))
                // These are not a handler's to say.
                .header(header::CONNECTION, HeaderValue::from_static("keep-alive"))
                .header(header::CONTENT_LENGTH, HeaderValue::from_static("99"))
                .header(
                    header::TRANSFER_ENCODING,
                    HeaderValue::from_static("chunked"),
                )
                .message("who are you?")
        };
        Err(Box::new(refusal))
    });
    let layer = layer(handler.clone());

    let why = HandshakeError::Refused {
        status: StatusCode::UNAUTHORIZED,
    };
    let reply = refuse(layer.clone(), &handshake(), why).await;
    assert_eq!(reply.body, b"who are you?");
    assert_eq!(reply.field("www-authenticate"), Some("Bearer"));
    assert_eq!(reply.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(reply.field("connection"), Some("close"));

    let why = HandshakeError::Refused {
        status: StatusCode::TOO_MANY_REQUESTS,
    };
    let request = handshake().line("GET /ws?short HTTP/1.1");
    let reply = refuse(layer, &request, why).await;
    assert_eq!(reply.body, b"Too Many Requests");
    assert_eq!(handler.calls(), ["accept", "accept"]);
}

#[tokio::test]
async fn answers_500_when_the_handler_panics_while_accepting() {
    let handler = Recorder::deciding(|_| panic!("part of the test"));
    let why = HandshakeError::AcceptPanicked;
    let reply = refuse(layer(handler.clone()), &handshake(), why).await;
    assert_eq!(reply.status, 500);
    assert!(
        !String::from_utf8(reply.body)
            .unwrap()
            .contains("part of the test")
    );
    assert_eq!(handler.calls(), ["accept"]);
}

#[tokio::test]
async fn sends_the_headers_and_keeps_the_extensions_of_the_handler() {
    #[derive(Clone)]
    struct User(&'static str);

    struct Desk;

    impl Handler for Desk {
        async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
            request.extensions.insert(User("Ada"));
            request
                .headers
                .insert("x-seen", HeaderValue::from_static("yes"));
            Ok(Accept::new()
                .header(header::SET_COOKIE, HeaderValue::from_static("a=1"))
                .header(header::SET_COOKIE, HeaderValue::from_static("b=2"))
                .header(header::CONTENT_LENGTH, HeaderValue::from_static("7"))
                .header(
                    header::SEC_WEBSOCKET_ACCEPT,
                    HeaderValue::from_static("forged"),
                )
                .header(
                    header::SEC_WEBSOCKET_PROTOCOL,
                    HeaderValue::from_static("forged"),
                )
                .header(
                    header::SEC_WEBSOCKET_EXTENSIONS,
                    HeaderValue::from_static("forged"),
                ))
        }

        async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
            let request = socket.request();
            let outer = request.extensions().get::<&str>().unwrap();
            let User(user) = request.extensions().get().unwrap();
            let seen = request.header("x-seen").unwrap();
            let seen = format!("{} {outer} {user} {seen}", request.uri());
            socket.send(seen).await?;
            Ok(())
        }
    }

    let service = layer(Desk).into_service();
    let server = serve(service.map_request(|mut request: Request<Incoming>| {
        request.extensions_mut().insert("outer");
        request
    }));
    let request = handshake().line("GET /ws?room=1 HTTP/1.1");
    let (mut client, reply) = upgrade(server.await, &request).await;
    let names = [
        "connection",
        "sec-websocket-accept",
        "set-cookie",
        "set-cookie",
        "upgrade",
    ];
    assert_eq!(reply.names(), names);
    assert_eq!(reply.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(reply.field("sec-websocket-accept"), Some(ANSWER));
    assert_eq!(client.text().await, "/ws?room=1 outer Ada yes");
}

#[tokio::test]
async fn chooses_the_subprotocol_by_the_order_of_the_server() {
    /// Tells the client what was chosen, on the wire and to the handler.
    #[derive(Clone)]
    struct Speaking(&'static [&'static str]);

    impl Handler for Speaking {
        async fn accept(&self, _: &mut Parts) -> Result<Accept, Refusal> {
            Ok(self
                .0
                .iter()
                .fold(Accept::new(), |accept, name| accept.subprotocol(*name)))
        }

        async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
            let chosen = format!("{:?}", socket.subprotocol());
            Ok(socket.send(chosen).await?)
        }
    }

    let none: &[&str] = &[];
    for (of_layer, of_handler, offered, chosen) in [
        (&["v2", "v1"][..], none, &["v1, v2"][..], Some("v2")),
        (&["v1", "v2"], none, &["v1, v2"], Some("v1")),
        (&["v1", "v2"], none, &["v3,v2"], Some("v2")),
        (&["v2", "v1"], none, &["v1", "v2"], Some("v2")),
        (&["v2", "v1"], none, &["v3"], None),
        (&["v2", "v1"], none, &["V2"], None),
        (&["v2", "v1"], none, none, None),
        (none, none, &["v1"], None),
        // The handler's list takes the place of the layer's.
        (&["v2"], &["v1"], &["v1, v2"], Some("v1")),
        (none, &["v2", "v1"], &["v1, v2"], Some("v2")),
        (&["v2"], &["v1"], &["v2"], None),
    ] {
        let case = format!("{of_layer:?}, {of_handler:?}, offered {offered:?}");
        let layer = of_layer
            .iter()
            .fold(layer(Speaking(of_handler)), |layer, name| {
                layer.subprotocol(*name)
            });
        let request = offered.iter().fold(handshake(), |request, line| {
            request.with("Sec-WebSocket-Protocol", line)
        });
        let (mut client, reply) = upgrade(serve(layer.into_service()).await, &request).await;
        assert_eq!(reply.field("sec-websocket-protocol"), chosen, "{case}");
        assert_eq!(client.text().await, format!("{chosen:?}"), "{case}");
    }
}

#[tokio::test]
async fn never_chooses_a_subprotocol_that_only_the_handler_put_into_the_request() {
    let handler = Recorder::deciding(|request| {
        let forged = HeaderValue::from_static("forged");
        request
            .headers
            .insert(header::SEC_WEBSOCKET_PROTOCOL, forged);
        Ok(Accept::new().subprotocol("forged"))
    });
    let server = serve(layer(handler).into_service()).await;
    let (_, reply) = upgrade(server, &handshake()).await;
    assert_eq!(reply.field("sec-websocket-protocol"), None);
}

#[tokio::test]
async fn keeps_every_header_of_the_handshake_to_itself() {
    let handler = Recorder::deciding(|_| {
        Ok(Accept::new()
            .header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"))
            .header(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static(KEY)))
    });
    let server = serve(layer(handler).into_service()).await;
    let (_, reply) = upgrade(server, &handshake()).await;
    assert_eq!(
        reply.names(),
        ["connection", "sec-websocket-accept", "upgrade"]
    );
}

/// Accepts after a while, and says when its future is dropped.
struct Slow {
    takes: Option<Duration>,
    asked: mpsc::UnboundedSender<oneshot::Receiver<()>>,
}

impl Handler for Slow {
    async fn accept(&self, _: &mut Parts) -> Result<Accept, Refusal> {
        let (_dropped, drops) = oneshot::channel();
        self.asked.send(drops).unwrap();
        match self.takes {
            Some(takes) => tokio::time::sleep(takes).await,
            None => pending().await,
        }
        Ok(Accept::new())
    }

    async fn handle(&self, _: WebSocket) -> Result<(), BoxError> {
        panic!("the handler was called");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_503_when_the_handler_takes_too_long_to_accept() {
    let limit = Duration::from_secs(3);
    for (set, limit) in [(None, Duration::from_secs(10)), (Some(limit), limit)] {
        let (asked, mut question) = mpsc::unbounded_channel();
        let mut slow = layer(Slow { takes: None, asked });
        if let Some(limit) = set {
            slow = slow.accept_timeout(limit);
        }
        let started = Instant::now();
        let response = slow
            .into_service()
            .call(promised(handshake_head()))
            .await
            .unwrap();
        assert_eq!(started.elapsed(), limit);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONNECTION], "close");
        assert!(!response.body().is_end_stream(), "a text says why");
        let why = response.extensions().get::<HandshakeError>();
        assert_eq!(why, Some(&HandshakeError::AcceptTimeout));
        let dropped = question.recv().await.unwrap();
        assert!(dropped.await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn waits_for_the_handler_to_accept() {
    let (asked, _question) = mpsc::unbounded_channel();
    let takes = Duration::from_millis(9_999);
    let slow = layer(Slow {
        takes: Some(takes),
        asked,
    });
    let started = Instant::now();
    let response = slow
        .into_service()
        .call(promised(handshake_head()))
        .await
        .unwrap();
    assert_eq!(started.elapsed(), takes);
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert!(response.extensions().get::<HandshakeError>().is_none());
}

#[tokio::test]
async fn stops_asking_the_handler_when_the_client_goes_away() {
    let (asked, mut question) = mpsc::unbounded_channel();
    // Not the reason for the end.
    let hour = Duration::from_secs(3600);
    let slow = layer(Slow { takes: None, asked }).accept_timeout(hour);
    let mut client = Client::connect(serve(slow.into_service()).await).await;
    client.write(handshake().bytes()).await;
    let mut dropped = within(question.recv()).await.unwrap();
    assert_eq!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    drop(client);
    assert!(within(dropped).await.is_err());
}

#[tokio::test]
async fn answers_only_after_the_handler_was_asked_once() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&order);
    let handler = Recorder::deciding(move |_| {
        noted.lock().unwrap().push("accept");
        Ok(Accept::new())
    });
    let noted = Arc::clone(&order);
    let service = layer(handler).into_service();
    let server = serve(service_fn(move |request: Request<Incoming>| {
        let (answer, noted) = (service.clone().oneshot(request), Arc::clone(&noted));
        async move {
            let answer = answer.await;
            noted.lock().unwrap().push("101");
            answer
        }
    }));
    upgrade(server.await, &handshake()).await;
    assert_eq!(*order.lock().unwrap(), ["accept", "101"]);
}

/// Adds the promise of a connection, which is never kept.
fn promised(mut request: Request<()>) -> Request<()> {
    let promise = hyper::upgrade::on(Request::new(()));
    request.extensions_mut().insert(promise);
    request
}

fn numbered(names: usize) -> String {
    let names: Vec<_> = (0..names).map(|number| format!("p{number}")).collect();
    names.join(", ")
}
