//! permessage-deflate (RFC 7692) as a client: with this crate's layer, where the test records every byte
//! between the two, and with a server that is scripted by the test.
//!
//! ```text
//! cargo test --features client,deflate --test client_deflate
//! ```

#![cfg(all(feature = "client", feature = "deflate"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    convert::Infallible,
    error::Error as _,
    sync::{Arc, Mutex},
};

use futures_util::{SinkExt, StreamExt};
use http::Response;
use support::{
    pipe,
    server::{SWITCHING, answered, handshake, switching_with},
    wire, within,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tower::{Layer, service_fn};
use tower_websocket::{
    CloseCode, Config, Deflate, Echo, Handler, IntoHandler, Message, WebSocket, WebSocketLayer,
    client::{ConnectError, Handshake, connect_with},
    error::{RecvError, TrySendError},
};
use wire::{BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, TEXT, plain};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Marks the first frame of a compressed message.
const RSV1: u8 = 0x40;

/// "Hello" as RFC 7692 §7.2.3.1 compresses it.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

/// Everything is compressed, and nothing is shared between messages.
const fn alone() -> Deflate {
    Deflate::new().min_size(0)
}

/// Messages may refer to each other in both directions.
const fn takeover() -> Deflate {
    alone()
        .send_window_bits(15)
        .send_context_takeover()
        .receive_context_takeover()
}

fn config(deflate: Deflate) -> Config {
    Config::new().deflate(deflate)
}

/// The bytes on the wire, in each direction.
type Tape = Arc<Mutex<[Vec<u8>; 2]>>;

/// Forwards bytes, and records them.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    tape: Tape,
    side: usize,
) {
    let mut buffer = vec![0; 16 * KIB];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tape.lock().unwrap()[side].extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    drop(to.shutdown().await);
}

/// A connection between this crate's client and this crate's layer.
struct Pair {
    socket: WebSocket,
    /// The extensions that both sides agreed on.
    extensions: Option<String>,
    tape: Tape,
}

impl Pair {
    async fn new<M>(
        client: Config,
        server: Config,
        handler: impl IntoHandler<M, Handler: Handler>,
    ) -> Self {
        let layer = WebSocketLayer::new(handler).config(server);
        let service = layer.layer(service_fn(async |_| {
            Ok::<_, Infallible>(Response::new(String::new()))
        }));
        let (near, client_end) = duplex(64 * KIB);
        let (far, server_end) = duplex(64 * KIB);
        pipe::serve_on(server_end, service);
        let tape = Tape::default();
        let (from_client, to_client) = tokio::io::split(near);
        let (from_server, to_server) = tokio::io::split(far);
        tokio::spawn(pass(from_client, to_server, Arc::clone(&tape), 0));
        tokio::spawn(pass(from_server, to_client, Arc::clone(&tape), 1));
        let handshake = handshake().config(client);
        let (socket, response) = within(connect_with(handshake, client_end)).await.unwrap();
        let extensions = response.headers().get("sec-websocket-extensions");
        Self {
            socket,
            extensions: extensions.map(|field| field.to_str().unwrap().to_owned()),
            tape,
        }
    }

    async fn echoes(&mut self, message: impl Into<Message>) {
        let message = message.into();
        within(self.socket.send(message.clone())).await.unwrap();
        let echoed = within(self.socket.recv()).await.unwrap().unwrap();
        assert!(echoed == message, "{} bytes", message.len());
    }

    /// Closes, and returns the data frames that went to the server and to the client.
    async fn frames(mut self) -> [Vec<Frame>; 2] {
        let sender = self.socket.sender();
        within(self.socket.close(CloseCode::NORMAL, ""))
            .await
            .unwrap();
        assert!(sender.closed().await.is_clean());
        let [sent, received] = std::mem::take(&mut *self.tape.lock().unwrap());
        let (mut sent, mut received) = (&sent[..], &received[..]);
        wire::read_head(&mut sent).await;
        wire::read_head(&mut received).await;
        let mut frames = [vec![], vec![]];
        while let Some((frame, key)) = wire::read_masked(&mut sent).await {
            assert_ne!(key, [0; 4]);
            frames[0].push(frame);
        }
        while let Some(frame) = wire::read_frame(&mut received).await {
            frames[1].push(frame);
        }
        for frames in &mut frames {
            assert_eq!(frames.pop().unwrap().first, FIN | CLOSE);
        }
        frames
    }
}

