//! The handlers of larger examples, tested as an application tests its own: with `tower_websocket::testing`, without
//! ports and without real time.

#![cfg(all(
    feature = "axum",
    feature = "client",
    feature = "json",
    feature = "test-util"
))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod extractors;
mod gateway;
mod tokens;
mod tunnel;

use std::time::Duration;

use tower_websocket::{CloseCode, testing::Client};

const SECOND: Duration = Duration::from_secs(1);

/// Receives a text.
async fn text(client: &mut Client) -> String {
    let message = client.recv().await.unwrap().expect("a message");
    message.into_text().unwrap().to_string()
}

/// Receives until the end, and returns the close code.
async fn code(client: &mut Client) -> Option<u16> {
    while let Ok(Some(_)) = client.recv().await {}
    client.closed().await.code().map(CloseCode::get)
}
