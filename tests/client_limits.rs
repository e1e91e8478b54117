//! How large the head of an answer may be, and which setting says so.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use support::{wire, within};
use tokio::io::{AsyncWriteExt, duplex};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower_websocket::client::{ConnectError, Handshake, connect_with};

/// The fields that a 101 cannot do without.
const NECESSARY: usize = 3;

/// Connects to a server whose answer has so many further fields, and so many bytes in all. A frame
/// comes right behind the answer. Returns the number of fields that the client was given.
async fn answered(
    configure: impl FnOnce(Handshake) -> Handshake,
    further: usize,
    bytes: usize,
) -> Result<usize, ConnectError> {
    let (client, mut server) = duplex(4 * 1024 * 1024);
    let server = async move {
        let request = wire::read_head(&mut server).await;
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let accept = derive_accept_key(key.unwrap().as_bytes());
        let mut head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n"
        );
        for _ in 1..further {
            head.push_str("Set-Cookie: a\r\n");
        }
        let end = "\r\n\r\n";
        head.push_str("X: ");
        let filled = bytes.saturating_sub(head.len() + end.len());
        head.push_str(&"x".repeat(filled));
        head.push_str(end);
        assert!(head.len() >= bytes, "{bytes}");
        let frame = wire::plain(wire::FIN | wire::TEXT, &[b'x'; 4096]);
        let written = [head.as_bytes(), &frame].concat();
        // The client may be gone before it has read all of it.
        let _ = server.write_all(&written).await;
        server
    };
    let handshake = configure(Handshake::new("ws://example.com/").unwrap());
    let (connected, _server) =
        within(async { tokio::join!(connect_with(handshake, client), server) }).await;
    let (_, response) = connected?;
    Ok(response.headers().len())
}

#[track_caller]
fn assert_too_large(result: Result<usize, ConnectError>) {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, ConnectError::InvalidResponse(_))
            && text.contains("max_response_head")
            && text.contains("max_response_fields"),
        "{text}"
    );
}

#[tokio::test]
async fn takes_16_kib_and_100_fields_unless_told_otherwise() {
    let as_it_is = |handshake| handshake;
    let most = 100 - NECESSARY;
    assert_eq!(answered(as_it_is, most, 0).await.unwrap(), 100);
    assert_too_large(answered(as_it_is, most + 1, 0).await);
    answered(as_it_is, 1, 16 * 1024).await.unwrap();
    assert_too_large(answered(as_it_is, 1, 16 * 1024 + 1).await);
}

#[tokio::test]
async fn takes_as_many_fields_as_it_is_told() {
    for limit in [4, 99, 101, 1000] {
        let told = |handshake: Handshake| {
            handshake
                .max_response_fields(limit)
                .max_response_head(64 * 1024)
        };
        let most = limit - NECESSARY;
        assert_eq!(answered(told, most, 0).await.unwrap(), limit);
        assert_too_large(answered(told, most + 1, 0).await);
    }
    let any = |handshake: Handshake| {
        handshake
            .max_response_fields(usize::MAX)
            .max_response_head(usize::MAX)
    };
    assert_eq!(answered(any, 9_997, 0).await.unwrap(), 10_000);
    assert_too_large(answered(any, 9_998, 0).await);
    assert_too_large(answered(|handshake| handshake.max_response_fields(0), 1, 0).await);
}

#[tokio::test]
async fn takes_as_many_bytes_as_it_is_told() {
    for limit in [500, 8 * 1024, 10_000, 1024 * 1024] {
        let told = |handshake: Handshake| handshake.max_response_head(limit);
        answered(told, 1, limit).await.unwrap();
        assert_too_large(answered(told, 1, limit + 1).await);
    }
    assert_too_large(answered(|handshake| handshake.max_response_head(0), 1, 0).await);
}
