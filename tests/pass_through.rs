//! A request that is not a handshake for the layer passes through it unchanged.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, Ready, pending, poll_fn, ready},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_websocket::{
    Echo, Handler, ResponseBody, ResponseFuture, WebSocketLayer, WebSocketService,
};

use support::{
    handlers::Recorder,
    raw::{Client, Head, KEY, Reply, exchange, handshake, request, text, upgrade},
    tcp::serve,
};

/// All that a service is given of a request.
#[derive(Debug, Eq, PartialEq)]
struct Seen {
    method: Method,
    uri: Uri,
    version: Version,
    /// In the order of the wire.
    fields: Vec<(String, Vec<u8>)>,
    /// The types of all extensions.
    extensions: String,
    upgradable: bool,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

/// A value that an outer layer leaves for an inner one.
#[derive(Clone)]
struct Mark(Arc<()>);

/// Returns the request as the inner service sees it, and the bytes that the client gets back.
async fn observe<H: Handler>(layer: Option<WebSocketLayer<H>>, request: &Head) -> (Seen, Vec<u8>) {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let mark = Mark(Arc::default());
    let given = mark.clone();
    let inner = service_fn(move |request: Request<Incoming>| {
        let (sender, given) = (sender.clone(), given.clone());
        async move {
            let (head, body) = request.into_parts();
            let Mark(mark) = head.extensions.get().unwrap();
            assert!(Arc::ptr_eq(mark, &given.0));
            let collected = body.collect().await.unwrap();
            let trailers = collected.trailers().cloned();
            let fields = head.headers.iter();
            let fields = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
            let seen = Seen {
                method: head.method,
                uri: head.uri,
                version: head.version,
                fields: fields.collect(),
                extensions: format!("{:?}", head.extensions),
                upgradable: head.extensions.get::<OnUpgrade>().is_some(),
                body: collected.to_bytes(),
                trailers,
            };
            let body = Bytes::from(format!("{seen:?}"));
            sender.send(seen).unwrap();
            let response = Response::builder()
                .status(StatusCode::IM_A_TEAPOT)
                .header("x-inner", "1")
                .header("x-inner", "2")
                .header(header::UPGRADE, "websocket, h2c")
                .header(header::CONNECTION, "close");
            Ok::<_, Infallible>(response.body(Full::new(body)).unwrap())
        }
    });
    let marked = move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(mark.clone());
        request
    };
    let server = match layer {
        None => serve(inner.map_request(marked)).await,
        Some(layer) => serve(layer.layer(inner).map_request(marked)).await,
    };
    let bytes = exchange(server, request).await;
    (
        seen.try_recv().expect("the inner service was called"),
        bytes,
    )
}

/// Asserts that the inner service and the client see the same with the layer as without it.
async fn assert_unchanged<H: Handler>(layer: WebSocketLayer<H>, request: &Head) -> Seen {
    let (expected, answer) = observe::<H>(None, request).await;
    assert!(answer.windows(7).any(|window| window == b"x-inner"));
    let (seen, bytes) = observe(Some(layer), request).await;
    assert_eq!(seen, expected, "{request}");
    assert_eq!(
        bytes.escape_ascii().to_string(),
        answer.escape_ascii().to_string(),
        "{request}"
    );
    seen
}

/// A plain request after which the server closes the connection.
fn plain(line: &str) -> Head {
    request(line)
        .with("Host", "example.com")
        .with("Connection", "close")
}

#[tokio::test]
async fn plain_requests_go_through_unchanged() {
    let large = "0123456789abcdef".repeat(20_000);
    for request in [
        plain("GET / HTTP/1.1"),
        plain("GET /ws HTTP/1.1"),
        plain("GET /ws?a=b&c=%20#d HTTP/1.1"),
        plain("HEAD /ws HTTP/1.1"),
        plain("OPTIONS * HTTP/1.1"),
        plain("BREW /ws HTTP/1.1")
            .with("Content-Length", "3")
            .followed_by("tea"),
        plain("GET http://example.org/ws HTTP/1.1"),
        request("GET /ws HTTP/1.0"),
        plain("GET /ws HTTP/1.1")
            .with("X-Twice", "b")
            .with("x-other", "\u{e9}")
            .with("x-twice", "a")
            .with("Cookie", "a=1")
            .with("Cookie", "b=2"),
        plain("POST /ws HTTP/1.1")
            .with("Content-Length", "11")
            .followed_by("hello world"),
        plain("POST /ws HTTP/1.1").with("Content-Length", "0"),
        plain("POST /ws HTTP/1.1")
            .with("Content-Length", &large.len().to_string())
            .followed_by(large),
        plain("POST /ws HTTP/1.1")
            .with("Transfer-Encoding", "chunked")
            .with("Trailer", "x-sum")
            .followed_by("5\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 11\r\n\r\n"),
        plain("PUT /ws HTTP/1.1")
            .with("Expect", "100-continue")
            .with("Content-Length", "5")
            .followed_by("hello"),
        // Words of a handshake without its `Upgrade`.
        handshake()
            .without("Upgrade")
            .replaced("Connection", "close"),
        handshake()
            .without("Upgrade")
            .replaced("Connection", "upgrade, close"),
    ] {
        let seen = assert_unchanged(WebSocketLayer::new(Recorder::new()), &request).await;
        assert!(!seen.upgradable, "{request}");
    }
}

