//! Messages of every type that converts into one, and the close codes and reasons of handlers, over the wire.

mod support;

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use support::{
    pipe::attach,
    wire::{BINARY, FIN, TEXT, close, frame, read_close, read_frame, write},
    within,
};
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Error, Message, WebSocket,
    error::{NotText, TrySendError},
};

#[tokio::test(start_paused = true)]
async fn sends_text_of_every_type_as_text() {
    let (mut client, _) = attach(async |mut socket: WebSocket| {
        let string = String::from("grüß");
        socket.send(&string).await?;
        socket.send(string).await?;
        socket.send("grüß").await?;
        socket.send(Box::<str>::from("grüß")).await?;
        socket.send(Arc::<str>::from("grüß")).await?;
        socket.send(Cow::Borrowed("grüß")).await?;
        Ok::<_, Error>(())
    })
    .await;
    for index in 0..6 {
        let frame = within(read_frame(&mut client)).await.unwrap();
        assert_eq!(frame.first, FIN | TEXT, "{index}");
        assert_eq!(frame.payload, "grüß".as_bytes(), "{index}");
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn sends_bytes_of_every_type_as_binary() {
    let (mut client, _) = attach(async |mut socket: WebSocket| {
        let vec = b"abc".to_vec();
        socket.send(&vec).await?;
        socket.send(vec).await?;
        socket.send(b"abc").await?;
        socket.send(*b"abc").await?;
        socket.send(&b"abc"[..]).await?;
        socket.send(Bytes::from("abc")).await?;
        socket.send(BytesMut::from("abc")).await?;
        socket.send(Box::<[u8]>::from(*b"abc")).await?;
        socket.send(Arc::<[u8]>::from(*b"abc")).await?;
        socket.send(Cow::Borrowed(&b"abc"[..])).await?;
        Ok::<_, Error>(())
    })
    .await;
    for index in 0..10 {
        let frame = within(read_frame(&mut client)).await.unwrap();
        assert_eq!(frame.first, FIN | BINARY, "{index}");
        assert_eq!(frame.payload, b"abc", "{index}");
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_received_compares_with_text_and_bytes() {
    let (mut client, _) = attach(async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            let answer = match message {
                _ if message == "ping" => "text",
                _ if message == b"ping" => "binary",
                _ => "other",
            };
            socket.send(answer).await?;
        }
        Ok::<_, Error>(())
    })
    .await;
    for (first, payload, answer) in [
        (TEXT, "ping", "text"),
        (BINARY, "ping", "binary"),
        (TEXT, "pong", "other"),
    ] {
        write(&mut client, &frame(FIN | first, payload.as_bytes())).await;
        let frame = within(read_frame(&mut client)).await.unwrap();
        assert_eq!(frame.payload, answer.as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_reason_of_a_handler_is_cut_at_a_character() {
    const KICKED: CloseCode = CloseCode::of::<4401>();
    let (mut client, _) = attach(async |_: WebSocket| {
        let reason = format!("a{}", "é".repeat(100));
        Err::<(), Error>(CloseFrame::truncated(KICKED, reason).into())
    })
    .await;
    let sent = within(read_frame(&mut client)).await.unwrap();
    assert_eq!(sent.close_code(), Some(4401));
    assert_eq!(
        sent.payload[2..],
        *format!("a{}", "é".repeat(61)).as_bytes()
    );
}

/// An error of an application.
#[derive(Debug)]
struct NoCommand(NotText);

impl fmt::Display for NoCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no command")
    }
}

impl std::error::Error for NoCommand {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn binary_in_place_of_text_closes_with_1003() {
    for wrapped in [false, true] {
        let (mut client, _) = attach(move |mut socket: WebSocket| async move {
            while let Some(message) = socket.recv().await? {
                match message.into_text() {
                    Ok(text) => socket.send(text).await?,
                    Err(error) if wrapped => return Err(NoCommand(error).into()),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok::<_, BoxError>(())
        })
        .await;
        write(&mut client, &frame(FIN | TEXT, b"text")).await;
        write(&mut client, &frame(FIN | BINARY, b"binary")).await;
        assert_eq!(within(read_close(&mut client)).await, Some(1003));
        write(&mut client, &close(1003, "")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_debug_of_the_crate_shows_a_payload() {
    let (socket, _client) = support::pipe::socket(tower_websocket::Config::new(), 4096);
    let sender = socket.sender();
    sender.try_send("secret").unwrap();
    let refused = TrySendError::Full("secret".into());
    let message = Message::text("secret");
    for shown in [
        format!("{socket:?} {sender:?}"),
        format!("{refused:?} {refused}"),
        format!("{message:?} {:?}", Some(&message)),
        format!("{:?}", Message::binary("secret")),
        format!("{:?}", message.clone().into_text()),
    ] {
        assert!(!shown.contains("secret"), "{shown}");
    }
}
