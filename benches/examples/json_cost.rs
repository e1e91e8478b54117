//! Sends a value as JSON repeatedly, to count the instructions of one message. The first argument is the call:
//! `send_json`, or `send` for `serde_json::to_string` and `send`. The second one is the number of messages.
//!
//! ```text
//! cargo build --release -p tower-websocket-benches --example json_cost
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/json_cost send_json 1000
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/json_cost send_json 11000
//! ```

use std::env;

use serde::Serialize;
use tokio::io::{duplex, join, sink};
use tower_websocket::{BoxError, Config, WebSocket};

#[derive(Serialize)]
struct Event {
    id: u64,
    room: &'static str,
    from: &'static str,
    text: &'static str,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let mut arguments = env::args().skip(1);
    let call = arguments.next().ok_or("no call")?;
    let messages: usize = arguments.next().ok_or("no number of messages")?.parse()?;
    let event = Event {
        id: 1_234_567_890,
        room: "rooms/blue",
        from: "Ada",
        text: "Sugar and milk are on the table. Who brings \"the tea\"?",
    };
    // The peer sends nothing, and all output is discarded.
    let (reader, _peer) = duplex(1);
    let mut socket = WebSocket::from_io(join(reader, sink()), Config::new());
    match call.as_str() {
        "send_json" => {
            for _ in 0..messages {
                socket.send_json(&event).await?;
            }
        }
        "send" => {
            for _ in 0..messages {
                socket.send(serde_json::to_string(&event)?).await?;
            }
        }
        _ => return Err(format!("{call} is not send_json or send").into()),
    }
    socket.flush().await?;
    Ok(())
}
