//! The server's side of each history.

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::time::{sleep, timeout};
use tower_websocket::{Message, Sender, WebSocket, error::TrySendError};

use super::MOMENT;

pub(crate) fn message(len: usize) -> Message {
    Message::binary(vec![7; len])
}

pub(crate) async fn sends(mut socket: WebSocket, count: usize, len: usize) -> WebSocket {
    for _ in 0..count {
        socket.send(message(len)).await.unwrap();
    }
    socket
}

/// Feeds `count` messages of 1,000 bytes before each flush, and sends a small one at the end.
pub(crate) async fn flushes(mut socket: WebSocket, flushes: usize, count: usize) -> WebSocket {
    for _ in 0..flushes.max(1) {
        for _ in 0..count {
            socket.feed(message(1000)).await.unwrap();
        }
        if flushes > 0 {
            socket.flush().await.unwrap();
        }
    }
    if flushes > 0 {
        SinkExt::send(&mut socket, message(5)).await.unwrap();
    }
    socket
}

pub(crate) async fn sends_elsewhere(
    socket: WebSocket,
    tasks: usize,
    count: usize,
    len: usize,
) -> WebSocket {
    let send = |sender: Sender| async move {
        for _ in 0..count {
            sender.send(message(len)).await.unwrap();
        }
    };
    let tasks = (0..tasks).map(|_| tokio::spawn(send(socket.sender())));
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    socket
}

/// Sends until there is no room.
pub(crate) fn fill(sender: &Sender, len: usize) {
    while !matches!(sender.try_send(message(len)), Err(TrySendError::Full(_))) {}
}

/// Fills the outbox and waits until all of it is written.
pub(crate) async fn fills(mut socket: WebSocket, len: usize) -> WebSocket {
    fill(&socket.sender(), len);
    socket.flush().await.unwrap();
    socket
}

pub(crate) async fn cancels(mut socket: WebSocket) -> WebSocket {
    fill(&socket.sender(), 1000);
    for _ in 0..10 {
        assert!(socket.send(message(1000)).now_or_never().is_none());
    }
    socket.flush().await.unwrap();
    socket
}

pub(crate) async fn receives_in_vain(mut socket: WebSocket) -> WebSocket {
    for _ in 0..100 {
        assert!(timeout(MOMENT, socket.recv()).await.is_err());
    }
    socket
}

pub(crate) async fn echoes(mut socket: WebSocket, count: usize) -> WebSocket {
    for _ in 0..count {
        let message = socket.recv().await.unwrap().unwrap();
        socket.send(message).await.unwrap();
    }
    socket
}

pub(crate) async fn echoes_late(socket: WebSocket, count: usize) -> WebSocket {
    sleep(MOMENT).await;
    echoes(socket, count).await
}

pub(crate) async fn echoes_in_halves(socket: WebSocket, count: usize) -> WebSocket {
    let (mut sink, mut stream) = socket.split();
    for _ in 0..count {
        let message = stream.next().await.unwrap().unwrap();
        sink.send(message).await.unwrap();
    }
    sink.reunite(stream).unwrap()
}
