//! Short forms for the client of `tower_websocket::testing`. Tests of applications have similar ones.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use tower_websocket::{CloseCode, testing::Client};

/// Receives a text.
pub(crate) async fn text(client: &mut Client) -> String {
    let message = client.recv().await.unwrap().expect("a message");
    message.into_text().unwrap().to_string()
}

/// Receives until the end, and returns the close code.
pub(crate) async fn code(client: &mut Client) -> Option<u16> {
    while let Ok(Some(_)) = client.recv().await {}
    client.closed().await.code().map(CloseCode::get)
}
