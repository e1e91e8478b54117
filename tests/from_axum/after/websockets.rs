//! Sends greetings. Then one task sends and another one receives.

use std::{net::SocketAddr, ops::ControlFlow, time::Duration};

use axum::{Router, extract::ConnectInfo, http::HeaderMap, response::Response, routing::any};
use futures_util::{SinkExt, StreamExt};
use tokio::time::sleep;
use tower_websocket::{CloseCode, Message, WebSocket, axum::Upgrade};

use crate::Log;

const PAUSE: Duration = Duration::from_millis(1);

pub(crate) fn app(log: Log) -> Router {
    Router::new().route(
        "/ws",
        any(
            async move |upgrade, ConnectInfo(peer), headers: HeaderMap| {
                log.line(format!("{:?} connects", headers.get("user-agent")));
                open(upgrade, peer, log)
            },
        ),
    )
}

fn open(upgrade: Upgrade, peer: SocketAddr, log: Log) -> Response {
    upgrade.on_upgrade(move |socket| talk(socket, peer, log))
}

async fn talk(mut socket: WebSocket, peer: SocketAddr, log: Log) {
    for number in 1..5 {
        let greeting = Message::Text(format!("greeting {number}").into());
        if socket.send(greeting).await.is_err() {
            return;
        }
        sleep(PAUSE).await;
    }
    let closer = socket.sender();
    let (mut sender, mut receiver) = socket.split();
    let outgoing = log.clone();
    let mut pushing = tokio::spawn(async move {
        for number in 0..20 {
            let news = Message::Text(format!("news {number}").into());
            if sender.send(news).await.is_err() {
                return number;
            }
            sleep(PAUSE).await;
        }
        outgoing.line(format!("closing {}", peer.ip()));
        let _ = closer.close(CloseCode::NORMAL, "Goodbye");
        20
    });
    let incoming = log.clone();
    let mut receiving = tokio::spawn(async move {
        let mut count = 0;
        while let Some(Ok(message)) = receiver.next().await {
            if note(&message, &incoming).is_break() {
                break;
            }
            count += 1;
        }
        count
    });
    tokio::select! {
        pushed = &mut pushing => {
            receiving.abort();
            log.line(format!("{pushed:?} pushed"));
        }
        received = &mut receiving => {
            pushing.abort();
            log.line(format!("{received:?} received"));
        }
    }
}

fn note(message: &Message, log: &Log) -> ControlFlow<()> {
    match message {
        Message::Text(text) => log.line(format!("text {text}")),
        Message::Binary(bytes) => log.line(format!("{} bytes", bytes.len())),
    }
    ControlFlow::Continue(())
}
