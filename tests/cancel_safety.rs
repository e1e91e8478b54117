//! Futures of `recv` and `send` that are dropped at random polls, moved between tasks, selected and
//! joined: order is kept, nothing is lost, torn or doubled, and who waits is woken.
//!
//! A seeded generator takes a million steps: it polls a future a few times and drops it, lets other
//! tasks send, wait and be aborted, has the client write pieces of fragmented messages with pings
//! between them, and read as little as it likes. A step is one poll of a future, or one write, read
//! or rest of the client. The queues are so small that everybody waits for everybody. At the end of
//! each connection all wait as users do, so that a wakeup that was lost is noticed as well.
//!
//! A failure prints its seed; `SEED=<seed> cargo test --test cancel_safety` runs that one alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/pipe.rs"]
mod pipe;
#[path = "support/schedule.rs"]
mod schedule;
#[path = "support/wire.rs"]
mod wire;

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use schedule::{Random, poll_once, run};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    runtime,
    sync::{Barrier, mpsc, oneshot},
    task::{JoinSet, yield_now},
    time::timeout,
};
use tower_websocket::{
    BoxError, CloseCode, Config, Handler, Message, Sender, Side, WebSocket, WebSocketLayer,
    error::{SendError, TrySendError},
};
use wire::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close, frame};

/// Less than any wait of the connection. The clock is stopped: this passes only when all sleep.
const GUARD: Duration = Duration::from_secs(1);
/// The million, shared out by what a step costs.
const STEPS_OF_HOLDERS: usize = 600_000;
const STEPS_OF_HANDLERS: usize = 400_000;
/// What one connection lives through.
const OPERATIONS: usize = 1_000;

/// The senders of the server: the socket, clones that the test polls, and tasks.
const SOCKET: u8 = 0;
const CLONES: [u8; 3] = [1, 2, 3];
const TASKS: u8 = 4;
const SENDERS: usize = 20;
const CLIENT: u8 = 0x7f;

/// What has been promised, and what has been kept of it.
struct Ledger {
    steps: usize,
    /// Messages that anybody tried to send, so that each has a number of its own.
    attempts: u32,
    /// Messages of each sender that `send` took and the client has not seen.
    accepted: [VecDeque<u32>; SENDERS],
    /// Messages of the client that were received.
    received: u32,
    /// The handler came to its end.
    returned: bool,
}

type Shared = Arc<Mutex<Ledger>>;

impl Ledger {
    fn new() -> Shared {
        Arc::new(Mutex::new(Self {
            steps: 0,
            attempts: 0,
            accepted: Default::default(),
            received: 0,
            returned: false,
        }))
    }

    fn attempt(&mut self, sender: u8) -> (u32, Message) {
        self.attempts += 1;
        (self.attempts, message(sender, self.attempts))
    }

    fn accept(&mut self, sender: u8, number: u32) {
        self.accepted[usize::from(sender)].push_back(number);
    }

    /// The server received a message: the next one of the client.
    fn receive(&mut self, received: &Message) {
        assert_eq!(received, &message(CLIENT, self.received));
        self.received += 1;
    }

    /// The client read a message: the next one of its sender.
    fn arrive(&mut self, first: u8, payload: &[u8]) {
        let (sender, number) = name(payload);
        let expected = self.accepted[usize::from(sender)].pop_front();
        assert_eq!(Some(number), expected, "of sender {sender}");
        let expected = message(sender, number);
        assert_eq!(payload, expected.as_bytes());
        let opcode = if expected.is_text() { TEXT } else { BINARY };
        assert_eq!(first, FIN | opcode);
    }
}

