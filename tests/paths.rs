//! Requests that pass by a layer: nothing about them is silent.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tower_websocket::{WebSocketLayer, WebSocketService};

#[cfg(feature = "http2")]
use support::http2;
use support::{
    handlers::Recorder,
    raw::{Head, Reply, exchange, handshake, request, upgrade},
    tcp::serve,
};

// Paths that no request has

#[test]
fn a_path_that_cannot_match_is_refused_with_a_hint() {
    for (path, hint) in [
        ("", "does not start with /"),
        ("ws", "does not start with /"),
        ("http://example.com/ws", "does not start with /"),
        ("*", "does not start with /"),
        ("/rooms/{id}", "`route_service("),
        ("/rooms/{id", "`route_service("),
        ("/rooms/id}", "`route_service("),
        ("/rooms/{*rest}", "`route_service("),
        ("/*", "`route_service("),
        ("/ws/**", "`route_service("),
        ("/rooms/:id", "`route_service("),
        ("/:room/ws", "`route_service("),
        ("/ws?x=1", "leave it out"),
        ("/ws?", "leave it out"),
        ("/ws#top", "leave it out"),
        ("/my room", "%20"),
        ("/ws ", "%20"),
        ("/ws\t", "%20"),
        ("/ws\r\n", "%20"),
        ("/\u{a0}ws", "%20"),
        ("/ws\0", "%20"),
        ("/<ws>", "percent-encoded"),
        ("/`", "percent-encoded"),
    ] {
        let made = catch_unwind(AssertUnwindSafe(|| WebSocketLayer::default().path(path)));
        let panic = made.expect_err(path);
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains(&format!("the path {path:?} ")), "{text}");
        assert!(text.contains(hint), "{text}");
    }
}

#[tokio::test]
async fn a_path_that_can_match_does() {
    for path in [
        "/",
        "/ws",
        "/ws/",
        "//ws",
        "/a/b.c-d_e~f",
        "/%7Bid%7D",
        "/my%20room",
        "/v1/rooms:watch",
        "/a:b/c",
        "/@ada/(ws)",
        "/a,b;c=d&e+f$g!h'",
        "/a|b\\c^d",
        "/caf\u{e9}",
    ] {
        let layer = WebSocketLayer::new(Recorder::new()).path(path);
        let server = serve(layer.into_service()).await;
        upgrade(server, &handshake().line(&format!("GET {path} HTTP/1.1"))).await;
    }
}

// Without an inner service

async fn answer(
    service: WebSocketService<tower_websocket::UpgradeRequired, Recorder>,
    request: &Head,
) -> Reply {
    let bytes = exchange(serve(service).await, request).await;
    let text = String::from_utf8(bytes).unwrap();
    Reply::parse(text.replace("HTTP/1.0 ", "HTTP/1.1 ").as_bytes())
}

fn plain(line: &str) -> Head {
    request(line)
        .with("Host", "example.com")
        .with("Connection", "close")
}

