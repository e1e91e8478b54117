//! One registry for layers, clients and streams: which connections it lists, and which it closes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/pipe.rs"]
mod pipe;
#[path = "support/wire.rs"]
mod wire;

use std::{
    collections::HashSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::request::Parts;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    time::{sleep, timeout},
};
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Config, Connection, Connections, CountedCode, Echo,
    Handler, Observer, Refusal, Side, WebSocket, WebSocketLayer,
};
use wire::{FIN, TEXT, close, frame, handshake, read_close, read_frame, write};

const GUARD: Duration = Duration::from_secs(300);
const MOMENT: Duration = Duration::from_millis(1);

#[derive(Debug, Eq, PartialEq)]
struct User(usize);

fn code(code: u16) -> CloseCode {
    CloseCode::new(code).unwrap()
}

fn logged_out() -> CloseFrame {
    CloseFrame::new(code(4001), "logged out").unwrap()
}

/// A stream that counts how often it is polled.
struct Counted {
    io: DuplexStream,
    polls: Arc<AtomicUsize>,
}

impl Counted {
    fn count(&mut self) -> Pin<&mut DuplexStream> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.io)
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.count().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.count().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.count().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.count().poll_shutdown(cx)
    }
}

/// Each poll of a connection's task reads from its stream, so the calls on the stream show the polls.
#[tokio::test(start_paused = true)]
async fn closes_one_of_many_and_wakes_no_other() {
    const USERS: usize = 10_000;
    let connections = Connections::new();
    let mut sockets = Vec::new();
    let mut clients = Vec::new();
    let mut polls = Vec::new();
    for user in 0..USERS {
        let (io, client) = duplex(1024);
        let counter = Arc::new(AtomicUsize::new(0));
        let io = Counted {
            io,
            polls: Arc::clone(&counter),
        };
        let socket = connections.from_io_with(io, Config::new(), User(user));
        sockets.push(socket.unwrap());
        clients.push(client);
        polls.push(counter);
    }
    sleep(MOMENT).await;
    assert!(polls.iter().all(|polls| polls.load(Ordering::Relaxed) > 0));
    assert_eq!(
        (connections.counts().open(), connections.iter().len()),
        (USERS, USERS)
    );

    for polls in &polls {
        polls.store(0, Ordering::Relaxed);
    }
    let chosen = USERS / 3;
    let closed = connections.close_where(
        |connection| connection.value() == Some(&User(chosen)),
        logged_out(),
    );
    assert_eq!(closed, 1);
    let read = timeout(GUARD, read_close(&mut clients[chosen]))
        .await
        .unwrap();
    assert_eq!(read, Some(4001));
    write(&mut clients[chosen], &close(4001, "")).await;
    drop(clients.swap_remove(chosen));
    assert_eq!(sockets[chosen].recv().await.unwrap(), None);
    let closed = sockets[chosen].closed().await;
    assert_eq!(
        (closed.side(), closed.code(), closed.is_clean()),
        (Side::Local, Some(code(4001)), true)
    );
    sleep(MOMENT).await;
    for (user, polls) in polls.iter().enumerate() {
        let polls = polls.load(Ordering::Relaxed);
        assert_eq!(polls > 0, user == chosen, "user {user}: {polls} polls");
    }

    assert_eq!(connections.counts().open(), USERS - 1);
    assert!(
        connections
            .iter()
            .all(|connection| connection.value() != Some(&User(chosen)))
    );
    // The connection is no longer open.
    let closed = connections.close_where(
        |connection| connection.value() == Some(&User(chosen)),
        logged_out(),
    );
    assert_eq!(closed, 0);
}

