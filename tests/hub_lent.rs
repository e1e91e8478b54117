//! A room that writes to the TCP streams of its members, which sleep: no task is woken, and nothing else of a
//! connection changes.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use support::{
    settle, tcp,
    wire::{self, BINARY, CLOSE, FIN, PING, PONG, TEXT, read_frame},
    within,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    select,
    sync::mpsc,
    time::{Instant, sleep},
};
use tower_websocket::{
    BoxError, Config, WebSocket, WebSocketLayer,
    hub::{Hub, HubConfig, Membership, Room, RoomConfig},
};

/// What a handler of these tests tells.
struct Told {
    membership: Membership<()>,
    /// How often its task was polled.
    polls: Arc<AtomicUsize>,
}

/// Serves members of `room`, which echo what they get.
async fn serve(room: &Room<()>, config: Config) -> (SocketAddr, mpsc::UnboundedReceiver<Told>) {
    let (tell, told) = mpsc::unbounded_channel();
    let room = room.clone();
    let handler = move |socket: WebSocket| {
        let (room, tell) = (room.clone(), tell.clone());
        async move {
            let polls = Arc::<AtomicUsize>::default();
            let mut all = pin!(member(socket, room, tell, Arc::clone(&polls)));
            poll_fn(|cx| {
                polls.fetch_add(1, SeqCst);
                all.as_mut().poll(cx)
            })
            .await
        }
    };
    let layer = WebSocketLayer::new(handler).config(config);
    (tcp::serve(layer.into_service()).await, told)
}

async fn member(
    mut socket: WebSocket,
    room: Room<()>,
    tell: mpsc::UnboundedSender<Told>,
    polls: Arc<AtomicUsize>,
) -> Result<(), BoxError> {
    let membership = room.join(&socket, ()).await?;
    let _ = tell.send(Told { membership, polls });
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

fn config() -> Config {
    Config::new()
        .without_keepalive()
        .max_control_frames(u32::MAX, u32::MAX)
}

async fn open(address: SocketAddr) -> TcpStream {
    within(wire::open(address, "/")).await
}

/// Connects with a small receive buffer.
async fn open_narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    wire::upgrade(&mut stream, &wire::handshake("/")).await;
    stream
}

async fn read(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let frame = within(read_frame(stream)).await.expect("a frame");
    (frame.first & 0xf, frame.payload)
}

/// Sends numbered messages until the member is behind. Returns how many. Before each one calls `first`.
async fn send_until_behind(
    room: &Room<()>,
    membership: &Membership<()>,
    len: usize,
    mut first: impl FnMut(),
) -> u32 {
    for number in 0_u32..100_000 {
        first();
        let mut payload = vec![number as u8; len];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        room.send(payload).unwrap();
        settle().await;
        if membership.lag().behind > 0 {
            return number + 1;
        }
    }
    panic!("the member takes everything");
}

fn assert_numbered(payload: &[u8], number: u32, len: usize) {
    assert_eq!(payload.len(), len);
    assert_eq!(payload[..4], number.to_be_bytes());
    assert!(payload[4..].iter().all(|byte| *byte == number as u8));
}

#[tokio::test]
async fn a_message_does_not_wake_the_task_of_a_member() {
    let room = Hub::new().room("a");
    let (address, mut told) = serve(&room, config()).await;
    let mut client = open(address).await;
    let told = told.recv().await.unwrap();
    settle().await;
    let before = told.polls.load(SeqCst);
    // Copied, shared, and several at once.
    for payload in [vec![1; 10], vec![2; 1000], vec![3; 60_000]] {
        room.send(payload.clone()).unwrap();
        assert_eq!(read(&mut client).await, (BINARY, payload));
    }
    for text in ["b", "c", "d"] {
        room.send(text).unwrap();
    }
    for text in ["b", "c", "d"] {
        assert_eq!(read(&mut client).await, (TEXT, text.into()));
    }
    assert_eq!(told.polls.load(SeqCst), before);
    // Its own messages wake it, and then it lends again.
    wire::write(&mut client, &wire::frame(FIN | TEXT, b"own")).await;
    assert_eq!(read(&mut client).await, (TEXT, b"own".to_vec()));
    settle().await;
    let after = told.polls.load(SeqCst);
    assert!(after > before);
    room.send("e").unwrap();
    assert_eq!(read(&mut client).await, (TEXT, b"e".to_vec()));
    assert_eq!(told.polls.load(SeqCst), after);
}

