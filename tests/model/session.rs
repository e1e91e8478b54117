//! A session: its steps, and the assertions between them.

use std::{sync::Mutex, time::Duration};

use tokio::{
    io::duplex,
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::yield_now,
    time::{advance, sleep},
};
use tower_websocket::{CloseCode, Connections, Sender, WebSocket, WebSocketLayer};

use super::{
    MILLI, SECOND,
    actors::{Actor, Order, handle, try_send},
    oracle::Shared,
    peer::{Answer, Peer},
    settings::{config, limits},
    stream::Stream,
    words::{self, BESIDE, End, HOLDER, Limits, Place, SENDERS, TASKS, TEST},
};
use crate::support::{pipe, schedule::Random, wire};

/// A kind of step in a session.
#[derive(Clone, Copy, Debug)]
enum Step {
    Compose,
    Write,
    Read,
    Holder,
    Sender,
    Yield,
    Rest,
    Clock,
    Wait,
}

/// Chooses how often each step occurs: some peers hardly read, some handlers hardly receive.
fn weights(random: &mut Random) -> [(usize, Step); 9] {
    [
        (random.pick(&[0, 20, 50, 100]), Step::Compose),
        (random.pick(&[20, 100, 200]), Step::Write),
        (random.pick(&[10, 100, 200]), Step::Read),
        (random.pick(&[20, 100, 200]), Step::Holder),
        (random.pick(&[0, 50, 200]), Step::Sender),
        (80, Step::Yield),
        (random.pick(&[0, 10, 30]), Step::Rest),
        (random.pick(&[0, 5, 20, 100]), Step::Clock),
        (random.pick(&[0, 1, 2]), Step::Wait),
    ]
}

/// The behaviour of a peer while time passes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    /// It answers pings.
    Answers,
    /// It sends a message where it should answer.
    Talks,
    /// It answers pings with wrong pongs.
    Lies,
}

impl Manner {
    fn name(self) -> &'static str {
        match self {
            Self::Answers => "the peer waits, seconds:",
            Self::Talks => "the peer talks, seconds:",
            Self::Lies => "the peer lies, seconds:",
        }
    }
}

type Mailbox = mpsc::UnboundedSender<Order>;

pub(crate) struct Session {
    pub(crate) random: Random,
    pub(crate) oracle: Shared,
    pub(crate) peer: Peer,
    holder: Mailbox,
    pub(crate) handler: Option<Mailbox>,
    pub(crate) senders: Vec<Mailbox>,
    pub(crate) sender: Sender,
    connections: Option<Connections>,
    weights: [(usize, Step); 9],
    pub(crate) limits: Limits,
    /// The maximum number of milliseconds by which the clock advances in a step.
    farthest: usize,
    /// The last number that was used for a close code.
    pub(crate) code: u16,
}

fn actor(oracle: &Shared, id: usize) -> (Mailbox, Actor) {
    let (mailbox, orders) = mpsc::unbounded_channel();
    (mailbox, Actor::new(oracle.clone(), id, orders))
}

impl Session {
    pub(crate) async fn open(mut random: Random, seed: u64, place: Place) -> Self {
        let limits = limits(&mut random);
        let oracle = Shared::new(limits.clone(), place);
        let (holder, holds) = actor(&oracle, HOLDER);
        let (io, mut client) = duplex(limits.capacity);
        let io = Stream::new(io, oracle.clone(), seed);
        let (sender, handler, connections) = if place == Place::Alone {
            let socket = WebSocket::from_io(io, config(&limits));
            let sender = socket.sender();
            tokio::spawn(holds.hold_elsewhere(socket));
            (sender, None, None)
        } else {
            let (handler, handles) = actor(&oracle, BESIDE);
            let (opened, open) = oneshot::channel();
            let once = Mutex::new(Some((holds, handles, opened)));
            let layer = WebSocketLayer::new(move |socket: WebSocket| {
                let (holds, handles, opened) = once.lock().unwrap().take().unwrap();
                let _ = opened.send(socket.sender());
                handle(socket, place, holds, handles)
            })
            .config(config(&limits));
            let connections = layer.connections();
            pipe::serve_on(io, layer.into_service());
            wire::upgrade(&mut client, &wire::handshake("/")).await;
            (open.await.unwrap(), Some(handler), Some(connections))
        };
        let mut senders = Vec::new();
        for id in (TASKS..SENDERS).take(1 + random.below(SENDERS - TASKS)) {
            let (mailbox, actor) = actor(&oracle, id);
            tokio::spawn(actor.send_elsewhere(sender.clone()));
            senders.push(mailbox);
        }
        let (watcher, watching) = (sender.clone(), oracle.clone());
        tokio::spawn(async move {
            let closed = watcher.closed().await;
            watching.lock().learn(&closed);
        });
        Self {
            weights: weights(&mut random),
            farthest: random.pick(&[100, 900, 900, 5000]),
            peer: Peer::new(client, seed, oracle.clone()),
            random,
            oracle,
            holder,
            handler,
            senders,
            sender,
            connections,
            limits,
            code: 0,
        }
    }

