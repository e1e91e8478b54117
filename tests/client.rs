//! The client's side of a connection after its handshake: against this crate's layer, against another
//! crate's server, and against a server that is scripted by the test.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use support::{
    pipe, server,
    tcp::{self, serve},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::accept_async;
use tower_websocket::{
    BoxError, CloseCode, Config, Echo, Error, Handler, IntoHandler, Message, Side, WebSocket,
    WebSocketLayer,
    client::{connect, connect_with},
    error::RecvError,
};

use self::support::wire::{self, BINARY, CLOSE, FIN, PING, PONG, TEXT};

async fn layered<M>(handler: impl IntoHandler<M, Handler: Handler>) -> SocketAddr {
    serve(WebSocketLayer::new(handler).into_service()).await
}

async fn dial(address: SocketAddr) -> WebSocket {
    within(connect(format!("ws://{address}/"))).await.unwrap().0
}

#[track_caller]
fn assert_code(frame: &wire::Frame, code: u16) {
    assert_eq!(frame.close_code(), Some(code), "{frame:?}");
}

async fn next_frame(server: &mut DuplexStream) -> wire::Frame {
    within(wire::read_masked(server)).await.unwrap().0
}

#[tokio::test]
async fn echoes_messages_of_all_sizes_and_closes() {
    let mut socket = dial(layered(Echo::new()).await).await;
    for len in [0, 1, 125, 126, 4095, 4096, 65_535, 65_536, 1 << 20] {
        let bytes: Vec<u8> = (0..len).map(|i| ((i * 31) >> 3) as u8).collect();
        socket.send(Message::binary(bytes.clone())).await.unwrap();
        let answer = within(socket.recv()).await.unwrap().unwrap();
        assert!(answer.as_bytes() == bytes, "{len} bytes");
    }
    let sender = socket.sender();
    within(socket.close(CloseCode::NORMAL, "bye"))
        .await
        .unwrap();
    let closed = sender.closed().await;
    assert_eq!(closed.side(), Side::Local);
    assert!(closed.is_clean());
}

#[tokio::test]
async fn sends_from_many_tasks_without_tearing_frames() {
    let mut socket = dial(layered(Echo::new()).await).await;
    let mut expected = Vec::new();
    for task in 0..20 {
        let sender = socket.sender();
        let texts: Vec<_> = (0..20)
            .map(|n| format!("{task}.{n} ").repeat(n * n + 1))
            .collect();
        expected.extend(texts.clone());
        tokio::spawn(async move {
            for text in texts {
                sender.send(text).await.unwrap();
            }
        });
    }
    let mut received = Vec::new();
    while received.len() < expected.len() {
        let message = within(socket.recv()).await.unwrap().unwrap();
        received.push(message.into_text().unwrap().as_str().to_owned());
    }
    expected.sort_unstable();
    received.sort_unstable();
    assert!(received == expected);
}

/// Counts down together with its peer. Both the client and the server can run it.
#[derive(Clone, Default)]
struct Countdown {
    seen: Arc<AtomicUsize>,
}

