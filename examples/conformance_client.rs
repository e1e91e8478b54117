//! The client for test suites: runs all cases of Autobahn's `fuzzingserver`.
//!
//! ```text
//! cargo run --release --features client --example conformance_client -- ws://127.0.0.1:9001
//! cargo run --release --features client --example conformance_client -- ws://127.0.0.1:9001 --agent NAME
//! ```
//!
//! It asks for the number of cases, echoes in each case until the server closes, and asks the server to
//! write its reports. A message may have up to 64 MiB.

use std::{env, error::Error};

use tower_websocket::{
    Config, Echo, Handler, WebSocket,
    client::{Handshake, connect},
    error::RecvError,
};

const USAGE: &str = "usage: conformance_client ws://ADDRESS:PORT [--agent NAME]";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (server, agent) = arguments(env::args().skip(1))?;

    let cases = count(dial(&format!("{server}/getCaseCount")).await?).await?;
    println!("{cases} cases");
    for case in 1..=cases {
        let socket = dial(&format!("{server}/runCase?case={case}&agent={agent}")).await?;
        let sender = socket.sender();
        // Most cases break the protocol on purpose, so a receive error is expected.
        match Echo::new().handle(socket).await {
            Err(error) if !error.is::<RecvError>() => eprintln!("case {case}: {error}"),
            _ => {}
        }
        // The suite records the result when the connection ends. Without this wait the last result
        // would be missing in the report.
        sender.closed().await;
    }

    let mut reports = dial(&format!("{server}/updateReports?agent={agent}")).await?;
    while reports.recv().await?.is_some() {}
    println!("reports written for {agent}");
    Ok(())
}

async fn dial(url: &str) -> Result<WebSocket, Box<dyn Error>> {
    let config = Config::new()
        .max_message_size(64 << 20)
        .max_fragments(1 << 20, 1 << 10);
    #[cfg(feature = "deflate")]
    let config = config.deflate(
        tower_websocket::Deflate::new()
            .min_size(0)
            .send_window_bits(15)
            .send_context_takeover()
            .receive_context_takeover(),
    );
    let (socket, _) = connect(Handshake::new(url)?.config(config)).await?;
    Ok(socket)
}

/// Receives the number of cases.
async fn count(mut socket: WebSocket) -> Result<u32, Box<dyn Error>> {
    let message = socket.recv().await?.ok_or("the server names no count")?;
    let count = message.into_text()?.parse()?;
    while socket.recv().await?.is_some() {}
    Ok(count)
}

/// Returns the server's URL and the agent name for the reports.
fn arguments(
    mut arguments: impl Iterator<Item = String>,
) -> Result<(String, String), Box<dyn Error>> {
    let server = arguments.next().ok_or(USAGE)?;
    let agent = match (arguments.next().as_deref(), arguments.next()) {
        (None, None) => "tower-websocket".to_owned(),
        (Some("--agent"), Some(agent)) => agent,
        _ => return Err(USAGE.into()),
    };
    Ok((server.trim_end_matches('/').to_owned(), agent))
}
