//! The end of a connection through a [`Sender`](tower_websocket::Sender): `close`, `closed`, and the last messages.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::pending,
    pin::pin,
    sync::{Arc, mpsc as blocking},
    thread,
    time::Duration,
};

use support::{
    handlers::handing_out,
    pipe, settle,
    wakers::{Count, block_on, poll_with},
    wire::{self, CLOSE, FIN, TEXT, close, frame, read_close, read_frame, read_payload, write},
    within,
};
use tokio::{
    io::DuplexStream,
    runtime,
    sync::{mpsc, oneshot},
    task::{JoinSet, yield_now},
    time::{Instant, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Closed, Config, Message, Side, WebSocket, WebSocketLayer,
    error::{InvalidClose, SendError},
};

fn code(number: u16) -> CloseCode {
    CloseCode::new(number).unwrap()
}

#[tokio::test(start_paused = true)]
async fn closes_with_a_code_and_a_reason_after_earlier_messages() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 16);
    let sender = socket.sender();
    let long = sender.close(CloseCode::NORMAL, "x".repeat(124));
    assert_eq!(long, Err(InvalidClose::Reason { len: 124 }));
    sender.try_send("first").expect("the connection stays open");
    sender.close(code(4001), "kicked").unwrap();
    sender.close(code(4002), "too late").unwrap();
    sender.clone().close(code(4003), "").unwrap();
    assert_eq!(socket.recv().await.unwrap(), None);
    assert_eq!(read_payload(&mut client).await, b"first");
    let frame = read_frame(&mut client).await.unwrap();
    assert_eq!(frame.close_code(), Some(4001));
    assert_eq!(&frame.payload[2..], b"kicked");
}

/// A side, a code, a reason, and whether the ending is clean.
type Ending = (Side, Option<u16>, String, bool);

fn ending(closed: &Closed) -> Ending {
    let code = closed.code().map(CloseCode::get);
    expected(closed.side(), code, closed.reason(), closed.is_clean())
}

fn expected(side: Side, code: Option<u16>, reason: &str, clean: bool) -> Ending {
    (side, code, reason.to_owned(), clean)
}

/// Calls `act` with a connection, and returns how the connection ended. Asserts that `closed` returns the same value
/// to callers before and after the end.
async fn ending_of(act: impl AsyncFnOnce(WebSocket, DuplexStream)) -> Ending {
    let (socket, client) = pipe::socket(Config::new(), 64);
    let sender = socket.sender();
    let mut early = JoinSet::new();
    for _ in 0..3 {
        let sender = sender.clone();
        early.spawn(async move { sender.closed().await });
    }
    settle().await;
    let act = timeout(Duration::from_secs(100), act(socket, client));
    act.await.unwrap();
    let late = within(sender.closed()).await;
    assert_eq!(within(early.join_all()).await, vec![late.clone(); 3]);
    ending(&late)
}

#[tokio::test(start_paused = true)]
async fn closed_returns_the_side_the_code_and_the_reason() {
    use Side::{Local, Remote};

    let dropped = ending_of(async |socket, mut client| {
        drop(socket);
        assert_eq!(read_close(&mut client).await, Some(1000));
        write(&mut client, &close(1000, "")).await;
        settle().await;
    });
    assert_eq!(dropped.await, expected(Local, Some(1000), "", true));

    let closed = ending_of(async |mut socket, mut client| {
        let peer = async {
            assert_eq!(read_close(&mut client).await, Some(4001));
            // The code of the answer does not count.
            write(&mut client, &close(1000, "fine")).await;
        };
        let (closed, ()) = tokio::join!(socket.close(code(4001), "kicked"), peer);
        closed.unwrap();
    });
    assert_eq!(closed.await, expected(Local, Some(4001), "kicked", true));

    let unanswered = ending_of(async |socket, client| {
        socket.sender().close(code(4001), "kicked").unwrap();
        let start = Instant::now();
        socket.sender().closed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        drop(client);
    });
    assert_eq!(
        unanswered.await,
        expected(Local, Some(4001), "kicked", false)
    );

    let remote = ending_of(async |mut socket, mut client| {
        write(&mut client, &close(4002, "why not")).await;
        assert_eq!(socket.recv().await.unwrap(), None);
        assert_eq!(read_close(&mut client).await, Some(4002));
    });
    assert_eq!(remote.await, expected(Remote, Some(4002), "why not", true));

    let without_code = ending_of(async |mut socket, mut client| {
        write(&mut client, &frame(FIN | CLOSE, b"")).await;
        assert_eq!(socket.recv().await.unwrap(), None);
        assert_eq!(read_close(&mut client).await, None);
    });
    assert_eq!(without_code.await, expected(Remote, None, "", true));

    let mut reason = String::new();
    let violation = ending_of(async |_socket, mut client| {
        // The head of an unmasked frame.
        write(&mut client, &wire::header(FIN | TEXT, 0, false)).await;
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.close_code(), Some(1002));
        reason = String::from_utf8(frame.payload[2..].to_vec()).unwrap();
        write(&mut client, &close(1002, "")).await;
    });
    let violation = violation.await;
    assert_eq!(violation, expected(Local, Some(1002), &reason, false));
    assert!(!reason.is_empty());

    let gone = ending_of(async |_socket, client| drop(client));
    assert_eq!(gone.await, expected(Remote, None, "", false));

    // The peer keeps its socket open, but does not read or write.
    let dead = ending_of(async |socket, client| {
        let start = Instant::now();
        socket.sender().closed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(40));
        drop(client);
    });
    assert_eq!(dead.await, expected(Local, None, "", false));

    let stalled = ending_of(async |mut socket, client| {
        socket.send(vec![0; 100]).await.unwrap();
        let start = Instant::now();
        socket.sender().closed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        drop(client);
    });
    assert_eq!(stalled.await, expected(Local, None, "", false));
}

