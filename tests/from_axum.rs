//! Three servers, each with axum's own extractor and with ours. Both versions behave the same, and differ only in the
//! lines that the guide's page `from_axum` lists. The servers resemble axum's examples `websockets`, `chat` and
//! `websockets-http2`.
#![cfg(feature = "axum")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

/// The servers with `axum::extract::ws`.
#[path = "from_axum/before"]
mod before {
    pub(crate) mod chat;
    pub(crate) mod websockets;
    pub(crate) mod websockets_http2;
}

/// The servers with this crate.
#[path = "from_axum/after"]
mod after {
    pub(crate) mod chat;
    pub(crate) mod websockets;
    pub(crate) mod websockets_http2;
}

use std::{fs, net::SocketAddr, path::Path};

use axum::Router;
use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, protocol::CloseFrame},
};

use crate::support::{tcp::listen, within};

/// The lines that a server writes.
#[derive(Clone)]
struct Log(mpsc::UnboundedSender<String>);

impl Log {
    fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    fn line(&self, line: String) {
        // The test may have dropped the receiver.
        let _ = self.0.send(line);
    }
}

/// A client of another crate.
struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn to(address: SocketAddr) -> Self {
        let (stream, _) = connect_async(format!("ws://{address}/ws")).await.unwrap();
        Self(stream)
    }

    async fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).await.unwrap();
    }

    /// Returns the next message as text. A Close is its code and reason, an end without one is `gone`.
    async fn next(&mut self) -> String {
        loop {
            match within(self.0.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.unwrap();
                    return format!("{} {}", u16::from(frame.code), frame.reason);
                }
                Some(Ok(message)) => return message.into_text().unwrap().to_string(),
                Some(Err(_)) | None => return "gone".to_owned(),
            }
        }
    }

    async fn close(&mut self) {
        let frame = CloseFrame {
            code: 4000.into(),
            reason: "".into(),
        };
        self.0.close(Some(frame)).await.unwrap();
    }
}

