//! A command-line client: sends each line of its standard input and prints each message it receives.
//!
//! With `cargo run --example echo` in another terminal:
//!
//! ```text
//! cargo run --features client --example client
//! ```
//!
//! With `cargo run --example handler` in the other terminal, which needs a token and has subprotocols:
//!
//! ```text
//! cargo run --features client --example client -- \
//!     'ws://127.0.0.1:3000/desk?token=sesame' --subprotocol desk.v2
//! ```
//!
//! With `--features rustls-tls-native-roots` it also accepts `wss://` URLs.
//!
//! It ends when the server closes. After the end of its input it ends when the server has been silent for
//! one second.

use std::{env, process::ExitCode, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    runtime::Runtime,
    time::timeout,
};
use tower_websocket::{
    BoxError, CloseCode, Error, Message, WebSocket,
    client::{Handshake, connect},
};

fn main() -> ExitCode {
    let Err(error) = start().map_err(BoxError::from) else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn start() -> Result<(), Error> {
    let runtime = Runtime::new()?;
    let ended = runtime.block_on(run());
    // A thread may still read the standard input. It would block a normal shutdown until the next line.
    runtime.shutdown_background();
    ended
}

async fn run() -> Result<(), Error> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next();
    let mut handshake = Handshake::new(url.as_deref().unwrap_or("ws://127.0.0.1:3000/ws"))?;
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--subprotocol", Some(name)) => handshake = handshake.subprotocol(name),
            _ => return Err(Error::new("usage: client [URL] [--subprotocol NAME]...")),
        }
    }

    let (socket, response) = connect(handshake).await?;
    eprintln!("connected: {}", response.status());
    if let Some(name) = socket.subprotocol() {
        eprintln!("subprotocol: {name}");
    }
    talk(socket).await
}

async fn talk(mut socket: WebSocket) -> Result<(), Error> {
    let ended = socket.sender();
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => socket.send(line).await?,
                None => break,
            },
            message = socket.recv() => match message? {
                Some(message) => print(&message),
                None => break,
            },
        }
    }
    // Messages that arrive after our Close would be discarded, so receive the rest first.
    while let Ok(Some(message)) = timeout(Duration::from_secs(1), socket.recv())
        .await
        .unwrap_or(Ok(None))
    {
        print(&message);
    }
    socket.close(CloseCode::NORMAL, "").await?;
    let closed = ended.closed().await;
    match closed.code() {
        Some(code) => eprintln!("closed by {:?}: {code} {}", closed.side(), closed.reason()),
        None => eprintln!("closed by {:?}, without a code", closed.side()),
    }
    Ok(())
}

fn print(message: &Message) {
    match message {
        Message::Text(text) => println!("{text}"),
        Message::Binary(bytes) => println!("({} bytes)", bytes.len()),
    }
}
