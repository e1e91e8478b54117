//! Authentication by a token, the end of its validity, and at most two connections for each user.
//!
//! ```text
//! cargo run --example auth
//! websocat --protocol chat.v1,token.sesame ws://127.0.0.1:3000/ws
//! ```
//!
//! A program sends the field `Authorization: Bearer sesame`. A page cannot set fields, but has three other ways:
//!
//! - A subprotocol: `new WebSocket(url, ["chat.v1", "token.sesame"])`. The server chooses `chat.v1`, so the
//!   response does not repeat the token. If the server chose none, the browser would close the connection.
//! - A cookie. `POST /login` sets one that scripts cannot read. Browsers add it to the handshakes of any page,
//!   so cookies need the check of the origin, which is on by default.
//! - The query: `/ws?token=sesame`. **It ends up in the access logs** of this server and of each proxy, so only
//!   a token that is valid once, and for some seconds, belongs there.
//!
//! Without a valid token the response is a 401 with JSON, which programs can read and pages cannot:
//!
//! ```text
//! curl -i -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
//!     -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' http://127.0.0.1:3000/ws
//! ```
//!
//! Pages can read a close code. So an expired token closes with 4401, and then the page gets a new one. The
//! token `stale` has expired, and `brief` expires after ten seconds.

use std::{collections::HashMap, env, error::Error, time::Duration};

use axum::{
    Router,
    extract::Query,
    routing::{get, post},
};
use http::{
    HeaderValue,
    header::{AUTHORIZATION, COOKIE, SET_COOKIE, WWW_AUTHENTICATE},
    request::Parts,
};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout_at},
};
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Refusal, WebSocket, WebSocketLayer, decide,
    offered_subprotocols,
};

#[derive(Clone)]
struct User {
    name: &'static str,
    /// The end of the token's validity.
    expires: Instant,
}

/// Returns the user of a token. An application asks its database here, or checks a signature.
async fn look_up(token: &str) -> Option<User> {
    let (name, seconds) = match token {
        "sesame" => ("Ada", 3600),
        "brief" => ("Grace", 10),
        "stale" => ("Grace", 0),
        _ => return None,
    };
    let expires = Instant::now() + Duration::from_secs(seconds);
    Some(User { name, expires })
}

/// Returns the token of a request, from the first place that has one.
fn token(request: &Parts) -> Option<String> {
    let headers = &request.headers;
    let bearer = || {
        let field = headers.get(AUTHORIZATION)?.to_str().ok()?;
        field.strip_prefix("Bearer ")
    };
    let subprotocol = || offered_subprotocols(headers).find_map(|name| name.strip_prefix("token."));
    let cookie = || {
        let fields = headers.get_all(COOKIE).iter();
        let mut cookies = fields.flat_map(|field| field.to_str().unwrap_or_default().split(';'));
        cookies.find_map(|cookie| cookie.trim().strip_prefix("token="))
    };
    let in_a_header = bearer().or_else(subprotocol).or_else(cookie);
    in_a_header.map(str::to_owned).or_else(|| {
        let query = Query::<HashMap<String, String>>::try_from_uri(&request.uri);
        query.ok()?.0.remove("token")
    })
}

/// Decides on a handshake before the 101.
async fn authenticate(request: &mut Parts) -> Result<(Accept, User), Refusal> {
    let token = token(request).ok_or_else(unauthorized)?;
    let user = look_up(&token).await.ok_or_else(unauthorized)?;
    if user.expires <= Instant::now() {
        return Err(Refusal::close(expired()));
    }
    // For `max_per_key`, which reads the request after this function.
    request.extensions.insert(user.clone());
    // The connection does not keep the request, and so not the token.
    Ok((Accept::new().subprotocol("chat.v1").without_request(), user))
}

/// Echoes messages until the token expires.
async fn chat(mut socket: WebSocket, user: User) -> Result<(), BoxError> {
    socket.send(format!("welcome, {}", user.name)).await?;
    let echo = async {
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok(())
    };
    let result = timeout_at(user.expires, echo).await;
    // A `CloseFrame` as the error is sent to the client.
    result.unwrap_or_else(|_| Err(expired().into()))
}

fn unauthorized() -> Refusal {
    Refusal::unauthorized()
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
        .json(r#"{"error":"a valid token is needed"}"#)
}

fn expired() -> CloseFrame {
    CloseFrame::truncated(CloseCode::of::<4401>(), "the token has expired")
}

pub(crate) fn app() -> Router {
    let layer = WebSocketLayer::new(decide(authenticate, chat))
        .max_per_key(2, |request| Some(request.extensions.get::<User>()?.name));
    // Behind TLS add `Secure` to the cookie.
    let cookie = "token=sesame; HttpOnly; Path=/; SameSite=Strict";
    Router::new()
        .route("/", get("the chat is at /ws, for those with a token\n"))
        .route("/login", post([(SET_COOKIE, cookie)]))
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
