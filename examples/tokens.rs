//! A generator, such as a language model, whose answer is sent token by token until the client has enough.
//!
//! ```text
//! cargo run --features json --example tokens
//! websocat ws://127.0.0.1:3000/ws
//! {"prompt":"Why is the sky blue?"}
//! "stop"
//! ```
//!
//! Each token is a message, `{"token":"sky "}`. After the last one comes `{"end":"finished"}` or
//! `{"end":"stopped"}`, and then the client may send the next prompt. A second prompt before that end closes the
//! connection with 1008, as does JSON of another shape.
//!
//! The generator stops at once when the client says `"stop"`, closes or resets the connection. A client that
//! vanishes without a sign is found by the keepalive. While the client reads slowly, the generator waits.
//! `curl http://127.0.0.1:3000/running` shows how many generators run.

use std::{env, error::Error, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Config, Sender, WebSocket, WebSocketLayer, with_state,
};

/// The number of generators that run at the same time. Further prompts wait.
const PLACES: usize = 4;

/// A message of the client.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Prompt(String),
    Stop,
}

/// A message of the server.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Event<'a> {
    Token(&'a str),
    End(&'a str),
}

/// Stands for a language model.
#[derive(Clone)]
struct Model {
    /// Each running generator has one.
    places: Arc<Semaphore>,
}

impl Model {
    /// Repeats the prompt, word by word. A question is repeated without end.
    ///
    /// Dropping the future stops the generator and frees its place. A model that blocks needs a thread of its
    /// own, which sends tokens to this function through a bounded channel of `tokio::sync::mpsc`:
    /// `blocking_send` fails as soon as the receiver is dropped.
    async fn answer(&self, prompt: &str, client: &Sender) -> Result<(), BoxError> {
        let _place = self.places.acquire().await?;
        loop {
            for token in prompt.split_inclusive(' ') {
                sleep(Duration::from_millis(50)).await;
                // Waits while the client has not read earlier tokens.
                client.send_json(&Event::Token(token)).await?;
            }
            if !prompt.ends_with('?') {
                return Ok(());
            }
        }
    }
}

async fn chat(mut socket: WebSocket, model: Model) -> Result<(), BoxError> {
    let client = socket.sender();
    while let Some(request) = socket.recv_json().await? {
        let Request::Prompt(prompt) = request else {
            // The answer had ended when the client said "stop".
            continue;
        };
        // The first branch that is ready drops the future of the other one.
        let end = tokio::select! {
            answered = model.answer(&prompt, &client) => {
                answered?;
                "finished"
            }
            request = socket.recv_json() => match request? {
                Some(Request::Stop) => "stopped",
                Some(Request::Prompt(_)) => {
                    let reason = "one prompt at a time";
                    return Err(CloseFrame::new(CloseCode::POLICY_VIOLATION, reason)?.into());
                }
                None => return Ok(()),
            }
        };
        socket.send_json(&Event::End(end)).await?;
    }
    Ok(())
}

pub(crate) fn app() -> Router {
    let places = Arc::new(Semaphore::new(PLACES));
    let model = Model {
        places: Arc::clone(&places),
    };
    let running = async move || format!("{} running\n", PLACES - places.available_permits());
    // With the default outbox, the generator would be up to 1,024 tokens ahead of a slow client.
    let config = Config::new()
        .max_message_size(16 * 1024)
        .max_outbox(8, 64 * 1024);
    let layer = WebSocketLayer::new(with_state(model, chat)).config(config);
    Router::new()
        .route("/", get("send a prompt to /ws\n"))
        .route("/running", get(running))
        .route_service("/ws", layer.into_service())
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
