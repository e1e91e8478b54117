//! A server in memory for this crate's client. The test plays the server.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use http::Response;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower_websocket::{
    Config, WebSocket,
    client::{ConnectError, Handshake, connect_with},
};

use super::{wire, within};

pub(crate) type Connected = Result<(WebSocket, Response<()>), ConnectError>;

/// The head that accepts a handshake, once [`answered`] has put the right answer into it.
pub(crate) const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                                    Connection: Upgrade\r\nSec-WebSocket-Accept: ANSWER\r\n\r\n";

/// Returns [`SWITCHING`] with further lines, each with its end.
pub(crate) fn switching_with(lines: &str) -> String {
    let head = SWITCHING.strip_suffix("\r\n").unwrap();
    format!("{head}{lines}\r\n")
}

pub(crate) fn handshake() -> Handshake {
    Handshake::new("ws://example.com/ws").unwrap()
}

/// Connects to a server that accepts the handshake. Returns the client's socket and the server's end of the stream.
pub(crate) async fn connect(config: Config) -> (WebSocket, DuplexStream) {
    let (connected, server) = answered(handshake().config(config), SWITCHING).await;
    (connected.unwrap().0, server)
}

/// Connects to a server that reads the request and then writes `script`, in which `ANSWER` is the
/// right answer to the key. The server's end of the stream is left open.
pub(crate) async fn answered(
    handshake: Handshake,
    script: impl AsRef<[u8]>,
) -> (Connected, DuplexStream) {
    let (client, server) = duplex(64 * 1024);
    let server = play(server, script.as_ref());
    within(async { tokio::join!(connect_with(handshake, client), server) }).await
}

/// Like [`answered`], with a server that drops its end of the stream after the answer.
pub(crate) async fn answered_and_left(script: impl AsRef<[u8]>) -> Connected {
    let (client, server) = duplex(4096);
    let server = async { drop(play(server, script.as_ref()).await) };
    within(async { tokio::join!(connect_with(handshake(), client), server).0 }).await
}

/// Reads the request, writes `script` with the right answer in the place of `ANSWER`, and returns the stream.
pub(crate) async fn play(mut server: DuplexStream, script: &[u8]) -> DuplexStream {
    let answer = answer_to(&wire::read_head(&mut server).await);
    let script = replaced(script, b"ANSWER", answer.as_bytes());
    // An error is ignored: the client may disconnect before it has read everything.
    let _ = server.write_all(&script).await;
    server
}

/// Returns the right answer to the key in the head of a request.
pub(crate) fn answer_to(head: &str) -> String {
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("sec-websocket-key")
            .then_some(value)
    });
    derive_accept_key(key.unwrap().as_bytes())
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match bytes.windows(from.len()).position(|window| window == from) {
        Some(at) => [&bytes[..at], to, &bytes[at + from.len()..]].concat(),
        None => bytes.to_vec(),
    }
}
