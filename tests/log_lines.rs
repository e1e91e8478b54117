//! The log: each line names its connection, the last line says how it ended, and the level fits the cause.

#![cfg(feature = "tracing")]

mod support;

use std::{net::IpAddr, time::Duration};

use http::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};
use support::{
    by_path::{self, try_write, until_closed},
    formats::{FORMATS, lines, listen, parsed},
    pipe::{ask, ask_as, open_at, serve, serve_on, until_idle},
    wire::{
        BINARY, FIN, TEXT, close, frame, handshake, handshake_with, read_frame, read_head,
        read_payload, status, write,
    },
};
use tokio::{io::duplex, time::sleep};
use tower::ServiceBuilder;
use tower_http::{
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::TraceLayer,
};
use tower_websocket::{
    BoxError, Config, Connections, Echo, Observer, Refused, WebSocket, WebSocketLayer,
};
use tracing::{Span, debug, info_span};

/// Sends its number first, then logs and echoes each message.
async fn numbered(mut socket: WebSocket) -> Result<(), BoxError> {
    socket.send(socket.id().to_string()).await?;
    while let Some(message) = socket.recv().await? {
        debug!("handler received");
        socket.send(message).await?;
    }
    Ok(())
}

const MOMENTS: [&str; 3] = ["websocket opened", "handler received", "websocket closed"];

/// Returns for each moment the only line that contains `words`.
fn own_lines(format: usize, words: &str) -> [String; 3] {
    MOMENTS.map(|moment| {
        let all = lines(format, moment);
        let own: Vec<_> = all.iter().filter(|line| line.contains(words)).collect();
        let [line] = own[..] else {
            panic!("{}: {words} in {all:#?}", FORMATS[format]);
        };
        line.clone()
    })
}

