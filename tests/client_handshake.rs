//! The client's opening handshake: what it asks for, which answers it takes, and what becomes of
//! those that it does not.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{error::Error, future::Future, io, pin::pin, task::Context, time::Duration};

use http::{HeaderName, HeaderValue, Request, header};
use support::{
    handlers::Recorder,
    server::{SWITCHING, answered, handshake, play},
    tap::{Tap, Tapped},
    tcp::{self, serve},
    wire, within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::coop::consume_budget,
    time::Instant,
};
use tower_websocket::{
    Accept, Connections, Refusal, WebSocketLayer,
    client::{ConnectError, Handshake, connect, connect_with},
};

/// Sees that the client has dropped the stream.
async fn assert_dropped(mut server: DuplexStream) {
    assert_eq!(within(server.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn asks_as_the_rfc_wants_it() {
    let (client, mut server) = duplex(4096);
    let connecting = tokio::spawn(connect_with(
        handshake()
            .subprotocol("v2")
            .subprotocol("v1")
            .header(header::ORIGIN, HeaderValue::from_static("http://h")),
        client,
    ));
    let head = within(wire::read_head(&mut server)).await;
    let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "GET /ws HTTP/1.1");
    assert_eq!(lines.remove(0), "Host: example.com");
    lines.retain(|line| !line.starts_with("Sec-WebSocket-Key: "));
    lines.sort_unstable();
    let expected = [
        "Connection: Upgrade",
        "Origin: http://h",
        "Sec-WebSocket-Protocol: v1",
        "Sec-WebSocket-Protocol: v2",
        "Sec-WebSocket-Version: 13",
        "Upgrade: websocket",
    ];
    assert_eq!(lines, expected);
    connecting.abort();
}

#[tokio::test]
async fn makes_a_key_of_sixteen_bytes_that_is_new_each_time() {
    let mut keys = Vec::new();
    for _ in 0..100 {
        let (client, mut server) = duplex(4096);
        let connecting = tokio::spawn(connect_with(handshake(), client));
        let head = within(wire::read_head(&mut server)).await;
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let key = key.unwrap().to_owned();
        assert_eq!(key.len(), 24, "{key}");
        assert!(key.ends_with("=="), "{key}");
        keys.push(key);
        connecting.abort();
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 100);
}

#[tokio::test]
async fn shows_the_request_and_the_answer() {
    let layer = WebSocketLayer::new(Recorder::deciding(|request| {
        let user = request.headers.get("x-user").cloned();
        let user = user.ok_or_else(|| Box::new(Refusal::unauthorized()))?;
        let accept = Accept::new().subprotocol("v1");
        Ok(accept.header(HeaderName::from_static("x-hello"), user))
    }));
    let address = serve(layer.into_service()).await;
    let handshake = Handshake::new(format!("ws://{address}/ws?a=b"))
        .unwrap()
        .header(
            HeaderName::from_static("x-user"),
            HeaderValue::from_static("ada"),
        )
        .subprotocol("v2")
        .subprotocol("v1");
    let (socket, response) = within(connect(handshake)).await.unwrap();
    assert_eq!(socket.subprotocol(), Some("v1"));
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["x-hello"], "ada");
    let sent = socket.request();
    assert_eq!(sent.uri(), "/ws?a=b");
    assert_eq!(sent.header(header::HOST), Some(&*address.to_string()));
    assert_eq!(sent.header("x-user"), Some("ada"));
}

#[tokio::test]
async fn takes_requests_and_urls_of_every_type() {
    let address = serve(WebSocketLayer::new(Recorder::new()).into_service()).await;
    let url = format!("ws://localhost:{}/", address.port());
    within(connect(&url)).await.unwrap();
    within(connect(url.as_str())).await.unwrap();
    let request = Request::get(&url).extension("kept").body(()).unwrap();
    let (socket, _) = within(connect(request)).await.unwrap();
    assert_eq!(socket.request().extensions().get(), Some(&"kept"));
    within(connect(url)).await.unwrap();
}

#[tokio::test]
async fn reads_frames_that_come_with_the_answer() {
    let hello = wire::plain(wire::FIN | wire::TEXT, b"hello");
    let large = wire::plain(wire::FIN | wire::BINARY, &[7; 100_000]);
    let ping = wire::plain(wire::FIN | wire::PING, b"there?");
    let script = [SWITCHING.as_bytes(), &hello, &ping, &large].concat();
    let (connected, mut server) = answered(handshake(), script).await;
    let (mut socket, _) = connected.unwrap();
    let message = within(socket.recv()).await.unwrap().unwrap();
    assert_eq!(message.into_text().unwrap(), *"hello");
    let message = within(socket.recv()).await.unwrap().unwrap();
    assert_eq!(message.as_bytes(), [7; 100_000]);
    let (pong, _) = within(wire::read_masked(&mut server)).await.unwrap();
    assert_eq!(
        (pong.first, &*pong.payload),
        (wire::FIN | wire::PONG, &b"there?"[..])
    );
}

#[tokio::test]
async fn reads_a_close_and_an_end_that_come_with_the_answer() {
    let close = wire::plain(wire::FIN | wire::CLOSE, &1001_u16.to_be_bytes());
    let script = [SWITCHING.as_bytes(), &close].concat();
    let (connected, server) = answered(handshake(), script).await;
    drop(server);
    let (mut socket, _) = connected.unwrap();
    assert!(within(socket.recv()).await.unwrap().is_none());
    let closed = within(socket.sender().closed()).await;
    assert_eq!(closed.code().map(u16::from), Some(1001));
}

/// Uses up the tokio budget of the task after each read, like a long answer that is read in many pieces.
struct BudgetSpender;

impl Tap for BudgetSpender {
    fn has_read(&mut self, cx: &mut Context<'_>) {
        while pin!(consume_budget()).poll(cx).is_ready() {}
    }
}

#[tokio::test]
async fn reads_an_answer_that_uses_up_the_budget_of_the_task() {
    let answer = async |script: &str| {
        let (client, server) = duplex(4096);
        let client = Tapped::new(client, BudgetSpender);
        let server = play(server, script.as_bytes());
        let connecting = connect_with(handshake(), client);
        within(async { tokio::join!(connecting, server).0 }).await
    };
    let (_, response) = answer(SWITCHING).await.unwrap();
    assert_eq!(response.status(), 101);
    let error = answer("no HTTP\r\n\r\n").await.unwrap_err();
    assert!(matches!(error, ConnectError::InvalidResponse(_)), "{error}");
}

#[tokio::test]
async fn skips_provisional_answers() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let (connected, _server) = answered(handshake(), format!("{early}{SWITCHING}")).await;
    assert_eq!(connected.unwrap().1.status(), 101);
}

