//! How large the head of an answer may be, and which setting says so.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use support::{
    raw,
    server::{self, SWITCHING, switching_with},
    wire,
};
use tower_websocket::client::{ConnectError, Handshake};

/// The fields that a 101 cannot do without.
const NECESSARY: usize = 3;

/// Connects to a server whose answer has so many further fields, and so many bytes in all. A frame
/// comes right behind the answer. Returns the number of fields that the client was given.
async fn with_fields(
    configure: impl FnOnce(Handshake) -> Handshake,
    further: usize,
    bytes: usize,
) -> Result<usize, ConnectError> {
    let mut lines = "Set-Cookie: a\r\n".repeat(further - 1) + "X: ";
    let answer = server::answer_to(&format!("Sec-WebSocket-Key: {}\r\n", raw::KEY));
    let len = SWITCHING.len() + answer.len() - "ANSWER".len() + lines.len() + "\r\n".len();
    lines.push_str(&"x".repeat(bytes.saturating_sub(len)));
    lines.push_str("\r\n");
    let frame = wire::plain(wire::FIN | wire::TEXT, &[b'x'; 4096]);
    let script = [switching_with(&lines).as_bytes(), &frame].concat();
    let (connected, _server) = server::answered(configure(server::handshake()), script).await;
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
    assert_eq!(with_fields(as_it_is, most, 0).await.unwrap(), 100);
    assert_too_large(with_fields(as_it_is, most + 1, 0).await);
    with_fields(as_it_is, 1, 16 * 1024).await.unwrap();
    assert_too_large(with_fields(as_it_is, 1, 16 * 1024 + 1).await);
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
        assert_eq!(with_fields(told, most, 0).await.unwrap(), limit);
        assert_too_large(with_fields(told, most + 1, 0).await);
    }
    let any = |handshake: Handshake| {
        handshake
            .max_response_fields(usize::MAX)
            .max_response_head(usize::MAX)
    };
    assert_eq!(with_fields(any, 9_997, 0).await.unwrap(), 10_000);
    assert_too_large(with_fields(any, 9_998, 0).await);
    assert_too_large(with_fields(|handshake| handshake.max_response_fields(0), 1, 0).await);
}

#[tokio::test]
async fn takes_as_many_bytes_as_it_is_told() {
    for limit in [500, 8 * 1024, 10_000, 1024 * 1024] {
        let told = |handshake: Handshake| handshake.max_response_head(limit);
        with_fields(told, 1, limit).await.unwrap();
        assert_too_large(with_fields(told, 1, limit + 1).await);
    }
    assert_too_large(with_fields(|handshake| handshake.max_response_head(0), 1, 0).await);
}
