//! A board of 50 sensors with 200 updates a second. A slow link gets the newest value of each sensor, and no backlog.
//!
//! ```text
//! cargo run --features hub --example board
//! websocat ws://127.0.0.1:3000/ws
//! curl http://127.0.0.1:3000/now
//! ```
//!
//! Open <http://127.0.0.1:3000/> and make the link of the page slow. The values become a little older and stay current.
//!
//! The sensors report into a room with `Overflow::Latest`, and the name of the sensor is the key of each message. For a
//! member that is behind, the room keeps the newest message of each key, once for all such members.
//!
//! A message in the outbox of a connection cannot be replaced: `max_outbox` limits the outbox. Real networks and
//! proxies have buffers, too. `Config::notsent_lowat` limits the buffer of the server's kernel. Here the slow link is a
//! part of the server, before these buffers: see `board/slow_links.rs`.

#[path = "board/slow_links.rs"]
mod slow_links;

use std::{
    env, io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, extract::ConnectInfo, response::Html, routing::get};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::{Value, json};
use slow_links::{SlowLinks, Speed};
use tokio::{
    net::TcpListener,
    time::{interval, sleep},
};
use tower_websocket::{
    BoxError, Config, WebSocket, WebSocketLayer,
    hub::{Hub, HubConfig, Overflow, Publication, PublishError, Room, RoomConfig, Sent},
    with_state,
};

pub(crate) const SENSORS: usize = 50;

/// The last report of a sensor.
#[derive(Clone, Default, Serialize)]
struct Reading {
    key: String,
    /// The number of the report.
    number: u64,
    value: f64,
    /// Milliseconds by the clock of the board.
    at: u64,
}

#[derive(Clone)]
pub(crate) struct Board {
    room: Room,
    readings: Arc<Mutex<Vec<Reading>>>,
    start: Instant,
}

impl Board {
    fn new() -> Self {
        let config = HubConfig::new().rooms(|_| RoomConfig::new().overflow(Overflow::Latest));
        let board = Self {
            room: Hub::with(config).room("board"),
            readings: Arc::new(Mutex::new(vec![Reading::default(); SENSORS])),
            start: Instant::now(),
        };
        for sensor in 0..SENSORS {
            board.measure(sensor);
        }
        board
    }

    /// Stores a new reading and returns it. The values are made up.
    fn measure(&self, sensor: usize) -> Reading {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let number = readings[sensor].number + 1;
        let wave = (number as f64 / 20.0 + sensor as f64).sin();
        readings[sensor] = Reading {
            key: format!("{}{}", char::from(b"ABCDE"[sensor / 10]), sensor % 10),
            number,
            value: (200.0 + sensor as f64 + 40.0 * wave).round() / 10.0,
            at: self.start.elapsed().as_millis() as u64,
        };
        readings[sensor].clone()
    }

    /// Sends a new reading to all members.
    pub(crate) fn report(&self, sensor: usize) -> Result<Sent, PublishError> {
        let reading = self.measure(sensor);
        let message = json!(reading).to_string();
        self.room
            .publish(Publication::new(message).latest(reading.key))
    }

    /// Returns the newest readings, the time, and how members keep up.
    pub(crate) fn now(&self) -> Value {
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = self.room.counts();
        json!({
            "clock": self.start.elapsed().as_millis() as u64,
            "readings": *readings,
            "members": counts.members,
            "behind": counts.behind,
            "superseded": counts.superseded,
        })
    }
}

/// Shows the board to one client. The client sets the speed of its own link: `full`, a number of kbit/s, or `tunnel`,
/// which carries nothing for five seconds.
async fn show(mut socket: WebSocket, board: Board) -> Result<(), BoxError> {
    let info = socket.request().extensions().get::<ConnectInfo<Speed>>();
    let speed = info.map(|ConnectInfo(speed)| speed.clone());
    let _member = board.room.join(&socket, ()).await?;
    // A newer reading may come before this list: the client tells them apart by their numbers.
    socket.send(board.now()["readings"].to_string()).await?;
    while let Some(message) = socket.recv().await? {
        let text = message.into_text()?;
        let Some(speed) = &speed else { continue };
        // While output is blocked, the server reads nothing: a client could not end a tunnel.
        match text.as_str() {
            "full" => {
                speed.set(Speed::FULL);
            }
            "tunnel" => {
                let before = speed.set(0);
                sleep(Duration::from_secs(5)).await;
                speed.set(before);
            }
            kbps => {
                let kbps: u32 = kbps.parse()?;
                speed.set(kbps.clamp(1, 1_000_000) * 125);
            }
        }
    }
    Ok(())
}

pub(crate) fn app() -> (Router, Board) {
    let board = Board::new();
    // Rooms use half of it: 8 messages, which take a second at 4 kbit/s.
    let config = Config::new().max_outbox(16, 8 * 1024);
    let layer = WebSocketLayer::new(with_state(board.clone(), show)).config(config);
    let state = board.clone();
    let now = async move || {
        (
            [(CONTENT_TYPE, "application/json")],
            state.now().to_string(),
        )
    };
    let app = Router::new()
        .route("/", get(Html(include_str!("board/index.html"))))
        .route("/now", get(now))
        .route_service("/ws", layer.into_service());
    (app, board)
}

/// Lets each sensor report four times a second, one after the other.
async fn run(board: Board) {
    let mut ticks = interval(Duration::from_secs(1) / 200);
    for sensor in (0..SENSORS).cycle() {
        ticks.tick().await;
        if let Err(error) = board.report(sensor) {
            eprintln!("sensor {sensor}: {error}");
        }
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let argument = env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let address = match argument.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => argument,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    let (app, board) = app();
    tokio::spawn(run(board));
    let app = app.into_make_service_with_connect_info::<Speed>();
    axum::serve(SlowLinks::new(listener), app).await
}