#[tokio::test(start_paused = true)]
async fn closed_returns_how_the_handler_ended() {
    for (name, wanted) in [
        ("ok", expected(Side::Local, Some(1000), "", true)),
        ("error", expected(Side::Local, Some(1011), "", true)),
        ("panic", expected(Side::Local, Some(1011), "", true)),
        ("code", expected(Side::Local, Some(4007), "own", true)),
    ] {
        let (senders, mut handed_out) = mpsc::unbounded_channel();
        let handler = handing_out(senders, move |mut socket| async move {
            socket.recv().await?;
            match name {
                "ok" => Ok(()),
                "error" => Err("no database".into()),
                "panic" => panic!("of the handler"),
                _ => Err(CloseFrame::new(code(4007), "own")?.into()),
            }
        });
        let mut client = pipe::attach(handler).await.0;
        let sender = handed_out.recv().await.unwrap();
        let before = tokio::spawn({
            let sender = sender.clone();
            async move { sender.closed().await }
        });
        settle().await;
        write(&mut client, &frame(FIN | TEXT, b"go")).await;
        assert_eq!(read_close(&mut client).await, wanted.1, "{name}");
        write(&mut client, &close(1000, "")).await;
        let before = within(before).await.unwrap();
        assert_eq!(ending(&before), wanted, "{name}");
        assert_eq!(sender.closed().await, before, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_returns_the_same_to_many_callers_before_and_after_the_end() {
    let (socket, mut client) = pipe::socket(Config::new(), 1024);
    let sender = socket.sender();
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let sender = sender.clone();
        tasks.spawn(async move { sender.closed().await });
        let sender = socket.sender();
        tasks.spawn(async move {
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
        let (results, result) = oneshot::channel();
        thread::spawn(move || results.send(block_on(sender.closed())));
        tasks.spawn(async move { result.await.unwrap() });
    }
    settle().await;
    write(&mut client, &close(4000, "all of you")).await;
    drop(socket);
    read_close(&mut client).await;
    write(&mut client, &close(4000, "")).await;
    let all = within(tasks.join_all()).await;
    let closed = within(sender.closed()).await;
    assert_eq!(all, vec![closed; 202]);
}

#[tokio::test(start_paused = true)]
async fn sends_between_the_close_of_the_peer_and_our_answer() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
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
    // The connection has not run since `recv` returned.
    sender.try_send("four").unwrap();
    settle().await;
    assert_eq!(sender.send("five").await, Err(SendError::Closed));
    for expected in ["one", "two", "three", "four"] {
        assert_eq!(read_payload(&mut client).await, expected.as_bytes());
    }
    assert_eq!(read_close(&mut client).await, Some(4000));
}

#[tokio::test(start_paused = true)]
async fn sends_messages_of_a_handler_right_after_its_last_recv() {
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
    let mut client = pipe::attach(handler).await.0;
    let segment = [frame(FIN | TEXT, b"hi"), close(1000, "")].concat();
    write(&mut client, &segment).await;
    for expected in ["hi", "bye", "now"] {
        assert_eq!(read_payload(&mut client).await, expected.as_bytes());
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn ends_send_and_closed_when_the_connection_is_aborted() {
    let (senders, mut handed_out) = mpsc::unbounded_channel();
    let layer = WebSocketLayer::new(handing_out(senders, |_socket| pending()))
        .config(Config::new().max_outbox(1, 100));
    let (_client, connections) = pipe::attach_layer(layer, 16).await;
    let sender = handed_out.recv().await.unwrap();
    sender.send(vec![0; 100]).await.unwrap();
    let waiting = tokio::spawn({
        let sender = sender.clone();
        async move { sender.send("more").await }
    });
    settle().await;
    let report = connections.shutdown(Duration::ZERO).await;
    assert_eq!((report.clean, connections.counts().open()), (0, 0));
    let sent = within(waiting).await;
    assert_eq!(sent.unwrap(), Err(SendError::Closed));
    let closed = within(sender.closed()).await;
    assert_eq!(ending(&closed), expected(Side::Local, None, "", false));
}

#[test]
fn ends_recv_and_send_when_the_runtime_is_gone() {
    let (results, result) = blocking::channel();
    thread::spawn(move || {
        let runtime = runtime::Runtime::new().unwrap();
        let (mut socket, _client) = runtime.block_on(async { pipe::socket(Config::new(), 64) });
        let waits = Arc::<Count>::default();
        assert!(poll_with(Arc::clone(&waits), pin!(socket.recv())).is_pending());
        drop(runtime);
        let woken = waits.get() > 0;
        let failed = block_on(socket.recv()).is_err();
        let closed = block_on(socket.sender().closed());
        let sent = block_on(socket.send("late"));
        results
            .send((woken, failed, closed.is_clean(), sent))
            .unwrap();
    });
    let ended = result
        .recv_timeout(Duration::from_secs(5))
        .expect("recv hangs");
    assert_eq!(ended, (true, true, false, Err(SendError::Closed)));
}