#[tokio::test]
async fn what_is_written_at_once_counts_for_each_member() {
    let room = Hub::new().room("a");
    let (address, mut told) = serve(&room, config()).await;
    let mut clients = [open(address).await, open(address).await];
    let _memberships = [told.recv().await.unwrap(), told.recv().await.unwrap()];
    settle().await;
    // One, and two at once.
    for texts in [&["b"][..], &["c", "d"]] {
        for text in texts {
            room.send(*text).unwrap();
        }
        for client in &mut clients {
            for text in texts {
                assert_eq!(read(client).await, (TEXT, (*text).into()));
            }
        }
    }
    let counts = room.counts();
    assert_eq!((counts.sent, counts.addressed, counts.delivered), (3, 6, 6));
    assert_eq!((counts.lost, counts.unsent, counts.waiting), (0, 0, 0));
}

#[tokio::test]
async fn the_rest_of_a_frame_comes_before_anything_else() {
    // Copied ones, shared ones, and large ones, which are cut at different places.
    for len in [600, 3000, 40_000] {
        let room = Hub::new().room("a");
        let (address, mut told) = serve(&room, config()).await;
        let mut client = open_narrow(address).await;
        let membership = told.recv().await.unwrap().membership;
        // The task is woken for the rest of a frame, and finds a ping first.
        let ping = wire::frame(FIN | PING, b"ping");
        let sent = send_until_behind(&room, &membership, len, || {
            assert_eq!(client.try_write(&ping).unwrap(), ping.len());
        });
        let sent = sent.await;
        wire::write(&mut client, &wire::frame(FIN | TEXT, b"own")).await;
        let (mut numbers, mut pongs, mut has_own) = (0, 0, false);
        while numbers < sent || !has_own {
            match read(&mut client).await {
                (BINARY, payload) => {
                    assert_numbered(&payload, numbers, len);
                    numbers += 1;
                }
                (PONG, payload) => {
                    assert_eq!(payload, b"ping");
                    pongs += 1;
                }
                (TEXT, payload) => has_own = payload == b"own",
                frame => panic!("{frame:?}"),
            }
        }
        assert_eq!(numbers, sent);
        assert!(pongs > 0);
        assert_eq!(membership.lag().behind, 0);
        // The stream is lent again.
        room.send("after").unwrap();
        assert_eq!(read(&mut client).await, (TEXT, b"after".to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn senders_and_rooms_write_in_turns() {
    const EACH: usize = 3000;
    // Nobody is too slow.
    let patient = |_: &str| RoomConfig::new().max_backlog(2 * EACH, 1 << 20);
    let room = Hub::with(HubConfig::new().rooms(patient)).room("a");
    let (tell, mut told) = mpsc::unbounded_channel();
    let joins = room.clone();
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
        let (room, tell) = (joins.clone(), tell.clone());
        async move {
            let _membership = room.join(&socket, ()).await?;
            let _ = tell.send(socket.sender());
            while let Some(message) = socket.recv().await? {
                socket.send(message).await?;
            }
            Ok::<_, BoxError>(())
        }
    });
    let address = tcp::serve(layer.config(config()).into_service()).await;
    let mut client = open(address).await;
    let sender = told.recv().await.unwrap();
    let publisher = thread::spawn(move || {
        for number in 0..EACH {
            while room.send(format!("room {number}")).is_err() {
                thread::yield_now();
            }
        }
    });
    let own = tokio::spawn(async move {
        for number in 0..EACH {
            sender.send(format!("own {number}")).await.unwrap();
        }
    });
    let mut next = [0, 0, 0];
    let mut pinged = 0;
    while next != [EACH, EACH, 20] {
        if pinged < 20 && next[0] >= pinged * 100 {
            wire::write(&mut client, &wire::frame(FIN | PING, &[pinged as u8])).await;
            pinged += 1;
        }
        let (opcode, payload) = read(&mut client).await;
        if opcode == PONG {
            // A later ping may stand for an earlier one.
            next[2] = usize::from(payload[0]) + 1;
            continue;
        }
        let text = String::from_utf8(payload).unwrap();
        let (kind, number) = text.split_once(' ').unwrap();
        let kind = usize::from(kind == "own");
        assert_eq!(number.parse::<usize>().unwrap(), next[kind], "{text}");
        next[kind] += 1;
    }
    publisher.join().unwrap();
    own.await.unwrap();
}

#[tokio::test]
async fn a_member_leaves_and_joins_again() {
    let room = Hub::new().room("a");
    let joins = room.clone();
    // A member joins or leaves with each of its messages.
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
        let room = joins.clone();
        async move {
            let mut membership = None;
            while let Some(message) = socket.recv().await? {
                membership = match membership {
                    None => Some(room.join(&socket, ()).await?),
                    Some(_) => None,
                };
                socket.send(message).await?;
            }
            Ok::<_, BoxError>(())
        }
    });
    let address = tcp::serve(layer.config(config()).into_service()).await;
    let mut client = open(address).await;
    for turn in 0..6 {
        wire::write(&mut client, &wire::frame(FIN | TEXT, b"own")).await;
        assert_eq!(read(&mut client).await, (TEXT, b"own".to_vec()));
        settle().await;
        room.send(format!("room {turn}")).unwrap();
        if turn % 2 == 0 {
            let text = format!("room {turn}").into_bytes();
            assert_eq!(read(&mut client).await, (TEXT, text));
        }
    }
}