/// Builds a message that tells who sent it and which it is; its length and kind follow from that.
fn message(sender: u8, number: u32) -> Message {
    static PATTERN: LazyLock<Vec<u8>> =
        LazyLock::new(|| (b'a'..=b'z').cycle().take(6000).collect());
    let mix = number.wrapping_mul(0x9e37_79b1) ^ u32::from(sender);
    let len = match mix >> 24 {
        0 if mix & 3 == 0 => 4096 + mix % 500,
        0..8 => 120 + mix % 300,
        _ => mix % 40,
    };
    let start = usize::from(mix.to_be_bytes()[1]);
    let mut payload = vec![sender];
    // Seven bits a byte are UTF-8.
    payload.extend((0..5).map(|digit| u8::try_from(number >> (7 * digit) & 0x7f).unwrap()));
    payload.extend_from_slice(&PATTERN[start..start + usize::try_from(len).unwrap()]);
    if number % 2 == 0 {
        String::from_utf8(payload).unwrap().into()
    } else {
        payload.into()
    }
}

fn name(payload: &[u8]) -> (u8, u32) {
    let digits = payload[1..6].iter().rev();
    let number = digits.fold(0, |number, digit| number << 7 | u32::from(*digit));
    (payload[0], number)
}

/// A client that writes and reads bit by bit.
struct Client {
    io: DuplexStream,
    random: Random,
    ledger: Shared,
    messages: u32,
    pings: u32,
    pongs: u32,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    /// It has sent its Close.
    closing: bool,
    /// The server's Close.
    closed: Option<Option<u16>>,
}

impl Client {
    fn new(io: DuplexStream, seed: u64, ledger: Shared) -> Self {
        Self {
            io,
            random: Random::new(!seed),
            ledger,
            messages: 0,
            pings: 0,
            pongs: 0,
            output: Vec::new(),
            written: 0,
            input: Vec::new(),
            closing: false,
            closed: None,
        }
    }

    /// Does one thing, or rests while others work.
    async fn step(&mut self) {
        self.ledger.lock().unwrap().steps += 1;
        let mut cx = Context::from_waker(Waker::noop());
        let most = self.random.pick(&[1, 3, 20, 500]);
        match self.random.below(5) {
            0 | 1 => {
                if self.output.is_empty() {
                    self.compose();
                }
                let _ = self.poll_write(&mut cx, most);
            }
            2 | 3 => drop(self.poll_read(&mut cx, most)),
            _ => yield_now().await,
        }
    }

    /// Makes the next message, in one frame or several with pings between them.
    fn compose(&mut self) {
        let message = message(CLIENT, self.messages);
        self.messages += 1;
        let mut opcode = if message.is_text() { TEXT } else { BINARY };
        let mut rest = message.as_bytes();
        for _ in 0..self.random.pick(&[0, 0, 1, 2, 5]) {
            let (fragment, after) = rest.split_at(self.random.below(rest.len() + 1));
            rest = after;
            self.output.extend(frame(opcode, fragment));
            opcode = CONTINUATION;
            if self.random.below(2) == 0 {
                self.pings += 1;
                self.output
                    .extend(frame(FIN | PING, &self.pings.to_be_bytes()));
            }
        }
        self.output.extend(frame(FIN | opcode, rest));
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<()> {
        let end = self.output.len().min(self.written + most);
        let bytes = &self.output[self.written..end];
        // The server may be gone once it has closed.
        let written = match Pin::new(&mut self.io).poll_write(cx, bytes) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(written) if self.closed.is_some() => written.unwrap_or(bytes.len()),
            Poll::Ready(written) => written.unwrap(),
        };
        self.written += written;
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        Poll::Ready(())
    }

    /// Reads some bytes; ready with whether there are any.
    fn poll_read(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<bool> {
        let mut bytes = [0; 500];
        let mut buffer = ReadBuf::new(&mut bytes[..most]);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut buffer);
        read.map(|read| {
            read.unwrap();
            self.input.extend_from_slice(buffer.filled());
            while self.take_frame() {}
            !buffer.filled().is_empty()
        })
    }

