//! Handlers with `anyhow::Error`: the call in the documentation of `Error` keeps the close code.

#![cfg(feature = "test-util")]

use tower_websocket::{CloseCode, CloseFrame, WebSocket, WebSocketLayer, testing::connect};

async fn serve(mut socket: WebSocket) -> anyhow::Result<()> {
    while let Some(message) = socket.recv().await? {
        if message.into_text()?.is_empty() {
            Err(CloseFrame::truncated(
                CloseCode::of::<4003>(),
                "no empty text",
            ))?;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_reallocated_error_closes_with_its_code() {
    let layer = WebSocketLayer::new(async |socket: WebSocket| {
        let served = serve(socket).await;
        served.map_err(anyhow::Error::reallocate_into_boxed_dyn_error_without_backtrace)
    });
    let service = layer.into_service();

    let mut client = connect(service.clone(), "/").await.unwrap();
    client.send("").await.unwrap();
    assert_eq!(client.closed().await.code(), Some(CloseCode::of::<4003>()));

    let mut client = connect(service, "/").await.unwrap();
    client.send(b"bytes").await.unwrap();
    let code = client.closed().await.code();
    assert_eq!(code, Some(CloseCode::UNSUPPORTED_DATA));
}
