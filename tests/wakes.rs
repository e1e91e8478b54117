//! The tasks that a connection wakes, and the moment from which a wait counts.

mod support;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as std_mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use futures_util::{Sink, SinkExt};
use pipe::attach_layer;
use support::{pipe, wire};
use tokio::{
    io::duplex,
    sync::mpsc,
    task::yield_now,
    time::{Instant, advance, sleep, timeout},
};
use tower_websocket::{BoxError, CloseCode, Config, Message, Sender, WebSocket, WebSocketLayer};
use wire::{BINARY, FIN, close, frame, read_close, read_frame, write};

const GUARD: Duration = Duration::from_secs(60);
const MILLI: Duration = Duration::from_millis(1);

/// All fed messages are written at once, so the flush has to be ready at once. The peer does not answer the
/// Close.
#[tokio::test(start_paused = true)]
async fn a_flush_in_the_handlers_task_is_ready_when_all_is_written_before_a_close() {
    let (told, mut flushed) = mpsc::unbounded_channel();
    let handler = move |mut socket: WebSocket| {
        let told = told.clone();
        async move {
            socket.feed(Message::text("last words")).await?;
            socket.sender().close(CloseCode::NORMAL, "")?;
            let start = Instant::now();
            let flushed = socket.flush().await;
            let _ = told.send((flushed.is_ok(), start.elapsed()));
            Ok::<_, BoxError>(())
        }
    };
    let (mut client, _connections) = attach_layer(WebSocketLayer::new(handler), 64 * 1024).await;
    assert_eq!(
        read_frame(&mut client).await.unwrap().payload,
        b"last words"
    );
    read_close(&mut client).await;
    let (is_ok, took) = timeout(GUARD, flushed.recv()).await.unwrap().unwrap();
    assert!(
        is_ok && took < Duration::from_secs(1),
        "{is_ok} after {took:?}"
    );
}

/// The peer's Close follows messages that the handler has not received. The closing handshake is complete as soon
/// as our Close is written.
#[tokio::test(start_paused = true)]
async fn closing_the_sink_in_the_handlers_task_ends_with_the_handshake() {
    let (told, mut closed) = mpsc::unbounded_channel();
    let handler = move |mut socket: WebSocket| {
        let told = told.clone();
        async move {
            sleep(10 * MILLI).await;
            let start = Instant::now();
            let closed = SinkExt::<Message>::close(&mut socket).await;
            let _ = told.send((closed.is_ok(), start.elapsed()));
            Ok::<_, BoxError>(())
        }
    };
    let (mut client, _connections) = attach_layer(WebSocketLayer::new(handler), 64 * 1024).await;
    let mut bytes: Vec<u8> = (0..30).flat_map(|_| frame(FIN | BINARY, b"m")).collect();
    bytes.extend(close(1000, ""));
    write(&mut client, &bytes).await;
    read_close(&mut client).await;
    // The client stays connected, and does not end its half of the stream.
    let (is_ok, took) = timeout(GUARD, closed.recv()).await.unwrap().unwrap();
    assert!(
        is_ok && took < Duration::from_secs(1),
        "{is_ok} after {took:?}"
    );
    drop(client);
}

/// `futures_util`'s `fanout` does this if its other sink is not ready.
#[tokio::test(start_paused = true)]
async fn a_ready_sink_that_is_not_fed_does_not_block_other_senders() {
    let (server, mut client) = duplex(16);
    let mut socket = WebSocket::from_io(server, Config::new().max_outbox(1, 1000));
    let sender = socket.sender();
    sender.try_send(vec![0; 32]).unwrap();
    let mut ready = pin!(poll_fn(|cx| Pin::new(&mut socket).poll_ready(cx)));
    let noop = &mut Context::from_waker(Waker::noop());
    assert!(ready.as_mut().poll(noop).is_pending());
    let behind = tokio::spawn(async move { sender.send(vec![1; 32]).await });
    yield_now().await;
    let reading = tokio::spawn(async move {
        for _ in 0..2 {
            read_frame(&mut client).await.unwrap();
        }
        client
    });
    timeout(GUARD, ready).await.unwrap().unwrap();
    // The limit of a second ends before the next ping, which would also make room.
    let second = Duration::from_secs(1);
    timeout(second, behind).await.unwrap().unwrap().unwrap();
    timeout(GUARD, reading).await.unwrap().unwrap();
}

/// Asks for the connection's state from another thread when it is dropped.
struct Asks {
    sender: Sender,
    was_free: Arc<AtomicBool>,
}

