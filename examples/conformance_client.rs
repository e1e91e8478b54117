//! The client that test suites are pointed at: Autobahn's `fuzzingserver`, case after case.
//!
//! ```text
//! cargo run --release --features client --example conformance_client -- ws://127.0.0.1:9001
//! cargo run --release --features client --example conformance_client -- ws://127.0.0.1:9001 --agent NAME
//! ```
//!
//! Asks how many cases there are, echoes in each of them until the server closes, and has the
//! reports written. Messages up to 64 MiB.

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
        // That the suite breaks the protocol is what most of its cases are about.
        match Echo::new().handle(socket).await {
            Err(error) if !error.is::<RecvError>() => eprintln!("case {case}: {error}"),
            _ => {}
        }
        // The suite's result is there when the connection has ended: not earlier, and the last one
        // would not be in the report.
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

/// Where the server is, and under which name the results are reported.
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
