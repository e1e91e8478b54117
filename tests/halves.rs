//! A socket in two halves: each half works in its own task, and the connection is open until both are dropped.

mod support;

use std::{future::Future, pin::pin, time::Duration};

use futures_util::{SinkExt, StreamExt};
use support::{
    pipe,
    schedule::poll_once,
    settle,
    wire::{
        BINARY, CLOSE, FIN, PING, PONG, TEXT, assert_quiet, close, exchange_numbers, frame,
        read_close, read_frame, write,
    },
    within,
};
use tokio::{io::split, sync::oneshot, time::Instant};
use tower_websocket::{
    CloseCode, Config, Error, Message, ReadHalf, Side, WebSocket, WriteHalf,
    error::{RecvError, SendError, TryRecvError},
};

const LONG: Duration = Duration::from_secs(100);

const _: () = {
    const fn moved<T: Send + 'static>() {}
    moved::<WriteHalf>();
    moved::<ReadHalf>();
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_work_in_two_tasks() {
    const EACH: u32 = 3000;
    let config = Config::new().max_inbox(2, 60).max_outbox(2, 60);
    let (socket, client) = pipe::socket(config, 16);
    let (mut write_half, mut read_half) = socket.into_split();
    let sends = tokio::spawn(async move {
        for number in 0..EACH {
            write_half.send(number.to_be_bytes().to_vec()).await?;
        }
        write_half.flush().await?;
        Ok::<_, SendError>(write_half)
    });
    let receives = tokio::spawn(async move {
        for number in 0..EACH {
            let message = read_half.recv().await.unwrap().unwrap();
            assert_eq!(message.as_bytes(), number.to_be_bytes());
        }
        read_half
    });
    let client = tokio::spawn(exchange_numbers(client, EACH));
    let all = async { tokio::try_join!(sends, receives, client).unwrap() };
    let (write_half, read_half, mut client) = within(all).await;
    // Both halves make a socket again.
    let mut socket = read_half.reunite(write_half.unwrap()).unwrap();
    socket.send("whole").await.unwrap();
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"whole");
    drop(socket);
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn forwards_one_half_to_the_other() {
    let (socket, mut client) = pipe::socket(Config::new(), 64);
    let (write_half, read_half) = socket.into_split();
    let echo = tokio::spawn(read_half.forward(write_half));
    for number in 0..100 {
        write(&mut client, &frame(FIN | BINARY, &[number; 9])).await;
        assert_eq!(read_frame(&mut client).await.unwrap().payload, [number; 9]);
    }
    write(&mut client, &close(4000, "")).await;
    assert_eq!(read_close(&mut client).await, Some(4000));
    within(echo).await.unwrap().unwrap();
}

/// A gateway: the messages of each connection go to the other one.
#[tokio::test(start_paused = true)]
async fn forwards_between_two_connections() {
    let (one, mut near) = pipe::socket(Config::new(), 64);
    let (other, mut far) = pipe::socket(Config::new(), 64);
    let ((one_write, one_read), (other_write, other_read)) = (one.into_split(), other.into_split());
    let out = tokio::spawn(one_read.forward(other_write));
    let back = tokio::spawn(other_read.forward(one_write));
    write(&mut near, &frame(FIN | TEXT, b"over")).await;
    assert_eq!(read_frame(&mut far).await.unwrap().payload, b"over");
    write(&mut far, &frame(FIN | TEXT, b"back")).await;
    assert_eq!(read_frame(&mut near).await.unwrap().payload, b"back");
    write(&mut near, &close(1000, "")).await;
    assert_eq!(read_close(&mut far).await, Some(1000));
    write(&mut far, &close(1000, "")).await;
    assert_eq!(read_close(&mut near).await, Some(1000));
    within(out).await.unwrap().unwrap();
    within(back).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn is_open_until_both_halves_are_dropped() {
    for write_first in [true, false] {
        let (socket, mut client) = pipe::socket(Config::new().without_keepalive(), 64);
        let (mut write_half, mut read_half) = socket.into_split();
        let mut closed = pin!(read_half.closed());
        if write_first {
            drop(write_half);
            write(&mut client, &frame(FIN | TEXT, b"in")).await;
            let message = within(read_half.recv()).await.unwrap();
            assert_eq!(message, Some(Message::text("in")));
            assert!(poll_once(closed.as_mut()).is_pending());
            assert_quiet(&mut client, LONG).await;
            drop(read_half);
        } else {
            drop(read_half);
            write_half.send("out").await.unwrap();
            assert_eq!(read_frame(&mut client).await.unwrap().payload, b"out");
            assert!(poll_once(closed.as_mut()).is_pending());
            assert_quiet(&mut client, LONG).await;
            drop(write_half);
        }
        assert_eq!(read_close(&mut client).await, Some(1000));
        write(&mut client, &close(1000, "")).await;
        let closed = within(closed).await;
        assert_eq!((closed.side(), closed.is_clean()), (Side::Local, true));
    }
}

/// Otherwise these messages would fill the inbox, and a ping after them would not be read.
#[tokio::test(start_paused = true)]
async fn a_dropped_read_half_discards_messages() {
    let (socket, client) = pipe::socket(Config::new().max_inbox(1, 10), 64);
    let (mut write_half, read_half) = socket.into_split();
    let (mut reader, mut writer) = split(client);
    let floods = tokio::spawn(async move {
        for _ in 0..100 {
            write(&mut writer, &frame(FIN | BINARY, &[1; 90])).await;
        }
        write(&mut writer, &frame(FIN | PING, b"alive?")).await;
        writer
    });
    settle().await;
    drop(read_half);
    let pong = within(read_frame(&mut reader)).await.unwrap();
    assert_eq!(
        (pong.first, &pong.payload[..]),
        (FIN | PONG, &b"alive?"[..])
    );
    write_half.send("out").await.unwrap();
    assert_eq!(
        within(read_frame(&mut reader)).await.unwrap().payload,
        b"out"
    );
    let mut writer = floods.await.unwrap();
    write(&mut writer, &close(4001, "")).await;
    let closed = within(write_half.closed()).await;
    assert_eq!(closed.code().map(CloseCode::get), Some(4001));
    assert_eq!(write_half.send("late").await, Err(SendError::Closed));
}

#[tokio::test(start_paused = true)]
async fn one_half_closes_and_the_other_ends() {
    let (socket, mut client) = pipe::socket(Config::new(), 64);
    let (mut write_half, mut read_half) = socket.into_split();
    let receives = tokio::spawn(async move { (read_half.recv().await, read_half) });
    settle().await;
    write_half.send("last").await.unwrap();
    let code = CloseCode::new(4002).unwrap();
    let closes = tokio::spawn(async move { write_half.close(code, "done").await });
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"last");
    assert_eq!(read_close(&mut client).await, Some(4002));
    write(&mut client, &close(4002, "")).await;
    within(closes).await.unwrap().unwrap();
    let (received, mut read_half) = within(receives).await.unwrap();
    assert_eq!(received.unwrap(), None);
    assert_eq!(read_half.close_frame().unwrap().code(), code);
    assert!(matches!(read_half.try_recv(), Err(TryRecvError::Ended)));
}

#[tokio::test(start_paused = true)]
async fn both_halves_notice_a_peer_that_vanishes() {
    let (socket, client) = pipe::socket(Config::new(), 16);
    let (mut write_half, mut read_half) = socket.into_split();
    let sends = tokio::spawn(async move {
        while write_half.send(vec![1; 10_000]).await.is_ok() {}
        write_half.flush().await
    });
    let receives = tokio::spawn(async move { read_half.recv().await });
    settle().await;
    drop(client);
    assert_eq!(within(sends).await.unwrap(), Err(SendError::Closed));
    let received = within(receives).await.unwrap();
    assert!(matches!(received, Err(RecvError::Io(_))), "{received:?}");
}

/// The handler returns while another task has a half. The connection stays open, as with a whole socket.
#[tokio::test(start_paused = true)]
async fn a_half_keeps_the_connection_open_after_its_handler() {
    let (give, given) = oneshot::channel();
    let give = std::sync::Mutex::new(Some(give));
    let (mut client, connections) = pipe::attach(move |socket: WebSocket| {
        let give = give.lock().unwrap().take();
        async move {
            let (write_half, read_half) = socket.into_split();
            drop(read_half);
            give.unwrap().send(write_half).unwrap();
            Ok::<_, Error>(())
        }
    })
    .await;
    let mut write_half = within(given).await.unwrap();
    settle().await;
    let counts = connections.counts();
    assert_eq!((counts.open(), counts.handed_on()), (1, 1));
    write_half.send("still").await.unwrap();
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"still");
    drop(write_half);
    assert_eq!(read_close(&mut client).await, Some(1000));
    write(&mut client, &close(1000, "")).await;
    drop(client);
    assert_eq!(pipe::until_idle(&connections).await.open(), 0);
}

