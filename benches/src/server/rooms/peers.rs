//! The rooms of other servers, as in their documentation.

use axum::{
    Router,
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    routing::any,
};
use futures_util::{SinkExt, StreamExt};
use socketioxide::{
    SocketIo,
    extract::{Data, SocketRef},
};
use std::time::Duration;
use tokio::{net::TcpListener, sync::broadcast};

use crate::{BoxError, server::plain::serve_axum};

/// Serves with a broadcast channel and two tasks for each connection, as axum's example of a chat.
pub(super) async fn axum_ws(listener: TcpListener) -> Result<(), BoxError> {
    // The capacity is that of the example.
    let (room, _) = broadcast::channel(100);
    let join = move |upgrade: WebSocketUpgrade| {
        let room = room.clone();
        async move { upgrade.on_upgrade(move |socket| member(socket, room)) }
    };
    serve_axum(listener, Router::new().route("/ws", any(join))).await
}

async fn member(socket: WebSocket, room: broadcast::Sender<Message>) {
    let (mut sender, mut receiver) = socket.split();
    let mut messages = room.subscribe();
    let mut sending = tokio::spawn(async move {
        while let Ok(message) = messages.recv().await {
            if sender.send(message).await.is_err() {
                break;
            }
        }
    });
    let mut receiving = tokio::spawn(async move {
        while let Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) =
            receiver.next().await
        {
            // Nobody receives after the last member has left.
            drop(room.send(message));
        }
    });
    tokio::select! {
        _ = &mut sending => receiving.abort(),
        _ = &mut receiving => sending.abort(),
    }
}

/// Serves events of Socket.IO, which go to all members of a room.
pub(super) async fn socketioxide(listener: TcpListener) -> Result<(), BoxError> {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    // Clients do not answer pings.
    let (layer, io) = SocketIo::builder()
        .ping_interval(HOUR)
        .ping_timeout(HOUR)
        .build_layer();
    io.ns("/", async |socket: SocketRef| {
        socket.join("room");
        socket.on("m", async |socket: SocketRef, Data::<String>(message)| {
            // A failure concerns a member that has gone.
            drop(socket.within("room").emit("m", &message).await);
        });
    });
    serve_axum(listener, Router::new().layer(layer)).await
}
