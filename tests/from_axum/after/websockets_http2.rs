//! Sends each text of a client to all clients, over HTTP/1.1 and HTTP/2.

use axum::{Router, extract::State, http::Version, response::Response, routing::any};
use tokio::sync::broadcast;
use tower_websocket::{Message, axum::Upgrade};

use crate::Log;

type Lines = broadcast::Sender<String>;

pub(crate) fn app(log: Log) -> Router {
    let lines: Lines = broadcast::channel(16).0;
    Router::new()
        .route("/ws", any(open))
        .with_state((lines, log))
}

async fn open(
    upgrade: Upgrade,
    version: Version,
    State((lines, log)): State<(Lines, Log)>,
) -> Response {
    log.line(format!("{version:?}"));
    let mut received = lines.subscribe();
    upgrade.on_upgrade(move |mut socket| async move {
        loop {
            tokio::select! {
                message = socket.recv() => match message {
                    Ok(Some(Message::Text(text))) => {
                        let _ = lines.send(text.to_string());
                    }
                    Ok(Some(_)) => {}
                    Err(_) => log.line("gone".to_owned()),
                    Ok(None) => break,
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
