//! The limit on the memory of all connections of a registry: which connections are closed, and which are not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/pipe.rs"]
mod pipe;
#[path = "support/wire.rs"]
mod wire;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    time::{sleep, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, Closed, Config, Connections, CountedCode, Sender, Side, WebSocket,
    WebSocketLayer,
};
use wire::{BINARY, FIN, close, frame, read_close, read_frame, write};

const GUARD: Duration = Duration::from_secs(300);
const MOMENT: Duration = Duration::from_millis(1);
const KIB: usize = 1024;

/// A payload. The count of `alive` shows whether the payload is dropped.
struct Payload {
    bytes: Vec<u8>,
    #[expect(dead_code, reason = "only its count is read")]
    alive: Arc<()>,
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn payload(alive: &Arc<()>, len: usize, fill: u8) -> Bytes {
    Bytes::from_owner(Payload {
        bytes: vec![fill; len],
        alive: Arc::clone(alive),
    })
}

/// A connection, and its client. The test reads for the client.
struct Pair {
    socket: WebSocket,
    client: DuplexStream,
}

impl Pair {
    fn new(connections: &Connections) -> Self {
        let (io, client) = duplex(KIB);
        // Only the limit ends the connection.
        let config = Config::new()
            .without_keepalive()
            .write_timeout(Duration::MAX);
        let socket = connections.from_io(io, config).unwrap();
        Self { socket, client }
    }

    fn sender(&self) -> Sender {
        self.socket.sender()
    }

    async fn send(&mut self, message: Bytes) {
        self.socket.send(message).await.unwrap();
        sleep(MOMENT).await;
    }

