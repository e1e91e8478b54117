//! Both sides send and neither reads: the connection ends in time, or continues as soon as one side reads.
//!
//! The tests use pipes and tokio's paused clock. The handler runs in the task of its connection, served by
//! hyper, or another task holds the socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pipe::attach_layer;
use support::{pipe, wire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, Config, Echo, Handler, Side, WebSocket, WebSocketLayer, error::RecvError,
};
use wire::{BINARY, FIN, close, frame, read_close, read_frame, write};

const MIB: usize = 1024 * 1024;
/// The bytes that each side pushes.
const PUSHED: usize = 8 * MIB;
const SECOND: Duration = Duration::from_secs(1);
/// The interval at which a peer reads.
const MOMENT: Duration = Duration::from_millis(20);
/// Far more than any step takes. The clock is paused, so the wait takes no real time.
const GUARD: Duration = Duration::from_secs(600);

/// The behaviour of a handler while its peer pushes.
#[derive(Clone, Copy, Debug)]
enum Handling {
    /// Sends back what it receives.
    Echoes,
    /// Sends, and receives when all is sent.
    Pushes,
    /// Sends from another task while it receives.
    PushesBeside,
    /// Does nothing at all.
    Sleeps,
}

/// The last result of `recv` in the handler.
type Ending = Arc<Mutex<Option<Result<(), RecvError>>>>;

#[derive(Clone)]
struct Pusher {
    handling: Handling,
    len: usize,
    ending: Ending,
}

impl Pusher {
    fn new(handling: Handling, len: usize) -> Self {
        let ending = Ending::default();
        Self {
            handling,
            len,
            ending,
        }
    }

    async fn push(&self, sender: tower_websocket::Sender) {
        for _ in 0..PUSHED / self.len {
            if sender.send(vec![1; self.len]).await.is_err() {
                return;
            }
        }
    }

