//! Sends each text of a client to all clients, over HTTP/1.1 and HTTP/2.

use axum::{
    Router,
    extract::{
        State,
        ws::{Message, WebSocketUpgrade},
    },
    http::Version,
    response::Response,
    routing::any,
};
use tokio::sync::broadcast;

use crate::Log;

type Lines = broadcast::Sender<String>;

pub(crate) fn app(log: Log) -> Router {
    let lines: Lines = broadcast::channel(16).0;
    Router::new()
        .route("/ws", any(open))
        .with_state((lines, log))
}

async fn open(
    upgrade: WebSocketUpgrade,
    version: Version,
    State((lines, log)): State<(Lines, Log)>,
) -> Response {
    log.line(format!("{version:?}"));
    let mut received = lines.subscribe();
    upgrade.on_upgrade(move |mut socket| async move {
        loop {
            tokio::select! {
                message = socket.recv() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let _ = lines.send(text.to_string());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) => log.line("gone".to_owned()),
                    None => break,
                },
                line = received.recv() => match line {
                    Ok(line) => {
                        if socket.send(Message::Text(line.into())).await.is_err() {
                            log.line("gone".to_owned());
                        }
                    }
                    Err(_) => continue,
                },
            }
        }
    })
}
