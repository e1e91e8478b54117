//! Futures of `recv` and `send` that are dropped at random polls, selected and joined: no message is
//! lost, torn, repeated or out of order.
//!
//! A seeded generator takes a million steps. A step is one poll of a future, or one write, read or
//! yield of the client. The queues are so small that every side waits for the other. At the end of
//! each connection everything is awaited, so that a lost wakeup is noticed as well.
//!
//! A failure prints its seed; `SEED=<seed> cargo test --test cancel_safety` runs that one alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "cancel_safety/client.rs"]
mod client;
mod support;

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use client::{CLONES, Client, Ledger, SENDERS, SOCKET, Shared, TASKS};
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use support::{
    pipe,
    schedule::{Random, poll_once, run},
};
use tokio::{
    task::{JoinSet, yield_now},
    time::timeout,
};
use tower_websocket::{
    BoxError, CloseCode, Config, Message, Sender, Side, WebSocket, WebSocketLayer,
    error::{SendError, TrySendError},
};

/// Less than any timeout of the connection. The clock is paused, so this passes only when all tasks
/// are idle.
const GUARD: Duration = Duration::from_secs(1);
/// The million steps, divided by what a step costs.
const STEPS_OF_HOLDERS: usize = 600_000;
const STEPS_OF_HANDLERS: usize = 400_000;
/// The operations on one connection.
const OPERATIONS: usize = 1_000;

/// Limits that are so low that every side waits for the other.
fn tight(random: &mut Random) -> (Config, usize) {
    let (messages, bytes) = random.pick(&[(1, 1), (1, 1000), (2, 60), (16, 64 * 1024)]);
    let config = Config::new().max_inbox(messages, bytes);
    // With a buffer of one byte, the rest is written byte by byte at the end.
    let (messages, bytes, buffer) = random.pick(&[
        (1, 1, 1),
        (1, 1, 64),
        (2, 100, 7),
        (2, 100, 300),
        (5, 600, 1),
        (5, 600, 5000),
        (100, 20_000, 300),
    ]);
    let config = config
        .max_outbox(messages, bytes)
        .max_control_frames(u32::MAX, u32::MAX)
        .max_fragments(16_384, 16_384)
        .without_keepalive();
    (config, buffer)
}

/// A future of `send` that is kept between two polls.
struct Attempt {
    number: u32,
    send: Pin<Box<dyn Future<Output = Result<(), SendError>>>>,
}

/// The server's end, which the test polls.
struct Server {
    socket: WebSocket,
    random: Random,
    ledger: Shared,
    sends: [Option<Attempt>; CLONES.len()],
    tasks: JoinSet<()>,
}

impl Server {
    /// Polls a future of `recv` a few times, between steps of the client, and drops it.
    async fn recv(&mut self, client: &mut Client) {
        let mut recv = pin!(self.socket.recv());
        for _ in 0..=self.random.below(4) {
            self.ledger.lock().unwrap().steps += 1;
            if let Poll::Ready(received) = poll_once(recv.as_mut()) {
                let received = received.unwrap().unwrap();
                self.ledger.lock().unwrap().receive(&received);
                return;
            }
            client.step().await;
        }
    }

    /// Polls a future of `send` a few times, between steps of the client, and drops it.
    async fn send(&mut self, client: &mut Client) {
        let (number, message) = self.ledger.lock().unwrap().attempt(SOCKET);
        let mut send = pin!(self.socket.send(message));
        for _ in 0..=self.random.below(4) {
            self.ledger.lock().unwrap().steps += 1;
            if let Poll::Ready(sent) = poll_once(send.as_mut()) {
                sent.unwrap();
                self.ledger.lock().unwrap().accept(SOCKET, number);
                return;
            }
            client.step().await;
        }
    }

    /// Creates, polls or drops the future of a clone.
    fn send_from_clone(&mut self) {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.steps += 1;
        let which = self.random.below(CLONES.len());
        let slot = &mut self.sends[which];
        if slot.is_some() && self.random.below(4) == 0 {
            *slot = None;
            return;
        }
        let sender = self.socket.sender();
        let attempt = slot.get_or_insert_with(|| {
            let (number, message) = ledger.attempt(CLONES[which]);
            let send = Box::pin(async move { sender.send(message).await });
            Attempt { number, send }
        });
        if let Poll::Ready(sent) = poll_once(attempt.send.as_mut()) {
            sent.unwrap();
            ledger.accept(CLONES[which], attempt.number);
            *slot = None;
        }
    }

