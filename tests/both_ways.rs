//! The same handshakes through a layer and through axum's extractor: status, fields and body are the same.
#![cfg(feature = "axum")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::net::IpAddr;

use axum::{Extension, Router, response::Response, routing::any};
use http::{HeaderValue, StatusCode, header};
use tower_websocket::{
    Accept, CloseCode, CloseFrame, Connections, Handler, OriginPolicy, Refusal, WebSocket,
    WebSocketLayer,
    axum::{Upgrade, UpgradeSettings},
};

use crate::support::{
    handlers::Recorder,
    raw::{Client, Head, KEY, Reply, handshake, request, text},
    tcp::serve,
};

/// A request, the settings of the server, the decision on a valid handshake, and the expected status.
struct Case {
    name: &'static str,
    head: Head,
    set: Set,
    decision: Decision,
    status: u16,
}

/// Settings that apply to a layer with a handler and to one without.
#[derive(Clone, Copy)]
enum Set {
    Default,
    Subprotocols(&'static [&'static str]),
    RequiredSubprotocol,
    Allowed(&'static str),
    MaxHead(usize),
    Full,
    ShuttingDown,
    MaxPerKey,
    MaxPerPeer,
    UnknownPeer,
    PanickingKey,
    Path(&'static str),
    Matching,
    PanickingMatch,
    Off,
}

impl Set {
    fn on<H>(self, layer: WebSocketLayer<H>) -> WebSocketLayer<H> {
        let connections = Connections::new();
        let peer = "192.0.2.1".parse::<IpAddr>().unwrap();
        match self {
            Self::Default => layer,
            Self::Subprotocols(names) => {
                let names = names.iter();
                names.fold(layer, |layer, name| layer.subprotocol(*name))
            }
            Self::RequiredSubprotocol => layer.subprotocol("chat").require_subprotocol(),
            Self::Allowed(origin) => layer.origin(OriginPolicy::same_host().allow(origin).unwrap()),
            Self::MaxHead(bytes) => layer.max_head_size(bytes),
            Self::Full => layer.connections_in(&connections.max_connections(0)),
            Self::ShuttingDown => {
                connections.close();
                layer.connections_in(&connections)
            }
            Self::MaxPerKey => layer.max_per_key(0, |request| Some(request.uri.path().to_owned())),
            Self::MaxPerPeer => layer.max_per_peer(0, move |_| Some(peer)),
            Self::UnknownPeer => layer.max_per_peer(9, |_| None),
            Self::PanickingKey => layer.max_per_key(9, |_| -> Option<u8> { panic!("the key") }),
            Self::Path(path) => layer.path(path),
            Self::Matching => layer.matching(|request| request.headers.contains_key("x-not-there")),
            Self::PanickingMatch => layer.matching(|_| panic!("the predicate")),
            Self::Off => layer.enabled(false),
        }
    }
}

/// The decision of the handler or function on a valid handshake.
#[derive(Clone, Copy)]
enum Decision {
    Accept,
    Speak(&'static [&'static str]),
    Require(&'static str),
    SetCookie,
    PanicInConfig,
    Refuse(fn() -> Refusal),
}

impl Decision {
    fn of_handler(self) -> Result<Accept, Refusal> {
        let accept = Accept::new();
        Ok(match self {
            Self::Accept => accept,
            Self::Speak(names) => {
                let names = names.iter();
                names.fold(accept, |accept, name| accept.subprotocol(*name))
            }
            Self::Require(name) => accept.subprotocol(name).require_subprotocol(),
            Self::SetCookie => accept.header(header::SET_COOKIE, cookie()),
            Self::PanicInConfig => accept.configure(|_| panic!("the settings")),
            Self::Refuse(refusal) => return Err(refusal()),
        })
    }

    fn of_function(self, upgrade: Upgrade) -> Response {
        let upgrade = match self {
            Self::Accept => upgrade,
            Self::Speak(names) => {
                let names = names.iter();
                names.fold(upgrade, |upgrade, name| upgrade.subprotocol(*name))
            }
            Self::Require(name) => upgrade.subprotocol(name).require_subprotocol(),
            Self::SetCookie => upgrade.header(header::SET_COOKIE, cookie()),
            Self::PanicInConfig => upgrade.configure(|_| panic!("the settings")),
            Self::Refuse(refusal) => return upgrade.refuse(refusal()),
        };
        upgrade.on_upgrade(async |mut socket: WebSocket| {
            while let Some(message) = socket.recv().await? {
                socket.send(message).await?;
            }
            Ok::<_, tower_websocket::Error>(())
        })
    }
}

fn cookie() -> HeaderValue {
    HeaderValue::from_static("seen=1")
}

fn unauthorized() -> Refusal {
    Refusal::unauthorized().header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

fn json() -> Refusal {
    Refusal::new(StatusCode::CONFLICT).json(r#"{"error":"taken"}"#)
}

fn redirect() -> Refusal {
    let response = http::Response::builder()
        .status(303)
        .header("location", "/login")
        .header("keep-alive", "5");
    response.body("log in").unwrap().into()
}

fn frame_4401() -> Refusal {
    let code = CloseCode::new(4401).unwrap();
    Refusal::close(CloseFrame::new(code, "token expired").unwrap())
        .header(header::SET_COOKIE, cookie())
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    use Decision as D;
    let offered = || handshake().with("Sec-WebSocket-Protocol", "chat, superchat");
    let case = |name, head, set, decision, status| Case { name, head, set, decision, status };
    let valid = |name, head, set, decision| case(name, head, set, decision, 101);
    let refused = |name, head, status| case(name, head, Set::Default, D::Accept, status);
    let limited = |name, set, status| case(name, handshake(), set, D::Accept, status);
    let decided = |name, decision, status| case(name, handshake(), Set::Default, decision, status);
    vec![
        valid("valid", handshake(), Set::Default, D::Accept),
        valid("an upgrade in a list", handshake().replaced("Upgrade", "h2c, WebSocket"), Set::Default, D::Accept),
        valid("page of the host", handshake().with("Origin", "http://example.com"), Set::Default, D::Accept),
        valid("page that is allowed", handshake().with("Origin", "https://app.example"), Set::Allowed("https://app.example"), D::Accept),
        valid("extensions that are not spoken", handshake().with("Sec-WebSocket-Extensions", "permessage-deflate"), Set::Default, D::Accept),
        valid("subprotocol of the settings", offered(), Set::Subprotocols(&["superchat", "chat"]), D::Accept),
        valid("subprotocol of the decision", offered(), Set::Subprotocols(&["superchat"]), D::Speak(&["other", "chat"])),
        valid("no subprotocol that was offered", offered(), Set::Subprotocols(&["other"]), D::Accept),
        valid("required subprotocol", offered(), Set::RequiredSubprotocol, D::Accept),
        valid("header of the decision", handshake(), Set::Default, D::SetCookie),
        valid("close", offered(), Set::Default, D::Refuse(frame_4401)),
        limited("subprotocol that is missing", Set::RequiredSubprotocol, 400),
        decided("subprotocol that is missing by decision", D::Require("chat"), 400),
        refused("method", handshake().line("POST /ws HTTP/1.1"), 405),
        refused("connection", handshake().replaced("Connection", "keep-alive"), 400),
        refused("host", handshake().without("Host"), 400),
        refused("host that is none", handshake().replaced("Host", "user@example.com"), 400),
        refused("key", handshake().replaced("Sec-WebSocket-Key", "short"), 400),
        refused("two keys", handshake().with("Sec-WebSocket-Key", KEY), 400),
        refused("version", handshake().replaced("Sec-WebSocket-Version", "8"), 426),
        refused("body", handshake().with("Content-Length", "5").followed_by("Hello"), 400),
        refused("page of another host", handshake().with("Origin", "https://evil.example"), 403),
        refused("page without an origin", handshake().with("Origin", "null"), 403),
        refused("list of subprotocols", handshake().with("Sec-WebSocket-Protocol", "a, a"), 400),
        refused("list of extensions", handshake().with("Sec-WebSocket-Extensions", "a; =b"), 400),
        refused("head", handshake().with("Cookie", &"x".repeat(17 * 1024)), 431),
        limited("head of other settings", Set::MaxHead(100), 431),
        limited("full registry", Set::Full, 503),
        limited("shutting down", Set::ShuttingDown, 503),
        limited("limit of a key", Set::MaxPerKey, 429),
        limited("limit of a peer", Set::MaxPerPeer, 429),
        limited("unknown peer", Set::UnknownPeer, 500),
        limited("panic of a key", Set::PanickingKey, 500),
        limited("panic of the predicate", Set::PanickingMatch, 500),
        decided("panic of the configuration", D::PanicInConfig, 500),
        decided("refusal", D::Refuse(unauthorized), 401),
        decided("refusal of JSON", D::Refuse(json), 409),
        decided("refusal of a response", D::Refuse(redirect), 303),
        limited("path of the settings", Set::Path("/ws"), 101),
        limited("another path", Set::Path("/other"), 404),
        limited("another predicate", Set::Matching, 404),
        limited("switched off", Set::Off, 404),
        refused("plain", request("GET /ws HTTP/1.1").with("Host", "example.com").with("Connection", "close"), 426),
        refused("without upgrade", handshake().without("Upgrade").replaced("Connection", "close"), 426),
        refused("other protocol", handshake().replaced("Upgrade", "h2c"), 426),
    ]
}

/// Sends a handshake. If a refusal is expected, also sends a request at once, which must not be answered.
async fn answer(app: Router, case: &Case) -> (Reply, Vec<u8>) {
    let server = serve(app).await;
    let mut client = Client::connect(server).await;
    client.write(case.head.bytes()).await;
    if case.status != 101 {
        client
            .write("GET /second HTTP/1.1\r\nHost: example.com\r\n\r\n")
            .await;
        let reply = Reply::parse(&client.rest().await);
        return (reply, Vec::new());
    }
    let reply = client.head().await;
    let frames = match case.decision {
        Decision::Refuse(_) => {
            client.write(support::wire::close(4401, "")).await;
            client.rest().await
        }
        _ => {
            client.write(text("Hello")).await;
            assert_eq!(client.text().await, "Hello", "{}", case.name);
            Vec::new()
        }
    };
    (reply, frames)
}

fn layered<H: Handler>(layer: WebSocketLayer<H>) -> Router {
    Router::new().route_service("/ws", layer.into_service())
}

fn extracted(settings: UpgradeSettings, decision: Decision) -> Router {
    let function = move |upgrade: Upgrade| std::future::ready(decision.of_function(upgrade));
    Router::new()
        .route("/ws", any(function))
        .layer(Extension(settings))
}

#[tokio::test]
async fn handshakes_are_answered_alike() {
    let cases = cases();
    assert!(cases.len() > 40);
    for case in cases {
        let decision = case.decision;
        let recorder = Recorder::deciding(move |_| decision.of_handler().map_err(Box::new));
        let layer = case.set.on(WebSocketLayer::new(recorder));
        let settings = case.set.on(UpgradeSettings::without_handler());
        let counts = [layer.connections(), settings.connections()];

        let (one, frames) = answer(layered(layer), &case).await;
        let (other, other_frames) = answer(extracted(settings, case.decision), &case).await;
        assert_eq!(one.status, case.status, "{}: {one:?}", case.name);
        assert_eq!(other.status, case.status, "{}: {other:?}", case.name);
        let sorted = |reply: &Reply| {
            let mut fields = reply.fields.clone();
            fields.sort();
            fields
        };
        assert_eq!(sorted(&one), sorted(&other), "{}", case.name);
        assert_eq!(one.body, other.body, "{}", case.name);
        assert_eq!(frames, other_frames, "{}", case.name);

        let [one, other] = counts.map(|connections| connections.counts());
        assert!(one.refused().eq(other.refused()), "{}", case.name);
        assert_eq!(one.accepted(), other.accepted(), "{}", case.name);
    }
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn handshakes_are_answered_alike_over_http2() {
    use crate::support::http2::{self, Session, bare_connect, connect};
    use tokio::io::AsyncReadExt;

    let offered = || connect().header("sec-websocket-protocol", "chat");
    let foreign = || connect().header("origin", "https://evil.example");
    let large = || connect().header("cookie", "x".repeat(400));
    for (number, (request, set, decision, status)) in [
        (connect(), Set::Default, Decision::Accept, 200),
        (
            offered(),
            Set::Subprotocols(&["chat"]),
            Decision::SetCookie,
            200,
        ),
        (connect(), Set::Default, Decision::Refuse(frame_4401), 200),
        (foreign(), Set::Default, Decision::Accept, 403),
        (
            bare_connect("websocket"),
            Set::Default,
            Decision::Accept,
            426,
        ),
        (
            bare_connect("connect-udp"),
            Set::Default,
            Decision::Accept,
            501,
        ),
        (large(), Set::MaxHead(300), Decision::Accept, 431),
        (connect(), Set::RequiredSubprotocol, Decision::Accept, 400),
        (connect(), Set::Full, Decision::Accept, 503),
        (connect(), Set::Default, Decision::Refuse(json), 409),
        (connect(), Set::Off, Decision::Accept, 404),
        (
            http::Request::get("https://example.com/ws"),
            Set::Default,
            Decision::Accept,
            426,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let recorder = Recorder::deciding(move |_| decision.of_handler().map_err(Box::new));
        let apps = [
            layered(set.on(WebSocketLayer::new(recorder))),
            extracted(set.on(UpgradeSettings::without_handler()), decision),
        ];
        let request = request.version(http::Version::HTTP_2).body(()).unwrap();
        let mut answers = Vec::new();
        for app in apps {
            let session = Session::new(http2::serve(app)).await;
            let (parts, ()) = request.clone().into_parts();
            let mut builder = http::Request::builder().method(parts.method).uri(parts.uri);
            *builder.headers_mut().unwrap() = parts.headers;
            *builder.extensions_mut().unwrap() = parts.extensions;
            let mut answer = session.ask(builder).await;
            let mut fields: Vec<_> = answer.headers.clone().into_iter().collect();
            fields.retain(|(name, _)| name.as_ref().is_none_or(|name| name != "date"));
            let mut body = Vec::new();
            if status != 200 {
                answer.read_to_end(&mut body).await.unwrap();
            }
            answers.push((answer.status, fields, body));
        }
        assert_eq!(answers[0].0, status, "case {number}");
        assert_eq!(answers[0], answers[1], "case {number}");
    }
}