/// The write half is dropped later and without a panic, which does not change the code.
#[tokio::test(start_paused = true)]
async fn a_half_that_is_dropped_in_a_panic_closes_with_1011() {
    let (socket, mut client) = pipe::socket(Config::new(), 64);
    let (write_half, read_half) = socket.into_split();
    let panics = tokio::spawn(async move {
        let _half = read_half;
        panic!("on purpose");
    });
    assert!(panics.await.unwrap_err().is_panic());
    drop(write_half);
    assert_eq!(read_close(&mut client).await, Some(1011));
}

#[tokio::test(start_paused = true)]
async fn refuses_to_reunite_halves_of_different_connections() {
    let (one, mut near) = pipe::socket(Config::new(), 64);
    let (other, mut far) = pipe::socket(Config::new(), 64);
    let (write_one, read_one) = one.into_split();
    let (write_other, read_other) = other.into_split();
    let error = read_one.reunite(write_other).unwrap_err();
    assert_eq!(error.to_string(), "the halves are of different connections");
    let mut one = error.read.reunite(write_one).unwrap();
    let mut other = read_other.reunite(error.write).unwrap();
    other.try_send("out").unwrap();
    assert_eq!(read_frame(&mut far).await.unwrap().payload, b"out");
    write(&mut near, &frame(FIN | TEXT, b"in")).await;
    assert_eq!(one.recv().await.unwrap(), Some(Message::text("in")));
}