fn json() -> String {
    let rows = (0..2000).map(|id| format!("{{\"id\":{id},\"name\":\"user {id}\",\"on\":true}}"));
    format!("[{}]", rows.collect::<Vec<_>>().join(","))
}

/// Bytes that do not become smaller by themselves.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d ^ u64::from(seed);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[tokio::test]
async fn echoes_with_the_layer_under_all_terms() {
    const NONE: &str = "; server_no_context_takeover; client_no_context_takeover";
    for (client, server, agreed) in [
        (
            alone(),
            alone(),
            &*format!("{NONE}; server_max_window_bits=12; client_max_window_bits=12"),
        ),
        (takeover(), takeover(), ""),
        (
            takeover(),
            alone(),
            &*format!("{NONE}; server_max_window_bits=12"),
        ),
        (
            alone(),
            takeover(),
            &*format!("{NONE}; client_max_window_bits=12"),
        ),
        (
            takeover(),
            alone().send_context_takeover(),
            "; client_no_context_takeover; server_max_window_bits=12",
        ),
        (
            takeover(),
            alone().send_window_bits(15).receive_context_takeover(),
            "; server_no_context_takeover",
        ),
        (
            takeover()
                .send_window_bits(9)
                .receive_window_bits(9)
                .level(9),
            takeover().level(1),
            "; server_max_window_bits=9; client_max_window_bits=9",
        ),
        (
            takeover(),
            takeover().send_window_bits(10).receive_window_bits(11),
            "; server_max_window_bits=10; client_max_window_bits=11",
        ),
    ] {
        let mut pair = Pair::new(config(client), config(server), Echo::new()).await;
        let agreed = format!("permessage-deflate{agreed}");
        assert_eq!(pair.extensions.as_ref(), Some(&agreed));
        for _ in 0..3 {
            pair.echoes(json()).await;
            pair.echoes(noise(0, 20_000)).await;
            for len in [0, 1, 125, 126, 4095, 4096, 65_535, 65_536] {
                pair.echoes("ab".repeat(len / 2 + 1)).await;
                pair.echoes(Message::binary(vec![7; len])).await;
            }
        }
        pair.echoes(Message::binary(vec![0; MIB])).await;
        for frames in pair.frames().await {
            // Several windows long, and so it shrinks under all terms.
            assert_eq!(frames[0].first, FIN | TEXT | RSV1, "{agreed}");
            assert!(frames[0].payload.len() < json().len() / 3, "{agreed}");
            // An empty message has nothing to be compressed.
            let empty = frames.iter().filter(|frame| frame.payload.is_empty());
            assert!(empty.clone().all(|frame| frame.first == FIN | BINARY));
            assert_eq!(empty.count(), 3, "{agreed}");
        }
    }
}

#[tokio::test]
async fn refers_to_messages_before_in_the_directions_that_were_agreed_on() {
    for (client, server, refers) in [
        (takeover(), takeover(), [true, true]),
        (takeover(), alone().send_context_takeover(), [false, true]),
        (
            takeover(),
            alone().receive_context_takeover(),
            [true, false],
        ),
        (alone(), takeover(), [false, false]),
        (takeover(), alone(), [false, false]),
    ] {
        let mut pair = Pair::new(config(client), config(server), Echo::new()).await;
        let agreed = pair.extensions.clone();
        // It has to be found in the smallest of the windows.
        let message = noise(0, 2000);
        for _ in 0..3 {
            pair.echoes(message.clone()).await;
        }
        for (frames, refers) in pair.frames().await.iter().zip(refers) {
            let sizes: Vec<_> = frames.iter().map(|frame| frame.payload.len()).collect();
            assert!(sizes[0] >= 2000, "{agreed:?}: {sizes:?}");
            assert_eq!(sizes[1] < 100, refers, "{agreed:?}: {sizes:?}");
            assert_eq!(sizes[2] < 100, refers, "{agreed:?}: {sizes:?}");
        }
    }
}