#[tokio::test(start_paused = true)]
async fn shuts_down_layers_clients_and_streams_with_one_report() {
    let all = Connections::new().shutdown_spread(Duration::from_secs(2));
    let layer = || WebSocketLayer::new(Echo::new());
    let layers = [layer(), layer(), layer()].map(|layer| layer.connections_in(&all));
    let mut clients = Vec::new();
    for layer in &layers {
        clients.push(pipe::open(layer.clone().into_service(), 4096).await);
    }
    let (io, peer) = duplex(4096);
    let taken_over = all.from_io(io, Config::new()).unwrap();
    clients.push(peer);
    assert_eq!(all.counts().open(), 4);

    // The server of this client has its own registry.
    #[cfg(feature = "test-util")]
    let (dialled, other) = {
        let other = WebSocketLayer::new(Echo::new());
        let handshake = tower_websocket::client::Handshake::new("ws://example.com/feed").unwrap();
        let handshake = handshake.connections_in(&all).identify(User(7));
        let service = other.clone().into_service();
        let dialled = tower_websocket::testing::connect(service, handshake);
        let dialled = dialled.await.unwrap();
        let listed = all.get(dialled.id()).unwrap();
        assert_eq!((listed.path(), listed.value()), ("/feed", Some(&User(7))));
        assert_eq!(dialled.identity(), Some(&User(7)));
        assert_eq!(all.counts().open(), 5);
        (dialled, other.connections())
    };

    let expected = 4 + u64::from(cfg!(feature = "test-util"));
    let report = tokio::spawn({
        let all = all.clone();
        async move { all.shutdown(GUARD).await }
    });
    for client in &mut clients {
        assert_eq!(
            timeout(GUARD, read_close(client)).await.unwrap(),
            Some(1001)
        );
        write(client, &close(1001, "")).await;
    }
    assert_eq!(taken_over.closed().await.code(), Some(code(1001)));
    #[cfg(feature = "test-util")]
    {
        assert_eq!(dialled.closed().await.code(), Some(code(1001)));
        timeout(GUARD, other.wait()).await.unwrap();
        let going_away = CountedCode::Code(CloseCode::GOING_AWAY);
        assert_eq!(other.counts().closed_as(Side::Remote, going_away), 1);
    }
    let report = timeout(GUARD, report).await.unwrap().unwrap();
    assert_eq!((report.clean, report.aborted), (expected, 0));
    let counts = all.counts();
    assert_eq!((counts.open(), counts.accepted()), (0, expected));
    let going_away = CountedCode::Code(CloseCode::GOING_AWAY);
    assert_eq!(counts.closed_as(Side::Local, going_away), expected);
}

#[tokio::test(start_paused = true)]
async fn aborts_streams_that_are_left() {
    let all = Connections::new();
    let (io, _peer) = duplex(4096);
    let mut socket = all.from_io(io, Config::new()).unwrap();
    sleep(MOMENT).await;
    let report = all.shutdown(Duration::ZERO).await;
    assert_eq!((report.clean, report.aborted), (0, 1));
    assert!(socket.recv().await.is_err() || socket.recv().await.unwrap().is_none());
}

/// Opens connections of the users 0 to 9.
fn ten_users(connections: &Connections) -> Vec<(WebSocket, DuplexStream)> {
    let users = (0..10).map(|user| {
        let (io, client) = duplex(1024);
        let socket = connections.from_io_with(io, Config::new(), User(user));
        (socket.unwrap(), client)
    });
    users.collect()
}

#[tokio::test(start_paused = true)]
async fn changes_nothing_when_a_predicate_panics() {
    let connections = Connections::new();
    let mut held = ten_users(&connections);
    let mut seen = 0;
    let close = || {
        connections.close_where(
            |_| {
                seen += 1;
                assert!(seen < 8, "of the predicate");
                true
            },
            logged_out(),
        )
    };
    assert!(catch_unwind(AssertUnwindSafe(close)).is_err());
    sleep(MOMENT).await;
    assert_eq!(
        (connections.counts().open(), connections.iter().len()),
        (10, 10)
    );
    for (socket, client) in &mut held {
        write(client, &frame(FIN | TEXT, b"Hello")).await;
        assert_eq!(socket.recv().await.unwrap().unwrap().as_bytes(), b"Hello");
    }
    assert_eq!(connections.close_where(|_| true, logged_out()), 10);
}