    fn take_frame(&mut self) -> bool {
        let (head, len) = match *self.input {
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            [_, len @ 0..126, ..] => (2, usize::from(len)),
            _ => return false,
        };
        if self.input.len() < head + len {
            return false;
        }
        assert_eq!(self.closed, None, "nothing follows a Close");
        let payload = &self.input[head..head + len];
        match self.input[0] {
            first if first == FIN | PONG => {
                let number = u32::from_be_bytes(payload.try_into().unwrap());
                // Pings that the newest one overtook need no answer.
                assert!(self.pongs < number && number <= self.pings);
                self.pongs = number;
            }
            first if first == FIN | CLOSE => {
                let code = payload.get(..2);
                self.closed = Some(code.map(|code| u16::from_be_bytes(code.try_into().unwrap())));
            }
            first => self.ledger.lock().unwrap().arrive(first, payload),
        }
        self.input.drain(..head + len);
        true
    }

    /// Says what it has begun to say, closes with a code or answers the Close of the server, and
    /// reads everything.
    async fn finish(&mut self, code: Option<u16>) {
        if let Some(code) = code {
            self.output.extend(close(code, ""));
            self.closing = true;
        }
        poll_fn(|cx| {
            loop {
                if self.closed.is_some() && !self.closing {
                    self.output.extend(close(1000, ""));
                    self.closing = true;
                }
                let mut idle = true;
                if !self.output.is_empty() && self.poll_write(cx, 500).is_ready() {
                    idle = false;
                }
                match self.poll_read(cx, 500) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(()),
                    Poll::Pending if idle => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
        })
        .await;
    }
}

/// Limits so low that everybody waits.
fn tight(random: &mut Random) -> (Config, usize) {
    let (messages, bytes) = random.pick(&[(1, 1), (1, 1000), (2, 60), (16, 64 * 1024)]);
    let config = Config::new().max_inbox(messages, bytes);
    // What waits at the end is written byte by byte where the buffer is small.
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

/// A future of `send` that is polled now and then.
struct Attempt {
    number: u32,
    send: Pin<Box<dyn Future<Output = Result<(), SendError>>>>,
}

/// The server's end, in the hands of the test.
struct Server {
    socket: WebSocket,
    random: Random,
    ledger: Shared,
    sends: [Option<Attempt>; CLONES.len()],
    tasks: JoinSet<()>,
}

impl Server {
    /// Polls a future of `recv` at most a few times, while the client goes on.
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

    /// Polls a future of `send` at most a few times, while the client goes on.
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

    /// Begins, goes on with, or drops the future of a clone.
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

    /// Lets another task send a few, or aborts all that do.
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
    let (io, client) = duplex(buffer);
    let ledger = Ledger::new();
    let mut client = Client::new(client, seed, Arc::clone(&ledger));
    let mut server = Server {
        socket: WebSocket::from_io(io, config),
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

    // From here on all wait as users do: a wakeup that was lost is noticed.
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
fn keeps_everything_whole_whenever_a_future_is_dropped() {
    run(STEPS_OF_HOLDERS, detached);
}

/// A handler that polls, drops, selects and joins, until the client has closed.
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
                // What is not done by then is dropped.
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
                // Two tasks of one name would not keep one order.
                let _ = task.await;
            }
            _ => yield_now().await,
        }
    }
}

/// Serves one connection, the handler beside it, and returns the client's end.
async fn attach(handler: impl Handler, config: Config, buffer: usize) -> DuplexStream {
    let service = WebSocketLayer::new(handler).config(config).into_service();
    pipe::open(service, buffer).await
}