    /// Runs the session, and returns the number of its steps.
    pub(crate) async fn run(mut self) -> usize {
        let length = match self.random.below(400) {
            0 => 10_000,
            1..20 => self.random.below(2_000),
            20..200 => 20 + self.random.below(100),
            _ => 100 + self.random.below(500),
        };
        let after_end = self.random.pick(&[10, 60, 200]);
        let mut left = length;
        let mut steps = 0;
        while left > 0 {
            left -= 1;
            steps += 1;
            self.oracle.lock().step();
            let is_open = self.oracle.lock().is_open();
            if self.random.below(if is_open { length } else { 15 }) == 0 {
                self.end().await;
            } else {
                self.step().await;
            }
            self.oracle.check();
            if !self.oracle.lock().is_open() {
                // It may have ended.
                left = left.min(after_end);
            }
        }
        self.finish().await;
        steps
    }

    /// Lets others work for a moment.
    async fn yield_some(&mut self) {
        for _ in 0..self.random.below(3) {
            yield_now().await;
        }
    }

    async fn step(&mut self) {
        let all: usize = self.weights.iter().map(|(weight, _)| weight).sum();
        let mut choice = self.random.below(all);
        let mut weights = self.weights.into_iter();
        let step = loop {
            let (weight, step) = weights.next().unwrap();
            match choice.checked_sub(weight) {
                Some(rest) => choice = rest,
                None => break step,
            }
        };
        match step {
            Step::Compose => match self.random.below(12) {
                0 | 1 => self.peer.compose_ping(),
                2 => self.peer.compose_pong(),
                3 => self.peer.compose_noise(),
                _ => self.peer.compose_message(),
            },
            Step::Write => {
                if !self.peer.has_output() && self.random.below(2) == 0 {
                    self.peer.compose_message();
                }
                let most = self.random.pick(&[1, 3, 20, 500, 100_000]);
                self.peer.write(most);
            }
            Step::Read => drop(self.peer.read(self.random.pick(&[1, 3, 20, 500, 100_000]))),
            Step::Holder => self.order_holder(),
            Step::Sender => self.order_sender(),
            Step::Yield => yield_now().await,
            Step::Rest => {
                let writes = self.random.below(2) == 0;
                self.rest(writes).await;
            }
            Step::Clock => self.move_clock().await,
            Step::Wait => self.wait().await,
        }
        self.yield_some().await;
    }

    /// Gives an order. An actor that is busy with an earlier order usually gets none.
    pub(crate) fn order(&mut self, mailbox: &Mailbox, id: usize, order: Order) {
        let mut oracle = self.oracle.lock();
        let waits = oracle.waits[id];
        let busy = waits.message || waits.room || waits.end;
        if oracle.gone[id] || (busy && self.random.below(3) > 0) {
            return;
        }
        oracle.note(order.name(), id);
        let _ = mailbox.send(order);
    }

    fn order_holder(&mut self) {
        let order = match self.random.below(40) {
            0..12 => Order::Receive,
            12..14 => Order::ReceiveAll,
            14..18 => Order::Echo,
            18..26 => Order::Send,
            26..28 => Order::TrySend,
            28..31 => Order::Feed,
            31..33 => Order::Flush,
            33..35 => Order::Both,
            35..38 => Order::Either,
            38 => Order::CloseInvalid,
            _ => Order::Closed,
        };
        self.order(&self.holder.clone(), HOLDER, order);
    }

    fn order_sender(&mut self) {
        let which = self.random.below(self.senders.len());
        let order = match self.random.below(20) {
            0..14 => Order::Send,
            14..19 => Order::TrySend,
            _ => Order::Closed,
        };
        self.order(&self.senders[which].clone(), TASKS + which, order);
    }

    /// Returns a number that this session has not used yet, for a close code.
    pub(crate) fn code(&mut self) -> u16 {
        self.code += 1;
        self.code
    }