#[tokio::test(start_paused = true)]
async fn two_connections_on_one_path_are_told_apart_by_number_and_peer() {
    listen();
    let layer = WebSocketLayer::new(numbered).max_per_peer(9, |request| {
        let user = request.headers.get("x-user")?.to_str().ok()?;
        Some(IpAddr::from([192, 0, 2, user.parse().ok()?]))
    });
    let mut numbers = Vec::new();
    let mut clients = Vec::new();
    for user in ["1", "2"] {
        let (_, mut client) = ask_as(&layer, "/room", user).await;
        numbers.push(String::from_utf8(read_payload(&mut client).await).unwrap());
        clients.push(client);
    }
    for mut client in clients {
        write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
        assert_eq!(read_payload(&mut client).await, b"Hello");
        write(&mut client, &close(1000, "")).await;
        assert_eq!(until_closed(client).await, Some(1000));
    }
    until_idle(&layer.connections()).await;
    for (number, user) in numbers.iter().zip(1..) {
        let peer = format!("192.0.2.{user}");
        for (format, name) in FORMATS.iter().enumerate() {
            let id = match *name {
                "json" => format!("\"id\":{number},"),
                _ => format!("id={number} "),
            };
            for line in own_lines(format, &id) {
                assert!(line.contains(&peer) && line.contains("/room"), "{line}");
            }
        }
        let id: u64 = number.parse().unwrap();
        let closed = parsed("websocket closed").into_iter();
        let own = closed.filter(|line| line["span"]["id"] == id);
        let spans: Vec<_> = own.map(|line| line["span"].clone()).collect();
        let expected = json!({"name": "websocket", "id": id, "peer": peer, "path": "/room"});
        assert_eq!(spans, [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_custom_span_puts_the_user_on_every_line() {
    listen();
    let layer = WebSocketLayer::new(numbered).make_span(|id, request| {
        let user = request.headers["x-user"].to_str().unwrap();
        info_span!("socket", %id, user)
    });
    for user in ["ada", "bob"] {
        let (_, mut client) = ask_as(&layer, "/room", user).await;
        read_frame(&mut client).await.unwrap();
        write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
        assert_eq!(read_payload(&mut client).await, b"Hello");
        write(&mut client, &close(1000, "")).await;
        assert_eq!(until_closed(client).await, Some(1000));
    }
    until_idle(&layer.connections()).await;
    for (format, name) in FORMATS.iter().enumerate() {
        for (user, other) in [("ada", "bob"), ("bob", "ada")] {
            let field = match *name {
                "json" => format!("\"user\":\"{user}\""),
                _ => format!("user=\"{user}\""),
            };
            let own = own_lines(format, &field);
            assert!(own.iter().all(|line| !line.contains(other)), "{own:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_line_of_a_connection_has_the_request_id_of_the_proxy() {
    listen();
    let layer = WebSocketLayer::new(numbered);
    let trace = TraceLayer::new_for_http().make_span_with(|request: &Request<Incoming>| {
        let id = request.headers()["x-request-id"].to_str().unwrap();
        info_span!("request", request_id = id)
    });
    let service = ServiceBuilder::new()
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(trace)
        .layer(PropagateRequestIdLayer::x_request_id())
        .service(layer.clone().into_service());
    for id in ["proxy-7", "proxy-8"] {
        let (server, mut client) = duplex(4096);
        serve_on(server, service.clone());
        let request = handshake_with("/room", &format!("X-Request-Id: {id}\r\n"));
        write(&mut client, request.as_bytes()).await;
        let head = read_head(&mut client).await;
        assert_eq!(status(&head), 101);
        assert!(head.contains(&format!("x-request-id: {id}\r\n")), "{head}");
        let number = String::from_utf8(read_payload(&mut client).await).unwrap();
        write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
        assert_eq!(read_payload(&mut client).await, b"Hello");
        sleep(Duration::from_millis(1500)).await;
        write(&mut client, &close(4001, "good bye")).await;
        assert_eq!(until_closed(client).await, Some(4001));
        until_idle(&layer.connections()).await;

        for format in 0..FORMATS.len() {
            assert!(own_lines(format, id)[2].contains("duration_ms"), "{id}");
        }
        let closed = parsed("websocket closed").pop().unwrap();
        assert_eq!(closed["spans"][0]["request_id"], id);
        assert_eq!(closed["spans"][1]["path"], "/room");
        let expected = json!({
            "message": "websocket closed", "code": 4001, "by": "Remote", "clean": true,
            "reason": "good bye", "duration_ms": 1500,
            "messages_received": 1, "bytes_received": 5,
            "messages_sent": 2, "bytes_sent": 5 + number.len(),
        });
        assert_eq!(closed["fields"], expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_line_says_who_closed_why_and_with_which_code() {
    for (path, bytes, side, code) in by_path::endings() {
        listen();
        let layer = by_path::layer();
        let mut client = open_at(&layer, path).await;
        try_write(&mut client, &bytes).await;
        assert_eq!(until_closed(client).await, code, "{path}");
        if path == "/wait" {
            let _ = layer.connections().shutdown(Duration::ZERO).await;
        }
        until_idle(&layer.connections()).await;
        let closed = parsed("websocket closed");
        let [Value::Object(line)] = &closed[..] else {
            panic!("{path}: {closed:?}");
        };
        let fields = &line["fields"];
        assert_eq!(line["level"], "DEBUG");
        assert_eq!(fields["by"], format!("{side:?}"), "{path}");
        assert_eq!(fields["code"].as_u64(), code.map(u64::from), "{path}");
        let reason = fields["reason"].as_str();
        let is_violation = matches!(code, Some(1002 | 1007..=1009));
        if is_violation || code.is_none() && side == tower_websocket::Side::Local {
            let reason = reason.unwrap();
            let is_rule = reason.contains(' ') && reason != "a reason";
            assert!(is_rule, "{path} {code:?}: {reason}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_aborted_connection_and_a_connection_from_io_have_a_last_line() {
    listen();
    let connections = Connections::new();
    let (server, client) = duplex(4096);
    let socket = connections.from_io(server, Config::new()).unwrap();
    let (id, runs) = (
        socket.id(),
        tokio::spawn(async move { socket.closed().await }),
    );
    drop(client);
    runs.await.unwrap();
    until_idle(&connections).await;
    let line = parsed("websocket closed").pop().unwrap();
    assert_eq!(line["span"]["id"].to_string(), id.to_string());
    assert_eq!(line["fields"]["by"], "Remote");

    listen();
    let stuck = async |_: WebSocket| std::future::pending::<Result<(), BoxError>>().await;
    let layer = WebSocketLayer::new(stuck);
    let _client = open_at(&layer, "/stuck").await;
    let _ = layer.connections().shutdown(Duration::ZERO).await;
    let line = parsed("websocket closed").pop().unwrap();
    assert_eq!(line["span"]["path"], "/stuck");
    assert_eq!(line["fields"]["reason"], "aborted");
}

#[tokio::test(start_paused = true)]
async fn escapes_the_reason_that_a_peer_chose() {
    listen();
    let layer = WebSocketLayer::new(Echo::new());
    let mut client = open_at(&layer, "/").await;
    write(&mut client, &close(4000, "a\u{9b}31m b\n\u{202e}")).await;
    assert_eq!(until_closed(client).await, Some(4000));
    until_idle(&layer.connections()).await;
    let line = parsed("websocket closed").pop().unwrap();
    assert_eq!(line["fields"]["reason"], r"a\xc2\x9b31m b\n\xe2\x80\xae");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_has_its_path_status_and_cause_at_info_once_a_minute() {
    listen();
    let layer = by_path::layer();
    for (expected, label, request) in by_path::refusals() {
        let before = parsed("websocket refused").len();
        let (head, _client) = ask(layer.clone().into_service(), &request).await;
        assert_eq!(status(&head), expected);
        let told = parsed("websocket refused");
        let [line] = &told[before..] else {
            panic!("{label}: {told:?}");
        };
        let fields = &line["fields"];
        assert_eq!(
            (&fields["status"], &fields["reason"]),
            (&json!(expected), &json!(label))
        );
        assert!(fields["path"].as_str().unwrap().starts_with('/'), "{line}");
    }
    // Two refusals have the label `accept_panicked`, so one of them is logged at debug level.
    let at_info = |words| {
        let lines = parsed(words).into_iter();
        lines.filter(|line| line["level"] == "INFO").count()
    };
    assert_eq!(at_info("websocket refused"), by_path::refusals().len() - 1);
    for (_, _, request) in by_path::refusals() {
        drop(ask(layer.clone().into_service(), &request).await);
    }
    // The second round is within the same minute: accepting takes at most 10 s of it.
    assert_eq!(at_info("websocket refused"), by_path::refusals().len() - 1);
}

struct Panics;

impl Observer for Panics {
    fn refused(&self, _: &Refused<'_>) {
        panic!("of the observer");
    }
}

#[tokio::test(start_paused = true)]
async fn panics_carry_their_message() {
    let panicked = |words: &str| {
        let lines = parsed(words).into_iter();
        let lines = lines.filter(|line| line["fields"]["panicked"] != Value::Null);
        let shown = lines.map(|line| (line["level"].clone(), line["fields"]["panicked"].clone()));
        shown.collect::<Vec<_>>()
    };
    let error = |text: &str| (json!("ERROR"), json!(text));
    listen();
    let layer = by_path::layer().connections_in(&Connections::new().observer(Panics));
    assert_eq!(
        until_closed(open_at(&layer, "/panic").await).await,
        Some(1011)
    );
    until_idle(&layer.connections()).await;
    assert_eq!(
        panicked("the websocket handler panicked"),
        [error("of the handler")]
    );
    let knock = async |path: &str| {
        let (head, _client) = ask(layer.clone().into_service(), &handshake(path)).await;
        status(&head)
    };
    assert_eq!(knock("/panic-in-accept").await, 500);
    assert_eq!(panicked("panicked while accepting"), [error("of accept")]);
    assert_eq!(
        panicked("an observer of the websocket connections"),
        [error("of the observer")]
    );

    for layer in [
        WebSocketLayer::new(Echo::new()).make_span(|_, _| -> Span { panic!("of the span") }),
        WebSocketLayer::new(Echo::new()).peer(|_| panic!("of the span")),
    ] {
        listen();
        let (head, _client) = ask(layer.into_service(), &handshake("/")).await;
        assert_eq!(status(&head), 500);
        assert_eq!(panicked("panicked while accepting"), [error("of the span")]);
    }
}

/// Returns the lines at warn and error level, except those that the operator causes.
fn alarms() -> Vec<String> {
    let all = lines(2, "\"level\":\"").into_iter();
    // The operator's function for `max_per_key` returns no key.
    let all = all.filter(|line| !line.contains("`max_per_key`"));
    all.filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn events_that_a_client_causes_are_not_logged_at_warn_or_error_level() {
    listen();
    let layer = by_path::layer();
    let connections = layer.connections();
    for (_, label, request) in by_path::refusals() {
        let of_server = ["accept_panicked", "unknown_peer"].contains(&label);
        if !of_server {
            drop(ask(layer.clone().into_service(), &request).await);
            assert!(alarms().is_empty(), "{label}: {:?}", alarms());
        }
    }
    for (path, bytes, ..) in by_path::endings() {
        // Here the handler fails or never ends.
        if ["/fail", "/panic", "/reason", "/wait"].contains(&path) {
            continue;
        }
        let mut client = open_at(&layer, path).await;
        try_write(&mut client, &bytes).await;
        until_closed(client).await;
        until_idle(&connections).await;
        assert!(alarms().is_empty(), "{path}: {:?}", alarms());
    }
    // A binary message to a handler that expects text, and clients that disconnect or read nothing.
    let mut client = open_at(&layer, "/text").await;
    write(&mut client, &frame(FIN | BINARY, b"binary")).await;
    assert_eq!(until_closed(client).await, Some(1003));
    drop(open_at(&layer, "/").await);
    let _unread = open_at(&layer, "/stuck").await;
    // One client does not read the 101 in time, another one disconnects before.
    let mut slow = serve(layer.clone().into_service(), 32);
    write(&mut slow, handshake("/").as_bytes()).await;
    let mut gone = serve(layer.clone().into_service(), 32);
    write(&mut gone, handshake("/").as_bytes()).await;
    sleep(Duration::from_secs(1)).await;
    drop(gone);
    until_idle(&connections).await;
    assert_eq!(
        lines(0, "did not hand over the connection in time").len(),
        1
    );
    assert!(alarms().is_empty(), "{:?}", alarms());
}

/// Closes a connection whose handler takes no message for 30 s.
fn impatient() -> Config {
    Config::new()
        .receive_timeout(Duration::from_secs(30))
        .without_keepalive()
        .max_inbox(1, 16)
}

/// A peer that keeps sending and reads slowly keeps the handler in `send`.
#[tokio::test(start_paused = true)]
async fn a_handler_that_waits_for_a_slow_peer_is_no_alarm() {
    for sends in [true, false] {
        listen();
        let handler = move |mut socket: WebSocket| async move {
            for _ in 0..if sends { 3 } else { 0 } {
                socket.send(vec![7; 512 * 1024]).await?;
            }
            std::future::pending::<Result<(), BoxError>>().await
        };
        let layer = WebSocketLayer::new(handler).config(impatient());
        let mut client = open_at(&layer, "/").await;
        for _ in 0..3 {
            write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
        }
        let mut bytes = [0; 1024];
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            if sends {
                let _ = tokio::io::AsyncReadExt::read(&mut client, &mut bytes).await;
            }
        }
        assert_eq!(lines(0, "the websocket handler took no message").len(), 1);
        assert_eq!(alarms().is_empty(), sends, "{:?}", alarms());
    }
}

/// A handler that flushes waits for its peer, too.
#[tokio::test(start_paused = true)]
async fn a_handler_that_flushes_to_a_slow_peer_is_no_alarm() {
    listen();
    let handler = |mut socket: WebSocket| async move {
        socket.recv().await?;
        socket.send(vec![7; 1024 * 1024]).await?;
        futures_util::SinkExt::flush(&mut socket).await?;
        std::future::pending::<Result<(), BoxError>>().await
    };
    let layer = WebSocketLayer::new(handler).config(impatient());
    let mut client = open_at(&layer, "/").await;
    write(&mut client, &frame(FIN | TEXT, b"Hello").repeat(3)).await;
    let mut bytes = [0; 1024];
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        let _ = tokio::io::AsyncReadExt::read(&mut client, &mut bytes).await;
    }
    assert_eq!(lines(0, "the websocket handler took no message").len(), 1);
    assert!(alarms().is_empty(), "{:?}", alarms());
}

/// Code that reads or writes a stream of bytes puts the errors of its connection into an `io::Error`, which
/// hides them from `Error::source`.
#[tokio::test(start_paused = true)]
async fn an_error_of_the_connection_inside_an_io_error_is_no_alarm() {
    listen();
    let handler = |mut socket: WebSocket| async move {
        while socket
            .recv()
            .await
            .map_err(std::io::Error::other)?
            .is_some()
        {}
        Ok::<_, BoxError>(())
    };
    let layer = WebSocketLayer::new(handler);
    drop(open_at(&layer, "/").await);
    until_idle(&layer.connections()).await;
    assert_eq!(lines(0, "ended with an error of its peer").len(), 1);
    assert!(alarms().is_empty(), "{:?}", alarms());
}

/// The errors of streams, sinks and streams of bytes count like those of `recv` and `send`.
#[tokio::test(start_paused = true)]
async fn an_error_of_a_stream_or_a_sink_is_no_alarm() {
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::AsyncReadExt;
    use tower_websocket::Message;

    listen();
    let handler = |mut socket: WebSocket| async move {
        let first = socket.recv().await?.ok_or("a message comes")?;
        match first.as_bytes() {
            b"stream" => while socket.next().await.transpose()?.is_some() {},
            b"sink" => loop {
                socket.feed("more".into()).await?;
                SinkExt::<Message>::flush(&mut socket).await?;
            },
            b"timeout" => loop {
                let limit = Duration::from_secs(1);
                socket.send_timeout(vec![0; 10_000], limit).await?;
            },
            b"ping" => while socket.ping().await? < Duration::MAX {},
            _ => {
                socket.into_io().read_to_end(&mut Vec::new()).await?;
            }
        }
        Ok::<_, BoxError>(())
    };
    let ways: [(&[u8], &[u8]); 6] = [
        (b"stream", b""),
        (b"sink", b""),
        (b"timeout", b""),
        (b"ping", b""),
        (b"io", b"text"),
        (b"io", b"close"),
    ];
    for (number, (way, then)) in ways.into_iter().enumerate() {
        let layer = WebSocketLayer::new(handler);
        let mut client = open_at(&layer, "/").await;
        write(&mut client, &frame(FIN | BINARY, way)).await;
        match then {
            b"text" => write(&mut client, &frame(FIN | TEXT, b"text")).await,
            b"close" => write(&mut client, &close(4000, "")).await,
            _ => support::settle().await,
        }
        if way != b"timeout" {
            drop(client);
        }
        until_idle(&layer.connections()).await;
        let ended = lines(0, "ended with an error of its peer").len();
        assert_eq!(ended, number + 1, "{}", String::from_utf8_lossy(way));
    }
    assert!(alarms().is_empty(), "{:?}", alarms());
}