    fn try_send_from_clone(&mut self) {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.steps += 1;
        let which = self.random.pick(&CLONES);
        let (number, message) = ledger.attempt(which);
        match self.socket.sender().try_send(message.clone()) {
            Ok(()) => ledger.accept(which, number),
            Err(TrySendError::Full(returned)) => assert_eq!(returned, message),
            Err(error) => panic!("{error}"),
        }
    }

    /// Spawns a task that sends a few messages, or aborts all of these tasks.
    fn task(&mut self) {
        self.ledger.lock().unwrap().steps += 1;
        if self.tasks.len() == SENDERS - usize::from(TASKS) {
            self.tasks.abort_all();
            self.tasks = JoinSet::new();
            return;
        }
        let name = TASKS + u8::try_from(self.tasks.len()).unwrap();
        let (sender, ledger) = (self.socket.sender(), Arc::clone(&self.ledger));
        let count = self.random.below(5);
        self.tasks.spawn(send_all(name, sender, ledger, count));
    }
}

async fn send_all(name: u8, sender: Sender, ledger: Shared, count: usize) {
    for _ in 0..count {
        let (number, message) = ledger.lock().unwrap().attempt(name);
        if sender.send(message).await.is_err() {
            return;
        }
        let mut ledger = ledger.lock().unwrap();
        ledger.accept(name, number);
        ledger.steps += 1;
    }
}

async fn detached(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let (config, buffer) = tight(&mut random);
    let (socket, client) = pipe::socket(config, buffer);
    let ledger = Ledger::new();
    let mut client = Client::new(client, seed, Arc::clone(&ledger));
    let mut server = Server {
        socket,
        random,
        ledger: Arc::clone(&ledger),
        sends: Default::default(),
        tasks: JoinSet::new(),
    };
    for _ in 0..OPERATIONS {
        match server.random.below(12) {
            0..3 => server.recv(&mut client).await,
            3 => server.send(&mut client).await,
            4 | 5 => server.send_from_clone(),
            6 => server.try_send_from_clone(),
            7 if server.random.below(8) == 0 => server.task(),
            _ => client.step().await,
        }
    }

    // From here on everything is awaited, so that a lost wakeup is noticed.
    let Server {
        mut socket,
        mut random,
        sends,
        mut tasks,
        ..
    } = server;
    let sender = socket.sender();
    let code = random.pick(&[None, Some(1000), Some(3000), Some(4999)]);
    let receive = async {
        if code.is_none() {
            socket.close(CloseCode::NORMAL, "").await.unwrap();
        }
        while let Some(received) = socket.recv().await.unwrap() {
            ledger.lock().unwrap().receive(&received);
        }
    };
    let sends = sends.into_iter().zip(CLONES).map(async |(attempt, name)| {
        if let Some(Attempt { number, send }) = attempt {
            if send.await.is_ok() {
                ledger.lock().unwrap().accept(name, number);
            }
        }
    });
    let tasks = async { while tasks.join_next().await.is_some() {} };
    let all = async { tokio::join!(receive, join_all(sends), tasks, client.finish(code)) };
    timeout(GUARD, all).await.expect("a wakeup was lost");

    assert_eq!(client.closed, Some(Some(code.unwrap_or(1000))));
    let closed = timeout(GUARD, sender.closed()).await.unwrap();
    let side = code.map_or(Side::Local, |_| Side::Remote);
    assert_eq!((closed.side(), closed.is_clean()), (side, true));
    assert_eq!(sender.buffered(), Default::default());
    let ledger = ledger.lock().unwrap();
    assert!(ledger.accepted.iter().all(VecDeque::is_empty), "lost");
    if code.is_some() {
        assert_eq!(ledger.received, client.messages);
    }
    ledger.steps
}

