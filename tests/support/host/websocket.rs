//! The WebSocket client of the tests: tokio-tungstenite's.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::within;

/// An open connection.
pub(crate) type Client = WebSocketStream<TcpStream>;

/// Opens a connection, or says how the server refused it.
pub(crate) async fn try_connect(address: SocketAddr, path: &str) -> Result<Client, Error> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, _) = client_async(format!("ws://{address}{path}"), stream).await?;
    Ok(client)
}

/// Opens a connection.
pub(crate) async fn connect(address: SocketAddr, path: &str) -> Client {
    let client = try_connect(address, path).await;
    client.unwrap_or_else(|error| panic!("no websocket at {path}: {error}"))
}

/// The status of a handshake that was refused.
pub(crate) async fn refusal(address: SocketAddr, path: &str) -> u16 {
    match within(try_connect(address, path)).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("not refused at {path}: {other:?}"),
    }
}

/// Sends one message and returns the next one.
pub(crate) async fn ask(client: &mut Client, message: impl Into<Message>) -> Message {
    client.send(message.into()).await.unwrap();
    client.next().await.expect("closed").unwrap()
}

/// Sends messages of both kinds, small and large, and asserts that each comes back unchanged.
pub(crate) async fn assert_echoes(client: &mut Client) {
    let large: Vec<u8> = (0..200 * 1024).map(|n: u32| (n % 251) as u8).collect();
    for message in [
        Message::text("Hällo"),
        Message::text(""),
        Message::binary([0, 0xff, b'a', 0x80].as_slice()),
        Message::text("wörd ".repeat(200 * 1024 / 6)),
        Message::binary(large),
    ] {
        let answer = ask(client, message.clone()).await;
        assert!(answer == message, "{} bytes differ", message.len());
    }
}

/// Closes with 1000 and asserts that the server answers so, then ends the connection.
pub(crate) async fn assert_closes(mut client: Client) {
    let normal = CloseFrame {
        code: CloseCode::Normal,
        reason: "bye".into(),
    };
    client.close(Some(normal)).await.unwrap();
    assert_closed(client).await;
}

/// Asserts that the server closes with 1000, then ends the connection.
pub(crate) async fn assert_closed(mut client: Client) {
    match client.next().await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, CloseCode::Normal),
        other => panic!("not closed with 1000: {other:?}"),
    }
    let end = client.next().await;
    assert!(end.is_none(), "after the closing handshake: {end:?}");
}
