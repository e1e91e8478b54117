//! The queues on either side of the handler.

use std::time::Duration;

use tokio::{
    io::AsyncReadExt,
    time::{sleep, timeout},
};
use tower_websocket::{Buffered, Config, Message, error::TrySendError};

use super::{BUFFER, MIB, MILLI, received, seconds, stuff};
use crate::support::{
    pipe,
    wire::{BINARY, FIN, frame, header, read_frame, write},
};

/// Fills the inbox of a socket with messages of `size` bytes and asserts how many were read.
async fn assert_inbox_holds(config: Config, size: usize, messages: usize) {
    let (mut socket, mut client) = pipe::socket(config, BUFFER);
    let message = frame(FIN | BINARY, &vec![0; size]);
    let len = message.len();
    // Up to one buffer was read beyond the messages in the inbox, and one more is in the pipe.
    let least = messages * len;
    let most = least + 2 * BUFFER;
    let taken = stuff(&mut client, &message, most + 100 * len).await;
    assert!(
        (least..=most).contains(&taken),
        "{taken} bytes taken, not {least} to {most}"
    );
    // It stays like that until they are received.
    sleep(seconds(60)).await;
    assert_eq!(stuff(&mut client, &message[taken % len..], 1).await, 0);
    for _ in 0..taken / len {
        assert_eq!(received(&mut socket).await, size);
    }
    assert_ne!(stuff(&mut client, &message[taken % len..], 1).await, 0);
}

#[tokio::test(start_paused = true)]
async fn stops_reading_at_sixteen_messages_that_were_not_received() {
    assert_inbox_holds(Config::new(), 50, 16).await;
    assert_inbox_holds(Config::new().max_inbox(100, MIB), 50, 100).await;
}

#[tokio::test(start_paused = true)]
async fn stops_reading_at_64_kib_that_were_not_received() {
    assert_inbox_holds(Config::new(), 8192, 8).await;
    assert_inbox_holds(Config::new().max_inbox(100, 20_000), 1000, 20).await;
}

#[tokio::test(start_paused = true)]
async fn takes_a_message_that_is_larger_than_the_inbox() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_inbox(1, 1), BUFFER);
    let message = frame(FIN | BINARY, &vec![0; 100_000]);
    for _ in 0..3 {
        let (length, ()) = tokio::join!(received(&mut socket), write(&mut client, &message));
        assert_eq!(length, 100_000);
    }
}

/// Sends messages of `size` bytes to a peer that does not read, and asserts how many are taken.
async fn assert_outbox_holds(config: Config, size: usize, messages: usize) {
    let (mut socket, mut client) = pipe::socket(config.write_timeout(Duration::MAX), BUFFER);
    let sender = socket.sender();
    let message = Message::from(vec![0; size]);
    let mut taken = 0;
    while timeout(MILLI, socket.send(message.clone())).await.is_ok() {
        taken += 1;
        assert!(taken < 10_000, "{size} bytes are taken without end");
    }
    // Bytes that the stream has taken make room for further messages.
    let frame_len = header(FIN | BINARY, size, false).len() + size;
    let most = messages + BUFFER / frame_len;
    assert!(
        (messages..=most).contains(&taken),
        "{taken} messages of {size} bytes taken, not {messages} to {most}"
    );
    let buffered = sender.buffered();
    assert_eq!(buffered.bytes, taken * frame_len - BUFFER);
    assert!(buffered.messages <= taken, "{buffered:?}");
    assert!(buffered.messages * frame_len >= buffered.bytes);
    assert_eq!(
        sender.try_send(message.clone()),
        Err(TrySendError::Full(message.clone()))
    );
    // `send` waits until the peer reads. A cancelled `send` has queued nothing.
    let waited = timeout(seconds(9), socket.send(message.clone())).await;
    assert!(waited.is_err(), "{waited:?}");
    let sending = tokio::spawn(async move { socket.send(message).await.map(|()| socket) });
    for _ in 0..=taken {
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.payload.len(), size);
    }
    let _socket = sending.await.unwrap().unwrap();
    let more = timeout(MILLI, client.read(&mut [0])).await;
    assert!(more.is_err(), "{more:?}");
    assert_eq!(sender.buffered(), Buffered::default());
}

#[tokio::test(start_paused = true)]
async fn lets_send_wait_at_1024_messages_that_were_not_written() {
    assert_outbox_holds(Config::new(), 50, 1024).await;
    assert_outbox_holds(Config::new().max_outbox(10, MIB), 50, 10).await;
}

#[tokio::test(start_paused = true)]
async fn lets_send_wait_at_a_mebibyte_that_was_not_written() {
    assert_outbox_holds(Config::new(), 16_000, MIB / 16_004).await;
    assert_outbox_holds(Config::new().max_outbox(1024, 10_000), 996, 10).await;
}

#[tokio::test(start_paused = true)]
async fn takes_a_message_that_is_larger_than_the_outbox_when_nothing_else_waits() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_outbox(10, 100), BUFFER);
    for _ in 0..3 {
        timeout(MILLI, socket.send(vec![0; 100_000]))
            .await
            .unwrap()
            .unwrap();
        let full = socket.sender().try_send("x").unwrap_err();
        assert_eq!(full, TrySendError::Full(Message::from("x")));
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.payload.len(), 100_000);
    }
}

#[tokio::test(start_paused = true)]
async fn has_nothing_buffered_any_more_when_the_connection_is_gone() {
    let (mut socket, _client) = pipe::socket(Config::new(), BUFFER);
    let sender = socket.sender();
    socket.send(vec![7; 2 * BUFFER]).await.unwrap();
    sender.closed().await;
    assert_eq!(sender.buffered(), Buffered::default());
}
