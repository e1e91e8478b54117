//! WebSockets in axum's own style: extractors, a nested router, and one registry for all paths.
//!
//! ```text
//! cargo run --features axum --example axum
//! websocat 'ws://127.0.0.1:3000/api/rooms/tea?name=Ada'
//! websocat ws://127.0.0.1:3000/api/open
//! curl http://127.0.0.1:3000/api/open
//! ```
//!
//! Guests of a room see each other's lines. `/api/open` answers a plain request, and each message of a
//! WebSocket, with the number of open connections. `/api/echo` is a layer that has its own handler.
//!
//! Ctrl-C closes the connections of all paths with 1001 and waits for them, 30 s at most.

use std::{collections::HashMap, env, error::Error, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{FromRef, Path, Query, State},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use serde::Deserialize;
use tokio::{
    net::TcpListener,
    signal,
    sync::{Mutex, broadcast},
};
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Config, Connections, Echo, Message, WebSocket, WebSocketLayer,
    axum::{FromState, Upgrade, UpgradeSettings},
};

/// The state of the router.
#[derive(Clone)]
struct App {
    /// The limits of all WebSockets, and their registry.
    sockets: UpgradeSettings,
    rooms: Arc<Mutex<HashMap<String, broadcast::Sender<Message>>>>,
}

/// `Upgrade<FromState>` takes its settings from here. axum's `#[derive(FromRef)]` writes the same.
impl FromRef<App> for UpgradeSettings {
    fn from_ref(app: &App) -> Self {
        app.sockets.clone()
    }
}

#[derive(Deserialize)]
struct Guest {
    name: String,
}

/// A query without a name gets axum's own rejection, 400.
async fn room(
    upgrade: Upgrade<FromState>,
    Path(room): Path<String>,
    Query(guest): Query<Guest>,
    State(app): State<App>,
) -> Response {
    upgrade.on_upgrade(move |socket| chat(socket, app, room, guest.name))
}

/// Passes lines on in both directions. The guest leaves the room when this returns.
async fn chat(mut socket: WebSocket, app: App, room: String, name: String) -> Result<(), BoxError> {
    let (room, mut lines) = {
        let mut rooms = app.rooms.lock().await;
        // Removes the rooms that all guests have left.
        rooms.retain(|_, room| room.receiver_count() > 0);
        let new = || broadcast::channel(64).0;
        let room = rooms.entry(room).or_insert_with(new);
        (room.clone(), room.subscribe())
    };
    loop {
        tokio::select! {
            message = socket.recv() => {
                let Some(message) = message? else { return Ok(()) };
                room.send(format!("{name}: {}", message.into_text()?).into())?;
            }
            line = lines.recv() => {
                let Ok(line) = line else {
                    // The guest reads so slowly that the channel has dropped lines.
                    return Err(CloseFrame::new(CloseCode::POLICY_VIOLATION, "too slow")?.into());
                };
                socket.send(line).await?;
            }
        }
    }
}

/// Answers plain requests and WebSockets.
async fn open(upgrade: Option<Upgrade<FromState>>, State(app): State<App>) -> Response {
    let count = move || format!("{} open\n", app.sockets.connections().counts().open());
    let Some(upgrade) = upgrade else {
        return count().into_response();
    };
    upgrade.on_upgrade(async move |mut socket| {
        while socket.recv().await?.is_some() {
            socket.send(count()).await?;
        }
        Ok::<_, BoxError>(())
    })
}

/// Returns the application, and the registry of its connections.
pub(crate) fn app() -> (Router, Connections) {
    let connections = Connections::new().max_connections(1000);
    let sockets = UpgradeSettings::without_handler()
        .config(Config::new().max_message_size(4096))
        .connections_in(&connections);
    let echo = WebSocketLayer::new(Echo::new()).connections_in(&connections);
    // `any`, because a WebSocket over HTTP/2 is opened by the method CONNECT.
    let api = Router::new()
        .route("/rooms/{room}", any(room))
        .route("/open", any(open))
        .route_service("/echo", echo.into_service());
    let rooms = Arc::default();
    let app = Router::new()
        .route("/", get("the rooms are at /api/rooms/NAME\n"))
        .nest("/api", api)
        .with_state(App { sockets, rooms });
    (app, connections)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();
    let (app, connections) = app();
    let argument = env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let address = match argument.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => argument,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    let closing = connections.clone();
    let interrupted = async move {
        if signal::ctrl_c().await.is_ok() {
            closing.close();
        }
    };
    axum::serve(listener, app)
        .with_graceful_shutdown(interrupted)
        .await?;
    let report = connections.shutdown(Duration::from_secs(30)).await;
    println!("{} closed, {} aborted", report.clean, report.aborted);
    Ok(())
}
