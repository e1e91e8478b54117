//! The outbox: sends wait for room in the order in which they came, and `buffered` counts the messages
//! and bytes that are not written yet.

mod support;

use std::{pin::pin, sync::Arc, task::Poll};

use bytes::Bytes;
use support::{
    pipe, settle,
    wakers::{Count, poll_with},
    wire::{FIN, PING, frame, read_frame, read_payload, write},
    within,
};
use tokio::{io::AsyncReadExt, task::JoinSet};
use tower_websocket::{
    CloseCode, Config,
    error::{SendError, TrySendError},
};

#[tokio::test(start_paused = true)]
async fn wakes_every_waiting_send_also_after_others_were_dropped() {
    let config = Config::new().max_outbox(2, 100);
    let (socket, mut client) = pipe::socket(config, 16);
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
    // The first two, and one in the middle.
    for (number, abort) in aborts {
        if [1, 2, 5].contains(&number) {
            abort.abort();
        }
    }
    let mut arrived = Vec::new();
    for _ in 0..2 + 5 {
        let frame = within(read_frame(&mut client)).await;
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
async fn wakes_one_waiting_send_for_each_room_and_all_of_them_at_the_end() {
    let (socket, mut client) = pipe::socket(Config::new().max_outbox(1, 100), 16);
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
    // A dropped future takes no room.
    sends[0] = None;
    settle().await;
    for (waker, send) in wakers.iter().zip(&mut sends).skip(1) {
        let poll = poll_with(Arc::clone(waker), send.as_mut().unwrap().as_mut());
        assert!(poll.is_pending(), "there is no room");
        waker.reset();
    }
    assert_eq!(read_payload(&mut client).await, [0; 50]);
    settle().await;
    let mut waiting = Vec::new();
    let mut sent = 0;
    for (waker, send) in wakers.iter().zip(sends).skip(1) {
        let mut send = send.unwrap();
        if waker.get() > 0 && poll_with(Arc::clone(waker), send.as_mut()).is_ready() {
            sent += 1;
        } else {
            waker.reset();
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
async fn a_large_message_is_not_overtaken_for_ever_by_small_ones() {
    // The more small senders there are, the less room each write leaves.
    for small in [1, 2, 50] {
        let (socket, mut client) = pipe::socket(Config::new().max_outbox(8, 200), 64);
        for _ in 0..small {
            let sender = socket.sender();
            tokio::spawn(async move { while sender.send("small").await.is_ok() {} });
        }
        settle().await;
        let sender = socket.sender();
        let large = tokio::spawn(async move { sender.send(vec![1; 150]).await });
        let reads = async {
            let mut before = 0;
            while read_payload(&mut client).await.len() < 150 {
                before += 1;
                assert!(
                    before < 10_000,
                    "{before} of {small} small senders went first"
                );
            }
        };
        within(reads).await;
        large.await.unwrap().unwrap();
    }
}

/// For example, a pinned future in a `select!` whose other branch sends as well.
#[tokio::test(start_paused = true)]
async fn does_not_block_other_sends_while_the_first_is_not_polled() {
    // With the large buffer everything is written at once, and few events follow.
    for buffer in [16, 1024] {
        let (mut socket, mut client) = pipe::socket(Config::new().max_outbox(1, 100), buffer);
        let sender = socket.sender();
        sender.try_send(vec![0; 50]).unwrap();
        let mut waits = pin!(sender.send("first to wait"));
        assert!(poll_with(Arc::<Count>::default(), waits.as_mut()).is_pending());
        assert_eq!(read_payload(&mut client).await, [0; 50]);
        settle().await;
        for number in 0..3 {
            let sent = within(socket.send(vec![number])).await;
            sent.unwrap();
            assert_eq!(read_payload(&mut client).await, [number]);
        }
        waits.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn does_not_stay_full_while_the_first_send_is_not_polled() {
    let (socket, mut client) = pipe::socket(Config::new().max_outbox(1, 100), 1024);
    let sender = socket.sender();
    sender.try_send(vec![0; 50]).unwrap();
    let mut waits = pin!(sender.send("first to wait"));
    assert!(poll_with(Arc::<Count>::default(), waits.as_mut()).is_pending());
    assert_eq!(read_payload(&mut client).await, [0; 50]);
    for _ in 0..100 {
        settle().await;
        assert_eq!(sender.buffered(), Default::default());
        if sender.try_send("next").is_ok() {
            waits.await.unwrap();
            return;
        }
    }
    panic!("full, although nothing is unwritten");
}

#[tokio::test(start_paused = true)]
async fn try_send_returns_a_message_that_there_is_no_room_for() {
    let (socket, mut client) = pipe::socket(Config::new().max_outbox(2, 100), 16);
    let sender = socket.sender();
    sender.try_send("one").unwrap();
    sender.try_send("two").unwrap();
    let payload = Bytes::from(vec![3; 10]);
    let error = sender.try_send(payload.clone()).unwrap_err();
    assert_eq!(error, TrySendError::Full(payload.clone().into()));
    let returned = error.into_message().into_bytes();
    assert_eq!(returned.as_ptr(), payload.as_ptr(), "a copy");

    settle().await;
    sender.try_send(returned).unwrap();
    for expected in [&b"one"[..], b"two", &[3; 10]] {
        assert_eq!(read_payload(&mut client).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn max_outbox_limits_bytes_as_well_as_messages() {
    let (socket, _client) = pipe::socket(Config::new().max_outbox(100, 100), 16);
    let sender = socket.sender();
    // The outbox is empty, so the size does not matter.
    sender.try_send(vec![0; 500]).unwrap();
    assert_eq!(
        sender.try_send("more"),
        Err(TrySendError::Full("more".into()))
    );
}

#[tokio::test(start_paused = true)]
async fn try_send_returns_a_message_after_the_close() {
    let (socket, _client) = pipe::socket(Config::new(), 1024);
    let sender = socket.sender();
    sender.close(CloseCode::NORMAL, "").unwrap();
    let payload = Bytes::from(vec![3; 10]);
    let error = sender.try_send(payload.clone()).unwrap_err();
    assert_eq!(error, TrySendError::Closed(payload.clone().into()));
    let returned = error.into_message().into_bytes();
    assert_eq!(returned.as_ptr(), payload.as_ptr());
    assert_eq!(sender.send("late").await, Err(SendError::Closed));
}

// `buffered`.

#[tokio::test(start_paused = true)]
async fn buffered_counts_messages_and_the_bytes_of_their_frames() {
    let (socket, mut client) = pipe::socket(Config::new(), 100_000);
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
async fn buffered_counts_the_unwritten_bytes_of_partial_writes() {
    let (socket, mut client) = pipe::socket(Config::new(), 10);
    let sender = socket.sender();
    // Small messages share a buffer, and a large one has its own.
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
async fn buffered_counts_messages_until_their_shared_buffer_is_written() {
    let (socket, mut client) = pipe::socket(Config::new(), 10);
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
async fn buffered_does_not_count_control_frames() {
    let (socket, mut client) = pipe::socket(Config::new(), 64);
    let sender = socket.sender();
    for number in 0..50 {
        sender.try_send(vec![number; 20]).unwrap();
        write(&mut client, &frame(FIN | PING, &[number; 100])).await;
        for read in 0..2 {
            settle().await;
            let buffered = sender.buffered();
            let most = if read == 0 { 22 } else { 0 };
            assert!(buffered.bytes <= most, "{buffered:?} after {read} frames");
            let frame = within(read_frame(&mut client)).await;
            assert_eq!(frame.unwrap().payload[0], number);
        }
    }
    settle().await;
    assert_eq!(sender.buffered(), Default::default());
}
