//! The spans and events of `tracing`: which there are, where they belong, and that no secret is in
//! them.

#![cfg(feature = "tracing")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{future::pending, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use support::{
    by_path::{self, try_write, until_closed},
    pipe::{ask, open_at, serve, until, until_idle},
    traces::{Trace, events, has_ended, in_request_span, listen, spans, traces},
    wire::{
        FIN, TEXT, close, frame, handshake, handshake_with, read_head, read_payload, status, write,
    },
};
use tokio::{
    io::{AsyncReadExt, duplex},
    time::sleep,
};
use tower::ServiceExt;
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Config, Connections, Echo, Handler, ResponseBody, WebSocket,
    WebSocketLayer,
};
use tracing::{Level, info};

/// Waits until this many connections have been accepted and have ended.
async fn until_ended(connections: &Connections, accepted: u64) {
    until(connections, |counts| {
        (counts.open(), counts.accepted()) == (0, accepted)
    })
    .await;
}

/// Returns the fields of a span.
fn text_of(wanted: u64) -> String {
    let text = traces().into_iter().find_map(|trace| match trace {
        Trace::Began { span, text, .. } if span == wanted => Some(text),
        _ => None,
    });
    text.unwrap()
}

/// Logs its progress, and echoes.
async fn logging_echo(mut socket: WebSocket) -> Result<(), BoxError> {
    info!("handler begins");
    while let Some(message) = socket.recv().await? {
        info!("handler received");
        socket.send(message).await?;
    }
    info!("handler ends");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_span_covers_a_connection_inside_of_its_request() {
    listen();
    let layer = WebSocketLayer::new(logging_echo);
    let service = in_request_span(&layer);
    let (head, mut client) = ask(service, &handshake("/ws?token=hush")).await;
    assert_eq!(status(&head), 101);
    write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
    assert_eq!(read_payload(&mut client).await, b"Hello");

    let requests = spans("request");
    let sockets = spans("websocket");
    let (&[(request, None)], &[(socket, parent)]) = (&requests[..], &sockets[..]) else {
        panic!("{requests:?} {sockets:?}");
    };
    assert_eq!(parent, Some(request));
    assert!(!has_ended(socket), "the connection is not over");

    write(&mut client, &close(1000, "")).await;
    assert_eq!(until_closed(client).await, Some(1000));
    until_idle(&layer.connections()).await;
    assert!(has_ended(socket) && has_ended(request));
    for words in [
        "websocket opened",
        "handler begins",
        "handler received",
        "handler ends",
        "websocket closed",
    ] {
        let events = events(words);
        assert_eq!(events.len(), 1, "{words}: {events:?}");
        assert_eq!(events[0].1, [socket, request], "{words}");
    }
    assert!(text_of(socket).contains("/ws"), "the span has the path");
}

#[tokio::test(start_paused = true)]
async fn shows_a_path_as_visible_ascii_and_no_more_than_200_bytes() {
    listen();
    let layer = WebSocketLayer::new(logging_echo);
    // U+009B begins a terminal command, and U+202E reverses the text.
    let path = format!("/\u{9b}31m\u{202e}{}", "x".repeat(4096));
    drop(open_at(&layer, &path).await);
    until_idle(&layer.connections()).await;
    let socket = spans("websocket")[0].0;
    let text = text_of(socket);
    assert!(text.contains(r"/\xc2\x9b31m\xe2\x80\xaexxx"), "{text}");
    assert!(text.contains("x...") && text.len() < 1000, "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_warning_about_a_handler_shows_its_path_as_visible_ascii() {
    listen();
    let stuck = async |socket: WebSocket| {
        let _socket = socket;
        pending::<Result<(), BoxError>>().await
    };
    let config = Config::new().handler_grace(Duration::from_secs(1));
    let layer = WebSocketLayer::new(stuck).config(config);
    drop(open_at(&layer, &format!("/\u{9b}31m{}", "x".repeat(4096))).await);
    layer.connections().wait().await;
    let warned = traces().into_iter().find_map(|trace| match trace {
        Trace::Event { text, .. } if text.contains("is dropped; see") => Some(text),
        _ => None,
    });
    let text = warned.unwrap();
    assert!(text.contains(r"/\xc2\x9b31mxxx"), "{text}");
    assert!(text.len() < 2000, "{text}");
}

#[tokio::test(start_paused = true)]
async fn each_connection_has_a_span_of_its_own() {
    listen();
    let layer = WebSocketLayer::new(logging_echo);
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(ask(in_request_span(&layer), &handshake("/")).await.1);
    }
    for client in &mut clients {
        write(client, &frame(FIN | TEXT, b"Hello")).await;
        assert_eq!(read_payload(client).await, b"Hello");
    }
    let mut sockets: Vec<_> = spans("websocket").iter().map(|(span, _)| *span).collect();
    let received = events("handler received").into_iter();
    let mut scopes: Vec<_> = received.map(|(_, scope)| scope[0]).collect();
    sockets.sort_unstable();
    scopes.sort_unstable();
    assert_eq!(sockets.len(), 5);
    assert_eq!(scopes, sockets);
    drop(clients);
    until_idle(&layer.connections()).await;
    assert!(sockets.into_iter().all(has_ended));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_span_has_no_parent() {
    listen();
    let layer = WebSocketLayer::new(logging_echo);
    drop(open_at(&layer, "/").await);
    until_idle(&layer.connections()).await;
    let sockets = spans("websocket");
    let [(_, None)] = sockets[..] else {
        panic!("{sockets:?}");
    };
}

#[tokio::test(start_paused = true)]
async fn the_span_ends_however_the_connection_ends() {
    listen();
    let layer = by_path::layer();
    for path in ["/return", "/fail", "/panic", "/wait"] {
        let client = open_at(&layer, path).await;
        if path == "/wait" {
            drop(client);
            sleep(Duration::from_secs(1)).await;
            let _ = layer.connections().shutdown(Duration::ZERO).await;
        } else {
            assert!(until_closed(client).await.is_some(), "{path}");
            until_idle(&layer.connections()).await;
        }
        let (socket, _) = *spans("websocket").last().unwrap();
        assert!(has_ended(socket), "{path}");
    }
    let sockets: Vec<_> = spans("websocket").iter().map(|(span, _)| *span).collect();
    assert_eq!(sockets.len(), 4);
    let failed = events("the websocket handler failed");
    assert_eq!(failed, [(Level::WARN, vec![sockets[1]])]);
    let panicked = events("the websocket handler panicked");
    assert_eq!(panicked, [(Level::ERROR, vec![sockets[2]])]);
}

#[tokio::test(start_paused = true)]
async fn limit_without_a_key_or_a_peer_is_reported_once() {
    listen();
    let keyless = WebSocketLayer::new(Echo::new()).max_per_key(1, |_| None::<()>);
    let _clients = [open_at(&keyless, "/").await, open_at(&keyless, "/").await];
    let [(Level::WARN, _)] = events("`max_per_key`")[..] else {
        panic!("{:?}", events("`max_per_key`"));
    };
    let peerless = WebSocketLayer::new(Echo::new()).max_per_peer(1, |_| None);
    for _ in 0..2 {
        let service = peerless.clone().into_service();
        let (head, _client) = ask(service, &handshake("/")).await;
        assert_eq!(status(&head), 500);
    }
    let [(Level::ERROR, _)] = events("the function of `max_per_peer`")[..] else {
        panic!("{:?}", events("`max_per_peer`"));
    };
    assert_eq!(events("websocket refused").len(), 2);
}

/// A key that logs when it is dropped, which is when its place is given back.
#[derive(Eq, Hash, PartialEq)]
struct Key;

impl Drop for Key {
    fn drop(&mut self) {
        info!("place given back");
    }
}

#[tokio::test(start_paused = true)]
async fn gives_the_place_back_within_the_span() {
    async fn assert_in_span(what: &str, layer: WebSocketLayer<impl Handler>) {
        let layer = layer.max_per_key(1, |_| Some(Key));
        for is_aborted in [false, true] {
            listen();
            let mut client = open_at(&layer, "/").await;
            let (socket, _) = spans("websocket")[0];
            assert!(events("place given back").is_empty(), "{what}");
            if is_aborted {
                let _ = layer.connections().shutdown(Duration::ZERO).await;
            } else {
                write(&mut client, &close(1000, "")).await;
                assert_eq!(until_closed(client).await, Some(1000));
                until_idle(&layer.connections()).await;
            }
            let events = events("place given back");
            assert!(!events.is_empty(), "{what}, aborted: {is_aborted}");
            for (_, scope) in events {
                assert_eq!(scope, [socket], "{what}, aborted: {is_aborted}");
            }
            assert!(has_ended(socket), "{what}, aborted: {is_aborted}");
        }
    }
    assert_in_span("a handler", WebSocketLayer::new(logging_echo)).await;
    assert_in_span("echo", WebSocketLayer::new(Echo::new())).await;
}

/// Asserts that no span, and no event at debug level or above, has a secret in it.
fn assert_discreet(doing: &str) {
    let bytes = b"hush".map(|byte| byte.to_string()).join(", ");
    for trace in traces() {
        let text = match &trace {
            Trace::Event { level, .. } if *level > Level::DEBUG => continue,
            Trace::Event { text, .. } | Trace::Began { text, .. } => text,
            Trace::Ended { .. } => continue,
        };
        let discreet = !text.contains("hush") && !text.contains(&bytes);
        assert!(discreet, "{doing}: {trace:?}");
    }
}

/// Adds every header that may have a secret.
fn with_secrets(request: &str) -> String {
    let request = request.strip_suffix("\r\n").unwrap();
    format!(
        "{request}Authorization: Bearer hush-header\r\nCookie: session=hush-cookie\r\n\
         User-Agent: hush-agent\r\nX-Custom: hush-custom\r\n\
         Referer: https://example.com/hush-referer\r\n\r\n"
    )
}

#[tokio::test(start_paused = true)]
async fn logs_no_secrets_of_refused_handshakes() {
    listen();
    let layer = by_path::layer();
    let mut refused = 0;
    for (expected, label, request) in by_path::refusals() {
        let request = with_secrets(&request);
        let (head, _client) = ask(in_request_span(&layer), &request).await;
        assert_eq!(status(&head), expected, "{label}");
        assert_discreet(label);
        refused += 1;
        assert_eq!(events("websocket refused").len(), refused, "{label}");
    }
    assert_eq!(events("panicked while accepting").len(), 2 + 2);
}

#[tokio::test(start_paused = true)]
async fn logs_no_secrets_of_connections_however_they_end() {
    listen();
    let secret = |path: &str| {
        let lines = "Sec-WebSocket-Protocol: hush-subprotocol\r\n\
                     Sec-WebSocket-Extensions: hush-extension\r\n";
        let path = format!("{path}?token=hush-query");
        with_secrets(&handshake_with(&path, lines))
    };
    for (path, bytes, _, code) in by_path::endings() {
        let layer = by_path::layer();
        let connections = layer.connections();
        let (head, mut client) = ask(in_request_span(&layer), &secret(path)).await;
        assert_eq!(status(&head), 101, "{path}");
        try_write(&mut client, &bytes).await;
        assert_eq!(until_closed(client).await, code, "{path}");
        if path == "/wait" {
            let _ = connections.shutdown(Duration::ZERO).await;
        }
        until_idle(&connections).await;
        assert_discreet(&format!("{path} {}", bytes.escape_ascii()));
    }
    let opened = by_path::endings().len();
    assert_eq!(events("websocket opened").len(), opened);
    assert_eq!(events("websocket closed").len(), opened);

    let layer = by_path::layer();
    let connections = layer.connections();
    // The peer reads nothing.
    let mut client = serve(layer.clone().into_service(), 1024);
    write(&mut client, secret("/stuck").as_bytes()).await;
    let _ = read_head(&mut client).await;
    until_idle(&connections).await;
    assert_discreet("/stuck");

    // The server is shut down.
    let (_, client) = ask(in_request_span(&layer), &secret("/")).await;
    connections.close_with(CloseFrame::new(CloseCode::SERVICE_RESTART, "restart").unwrap());
    assert_eq!(until_closed(client).await, Some(1012));
    until_idle(&connections).await;
    assert_discreet("shutdown");
}

#[tokio::test(start_paused = true)]
async fn logs_no_secrets_of_failed_upgrades() {
    listen();
    let layer = by_path::layer();
    let connections = layer.connections();
    let request = with_secrets(&handshake("/?token=hush-query"));

    // The server does not support upgrades.
    let (server, mut client) = duplex(4096);
    let service = TowerToHyperService::new(in_request_span(&layer));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(async { drop(connection.await) });
    write(&mut client, request.as_bytes()).await;
    until_ended(&connections, 1).await;
    assert_eq!(events("does not hand out its connections").len(), 1);

    // An outer layer replaces the 101.
    let replaced = ServiceExt::<Request<Incoming>>::map_response(
        in_request_span(&layer),
        |_: Response<ResponseBody<String>>| {
            let close = HeaderValue::from_static("close");
            let mut other = Response::new(ResponseBody::default());
            *other.status_mut() = StatusCode::FORBIDDEN;
            other.headers_mut().insert(header::CONNECTION, close);
            other
        },
    );
    for accepted in [2, 3] {
        let mut client = serve(replaced.clone(), 4096);
        write(&mut client, request.as_bytes()).await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        until_ended(&connections, accepted).await;
    }
    let levels = events("an outer layer replaced the 101").into_iter();
    let levels: Vec<_> = levels.map(|(level, _)| level).collect();
    assert_eq!(
        levels,
        [Level::ERROR, Level::DEBUG],
        "an error once a minute"
    );

    // The 101 is not written in time; the stream ends before it is written.
    let mut client = serve(in_request_span(&layer), 32);
    write(&mut client, request.as_bytes()).await;
    until_ended(&connections, 4).await;
    assert_eq!(events("did not hand over the connection in time").len(), 1);
    drop(client);
    let mut client = serve(in_request_span(&layer), 32);
    write(&mut client, request.as_bytes()).await;
    sleep(Duration::from_secs(1)).await;
    drop(client);
    until_ended(&connections, 5).await;
    assert_eq!(events("broke before the 101 was sent").len(), 1);
    assert_discreet("upgrades");
    assert!(spans("websocket").iter().all(|(span, _)| has_ended(*span)));
}
