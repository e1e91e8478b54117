//! A client for the command line: sends each line of the standard input, prints what comes.
//!
//! With `cargo run --example echo` in another terminal:
//!
//! ```text
//! cargo run --features client --example client
//! ```
//!
//! With `cargo run --example handler` there, which wants a token and speaks subprotocols:
//!
//! ```text
//! cargo run --features client --example client -- \
//!     'ws://127.0.0.1:3000/desk?token=sesame' --subprotocol desk.v2
//! ```
//!
//! With `--features rustls-tls-native-roots` it takes `wss://` URLs as well.
//!
//! It ends when the server closes, or after its input, when the server has been silent for a second.

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
    // The standard input may still be read, by a thread that only the next line would end.
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
    // What is still to come would be thrown away behind a Close.
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