    /// Returns the end of the connection, if it has ended.
    async fn ended(&self) -> Option<Closed> {
        timeout(MOMENT, self.socket.closed()).await.ok()
    }
}

async fn assert_shed(pair: &Pair) {
    let closed = timeout(GUARD, pair.socket.closed()).await.unwrap();
    assert_eq!(closed.side(), Side::Local);
    assert_eq!(closed.code(), Some(CloseCode::TRY_AGAIN_LATER));
    assert!(!closed.is_clean());
}

#[tokio::test(start_paused = true)]
async fn closes_the_connection_that_holds_most_and_no_other_loses_messages() {
    let connections = Connections::new().max_buffered(1024 * KIB);
    let alive = Arc::new(());
    let mut pairs: Vec<_> = (0..10).map(|_| Pair::new(&connections)).collect();
    let (large, others) = pairs.split_first_mut().unwrap();
    for (number, other) in (0..).zip(&mut *others) {
        for _ in 0..16 {
            other.send(payload(&alive, 4 * KIB, number)).await;
        }
    }
    let held = connections.counts().buffered();
    // A part of the first message of each connection is in its pipe, so it is not counted.
    assert!((9 * 60 * KIB..=9 * 65 * KIB).contains(&held), "{held}");
    let kept = Arc::strong_count(&alive);

    let most = 1024 * KIB - held;
    let mut sent = 0;
    while large
        .socket
        .send(payload(&alive, 8 * KIB, 99))
        .await
        .is_ok()
    {
        sent += 8 * KIB;
        assert!(sent <= most + 12 * KIB, "{sent}");
        sleep(MOMENT).await;
    }
    assert!(sent > most - 12 * KIB, "{sent} of {most}");
    assert_eq!(large.socket.recv().await.unwrap(), None);
    assert_eq!(Arc::strong_count(&alive), kept, "messages were not freed");
    assert_eq!(
        connections.counts().buffered(),
        held,
        "a closed connection is counted"
    );
    let frame = large.socket.close_frame().unwrap();
    assert_eq!(frame.code(), CloseCode::TRY_AGAIN_LATER);

    // A frame is partly written, and is completed before the Close.
    let read = read_frame(&mut large.client).await.unwrap();
    assert!(read.payload == [99; 8 * KIB]);
    assert_eq!(read_close(&mut large.client).await, Some(1013));
    assert_shed(large).await;
    drop(pairs.remove(0));
    pipe::until_open(&connections, 9).await;

    for (number, other) in (0..).zip(&mut pairs) {
        for _ in 0..16 {
            let read = timeout(GUARD, read_frame(&mut other.client)).await.unwrap();
            assert!(read.unwrap().payload == [number; 4 * KIB], "{number}");
        }
        other.send(Bytes::from_static(b"more")).await;
        assert_eq!(
            read_frame(&mut other.client).await.unwrap().payload,
            b"more"
        );
    }
    sleep(MOMENT).await;
    assert_eq!(connections.counts().buffered(), 0);
    assert_eq!(Arc::strong_count(&alive), 1);
    let counts = connections.counts();
    let code = CountedCode::Code(CloseCode::TRY_AGAIN_LATER);
    assert_eq!(
        counts.closed().collect::<Vec<_>>(),
        [((Side::Local, code), 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn cuts_off_a_large_frame() {
    let connections = Connections::new().max_buffered(256 * KIB);
    let alive = Arc::new(());
    let mut pair = Pair::new(&connections);
    pair.send(payload(&alive, 512 * KIB, 7)).await;
    assert_shed(&pair).await;
    assert_eq!(
        (Arc::strong_count(&alive), connections.counts().buffered()),
        (1, 0)
    );
    let mut read = Vec::new();
    let len = timeout(GUARD, pair.client.read_to_end(&mut read))
        .await
        .unwrap();
    assert_eq!(len.unwrap(), KIB, "the size of the pipe");
    pipe::until_open(&connections, 0).await;
}

#[tokio::test(start_paused = true)]
async fn counts_unreceived_messages_and_partly_received_messages() {
    let connections = Connections::new().max_buffered(128 * KIB);
    let mut inbox = Pair::new(&connections);
    for _ in 0..12 {
        write(&mut inbox.client, &frame(FIN | BINARY, &[1; 4 * KIB])).await;
    }
    sleep(MOMENT).await;
    assert_eq!(connections.counts().buffered(), 48 * KIB);
    // The first 64 KiB of a message count, before the rest arrives.
    let mut partial = Pair::new(&connections);
    let message = frame(FIN | BINARY, &[2; 200 * KIB]);
    write(&mut partial.client, &message[..64 * KIB]).await;
    sleep(MOMENT).await;
    let held = connections.counts().buffered();
    assert!((108 * KIB..=112 * KIB).contains(&held), "{held}");
    assert!(partial.ended().await.is_none());

    let rest = message[64 * KIB..].to_vec();
    let (mut read, mut written) = tokio::io::split(partial.client);
    let writing = tokio::spawn(async move {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut written, &rest).await;
    });
    assert_eq!(
        timeout(GUARD, read_close(&mut read)).await.unwrap(),
        Some(1013)
    );
    assert_eq!(partial.socket.recv().await.unwrap(), None);
    // Further bytes of the peer are read and discarded.
    timeout(GUARD, writing).await.unwrap().unwrap();
    drop(read);
    pipe::until_open(&connections, 1).await;
    assert_eq!(connections.counts().buffered(), 48 * KIB);
    for _ in 0..12 {
        let message = inbox.socket.recv().await.unwrap().unwrap();
        assert!(message.as_bytes() == [1; 4 * KIB]);
    }
    drop(inbox);
    timeout(GUARD, connections.wait()).await.unwrap();
    assert_eq!(connections.counts().buffered(), 0);
}

#[tokio::test(start_paused = true)]
async fn counts_small_amounts_as_nothing_and_nothing_without_a_limit() {
    let connections = Connections::new().max_buffered(64 * KIB);
    let mut pairs: Vec<_> = (0..100).map(|_| Pair::new(&connections)).collect();
    for pair in &mut pairs {
        pair.send(vec![0; 4 * KIB].into()).await;
    }
    // A part of each message is in the pipe, so each connection holds less than 4 KiB.
    assert_eq!(connections.counts().buffered(), 0);
    assert_eq!(connections.counts().open(), 100);

    let connections = Connections::new();
    let mut pair = Pair::new(&connections);
    pair.send(vec![0; 900 * KIB].into()).await;
    assert_eq!(connections.counts().buffered(), 0);
    // A limit that is set later applies only to later connections.
    let connections = connections.max_buffered(0);
    pair.send(vec![0; 50 * KIB].into()).await;
    assert!(pair.ended().await.is_none());
    let mut later = Pair::new(&connections);
    later.send(vec![0; 9 * KIB].into()).await;
    assert_shed(&later).await;
}

#[tokio::test(start_paused = true)]
async fn closes_the_largest_connections_until_the_sum_is_within_the_limit() {
    let connections = Connections::new().max_buffered(4096 * KIB);
    let mut pairs: Vec<_> = (0..5).map(|_| Pair::new(&connections)).collect();
    for (number, pair) in (1..).zip(&mut pairs) {
        pair.send(vec![0; 100 * KIB * number].into()).await;
    }
    let connections = connections.max_buffered(650 * KIB);
    // The limit is checked when a connection holds more than before.
    assert_eq!(connections.counts().open(), 5);
    pairs[0].send(vec![0; 8 * KIB].into()).await;
    pipe::until_open(&connections, 3).await;
    for (number, pair) in pairs.iter().enumerate() {
        assert_eq!(pair.ended().await.is_some(), number >= 3, "{number}");
    }
    let held = connections.counts().buffered();
    assert!((590 * KIB..=612 * KIB).contains(&held), "{held}");
}

#[tokio::test(start_paused = true)]
async fn drops_a_connection_that_is_already_closing() {
    let connections = Connections::new().max_buffered(512 * KIB);
    let mut closing = Pair::new(&connections);
    for _ in 0..40 {
        closing.send(vec![0; 10 * KIB].into()).await;
    }
    closing
        .sender()
        .close(CloseCode::new(4001).unwrap(), "")
        .unwrap();
    sleep(MOMENT).await;
    assert!(closing.ended().await.is_none());
    let mut other = Pair::new(&connections);
    other.send(vec![0; 200 * KIB].into()).await;
    let closed = closing.ended().await.unwrap();
    assert_eq!(
        (closed.code(), closed.is_clean()),
        (Some(CloseCode::new(4001).unwrap()), false)
    );
    assert!(other.ended().await.is_none());
    pipe::until_open(&connections, 1).await;
}

#[tokio::test(start_paused = true)]
async fn answers_the_close_of_a_peer_and_drops_unwritten_messages() {
    let connections = Connections::new().max_buffered(512 * KIB);
    let mut answering = Pair::new(&connections);
    write(&mut answering.client, &frame(FIN | BINARY, b"a question")).await;
    assert!(answering.socket.recv().await.unwrap().is_some());
    write(&mut answering.client, &close(4002, "")).await;
    sleep(MOMENT).await;
    for _ in 0..40 {
        answering.socket.send(vec![5; 10 * KIB]).await.unwrap();
    }
    // Now the connection has begun to write, and still waits for more messages of the handler.
    sleep(MOMENT).await;
    let mut other = Pair::new(&connections);
    other.send(vec![0; 200 * KIB].into()).await;
    let read = timeout(GUARD, read_frame(&mut answering.client))
        .await
        .unwrap();
    assert!(read.unwrap().payload == [5; 10 * KIB]);
    assert_eq!(
        timeout(GUARD, read_close(&mut answering.client))
            .await
            .unwrap(),
        Some(4002)
    );
    let closed = timeout(GUARD, answering.socket.closed()).await.unwrap();
    assert_eq!(
        (closed.side(), closed.code()),
        (Side::Remote, Some(CloseCode::new(4002).unwrap()))
    );
    assert!(other.ended().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn counts_unreceived_messages_after_the_end_of_a_connection() {
    let (start, started) = tokio::sync::oneshot::channel::<()>();
    let started = std::sync::Mutex::new(Some(started));
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
        let started = started.lock().unwrap().take().unwrap();
        async move {
            started.await?;
            for _ in 0..12 {
                assert!(socket.recv().await?.is_some());
            }
            Ok::<_, BoxError>(())
        }
    });
    let connections = Connections::new().max_buffered(128 * KIB);
    let layer = layer.connections_in(&connections);
    let mut client = pipe::open(layer.into_service(), 128 * KIB).await;
    for _ in 0..12 {
        write(&mut client, &frame(FIN | BINARY, &[1; 4 * KIB])).await;
    }
    sleep(MOMENT).await;
    write(&mut client, &close(1000, "")).await;
    drop(client);
    // First the connection waits for the handler to answer.
    sleep(Duration::from_secs(2)).await;
    let counts = connections.counts();
    assert_eq!(counts.open(), 0);
    assert_eq!((counts.lingering(), counts.buffered()), (1, 48 * KIB));
    start.send(()).unwrap();
    timeout(GUARD, connections.wait()).await.unwrap();
    assert_eq!(connections.counts().buffered(), 0);
}

/// The sleep in the test also shows that the task of the connection does not run without end: then the paused clock
/// would not advance.
#[tokio::test(start_paused = true)]
async fn drops_the_inbox_of_a_connection_that_is_over() {
    let (start, started) = tokio::sync::watch::channel(false);
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
        let mut started = started.clone();
        async move {
            started.wait_for(|started| *started).await?;
            assert_eq!(socket.recv().await?, None);
            Ok::<_, BoxError>(())
        }
    });
    let connections = Connections::new().max_buffered(64 * KIB);
    let layer = layer.connections_in(&connections);
    let mut client = pipe::open(layer.into_service(), 128 * KIB).await;
    for _ in 0..12 {
        write(&mut client, &frame(FIN | BINARY, &[1; 4 * KIB])).await;
    }
    write(&mut client, &close(4003, "")).await;
    drop(client);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(connections.counts().lingering(), 1);
    let mut other = Pair::new(&connections);
    other.send(vec![0; 24 * KIB].into()).await;
    assert!(other.ended().await.is_none());
    let held = connections.counts().buffered();
    assert!((20 * KIB..=24 * KIB).contains(&held), "{held}");
    sleep(Duration::from_secs(1)).await;
    start.send(true).unwrap();
    drop(other);
    timeout(GUARD, connections.wait()).await.unwrap();
    let counts = connections.counts();
    let code = CountedCode::Code(CloseCode::new(4003).unwrap());
    assert_eq!(counts.closed_as(Side::Remote, code), 1);
    assert_eq!(counts.buffered(), 0);
}

/// Several threads pass the limit at the same time, repeatedly. The sum is 0 at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_its_sum_right_on_several_threads() {
    let connections = Connections::new().max_buffered(512 * KIB);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let connections = connections.clone();
        tasks.spawn(async move {
            for round in 0..30 {
                let mut pair = Pair::new(&connections);
                let len = (1 + (number + round) % 4) * 10 * KIB;
                // One connection alone can hold more than the limit.
                while pair.socket.send(vec![0; len]).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let done = async { while tasks.join_next().await.is_some_and(|done| done.is_ok()) {} };
    timeout(GUARD, done).await.unwrap();
    timeout(GUARD, connections.wait()).await.unwrap();
    let counts = connections.counts();
    assert_eq!((counts.accepted(), counts.buffered()), (8 * 30, 0));
    let shed = CountedCode::Code(CloseCode::TRY_AGAIN_LATER);
    assert_eq!(counts.closed_as(Side::Local, shed), 8 * 30, "{counts:?}");
}

/// A payload whose drop panics.
struct Bomb(Vec<u8>);

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("of the payload");
    }
}

/// The connection that passes the limit drops the messages of another connection. This may run user code.
#[tokio::test(start_paused = true)]
async fn survives_a_payload_that_panics_when_it_is_dropped() {
    let connections = Connections::new().max_buffered(256 * KIB);
    let large = Pair::new(&connections);
    let mut small = Pair::new(&connections);
    // The first message is being written, the second one waits in the outbox.
    large.sender().send(vec![0; 100 * KIB]).await.unwrap();
    sleep(MOMENT).await;
    large
        .sender()
        .send(Bytes::from_owner(Bomb(vec![0; 100 * KIB])))
        .await
        .unwrap();
    sleep(MOMENT).await;
    for _ in 0..10 {
        small.send(Bytes::from(vec![0; 8 * KIB])).await;
    }
    assert_shed(&large).await;
    assert!(small.ended().await.is_none());
    let held = connections.counts().buffered();
    assert!((76 * KIB..=81 * KIB).contains(&held), "{held}");

    // The limit still works.
    let mut next = Pair::new(&connections);
    while next.socket.send(vec![0; 8 * KIB]).await.is_ok() {
        let held = connections.counts().buffered();
        assert!(held <= 300 * KIB, "{held}");
        sleep(MOMENT).await;
    }
    assert_shed(&next).await;
    assert!(small.ended().await.is_none());
}

/// Sends and receives until its connection is over, fails, or hangs, depending on the path.
#[cfg(feature = "deflate")]
async fn busy(mut socket: WebSocket) -> Result<(), BoxError> {
    let path = socket.request().path().to_owned();
    let text = "tide ".repeat(20_000);
    match path.as_str() {
        "/fail" => {
            socket.send(text.clone()).await?;
            socket.send(text).await?;
            Err("no database".into())
        }
        "/panic" => {
            socket.send(text).await?;
            panic!("of the handler");
        }
        "/hang" => {
            socket.send(text).await?;
            std::future::pending().await
        }
        "/hand-on" => {
            socket.send(text).await?;
            tokio::spawn(
                async move { while socket.recv().await.is_ok_and(|read| read.is_some()) {} },
            );
            Ok(())
        }
        _ => loop {
            socket.send(text.clone()).await?;
        },
    }
}

/// Compressed and uncompressed connections end in every way, or are dropped with their runtime.
#[cfg(feature = "deflate")]
#[test]
fn the_sum_is_zero_after_many_connections() {
    let connections = Connections::new()
        .max_buffered(2048 * KIB)
        .shutdown_spread(Duration::ZERO);
    let config = Config::new()
        .handler_grace(Duration::from_millis(50))
        .deflate(tower_websocket::Deflate::new());
    let layer = WebSocketLayer::new(busy)
        .config(config)
        .connections_in(&connections);
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut kept = Vec::new();
            for number in 0..210 {
                let path = ["/fail", "/panic", "/hang", "/hand-on", "/flood"][number % 5];
                let lines = match number / 5 % 2 {
                    0 => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
                    _ => "",
                };
                let mut client = pipe::serve(layer.clone().into_service(), 4 * KIB);
                write(&mut client, wire::handshake_with(path, lines).as_bytes()).await;
                if number % 7 != 0 {
                    wire::read_head(&mut client).await;
                    let sent = frame(FIN | BINARY, &[7; 4 * KIB]);
                    for _ in 0..3 {
                        // The connection may be over already.
                        let write = tokio::io::AsyncWriteExt::write_all(&mut client, &sent);
                        let _ = timeout(MOMENT, write).await;
                    }
                }
                match number % 3 {
                    0 => drop(client),
                    1 => {
                        let _ = timeout(10 * MOMENT, client.read_to_end(&mut Vec::new())).await;
                    }
                    _ => kept.push(client),
                }
            }
            assert!(connections.counts().buffered() < 8 << 20);
        });
        drop(runtime);
        let counts = connections.counts();
        let ends: u64 = counts.closed().map(|(_, count)| count).sum();
        assert_eq!((counts.open(), counts.lingering()), (0, 0));
        assert_eq!((counts.accepted(), counts.buffered()), (ends, 0));
    }
    assert!(connections.counts().accepted() > 300);
}
