//! A handler that checks the user and chooses the subprotocol before the upgrade.
//!
//! ```text
//! cargo run --example handler
//! websocat 'ws://127.0.0.1:3000/desk?token=sesame'
//! websocat -H='Authorization: Bearer sesame' --protocol desk.v2 ws://127.0.0.1:3000/desk
//! ```
//!
//! Each user has one connection. If the user connects again, the first connection is closed with 4001 and
//! a reason. A binary message closes the connection with 1003.
//!
//! With the expired token `stale`, the handshake is accepted and the connection closed at once with 4401,
//! because a page in a browser can read a close code but not an HTTP response. Without a valid token the
//! answer is the HTTP response 401:
//!
//! ```text
//! curl -i -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
//!     -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' http://127.0.0.1:3000/desk
//! ```

use std::{collections::HashMap, env, error::Error};

use axum::{Router, routing::get};
use http::{
    HeaderValue,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
    request::Parts,
};
use tokio::{net::TcpListener, sync::Mutex};
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Handler, Message, Refusal, Sender, WebSocket,
    WebSocketLayer,
};

/// Echoes the messages of a known user, with the user's name in front.
struct Desk {
    users: HashMap<&'static str, User>,
    /// The latest connection of each user. It may be closed, because a `Sender` does not keep it open.
    latest: Mutex<HashMap<&'static str, Sender>>,
}

/// The user of a connection. `accept` passes it to `handle`.
#[derive(Clone)]
struct User {
    name: &'static str,
}

impl Handler for Desk {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        let token = token(request);
        if token == Some("stale") {
            let frame = CloseFrame::truncated(CloseCode::of::<4401>(), "the token has expired");
            return Err(Refusal::close(frame));
        }
        let Some(user) = token.and_then(|token| self.users.get(token)).cloned() else {
            return Err(Refusal::unauthorized()
                .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
                .message("a valid token is needed\n"));
        };
        // In order of preference. A subprotocol is chosen only if the client offers it.
        let accept = Accept::new().subprotocol("desk.v2").subprotocol("desk.v1");
        Ok(accept.carry(user))
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        let user: User = socket.take_carried().ok_or("accept carries a user")?;
        let numbered = socket.subprotocol() == Some("desk.v2");

        let sender = socket.sender();
        if let Some(previous) = self.latest.lock().await.insert(user.name, sender) {
            // Has no effect if that connection is already closed.
            previous.close(CloseCode::of::<4001>(), "signed in elsewhere")?;
        }
        socket.send(format!("welcome, {}", user.name)).await?;
        let mut count = 0;
        while let Some(message) = socket.recv().await? {
            let Message::Text(text) = message else {
                // A `CloseFrame` is sent to the client. Any other error closes with 1011.
                return Err(CloseFrame::new(CloseCode::UNSUPPORTED_DATA, "text, please")?.into());
            };
            count += 1;
            let line = if numbered {
                format!("{count} {}: {text}", user.name)
            } else {
                format!("{}: {text}", user.name)
            };
            socket.send(line).await?;
        }
        Ok(())
    }
}

/// Returns the token from the `Authorization` field, or else from the query.
///
/// A page in a browser needs the query, because it cannot set fields on its opening handshake.
fn token(request: &Parts) -> Option<&str> {
    if let Some(field) = request.headers.get(AUTHORIZATION) {
        let (scheme, token) = field.to_str().ok()?.split_once(' ')?;
        return scheme
            .eq_ignore_ascii_case("Bearer")
            .then_some(token.trim());
    }
    let mut pairs = request.uri.query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix("token="))
}

pub(crate) fn app() -> Router {
    let desk = Desk {
        users: HashMap::from([
            ("sesame", User { name: "Ada" }),
            ("swordfish", User { name: "Grace" }),
        ]),
        latest: Mutex::default(),
    };
    Router::new()
        .route("/", get("the desk is at /desk, for those with a token\n"))
        .route_service("/desk", WebSocketLayer::new(desk).into_service())
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