#[tokio::test(start_paused = true)]
async fn lets_a_predicate_call_the_registry() {
    let connections = Connections::new();
    let mut held = ten_users(&connections);
    let closed = connections.close_where(
        |connection| {
            assert_eq!(connections.counts().open(), 10);
            assert_eq!(connections.iter().len(), 10);
            let user = connection.value::<User>().unwrap().0;
            if user == 3 {
                // Closes this connection here. `close_where` tries to close it again with all odd ones.
                assert!(
                    connections
                        .get(connection.id())
                        .unwrap()
                        .close(logged_out())
                );
            }
            if user == 5 {
                let is_last = |other: &Connection| other.value() == Some(&User(9));
                assert_eq!(connections.close_where(is_last, logged_out()), 1);
            }
            user % 2 == 1
        },
        logged_out(),
    );
    // The predicates have already closed 3 and 9, so these do not count.
    assert_eq!(closed, 3);
    for (socket, client) in &mut held {
        let user = socket.identity::<User>().unwrap().0;
        if user % 2 == 1 {
            assert_eq!(
                timeout(GUARD, read_close(client)).await.unwrap(),
                Some(4001)
            );
        }
    }
    sleep(MOMENT).await;
    assert_eq!(
        connections.iter().len(),
        10,
        "closing, but not answered yet"
    );
}

#[expect(
    clippy::mutable_key_type,
    reason = "a sender is equal to another by its id, which never changes"
)]
#[tokio::test(start_paused = true)]
async fn gives_a_connection_the_same_id_everywhere() {
    let connections = Connections::new();
    let (first, _one) = duplex(1024);
    let (second, _two) = duplex(1024);
    let (third, _three) = duplex(1024);
    let first = connections.from_io(first, Config::new()).unwrap();
    let second = connections.from_io(second, Config::new()).unwrap();
    let alone = WebSocket::from_io(third, Config::new());
    let ids = HashSet::from([first.id(), second.id(), alone.id()]);
    assert_eq!(ids.len(), 3);
    for socket in [&first, &second] {
        assert_eq!(socket.sender().id(), socket.id());
        assert_eq!(connections.get(socket.id()).unwrap().id(), socket.id());
    }
    assert!(connections.get(alone.id()).is_none());
    let listed: HashSet<_> = connections
        .iter()
        .map(|connection| connection.id())
        .collect();
    assert_eq!(listed, HashSet::from([first.id(), second.id()]));

    let mut senders = HashSet::from([first.sender(), first.sender(), second.sender()]);
    assert_eq!(senders.len(), 2);
    assert!(senders.remove(&first.sender()));
    assert!(!senders.contains(&first.sender()) && senders.contains(&second.sender()));
    assert_ne!(first.sender(), second.sender());
}

/// A value. The count of the `Arc` shows whether it is dropped.
struct Shown(
    #[expect(dead_code, reason = "its count is checked")] Arc<()>,
    &'static str,
);

struct Identified(Mutex<Option<Arc<()>>>);