    /// Does something that may end the connection.
    pub(crate) async fn end(&mut self) {
        let local = 3000 + self.code();
        let remote = self.random.pick(&[
            Some(4000 + self.code),
            Some(4000 + self.code),
            Some(1000),
            Some(1001),
            None,
        ]);
        let holder = self.holder.clone();
        let choice = self.random.below(20);
        if choice < 9 && self.random.below(3) == 0 {
            // The Close or violation comes together with messages that are waited for.
            let order = self.random.pick(&[Order::Echo, Order::Receive]);
            self.order(&holder, HOLDER, order);
            self.drain(true).await;
            for _ in 0..=self.random.below(3) {
                self.peer.compose_message();
            }
        }
        match choice {
            0..3 => self.peer.compose_close(remote),
            3..7 => self.peer.compose_violation(),
            7 => {
                self.peer.write_all();
                self.peer.shut_down();
            }
            8 => {
                self.peer.write_all();
                self.peer.reset();
            }
            9 => self.deaf().await,
            10 => self.order(&holder, HOLDER, Order::Close(local)),
            11 => self.order(&holder, HOLDER, Order::CloseSink),
            12 => {
                let which = self.random.below(self.senders.len());
                let order = Order::Close(local);
                self.order(&self.senders[which].clone(), TASKS + which, order);
            }
            13 => self.order(&holder, HOLDER, Order::DropSocket),
            14..17 => {
                let ends = [End::Ok, End::Error, End::Frame(local), End::Panic];
                let end = self.random.pick(&ends);
                self.order(&holder, HOLDER, Order::Finish(end));
            }
            17 | 18 => {
                let ends = [End::Ok, End::Error, End::Frame(local), End::Panic];
                let end = self.random.pick(&ends);
                if let Some(handler) = self.handler.clone() {
                    self.order(&handler, BESIDE, Order::Finish(end));
                }
            }
            _ => self.peer.shut_down(),
        }
        if choice < 7 && self.random.below(2) == 0 {
            self.peer.write_all();
        }
        self.yield_some().await;
    }

    /// Waits until all tasks sleep.
    async fn settle(&mut self) {
        // The clock moves only when no task can run.
        sleep(MILLI).await;
        self.oracle.lock().settle();
    }

    /// Has the peer read everything, and with `writes` write everything, until all tasks sleep.
    async fn drain(&mut self, writes: bool) {
        let mut quiet = 0;
        while quiet < 2 {
            let moved = self.peer.read_all() | (writes && self.peer.write_all());
            if moved {
                quiet = 0;
                yield_now().await;
                yield_now().await;
            } else {
                quiet += 1;
                self.settle().await;
            }
        }
        if self.peer.read_all() {
            Box::pin(self.drain(writes)).await;
        }
    }

    /// Waits until all tasks sleep and the peer has read everything. Then runs the assertions for that moment.
    pub(crate) async fn rest(&mut self, writes: bool) {
        self.drain(writes).await;
        let mut oracle = self.oracle.lock();
        oracle.note("all rest", u8::from(writes));
        oracle.rest(writes && self.peer.has_output());
        let (is_open, has_room) = (oracle.is_open(), oracle.has_room());
        drop(oracle);
        self.peer.rest(has_room);
        if is_open {
            let buffered = self.sender.buffered();
            let mut oracle = self.oracle.lock();
            oracle.ensure(buffered.bytes == 0 && buffered.messages == 0, |_| {
                format!("{buffered:?} although everything is read")
            });
        }
        if self.random.below(2) == 0 {
            let sent = try_send(&self.oracle, TEST, &self.sender);
            let mut oracle = self.oracle.lock();
            oracle.ensure(sent || !is_open, |_| "there is no room at rest".to_owned());
        }
    }

    async fn move_clock(&mut self) {
        let far = self.random.pick(&[1, 1, 10, 100, self.farthest]);
        let far = MILLI * u32::try_from(1 + self.random.below(far)).unwrap();
        self.oracle.lock().note("the clock moves", far.as_millis());
        if self.random.below(2) == 0 {
            // `sleep` stops at each timer, so they fire in their order. `advance` skips to the end.
            sleep(far).await;
            self.oracle.lock().settle();
        } else {
            advance(far).await;
        }
    }

