//! A gateway: passes each WebSocket on to an upstream WebSocket server.
//!
//! With `cargo run --example handler 4000` in another terminal:
//!
//! ```text
//! cargo run --features client --example gateway 3000 ws://127.0.0.1:4000
//! websocat --protocol desk.v2 'ws://127.0.0.1:3000/desk?token=sesame'
//! ```
//!
//! - The upstream is dialled before the client is answered. It gets the client's path, query, cookies,
//!   `Authorization` and subprotocols. The client gets the upstream's choice of a subprotocol and its cookies, or
//!   its refusal. If the upstream cannot be reached, the client gets 502.
//! - Messages and Closes are passed on in both directions. If the upstream breaks off without a Close, the client
//!   gets 1014. If the client does, the upstream gets 1001.
//! - A side that reads slowly slows down the other side, because the gateway holds few messages: those of
//!   `Config::max_inbox` and `Config::max_outbox`.
//! - Each side has its own pings, compression and limits.

use std::{env, future::Future, time::Duration};

use axum::{Router, routing::get};
use http::{
    Response, StatusCode,
    header::{AUTHORIZATION, COOKIE, SET_COOKIE},
    request::Parts,
};
use tokio::net::TcpListener;
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Handler, ReadHalf, Refusal, WebSocket, WebSocketLayer,
    WriteHalf,
    client::{ConnectError, Handshake, connect},
    offered_subprotocols,
};

struct Gateway<D> {
    /// The URL of the upstream, without a path.
    upstream: String,
    /// The function `connect`, or that of a test.
    dial: D,
}

impl<D, F> Handler for Gateway<D>
where
    D: Fn(Handshake) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(WebSocket, Response<()>), ConnectError>> + Send,
{
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        let target = request.uri.path_and_query();
        let target = target.ok_or(StatusCode::BAD_REQUEST)?;
        let url = format!("{}{target}", self.upstream);
        let mut handshake = Handshake::new(url)
            .map_err(|_| StatusCode::BAD_REQUEST)?
            .timeout(Duration::from_secs(5));
        // Not `Origin`: the layer has compared it with the gateway's host, and the upstream has another host.
        for name in [AUTHORIZATION, COOKIE] {
            for value in request.headers.get_all(&name) {
                handshake = handshake.header(name.clone(), value.clone());
            }
        }
        for name in offered_subprotocols(&request.headers) {
            handshake = handshake.subprotocol(name.to_owned());
        }
        let (upstream, response) = (self.dial)(handshake).await.map_err(refusal)?;
        let mut accept = Accept::new();
        if let Some(name) = upstream.subprotocol() {
            accept = accept.subprotocol(name.to_owned());
        }
        for value in response.headers().get_all(SET_COOKIE) {
            accept = accept.header(SET_COOKIE, value.clone());
        }
        Ok(accept.carry(upstream))
    }

    async fn handle(&self, mut client: WebSocket) -> Result<(), BoxError> {
        let upstream: WebSocket = client.take_carried().ok_or("accept carries the upstream")?;
        let (to_client, from_client) = client.into_split();
        let (to_upstream, from_upstream) = upstream.into_split();
        tokio::try_join!(
            pass_on(from_client, to_upstream, CloseCode::GOING_AWAY),
            pass_on(from_upstream, to_client, CloseCode::BAD_GATEWAY),
        )?;
        Ok(())
    }
}

/// Returns the answer to the client if the upstream does not accept the connection.
fn refusal(error: ConnectError) -> Refusal {
    eprintln!("no upstream: {error}");
    match error {
        ConnectError::Refused(response) => Refusal::from(*response),
        ConnectError::TimedOut => Refusal::new(StatusCode::GATEWAY_TIMEOUT),
        _ => Refusal::new(StatusCode::BAD_GATEWAY),
    }
}

/// Passes messages on, and then the Close, or `lost` if there is none.
async fn pass_on(mut from: ReadHalf, mut to: WriteHalf, lost: CloseCode) -> Result<(), BoxError> {
    let close = loop {
        match from.recv().await {
            Ok(Some(message)) => {
                // While `to` has no room, this waits, and nothing more is received.
                if to.send(message).await.is_err() {
                    // The other direction passes on the end of `to`.
                    return Ok(());
                }
            }
            Ok(None) => break from.close_frame(),
            Err(_) => break Some(CloseFrame::new(lost, "")?),
        }
    };
    match close {
        Some(frame) => to.close(frame.code(), frame.reason()).await?,
        None => to.close_without_code().await,
    }
    Ok(())
}

pub(crate) fn app<D, F>(upstream: &str, dial: D) -> Router
where
    D: Fn(Handshake) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(WebSocket, Response<()>), ConnectError>> + Send + 'static,
{
    let upstream = upstream.trim_end_matches('/').to_owned();
    // The layer has no path, so it takes the handshakes for all paths.
    Router::new()
        .route("/health", get("ok\n"))
        .layer(WebSocketLayer::new(Gateway { upstream, dial }))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt::init();
    let mut arguments = env::args().skip(1);
    let argument = arguments.next().unwrap_or_else(|| "3000".to_owned());
    let upstream = arguments.next().ok_or("usage: gateway PORT UPSTREAM")?;
    let address = match argument.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => argument,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    axum::serve(listener, app(&upstream, connect::<Handshake>)).await?;
    Ok(())
}
