//! Pages that may connect and pages that may not, as they come over the wire: what a refusal says to
//! the client and to the operator.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::net::SocketAddr;

use tower_websocket::{OriginPolicy, TrustedProxies, WebSocketLayer};

#[cfg(feature = "http2")]
use support::http2;
use support::{
    handlers::Recorder,
    raw::{Head, KEY, Reply, exchange, handshake, request, upgrade},
    tcp::serve,
};

async fn server(policy: OriginPolicy) -> SocketAddr {
    let layer = WebSocketLayer::new(Recorder::new()).origin(policy);
    serve(layer.into_service()).await
}

fn from(origin: &str) -> Head {
    handshake().with("Origin", origin)
}

/// Returns the text of a refusal.
async fn refused(server: SocketAddr, request: &Head) -> String {
    let reply = Reply::parse(&exchange(server, request).await);
    assert_eq!(reply.status, 403, "{request}");
    String::from_utf8(reply.body).unwrap()
}

#[tokio::test]
async fn a_refusal_names_origin_and_host() {
    let server = server(OriginPolicy::same_host()).await;
    for (request, text) in [
        (
            from("http://localhost:5173").replaced("Host", "localhost:3000"),
            "pages of http://localhost:5173 may not connect to localhost:3000",
        ),
        (from("null"), "pages of null may not connect to example.com"),
        (
            from("https://a.example").with("Origin", "https://b.example"),
            "pages of https://a.example,\\x20https://b.example may not connect to example.com",
        ),
        (
            from("https://<b>\t\u{e9}\"").line("GET http://[::1]:80/ws HTTP/1.1"),
            "pages of https://<b>\\t\\xc3\\xa9\\\" may not connect to [::1]:80",
        ),
    ] {
        assert_eq!(refused(server, &request).await, text, "{request}");
    }
    let long = format!("https://{}", "\u{e9}".repeat(4000));
    let text = refused(server, &from(&long)).await;
    assert!(text.len() < 300, "{text}");
    assert!(text.contains("https://\\xc3\\xa9\\xc3"), "{text}");
}

#[tokio::test]
async fn a_forwarded_host_is_named_in_place_of_the_host() {
    let policy = OriginPolicy::same_host().x_forwarded_host(TrustedProxies::number(1));
    let server = server(policy).await;
    let asked = |hosts| from("https://app.example").with("X-Forwarded-Host", hosts);
    upgrade(server, &asked("evil.example, app.example")).await;
    assert_eq!(
        refused(server, &asked("app.example, other.example")).await,
        "pages of https://app.example may not connect to other.example"
    );

    let policy = OriginPolicy::same_host().forwarded(TrustedProxies::number(1));
    let server = self::server(policy).await;
    let asked = |element| from("https://app.example").with("Forwarded", element);
    upgrade(server, &asked("for=192.0.2.1;host=app.example")).await;
    assert_eq!(
        refused(server, &asked("host=app.example;host=app.example")).await,
        "pages of https://app.example may not connect: the forwarded host is malformed"
    );
}

#[tokio::test]
async fn a_panic_of_the_users_functions_is_answered_500() {
    let broken = TrustedProxies::peers(|_| panic!("part of the test"));
    for policy in [
        OriginPolicy::same_host().allow_if(|_, _| panic!("part of the test")),
        OriginPolicy::same_host().forwarded(broken),
    ] {
        let server = server(policy).await;
        // Neither is asked about clients that are no browsers.
        upgrade(server, &handshake()).await;
        let reply = Reply::parse(&exchange(server, &from("https://other.example")).await);
        assert_eq!(
            (reply.status, reply.field("connection")),
            (500, Some("close"))
        );
    }
}

