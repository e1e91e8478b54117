//! [`Sender`]: sends from anywhere, waits for room, and knows how the connection ended.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/pipe.rs"]
mod pipe;
#[path = "support/wire.rs"]
mod wire;

use std::{
    future::{Future, pending},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc as blocking,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use tokio::{
    io::{
        AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split,
    },
    net::TcpListener,
    runtime,
    sync::{Notify, mpsc},
    task::{JoinSet, yield_now},
    time::{Instant, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Closed, Config, Connections, Handler, Message, Sender, Side,
    WebSocket, WebSocketLayer,
    error::{InvalidClose, SendError, TrySendError},
};
use wire::{BINARY, CLOSE, FIN, PING, TEXT, close, frame, read_close, read_frame, write};

const GUARD: Duration = Duration::from_secs(10);

/// A sender can be kept anywhere, and a socket moved.
const _: () = {
    const fn shared<T: Clone + Send + Sync + 'static>() {}
    const fn moved<T: Send + 'static>() {}
    shared::<Sender>();
    moved::<WebSocket>();
};

/// Serves on real TCP.
async fn serve(handler: impl Handler) -> SocketAddr {
    let app = Router::new().fallback_service(WebSocketLayer::new(handler).into_service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Serves one connection in memory, the handler beside it, and returns the client's end.
async fn attach(handler: impl Handler, config: Config, buffer: usize) -> DuplexStream {
    attach_layer(WebSocketLayer::new(handler).config(config), buffer).await
}

async fn attach_layer<H: Handler>(layer: WebSocketLayer<H>, buffer: usize) -> DuplexStream {
    pipe::open(layer.into_service(), buffer).await
}

/// A handler that hands out a sender and does what it is told with the socket.
fn handing_out<F>(
    senders: mpsc::UnboundedSender<Sender>,
    handle: impl Fn(WebSocket) -> F + Send + Sync + 'static,
) -> impl Handler
where
    F: Future<Output = Result<(), BoxError>> + Send,
{
    move |socket: WebSocket| {
        senders.send(socket.sender()).unwrap();
        handle(socket)
    }
}

async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// Waits without any runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll_with<F: Future + ?Sized>(
    waker: Arc<impl Wake + Send + Sync + 'static>,
    future: Pin<&mut F>,
) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(waker)))
}

fn code(number: u16) -> CloseCode {
    CloseCode::new(number).unwrap()
}

/// Reads a message of each sender in its order: its name, and how many came before.
struct Orders(Vec<u32>);

impl Orders {
    fn new(senders: usize) -> Self {
        Self(vec![0; senders])
    }

    fn message(name: usize, number: u32) -> Vec<u8> {
        [&[u8::try_from(name).unwrap()][..], &number.to_be_bytes()].concat()
    }

    fn take(&mut self, payload: &[u8]) {
        let next = &mut self.0[usize::from(payload[0])];
        assert_eq!(payload[1..], next.to_be_bytes(), "sender {}", payload[0]);
        *next += 1;
    }
}