impl Handler for Countdown {
    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        while let Some(message) = socket.recv().await? {
            let left: u32 = message.into_text()?.parse()?;
            self.seen.fetch_add(1, Ordering::Relaxed);
            match left.checked_sub(1) {
                Some(left) => socket.send(left.to_string()).await?,
                None => break,
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn serves_accepted_and_dialled_connections_with_one_handler() {
    let countdown = Countdown::default();
    let mut dialled = dial(layered(countdown.clone()).await).await;
    dialled.send("99").await.unwrap();
    let sender = dialled.sender();
    within(countdown.handle(dialled)).await.unwrap();
    let closed = within(sender.closed()).await;
    assert_eq!(closed.code(), Some(CloseCode::NORMAL));
    assert!(closed.is_clean());
    assert_eq!(countdown.seen.load(Ordering::Relaxed), 100);
}

#[tokio::test]
async fn learns_why_the_server_closes() {
    let refuse = |_socket: WebSocket| async {
        let code = CloseCode::new(4003)?;
        Err::<(), _>(Error::from(tower_websocket::CloseFrame::new(
            code, "not you",
        )?))
    };
    let mut socket = dial(layered(refuse).await).await;
    assert!(within(socket.recv()).await.unwrap().is_none());
    let closed = within(socket.sender().closed()).await;
    assert_eq!((closed.side(), closed.is_clean()), (Side::Remote, true));
    assert_eq!(
        (closed.code().unwrap().get(), closed.reason()),
        (4003, "not you")
    );
}

#[tokio::test]
async fn goes_with_a_layer_that_shuts_down() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let mut socket = dial(serve(layer.into_service()).await).await;
    socket.send("before").await.unwrap();
    within(socket.recv()).await.unwrap().unwrap();
    let report = within(async {
        let closed = connections.shutdown(Duration::from_secs(5));
        tokio::join!(closed, async {
            assert!(socket.recv().await.unwrap().is_none())
        })
        .0
    })
    .await;
    assert_eq!(report.aborted, 0, "{report:?}");
    let code = within(socket.sender().closed()).await.code();
    assert_eq!(code, Some(CloseCode::GOING_AWAY));
}

#[tokio::test]
async fn masks_each_frame_with_a_key_that_cannot_be_foretold() {
    const FRAMES: usize = 1000;
    let (mut socket, mut server) = server::connect(Config::new()).await;
    let sending = tokio::spawn(async move {
        for _ in 0..FRAMES {
            socket.send("the same again").await.unwrap();
        }
        socket
    });
    let mut keys = Vec::new();
    for _ in 0..FRAMES {
        let (frame, key) = within(wire::read_masked(&mut server)).await.unwrap();
        assert_eq!(frame.first, FIN | TEXT);
        assert_eq!(frame.payload, b"the same again");
        keys.push(u32::from_be_bytes(key));
    }
    drop(sending.await.unwrap());
    let (close, key) = within(wire::read_masked(&mut server)).await.unwrap();
    assert_code(&close, 1000);
    keys.push(u32::from_be_bytes(key));

    // Each bit is random, and so is each change between two keys. A count outside of 500 ± 100 occurs
    // less than once in 10^8 runs.
    let changes: Vec<_> = keys.windows(2).map(|pair| pair[0] ^ pair[1]).collect();
    let steps: Vec<_> = keys
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    for words in [&keys, &changes, &steps] {
        for bit in 0..32 {
            let ones = words.iter().filter(|word| *word >> bit & 1 == 1).count();
            assert!((400..=600).contains(&ones), "bit {bit}: {ones} ones");
        }
    }
    keys.sort_unstable();
    keys.dedup();
    // Two equal keys occur once in 8,000 runs, so the test tolerates them.
    assert!(keys.len() > FRAMES - 2, "{} keys", keys.len());
}

#[tokio::test]
async fn refuses_frames_that_a_server_masked() {
    for frame in [
        wire::frame(FIN | TEXT, b"masked"),
        wire::frame(FIN | PING, b""),
        wire::close(1000, ""),
    ] {
        let (mut socket, mut server) = server::connect(Config::new()).await;
        wire::write(&mut server, &frame).await;
        let fault = within(socket.recv()).await.unwrap_err();
        assert!(matches!(fault, RecvError::Protocol(_)), "{fault:?}");
        assert_code(&next_frame(&mut server).await, 1002);
    }
}

#[tokio::test]
async fn has_the_limits_of_its_config() {
    let (mut socket, mut server) = server::connect(Config::new().max_message_size(1000)).await;
    wire::write(&mut server, &wire::header(FIN | BINARY, 1001, false)).await;
    let fault = within(socket.recv()).await.unwrap_err();
    assert!(matches!(fault, RecvError::TooLarge), "{fault:?}");
    assert_code(&next_frame(&mut server).await, 1009);
}

#[tokio::test]
async fn answers_pings_and_closes() {
    let (mut socket, mut server) = server::connect(Config::new()).await;
    wire::write(&mut server, &wire::plain(FIN | PING, b"there?")).await;
    let pong = next_frame(&mut server).await;
    assert_eq!((pong.first, &*pong.payload), (FIN | PONG, &b"there?"[..]));
    let close = wire::plain(
        FIN | CLOSE,
        &[&1001_u16.to_be_bytes()[..], b"gone"].concat(),
    );
    wire::write(&mut server, &close).await;
    assert!(within(socket.recv()).await.unwrap().is_none());
    assert_code(&next_frame(&mut server).await, 1001);
    let closed = within(socket.sender().closed()).await;
    assert_eq!((closed.side(), closed.reason()), (Side::Remote, "gone"));
}

#[tokio::test]
async fn closes_when_it_is_dropped_and_says_when_in_a_panic() {
    let (socket, mut server) = server::connect(Config::new()).await;
    drop(socket);
    assert_code(&next_frame(&mut server).await, 1000);

    let (socket, mut server) = server::connect(Config::new()).await;
    let panicking = tokio::spawn(async move {
        let _held = socket;
        panic!("on purpose");
    });
    assert!(panicking.await.is_err());
    assert_code(&next_frame(&mut server).await, 1011);
}

#[tokio::test]
async fn receives_from_an_echo_whose_output_is_blocked() {
    // An echo stops reading while its output is blocked. The messages are far larger than the pipes.
    const COUNT: usize = 500;
    for len in [100, 16_000] {
        let (client, server) = duplex(4096);
        let socket = async { connect_with("ws://example.com/", client).await.unwrap().0 };
        let service = WebSocketLayer::new(Echo::new()).into_service();
        pipe::serve_on(server, service);
        let mut socket = within(socket).await;
        let sender = socket.sender();
        tokio::spawn(async move {
            for number in 0..COUNT {
                let mut bytes = vec![0; len];
                bytes[..8].copy_from_slice(&number.to_be_bytes());
                sender.send(bytes).await.unwrap();
            }
        });
        for number in 0..COUNT {
            let message = within(socket.recv()).await.unwrap().unwrap();
            assert_eq!(message.as_bytes()[..8], number.to_be_bytes(), "{len}");
        }
        within(socket.close(CloseCode::NORMAL, "")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn blames_no_server_for_pings_that_did_not_get_out() {
    const MINUTE: Duration = Duration::from_secs(60);
    let config = Config::new()
        .keepalive(MINUTE / 6, MINUTE / 12)
        .write_timeout(10 * MINUTE);
    let (mut socket, mut server) = server::connect(config).await;
    let message = vec![7; 500_000];
    socket.send(message.clone()).await.unwrap();
    sleep(5 * MINUTE).await;
    // The client still receives, and its answers follow the blocked output.
    for number in 0..100_u8 {
        wire::write(&mut server, &wire::plain(FIN | PING, &[number])).await;
    }
    wire::write(&mut server, &wire::plain(FIN | TEXT, b"slowly")).await;
    let heard = within(socket.recv()).await.unwrap().unwrap();
    assert_eq!(heard, Message::text("slowly"));
    let frame = next_frame(&mut server).await;
    assert!(frame.payload == message);
    let pong = next_frame(&mut server).await;
    assert_eq!((pong.first, pong.payload), (FIN | PONG, vec![99]));
}

#[tokio::test(start_paused = true)]
async fn pings_a_silent_server_and_gives_it_up() {
    let config = Config::new().keepalive(Duration::from_secs(20), Duration::from_secs(5));
    let (mut socket, mut server) = server::connect(config).await;
    let started = Instant::now();
    let ping = wire::read_masked(&mut server).await.unwrap().0;
    assert_eq!((ping.first, started.elapsed().as_secs()), (FIN | PING, 20));
    wire::write(&mut server, &wire::plain(FIN | PONG, &ping.payload)).await;
    let again = wire::read_masked(&mut server).await.unwrap().0;
    assert_eq!((again.first, started.elapsed().as_secs()), (FIN | PING, 40));
    let fault = socket.recv().await.unwrap_err();
    assert!(matches!(fault, RecvError::Unresponsive), "{fault:?}");
    assert_eq!(started.elapsed().as_secs(), 45);
}

/// Closes from either side, up to where both have sent and read a Close.
async fn crossed(by_client: bool, close_timeout: Duration) -> (WebSocket, DuplexStream) {
    let (mut socket, mut server) =
        server::connect(Config::new().close_timeout(close_timeout)).await;
    let close = wire::plain(FIN | CLOSE, &1000_u16.to_be_bytes());
    if by_client {
        let (closed, ()) = tokio::join!(socket.close(CloseCode::NORMAL, ""), async {
            assert_code(&next_frame(&mut server).await, 1000);
            wire::write(&mut server, &close).await;
        });
        closed.unwrap();
    } else {
        wire::write(&mut server, &close).await;
        assert!(socket.recv().await.unwrap().is_none());
        assert_code(&next_frame(&mut server).await, 1000);
    }
    (socket, server)
}

#[tokio::test(start_paused = true)]
async fn lets_the_server_end_the_stream_first() {
    for by_client in [true, false] {
        let (socket, mut server) = crossed(by_client, Duration::from_secs(60)).await;
        let closed = socket.sender().closed().await;
        assert!(closed.is_clean(), "by client: {by_client}");
        // `closed` resolves at once, but the stream stays open.
        let early = timeout(Duration::from_secs(59), server.read(&mut [0])).await;
        assert!(early.is_err(), "{early:?}, by client: {by_client}");
        server.shutdown().await.unwrap();
        let ended = Instant::now();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(ended.elapsed(), Duration::ZERO, "by client: {by_client}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_for_the_server_to_go_only_so_long() {
    for by_client in [true, false] {
        let (_socket, mut server) = crossed(by_client, Duration::from_secs(5)).await;
        let started = Instant::now();
        // Neither silence nor what still comes prolongs it.
        let mut noise = wire::plain(FIN | TEXT, b"still here");
        while server.write_all(&noise).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
            noise.rotate_left(1);
        }
        let waited = started.elapsed();
        assert!(
            (5..=6).contains(&waited.as_secs()),
            "{waited:?}, by client: {by_client}"
        );
    }
}

/// An echo of tungstenite's, which closes after the message `close`.
async fn foreign_echo() -> SocketAddr {
    let (listener, address) = tcp::listen().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(echo(stream));
        }
    });
    address
}

async fn echo(stream: TcpStream) {
    let mut peer = accept_async(stream).await.unwrap();
    while let Some(Ok(message)) = peer.next().await {
        if message.to_text().is_ok_and(|text| text == "close") {
            peer.close(None).await.unwrap();
        } else if message.is_text() || message.is_binary() {
            peer.send(message).await.unwrap();
        }
    }
}

#[tokio::test]
async fn talks_to_a_server_of_another_make() {
    let mut socket = dial(foreign_echo().await).await;
    for len in [0, 1, 7, 125, 126, 65_535, 65_536, 300_000] {
        for message in [
            Message::text("\u{e9}".repeat(len)),
            Message::binary(vec![0xa5; len]),
        ] {
            socket.send(message.clone()).await.unwrap();
            let answer = within(socket.recv()).await.unwrap().unwrap();
            assert!(answer == message, "{len}: {answer:?}");
        }
    }
    socket.send("close").await.unwrap();
    assert!(within(socket.recv()).await.unwrap().is_none());
    let closed = within(socket.sender().closed()).await;
    assert_eq!((closed.side(), closed.is_clean()), (Side::Remote, true));
    assert_eq!(closed.code(), None);
}

#[tokio::test]
async fn closes_towards_a_server_of_another_make() {
    let mut socket = dial(foreign_echo().await).await;
    socket.send("flushed before the close").await.unwrap();
    let sender = socket.sender();
    within(socket.close(CloseCode::new(4001).unwrap(), "done"))
        .await
        .unwrap();
    let closed = sender.closed().await;
    assert_eq!((closed.side(), closed.is_clean()), (Side::Local, true));
    assert_eq!(closed.code().map(u16::from), Some(4001));
}