#[tokio::test]
async fn a_service_without_an_inner_one_says_why_it_serves_nothing() {
    let bare = || WebSocketLayer::new(Recorder::new());
    let speaks = "this address speaks websocket";
    let no_upgrade = "this websocket handshake has no `Upgrade: websocket`: does a proxy drop it?";
    let old = "a websocket needs HTTP/1.1, and this handshake came over HTTP/1.0: does a proxy speak that?";
    let nothing = "no websocket is served at /ws";
    let without_upgrade = handshake()
        .without("Upgrade")
        .replaced("Connection", "close");
    for (layer, request, status, text) in [
        (bare(), plain("GET /ws HTTP/1.1"), 426, speaks),
        (bare(), plain("POST /ws HTTP/1.1"), 426, speaks),
        (bare().path("/ws"), plain("GET /ws?x HTTP/1.1"), 426, speaks),
        (bare(), without_upgrade.clone(), 426, no_upgrade),
        (bare().path("/ws"), without_upgrade.clone(), 426, no_upgrade),
        (
            bare(),
            handshake()
                .replaced("Upgrade", "h2c")
                .replaced("Connection", "upgrade, close"),
            426,
            no_upgrade,
        ),
        (bare(), handshake().line("GET /ws HTTP/1.0"), 426, old),
        (
            bare(),
            without_upgrade.clone().line("GET /ws HTTP/1.0"),
            426,
            old,
        ),
        // For a complete handshake, the response does not say that a part is missing.
        (bare().path("/live"), handshake(), 404, nothing),
        (bare().path("/ws/").path("/w"), handshake(), 404, nothing),
        (bare().matching(|_| false), handshake(), 404, nothing),
        (bare().enabled(false), handshake(), 404, nothing),
        (
            bare().path("/live"),
            plain("GET /ws HTTP/1.1"),
            404,
            nothing,
        ),
        (bare().path("/live"), without_upgrade, 404, nothing),
        (
            bare().path("/live"),
            handshake().line("GET /<b>\u{e9} HTTP/1.1"),
            400,
            "",
        ),
        (
            bare().path("/live"),
            handshake().line("GET /caf\u{e9} HTTP/1.1"),
            404,
            "no websocket is served at /caf\\xc3\\xa9",
        ),
    ] {
        let reply = answer(layer.into_service(), &request).await;
        let body = String::from_utf8_lossy(&reply.body);
        assert_eq!((reply.status, &*body), (status, text), "{request}");
        let asks = reply.field("upgrade").is_some();
        assert_eq!(asks, status == 426, "{request}");
        let options = reply.field("connection").unwrap_or_default();
        let names_upgrade = options.split(", ").any(|option| option == "upgrade");
        assert_eq!(names_upgrade, asks, "{request}: {options}");
        // Frames may follow.
        let is_upgrade = request.to_string().contains("\nUpgrade: ");
        if is_upgrade && !request.to_string().contains("HTTP/1.0") {
            assert!(options.contains("close"), "{request}: {options}");
        }
    }
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn a_service_without_an_inner_one_says_so_over_http2() {
    let layer = WebSocketLayer::new(Recorder::new()).path("/live");
    let session = http2::Session::new(http2::serve(layer.into_service())).await;
    let to = |path: &str| http::Request::get(format!("https://example.com{path}"));
    for (request, status, text) in [
        (http2::connect(), 404, "no websocket is served at /ws"),
        (
            http2::bare_connect("connect-udp"),
            404,
            "no websocket is served at /ws",
        ),
        (to("/ws"), 404, "no websocket is served at /ws"),
        (to("/live"), 426, "this address speaks websocket"),
        (
            to("/live").header("sec-websocket-version", "13"),
            426,
            "this websocket handshake has no `Upgrade: websocket`: does a proxy drop it?",
        ),
    ] {
        let mut refused = session.ask(request).await;
        assert_eq!(refused.status.as_u16(), status, "{text}");
        assert_eq!(
            refused.names(),
            ["content-length", "content-type", "x-content-type-options"]
        );
        assert_eq!(refused.text().await, text);
    }
}

// In the log

#[cfg(feature = "tracing")]
#[tokio::test]
async fn what_passes_by_leaves_a_line_at_debug_level() {
    use std::convert::Infallible;

    use http::{Request, Response};
    use hyper::body::Incoming;
    use tower::{Layer, service_fn};

    async fn page(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
        Ok(Response::new(String::from("page")))
    }
    let (log, _guard) = support::log::capture();
    let bare = || WebSocketLayer::new(Recorder::new());
    let closing = |request: Head| request.replaced("Connection", "upgrade, close");
    let lost = closing(handshake().without("Upgrade"));
    let others = "is passed on, because this layer answers only ";
    let no_upgrade =
        "a websocket handshake without `Upgrade: websocket` is taken for a plain request";
    for (layer, request, expected) in [
        (
            bare().path("/live"),
            closing(handshake()),
            Some(format!("{others}/live")),
        ),
        (
            bare().path("/ws/").path("/WS"),
            closing(handshake()),
            Some(format!("{others}/ws/, /WS")),
        ),
        (
            bare().matching(|_| false),
            closing(handshake()),
            Some(format!("{others}those selected by `matching`")),
        ),
        (
            bare().enabled(false),
            closing(handshake()),
            Some("switched off".into()),
        ),
        (bare().path("/ws"), lost.clone(), Some(no_upgrade.into())),
        (bare(), lost.clone(), Some(no_upgrade.into())),
        (
            bare().path("/ws"),
            lost.clone().line("GET /ws HTTP/1.0"),
            Some("a websocket handshake over HTTP/1.0 is taken for a plain request".into()),
        ),
        (
            bare(),
            closing(handshake()).line("GET /ws HTTP/1.0"),
            Some("a websocket handshake over HTTP/1.0 is taken for a plain request".into()),
        ),
        (
            bare().path("/ws"),
            closing(handshake()).replaced("Upgrade", "h2c"),
            Some(no_upgrade.into()),
        ),
        (
            bare().path("/ws"),
            plain("GET /ws?token=hush HTTP/1.1"),
            Some("a plain GET for a websocket".into()),
        ),
        // These requests log nothing.
        (bare().path("/ws"), plain("POST /ws HTTP/1.1"), None),
        (bare().path("/ws"), plain("GET /other HTTP/1.1"), None),
        (bare().path("/other"), lost, None),
        (bare(), plain("GET /ws HTTP/1.1"), None),
        (
            bare().path("/ws").enabled(false),
            plain("GET /ws HTTP/1.1"),
            None,
        ),
    ] {
        let before = log.count("tower_websocket");
        let told = expected.as_ref().map_or(0, |words| log.count(words));
        exchange(serve(layer.layer(service_fn(page))).await, &request).await;
        let lines = usize::from(expected.is_some());
        assert_eq!(log.count("tower_websocket") - before, lines, "{request}");
        if let Some(words) = expected {
            assert_eq!(log.count(&words) - told, 1, "{words}: {request}");
        }
    }
    // Each layer logs once at info level that a proxy has changed a handshake.
    assert_eq!(log.count("INFO"), log.count("is taken for a plain request"));
    let lines = log.count("DEBUG") + log.count("INFO");
    assert_eq!(lines, log.count("tower_websocket"));
    assert_eq!(log.count("hush"), 0);
}