// Anywhere.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_from_tasks_and_threads_after_the_handler_dropped_the_socket() {
    const EACH: u32 = 500;
    let (senders, mut handed_out) = mpsc::unbounded_channel();
    let done = Arc::new(Notify::new());
    let is_done = Arc::clone(&done);
    let handler = handing_out(senders, move |socket| {
        drop(socket);
        let is_done = Arc::clone(&is_done);
        async move {
            is_done.notified().await;
            Ok(())
        }
    });
    let mut client = wire::open(serve(handler).await, "/").await;
    let sender = handed_out.recv().await.unwrap();

    let mut tasks = JoinSet::new();
    for name in 0..6 {
        let sender = sender.clone();
        let send_all = async move {
            for number in 0..EACH {
                sender.send(Orders::message(name, number)).await.unwrap();
            }
        };
        if name < 3 {
            tasks.spawn(send_all);
        } else {
            thread::spawn(|| block_on(send_all));
        }
    }
    let mut orders = Orders::new(6);
    for _ in 0..6 * EACH {
        let frame = timeout(GUARD, read_frame(&mut client)).await.unwrap();
        orders.take(&frame.unwrap().payload);
    }
    assert_eq!(orders.0, [EACH; 6]);
    tasks.join_all().await;

    done.notify_one();
    assert_eq!(read_close(&mut client).await, Some(1000));
    write(&mut client, &close(1000, "")).await;
    let closed = timeout(GUARD, sender.closed()).await.unwrap();
    assert_eq!((closed.side(), closed.is_clean()), (Side::Local, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_while_another_task_receives_on_the_socket() {
    let (senders, mut handed_out) = mpsc::unbounded_channel();
    let handler = handing_out(senders, |mut socket| async {
        let echo = tokio::spawn(async move {
            while let Some(message) = socket.recv().await? {
                socket.send(message).await?;
            }
            Ok::<_, BoxError>(())
        });
        echo.await?
    });
    let mut client = wire::open(serve(handler).await, "/").await;
    let sender = handed_out.recv().await.unwrap();
    let threads: Vec<_> = (1..3)
        .map(|name| {
            let sender = sender.clone();
            thread::spawn(move || {
                (0..500).for_each(|number| {
                    block_on(sender.send(Orders::message(name, number))).unwrap();
                });
            })
        })
        .collect();
    for number in 0..500 {
        write(
            &mut client,
            &frame(FIN | BINARY, &Orders::message(0, number)),
        )
        .await;
    }
    let mut orders = Orders::new(3);
    for _ in 0..3 * 500 {
        let frame = timeout(GUARD, read_frame(&mut client)).await.unwrap();
        orders.take(&frame.unwrap().payload);
    }
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    write(&mut client, &close(3001, "enough")).await;
    assert_eq!(read_close(&mut client).await, Some(3001));
    let closed = timeout(GUARD, sender.closed()).await.unwrap();
    assert_eq!(closed.code(), Some(code(3001)));
}

#[tokio::test]
async fn does_not_keep_the_connection_open() {
    let (server, mut client) = duplex(1024);
    let socket = WebSocket::from_io(server, Config::new());
    let sender = socket.sender();
    drop(socket);
    assert_eq!(read_close(&mut client).await, Some(1000));
    assert_eq!(sender.send("late").await, Err(SendError::Closed));
}

// Room.

#[tokio::test(start_paused = true)]
async fn wakes_all_that_wait_for_room_also_if_some_of_them_gave_up() {
    let (server, mut client) = duplex(16);
    let config = Config::new().max_outbox(2, 100);
    let socket = WebSocket::from_io(server, config);
    let sender = socket.sender();
    sender.try_send(vec![0; 30]).unwrap();
    sender.try_send(vec![0; 30]).unwrap();
    let mut tasks = JoinSet::new();
    let aborts: Vec<_> = (1..=8u8)
        .map(|number| {
            let sender = sender.clone();
            let send = async move { sender.send(vec![number; 30]).await.map(|()| number) };
            let abort = tasks.spawn(send);
            (number, abort)
        })
        .collect();
    settle().await;
    assert!(tasks.try_join_next().is_none(), "there is no room");
    // Those that came first, and one among the others.
    for (number, abort) in aborts {
        if [1, 2, 5].contains(&number) {
            abort.abort();
        }
    }
    let mut arrived = Vec::new();
    for _ in 0..2 + 5 {
        let frame = timeout(GUARD, read_frame(&mut client)).await.unwrap();
        arrived.push(frame.unwrap().payload[0]);
    }
    arrived.sort_unstable();
    assert_eq!(arrived, [0, 0, 3, 4, 6, 7, 8]);
    let mut sent = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        sent.extend(joined.map(Result::unwrap));
    }
    sent.sort_unstable();
    assert_eq!(sent, [3, 4, 6, 7, 8]);
}

#[tokio::test(start_paused = true)]
async fn tells_everybody_who_waits_of_the_room_and_of_the_end() {
    let (server, mut client) = duplex(16);
    let socket = WebSocket::from_io(server, Config::new().max_outbox(1, 100));
    let sender = socket.sender();
    sender.try_send(vec![0; 50]).unwrap();

    let wakers: [Arc<Count>; 4] = Default::default();
    let mut sends: Vec<_> = wakers
        .iter()
        .map(|waker| {
            let sender = sender.clone();
            let mut send = Box::pin(async move { sender.send("next").await });
            assert_eq!(poll_with(Arc::clone(waker), send.as_mut()), Poll::Pending);
            Some(send)
        })
        .collect();
    // A future that is dropped takes nobody's turn.
    sends[0] = None;
    settle().await;
    for (waker, send) in wakers.iter().zip(&mut sends).skip(1) {
        let poll = poll_with(Arc::clone(waker), send.as_mut().unwrap().as_mut());
        assert!(poll.is_pending(), "there is no room");
        waker.0.store(0, Ordering::SeqCst);
    }
    assert_eq!(read_frame(&mut client).await.unwrap().payload, [0; 50]);
    settle().await;
    let mut waiting = Vec::new();
    let mut sent = 0;
    for (waker, send) in wakers.iter().zip(sends).skip(1) {
        let mut send = send.unwrap();
        if waker.get() > 0 && poll_with(Arc::clone(waker), send.as_mut()).is_ready() {
            sent += 1;
        } else {
            waker.0.store(0, Ordering::SeqCst);
            waiting.push((waker, send));
        }
    }
    assert_eq!(sent, 1, "there was room for one");

    sender.close(CloseCode::NORMAL, "").unwrap();
    for (waker, mut send) in waiting {
        assert!(waker.get() > 0);
        let sent = poll_with(Arc::clone(waker), send.as_mut());
        assert_eq!(sent, Poll::Ready(Err(SendError::Closed)));
    }
}

#[tokio::test(start_paused = true)]
async fn gives_a_large_message_its_turn_among_small_ones() {
    // The more of them there are, the less room each write leaves.
    for small in [1, 2, 50] {
        let (server, mut client) = duplex(64);
        let socket = WebSocket::from_io(server, Config::new().max_outbox(8, 200));
        for _ in 0..small {
            let sender = socket.sender();
            tokio::spawn(async move { while sender.send("small").await.is_ok() {} });
        }
        settle().await;
        let sender = socket.sender();
        let large = tokio::spawn(async move { sender.send(vec![1; 150]).await });
        let reads = async {
            let mut before = 0;
            while read_frame(&mut client).await.unwrap().payload.len() < 150 {
                before += 1;
                assert!(
                    before < 10_000,
                    "{before} of {small} small senders went first"
                );
            }
        };
        timeout(GUARD, reads).await.unwrap();
        large.await.unwrap().unwrap();
    }
}

/// Such as a pinned future in a `select!` whose other branch sends as well: it must not hang.
#[tokio::test(start_paused = true)]
async fn lets_others_send_while_one_that_waits_is_not_polled() {
    // With the large buffer all is written at once, so that hardly anything happens afterwards.
    for buffer in [16, 1024] {
        let (server, mut client) = duplex(buffer);
        let mut socket = WebSocket::from_io(server, Config::new().max_outbox(1, 100));
        let sender = socket.sender();
        sender.try_send(vec![0; 50]).unwrap();
        let mut waits = pin!(sender.send("first to wait"));
        assert!(poll_with(Arc::<Count>::default(), waits.as_mut()).is_pending());
        assert_eq!(read_frame(&mut client).await.unwrap().payload, [0; 50]);
        settle().await;
        for number in 0..3 {
            let sent = timeout(GUARD, socket.send(vec![number])).await;
            sent.expect("send hangs").unwrap();
            assert_eq!(read_frame(&mut client).await.unwrap().payload, [number]);
        }
        waits.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn is_not_full_for_good_while_one_that_waits_is_not_polled() {
    let (server, mut client) = duplex(1024);
    let socket = WebSocket::from_io(server, Config::new().max_outbox(1, 100));
    let sender = socket.sender();
    sender.try_send(vec![0; 50]).unwrap();
    let mut waits = pin!(sender.send("first to wait"));
    assert!(poll_with(Arc::<Count>::default(), waits.as_mut()).is_pending());
    assert_eq!(read_frame(&mut client).await.unwrap().payload, [0; 50]);
    for _ in 0..100 {
        settle().await;
        assert_eq!(sender.buffered(), Default::default());
        if sender.try_send("next").is_ok() {
            waits.await.unwrap();
            return;
        }
    }
    panic!("full, though nothing waits to be written");
}

#[tokio::test(start_paused = true)]
async fn gives_back_what_there_is_no_room_for() {
    let (server, mut client) = duplex(16);
    let socket = WebSocket::from_io(server, Config::new().max_outbox(2, 100));
    let sender = socket.sender();
    sender.try_send("one").unwrap();
    sender.try_send("two").unwrap();
    let payload = Bytes::from(vec![3; 10]);
    let error = sender.try_send(payload.clone()).unwrap_err();
    assert_eq!(error, TrySendError::Full(payload.clone().into()));
    let returned = error.into_message().into_bytes();
    assert_eq!(returned.as_ptr(), payload.as_ptr(), "not even copied");

    settle().await;
    sender.try_send(returned).unwrap();
    for expected in [&b"one"[..], b"two", &[3; 10]] {
        assert_eq!(read_frame(&mut client).await.unwrap().payload, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn counts_bytes_as_well_as_messages() {
    let (server, _client) = duplex(16);
    let socket = WebSocket::from_io(server, Config::new().max_outbox(100, 100));
    let sender = socket.sender();
    // Nothing else waits, so its size does not matter.
    sender.try_send(vec![0; 500]).unwrap();
    assert_eq!(
        sender.try_send("more"),
        Err(TrySendError::Full("more".into()))
    );
}

#[tokio::test(start_paused = true)]
async fn gives_back_what_comes_too_late() {
    let (server, _client) = duplex(1024);
    let socket = WebSocket::from_io(server, Config::new());
    let sender = socket.sender();
    sender.close(CloseCode::NORMAL, "").unwrap();
    let payload = Bytes::from(vec![3; 10]);
    let error = sender.try_send(payload.clone()).unwrap_err();
    assert_eq!(error, TrySendError::Closed(payload.clone().into()));
    let returned = error.into_message().into_bytes();
    assert_eq!(returned.as_ptr(), payload.as_ptr());
    assert_eq!(sender.send("late").await, Err(SendError::Closed));
}

// What waits to be written.

#[tokio::test(start_paused = true)]
async fn counts_what_waits_in_messages_and_bytes_of_frames() {
    let (server, mut client) = duplex(100_000);
    let socket = WebSocket::from_io(server, Config::new());
    let sender = socket.sender();
    let buffered = || (sender.buffered().messages, sender.buffered().bytes);
    assert_eq!(buffered(), (0, 0));
    let mut expected = (0, 0);
    for (len, frame) in [
        (0, 2),
        (125, 127),
        (126, 130),
        (5000, 5004),
        (70_000, 70_010),
    ] {
        sender.try_send(vec![0; len]).unwrap();
        expected = (expected.0 + 1, expected.1 + frame);
        assert_eq!(buffered(), expected, "with {len} bytes");
    }
    for _ in 0..5 {
        read_frame(&mut client).await.unwrap();
    }
    assert_eq!(buffered(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn counts_the_bytes_of_what_is_written_in_part() {
    let (server, mut client) = duplex(10);
    let socket = WebSocket::from_io(server, Config::new());
    let sender = socket.sender();
    // Small ones that are gathered, and a large one that is not.
    for len in [8, 8, 8, 8, 5000] {
        sender.try_send(vec![0; len]).unwrap();
    }
    let all = 4 * 10 + 5004;
    for read in (0..=all).step_by(10) {
        settle().await;
        let left = all - (read + 10).min(all);
        assert_eq!(sender.buffered().bytes, left, "after {read} were read");
        let mut bytes = [0; 10];
        let part = &mut bytes[..10.min(all - read)];
        client.read_exact(part).await.unwrap();
    }
    assert_eq!(sender.buffered(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn counts_messages_until_what_they_were_gathered_in_is_written() {
    let (server, mut client) = duplex(10);
    let socket = WebSocket::from_io(server, Config::new());
    let sender = socket.sender();
    for number in 0..6 {
        sender.try_send(vec![number; 8]).unwrap();
    }
    for left in (0..6).rev() {
        settle().await;
        let messages = sender.buffered().messages;
        assert!(left <= messages && messages <= 6, "{messages}, of {left}");
        read_frame(&mut client).await.unwrap();
    }
    settle().await;
    assert_eq!(sender.buffered().messages, 0);
}

#[tokio::test(start_paused = true)]
async fn does_not_count_control_frames() {
    let (server, mut client) = duplex(64);
    let socket = WebSocket::from_io(server, Config::new());
    let sender = socket.sender();
    for number in 0..50 {
        sender.try_send(vec![number; 20]).unwrap();
        write(&mut client, &frame(FIN | PING, &[number; 100])).await;
        for read in 0..2 {
            settle().await;
            let buffered = sender.buffered();
            let most = if read == 0 { 22 } else { 0 };
            assert!(buffered.bytes <= most, "{buffered:?} after {read} frames");
            let frame = timeout(GUARD, read_frame(&mut client)).await.unwrap();
            assert_eq!(frame.unwrap().payload[0], number);
        }
    }
    settle().await;
    assert_eq!(sender.buffered(), Default::default());
}

// The end.

#[tokio::test(start_paused = true)]
async fn closes_with_a_code_and_a_reason_behind_what_was_sent() {
    let (server, mut client) = duplex(16);
    let mut socket = WebSocket::from_io(server, Config::new());
    let sender = socket.sender();
    let long = sender.close(CloseCode::NORMAL, "x".repeat(124));
    assert_eq!(long, Err(InvalidClose::Reason { len: 124 }));
    sender.try_send("first").expect("the connection stays open");
    sender.close(code(4001), "kicked").unwrap();
    sender.close(code(4002), "too late").unwrap();
    sender.clone().close(code(4003), "").unwrap();
    assert_eq!(socket.recv().await.unwrap(), None);
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"first");
    let frame = read_frame(&mut client).await.unwrap();
    assert_eq!(frame.close_code(), Some(4001));
    assert_eq!(&frame.payload[2..], b"kicked");
}

/// How a connection ends, as `closed` tells it.
fn ending(closed: &Closed) -> (Side, Option<u16>, &str, bool) {
    let code = closed.code().map(CloseCode::get);
    (closed.side(), code, closed.reason(), closed.is_clean())
}

/// Does `act` to a connection, and tells what is told before the end and after it.
async fn ending_of(
    config: Config,
    act: impl AsyncFnOnce(WebSocket, DuplexStream),
) -> (Side, Option<u16>, String, bool) {
    let (server, client) = duplex(64);
    let socket = WebSocket::from_io(server, config);
    let sender = socket.sender();
    let before: Vec<_> = (0..3)
        .map(|_| {
            let sender = sender.clone();
            tokio::spawn(async move { sender.closed().await })
        })
        .collect();
    settle().await;
    let act_and_ask = async {
        act(socket, client).await;
        sender.closed().await
    };
    let closed = timeout(GUARD * 10, act_and_ask).await.unwrap();
    for before in before {
        assert_eq!(timeout(GUARD, before).await.unwrap().unwrap(), closed);
    }
    let (side, code, reason, clean) = ending(&closed);
    (side, code, reason.to_owned(), clean)
}

fn is(
    side: Side,
    code: Option<u16>,
    reason: &str,
    clean: bool,
) -> (Side, Option<u16>, String, bool) {
    (side, code, reason.to_owned(), clean)
}

#[tokio::test(start_paused = true)]
async fn tells_who_closed_with_which_code_and_reason() {
    use Side::{Local, Remote};

    let dropped = ending_of(Config::new(), async |socket, mut client| {
        drop(socket);
        assert_eq!(read_close(&mut client).await, Some(1000));
        write(&mut client, &close(1000, "")).await;
        settle().await;
    });
    assert_eq!(dropped.await, is(Local, Some(1000), "", true));

    let closed = ending_of(Config::new(), async |mut socket, mut client| {
        let peer = async {
            assert_eq!(read_close(&mut client).await, Some(4001));
            // What the peer answers is not why it ended.
            write(&mut client, &close(1000, "fine")).await;
        };
        let (closed, ()) = tokio::join!(socket.close(code(4001), "kicked"), peer);
        closed.unwrap();
    });
    assert_eq!(closed.await, is(Local, Some(4001), "kicked", true));

    let unanswered = ending_of(Config::new(), async |socket, client| {
        socket.sender().close(code(4001), "kicked").unwrap();
        let start = Instant::now();
        socket.sender().closed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        drop(client);
    });
    assert_eq!(unanswered.await, is(Local, Some(4001), "kicked", false));

    let remote = ending_of(Config::new(), async |mut socket, mut client| {
        write(&mut client, &close(4002, "why not")).await;
        assert_eq!(socket.recv().await.unwrap(), None);
        assert_eq!(read_close(&mut client).await, Some(4002));
    });
    assert_eq!(remote.await, is(Remote, Some(4002), "why not", true));

    let without_code = ending_of(Config::new(), async |mut socket, mut client| {
        write(&mut client, &frame(FIN | CLOSE, b"")).await;
        assert_eq!(socket.recv().await.unwrap(), None);
        assert_eq!(read_close(&mut client).await, None);
    });
    assert_eq!(without_code.await, is(Remote, None, "", true));

    let mut told = String::new();
    let violation = ending_of(Config::new(), async |_socket, mut client| {
        // Not masked.
        write(&mut client, &wire::header(FIN | TEXT, 0, false)).await;
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.close_code(), Some(1002));
        told = String::from_utf8(frame.payload[2..].to_vec()).unwrap();
        write(&mut client, &close(1002, "")).await;
    });
    let violation = violation.await;
    assert_eq!(violation, is(Local, Some(1002), &told, false));
    assert!(!told.is_empty());

    let gone = ending_of(Config::new(), async |_socket, client| drop(client));
    assert_eq!(gone.await, is(Remote, None, "", false));

    // A socket that is kept open, but nobody reads or writes.
    let dead = ending_of(Config::new(), async |socket, client| {
        let start = Instant::now();
        socket.sender().closed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(40));
        drop(client);
    });
    assert_eq!(dead.await, is(Local, None, "", false));

    let stalled = ending_of(Config::new(), async |mut socket, client| {
        socket.send(vec![0; 100]).await.unwrap();
        let start = Instant::now();
        socket.sender().closed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        drop(client);
    });
    assert_eq!(stalled.await, is(Local, None, "", false));
}

#[tokio::test(start_paused = true)]
async fn tells_how_a_handler_ended_the_connection() {
    for (name, expected) in [
        ("ok", (Side::Local, Some(1000), "", true)),
        ("error", (Side::Local, Some(1011), "", true)),
        ("panic", (Side::Local, Some(1011), "", true)),
        ("code", (Side::Local, Some(4007), "own", true)),
    ] {
        let (senders, mut handed_out) = mpsc::unbounded_channel();
        let handler = handing_out(senders, move |mut socket| async move {
            socket.recv().await?;
            match name {
                "ok" => Ok(()),
                "error" => Err("no database".into()),
                "panic" => panic!("as it was told to"),
                _ => Err(CloseFrame::new(code(4007), "own")?.into()),
            }
        });
        let mut client = attach(handler, Config::new(), 1024).await;
        let sender = handed_out.recv().await.unwrap();
        let before = tokio::spawn({
            let sender = sender.clone();
            async move { sender.closed().await }
        });
        settle().await;
        write(&mut client, &frame(FIN | TEXT, b"go")).await;
        assert_eq!(read_close(&mut client).await, expected.1, "{name}");
        write(&mut client, &close(1000, "")).await;
        let before = timeout(GUARD, before).await.unwrap().unwrap();
        assert_eq!(ending(&before), expected, "{name}");
        assert_eq!(sender.closed().await, before, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_everybody_who_asks_before_and_after_the_end() {
    let (server, mut client) = duplex(1024);
    let socket = WebSocket::from_io(server, Config::new());
    let sender = socket.sender();
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let sender = sender.clone();
        tasks.spawn(async move { sender.closed().await });
        let sender = socket.sender();
        tasks.spawn(async move {
            // Asks again and again.
            loop {
                tokio::select! {
                    biased;
                    closed = sender.closed() => return closed,
                    () = yield_now() => {}
                }
            }
        });
    }
    for _ in 0..2 {
        let sender = sender.clone();
        let (told, is_told) = tokio::sync::oneshot::channel();
        thread::spawn(move || told.send(block_on(sender.closed())));
        tasks.spawn(async move { is_told.await.unwrap() });
    }
    settle().await;
    write(&mut client, &close(4000, "all of you")).await;
    drop(socket);
    read_close(&mut client).await;
    write(&mut client, &close(4000, "")).await;
    let all = timeout(GUARD, tasks.join_all()).await.unwrap();
    let closed = timeout(GUARD, sender.closed()).await.unwrap();
    assert_eq!(all, vec![closed; 202]);
}

#[tokio::test(start_paused = true)]
async fn sends_between_the_close_of_the_peer_and_the_answer() {
    let (server, mut client) = duplex(1024);
    let mut socket = WebSocket::from_io(server, Config::new());
    let sender = socket.sender();
    write(&mut client, &frame(FIN | TEXT, b"question")).await;
    write(&mut client, &close(4000, "")).await;
    settle().await;
    sender.try_send("one").unwrap();
    assert_eq!(
        socket.recv().await.unwrap(),
        Some(Message::from("question"))
    );
    settle().await;
    sender.send("two").await.unwrap();
    socket.send("three").await.unwrap();
    assert_eq!(socket.recv().await.unwrap(), None);
    // The connection has not run since.
    sender.try_send("four").unwrap();
    settle().await;
    assert_eq!(sender.send("five").await, Err(SendError::Closed));
    for expected in ["one", "two", "three", "four"] {
        assert_eq!(
            read_frame(&mut client).await.unwrap().payload,
            expected.as_bytes()
        );
    }
    assert_eq!(read_close(&mut client).await, Some(4000));
}

#[tokio::test(start_paused = true)]
async fn sends_what_a_handler_says_right_after_the_last_message() {
    let handler = async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        let sender = socket.sender();
        let sent = [sender.send("bye").await, socket.send("now").await];
        yield_now().await;
        assert_eq!(sender.send("late").await, Err(SendError::Closed));
        assert_eq!(sent, [Ok(()), Ok(())]);
        Ok::<_, BoxError>(())
    };
    let mut client = attach(handler, Config::new(), 1024).await;
    let segment = [frame(FIN | TEXT, b"hi"), close(1000, "")].concat();
    write(&mut client, &segment).await;
    for expected in ["hi", "bye", "now"] {
        assert_eq!(
            read_frame(&mut client).await.unwrap().payload,
            expected.as_bytes()
        );
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn tells_the_senders_of_a_connection_that_is_aborted() {
    let (senders, mut handed_out) = mpsc::unbounded_channel();
    let layer = WebSocketLayer::new(handing_out(senders, |_socket| pending()))
        .config(Config::new().max_outbox(1, 100));
    let connections: Connections = layer.connections();
    let _client = attach_layer(layer, 16).await;
    let sender = handed_out.recv().await.unwrap();
    sender.send(vec![0; 100]).await.unwrap();
    let waiting = tokio::spawn({
        let sender = sender.clone();
        async move { sender.send("more").await }
    });
    settle().await;
    let report = connections.shutdown(Duration::ZERO).await;
    assert_eq!((report.clean, connections.counts().open()), (0, 0));
    let sent = timeout(GUARD, waiting).await.expect("send hangs");
    assert_eq!(sent.unwrap(), Err(SendError::Closed));
    let closed = timeout(GUARD, sender.closed()).await;
    let closed = closed.expect("closed hangs");
    assert_eq!(ending(&closed), (Side::Local, None, "", false));
}

#[test]
fn tells_the_holder_of_a_socket_whose_runtime_is_gone() {
    let (told, is_told) = blocking::channel();
    thread::spawn(move || {
        let runtime = runtime::Runtime::new().unwrap();
        let (server, _client) = duplex(64);
        let mut socket = runtime.block_on(async { WebSocket::from_io(server, Config::new()) });
        let waits = Arc::<Count>::default();
        assert!(poll_with(Arc::clone(&waits), pin!(socket.recv())).is_pending());
        drop(runtime);
        let woken = waits.get() > 0;
        let failed = block_on(socket.recv()).is_err();
        let closed = block_on(socket.sender().closed());
        let sent = block_on(socket.send("late"));
        told.send((woken, failed, closed.is_clean(), sent)).unwrap();
    });
    let told = is_told.recv_timeout(GUARD / 2).expect("recv hangs");
    assert_eq!(told, (true, true, false, Err(SendError::Closed)));
}

// Others' code.

#[tokio::test(start_paused = true)]
async fn keeps_nothing_of_futures_that_were_dropped() {
    let (server, _client) = duplex(16);
    let config = Config::new().max_outbox(1, 100).write_timeout(GUARD * 1000);
    let socket = WebSocket::from_io(server, config);
    let sender = socket.sender();
    sender.try_send(vec![0; 100]).unwrap();
    // Each of them is polled by a task of its own, as in a server that asks in every request.
    let wakers: Vec<Arc<Count>> = (0..1000).map(|_| Arc::default()).collect();
    let kept = || {
        wakers
            .iter()
            .filter(|waker| Arc::strong_count(waker) > 1)
            .count()
    };
    for waker in &wakers {
        let closed = pin!(sender.closed());
        assert!(poll_with(Arc::clone(waker), closed).is_pending());
    }
    let closing = kept();
    for waker in &wakers {
        let send = pin!(sender.send("more"));
        assert!(poll_with(Arc::clone(waker), send).is_pending());
    }
    let both = kept();
    assert!(
        closing <= 10 && both <= 20,
        "{closing} of closed, {both} with send"
    );
}

/// Runs what would stop for good if it waited for a lock that its own thread holds.
fn without_deadlock(run: impl FnOnce(Sender, WebSocket) + Send + 'static) {
    let (done, is_done) = blocking::channel();
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(async move {
            let (server, _client) = duplex(64);
            let socket = WebSocket::from_io(server, Config::new());
            run(socket.sender(), socket);
            done.send(()).unwrap();
        });
    });
    is_done
        .recv_timeout(GUARD / 2)
        .expect("a deadlock, or a panic");
}

#[test]
fn lets_a_payload_use_the_sender_when_it_is_dropped() {
    struct Payload(Sender);
    impl AsRef<[u8]> for Payload {
        fn as_ref(&self) -> &[u8] {
            b"payload"
        }
    }
    impl Drop for Payload {
        fn drop(&mut self) {
            let _ = self.0.buffered();
        }
    }
    without_deadlock(|sender, _socket| {
        let payload = Bytes::from_owner(Payload(sender.clone()));
        sender.try_send(payload).unwrap();
    });
}

#[test]
fn lets_a_task_use_the_sender_when_it_is_dropped() {
    struct Task(Sender);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Task {
        fn drop(&mut self) {
            let _ = self.0.buffered();
        }
    }
    without_deadlock(|sender, mut socket| {
        assert!(poll_with(Arc::new(Task(sender)), pin!(socket.recv())).is_pending());
        // Takes the place of the waker that kept the task alive.
        assert!(poll_with(Arc::<Count>::default(), pin!(socket.recv())).is_pending());
    });
}

// Races.

#[derive(Clone, Copy, Debug)]
enum End {
    Peer,
    Sender,
    Drop,
    Handler,
}

/// Reads to the Close, which it answers if the client has not closed itself.
async fn read_all(
    reader: ReadHalf<DuplexStream>,
    mut writer: WriteHalf<DuplexStream>,
    senders: usize,
    begin: Option<Arc<Notify>>,
) -> (Vec<u32>, Option<u16>) {
    let mut reader = BufReader::new(reader);
    let mut orders = Orders::new(senders);
    let closes = begin.is_some();
    let writer = async {
        if let Some(begin) = begin {
            begin.notified().await;
            write(&mut writer, &close(1000, "")).await;
        }
        writer
    };
    let reader = async {
        loop {
            let frame = read_frame(&mut reader).await.expect("there is a Close");
            if frame.first == FIN | CLOSE {
                return frame.close_code();
            }
            orders.take(&frame.payload);
        }
    };
    let (mut writer, code) = tokio::join!(writer, reader);
    if !closes {
        write(&mut writer, &close(1000, "")).await;
    }
    let _ = writer.shutdown().await;
    (orders.0, code)
}

async fn race(end: End, moment: usize) {
    const SENDERS: usize = 4;
    let config = Config::new().max_outbox(8, 300);
    let begin = Arc::new(Notify::new());
    let (senders, mut handed_out) = mpsc::unbounded_channel();
    let client = if let End::Drop | End::Sender = end {
        let (server, client) = duplex(100);
        let socket = WebSocket::from_io(server, config);
        senders.send(socket.sender()).unwrap();
        let begin = Arc::clone(&begin);
        tokio::spawn(async move {
            begin.notified().await;
            if let End::Sender = end {
                socket.sender().close(CloseCode::NORMAL, "").unwrap();
                socket.sender().closed().await;
            }
            drop(socket);
        });
        client
    } else {
        let begin = Arc::clone(&begin);
        let handler = handing_out(senders, move |mut socket| {
            let begin = Arc::clone(&begin);
            async move {
                if let End::Peer = end {
                    assert_eq!(socket.recv().await?, None);
                } else {
                    begin.notified().await;
                }
                Ok(())
            }
        });
        attach(handler, config, 100).await
    };
    let sender = handed_out.recv().await.unwrap();

    let accepted = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..SENDERS)
        .map(|name| {
            let (sender, accepted, begin) =
                (sender.clone(), Arc::clone(&accepted), Arc::clone(&begin));
            tokio::spawn(async move {
                for number in 0.. {
                    let message = Orders::message(name, number);
                    let sent = if name % 2 == 0 {
                        sender.send(message).await
                    } else {
                        try_before_waiting(&sender, message.into()).await
                    };
                    if sent.is_err() {
                        return number;
                    }
                    if accepted.fetch_add(1, Ordering::Relaxed) == moment {
                        begin.notify_one();
                    }
                }
                unreachable!("the connection ends before the numbers do")
            })
        })
        .collect();
    let (reader, writer) = split(client);
    let peer_begins = matches!(end, End::Peer).then_some(begin);
    let (arrived, code) = read_all(reader, writer, SENDERS, peer_begins).await;
    assert_eq!(code, Some(1000));
    let mut sent = Vec::new();
    for task in tasks {
        sent.push(task.await.unwrap());
    }
    assert_eq!(
        arrived, sent,
        "what was accepted has arrived, and nothing else"
    );
    assert!(sender.closed().await.is_clean());
}

async fn try_before_waiting(sender: &Sender, message: Message) -> Result<(), SendError> {
    match sender.try_send(message) {
        Ok(()) => Ok(()),
        Err(TrySendError::Full(message)) => sender.send(message).await,
        Err(_) => Err(SendError::Closed),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivers_what_was_accepted_before_the_close_whoever_closes_and_when() {
    let last = Arc::new(Mutex::new(None));
    let rounds = async {
        for round in 0..2000 {
            let end = [End::Peer, End::Sender, End::Drop, End::Handler][round % 4];
            // Spread over the first messages, when the queues fill, and a while after.
            let moment = round * 31 % 97;
            *last.lock().unwrap() = Some((round, end, moment));
            race(end, moment).await;
        }
    };
    let all = timeout(GUARD * 3, rounds).await;
    assert!(all.is_ok(), "hangs in {:?}", last.lock().unwrap());
}