    /// Lets time pass with a peer that reads, and otherwise behaves as its manner says.
    async fn wait(&mut self) {
        let quarters = 4 * self.random.pick(&[1, 5, 15, 40]);
        let manner = self.random.pick(&[
            Manner::Answers,
            Manner::Answers,
            Manner::Talks,
            Manner::Lies,
        ]);
        self.oracle.lock().note(manner.name(), quarters / 4);
        self.peer.answers = match manner {
            Manner::Answers => Answer::Pong,
            Manner::Talks => Answer::Message,
            Manner::Lies => Answer::WrongPong,
        };
        self.drain(true).await;
        let has_room = self.oracle.lock().has_room();
        for _ in 0..quarters {
            self.oracle.lock().step();
            self.drain(true).await;
            sleep(SECOND / 4).await;
        }
        if let Some((silence, answer)) = self.limits.keepalive {
            let over = silence + answer + self.limits.close + 2 * SECOND;
            // A ping that does not fit into the pipe at once is not timed.
            let unblocked = self.limits.capacity >= 64 && !self.limits.pieces;
            let long = SECOND / 4 * quarters > over;
            if manner == Manner::Lies && has_room && unblocked && long {
                self.oracle.lock().must_be_over();
            }
        }
        self.peer.answers = Answer::Pong;
        self.rest(true).await;
    }

    /// Lets time pass while the peer does nothing, until the connection must be over.
    async fn deaf(&mut self) {
        self.settle().await;
        let has_room = self.oracle.lock().has_room();
        let has_begun = self.oracle.lock().has_begun();
        let Limits {
            keepalive,
            write,
            assembly,
            close,
            ..
        } = self.limits;
        if keepalive.is_none() && !has_begun {
            // No deadline is set.
            return;
        }
        let (silence, answer) = keepalive.unwrap_or_default();
        let all = silence + 10 * answer + 20 * write + assembly + close + 3 * SECOND;
        self.oracle
            .lock()
            .note("the peer is deaf, ms", all.as_millis());
        if self.random.below(2) == 0 {
            sleep(all).await;
        } else {
            for _ in 0..all.as_secs() {
                advance(SECOND).await;
                self.yield_some().await;
            }
        }
        self.settle().await;
        self.settle().await;
        if has_room && !self.limits.pieces {
            self.oracle.lock().must_be_over();
        }
    }

    /// Ends the session, and asserts that no task is left.
    async fn finish(&mut self) {
        let is_open = self.oracle.lock().is_open();
        if is_open {
            let code = 4000 + self.code();
            match self.random.below(3) {
                0 => self.peer.compose_close(Some(code)),
                1 => self.peer.compose_violation(),
                _ => {
                    self.oracle.lock().note("a sender closes", 0);
                    self.oracle.lock().close(3000 + self.code);
                    let code = CloseCode::new(3000 + self.code).unwrap();
                    let reason = words::reason(code.get());
                    self.sender.close(code, reason).unwrap();
                }
            }
        }
        let silent = self.random.below(4) == 0;
        self.oracle
            .lock()
            .note("the session ends", u8::from(silent));
        let _ = self.holder.send(Order::ReceiveAll);
        let bound = self.limits.close + self.limits.write + self.limits.assembly + 90 * SECOND;
        let mut waited = Duration::ZERO;
        loop {
            self.oracle.lock().step();
            self.rest(true).await;
            let over = self.oracle.lock().is_over();
            self.oracle.check();
            if over {
                break;
            }
            if self.peer.close_seen && !silent {
                let code = self.random.pick(&[Some(4000 + self.code), None]);
                self.peer.compose_close(code);
                if self.random.below(4) == 0 {
                    self.drain(true).await;
                    self.peer.shut_down();
                }
            }
            if waited > 2 * SECOND {
                // The connection has not ended yet, for example because a running handler dropped its socket.
                if let Some(handler) = &self.handler {
                    let _ = handler.send(Order::Finish(End::Ok));
                }
                let _ = self.holder.send(Order::Finish(End::Ok));
            }
            let late = waited >= bound;
            self.oracle
                .lock()
                .ensure(!late, |_| "it does not end".to_owned());
            sleep(SECOND / 4).await;
            waited += SECOND / 4;
        }
        self.rest(true).await;
        // The actors end, then the peer.
        let _ = self.holder.send(Order::Finish(End::Ok));
        if let Some(handler) = &self.handler {
            let _ = handler.send(Order::Finish(End::Ok));
        }
        self.senders.clear();
        self.drain(false).await;
        self.peer.reset();
        sleep(self.limits.close + 2 * SECOND).await;
        self.settle().await;
        self.oracle.check();
        let alive = Handle::current().metrics().num_alive_tasks();
        assert_eq!(alive, 0, "tasks are left");
        if let Some(connections) = &self.connections {
            assert_eq!(connections.counts().open(), 0, "connections are left");
        }
    }
}