async fn attached(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let (config, buffer) = tight(&mut random);
    let ledger = Ledger::new();
    let shared = Arc::clone(&ledger);
    let handler = move |socket| careless(socket, seed, Arc::clone(&shared));
    let client = attach(handler, config, buffer).await;
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
fn keeps_everything_whole_whenever_a_handler_drops_a_future() {
    run(STEPS_OF_HANDLERS, attached);
}

// Who is woken.

#[test]
fn reads_on_when_a_full_inbox_has_room_again() {
    paused(async {
        for (messages, bytes) in [(1, 1000), (3, 1000), (100, 1), (100, 30)] {
            let (io, mut client) = duplex(1000);
            let config = Config::new().max_inbox(messages, bytes);
            let mut socket = WebSocket::from_io(io, config);
            for number in 0..20 {
                wire::write(&mut client, &frame(FIN | BINARY, &[number; 10])).await;
            }
            // Until the inbox is full and the connection sleeps.
            settle().await;
            for number in 0..20 {
                let received = timeout(GUARD, socket.recv()).await;
                let received = received.unwrap_or_else(|_| panic!("{messages}, {bytes}: asleep"));
                assert_eq!(received.unwrap(), Some(Message::binary(vec![number; 10])));
            }
        }
    });
}

#[test]
fn reads_on_when_a_slow_handler_makes_room() {
    paused(async {
        let handler = async |mut socket: WebSocket| {
            // The default inbox is full by then.
            tokio::time::sleep(GUARD / 2).await;
            let mut received = 0;
            while socket.recv().await?.is_some() {
                received += 1;
            }
            socket.send(format!("{received}")).await?;
            Ok::<_, BoxError>(())
        };
        let mut client = attach(handler, Config::new(), 1000).await;
        for _ in 0..40 {
            wire::write(&mut client, &frame(FIN | TEXT, b"one more")).await;
        }
        wire::write(&mut client, &close(1000, "")).await;
        let answer = timeout(GUARD, wire::read_frame(&mut client)).await;
        assert_eq!(answer.expect("asleep").unwrap().payload, b"40");
    });
}

#[test]
fn sends_no_pong_behind_a_close() {
    paused(async {
        for pings in 1..4 {
            let (io, mut client) = duplex(64);
            let mut socket = WebSocket::from_io(io, Config::new().max_outbox(1, 100));
            let sender = socket.sender();
            // Output is blocked, and somebody waits for room.
            socket.send(vec![0; 200]).await.unwrap();
            let waits = tokio::spawn(async move { sender.send("more").await });
            settle().await;
            for ping in 0..pings {
                wire::write(&mut client, &frame(FIN | PING, &[ping])).await;
            }
            // It moves, so that the pings are read, and is blocked again.
            let mut some = [0; 20];
            client.read_exact(&mut some).await.unwrap();
            settle().await;
            socket.sender().close(CloseCode::NORMAL, "").unwrap();
            assert!(waits.await.unwrap().is_err());

            let mut rest = [0; 204 - 20];
            client.read_exact(&mut rest).await.unwrap();
            let mut frames = Vec::new();
            let reads = async {
                while let Some(frame) = wire::read_frame(&mut client).await {
                    frames.push(frame.first);
                    if frame.first == FIN | CLOSE {
                        settle().await;
                        wire::write(&mut client, &close(1000, "")).await;
                    }
                }
            };
            timeout(GUARD, reads).await.unwrap();
            assert_eq!(frames.last(), Some(&(FIN | CLOSE)), "{frames:x?}");
        }
    });
}

fn paused<F: Future>(test: F) -> F::Output {
    let mut runtime = runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test)
}

async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// A future that is polled in one task and then goes on in another, which has to be the one that
/// is woken.
async fn polled_elsewhere<F>(mut future: Pin<Box<F>>) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let first = tokio::spawn(async move {
        let poll = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        (future, poll)
    });
    let (future, poll) = first.await.unwrap();
    match poll {
        Poll::Ready(output) => output,
        Poll::Pending => tokio::spawn(future).await.unwrap(),
    }
}