#[tokio::test]
async fn upgrades_to_something_else_go_through_with_their_connection() {
    let h2c = handshake()
        .replaced("Upgrade", "h2c")
        .replaced("Connection", "Upgrade, HTTP2-Settings")
        .with("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA");
    for request in [
        h2c.clone(),
        h2c.line("POST /ws HTTP/1.1")
            .with("Content-Length", "5")
            .followed_by("hello"),
        handshake().replaced("Upgrade", "TLS/1.3, h2c"),
        handshake().replaced("Upgrade", "websocket2"),
        handshake().replaced("Upgrade", "no-websocket"),
        handshake().replaced("Upgrade", "web, socket"),
        handshake().replaced("Upgrade", "\"websocket\""),
    ] {
        let seen = assert_unchanged(WebSocketLayer::new(Recorder::new()), &request).await;
        assert!(seen.upgradable, "{request}");
    }
}

#[tokio::test]
async fn upgrade_over_http_1_0_is_ignored() {
    let old = handshake().line("GET /ws HTTP/1.0");
    for request in [
        old.clone(),
        old.without("Host").replaced("Connection", "Upgrade, close"),
    ] {
        assert_unchanged(WebSocketLayer::new(Recorder::new()), &request).await;
    }
}

/// Returns valid and invalid handshakes. A layer that does not answer them must not check them.
fn handshakes() -> [Head; 7] {
    [
        handshake(),
        handshake().replaced("Upgrade", "h2c, websocket"),
        handshake().replaced("Sec-WebSocket-Version", "8"),
        handshake().without("Sec-WebSocket-Key"),
        handshake().with("Origin", "http://evil.example"),
        handshake().with("Sec-WebSocket-Protocol", "chat, chat"),
        handshake()
            .line("POST /ws HTTP/1.1")
            .with("Content-Length", "5")
            .followed_by("hello"),
    ]
}

#[tokio::test]
async fn handshakes_for_another_path_go_through_with_their_connection() {
    for request in handshakes() {
        for layer in [
            WebSocketLayer::new(Recorder::new()).path("/other"),
            WebSocketLayer::new(Recorder::new())
                .path("/ws/")
                .path("/w")
                .path("/WS"),
            WebSocketLayer::new(Recorder::new()).matching(|request| request.uri.query().is_some()),
        ] {
            let seen = assert_unchanged(layer, &request).await;
            assert!(seen.upgradable, "{request}");
        }
    }
}

#[tokio::test]
async fn a_layer_switched_off_lets_everything_through() {
    for request in handshakes().into_iter().chain([plain("GET / HTTP/1.1")]) {
        let layer = WebSocketLayer::new(Recorder::new());
        let upgradable = request.to_string().contains("Upgrade");
        let seen = assert_unchanged(layer.clone().enabled(false), &request).await;
        assert_eq!(seen.upgradable, upgradable, "{request}");
        let seen = assert_unchanged(layer.path("/ws").enabled(false), &request).await;
        assert_eq!(seen.upgradable, upgradable, "{request}");
    }
    let on = WebSocketLayer::new(Recorder::new())
        .enabled(false)
        .enabled(true);
    upgrade(serve(on.into_service()).await, &handshake()).await;
}

#[tokio::test]
async fn bodies_stream_both_ways_with_their_trailers() {
    let inner = service_fn(async |request: Request<Incoming>| {
        let response = Response::builder().header(header::TRAILER, "x-sum");
        Ok::<_, Infallible>(response.body(request.into_body()).unwrap())
    });
    let mut client = Client::connect(serve(WebSocketLayer::default().layer(inner)).await).await;
    let request = request("POST /ws HTTP/1.1")
        .with("Host", "example.com")
        .with("TE", "trailers")
        .with("Trailer", "x-sum")
        .with("Transfer-Encoding", "chunked");
    client.write(request.bytes()).await;
    let reply = client.head().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.names(), ["trailer", "transfer-encoding"]);
    // Each chunk is answered before the next one is sent: nothing is held back.
    for chunk in ["5\r\nhello\r\n", "1\r\n \r\n", "5\r\nworld\r\n"] {
        client.write(chunk).await;
        client.expect(chunk.as_bytes()).await;
    }
    let end = "0\r\nx-sum: 11\r\n\r\n";
    client.write(end).await;
    client.expect(end.as_bytes()).await;
    // The connection stays open for the next request.
    let request = plain("POST /ws HTTP/1.1")
        .with("Content-Length", "3")
        .followed_by("bye");
    client.write(request.bytes()).await;
    let reply = Reply::parse(&client.rest().await);
    assert_eq!((reply.status, &*reply.body), (200, &b"bye"[..]));
}