    async fn serve(&self, mut socket: WebSocket) {
        match self.handling {
            Handling::Echoes => {}
            Handling::Pushes => self.push(socket.sender()).await,
            Handling::PushesBeside => {
                let (pusher, sender) = (self.clone(), socket.sender());
                tokio::spawn(async move { pusher.push(sender).await });
            }
            Handling::Sleeps => {
                socket.sender().closed().await;
            }
        }
        let ending = loop {
            match socket.recv().await {
                Ok(Some(message)) => {
                    if matches!(self.handling, Handling::Echoes) {
                        // If this fails, the next `recv` returns the error.
                        let _ = socket.send(message).await;
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        *self.ending.lock().unwrap() = Some(ending);
    }

    fn take_ending(&self) -> Option<Result<(), RecvError>> {
        self.ending.lock().unwrap().take()
    }
}

impl Handler for Pusher {
    async fn handle(&self, socket: WebSocket) -> Result<(), BoxError> {
        self.serve(socket).await;
        Ok(())
    }
}

/// Pushes messages of `len` bytes. Returns an error if the server is gone.
async fn push(client: &mut (impl AsyncWriteExt + Unpin), len: usize) -> std::io::Result<()> {
    let message = frame(FIN | BINARY, &vec![2; len]);
    for _ in 0..PUSHED / len {
        client.write_all(&message).await?;
    }
    Ok(())
}

const HANDLINGS: [Handling; 4] = [
    Handling::Echoes,
    Handling::Pushes,
    Handling::PushesBeside,
    Handling::Sleeps,
];

#[tokio::test(start_paused = true)]
async fn ends_when_neither_side_reads() {
    for handling in [Handling::Echoes, Handling::Pushes, Handling::PushesBeside] {
        for pipe in [64, 4096, 65_536] {
            for len in [125, 4096, MIB - 1] {
                let case = format!("{handling:?}, messages of {len} bytes, a pipe of {pipe}");
                let pusher = Pusher::new(handling, len);
                let (mut client, connections) =
                    attach_layer(WebSocketLayer::new(pusher.clone()), pipe).await;
                let start = Instant::now();
                let pushed = timeout(GUARD, push(&mut client, len)).await.unwrap();
                assert!(pushed.is_err(), "{case}: everything was written");
                // A pipe of 64 KiB takes more at once than a slow reader reads in ten seconds.
                let limit = if pipe == 65_536 { 100 } else { 10 };
                assert!(start.elapsed() <= limit * SECOND, "{case}");
                assert!(start.elapsed() > SECOND, "{case}");
                tokio::time::sleep(SECOND).await;
                let ending = pusher.take_ending();
                assert!(
                    matches!(ending, Some(Err(RecvError::Stalled))),
                    "{case}: {ending:?}"
                );
                assert_eq!(connections.counts().open(), 0, "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ends_when_neither_side_reads_and_another_task_holds_the_socket() {
    for handling in [Handling::Echoes, Handling::Pushes, Handling::PushesBeside] {
        for len in [125, MIB - 1] {
            let case = format!("{handling:?}, messages of {len} bytes");
            let (server, mut client) = duplex(1024);
            let socket = WebSocket::from_io(server, Config::new());
            let sender = socket.sender();
            let pusher = Pusher::new(handling, len);
            let start = Instant::now();
            let serving = tokio::spawn({
                let pusher = pusher.clone();
                async move { pusher.serve(socket).await }
            });
            let pushed = timeout(GUARD, push(&mut client, len)).await.unwrap();
            assert!(pushed.is_err(), "{case}");
            assert!(start.elapsed() <= 10 * SECOND, "{case}");
            timeout(GUARD, serving).await.unwrap().unwrap();
            let ending = pusher.take_ending();
            assert!(
                matches!(ending, Some(Err(RecvError::Stalled))),
                "{case}: {ending:?}"
            );
            let closed = sender.closed().await;
            assert!(!closed.is_clean(), "{case}");
            assert_eq!(closed.side(), Side::Local, "{case}");
        }
    }
}

/// A blocked connection ends only if the peer does not read in time.
#[tokio::test(start_paused = true)]
async fn goes_on_when_the_peer_reads_before_the_time_is_over() {
    for handling in HANDLINGS {
        for len in [1000, MIB - 1] {
            let case = format!("{handling:?}, messages of {len} bytes");
            let pusher = Pusher::new(handling, len);
            let (client, _) = attach_layer(WebSocketLayer::new(pusher.clone()), 4096).await;
            let (mut reader, mut writer) = tokio::io::split(client);
            let pushing = tokio::spawn(async move {
                let pushed = push(&mut writer, len).await;
                (pushed, writer)
            });
            tokio::time::sleep(9 * SECOND).await;
            assert!(!pushing.is_finished(), "{case}");
            if matches!(handling, Handling::Sleeps) {
                // The server has nothing to write, so the peer is not slow.
                tokio::time::sleep(100 * SECOND).await;
                assert!(!pushing.is_finished(), "{case}");
                continue;
            }
            let start = Instant::now();
            let expected = match handling {
                Handling::Echoes => vec![2; len],
                _ => vec![1; len],
            };
            for number in 0..PUSHED / len {
                let frame = timeout(GUARD, read_frame(&mut reader)).await.unwrap();
                let frame = frame.unwrap_or_else(|| panic!("{case}: ended at {number}"));
                assert!(frame.payload == expected, "{case}: message {number}");
            }
            let (pushed, mut writer) = timeout(GUARD, pushing).await.unwrap().unwrap();
            pushed.unwrap();
            assert_eq!(
                start.elapsed(),
                Duration::ZERO,
                "{case}: nothing waits for a clock"
            );
            write(&mut writer, &close(1000, "")).await;
            assert_eq!(read_close(&mut reader).await, Some(1000), "{case}");
            assert!(matches!(pusher.take_ending(), Some(Ok(()))), "{case}");
        }
    }
}

/// Pushes until the server is gone, and returns how long that took.
async fn push_on(mut client: DuplexStream) -> Duration {
    let start = Instant::now();
    let message = frame(FIN | BINARY, &[2; 4096]);
    // A closing server reads and discards this, so that its peer can read the Close.
    while timeout(GUARD, client.write_all(&message))
        .await
        .unwrap()
        .is_ok()
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(start.elapsed() < GUARD);
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn ends_when_the_server_closes_in_the_middle_of_a_standoff() {
    for pipe in [64, 4096] {
        let (server, client) = duplex(pipe);
        let mut socket = WebSocket::from_io(server, Config::new());
        let sender = socket.sender();
        let pushing = tokio::spawn(push_on(client));
        while sender.try_send(vec![1; 4096]).is_ok() {}
        tokio::time::sleep(SECOND).await;
        assert!(!pushing.is_finished(), "a pipe of {pipe}");
        timeout(GUARD, socket.close(CloseCode::NORMAL, ""))
            .await
            .unwrap()
            .unwrap();
        assert!(!sender.closed().await.is_clean(), "a pipe of {pipe}");
        // The time before the close also counts, because nothing was written in it.
        let ended = timeout(GUARD, pushing).await.unwrap().unwrap();
        assert!(ended < 10 * SECOND + MOMENT, "a pipe of {pipe}: {ended:?}");
    }
}

async fn send_200(mut socket: WebSocket) -> Result<(), BoxError> {
    for _ in 0..200 {
        socket.send(vec![1; 4096]).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn ends_when_the_handler_returns_in_the_middle_of_a_standoff() {
    let (client, connections) = attach_layer(WebSocketLayer::new(send_200), 1024).await;
    let ended = push_on(client).await;
    assert!(
        ended >= 5 * SECOND && ended < 10 * SECOND + MOMENT,
        "{ended:?}"
    );
    assert_eq!(connections.counts().open(), 0);
}

/// The peer's Close follows bytes that the server does not read while its output is blocked.
#[tokio::test(start_paused = true)]
async fn ends_when_the_peer_closes_in_the_middle_of_a_standoff() {
    for handling in [Handling::Echoes, Handling::Pushes] {
        let pusher = Pusher::new(handling, 4096);
        let (mut client, connections) =
            attach_layer(WebSocketLayer::new(pusher.clone()), 1024).await;
        let start = Instant::now();
        let closing = tokio::spawn(async move {
            let message = frame(FIN | BINARY, &[2; 4096]);
            for _ in 0..100 {
                client.write_all(&message).await?;
            }
            client.write_all(&close(1000, "")).await?;
            client.shutdown().await?;
            // The peer neither reads nor writes any more.
            std::future::pending::<std::io::Result<()>>().await
        });
        while connections.counts().open() > 0 {
            tokio::time::sleep(SECOND).await;
            assert!(start.elapsed() <= 11 * SECOND, "{handling:?}");
        }
        assert!(pusher.take_ending().is_some(), "{handling:?}");
        closing.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn closes_cleanly_when_both_stop_pushing_and_read() {
    let (mut client, _) = attach_layer(WebSocketLayer::new(send_200), 1024).await;
    // The handler has returned. Its connection reads the pushed messages while it still writes.
    let message = frame(FIN | BINARY, &[2; 4096]);
    for _ in 0..100 {
        timeout(GUARD, client.write_all(&message))
            .await
            .unwrap()
            .unwrap();
    }
    for _ in 0..200 {
        assert_eq!(read_frame(&mut client).await.unwrap().payload, [1; 4096]);
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
    write(&mut client, &close(1000, "")).await;
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

/// Each side writes once before it reads. If the messages fit into the buffers of both sides, nothing is
/// blocked.
#[tokio::test(start_paused = true)]
async fn is_no_standoff_while_the_buffers_take_it() {
    let (mut client, _) = attach_layer(WebSocketLayer::new(Echo::new()), 64 * 1024).await;
    let start = Instant::now();
    for _ in 0..15 {
        write(&mut client, &frame(FIN | BINARY, &[3; 4000])).await;
    }
    tokio::time::sleep(60 * SECOND).await;
    for _ in 0..15 {
        assert_eq!(read_frame(&mut client).await.unwrap().payload, [3; 4000]);
    }
    // The peer has not answered a ping, but it has more time to answer while bytes are unread.
    assert_eq!(start.elapsed(), 60 * SECOND);
}

/// Other connections make progress during a standoff.
#[tokio::test(start_paused = true)]
async fn leaves_other_connections_alone() {
    let mut standing = Vec::new();
    for _ in 0..20 {
        let pusher = Pusher::new(Handling::Pushes, 4096);
        let (mut client, _) = attach_layer(WebSocketLayer::new(pusher), 1024).await;
        standing.push(tokio::spawn(async move { push(&mut client, 4096).await }));
    }
    let (mut client, _) = attach_layer(WebSocketLayer::new(Echo::new()), 1024).await;
    for _ in 0..9 {
        tokio::time::sleep(SECOND).await;
        let asked = Instant::now();
        write(&mut client, &frame(FIN | BINARY, b"there?")).await;
        assert_eq!(read_frame(&mut client).await.unwrap().payload, b"there?");
        assert_eq!(asked.elapsed(), Duration::ZERO);
    }
    for pushing in standing {
        assert!(timeout(GUARD, pushing).await.unwrap().unwrap().is_err());
    }
}