impl Handler for Identified {
    async fn accept(&self, _: &mut Parts) -> Result<Accept, Refusal> {
        let shown = self.0.lock().unwrap().take().unwrap();
        Ok(Accept::new()
            .identify("replaced")
            .identify(Shown(shown, "anna")))
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        assert!(socket.identity::<&str>().is_none());
        while socket.recv().await?.is_some() {
            let name = socket.identity::<Shown>().unwrap().1;
            socket.send(name).await?;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn lists_the_facts_of_a_connection_and_keeps_its_value_until_it_is_gone() {
    let shown = Arc::new(());
    let layer = WebSocketLayer::new(Identified(Mutex::new(Some(Arc::clone(&shown)))));
    let connections = layer.connections();
    let mut client = pipe::open(layer.into_service(), 4096).await;
    sleep(Duration::from_secs(3)).await;
    write(&mut client, &frame(FIN | TEXT, b"who?")).await;
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"anna");

    let connection = connections.iter().next().unwrap();
    assert_eq!(connection.value::<Shown>().unwrap().1, "anna");
    assert!(connection.value::<User>().is_none());
    assert_eq!(
        (connection.path(), connection.age()),
        ("/", Duration::from_secs(3))
    );
    let traffic = connection.traffic();
    assert_eq!((traffic.messages_received(), traffic.bytes_sent()), (1, 4));
    assert_eq!(connection.buffered().messages, 0);
    let printed = format!("{connection:?}");
    assert!(
        printed.contains(&connection.id().to_string()) && !printed.contains("anna"),
        "{printed}"
    );

    assert!(connection.close(logged_out()) && !connection.close(logged_out()));
    assert_eq!(
        timeout(GUARD, read_close(&mut client)).await.unwrap(),
        Some(4001)
    );
    write(&mut client, &close(4001, "")).await;
    drop(client);
    timeout(GUARD, connections.wait()).await.unwrap();
    assert_eq!(connections.iter().len(), 0);
    assert!(connections.get(connection.id()).is_none());
    assert_eq!(Arc::strong_count(&shown), 2, "the handle keeps the value");
    drop(connection);
    assert_eq!(Arc::strong_count(&shown), 1);
}

#[tokio::test(start_paused = true)]
async fn drops_a_value_even_if_a_sender_is_kept() {
    let shown = Arc::new(());
    let connections = Connections::new();
    let (io, client) = duplex(1024);
    let value = Shown(Arc::clone(&shown), "ben");
    let socket = connections.from_io_with(io, Config::new(), value).unwrap();
    let sender = socket.sender();
    drop(client);
    sender.closed().await;
    drop(socket);
    timeout(GUARD, connections.wait()).await.unwrap();
    assert_eq!(Arc::strong_count(&shown), 1);
    assert!(sender.send("late").await.is_err());
}

/// A value whose drop uses the registry, and panics if the flag is set.
struct Looks(Connections, bool);

impl Drop for Looks {
    fn drop(&mut self) {
        let _ = self.0.counts();
        let open = |_: &Connection| true;
        self.0.close_where(open, logged_out());
        assert!(!self.1, "of the value");
    }
}

#[tokio::test(start_paused = true)]
async fn lets_the_drop_of_a_value_call_the_registry_and_panic() {
    for panics in [false, true] {
        let connections = Connections::new().max_buffered(1 << 20);
        for _ in 0..10 {
            let value = Looks(connections.clone(), panics);
            let (io, client) = duplex(1024);
            let socket = connections.from_io_with(io, Config::new(), value).unwrap();
            let sender = socket.sender();
            // Now the registry has the last handle to the value.
            drop(socket);
            drop(client);
            sender.closed().await;
        }
        timeout(GUARD, connections.wait()).await.unwrap();
        let counts = connections.counts();
        let ends: u64 = counts.closed().map(|(_, count)| count).sum();
        assert_eq!((counts.open(), counts.lingering()), (0, 0));
        assert_eq!((counts.accepted(), ends), (10, 10));
    }
}

/// Keeps the handles of all connections that are opened.
#[derive(Default)]
struct Keeps(Mutex<Vec<Connection>>);

impl Observer for Keeps {
    fn opened(&self, connection: &Connection, _: Duration) {
        self.0.lock().unwrap().push(connection.clone());
    }
}

/// The server answers, but never hands the connection over.
#[tokio::test(start_paused = true)]
async fn a_handle_to_a_connection_that_was_never_handed_over_is_not_open() {
    let kept = Arc::new(Keeps::default());
    let connections = Connections::new().observer(Arc::clone(&kept));
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&connections);
    // The 101 does not fit into the pipe, and the client disconnects.
    let mut client = pipe::serve(layer.into_service(), 32);
    write(&mut client, handshake("/").as_bytes()).await;
    sleep(MOMENT).await;
    drop(client);
    timeout(GUARD, connections.wait()).await.unwrap();
    assert_eq!(connections.counts().accepted(), 1);
    let connection = kept.0.lock().unwrap().pop().unwrap();
    assert!(!connection.close(logged_out()));
}