#[tokio::test]
async fn does_without_where_one_of_the_two_does_not_want_it() {
    for (client, server) in [
        (Config::new(), config(takeover())),
        (config(takeover()), Config::new()),
        // The client does not offer to keep its window that small.
        (Config::new(), config(alone().receive_window_bits(9))),
    ] {
        let mut pair = Pair::new(client, server, Echo::new()).await;
        assert_eq!(pair.extensions, None);
        pair.echoes(json()).await;
        for frames in pair.frames().await {
            assert_eq!(frames[0].first, FIN | TEXT);
            assert!(frames[0].payload == json().as_bytes());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_order_of_many_senders() {
    for deflate in [alone(), takeover()] {
        // Little room, so that senders wait in the middle of it.
        let client = config(deflate).max_outbox(4, 16 * KIB);
        let mut pair = Pair::new(client, config(deflate), Echo::new()).await;
        for task in 0..8_usize {
            let sender = pair.socket.sender();
            tokio::spawn(async move {
                for index in 0..50 {
                    let mut text = format!("{task} {index} {}", "and more ".repeat(task * 200));
                    match index % 5 {
                        3 => sender.send_uncompressed(text).await.unwrap(),
                        4 => loop {
                            match sender.try_send(text) {
                                Err(TrySendError::Full(Message::Text(refused))) => {
                                    text = refused.to_string();
                                    tokio::task::yield_now().await;
                                }
                                sent => break sent.unwrap(),
                            }
                        },
                        _ => sender.send(text).await.unwrap(),
                    }
                }
            });
        }
        let mut next = [0; 8];
        for _ in 0..400 {
            let text = within(pair.socket.recv()).await.unwrap().unwrap();
            let text = text.into_text().unwrap();
            let mut words = text.split(' ');
            let task: usize = words.next().unwrap().parse().unwrap();
            assert_eq!(words.next().unwrap(), next[task].to_string(), "of {task}");
            assert!(text.ends_with(&"and more ".repeat(task * 200)));
            next[task] += 1;
        }
        pair.frames().await;
    }
}

#[tokio::test]
async fn compresses_what_goes_through_the_sink() {
    for deflate in [alone(), takeover()] {
        let pair = Pair::new(config(deflate), config(deflate), Echo::new()).await;
        let tape = Arc::clone(&pair.tape);
        let (mut sink, mut stream) = pair.socket.split();
        let sending = tokio::spawn(async move {
            for index in 0..100 {
                let text = format!("{index} {}", json());
                sink.send(Message::from(text)).await.unwrap();
            }
            sink
        });
        for index in 0..100 {
            let message = within(stream.next()).await.unwrap().unwrap();
            let text = message.into_text().unwrap();
            assert!(*text == *format!("{index} {}", json()));
        }
        let mut sink = within(sending).await.unwrap();
        within(sink.close()).await.unwrap();
        let sent = tape.lock().unwrap()[0].len();
        assert!(sent < 100 * json().len() / 3, "{sent} bytes");
    }
}

// The paused clock advances only when no task can make progress.
#[tokio::test(start_paused = true)]
async fn gives_up_a_send_that_waits_without_a_trace() {
    // The server reads nothing while its handler waits, and then what was really sent.
    let (go, wait) = tokio::sync::watch::channel(false);
    let handler = move |mut socket: WebSocket| {
        let mut go = wait.clone();
        async move {
            go.wait_for(|go| *go).await?;
            while let Some(message) = socket.recv().await? {
                socket.send(message.into_bytes().slice(..1)).await?;
            }
            Ok::<_, tower_websocket::BoxError>(())
        }
    };
    for deflate in [alone(), takeover()] {
        go.send_replace(false);
        let client = config(deflate).max_outbox(4, 64 * KIB);
        let mut pair = Pair::new(client, config(deflate), handler.clone()).await;
        let mut sent = Vec::new();
        // Until inbox, pipes and outbox are full.
        for number in 0_u8.. {
            let message = [&[number][..], &noise(number, 30_000)].concat();
            let send = pair.socket.send(message);
            let waits = std::time::Duration::from_millis(100);
            match tokio::time::timeout(waits, send).await {
                Ok(done) => done.unwrap(),
                Err(_) => break,
            }
            sent.push(number);
        }
        assert!(sent.len() < 100);
        go.send_replace(true);
        within(pair.socket.send(vec![255; 3000])).await.unwrap();
        sent.push(255);
        for number in sent {
            let first = within(pair.socket.recv()).await.unwrap().unwrap();
            assert_eq!(first.as_bytes(), [number]);
        }
    }
}

fn offering(deflate: Deflate) -> Handshake {
    handshake().config(config(deflate))
}

/// Connects to a server that agrees to the extension. The test then plays the server.
async fn agreed() -> (WebSocket, DuplexStream) {
    let lines = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
    let (connected, server) = answered(offering(alone()), switching_with(lines)).await;
    (connected.unwrap().0, server)
}

#[tokio::test]
async fn refuses_an_answer_that_was_not_offered() {
    let field = |value: &str| format!("Sec-WebSocket-Extensions: {value}\r\n");
    let none = "server_no_context_takeover";
    for extensions in [
        field(""),
        field(","),
        field("permessage-bzip"),
        field("Permessage-Deflate; server_no_context_takeover"),
        // The server does not grant the requested parameter.
        field("permessage-deflate"),
        field("permessage-deflate; client_no_context_takeover"),
        field(&format!(
            "permessage-deflate; {none}; client_max_window_bits"
        )),
        field(&format!(
            "permessage-deflate; {none}; client_max_window_bits=13"
        )),
        field(&format!(
            "permessage-deflate; {none}; client_max_window_bits=7"
        )),
        field(&format!(
            "permessage-deflate; {none}; client_max_window_bits=012"
        )),
        field(&format!(
            "permessage-deflate; {none}; server_max_window_bits"
        )),
        field(&format!(
            "permessage-deflate; {none}; server_max_window_bits=16"
        )),
        field(&format!("permessage-deflate; {none}; {none}")),
        field(&format!("permessage-deflate; {none}=1")),
        field(&format!("permessage-deflate; {none}; x")),
        field(&format!("permessage-deflate; {none};")),
        field(&format!("permessage-deflate; {none}, x")),
        field(&format!(
            "permessage-deflate; {none}, permessage-deflate; {none}"
        )),
        field(&format!("x, permessage-deflate; {none}")),
        field(&format!("permessage-deflate; {none}")) + &field("x"),
        field(&format!("permessage-deflate; {none}")).repeat(2),
        field("\"permessage-deflate\""),
        field("\u{e9}"),
    ] {
        let (connected, mut server) =
            answered(offering(alone()), switching_with(&extensions)).await;
        let error = connected.unwrap_err();
        assert!(
            matches!(error, ConnectError::InvalidResponse(_)),
            "{extensions}: {error:?}"
        );
        assert!(
            error.source().unwrap().to_string().contains("extension"),
            "{error:?}"
        );
        assert_eq!(
            within(server.read(&mut [0])).await.unwrap(),
            0,
            "{extensions}"
        );
    }
}

#[tokio::test]
async fn keeps_to_an_answer_that_asks_for_less() {
    let message = noise(0, 3000);
    for (parameters, refers) in [
        ("", true),
        ("; client_max_window_bits=15", true),
        (
            "; client_max_window_bits=12; server_max_window_bits=8",
            true,
        ),
        // Too far back for it.
        ("; client_max_window_bits=9", false),
        (
            "; client_no_context_takeover; server_no_context_takeover",
            false,
        ),
    ] {
        let field = format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n");
        let (connected, mut server) = answered(offering(takeover()), switching_with(&field)).await;
        let mut socket = connected.unwrap().0;
        let mut sizes = Vec::new();
        for _ in 0..2 {
            socket.send(message.clone()).await.unwrap();
            let (frame, _) = within(wire::read_masked(&mut server)).await.unwrap();
            sizes.push(frame.payload.len());
        }
        assert_eq!(sizes[1] < 100, refers, "{parameters}: {sizes:?}");
        wire::write(&mut server, &plain(FIN | TEXT | RSV1, &HELLO)).await;
        let hello = within(socket.recv()).await.unwrap().unwrap();
        assert_eq!(hello, Message::text("Hello"));
    }
}

#[tokio::test]
async fn answers_pings_between_compressed_fragments() {
    let (mut socket, mut server) = agreed().await;
    wire::write(&mut server, &plain(TEXT | RSV1, &HELLO[..3])).await;
    wire::write(&mut server, &plain(FIN | PING, b"still there?")).await;
    let (pong, _) = within(wire::read_masked(&mut server)).await.unwrap();
    assert_eq!(
        (pong.first, &*pong.payload),
        (FIN | PONG, &b"still there?"[..])
    );
    wire::write(&mut server, &plain(CONTINUATION, b"")).await;
    wire::write(&mut server, &plain(FIN | CONTINUATION, &HELLO[3..])).await;
    let hello = within(socket.recv()).await.unwrap().unwrap();
    assert_eq!(hello, Message::text("Hello"));
}

#[tokio::test]
async fn tells_a_server_what_was_wrong_with_what_it_compressed() {
    // 4 MiB of zeros in 4 KiB.
    let mut bomb = flate2::Compress::new(flate2::Compression::best(), false);
    let mut compressed = Vec::with_capacity(64 * KIB);
    bomb.compress_vec(
        &vec![0; 4 * MIB],
        &mut compressed,
        flate2::FlushCompress::Sync,
    )
    .unwrap();
    for (bytes, code) in [
        (plain(FIN | PING | RSV1, &HELLO), 1002),
        (plain(FIN | PONG | RSV1, b""), 1002),
        (plain(FIN | CLOSE | RSV1, &[0x03, 0xe8]), 1002),
        (plain(FIN | CONTINUATION | RSV1, &HELLO), 1002),
        (plain(FIN | TEXT | RSV1 | 0x20, &HELLO), 1002),
        (
            [
                plain(TEXT | RSV1, &HELLO),
                plain(FIN | CONTINUATION | RSV1, b""),
            ]
            .concat(),
            1002,
        ),
        // Masked, as a client's would be.
        (wire::frame(FIN | TEXT | RSV1, &HELLO), 1002),
        (plain(FIN | BINARY | RSV1, &[0xff; 10]), 1002),
        (plain(FIN | BINARY | RSV1, &HELLO[..3]), 1002),
        // The letter that is not UTF-8, in a stored block.
        (
            plain(FIN | TEXT | RSV1, &[0, 1, 0, 0xfe, 0xff, 0xff, 0]),
            1007,
        ),
        (plain(FIN | BINARY | RSV1, &compressed), 1009),
        (wire::header(FIN | BINARY | RSV1, 2 * MIB, false), 1009),
    ] {
        let (mut socket, mut server) = agreed().await;
        wire::write(&mut server, &bytes).await;
        let error = within(socket.recv()).await.unwrap_err();
        let expected = match code {
            1009 => matches!(error, RecvError::TooLarge),
            1007 => matches!(error, RecvError::InvalidUtf8),
            _ => matches!(error, RecvError::Protocol(_)),
        };
        assert!(expected, "{code}: {error:?}");
        let (close, _) = within(wire::read_masked(&mut server)).await.unwrap();
        assert_eq!(close.close_code(), Some(code), "{error:?}");
        assert_eq!(close.first & RSV1, 0);
    }
}

#[tokio::test]
async fn refuses_compressed_messages_when_the_server_had_declined() {
    let (connected, mut server) = answered(offering(takeover()), SWITCHING).await;
    wire::write(&mut server, &plain(FIN | TEXT | RSV1, &HELLO)).await;
    let error = within(connected.unwrap().0.recv()).await.unwrap_err();
    assert!(matches!(error, RecvError::Protocol(_)), "{error:?}");
    let (close, _) = within(wire::read_masked(&mut server)).await.unwrap();
    assert_eq!(close.close_code(), Some(1002));
}