#[test]
fn wakes_the_task_that_a_future_has_moved_to() {
    on_threads(async {
        const EACH: u8 = 250;
        for round in 0..4 {
            let (io, mut client) = duplex(16);
            let config = Config::new().max_inbox(1, 1).max_outbox(1, 1);
            let mut socket = WebSocket::from_io(io, config);
            let sender = socket.sender();
            let closed = sender.clone();
            let closed = polled_elsewhere(Box::pin(async move { closed.closed().await }));
            let closed = tokio::spawn(closed);
            let server = tokio::spawn(async move {
                for number in 0..EACH {
                    let recv = async move { (socket.recv().await, socket) };
                    let (received, back) = polled_elsewhere(Box::pin(recv)).await;
                    socket = back;
                    assert_eq!(received.unwrap(), Some(Message::binary(vec![number])));
                    for part in 0..3 {
                        let sender = sender.clone();
                        let send = async move { sender.send(vec![part; 20]).await };
                        polled_elsewhere(Box::pin(send)).await.unwrap();
                    }
                }
            });
            let client = tokio::spawn(async move {
                for number in 0..EACH {
                    wire::write(&mut client, &frame(FIN | BINARY, &[number])).await;
                    for part in 0..3 {
                        let frame = wire::read_frame(&mut client).await.unwrap();
                        assert_eq!(frame.payload, [part; 20]);
                    }
                }
                // The socket may be dropped before or behind this.
                let code = if round % 2 == 0 { 1000 } else { 3000 };
                let _ = client.write_all(&close(code, "")).await;
                let _ = wire::read_frame(&mut client).await;
            });
            tokio::try_join!(server, client, closed).unwrap();
        }
    });
}

/// Runs on two threads, and fails if that takes longer than anything but a hang could.
fn on_threads(test: impl Future<Output = ()> + Send + 'static) {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let test = async { timeout(15 * GUARD, tokio::spawn(test)).await };
    let ended = runtime.block_on(test).expect("a wakeup was lost");
    ended.unwrap();
}

/// The ways in which a handler may wait for several things at once.
#[derive(Clone, Copy, Debug)]
enum Way {
    Join,
    Select,
    /// Each future has a waker of its own, and is polled only when that was woken.
    Unordered,
    /// The futures are polled by different tasks.
    Tasks,
}

/// Receives until the end while it sends, and returns how many came.
async fn both_ways(mut socket: WebSocket, way: Way, count: u32) -> Result<u32, BoxError> {
    let sender = socket.sender();
    let send_all = move |from: u32, step: u32| {
        let sender = sender.clone();
        async move {
            let mut number = from;
            while number < count {
                sender.send(number.to_be_bytes().to_vec()).await?;
                number += step;
            }
            Ok::<_, SendError>(())
        }
    };
    let receive_all = async |socket: &mut WebSocket| {
        let mut received = 0;
        while let Some(message) = socket.recv().await? {
            assert_eq!(message.as_bytes(), u32::to_be_bytes(received));
            received += 1;
        }
        Ok::<_, BoxError>(received)
    };
    match way {
        Way::Join => {
            let (received, sent) = tokio::join!(receive_all(&mut socket), send_all(0, 1));
            sent?;
            received
        }
        Way::Select => {
            let sender = socket.sender();
            let (mut received, mut sent) = (0, 0);
            loop {
                tokio::select! {
                    message = socket.recv() => match message? {
                        Some(message) => {
                            assert_eq!(message.as_bytes(), u32::to_be_bytes(received));
                            received += 1;
                        }
                        None => return Ok(received),
                    },
                    result = sender.send(u32::to_be_bytes(sent).to_vec()), if sent < count => {
                        result?;
                        sent += 1;
                    }
                }
            }
        }
        Way::Unordered => {
            type Boxed<'a> = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send + 'a>>;
            let mut all: FuturesUnordered<Boxed<'_>> = FuturesUnordered::new();
            all.push(Box::pin(receive_all(&mut socket)));
            for part in 0..3 {
                let sends = send_all(part, 3);
                all.push(Box::pin(async move { Ok(sends.await.map(|()| 0)?) }));
            }
            let mut received = 0;
            while let Some(result) = all.next().await {
                received += result?;
            }
            Ok(received)
        }
        Way::Tasks => {
            let sends = [0, 1, 2].map(|part| tokio::spawn(send_all(part, 3)));
            let received = tokio::spawn(async move {
                let received = receive_all(&mut socket).await;
                (received.unwrap(), socket)
            });
            for sends in sends {
                sends.await??;
            }
            // The socket comes home before it is dropped.
            let (received, _socket) = received.await?;
            Ok(received)
        }
    }
}

