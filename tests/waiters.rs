//! Thousands of tasks wait for room to send: each is woken once, in the order of their calls.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use support::wire;
use tokio::{
    io::{DuplexStream, duplex},
    task::{JoinHandle, JoinSet, yield_now},
    time::timeout,
};
use tower_websocket::{Config, Message, Sender, WebSocket};
use wire::read_frame;

const GUARD: Duration = Duration::from_secs(60);
const WAITING: usize = 8000;

/// Counts how often a task is woken.
struct Counted {
    task: Waker,
    wakes: Arc<AtomicUsize>,
}

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        self.task.wake_by_ref();
    }
}

/// Sends a message, and returns how often its future was polled.
async fn send(sender: Sender, message: Message, wakes: Arc<AtomicUsize>) -> usize {
    let mut send = pin!(sender.send(message));
    let mut polls = 0;
    let mut waker = None;
    let sent = poll_fn(|cx| {
        polls += 1;
        let waker = waker.get_or_insert_with(|| {
            let (task, wakes) = (cx.waker().clone(), Arc::clone(&wakes));
            Waker::from(Arc::new(Counted { task, wakes }))
        });
        send.as_mut().poll(&mut Context::from_waker(waker))
    });
    sent.await.unwrap();
    polls
}

/// Has many tasks send messages with consecutive numbers, the lowest first.
fn send_all(
    socket: &WebSocket,
    wakes: &Arc<AtomicUsize>,
    message: impl Fn(u32) -> Vec<u8>,
) -> JoinSet<usize> {
    let mut tasks = JoinSet::new();
    for number in 0..WAITING as u32 {
        let message = Message::from(message(number));
        tasks.spawn(send(socket.sender(), message, Arc::clone(wakes)));
    }
    tasks
}

/// Reads the numbers of `messages` messages.
fn read_numbers(mut client: DuplexStream, messages: usize) -> JoinHandle<(Vec<u32>, DuplexStream)> {
    tokio::spawn(async move {
        let mut numbers = Vec::new();
        for _ in 0..messages {
            let payload = read_frame(&mut client).await.unwrap().payload;
            numbers.push(u32::from_be_bytes(payload[..4].try_into().unwrap()));
        }
        (numbers, client)
    })
}

fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut payload = vec![0; len];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}

#[tokio::test(start_paused = true)]
async fn wakes_each_once_in_the_order_in_which_they_came() {
    for (len, config) in [
        (32, Config::new()),
        (32, Config::new().max_outbox(1, 1000)),
        (32, Config::new().max_outbox(100, 200)),
        (3000, Config::new()),
        (3000, Config::new().max_outbox(7, 10_000)),
    ] {
        let (server, client) = duplex(4096);
        let socket = WebSocket::from_io(server, config.clone());
        let wakes = Arc::default();
        let tasks = send_all(&socket, &wakes, |number| numbered(number, len));
        // All tasks wait, except those that have room.
        for _ in 0..WAITING {
            yield_now().await;
        }
        let numbers = read_numbers(client, WAITING);
        let polls = timeout(GUARD, tasks.join_all()).await.unwrap();
        let what = format!("{len} bytes, {config:?}");
        assert!(polls.iter().all(|&polls| polls <= 2), "{what}");
        let wakes = wakes.load(Ordering::SeqCst);
        assert!(wakes <= WAITING + 16, "{wakes} wakes: {what}");
        let expected: Vec<u32> = (0..WAITING as u32).collect();
        let (numbers, _client) = timeout(GUARD, numbers).await.unwrap().unwrap();
        assert!(numbers == expected, "{what}");
    }
}

/// The first thousand futures are not polled again.
#[tokio::test(start_paused = true)]
async fn passes_over_those_that_nobody_polls() {
    const FIRST: usize = 1000;
    let (server, client) = duplex(4096);
    let socket = WebSocket::from_io(server, Config::new().max_outbox(3, 1000));
    let sender = socket.sender();
    let filled: Vec<u32> = (0..3).collect();
    for &number in &filled {
        sender.try_send(numbered(number, 32)).unwrap();
    }
    let mut first: Vec<_> = (0..FIRST)
        .map(|_| Box::pin(sender.send(numbered(u32::MAX, 32))))
        .collect();
    for send in &mut first {
        let poll = send.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
    }
    let wakes = Arc::default();
    let tasks = send_all(&socket, &wakes, |number| numbered(number, 32));
    let numbers = read_numbers(client, filled.len() + WAITING);
    timeout(GUARD, tasks.join_all()).await.unwrap();
    assert!(wakes.load(Ordering::SeqCst) <= WAITING + 16);
    let expected: Vec<u32> = filled.into_iter().chain(0..WAITING as u32).collect();
    let (numbers, _client) = timeout(GUARD, numbers).await.unwrap().unwrap();
    assert!(numbers == expected);
    // These futures have kept their places in the queue.
    for mut send in first {
        let poll = send.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if poll.is_pending() {
            return;
        }
        assert_eq!(poll, Poll::Ready(Ok(())));
    }
    panic!("there was room for three");
}

#[tokio::test(start_paused = true)]
async fn gives_the_room_of_one_that_is_dropped_to_the_next() {
    let (server, client) = duplex(16);
    let socket = WebSocket::from_io(server, Config::new().max_outbox(1, 1000));
    let sender = socket.sender();
    sender.try_send(numbered(0, 32)).unwrap();
    let mut waiting: Vec<_> = (1..=20)
        .map(|number| Box::pin(sender.send(numbered(number, 32))))
        .collect();
    for send in &mut waiting {
        let poll = send.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
    }
    let wakes = Arc::default();
    let last = tokio::spawn(send(socket.sender(), numbered(21, 32).into(), wakes));
    yield_now().await;
    let numbers = read_numbers(client, 2);
    // Some futures are dropped before they are woken, and some after it.
    for send in waiting {
        drop(send);
        yield_now().await;
    }
    assert_eq!(timeout(GUARD, last).await.unwrap().unwrap(), 2);
    let (numbers, _client) = timeout(GUARD, numbers).await.unwrap().unwrap();
    assert_eq!(numbers, [0, 21]);
}
