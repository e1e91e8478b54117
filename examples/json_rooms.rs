//! The smallest server of rooms in JSON, for any client of the protocol `rooms.v1.json`.
//!
//! ```text
//! cargo run --features hub,json --example json_rooms
//! websocat --protocol rooms.v1.json 'ws://127.0.0.1:3000/rooms?ann'
//! {"join":"lobby","last":50,"id":1}
//! {"send":"lobby","data":{"text":"Hello"},"id":2}
//! ```
//!
//! Everybody may join each room except `staff`. The room `news` is read-only. The query is the name of the user, and is
//! not checked: the example `auth` shows tokens. The protocol is a page of the guide: `src/guide/json_rooms.rs`.

use std::{env, error::Error};

use axum::{Router, http::request::Parts, routing::get};
use tokio::net::TcpListener;
use tower_websocket::{
    Accept, Refusal, WebSocketLayer,
    hub::{Admission, Denied, History, HubConfig, JsonRooms, RoomConfig},
};

fn user(request: &Parts) -> Option<String> {
    let name = request.uri.query()?;
    (1..=40).contains(&name.len()).then(|| name.to_owned())
}

fn app() -> Router {
    let config = HubConfig::new().rooms(|_| RoomConfig::new().history(History::new()));
    let rooms = JsonRooms::decide(
        config,
        async |request| {
            let user = user(request).ok_or_else(Refusal::unauthorized)?;
            Ok((Accept::new(), user))
        },
        async |user, room| match &*room {
            "staff" => Err(Denied::forbidden()),
            // All connections of a user are one to others.
            "news" => Ok(Admission::new(user.clone()).key(user).read_only()),
            _ => Ok(Admission::new(user.clone()).key(user)),
        },
    );
    Router::new()
        .route("/", get("the rooms are at /rooms?NAME, for a WebSocket\n"))
        .route_service("/rooms", WebSocketLayer::new(rooms).into_service())
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
    axum::serve(listener, app()).await?;
    Ok(())
}