#[tokio::test]
async fn refuses_a_101_that_breaks_a_rule() {
    for (from, to, reason) in [
        (
            "ANSWER",
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "does not answer the key",
        ),
        ("Upgrade: websocket\r\n", "", "upgrade is not websocket"),
        ("websocket", "h2c", "upgrade is not websocket"),
        ("Connection: Upgrade\r\n", "", "connection does not name"),
        (
            "Sec-WebSocket-Accept: ANSWER\r\n",
            "",
            "does not answer the key",
        ),
        ("HTTP/1.1", "HTTP/1.0", "HTTP/1.1"),
        (
            "\r\n\r\n",
            "\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
            "subprotocol that was not offered",
        ),
        (
            "\r\n\r\n",
            "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            "extension or parameters that were not offered",
        ),
    ] {
        let script = SWITCHING.replacen(from, to, 1);
        let (connected, server) = answered(handshake(), script).await;
        let error = connected.unwrap_err();
        let why = error.source().map(ToString::to_string).unwrap_or_default();
        assert!(
            matches!(error, ConnectError::InvalidResponse(_)) && why.contains(reason),
            "{reason}: {error:?}"
        );
        assert_dropped(server).await;
    }
}

#[tokio::test]
async fn refuses_what_is_not_http() {
    let garbage = [0xff; 64];
    let long_line = [b'x'; 100];
    let binary = wire::plain(wire::FIN | wire::BINARY, &[1; 100]);
    for script in [
        &garbage[..],
        &long_line,
        &binary,
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ] {
        let (connected, server) = answered(handshake(), script).await;
        let error = connected.unwrap_err();
        assert!(
            matches!(error, ConnectError::InvalidResponse(_)),
            "{error:?}"
        );
        assert_dropped(server).await;
    }
}

