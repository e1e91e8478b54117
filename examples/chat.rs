//! A chat: one program with the page, the rooms, and their histories.
//!
//! ```text
//! cargo run --features hub,json --example chat
//! ```
//!
//! Open <http://127.0.0.1:3000/> in two browsers. For a phone in the same network, give an address:
//! `cargo run --features hub,json --example chat 0.0.0.0:3000`.
//!
//! Cut the network of one browser, write in the other, and connect the first one again: it gets exactly the messages
//! that it has missed. Use the flight mode of a phone: "Offline" in Chromium's developer tools may not cut open
//! WebSockets.
//!
//! Start this program again: the pages say that messages may be missing, because the histories are in memory.
//!
//! The page is in `examples/chat/`. It uses the module `clients/rooms/rooms.js`, which reconnects and resumes.
//!
//! Names are not checked: two people who choose the same name are one. The example `auth` shows tokens.

use std::{env, error::Error, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Query,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
        request::Parts,
    },
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, signal};
use tower_websocket::{
    Accept, Config, Connections, Refusal, WebSocketLayer,
    hub::{Admission, Denied, History, HubConfig, JsonRooms, RoomConfig},
};

/// The user of a connection. Other members of a room get it as JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Guest {
    name: String,
}

/// The paths of the page, their types and texts. They are compiled in.
const FILES: [(&str, &str, &str); 6] = [
    ("/", "text/html", include_str!("chat/index.html")),
    ("/chat.css", "text/css", include_str!("chat/chat.css")),
    (
        "/messages.css",
        "text/css",
        include_str!("chat/messages.css"),
    ),
    ("/chat.js", "text/javascript", include_str!("chat/chat.js")),
    ("/icon.svg", "image/svg+xml", include_str!("chat/icon.svg")),
    (
        "/rooms.js",
        "text/javascript",
        include_str!("../clients/rooms/rooms.js"),
    ),
];

/// Takes the name of a guest from the query: `/ws?name=Ada`.
async fn guest(request: &mut Parts) -> Result<(Accept, Guest), Refusal> {
    let refusal = || Refusal::new(StatusCode::BAD_REQUEST).message("a name has 1 to 24 characters");
    let Query(guest) = Query::<Guest>::try_from_uri(&request.uri).map_err(|_| refusal())?;
    match guest.name.chars().count() {
        1..=24 if !guest.name.contains(char::is_control) => Ok((Accept::new(), guest)),
        _ => Err(refusal()),
    }
}

/// Lets everybody into each room with a simple name. The tabs of a guest are one member, by its key.
async fn admit(guest: Guest, room: Arc<str>) -> Result<Admission<Guest>, Denied> {
    let is_simple = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '-');
    match room.len() <= 32 && room.chars().all(is_simple) {
        true => Ok(Admission::new(guest.clone()).key(guest.name)),
        false => Err(Denied::forbidden()),
    }
}

/// Returns the application. Its rooms keep 500 messages and 1 MiB for a day.
pub(crate) fn app(connections: &Connections) -> Router {
    let history = History::new()
        .max_messages(500)
        .max_bytes(1024 * 1024)
        .max_age(Duration::from_secs(24 * 3600));
    let room = move |_: &str| {
        RoomConfig::new()
            .history(history)
            .max_message_size(16 * 1024)
    };
    let hub = HubConfig::new()
        .rooms(room)
        .max_rooms(1000)
        .max_rooms_per_connection(32);
    let layer = WebSocketLayer::new(JsonRooms::decide(hub, guest, admit))
        .config(Config::new().max_message_size(16 * 1024))
        .connections_in(connections);
    let pages = FILES
        .into_iter()
        .fold(Router::new(), |router, (path, kind, text)| {
            let head = [
                (CONTENT_TYPE, kind),
                (CACHE_CONTROL, "no-cache"),
                // Allows the files of this server only, and no inline scripts.
                (CONTENT_SECURITY_POLICY, "default-src 'self'"),
            ];
            router.route(path, get((head, text)))
        });
    pages.route_service("/ws", layer.into_service())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();
    let argument = env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let address = match argument.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => argument,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    let connections = Connections::new().max_connections(10_000);
    let app = app(&connections);
    let closing = connections.clone();
    let interrupted = async move {
        if signal::ctrl_c().await.is_ok() {
            // Pages connect again, to the next server.
            closing.close();
        }
    };
    axum::serve(listener, app)
        .with_graceful_shutdown(interrupted)
        .await?;
    connections.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