/// A write half that waits for room as a sink must not block other senders after it is dropped.
#[tokio::test(start_paused = true)]
async fn a_dropped_write_half_leaves_the_queue() {
    let (socket, mut client) = pipe::socket(Config::new().max_outbox(1, 10), 4);
    let (mut write_half, mut read_half) = socket.into_split();
    let sender = read_half.sender();
    write_half.send(vec![0; 9]).await.unwrap();
    assert!(poll_once(pin!(write_half.feed(vec![1; 9].into()))).is_pending());
    assert!(poll_once(pin!(SinkExt::<Message>::flush(&mut write_half))).is_pending());
    let waits = tokio::spawn(async move { sender.send(vec![2; 9]).await });
    settle().await;
    drop(write_half);
    for number in [0, 2] {
        let frame = within(read_frame(&mut client)).await.unwrap();
        assert_eq!(frame.payload, [number; 9]);
    }
    waits.await.unwrap().unwrap();
    // The close does not wait for the half that is gone.
    let start = Instant::now();
    write(&mut client, &close(1000, "")).await;
    assert_eq!(read_half.recv().await.unwrap(), None);
    assert_eq!(read_close(&mut client).await, Some(1000));
    assert!(start.elapsed() < Duration::from_millis(10));
}

/// A future of a half may be dropped after any poll, and no message is lost.
#[tokio::test(start_paused = true)]
async fn dropped_futures_lose_nothing() {
    let (socket, client) = pipe::socket(Config::new().max_outbox(1, 10).max_inbox(1, 10), 7);
    let (mut write_half, mut read_half) = socket.into_split();
    let (mut reader, mut writer) = split(client);
    let writes = tokio::spawn(async move {
        for number in 0..100_u8 {
            write(&mut writer, &frame(FIN | BINARY, &[number; 20])).await;
        }
        writer
    });
    let reads = tokio::spawn(async move {
        let mut payloads = Vec::new();
        while let Some(frame) = read_frame(&mut reader).await {
            if frame.first == FIN | CLOSE {
                break;
            }
            payloads.push(frame.payload);
        }
        payloads
    });
    let (mut received, mut sent) = (0, Vec::new());
    while received < 100 {
        if let std::task::Poll::Ready(message) = poll_once(pin!(read_half.recv())) {
            assert_eq!(message.unwrap().unwrap().as_bytes(), [received; 20]);
            received += 1;
        }
        let payload = vec![received; 20];
        if poll_once(pin!(write_half.send(payload.clone()))).is_ready() {
            sent.push(payload);
        }
        let _ = poll_once(pin!(write_half.flush()));
        settle().await;
    }
    within(write_half.flush()).await.unwrap();
    drop((write_half, read_half));
    assert_eq!(within(reads).await.unwrap(), sent);
    assert!(sent.len() > 50, "{}", sent.len());
    drop(writes);
}

fn _futures_of_halves_are_send(write_half: &mut WriteHalf, read_half: &mut ReadHalf) {
    fn is_send<F: Future + Send>(_: F) {}
    is_send(write_half.send("text"));
    is_send(write_half.ping());
    is_send(read_half.recv());
}