#[tokio::test]
async fn a_lent_stream_closes_as_any_other() {
    let room = Hub::new().room("a");
    let (address, mut told) = serve(&room, config()).await;
    // The client closes.
    let mut client = open(address).await;
    let first = told.recv().await.unwrap();
    room.send("one").unwrap();
    assert_eq!(read(&mut client).await.1, b"one");
    wire::write(&mut client, &wire::close(1000, "")).await;
    assert_eq!(read(&mut client).await.0, CLOSE);
    assert_eq!(within(client.read(&mut [0; 1])).await.unwrap(), 0);
    within(first.membership.left()).await;
    // The client is gone without a Close.
    let client = open(address).await;
    let second = told.recv().await.unwrap();
    settle().await;
    drop(client);
    within(second.membership.left()).await;
    // The client resets the connection.
    let client = open(address).await;
    let third = told.recv().await.unwrap();
    settle().await;
    client.set_zero_linger().unwrap();
    drop(client);
    within(async {
        while third.membership.has_left().is_none() {
            let _ = room.send("to nobody");
            settle().await;
        }
    })
    .await;
    assert_eq!(room.len_here(), 0);
}

#[test]
fn the_end_of_a_runtime_closes_lent_streams() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let (server, clients) = (runtime(), runtime());
    let room = Hub::new().room("a");
    let (address, mut told) = server.block_on(serve(&room, config()));
    let accept = server.spawn(async move {
        let first = told.recv().await;
        settle().await;
        first
    });
    let connecting = thread::spawn(move || {
        let client = clients.block_on(wire::open(address, "/"));
        (clients, client)
    });
    let told = server.block_on(accept).unwrap().unwrap();
    let (clients, mut client) = connecting.join().unwrap();
    drop(server);
    // The membership lives longer than its connection, and keeps no stream open.
    let read = clients.block_on(within(client.read(&mut [0; 1])));
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    drop(told);
}

/// The time for a slow reader counts what rooms have written, as it counts what a handler writes.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_has_the_time_for_what_rooms_wrote() {
    let room = Hub::new().room("a");
    let limit = Duration::from_secs(10);
    let (address, mut told) = serve(&room, config().write_timeout(limit)).await;
    let client = wire::open(address, "/").await;
    let membership = told.recv().await.unwrap().membership;
    let mut start;
    loop {
        send_until_behind(&room, &membership, 40_000, || {}).await;
        start = Instant::now();
        // The kernel may take all of it later. Then nobody is slow.
        let caught_up = async {
            while membership.lag().behind > 0 {
                sleep(Duration::from_millis(100)).await;
            }
        };
        select! {
            _ = membership.left() => break,
            () = caught_up => {}
        }
    }
    assert!(start.elapsed() >= 3 * limit, "{:?}", start.elapsed());
    drop(client);
}

#[tokio::test]
async fn a_paused_member_gets_nothing_although_its_stream_is_lent() {
    let room = Hub::new().room("a");
    let (tell, mut told) = mpsc::unbounded_channel();
    let joins = room.clone();
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
        let (room, tell) = (joins.clone(), tell.clone());
        async move {
            let membership = room.join(&socket, ()).paused().await?;
            let _ = tell.send(membership);
            while socket.recv().await?.is_some() {}
            Ok::<_, BoxError>(())
        }
    });
    let address = tcp::serve(layer.config(config()).into_service()).await;
    let mut client = open(address).await;
    let membership = told.recv().await.unwrap();
    settle().await;
    room.send("waits").unwrap();
    settle().await;
    let early = client.try_read(&mut [0; 1]);
    assert!(early.is_err(), "{early:?}");
    let _membership = membership.start();
    assert_eq!(read(&mut client).await, (TEXT, b"waits".to_vec()));
}