impl Wake for Asks {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Asks {
    fn drop(&mut self) {
        let sender = self.sender.clone();
        let (told, answered) = std_mpsc::channel();
        thread::spawn(move || {
            let _ = sender.buffered();
            let _ = told.send(());
        });
        let answered = answered.recv_timeout(Duration::from_secs(5));
        self.was_free.store(answered.is_ok(), Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_is_replaced_is_dropped_without_the_lock() {
    let (server, _client) = duplex(16);
    let socket = WebSocket::from_io(server, Config::new().max_outbox(1, 1000));
    let sender = socket.sender();
    sender.try_send(vec![0; 32]).unwrap();
    let was_free = Arc::new(AtomicBool::new(false));
    let mut send = pin!(sender.send(vec![1; 32]));
    let first = Waker::from(Arc::new(Asks {
        sender: socket.sender(),
        was_free: Arc::clone(&was_free),
    }));
    assert!(
        send.as_mut()
            .poll(&mut Context::from_waker(&first))
            .is_pending()
    );
    drop(first);
    assert!(
        send.as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    assert!(was_free.load(Ordering::SeqCst), "the lock was held");
}

/// Without tokio's budget, a task that sends while another thread writes could run forever and block its own
/// thread.
#[tokio::test(start_paused = true)]
async fn sending_in_another_task_spends_the_budget_of_that_task() {
    let (server, _client) = duplex(16);
    let socket = WebSocket::from_io(server, Config::new().max_outbox(100_000, 100 << 20));
    let sender = socket.sender();
    let polls = tokio::spawn(async move {
        let mut sending = pin!(async {
            for _ in 0..10_000 {
                sender.send(vec![0; 8]).await.unwrap();
            }
        });
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            sending.as_mut().poll(cx)
        })
        .await;
        polls
    });
    let polls = timeout(GUARD, polls).await.unwrap().unwrap();
    assert!(polls > 1, "ten thousand messages were sent in one poll");
}

/// The first flush is dropped. The second one comes after another message.
#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_what_was_sent_after_one_that_was_given_up() {
    let (server, mut client) = duplex(64);
    let mut socket = WebSocket::from_io(server, Config::new());
    socket.send(vec![0; 1000]).await.unwrap();
    sleep(MILLI).await;
    let given_up = timeout(MILLI, SinkExt::<Message>::flush(&mut socket)).await;
    assert!(given_up.is_err());
    socket.send(vec![1; 1000]).await.unwrap();
    let flushing = tokio::spawn(async move {
        SinkExt::<Message>::flush(&mut socket).await.unwrap();
        let left = socket.sender().buffered().bytes;
        (left, socket)
    });
    sleep(MILLI).await;
    for _ in 0..2 {
        read_frame(&mut client).await.unwrap();
    }
    let (left, _socket) = timeout(GUARD, flushing).await.unwrap().unwrap();
    assert_eq!(left, 0, "bytes were not written when the flush was ready");
}

/// The handler computes for two seconds, then returns. The peer answers the Close at once.
#[tokio::test(start_paused = true)]
async fn the_peer_has_its_time_to_answer_a_close_after_a_handler_that_ran_for_long() {
    let (told, mut senders) = mpsc::unbounded_channel();
    let handler = move |mut socket: WebSocket| {
        let told = told.clone();
        async move {
            let _ = told.send(socket.sender());
            socket.recv().await?;
            // Time passes within one poll.
            let mut advancing = pin!(advance(Duration::from_secs(2)));
            poll_fn(|cx| {
                let _ = advancing.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
            Ok::<_, BoxError>(())
        }
    };
    let config = Config::new().close_timeout(Duration::from_secs(1));
    let (mut client, _connections) =
        attach_layer(WebSocketLayer::new(handler).config(config), 64 * 1024).await;
    let sender = senders.recv().await.unwrap();
    write(&mut client, &frame(FIN | BINARY, b"compute")).await;
    read_close(&mut client).await;
    let _ = tokio::io::AsyncWriteExt::write_all(&mut client, &close(1000, "")).await;
    let closed = timeout(GUARD, sender.closed()).await.unwrap();
    assert!(closed.is_clean(), "{closed:?}");
}

/// The message and the peer's Close arrive together. The handler computes, waits for another task, and answers.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_asked_for_after_long_computing_goes_out_before_the_close() {
    let handler = |mut socket: WebSocket| async move {
        let question = socket.recv().await?.ok_or("a question")?;
        let mut advancing = pin!(advance(Duration::from_secs(2)));
        poll_fn(|cx| {
            let _ = advancing.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
        sleep(100 * MILLI).await;
        socket.send(question).await?;
        Ok::<_, BoxError>(())
    };
    let (mut client, _connections) = attach_layer(WebSocketLayer::new(handler), 64 * 1024).await;
    let bytes = [frame(FIN | BINARY, b"question"), close(1000, "")].concat();
    write(&mut client, &bytes).await;
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"question");
}

/// A payload whose drop does the same as that of [`Asks`].
struct Payload {
    _asks: Asks,
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &[7; 8192]
    }
}

/// A payload may be written, or discarded at an end.
#[tokio::test(start_paused = true)]
async fn a_payload_is_dropped_without_the_lock() {
    for (reads, closes, fails) in [
        (true, false, false),
        (true, true, false),
        (false, true, false),
        (false, false, true),
    ] {
        let (server, mut client) = duplex(64);
        let mut socket = WebSocket::from_io(server, Config::new());
        let was_free = Arc::new(AtomicBool::new(false));
        let payload = Payload {
            _asks: Asks {
                sender: socket.sender(),
                was_free: Arc::clone(&was_free),
            },
        };
        let sender = socket.sender();
        sender.try_send(vec![0; 32]).unwrap();
        sender.try_send(bytes::Bytes::from_owner(payload)).unwrap();
        yield_now().await;
        if closes {
            sender.close(CloseCode::NORMAL, "").unwrap();
        }
        if fails {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client, &[0xff; 10]).await;
            drop(client);
        } else if reads {
            read_frame(&mut client).await.unwrap();
            read_frame(&mut client).await.unwrap();
            drop(client);
        }
        let _ = timeout(GUARD, socket.recv()).await;
        drop(socket);
        sender.closed().await;
        sleep(MILLI).await;
        assert!(was_free.load(Ordering::SeqCst), "{reads} {closes} {fails}");
    }
}
