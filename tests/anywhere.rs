//! A session gets the same answers whether its handler runs in the connection's own task, in another task, or
//! receives in batches.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use support::{pipe, wire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, Config, Connections, CountedCode, Counts, Echo, Handler, IntoHandler,
    Message, Side, WebSocket, WebSocketLayer,
};
use wire::{BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, TEXT, close, frame, read_frame};

const PREFIX: &str = "Écho: ";

/// Echoes like [`Echo`], but in another task than the connection's.
struct Elsewhere(Echo);

impl Handler for Elsewhere {
    async fn handle(&self, socket: WebSocket) -> Result<(), BoxError> {
        let echo = self.0.clone();
        tokio::spawn(async move { echo.handle(socket).await }).await?
    }
}

/// Echoes like [`Echo`], but receives all available messages at once.
struct Batches {
    prefix: &'static str,
}

impl Handler for Batches {
    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        let mut messages = Vec::new();
        while socket.recv_many(&mut messages, 10).await? > 0 {
            for message in messages.drain(..) {
                let answer = match message {
                    Message::Text(text) => format!("{}{text}", self.prefix).into(),
                    binary => binary,
                };
                socket.send(answer).await?;
            }
        }
        Ok(())
    }
}

/// A generator that returns the same numbers for the same seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let next = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(next).unwrap() % end
    }
}

/// The script of a peer: the pieces that it writes, and how it reads.
struct Script {
    /// The pieces, each with the pause after it.
    pieces: Vec<(Vec<u8>, Duration)>,
    pipe: usize,
    /// The number of bytes for each read. A pause follows each read.
    reads: usize,
}

fn message(random: &mut Random, bytes: &mut Vec<u8>) {
    let len = match random.below(12) {
        0 => 0,
        1 => 4000 + random.below(200),
        2 => 60_000 + random.below(20_000),
        3 => 126,
        _ => random.below(200),
    };
    let (opcode, payload) = match random.below(2) {
        0 => (TEXT, "é".repeat(len / 2).into_bytes()),
        _ => (BINARY, vec![0xff; len]),
    };
    if random.below(4) > 0 {
        bytes.extend(frame(FIN | opcode, &payload));
        return;
    }
    let cut = random.below(payload.len() + 1);
    bytes.extend(frame(opcode, &payload[..cut]));
    if random.below(2) == 0 {
        bytes.extend(frame(FIN | PING, b"between"));
    }
    bytes.extend(frame(FIN | CONTINUATION, &payload[cut..]));
}

fn script(seed: u64) -> Script {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes = Vec::new();
    let few = random.below(2) == 0;
    for _ in 0..random.below(if few { 8 } else { 60 }) {
        message(&mut random, &mut bytes);
        if random.below(20) == 0 {
            bytes.extend(frame(FIN | PING, b"behind"));
        }
    }
    bytes.extend(match random.below(8) {
        0 => frame(FIN | TEXT, b"caf\xc3"),
        1 => frame(FIN | 0x3, b"reserved"),
        2 => frame(FIN | CONTINUATION, b"of nothing"),
        3 => frame(FIN | CLOSE, b""),
        4 => frame(FIN | BINARY, &[0; 100_001]),
        // Only the end of the stream.
        5 => Vec::new(),
        6 => [frame(FIN | TEXT, b"\xff"), frame(FIN | TEXT, b"x")].concat(),
        _ => close(3000, "bye"),
    });
    let most = [300, 5000, 70_000, usize::MAX][random.below(4)];
    let mut pieces = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (piece, others) = rest.split_at(rest.len().min(1 + random.below(most)));
        // The pause is usually long enough for the connection to sleep.
        let pause = Duration::from_millis([0, 5, 100][random.below(3)]);
        pieces.push((piece.to_vec(), pause));
        rest = others;
    }
    Script {
        pieces,
        pipe: [1024, 4096, 1 << 20][random.below(3)],
        reads: [2000, 20_000, 1 << 20][random.below(3)],
    }
}