async fn try_ways(count: u32, rounds: usize) {
    for round in 0..rounds {
        for way in [Way::Join, Way::Select, Way::Unordered, Way::Tasks] {
            let buffer = [7, 100][round % 2];
            let config = Config::new().max_inbox(1, 1).max_outbox(1, 1);
            let (results, mut result) = mpsc::unbounded_channel();
            let handler = move |socket| {
                let results = results.clone();
                async move {
                    results.send(both_ways(socket, way, count).await.unwrap())?;
                    Ok::<_, BoxError>(())
                }
            };
            let client = attach(handler, config, buffer).await;
            let (mut reader, mut writer) = tokio::io::split(client);
            let (all_read, has_read) = oneshot::channel();
            let writes = async {
                for number in 0..count {
                    let message = frame(FIN | BINARY, &number.to_be_bytes());
                    wire::write(&mut writer, &message).await;
                }
                has_read.await.unwrap();
                wire::write(&mut writer, &close(1000, "")).await;
            };
            let reads = async {
                let mut numbers = Vec::new();
                for _ in 0..count {
                    let payload = wire::read_frame(&mut reader).await.unwrap().payload;
                    numbers.push(u32::from_be_bytes(payload.try_into().unwrap()));
                }
                all_read.send(()).unwrap();
                assert_eq!(wire::read_close(&mut reader).await, Some(1000));
                numbers.sort_unstable();
                assert!(numbers.into_iter().eq(0..count), "{way:?}");
            };
            let both = async { tokio::join!(writes, reads) };
            let ended = timeout(15 * GUARD, both).await;
            ended.unwrap_or_else(|_| panic!("{way:?}: a wakeup was lost"));
            assert_eq!(result.recv().await, Some(count), "{way:?}");
        }
    }
}

#[test]
fn serves_handlers_that_wait_for_several_things_at_once() {
    // The clock is stopped, so that a wakeup that is lost is noticed at once.
    paused(try_ways(500, 2));
}

#[test]
fn serves_handlers_that_wait_for_several_things_at_once_on_threads() {
    on_threads(try_ways(500, 4));
}

#[test]
fn passes_messages_round_a_ring_of_connections() {
    on_threads(async {
        const COUNT: u32 = 500;
        const RING: usize = 4;
        let config = || Config::new().max_inbox(1, 1).max_outbox(1, 1);
        let (sockets, clients): (Vec<_>, Vec<_>) = (0..RING)
            .map(|_| {
                let (io, client) = duplex(16);
                (WebSocket::from_io(io, config()), client)
            })
            .unzip();
        let mut senders: Vec<_> = sockets.iter().map(WebSocket::sender).collect();
        senders.rotate_left(1);
        let mut tasks = JoinSet::new();
        // What one socket receives, another one sends.
        for (mut socket, sender) in sockets.into_iter().zip(senders) {
            tasks.spawn(async move {
                for _ in 0..COUNT {
                    let message = socket.recv().await.unwrap().unwrap();
                    sender.send(message).await.unwrap();
                }
                assert_eq!(socket.recv().await.unwrap(), None);
            });
        }
        let turn = Arc::new(Barrier::new(RING));
        for client in clients {
            let turn = Arc::clone(&turn);
            tasks.spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(client);
                let writes = async {
                    for number in 0..COUNT {
                        let message = frame(FIN | BINARY, &number.to_be_bytes());
                        wire::write(&mut writer, &message).await;
                    }
                };
                let reads = async {
                    for number in 0..COUNT {
                        let frame = wire::read_frame(&mut reader).await.unwrap();
                        assert_eq!(frame.payload, number.to_be_bytes());
                    }
                };
                tokio::join!(writes, reads);
                turn.wait().await;
                wire::write(&mut writer, &close(1000, "")).await;
                assert_eq!(wire::read_close(&mut reader).await, Some(1000));
            });
        }
        tasks.join_all().await;
    });
}