#[test]
fn loses_no_message_when_futures_are_dropped() {
    run(STEPS_OF_HOLDERS, detached);
}

/// A handler that polls, drops, selects and joins futures until the client has closed.
async fn careless(mut socket: WebSocket, seed: u64, ledger: Shared) -> Result<(), BoxError> {
    let mut random = Random::new(seed.rotate_left(32));
    let sender = socket.sender();
    let attempt = |name| ledger.lock().unwrap().attempt(name);
    let accept = |name, number| ledger.lock().unwrap().accept(name, number);
    let receive = |received: Option<Message>| match received {
        Some(received) => {
            ledger.lock().unwrap().receive(&received);
            true
        }
        None => {
            ledger.lock().unwrap().returned = true;
            false
        }
    };
    let step = || ledger.lock().unwrap().steps += 1;
    loop {
        step();
        match random.below(10) {
            0..3 => {
                let mut recv = pin!(socket.recv());
                for _ in 0..=random.below(4) {
                    step();
                    let poll = poll_fn(|cx| Poll::Ready(recv.as_mut().poll(cx))).await;
                    if let Poll::Ready(received) = poll {
                        if !receive(received?) {
                            return Ok(());
                        }
                        break;
                    }
                    yield_now().await;
                }
            }
            3 => {
                let (number, message) = attempt(SOCKET);
                let mut send = pin!(socket.send(message));
                for _ in 0..=random.below(4) {
                    step();
                    let poll = poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx))).await;
                    if let Poll::Ready(sent) = poll {
                        sent?;
                        accept(SOCKET, number);
                        break;
                    }
                    yield_now().await;
                }
            }
            4 => {
                let (number, message) = attempt(CLONES[0]);
                tokio::select! {
                    biased;
                    received = socket.recv() => if !receive(received?) {
                        return Ok(());
                    },
                    sent = sender.send(message) => {
                        sent?;
                        accept(CLONES[0], number);
                    }
                }
            }
            5 => {
                let sends = send_all(CLONES[1], sender.clone(), Arc::clone(&ledger), 2);
                let (received, ()) = tokio::join!(socket.recv(), sends);
                if !receive(received?) {
                    return Ok(());
                }
            }
            6 => {
                let mut sends: FuturesUnordered<_> = (0..3)
                    .map(|clone| {
                        let (sender, ledger) = (sender.clone(), Arc::clone(&ledger));
                        send_all(TASKS + clone, sender, ledger, 2)
                    })
                    .collect();
                // The other futures are dropped.
                for _ in 0..random.below(3) {
                    sends.next().await;
                }
            }
            7 if random.below(8) == 0 => {
                let ledger = Arc::clone(&ledger);
                let name = TASKS + 3;
                let sends = send_all(name, sender.clone(), ledger, random.below(20));
                let task = tokio::spawn(sends);
                for _ in 0..random.below(20) {
                    yield_now().await;
                }
                task.abort();
                // Two tasks with one index would have no order.
                let _ = task.await;
            }
            _ => yield_now().await,
        }
    }
}

async fn attached(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let (config, buffer) = tight(&mut random);
    let ledger = Ledger::new();
    let shared = Arc::clone(&ledger);
    let handler = move |socket| careless(socket, seed, Arc::clone(&shared));
    let layer = WebSocketLayer::new(handler).config(config);
    let (client, _) = pipe::attach_layer(layer, buffer).await;
    let mut client = Client::new(client, seed, Arc::clone(&ledger));
    for _ in 0..2 * OPERATIONS {
        client.step().await;
    }
    let code = random.pick(&[1000, 3000, 4999]);
    let finish = client.finish(Some(code));
    timeout(GUARD, finish).await.expect("a wakeup was lost");
    assert_eq!(client.closed, Some(Some(code)), "the handler failed");
    let ledger = ledger.lock().unwrap();
    assert!(ledger.returned);
    assert!(ledger.accepted.iter().all(VecDeque::is_empty), "lost");
    assert_eq!(ledger.received, client.messages);
    ledger.steps
}

#[test]
fn loses_no_message_when_a_handler_drops_futures() {
    run(STEPS_OF_HANDLERS, attached);
}
