//! The limits on the head of an answer, and the settings that change them.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use support::{
    raw,
    server::{self, SWITCHING, switching_with},
    wire,
};
use tower_websocket::client::{ConnectError, Handshake};

/// The number of fields that a 101 must have.
const NECESSARY: usize = 3;

/// Connects to a server whose answer has `further` more fields. The last field fills the head up to `bytes` bytes. A
/// frame follows the answer at once. Returns the number of fields that the client received.
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
async fn accepts_16_kib_and_100_fields_by_default() {
    let by_default = |handshake| handshake;
    let most = 100 - NECESSARY;
    assert_eq!(with_fields(by_default, most, 0).await.unwrap(), 100);
    assert_too_large(with_fields(by_default, most + 1, 0).await);
    with_fields(by_default, 1, 16 * 1024).await.unwrap();
    assert_too_large(with_fields(by_default, 1, 16 * 1024 + 1).await);
}

#[tokio::test]
async fn accepts_up_to_max_response_fields() {
    for limit in [4, 99, 101, 1000] {
        let limited = |handshake: Handshake| {
            handshake
                .max_response_fields(limit)
                .max_response_head(64 * 1024)
        };
        let most = limit - NECESSARY;
        assert_eq!(with_fields(limited, most, 0).await.unwrap(), limit);
        assert_too_large(with_fields(limited, most + 1, 0).await);
    }
    // The maximum is 10,000 fields.
    let highest = |handshake: Handshake| {
        handshake
            .max_response_fields(usize::MAX)
            .max_response_head(usize::MAX)
    };
    assert_eq!(with_fields(highest, 9_997, 0).await.unwrap(), 10_000);
    assert_too_large(with_fields(highest, 9_998, 0).await);
    assert_too_large(with_fields(|handshake| handshake.max_response_fields(0), 1, 0).await);
}

#[tokio::test]
async fn accepts_up_to_max_response_head() {
    for limit in [500, 8 * 1024, 10_000, 1024 * 1024] {
        let limited = |handshake: Handshake| handshake.max_response_head(limit);
        with_fields(limited, 1, limit).await.unwrap();
        assert_too_large(with_fields(limited, 1, limit + 1).await);
    }
    assert_too_large(with_fields(|handshake| handshake.max_response_head(0), 1, 0).await);
}