#[tokio::test]
async fn refuses_a_head_over_the_limit() {
    let padded = |len: usize| {
        let field = format!("\r\nX-Padding: {}\r\n\r\n", "x".repeat(len));
        SWITCHING.replacen("\r\n\r\n", &field, 1)
    };
    let (connected, _server) = answered(handshake(), padded(15 * 1024)).await;
    assert!(connected.is_ok());
    let (connected, server) = answered(handshake(), padded(16 * 1024)).await;
    let error = connected.unwrap_err();
    assert!(
        matches!(error, ConnectError::InvalidResponse(_)),
        "{error:?}"
    );
    assert_dropped(server).await;
    // Nor may it never end.
    let endless = format!(
        "HTTP/1.1 101 Switching Protocols\r\n{}",
        "a: b\r\n".repeat(10_000)
    );
    let (connected, _server) = answered(handshake(), endless).await;
    let error = connected.unwrap_err();
    assert!(
        matches!(error, ConnectError::InvalidResponse(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn tells_of_a_stream_that_ends_before_the_answer_does() {
    for end in 0..SWITCHING.len() - 1 {
        let (client, mut server) = duplex(4096);
        let server = async move {
            let _ = wire::read_head(&mut server).await;
            server
                .write_all(&SWITCHING.as_bytes()[..end])
                .await
                .unwrap();
        };
        let both = async { tokio::join!(connect_with(handshake(), client), server).0 };
        match within(both).await.unwrap_err() {
            ConnectError::Io(error) => {
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "after {end}");
            }
            other => panic!("after {end}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn hands_on_a_refusal_with_its_head_and_body() {
    for script in [
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 5\r\n\r\nno...",
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nTransfer-Encoding: chunked\r\n\
         \r\n2\r\nno\r\n3\r\n...\r\n0\r\n\r\n",
    ] {
        let (connected, server) = answered(handshake(), script).await;
        let Err(ConnectError::Refused(response)) = connected else {
            panic!("{connected:?}");
        };
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert_eq!(&response.body()[..], b"no...");
        assert_dropped(server).await;
    }
}

#[tokio::test]
async fn does_not_follow_redirects() {
    let script = "HTTP/1.1 301 Moved Permanently\r\nLocation: ws://h/\r\nContent-Length: 0\r\n\r\n";
    let (connected, _server) = answered(handshake(), script).await;
    let error = connected.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server refused with 301 Moved Permanently"
    );
}

#[tokio::test]
async fn keeps_no_more_of_a_refusal_than_the_limit() {
    let body = "x".repeat(100_000);
    for script in [
        format!("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100000\r\n\r\n{body}"),
        // Until the stream ends, which it does not.
        format!("HTTP/1.1 503 Service Unavailable\r\n\r\n{body}"),
    ] {
        let (connected, server) = answered(handshake(), script).await;
        let Err(ConnectError::Refused(response)) = connected else {
            panic!("{connected:?}");
        };
        assert_eq!(response.status(), 503);
        assert_eq!(response.body().len(), 64 * 1024);
        assert_dropped(server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn hands_on_a_refusal_whose_body_does_not_end_in_time() {
    let script = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100\r\n\r\nlater";
    let started = Instant::now();
    let patient = handshake().timeout(Duration::from_secs(3));
    let (connected, _server) = answered(patient, script).await;
    let Err(ConnectError::Refused(response)) = connected else {
        panic!("{connected:?}");
    };
    assert_eq!(&response.body()[..], b"later");
    assert_eq!(started.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_an_answer_that_does_not_come_in_time() {
    // Nothing at all, half of a head, and answers that say that more is to come.
    let provisional = "HTTP/1.1 100 Continue\r\n\r\n";
    for script in ["", &SWITCHING[..40], provisional] {
        let started = Instant::now();
        let impatient = handshake().timeout(Duration::from_secs(3));
        let (connected, server) = answered(impatient, script).await;
        let error = connected.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut), "{error:?}");
        assert_eq!(started.elapsed().as_secs(), 3, "{script}");
        assert_dropped(server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_a_head_that_trickles() {
    let (client, mut server) = duplex(4096);
    let trickle = tokio::spawn(async move {
        let _ = wire::read_head(&mut server).await;
        for byte in SWITCHING.bytes() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if server.write_all(&[byte]).await.is_err() {
                return;
            }
        }
        panic!("the client waited for the whole head");
    });
    let started = Instant::now();
    let error = connect_with(handshake(), client).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut), "{error:?}");
    assert_eq!(started.elapsed().as_secs(), 10);
    within(trickle).await.unwrap();
}

#[tokio::test]
async fn gives_up_a_stream_that_takes_no_request() {
    let (client, server) = duplex(16);
    drop(server);
    let error = within(connect_with(handshake(), client)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Io(_)), "{error:?}");
}

#[cfg(not(any(
    feature = "rustls-tls-native-roots",
    feature = "rustls-tls-webpki-roots"
)))]
#[tokio::test]
async fn dials_no_url_that_needs_tls() {
    let error = within(connect("wss://127.0.0.1:1/")).await.unwrap_err();
    assert!(matches!(error, ConnectError::NeedsTls), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("rustls-tls-native-roots"), "{text}");
    assert!(text.contains("connect_with"), "{text}");
}

#[tokio::test]
async fn leaves_tls_to_the_stream() {
    let wss = Handshake::new("wss://example.com/").unwrap();
    let (connected, _server) = answered(wss, SWITCHING).await;
    assert_eq!(connected.unwrap().1.status(), 101);
}

#[tokio::test]
async fn tells_of_a_server_that_is_not_there() {
    let (listener, address) = tcp::listen().await;
    drop(listener);
    let error = within(connect(format!("ws://{address}/")))
        .await
        .unwrap_err();
    match error {
        ConnectError::Io(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn drops_the_stream_with_the_future() {
    let (client, mut server) = duplex(4096);
    let connecting = tokio::spawn(connect_with(handshake(), client));
    let _ = within(wire::read_head(&mut server)).await;
    connecting.abort();
    assert_dropped(server).await;
}

#[tokio::test]
async fn drops_a_dialled_connection_with_the_future() {
    let (listener, address) = tcp::listen().await;
    let connecting = tokio::spawn(connect(format!("ws://{address}/")));
    let (mut stream, _) = within(listener.accept()).await.unwrap();
    let _ = within(wire::read_head(&mut stream)).await;
    connecting.abort();
    assert_eq!(within(stream.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn is_told_no_by_the_layer() {
    let connections = Connections::new().max_connections(0);
    let layer = WebSocketLayer::new(Recorder::new()).connections_in(&connections);
    let address = serve(layer.into_service()).await;
    match within(connect(format!("ws://{address}/"))).await {
        Err(ConnectError::Refused(response)) => {
            assert_eq!(response.status(), 503);
            assert!(response.headers().contains_key(header::RETRY_AFTER));
            assert!(!response.body().is_empty());
        }
        other => panic!("{other:?}"),
    }
}
