//! GraphQL over a WebSocket: queries and subscriptions in the subprotocol `graphql-transport-ws`.
//!
//! ```text
//! cargo run -p tower-websocket-hosts --example graphql
//! websocat --protocol graphql-transport-ws ws://127.0.0.1:3000/graphql
//! {"type": "connection_init", "payload": {"name": "Ada"}}
//! {"type": "subscribe", "id": "1", "payload": {"query": "subscription { countdown(from: 3) }"}}
//! ```
//!
//! async-graphql speaks the subprotocol: it answers `connection_init`, `subscribe`, `ping` and `complete`, and
//! this example gives it the messages. A client that does not offer the subprotocol is refused with 400. In
//! JavaScript the package [graphql-ws](https://the-guild.dev/graphql/ws) is such a client.
//!
//! The example is in this package because async-graphql needs a newer Rust than tower-websocket.

use std::{env, error::Error, time::Duration};

use async_graphql::{
    Context, Data, EmptyMutation, Object, Schema, Subscription,
    http::{WebSocket as GraphQl, WebSocketProtocols, WsMessage},
};
use axum::{Router, routing::get};
use futures_util::{
    StreamExt,
    future::ready,
    stream::{self, Stream},
};
use tokio::{net::TcpListener, time::sleep};
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Config, WebSocket, WebSocketLayer, with_state,
};

type App = Schema<Query, EmptyMutation, Countdown>;

struct Query;

#[Object]
impl Query {
    /// Greets the user.
    async fn hello(&self, context: &Context<'_>) -> String {
        let name = context.data_opt::<Name>();
        format!("Hello, {}", name.map_or("nobody", |Name(name)| name))
    }
}

struct Countdown;

#[Subscription]
impl Countdown {
    /// Counts down to zero, once in a second.
    async fn countdown(&self, from: u32) -> impl Stream<Item = u32> {
        stream::iter((0..=from).rev()).then(async |count| {
            sleep(Duration::from_secs(1)).await;
            count
        })
    }
}

/// The name in the payload of `connection_init`. An application has a token there, or see the example `auth`.
struct Name(String);

async fn serve(socket: WebSocket, app: App) -> Result<(), BoxError> {
    let sender = socket.sender();
    // Ends with the connection. An error has already closed it.
    let messages = socket.scan((), |(), message| ready(message.ok()));
    let mut answers = GraphQl::new(app, messages, WebSocketProtocols::GraphQLWS)
        .on_connection_init(async |payload| {
            let mut data = Data::default();
            if let Some(name) = payload["name"].as_str() {
                data.insert(Name(name.to_owned()));
            }
            Ok(data)
        });
    // Dropping the answers ends all subscriptions. A slow client slows them down, because `send` waits.
    while let Some(answer) = answers.next().await {
        match answer {
            WsMessage::Text(text) => sender.send(text).await?,
            WsMessage::Close(code, reason) => {
                // A `CloseFrame` as the error is sent to the client.
                return Err(CloseFrame::truncated(CloseCode::new(code)?, reason).into());
            }
        }
    }
    Ok(())
}

pub(crate) fn app() -> Router {
    // A client chooses its queries, so they need limits.
    let schema = Schema::build(Query, EmptyMutation, Countdown)
        .limit_depth(8)
        .limit_complexity(100)
        .finish();
    // The first message has to be `connection_init`.
    let config = Config::new()
        .first_message_timeout(Duration::from_secs(10))
        .max_message_rate(20, 100);
    let layer = WebSocketLayer::new(with_state(schema, serve))
        .subprotocol(WebSocketProtocols::GraphQLWS.sec_websocket_protocol())
        .require_subprotocol()
        .config(config);
    Router::new()
        .route("/", get("GraphQL over a WebSocket at /graphql\n"))
        .route_service("/graphql", layer.into_service())
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
