//! The client's side of a connection, against this crate's own layer.

#![cfg(feature = "client")]

mod support;

use support::{serve, within};
use tower_websocket::{CloseCode, Echo, Side, WebSocketLayer, client::connect};

#[tokio::test]
async fn talks_to_the_layer_and_closes() {
    let address = serve(WebSocketLayer::new(Echo::new()).into_service()).await;
    let (mut socket, response) = within(connect(format!("ws://{address}/"))).await.unwrap();
    assert_eq!(response.status(), 101);
    for message in ["a".repeat(10), "b".repeat(5000), "c".repeat(200_000)] {
        socket.send(message.clone()).await.unwrap();
        let answer = within(socket.recv()).await.unwrap().unwrap();
        assert_eq!(answer.into_text().unwrap(), *message);
    }
    let sender = socket.sender();
    within(socket.close(CloseCode::NORMAL, "bye"))
        .await
        .unwrap();
    let closed = sender.closed().await;
    assert_eq!(closed.side(), Side::Local);
    assert!(closed.is_clean());
}
