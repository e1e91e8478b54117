//! A chat room. The first text of a client is its name, which must be unique.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, response::Response, routing::any};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::broadcast;
use tower_websocket::{Message, WebSocket, axum::Upgrade};

struct Room {
    names: Mutex<HashSet<String>>,
    lines: broadcast::Sender<String>,
}

pub(crate) fn app() -> Router {
    let room = Room {
        names: Mutex::default(),
        lines: broadcast::channel(100).0,
    };
    Router::new()
        .route("/ws", any(enter))
        .with_state(Arc::new(room))
}

async fn enter(upgrade: Upgrade, State(room): State<Arc<Room>>) -> Response {
    upgrade.on_upgrade(move |socket| chat(socket, room))
}

async fn chat(socket: WebSocket, room: Arc<Room>) {
    let (mut sender, mut receiver) = socket.split();
    let mut name = String::new();
    while let Some(Ok(message)) = receiver.next().await {
        if let Message::Text(wish) = message {
            if !room.names.lock().unwrap().insert(wish.to_string()) {
                let _ = sender.send(Message::Text("the name is taken".into())).await;
                return;
            }
            name = wish.to_string();
            break;
        }
    }
    let mut lines = room.lines.subscribe();
    let _ = room.lines.send(format!("{name} came"));
    let mut sending = tokio::spawn(async move {
        while let Ok(line) = lines.recv().await {
            if sender.send(Message::Text(line.into())).await.is_err() {
                break;
            }
        }
    });
    let (to_room, own) = (room.lines.clone(), name.clone());
    let mut receiving = tokio::spawn(async move {
        while let Some(Ok(Message::Text(text))) = receiver.next().await {
            let _ = to_room.send(format!("{own}: {text}"));
        }
    });
    tokio::select! {
        _ = &mut sending => receiving.abort(),
        _ = &mut receiving => sending.abort(),
    }
    let _ = room.lines.send(format!("{name} went"));
    room.names.lock().unwrap().remove(&name);
}