/// The requests of devices and applications that are not browsers, each with the policy that it needs.
#[tokio::test]
async fn clients_that_are_not_browsers_can_be_allowed() {
    let esp8266 = request("GET /ws HTTP/1.1")
        .with("Host", "192.168.4.1:81")
        .with("Connection", "Upgrade")
        .with("Upgrade", "websocket")
        .with("Sec-WebSocket-Version", "13")
        .with("Sec-WebSocket-Key", KEY)
        .with("Sec-WebSocket-Protocol", "arduino")
        .with("Origin", "file://")
        .with("User-Agent", "arduino-WebSocket-Client");
    let ios = request("GET /ws HTTP/1.1")
        .with("Host", "example.com")
        .with("Upgrade", "websocket")
        .with("Connection", "Upgrade")
        .with("Sec-WebSocket-Key", KEY)
        .with("Sec-WebSocket-Version", "13")
        .with(
            "Sec-WebSocket-Extensions",
            "permessage-deflate; client_max_window_bits",
        )
        .with("Origin", "wss://example.com");
    let charger = from("https://github.com/someone/ocpp-library");
    let extension = from("moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc");
    let webview = from("vscode-webview://1g0k4ubfc8dvhfjmrsaeu2fo9ml6o5kdj");
    let vite = from("http://localhost:5174");
    let same_host = OriginPolicy::same_host;
    for (request, needs) in [
        (ios.clone(), same_host()),
        (ios.replaced("Origin", "ws://example.com:80"), same_host()),
        (esp8266, same_host().allow("file://").unwrap()),
        (charger, same_host().allow("https://github.com").unwrap()),
        (extension, same_host().allow("moz-extension://*").unwrap()),
        (webview, same_host().allow("vscode-webview://*").unwrap()),
        (vite, same_host().allow_loopback()),
        (from("null"), same_host().insecure_null()),
    ] {
        upgrade(server(needs).await, &request).await;
        let is_ios =
            request.to_string().contains("ws://") || request.to_string().contains("wss://");
        if !is_ios {
            refused(server(same_host()).await, &request).await;
        }
    }
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn pages_are_compared_with_the_authority_over_http2() {
    use http::StatusCode;

    let policy = OriginPolicy::same_host()
        .hosts(["example.com", "app.example"])
        .unwrap()
        .x_forwarded_host(TrustedProxies::number(2));
    let layer = WebSocketLayer::new(Recorder::new()).origin(policy);
    let session = http2::Session::new(http2::serve(layer.into_service())).await;
    let ask = |origin: &'static str, forwarded: &'static str| {
        let request = http2::connect().header("origin", origin);
        match forwarded {
            "" => request,
            hosts => request.header("x-forwarded-host", hosts),
        }
    };
    for request in [
        ask("https://example.com", ""),
        ask("wss://example.com", ""),
        ask("https://example.com/page", "one.example"),
        ask("https://app.example", "app.example, upstream:80"),
        ask(
            "https://app.example",
            "evil.example, app.example, upstream:80",
        ),
    ] {
        assert_eq!(session.ask(request).await.status, StatusCode::OK);
    }
    for (request, text) in [
        (
            ask("https://app.example", ""),
            "pages of https://app.example may not connect to example.com",
        ),
        (
            ask("https://evil.example", "evil.example, upstream:80"),
            "pages of https://evil.example may not connect to evil.example",
        ),
    ] {
        let mut tunnel = session.ask(request).await;
        assert_eq!(tunnel.status, StatusCode::FORBIDDEN);
        assert_eq!(tunnel.text().await, text);
    }
}

/// A page is at info level once a minute, other refusals once a minute for each reason; all of them are
/// at debug level.
#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn a_refusal_is_news_once_a_minute() {
    use std::time::Duration;

    use support::pipe;
    use tokio::time::advance;

    let (log, _guard) = support::log::capture();
    let layer = WebSocketLayer::new(Recorder::new());
    let ask = async |request: Head| {
        let mut client = pipe::serve(layer.clone().into_service(), 64 * 1024);
        support::wire::write(&mut client, &request.bytes()).await;
        support::wire::read_head(&mut client).await;
    };
    let said = |level: &str, words: &str| {
        log.count(&format!(
            "{level} tower_websocket::layer::report: websocket refused: {words}"
        ))
    };
    let page = "pages of http://localhost:5173 may not connect to example.com; to allow it, see \
                `OriginPolicy::allow`";
    for _ in 0..3 {
        ask(from("http://localhost:5173")).await;
        ask(handshake().without("Sec-WebSocket-Key")).await;
    }
    assert_eq!(log.count("websocket refused"), 6);
    assert_eq!((said(" INFO", page), said("DEBUG", page)), (1, 2));
    assert_eq!(
        (
            said(" INFO", "sec-websocket-key"),
            said("DEBUG", "sec-websocket-key")
        ),
        (1, 2)
    );
    assert_eq!(log.count("reason=\"origin_denied\" path=/ws"), 3);

    // Another page is news, and another reason.
    ask(from("http://localhost:5174")).await;
    assert_eq!(said(" INFO", "pages of http://localhost:5174"), 1);
    ask(handshake().replaced("Sec-WebSocket-Version", "8")).await;
    assert_eq!(said(" INFO", "sec-websocket-version"), 1);

    advance(Duration::from_secs(60)).await;
    ask(from("http://localhost:5173")).await;
    assert_eq!((said(" INFO", page), said("DEBUG", page)), (2, 2));

    // A client that invents origins does not fill the log.
    for number in 0..100 {
        ask(from(&format!("http://{number}.example"))).await;
    }
    assert_eq!(said(" INFO", "pages of http://"), 2 + 1 + 63);
    ask(handshake().without("Sec-WebSocket-Key")).await;
    assert_eq!(said(" INFO", "sec-websocket-key"), 2);
}
