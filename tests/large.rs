//! Messages of megabytes over TCP, where several buffers are read into at once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use support::{handlers::echo, tcp, wire};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower_websocket::{Config, Echo, Handler, IntoHandler, WebSocket, WebSocketLayer};
use wire::{BINARY, CONTINUATION, FIN, Frame, TEXT, frame, read_frame};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GUARD: Duration = Duration::from_secs(60);

fn config() -> Config {
    // A timer would hide a stream that does not wake the connection.
    let config = Config::new().without_keepalive();
    let config = config.write_timeout(Duration::from_secs(3600));
    config.max_message_size(4 * MIB)
}

async fn connect<M>(handler: impl IntoHandler<M, Handler: Handler>) -> TcpStream {
    let layer = WebSocketLayer::new(handler).config(config());
    tcp::open(layer.into_service()).await
}

/// A connection on which the handshake is done, served without a layer.
async fn connect_from_io() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (server, _) = listener.accept().await.unwrap();
    let socket = WebSocket::from_io(server, config());
    tokio::spawn(async move { echo(socket).await });
    client.unwrap()
}

/// Returns bytes that differ from their neighbours, so that a misplaced byte is noticed.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

fn text(len: usize) -> Vec<u8> {
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= len {
            break;
        }
        text.push_str(&format!("{number}é€"));
    }
    text.into_bytes()
}

/// The bytes that a client sends, and those that it expects back.
fn session() -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
    let messages = [
        (BINARY, bytes(MIB)),
        (BINARY, bytes(3)),
        (TEXT, text(MIB)),
        (BINARY, bytes(3 * MIB + 1)),
        (BINARY, bytes(64 * KIB - 8)),
        (TEXT, text(200 * KIB)),
        (BINARY, bytes(300_000)),
    ];
    let mut sent = Vec::new();
    for (number, (opcode, payload)) in messages.iter().enumerate() {
        if number % 3 < 2 {
            sent.extend(frame(FIN | opcode, payload));
            continue;
        }
        let (front, back) = payload.split_at(payload.len() / 3);
        sent.extend(frame(*opcode, front));
        sent.extend(frame(FIN | CONTINUATION, back));
    }
    let expected = messages.map(|(opcode, payload)| (FIN | opcode, payload));
    (sent, expected.into())
}

/// Writes all of `sent`, `at_once` bytes at a time, and reads as many frames as are `expected`.
async fn exchange(client: TcpStream, sent: &[u8], at_once: usize, expected: usize) -> Vec<Frame> {
    let (mut reader, mut writer) = client.into_split();
    let write = async {
        for piece in sent.chunks(at_once) {
            writer.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        let mut frames = Vec::new();
        while frames.len() < expected {
            frames.push(read_frame(&mut reader).await.unwrap());
        }
        frames
    };
    let both = async { tokio::join!(write, read).1 };
    timeout(GUARD, both).await.unwrap()
}

/// Writes until nothing is taken any more, and only then begins to read.
async fn fill_and_drain(client: TcpStream, message: &[u8], count: usize) {
    let (mut reader, mut writer) = client.into_split();
    let written = AtomicUsize::new(0);
    let write = async {
        for _ in 0..count {
            writer.write_all(message).await.unwrap();
            written.fetch_add(1, Ordering::Relaxed);
        }
    };
    let read = async {
        let mut before = None;
        while before != Some(written.load(Ordering::Relaxed)) {
            before = Some(written.load(Ordering::Relaxed));
            // The server runs on the same thread, and makes progress during the yields.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
        }
        assert!(before < Some(count), "the buffers take everything");
        for number in 0..count {
            let frame = read_frame(&mut reader).await;
            assert!(frame.is_some(), "the connection is gone after {number}");
        }
    };
    let both = async { tokio::join!(write, read) };
    timeout(GUARD, both).await.unwrap();
}

#[tokio::test]
async fn writes_on_when_a_peer_reads_again() {
    let few = frame(FIN | BINARY, &bytes(MIB));
    let many = frame(FIN | BINARY, &bytes(20 * KIB));
    for (message, count) in [(few, 64), (many, 64 * 50)] {
        fill_and_drain(connect(Echo::new()).await, &message, count).await;
        fill_and_drain(connect(echo).await, &message, count).await;
    }
}

#[tokio::test]
async fn brings_large_messages_back_whole() {
    let (sent, expected) = session();
    for at_once in [5_000, 100_000, usize::MAX] {
        for server in ["echo", "handler", "from_io"] {
            let client = match server {
                "echo" => connect(Echo::new()).await,
                "handler" => connect(echo).await,
                _ => connect_from_io().await,
            };
            let frames = exchange(client, &sent, at_once, expected.len()).await;
            for (number, (frame, (first, payload))) in frames.iter().zip(&expected).enumerate() {
                let case = format!("{server}, {at_once} at once, message {number}");
                assert_eq!(frame.first, *first, "{case}");
                assert!(frame.payload == *payload, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn refuses_a_large_text_behind_answers() {
    for prefix in ["", "Echo: "] {
        let mut wrong = text(MIB);
        wrong[700_000] = 0xff;
        let sent = [
            frame(FIN | BINARY, &bytes(MIB)),
            frame(FIN | TEXT, b"small"),
            frame(FIN | TEXT, &wrong),
        ]
        .concat();
        let client = connect(Echo::prefixed(prefix)).await;
        let frames = exchange(client, &sent, 50_000, 3).await;
        assert!(frames[0].payload == bytes(MIB));
        assert_eq!(frames[1].payload, format!("{prefix}small").into_bytes());
        assert_eq!(frames[2].close_code(), Some(1007));
    }
}
