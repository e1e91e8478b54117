//! A feed of prices. A slow reader gets the latest prices and never a backlog.
//!
//! ```text
//! cargo run --release --example feed
//! websocat ws://127.0.0.1:3000/feed
//! curl http://127.0.0.1:3000/latest
//! ```
//!
//! Each message has all prices, so it replaces the one before. A `watch` channel holds the latest message, and
//! each client has its own receiver. While a client takes no data, its handler waits in `send`, and the channel
//! forgets all messages but the latest. Memory does not grow with slow clients.
//!
//! Without two settings, old messages would wait in buffers behind the channel: `max_outbox` limits the crate's
//! own, and `notsent_lowat` that of the kernel. The buffers of the network and of the client remain.
//! `notsent_lowat` works on TCP sockets on Linux. With TLS or a proxy in between more is buffered.
//!
//! A client that takes no data at all is dropped after some time, see `Config::write_timeout`.

use std::{env, error::Error, fmt::Write, pin::pin, time::Duration};

use axum::{Router, routing::get};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tower_websocket::{BoxError, Config, Message, WebSocket, WebSocketLayer, with_state};

/// Sends every latest message to one client.
async fn serve(mut socket: WebSocket, mut feed: watch::Receiver<Message>) -> Result<(), BoxError> {
    // This handler only sends, so it does not receive what clients send.
    socket.ignore_incoming();
    let mut closed = pin!(socket.closed());
    loop {
        // A clone of a message shares its bytes.
        let latest = feed.borrow_and_update().clone();
        // Waits for a slow client. Meanwhile the channel gets newer messages.
        socket.send(latest).await?;
        tokio::select! {
            changed = feed.changed() => {
                if changed.is_err() {
                    return Ok(()); // The feed has ended.
                }
            }
            // Otherwise the handler of a client that left would wait for the next message.
            _ = &mut closed => return Ok(()),
        }
    }
}

/// Returns the application, and the sender of its feed.
pub(crate) fn app() -> (Router, watch::Sender<Message>) {
    let (sender, feed) = watch::channel(prices(0));
    let config = Config::new()
        .max_outbox(1, 64 * 1024)
        .notsent_lowat(16 * 1024);
    let layer = WebSocketLayer::new(with_state(feed.clone(), serve)).config(config);
    let latest = async move || feed.borrow().as_text().unwrap_or_default().to_owned();
    let app = Router::new()
        .route("/", get("the prices are at /feed, for a WebSocket\n"))
        .route("/latest", get(latest))
        .route_service("/feed", layer.into_service());
    (app, sender)
}

/// Makes a message: the number of the tick, then a line for each of 100 prices. They are made up.
pub(crate) fn prices(tick: u64) -> Message {
    let mut text = format!("tick {tick}\n");
    for item in 0..100 {
        let price = 10_000 + (tick * (item + 7)) % 1000;
        let _ = writeln!(text, "item{item:03} {}.{:02}", price / 100, price % 100);
    }
    Message::text(text)
}

/// Sends new prices 500 times in a second.
async fn publish(sender: watch::Sender<Message>) {
    let mut ticks = interval(Duration::from_millis(2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for tick in 1.. {
        ticks.tick().await;
        // Unlike `send`, it also stores the message if there is no client.
        sender.send_replace(prices(tick));
    }
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
    let (app, sender) = app();
    tokio::spawn(publish(sender));
    axum::serve(listener, app).await?;
    Ok(())
}