async fn serve(app: Router) -> SocketAddr {
    let (listener, address) = listen().await;
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn websockets_talks_in_both_directions() {
    for server in [before::websockets::app, after::websockets::app] {
        let (log, mut lines) = Log::new();
        let mut client = Client::to(serve(server(log)).await).await;
        client.send("Hello").await;
        client.send(vec![1, 2]).await;
        for number in 1..5 {
            assert_eq!(client.next().await, format!("greeting {number}"));
        }
        for number in 0..20 {
            assert_eq!(client.next().await, format!("news {number}"));
        }
        assert_eq!(client.next().await, "1000 Goodbye");
        for line in [
            "None connects",
            "text Hello",
            "2 bytes",
            "closing 127.0.0.1",
            "Ok(20) pushed",
        ] {
            assert_eq!(within(lines.recv()).await.unwrap(), line);
        }
    }
}

#[tokio::test]
async fn websockets_stops_when_the_client_closes() {
    // axum's function returns before the Close is answered.
    for (server, end) in [
        (before::websockets::app as fn(Log) -> Router, "gone"),
        (after::websockets::app, "4000 "),
    ] {
        let (log, mut lines) = Log::new();
        let mut client = Client::to(serve(server(log)).await).await;
        client.send("Hello").await;
        client.close().await;
        let mut last = client.next().await;
        while last.starts_with("greeting") || last.starts_with("news") {
            last = client.next().await;
        }
        assert_eq!(last, end);
        for line in ["None connects", "text Hello", "Ok(1) received"] {
            assert_eq!(within(lines.recv()).await.unwrap(), line);
        }
    }
}

#[tokio::test]
async fn chat_reaches_all_by_their_names() {
    // axum drops a connection whose function returns. Here it is closed.
    for (app, end) in [(before::chat::app(), "gone"), (after::chat::app(), "1000 ")] {
        let address = serve(app).await;
        let mut ann = Client::to(address).await;
        ann.send("ann").await;
        assert_eq!(ann.next().await, "ann came");

        let mut other = Client::to(address).await;
        other.send("ann").await;
        assert_eq!(other.next().await, "the name is taken");
        assert_eq!(other.next().await, end);

        let mut bob = Client::to(address).await;
        bob.send("bob").await;
        assert_eq!(bob.next().await, "bob came");
        bob.send("Hello").await;
        assert_eq!(bob.next().await, "bob: Hello");
        bob.close().await;
        for line in ["bob came", "bob: Hello", "bob went"] {
            assert_eq!(ann.next().await, line);
        }
    }
}

#[tokio::test]
async fn websockets_http2_reaches_all() {
    for server in [before::websockets_http2::app, after::websockets_http2::app] {
        let (log, mut lines) = Log::new();
        let address = serve(server(log)).await;
        let mut one = Client::to(address).await;
        let mut two = Client::to(address).await;
        one.send("Hello").await;
        assert_eq!(one.next().await, "Hello");
        assert_eq!(two.next().await, "Hello");
        two.close().await;
        assert_eq!(two.next().await, "4000 ");
        one.send("again").await;
        assert_eq!(one.next().await, "again");
        assert_eq!(lines.recv().await.unwrap(), "HTTP/1.1");
    }
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn websockets_http2_serves_http2() {
    use crate::support::{
        http2::{self, Session, connect},
        wire::{self, TEXT},
    };

    for server in [before::websockets_http2::app, after::websockets_http2::app] {
        let (log, mut lines) = Log::new();
        let session = Session::new(http2::serve(server(log))).await;
        let mut tunnel = session.ask(connect().uri("https://example.com/ws")).await;
        wire::write(&mut tunnel, &wire::frame(wire::FIN | TEXT, b"Hello")).await;
        let frame = wire::read_frame(&mut tunnel).await.unwrap();
        assert_eq!(frame.payload, b"Hello");
        assert_eq!(lines.recv().await.unwrap(), "HTTP/2.0");
    }
}

#[test]
fn other_lines_are_the_same() {
    for (name, changed) in [("chat", 0), ("websockets", 6), ("websockets_http2", 4)] {
        let read = |side: &str| {
            let path = format!("tests/from_axum/{side}/{name}.rs");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            lines_without_imports(&fs::read_to_string(path).unwrap())
        };
        let (removed, added) = difference(&read("before"), &read("after"));
        for line in removed.iter().chain(&added) {
            let words = ["Ping", "Pong", "Close", "close", "Ok(", "Err(", "None =>"];
            let is_listed = words.iter().any(|word| line.contains(word));
            assert!(is_listed, "{name}: {line}");
        }
        assert_eq!(removed.len(), changed, "{name}: {removed:#?}");
    }
}

/// Returns the lines of a program without its imports, and with the extractor's name on both sides.
fn lines_without_imports(code: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut in_import = false;
    for line in code.lines() {
        in_import |= line.starts_with("use ");
        if !in_import {
            lines.push(line.trim().replace("WebSocketUpgrade", "Upgrade"));
        }
        in_import &= !line.ends_with(';');
    }
    lines
}

/// Returns the lines that only the first text has, and those that only the second one has.
fn difference(one: &[String], other: &[String]) -> (Vec<String>, Vec<String>) {
    // The length of the longest common subsequence from each pair of positions on.
    let mut common = vec![vec![0_usize; other.len() + 1]; one.len() + 1];
    for first in (0..one.len()).rev() {
        for second in (0..other.len()).rev() {
            common[first][second] = match one[first] == other[second] {
                true => common[first + 1][second + 1] + 1,
                false => common[first + 1][second].max(common[first][second + 1]),
            };
        }
    }
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    let (mut first, mut second) = (0, 0);
    while first < one.len() || second < other.len() {
        let removes = second == other.len()
            || (first < one.len() && common[first + 1][second] >= common[first][second + 1]);
        if first < one.len() && second < other.len() && one[first] == other[second] {
            first += 1;
            second += 1;
        } else if removes {
            removed.push(one[first].clone());
            first += 1;
        } else {
            added.push(other[second].clone());
            second += 1;
        }
    }
    (removed, added)
}