/// Returns the messages and the Close that the server sent. Pongs are left out: a pong may come before or
/// after the answers to messages of the same read. There may be none if output is blocked.
async fn play<M>(
    script: &Script,
    handler: impl IntoHandler<M, Handler: Handler>,
) -> (Vec<Frame>, Counts) {
    let config = Config::new()
        .max_message_size(100_000)
        .write_timeout(Duration::from_secs(3600))
        .close_timeout(Duration::from_secs(3600))
        .max_control_frames(u32::MAX, u32::MAX);
    let layer = WebSocketLayer::new(handler).config(config);
    let connections = layer.connections();
    let client = pipe::open(layer.into_service(), script.pipe).await;

    let (mut reader, mut writer) = split(client);
    let write = async {
        for (piece, pause) in &script.pieces {
            // The server may have ended before it has read everything.
            if writer.write_all(piece).await.is_err() {
                return;
            }
            sleep(*pause).await;
        }
        let _ = writer.shutdown().await;
    };
    let read = async {
        let mut all = Vec::new();
        let mut piece = vec![0; script.reads];
        loop {
            match reader.read(&mut piece).await.unwrap() {
                0 => return all,
                read => all.extend_from_slice(&piece[..read]),
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let ((), all) = timeout(Duration::from_secs(3000), async {
        tokio::join!(write, read)
    })
    .await
    .unwrap();
    let mut answered = Vec::new();
    let mut all = &all[..];
    while let Some(frame) = read_frame(&mut all).await {
        if frame.first != FIN | PONG {
            answered.push(frame);
        }
    }
    timeout(Duration::from_secs(1), connections.wait())
        .await
        .unwrap();
    (answered, connections.counts())
}

/// Compares the frames that came back, and the counts.
fn assert_alike(what: &str, one: &(Vec<Frame>, Counts), other: &(Vec<Frame>, Counts)) {
    let summary = |frames: &[Frame]| {
        let last = frames.last();
        let last = last.map(|frame| (frame.first, frame.payload.len()));
        (frames.len(), last)
    };
    assert!(
        one.0 == other.0,
        "{what}: {:?} instead of {:?}",
        summary(&one.0),
        summary(&other.0)
    );
    let numbers = |counts: &Counts| counts.traffic();
    assert!(one.1.closed().eq(other.1.closed()), "{what}");
    assert_eq!(numbers(&one.1), numbers(&other.1), "{what}");
}

#[tokio::test(start_paused = true)]
async fn answers_alike_wherever_the_socket_is() {
    let mut messages = 0;
    for seed in 1..=100 {
        let script = script(seed);
        let prefix = if seed % 2 == 0 { PREFIX } else { "" };
        let echo = Echo::prefixed(prefix);
        let expected = play(&script, echo.clone()).await;
        let elsewhere = play(&script, Elsewhere(echo)).await;
        assert_alike(&format!("seed {seed}, elsewhere"), &elsewhere, &expected);
        let batches = play(&script, Batches { prefix }).await;
        assert_alike(&format!("seed {seed}, in batches"), &batches, &expected);
        messages += expected.1.traffic().messages_sent();
    }
    assert!(messages > 1000, "{messages}");
}

/// Opens a connection and sends the next message as soon as the previous one is answered. Returns the code of
/// the Close, and the time until it arrived.
async fn pour(config: Config, step: Duration) -> (Option<u16>, Duration) {
    let service = WebSocketLayer::new(Echo::new())
        .config(config)
        .into_service();
    let mut client = pipe::open(service, 4096).await;
    let start = Instant::now();
    loop {
        client.write_all(&frame(FIN | TEXT, b"more")).await.unwrap();
        let answer = read_frame(&mut client).await.unwrap();
        if answer.first == FIN | CLOSE {
            return (answer.close_code(), start.elapsed());
        }
        assert_eq!(answer.payload, b"more");
        assert!(start.elapsed() < Duration::from_secs(60), "it goes on");
        sleep(step).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ends_a_lifetime_in_time_however_often_messages_arrive() {
    const LIFETIME: Duration = Duration::from_secs(10);
    for config in [Config::new(), Config::new().without_keepalive()] {
        let step = Duration::from_millis(30);
        let (code, after) = pour(config.max_lifetime(LIFETIME), step).await;
        assert_eq!(code, Some(1001));
        assert!(after >= LIFETIME && after < LIFETIME + step, "{after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_for_the_first_message_alone() {
    const LIMIT: Duration = Duration::from_secs(3);
    let layer = WebSocketLayer::new(Echo::new());
    let layer = layer.config(Config::new().first_message_timeout(LIMIT));
    for (begin, code) in [
        (frame(FIN | TEXT, b"first"), None),
        (frame(FIN | PING, b"no message"), Some(1008)),
        (Vec::new(), Some(1008)),
    ] {
        let mut client = pipe::open(layer.clone().into_service(), 4096).await;
        let start = Instant::now();
        sleep(LIMIT / 3).await;
        client.write_all(&begin).await.unwrap();
        let closed = timeout(3 * LIMIT, wire::read_close(&mut client)).await;
        assert_eq!(closed.ok().flatten(), code, "{begin:x?}");
        let expected = if code.is_some() {
            LIMIT
        } else {
            10 * LIMIT / 3
        };
        assert_eq!(start.elapsed(), expected, "{begin:x?}");
    }
}

/// Another thread closes the connection at a random moment of an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hears_of_a_shutdown_in_the_middle_of_an_answer() {
    for round in 0..500 {
        let layer = WebSocketLayer::new(Echo::new());
        let layer = layer.connections_in(&Connections::new().shutdown_spread(Duration::ZERO));
        let connections = layer.connections();
        let mut client = pipe::open(layer.into_service(), 4096).await;
        let answers = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&answers);
        let peer = tokio::spawn(async move {
            loop {
                // After its Close, the server keeps reading but no longer answers.
                client.write_all(&frame(FIN | TEXT, b"more")).await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let answer = read_frame(&mut client).await.unwrap();
                if answer.first == FIN | CLOSE {
                    client.write_all(&close(1001, "")).await.unwrap();
                    let _ = client.read_to_end(&mut Vec::new()).await;
                    return;
                }
            }
        });
        let patience = Instant::now() + Duration::from_secs(60);
        while answers.load(Ordering::Relaxed) < round % 7 + 1 {
            assert!(Instant::now() < patience, "round {round}");
            std::hint::spin_loop();
        }
        connections.close();
        let report = connections.shutdown(Duration::from_secs(30)).await;
        assert_eq!((report.clean, report.aborted), (1, 0), "round {round}");
        peer.await.unwrap();
    }
}

/// A close and a message at the same moment, in either order.
#[tokio::test(start_paused = true)]
async fn closes_at_once_when_a_message_arrives_as_well() {
    for is_before in [true, false] {
        let layer = WebSocketLayer::new(Echo::new());
        let layer = layer.connections_in(&Connections::new().shutdown_spread(Duration::ZERO));
        let connections = layer.connections();
        let mut client = pipe::open(layer.into_service(), 4096).await;
        // Until the connection sleeps.
        sleep(Duration::from_millis(1)).await;
        let start = Instant::now();
        if is_before {
            connections.close();
        }
        client.write_all(&frame(FIN | TEXT, b"last")).await.unwrap();
        if !is_before {
            connections.close();
            let answer = read_frame(&mut client).await.unwrap();
            assert_eq!(answer.payload, b"last");
        }
        assert_eq!(wire::read_close(&mut client).await, Some(1001));
        assert_eq!(start.elapsed(), Duration::ZERO, "before: {is_before}");
        // No answer follows our Close.
        sleep(Duration::from_millis(1)).await;
        client.write_all(&frame(FIN | TEXT, b"late")).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        client.write_all(&close(1001, "")).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        drop(client);
        let report = connections.shutdown(Duration::from_secs(1)).await;
        assert_eq!((report.clean, report.aborted), (1, 0));
    }
}

/// A connection has yielded because of much work, and sleeps again. Then it still notices an event.
#[tokio::test(start_paused = true)]
async fn notices_an_event_after_it_has_yielded() {
    // About as many messages as one poll handles, and fewer and more.
    for messages in [1, 500, 1023, 1024, 1025, 2048] {
        let layer = WebSocketLayer::new(Echo::new());
        let layer = layer.connections_in(&Connections::new().shutdown_spread(Duration::ZERO));
        let connections = layer.connections();
        let mut client = pipe::open(layer.into_service(), 64 * 1024).await;
        sleep(Duration::from_millis(1)).await;
        let sent = frame(FIN | TEXT, b"!").repeat(messages);
        client.write_all(&sent).await.unwrap();
        for _ in 0..messages {
            assert_eq!(read_frame(&mut client).await.unwrap().payload, b"!");
        }
        sleep(Duration::from_millis(1)).await;
        connections.close();
        let closed = timeout(Duration::from_millis(1), wire::read_close(&mut client)).await;
        assert_eq!(closed, Ok(Some(1001)), "after {messages} messages");
    }
}

/// A connection has to notice its event while another connection is busy. The busy one must not get that event.
#[tokio::test(start_paused = true)]
async fn notices_an_event_while_other_connections_are_busy() {
    let spread = Duration::from_secs(10);
    let layer = WebSocketLayer::new(Echo::new());
    let layer = layer.connections_in(&Connections::new().shutdown_spread(spread));
    let connections = layer.connections();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(pipe::open(layer.clone().into_service(), 4096).await);
    }
    connections.close();
    let start = Instant::now();
    let mut closed = 0;
    while !clients.is_empty() {
        assert!(start.elapsed() <= spread, "{} are left", clients.len());
        sleep(Duration::from_millis(10)).await;
        let mut open = Vec::new();
        for mut client in clients {
            client.write_all(&frame(FIN | TEXT, b"more")).await.unwrap();
            let answer = read_frame(&mut client).await.unwrap();
            if answer.first == FIN | CLOSE {
                assert_eq!(answer.close_code(), Some(1001));
                closed += 1;
            } else {
                assert_eq!(answer.payload, b"more");
                open.push(client);
            }
        }
        clients = open;
    }
    assert_eq!(closed, 20);
    assert!(start.elapsed() > spread / 2, "{:?}", start.elapsed());
}

/// Serves a peer that has disconnected before its last message and its Close are read.
async fn leave<M>(handler: impl IntoHandler<M, Handler: Handler>) -> Counts {
    let layer = WebSocketLayer::new(handler);
    let connections = layer.connections();
    let mut client = pipe::open(layer.into_service(), 4096).await;
    // Until the connection sleeps.
    sleep(Duration::from_millis(1)).await;
    let last = [frame(FIN | TEXT, b"last"), close(3000, "bye")].concat();
    client.write_all(&last).await.unwrap();
    drop(client);
    timeout(Duration::from_secs(1), connections.wait())
        .await
        .unwrap();
    connections.counts()
}

#[tokio::test(start_paused = true)]
async fn hears_the_close_of_a_peer_to_which_nothing_can_be_written() {
    let code = CloseCode::new(3000).unwrap();
    let expected = BTreeMap::from([((Side::Remote, CountedCode::Code(code)), 1)]);
    for counts in [
        leave(Echo::new()).await,
        leave(Elsewhere(Echo::new())).await,
    ] {
        assert_eq!(counts.closed().collect::<BTreeMap<_, _>>(), expected);
        assert_eq!(
            (
                counts.traffic().messages_received(),
                counts.traffic().messages_sent()
            ),
            (1, 1)
        );
    }
}
