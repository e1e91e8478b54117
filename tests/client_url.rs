//! The URL that a client is given: which address it dials, and what it sends of the URL.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{fs, net::SocketAddr};

use http::{HeaderValue, Request, header::USER_AGENT};
use support::{tcp, wire, within};
use tokio::{
    io::{AsyncReadExt, duplex},
    net::TcpListener,
};
use tower_websocket::client::{ConnectError, Handshake, connect, connect_with};

/// Returns the head that is sent for a handshake, which has to be ASCII and without blanks in its
/// target.
async fn head_of(handshake: Handshake) -> String {
    let (client, mut server) = duplex(64 * 1024);
    let connecting = tokio::spawn(connect_with(handshake, client));
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(server.read_u8()).await.unwrap());
    }
    connecting.abort();
    assert!(head.is_ascii(), "{:?}", String::from_utf8_lossy(&head));
    let head = String::from_utf8(head).unwrap();
    let line = head.lines().next().unwrap();
    assert_eq!(line.split(' ').count(), 3, "{line}");
    head
}

#[tokio::test]
async fn sends_ascii_whatever_the_url_holds() {
    let target = "/\u{dc}bung 1/\u{1f600}?q=\u{2603} &r={\"a\":[1]}";
    let sent =
        "GET /%C3%9Cbung%201/%F0%9F%98%80?q=%E2%98%83%20&r=%7B%22a%22:%5B1%5D%7D HTTP/1.1\r\n";
    let handshake = Handshake::new(format!("ws://example.com{target}")).unwrap();
    let head = head_of(handshake).await;
    assert!(head.starts_with(sent), "{head}");

    // `http::Uri` takes characters that are not ASCII.
    let request = Request::get("ws://h/\u{dc}bung?q=\u{2603}")
        .body(())
        .unwrap();
    let head = head_of(Handshake::from(request)).await;
    assert!(
        head.starts_with("GET /%C3%9Cbung?q=%E2%98%83 HTTP/1.1\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn sends_nothing_that_it_refuses() {
    let handshake = Handshake::new("ws://example.com/").unwrap();
    let latin = HeaderValue::from_bytes(b"caf\xe9").unwrap();
    for (handshake, reason) in [
        (handshake.clone().header(USER_AGENT, latin), "user-agent"),
        (handshake.clone().subprotocol("caf\u{e9}"), "caf"),
        (handshake.clone().subprotocol("a b"), "a b"),
    ] {
        let (client, mut server) = duplex(64 * 1024);
        let error = within(connect_with(handshake, client)).await.unwrap_err();
        match error {
            ConnectError::InvalidRequest(why) => assert!(why.to_string().contains(reason), "{why}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(within(server.read(&mut [0])).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn dials_nothing_for_a_request_that_it_refuses() {
    let (listener, address) = tcp::listen().await;
    let plain = Handshake::new(format!("ws://{address}/")).unwrap();
    let latin = HeaderValue::from_bytes(b"caf\xe9").unwrap();
    let of = |request: http::request::Builder| Handshake::from(request.body(()).unwrap());
    for handshake in [
        plain.clone().header(USER_AGENT, latin),
        plain.clone().subprotocol("a b"),
        of(Request::post(format!("ws://{address}/"))),
        of(Request::get(format!("ws://user@{address}/"))),
        of(Request::get("ws://127.0.0.1:0/")),
    ] {
        let error = within(connect(handshake)).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::InvalidRequest(_)),
            "{error:?}"
        );
    }
    // The first connection is that of a request without fault.
    assert_eq!(
        host_of(format!("ws://{address}/"), &listener).await,
        address.to_string()
    );
}

/// Returns the link-local addresses of this machine, each with the name of its interface.
fn link_local() -> Vec<(String, String)> {
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let rows = table.lines().filter(|row| row.starts_with("fe80"));
    rows.map(|row| {
        let digits: Vec<_> = (0..8).map(|group| &row[group * 4..group * 4 + 4]).collect();
        let name = row.split_whitespace().last().unwrap();
        (digits.join(":"), name.to_owned())
    })
    .collect()
}

/// Dials `url`, at which `listener` listens, and returns the value of `Host` that arrives.
async fn host_of(url: String, listener: &TcpListener) -> String {
    let connecting = tokio::spawn(connect(url));
    let (mut stream, _) = within(listener.accept()).await.unwrap();
    let head = within(wire::read_head(&mut stream)).await;
    connecting.abort();
    let host = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("host").then_some(value)
    });
    host.unwrap().to_owned()
}

#[tokio::test]
async fn dials_a_zone_and_keeps_it_to_itself() {
    // The loopback interface always has the number 1. Machines without IPv6 have no such address.
    if let Ok(listener) = TcpListener::bind("[::1]:0").await {
        let port = listener.local_addr().unwrap().port();
        for zone in ["%1", "%251"] {
            let host = host_of(format!("ws://[::1{zone}]:{port}/"), &listener).await;
            assert_eq!(host, format!("[::1]:{port}"), "{zone}");
        }
    }
    for (address, interface) in link_local() {
        let listener = TcpListener::bind("[::]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plain = match format!("[{address}]:{port}").parse().unwrap() {
            SocketAddr::V6(plain) => plain,
            SocketAddr::V4(plain) => panic!("{plain}"),
        };
        for zone in [format!("%{interface}"), format!("%25{interface}")] {
            let host = host_of(format!("ws://[{address}{zone}]:{port}/"), &listener).await;
            assert_eq!(host, plain.to_string(), "{zone}");
        }
    }
}

#[tokio::test]
async fn takes_http_for_ws() {
    let (listener, address) = tcp::listen().await;
    let host = host_of(format!("http://{address}/"), &listener).await;
    assert_eq!(host, address.to_string());
}