#[tokio::test]
async fn the_inner_service_can_complete_an_upgrade_of_its_own() {
    let inner = service_fn(async |mut request: Request<Incoming>| {
        let connection = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut connection = TokioIo::new(connection.await.unwrap());
            let (mut reader, mut writer) = tokio::io::split(&mut connection);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::UPGRADE, "parrot")
            .header(header::CONNECTION, "upgrade");
        Ok::<_, Infallible>(response.body(String::new()).unwrap())
    });
    let server = serve(WebSocketLayer::default().layer(inner)).await;
    let request = handshake()
        .replaced("Upgrade", "parrot")
        .followed_by("hello");
    let (mut client, reply) = upgrade(server, &request).await;
    assert_eq!(reply.field("upgrade"), Some("parrot"));
    client.expect(b"hello").await;
    client.write("again").await;
    client.expect(b"again").await;
}

#[tokio::test]
async fn layers_for_different_paths_do_not_disturb_each_other() {
    let page = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(String::from("page")))
    });
    let inner = WebSocketLayer::new(Echo::prefixed("inner "))
        .path("/inner")
        .layer(page);
    let outer = WebSocketLayer::new(Echo::prefixed("outer "))
        .path("/outer")
        .layer(inner);
    let server = serve(outer).await;
    let mut clients = Vec::new();
    for name in ["inner", "outer"] {
        let request = handshake().line(&format!("GET /{name} HTTP/1.1"));
        clients.push((upgrade(server, &request).await.0, name));
    }
    for (client, name) in &mut clients {
        client.write(text("Hello")).await;
        assert_eq!(client.text().await, format!("{name} Hello"));
    }
    let reply = Reply::parse(&exchange(server, &plain("GET /inner HTTP/1.1")).await);
    assert_eq!((reply.status, &*reply.body), (200, &b"page"[..]));
}

#[tokio::test]
async fn a_service_without_an_inner_one_asks_for_an_upgrade() {
    let handler = Recorder::new();
    let server = serve(WebSocketService::new(handler.clone())).await;
    for request in [
        plain("GET /ws HTTP/1.1"),
        plain("POST / HTTP/1.1")
            .with("Content-Length", "5")
            .followed_by("hello"),
        handshake()
            .replaced("Upgrade", "h2c")
            .replaced("Connection", "Upgrade, close"),
        handshake().line("GET /ws HTTP/1.0"),
    ] {
        let bytes = exchange(server, &request).await;
        let reply = String::from_utf8(bytes)
            .unwrap()
            .replace("HTTP/1.0 ", "HTTP/1.1 ");
        let reply = Reply::parse(reply.as_bytes());
        assert_eq!(reply.status, 426, "{request}");
        // RFC 9110 §15.5.22.
        assert_eq!(reply.field("upgrade"), Some("websocket"), "{request}");
        let length = reply.body.len().to_string();
        assert_eq!(reply.field("content-length"), Some(&*length), "{request}");
    }
    assert_eq!(handler.calls(), [""; 0]);
}

// Without a connection

/// Compiles only while the service asks nothing of the bodies `A` and `B`, and names its future.
#[expect(dead_code, reason = "it is enough that this compiles")]
fn bounds_of_the_service<S, H, A, B>()
where
    S: Service<Request<A>, Response = Response<B>>,
    H: Handler,
{
    fn is_service<S, A, B, F, E>()
    where
        S: Service<Request<A>, Response = Response<ResponseBody<B>>, Error = E>,
        S: Service<Request<A>, Future = ResponseFuture<F>>,
    {
    }
    is_service::<WebSocketService<S, H>, A, B, S::Future, S::Error>();
}

/// Compiles only while the future and the body are as free to move between threads as what they
/// are made of.
#[expect(dead_code, reason = "it is enough that this compiles")]
fn bounds_of_its_parts<F: Send, B: Send + Sync>() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<ResponseFuture<F>>();
    is_send::<ResponseBody<B>>();
    is_sync::<ResponseBody<B>>();
}

