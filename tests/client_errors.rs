//! The text of a `ConnectError` says what went wrong, its causes included.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{error::Error, io};

use support::{
    script::{Input, Script},
    server::answered_and_left,
    tcp, within,
};
#[cfg(feature = "tracing")]
use tower_websocket::client::Reconnect;
use tower_websocket::client::{ConnectError, connect, connect_with};

const URL: &str = "ws://example.com/";

/// Returns the text of an error, in lower case: systems and std differ in that.
#[track_caller]
fn text(result: Result<impl Sized, ConnectError>) -> String {
    result.map(drop).unwrap_err().to_string().to_lowercase()
}

#[tokio::test]
async fn names_the_address_that_refuses() {
    let (listener, address) = tcp::listen().await;
    drop(listener);
    let error = within(connect(format!("ws://{address}/"))).await;
    let text = text(error);
    let start = format!("no connection to the server: {address}: ");
    assert!(text.starts_with(&start), "{text}");
    assert_eq!(text.matches("connection refused").count(), 1, "{text}");
}

#[tokio::test]
async fn keeps_the_sources() {
    let (listener, address) = tcp::listen().await;
    drop(listener);
    let error = within(connect(format!("ws://{address}/"))).await;
    let error = error.map(drop).unwrap_err();
    let ConnectError::Io(source) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
    let mut sources = Vec::new();
    let mut next = error.source();
    while let Some(source) = next {
        sources.push(source);
        next = source.source();
    }
    let system = sources.last().unwrap().downcast_ref::<io::Error>().unwrap();
    assert!(system.raw_os_error().is_some(), "{system:?}");
}

#[tokio::test]
async fn names_what_is_wrong_with_a_request() {
    assert_eq!(
        text(connect("ws://example.com/#part").await),
        "invalid websocket request: the url has a fragment"
    );
    assert_eq!(
        text(connect("ws://a b/").await),
        "invalid websocket request: invalid uri character"
    );
}

#[tokio::test]
async fn says_which_scheme_a_url_needs() {
    for url in [
        "localhost:4003/ws",
        "example.com/ws",
        "example.com/?next=ws://h/",
        "127.0.0.1",
        "/ws",
        "",
        "://h/",
        "tcp://h/",
    ] {
        assert_eq!(
            text(connect(url).await),
            "invalid websocket request: the url does not begin with ws://, wss://, http:// or https://",
            "{url:?}"
        );
    }
}

#[tokio::test]
async fn says_that_a_server_speaks_tls() {
    let hint = "invalid answer to the websocket handshake: the server seems to speak tls: use a wss:// url, \
                or give an encrypted stream to connect_with";
    // An alert, and the beginning of a handshake record.
    assert_eq!(
        text(answered_and_left(b"\x15\x03\x01\0\x02\x02\x46").await),
        hint
    );
    assert_eq!(text(answered_and_left(b"\x16\x03\x03\0\x7a").await), hint);
    assert!(!text(answered_and_left(b"\x15\x04\x01\0\x02").await).contains("tls"));
    assert!(!text(answered_and_left(b"\x17\x03\x01\0\x02").await).contains("tls"));
}

#[tokio::test]
async fn shows_no_secrets_in_debug() {
    let answer = "HTTP/1.1 401 Unauthorized\r\nSet-Cookie: sid=SECRET\r\nContent-Type: text/plain\r\n\
                  Content-Length: 10\r\n\r\nSECRET too";
    let error = answered_and_left(answer).await.map(drop).unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        "Refused { status: 401, headers: 3, body_bytes: 10 }"
    );
    let error = connect("ws://example.com/#part")
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        "InvalidRequest(the url has a fragment)"
    );
    let error = answered_and_left("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    assert_eq!(
        format!("{:?}", error.map(drop).unwrap_err()),
        "InvalidResponse(invalid HTTP version parsed)"
    );
    assert_eq!(format!("{:?}", ConnectError::TimedOut), "TimedOut");
    assert_eq!(format!("{:?}", ConnectError::NeedsTls), "NeedsTls");
    assert_eq!(
        format!("{:?}", ConnectError::Tls("no roots".into())),
        "Tls(no roots)"
    );
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    assert_eq!(
        format!("{:?}", ConnectError::Io(refused)),
        "Io(connection refused)"
    );
}

#[tokio::test]
async fn names_what_is_wrong_with_an_answer() {
    assert_eq!(
        text(
            answered_and_left("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n")
                .await
        ),
        "invalid answer to the websocket handshake: upgrade is not websocket"
    );
    assert_eq!(
        text(answered_and_left("SSH-2.0-OpenSSH_9.2\r\n\r\n").await),
        "invalid answer to the websocket handshake: invalid http version parsed"
    );
    assert_eq!(
        text(answered_and_left("HTTP/1.1 101 Swit").await),
        "no connection to the server: connection closed before message completed"
    );
    assert_eq!(
        text(answered_and_left("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await),
        "the server refused with 403 forbidden"
    );
}

#[tokio::test]
async fn shows_what_a_refusal_says_in_plain_text() {
    let plain = "HTTP/1.1 403 Forbidden\r\nContent-Type: Text/Plain; charset=utf-8\r\n";
    let refused = "the server refused with 403 Forbidden";
    let long = "x".repeat(201);
    for (body, shown) in [
        ("no such user\n", ": no such user"),
        (
            "a\r\nb \u{1b}[1m\\ \u{e9}",
            ": a\\r\\nb \\x1b[1m\\\\ \\xc3\\xa9",
        ),
        ("", ""),
        (&long, &format!(": {}...", &long[1..])),
    ] {
        let answer = format!("{plain}Content-Length: {}\r\n\r\n{body}", body.len());
        let error = answered_and_left(answer).await.map(drop).unwrap_err();
        assert_eq!(error.to_string(), format!("{refused}{shown}"));
    }
    let html = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>";
    let error = answered_and_left(html).await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), refused);
}

#[tokio::test]
async fn names_the_failure_of_a_stream() {
    let (stream, peer) = Script::new();
    peer.give(Input::Error(io::ErrorKind::ConnectionReset));
    let error = within(connect_with(URL, stream)).await;
    let error = error.map(drop).unwrap_err();
    assert!(
        error.to_string().ends_with(": connection reset"),
        "{error}, {error:?}"
    );
    match error {
        ConnectError::Io(source) => assert_eq!(source.kind(), io::ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    }
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn is_logged_before_each_retry() {
    let (log, _guard) = support::log::capture();
    let mut attempts = 0;
    let mut reconnect = Reconnect::with(move || {
        attempts += 1;
        async move {
            match attempts {
                1..=3 => Err(ConnectError::Io(io::ErrorKind::ConnectionRefused.into())),
                _ => Err(ConnectError::NeedsTls),
            }
        }
    });
    reconnect.connect().await.map(drop).unwrap_err();
    let line = "websocket client connects again error=no connection to the server: connection refused delay=";
    assert_eq!(log.count(line), 3, "{log:?}");
    assert_eq!(log.count("INFO"), 3, "{log:?}");
}