#[test]
fn the_future_holds_that_of_the_inner_service_unboxed() {
    type Large = Ready<[u8; 4096]>;
    assert!(size_of::<ResponseFuture<Large>>() >= size_of::<Large>());
    assert!(size_of::<ResponseFuture<Ready<()>>>() <= 256);
}

/// Neither a body, nor an error, nor fit for another thread.
#[derive(Clone, Debug)]
struct Thing(Rc<Cell<u32>>);

/// Polls what has nothing to wait for.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// A request for a websocket of another layer.
fn foreign<A>(version: Version, body: A) -> Request<A> {
    Request::get("/other")
        .version(version)
        .header(header::HOST, "example.com")
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_KEY, KEY)
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .body(body)
        .unwrap()
}

#[test]
fn any_request_and_response_pass_with_all_that_is_in_them() {
    let thing = Thing(Rc::default());
    let inner = service_fn(|mut request: Request<Thing>| {
        let mut response = Response::new(request.body().clone());
        *response.version_mut() = request.version();
        *response.status_mut() = StatusCode::ACCEPTED;
        *response.headers_mut() = std::mem::take(request.headers_mut());
        *response.extensions_mut() = std::mem::take(request.extensions_mut());
        request.body().0.set(request.body().0.get() + 1);
        ready(Ok::<_, Thing>(response))
    });
    let mut service = WebSocketLayer::default().path("/ws").layer(inner);
    let versions = [
        Version::HTTP_09,
        Version::HTTP_10,
        Version::HTTP_11,
        Version::HTTP_2,
        Version::HTTP_3,
    ];
    for (calls, version) in (1..).zip(versions) {
        let mark = Mark(Arc::default());
        let mut request = foreign(version, thing.clone());
        request.extensions_mut().insert(mark.clone());
        let headers = request.headers().clone();
        let response = now(service.call(request)).unwrap();
        assert_eq!(thing.0.get(), calls, "{version:?}");
        assert_eq!(response.version(), version);
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(response.headers(), &headers);
        let extensions: &Extensions = response.extensions();
        assert_eq!(extensions.len(), 1);
        assert!(Arc::ptr_eq(&extensions.get::<Mark>().unwrap().0, &mark.0));
    }
}

#[test]
fn versions_without_upgrade_are_not_looked_at() {
    let inner = service_fn(|request: Request<Thing>| {
        ready(Ok::<_, Infallible>(Response::new(request.into_body())))
    });
    let mut service = WebSocketLayer::default().layer(inner);
    for version in [
        Version::HTTP_09,
        Version::HTTP_10,
        Version::HTTP_2,
        Version::HTTP_3,
    ] {
        let response = now(service.call(foreign(version, Thing(Rc::default()))));
        assert_eq!(response.unwrap().status(), StatusCode::OK, "{version:?}");
    }
}

#[test]
fn an_error_of_the_inner_service_passes() {
    let failure = Thing(Rc::default());
    let inner = service_fn(|_: Request<()>| ready(Err::<Response<()>, _>(failure.clone())));
    let mut service = WebSocketLayer::default().path("/ws").layer(inner);
    let error = now(service.call(foreign(Version::HTTP_11, ()))).unwrap_err();
    assert!(Rc::ptr_eq(&error.0, &failure.0));
    let error = now(service.call(Request::new(()))).unwrap_err();
    assert!(Rc::ptr_eq(&error.0, &failure.0));
}

#[test]
fn a_response_that_is_not_there_yet_is_waited_for() {
    let inner = service_fn(|_: Request<()>| pending::<Result<Response<()>, Infallible>>());
    let mut service = WebSocketLayer::default().layer(inner);
    let mut response = pin!(service.call(Request::new(())));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(response.as_mut().poll(&mut cx).is_pending());
    assert!(response.as_mut().poll(&mut cx).is_pending());
}

/// A service whose readiness the test sets.
struct Gate(Rc<Cell<Poll<Result<(), &'static str>>>>);

impl Service<Request<()>> for Gate {
    type Response = Response<()>;
    type Error = &'static str;
    type Future = Ready<Result<Response<()>, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.0.get()
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

#[test]
fn the_inner_service_says_when_it_is_ready() {
    let gate = Rc::new(Cell::new(Poll::Pending));
    for enabled in [true, false] {
        let layer = WebSocketLayer::default().enabled(enabled);
        let mut service = layer.layer(Gate(Rc::clone(&gate)));
        for state in [
            Poll::Pending,
            Poll::Ready(Ok(())),
            Poll::Ready(Err("broken")),
        ] {
            gate.set(state);
            let told = now(poll_fn(|cx| Poll::Ready(service.poll_ready(cx))));
            assert_eq!(told, state);
        }
    }
}
