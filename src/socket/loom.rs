//! Models of a connection whose socket and senders are on other threads.
//!
//! loom runs each model in every order in which its threads can take the locks, as far as three
//! preemptions reach. The connection is the real one, over a peer that reads and writes at once, and it is
//! polled when it is woken, never without. The clock stands still, so that no timer makes up for a
//! wake that is lost: then a model ends in a deadlock, which loom reports.
//!
//! `RUSTFLAGS="--cfg tower_websocket_loom" cargo test --release --lib loom` runs them.

use std::{
    collections::VecDeque,
    future::{Future, Pending, pending, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use ::loom::{
    model::Builder,
    sync::{Condvar, Mutex},
    thread,
};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    RecvError, SendError, WebSocket,
    link::{Caller, Link},
    session::{self, Session},
    setup::{Served, Setup},
};
use crate::{
    codec::Role,
    config::Config,
    socket::report::Name,
    words::{BoxError, CloseCode, CloseFrame, Message},
};

/// Runs a model in every order of its threads.
fn model(model: impl Fn() + Send + Sync + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let _clock = runtime.enter();
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.max_branches = 10_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}

/// The waker of a thread.
#[derive(Default)]
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// Polls a future when it is woken, until it is ready.
fn wait_for<F: Future>(future: F) -> F::Output {
    let signal = Arc::new(Signal::default());
    let waker = Waker::from(Arc::clone(&signal));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        signal.wait();
    }
}

/// Polls a future once, by a waker that wakes nobody.
fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn recv(link: &Link) -> impl Future<Output = Result<Option<Message>, RecvError>> {
    poll_fn(|cx| link.poll_recv(cx))
}

fn flushed(link: &Link) -> impl Future<Output = Result<(), SendError>> {
    poll_fn(|cx| link.poll_flushed(cx))
}

/// The future of a message that keeps its link.
fn send_future(
    link: &Arc<Link>,
    payload: u8,
) -> Pin<Box<dyn Future<Output = Result<(), SendError>>>> {
    let link = Arc::clone(link);
    Box::pin(async move { link.send(message(payload), Caller::Holder).await })
}

fn message(payload: u8) -> Message {
    Message::Binary(Bytes::copy_from_slice(&[payload]))
}

fn payload(received: Result<Option<Message>, RecvError>) -> Option<u8> {
    received.unwrap().map(|message| message.as_bytes()[0])
}

fn close(link: &Link) {
    link.close(CloseFrame::without_reason(CloseCode::NORMAL));
}

/// The other end of the stream.
#[derive(Clone, Default)]
struct Peer(Arc<StdMutex<Script>>);

#[derive(Default)]
struct Script {
    /// What it sends, a read each. None ends the stream.
    sends: VecDeque<Vec<u8>>,
    /// It answers a Close, and ends the stream when it has one.
    closes: bool,
    is_gone: bool,
    gate: Option<Arc<Gate>>,
    written: Vec<u8>,
    reader: Option<Waker>,
}

/// Blocks writes until another thread opens it.
#[derive(Default)]
struct Gate(Mutex<(bool, Option<Waker>)>);

impl Gate {
    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    fn open(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 = true;
        let writer = state.1.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

impl Peer {
    fn sends(self, payload: u8) -> Self {
        self.then(frame(0x82, payload).to_vec())
    }

    fn closes(self) -> Self {
        self.then(CLOSE.to_vec())
    }

    fn ends(self) -> Self {
        self.then(Vec::new())
    }

    fn then(self, read: Vec<u8>) -> Self {
        self.0.lock().unwrap().sends.push_back(read);
        self
    }

    /// Lets every write fail.
    fn breaks(self) -> Self {
        self.0.lock().unwrap().is_gone = true;
        self
    }

    /// Lets no write through before the gate is open.
    fn behind(self, gate: &Arc<Gate>) -> Self {
        self.0.lock().unwrap().gate = Some(Arc::clone(gate));
        self
    }

    /// Returns the payloads of the messages and pongs that were written, and whether a Close was behind
    /// them.
    fn written(&self) -> (Vec<u8>, bool) {
        let script = self.0.lock().unwrap();
        let (mut payloads, mut rest) = (Vec::new(), &script.written[..]);
        while let [0x82 | 0x8a, 1, payload, behind @ ..] = rest {
            payloads.push(*payload);
            rest = behind;
        }
        assert!(matches!(rest, [] | [0x88, ..]), "{rest:?}");
        (payloads, !rest.is_empty())
    }

    fn has(&self, messages: usize) -> bool {
        self.written().0.len() == messages
    }
}

/// Makes a client's frame of one byte.
const fn frame(kind: u8, payload: u8) -> [u8; 7] {
    [kind, 0x81, 0, 0, 0, 0, payload]
}

/// A client's Close of 1000.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];

impl AsyncRead for Peer {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let has_close = self.written().1;
        let mut script = self.0.lock().unwrap();
        if let Some(read) = script.sends.pop_front() {
            script.closes |= read.ends_with(&CLOSE);
            buffer.put_slice(&read);
        } else if !has_close {
            script.reader = Some(cx.waker().clone());
            return Poll::Pending;
        } else if !std::mem::replace(&mut script.closes, true) {
            buffer.put_slice(&CLOSE);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gate = self.0.lock().unwrap().gate.clone();
        if let Some(gate) = gate {
            ready!(gate.poll_open(cx));
        }
        let mut script = self.0.lock().unwrap();
        if script.is_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        script.written.extend(bytes);
        let reader = script.reader.take();
        drop(script);
        if let Some(reader) = reader.filter(|_| self.written().1) {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

type Verdict = Result<(), BoxError>;

/// A connection, and the thread that it runs on.
struct Connection<F: Future<Output = Verdict>> {
    session: Pin<Box<Session<Peer, F, ()>>>,
    link: Arc<Link>,
    peer: Peer,
    signal: Arc<Signal>,
}

fn config() -> Config {
    Config::new().without_keepalive()
}

fn served(config: Config, peer: &Peer) -> Served<Peer> {
    let config = Arc::new(config);
    let name = Name {
        handler: "",
        path: "".into(),
    };
    Served {
        io: peer.clone(),
        early: Bytes::new(),
        link: Arc::new(Link::new(Role::Server, name, Arc::clone(&config))),
        setup: Setup::new(config),
    }
}

/// Makes a connection whose socket is elsewhere.
fn detached(config: Config, peer: Peer) -> Connection<Pending<Verdict>> {
    let served = served(config, &peer);
    let link = Arc::clone(&served.link);
    Connection::new(session::detached(served), link, peer)
}

/// Makes a connection with a handler in its own task.
fn handled<F: Future<Output = Verdict>>(
    config: Config,
    peer: Peer,
    handle: impl FnOnce(WebSocket) -> F,
) -> Connection<F> {
    let served = served(config, &peer);
    let link = Arc::clone(&served.link);
    let session = session::serve(served, Box::default(), (), None, handle);
    Connection::new(session, link, peer)
}

impl<F: Future<Output = Verdict>> Connection<F> {
    fn new(session: Session<Peer, F, ()>, link: Arc<Link>, peer: Peer) -> Self {
        Self {
            session: Box::pin(session),
            link,
            peer,
            signal: Arc::default(),
        }
    }

    fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    /// Polls it once, and returns whether it is over.
    fn poll(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.signal));
        let mut cx = Context::from_waker(&waker);
        self.session.as_mut().poll(&mut cx).is_ready()
    }

    /// Polls it, when it is woken, until so many messages were written.
    fn run_until(&mut self, written: usize) {
        while !self.poll() && !self.peer.has(written) {
            self.signal.wait();
        }
    }

    /// Polls it, when it is woken, until it is over, and returns what was written.
    fn run(mut self) -> Vec<u8> {
        while !self.poll() {
            self.signal.wait();
        }
        let ending = self.link.ending();
        assert!(ending.is_some());
        self.peer.written().0
    }
}

#[test]
fn each_message_is_received_once_in_order() {
    model(|| {
        let peer = Peer::default().sends(1).sends(2).closes();
        let connection = detached(config(), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            let received = [(); 3].map(|()| payload(wait_for(recv(&link))));
            assert_eq!(received, [Some(1), Some(2), None]);
        });
        connection.run();
        holder.join().unwrap();
    });
}

#[test]
fn a_full_inbox_is_read_on_when_there_is_room() {
    model(|| {
        let peer = Peer::default().sends(1).sends(2).sends(3).closes();
        let connection = detached(config().max_inbox(1, 1024), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            let received = [(); 4].map(|()| payload(wait_for(recv(&link))));
            assert_eq!(received, [Some(1), Some(2), Some(3), None]);
        });
        connection.run();
        holder.join().unwrap();
    });
}

/// The holder decodes what lies behind a full inbox, and leaves the ping to the connection.
#[test]
fn the_holder_leaves_control_frames_to_the_connection() {
    model(|| {
        let frames = [frame(0x82, 1), frame(0x82, 2), frame(0x89, 7)].concat();
        let peer = Peer::default().then([&frames[..], &CLOSE[..]].concat());
        let connection = detached(config().max_inbox(1, 1024), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            let received = [(); 3].map(|()| payload(wait_for(recv(&link))));
            assert_eq!(received, [Some(1), Some(2), None]);
        });
        assert_eq!(connection.run(), [7]);
        holder.join().unwrap();
    });
}

#[test]
fn the_end_of_the_stream_waits_for_the_answer() {
    model(|| {
        let connection = detached(config(), Peer::default().sends(1).ends());
        let link = connection.link();
        let holder = thread::spawn(move || {
            assert_eq!(payload(wait_for(recv(&link))), Some(1));
            assert!(wait_for(link.send(message(9), Caller::Holder)).is_ok());
            assert!(matches!(wait_for(recv(&link)), Err(RecvError::Io(_))));
        });
        assert_eq!(connection.run(), [9]);
        holder.join().unwrap();
    });
}

#[test]
fn the_last_waker_that_received_is_woken() {
    model(|| {
        let connection = detached(config(), Peer::default().sends(1).closes());
        let link = connection.link();
        let holder = thread::spawn(move || {
            let received = match poll_once(pin!(recv(&link))) {
                Poll::Ready(received) => received,
                Poll::Pending => wait_for(recv(&link)),
            };
            assert_eq!(payload(received), Some(1));
            assert_eq!(payload(wait_for(recv(&link))), None);
        });
        connection.run();
        holder.join().unwrap();
    });
}

#[test]
fn what_is_sent_is_written_without_another_wake() {
    model(|| {
        let mut connection = detached(config(), Peer::default());
        let link = connection.link();
        let sender = thread::spawn(move || {
            assert!(wait_for(link.send(message(1), Caller::Holder)).is_ok());
            assert!(link.try_send(message(2)).is_ok());
        });
        connection.run_until(2);
        sender.join().unwrap();
        assert_eq!(connection.peer.written(), (vec![1, 2], false));
    });
}

#[test]
fn what_is_sent_is_written_beside_a_handler() {
    model(|| {
        let peer = Peer::default().sends(1).sends(2);
        let mut connection = handled(config(), peer, async |mut socket| {
            while let Some(message) = socket.recv().await? {
                socket.send(message).await?;
            }
            Ok(())
        });
        let link = connection.link();
        let sender = thread::spawn(move || {
            assert!(wait_for(link.send(message(8), Caller::Holder)).is_ok());
            assert!(wait_for(link.send(message(9), Caller::Holder)).is_ok());
        });
        connection.run_until(4);
        sender.join().unwrap();
        let (mut written, _) = connection.peer.written();
        written.sort_unstable();
        assert_eq!(written, [1, 2, 8, 9]);
    });
}

#[test]
fn a_handler_that_goes_on_is_evicted() {
    model(|| {
        let connection = handled(config(), Peer::default(), async |socket| {
            let never = pending::<Verdict>().await;
            drop(socket);
            never
        });
        let link = connection.link();
        let evicts = thread::spawn(move || {
            close(&link);
            link.evict();
        });
        connection.run();
        evicts.join().unwrap();
    });
}

/// Returns a connection with room for one message.
fn narrow() -> Connection<Pending<Verdict>> {
    detached(config().max_outbox(1, 1024), Peer::default())
}

#[test]
fn two_senders_share_the_room_for_one() {
    model(|| {
        let mut connection = narrow();
        let senders = [1, 2].map(|payload| {
            let link = connection.link();
            thread::spawn(move || {
                assert!(wait_for(link.send(message(payload), Caller::Holder)).is_ok());
                assert!(link.buffered().messages <= 1);
            })
        });
        connection.run_until(2);
        for sender in senders {
            sender.join().unwrap();
        }
        let (mut written, _) = connection.peer.written();
        written.sort_unstable();
        assert_eq!(written, [1, 2]);
    });
}

#[test]
fn what_is_sent_while_output_is_blocked_is_written_later() {
    model(|| {
        let gate = Arc::new(Gate::default());
        let peer = Peer::default().behind(&gate);
        let mut connection = detached(config().max_outbox(2, 1024), peer);
        let link = connection.link();
        let sender = thread::spawn(move || {
            for payload in [1, 2, 3] {
                assert!(wait_for(link.send(message(payload), Caller::Holder)).is_ok());
            }
        });
        let opener = thread::spawn(move || gate.open());
        connection.run_until(3);
        sender.join().unwrap();
        opener.join().unwrap();
        assert_eq!(connection.peer.written(), (vec![1, 2, 3], false));
    });
}

#[test]
fn a_close_while_output_is_blocked_is_written_behind_what_was_sent() {
    model(|| {
        let gate = Arc::new(Gate::default());
        let connection = detached(config(), Peer::default().behind(&gate));
        let link = connection.link();
        let sender = thread::spawn(move || {
            assert!(wait_for(link.send(message(1), Caller::Holder)).is_ok());
            close(&link);
            assert!(wait_for(link.wait_closed()).is_clean());
            assert!(wait_for(poll_fn(|cx| link.poll_ended(cx))).is_ok());
        });
        let opener = thread::spawn(move || gate.open());
        assert_eq!(connection.run(), [1]);
        sender.join().unwrap();
        opener.join().unwrap();
    });
}

#[test]
fn answers_to_what_came_before_a_close_are_flushed_once_output_moves() {
    model(|| {
        let gate = Arc::new(Gate::default());
        let peer = Peer::default().sends(1).closes().behind(&gate);
        let connection = detached(config(), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            assert_eq!(payload(wait_for(recv(&link))), Some(1));
            for payload in [8, 9] {
                assert!(wait_for(link.send(message(payload), Caller::Holder)).is_ok());
            }
            assert!(wait_for(flushed(&link)).is_ok());
            assert_eq!(payload(wait_for(recv(&link))), None);
        });
        let opener = thread::spawn(move || gate.open());
        assert_eq!(connection.run(), [8, 9]);
        holder.join().unwrap();
        opener.join().unwrap();
    });
}

#[test]
fn a_sink_is_flushed_beside_a_sender() {
    model(|| {
        let mut connection = narrow();
        let other = send_future(&connection.link, 1);
        let sender = thread::spawn(move || assert!(wait_for(other).is_ok()));
        let (link, peer) = (connection.link(), connection.peer.clone());
        let sink = thread::spawn(move || {
            assert!(wait_for(poll_fn(|cx| link.poll_room(cx))).is_ok());
            assert!(link.push(message(2)).is_ok());
            assert!(wait_for(flushed(&link)).is_ok());
            assert!(peer.written().0.contains(&2));
        });
        connection.run_until(2);
        sender.join().unwrap();
        // The holder may ask when everything is written, and then nothing has to wake it.
        sink.join().unwrap();
    });
}

#[test]
fn a_waiter_that_is_dropped_hands_on_its_room() {
    model(|| {
        let mut connection = narrow();
        assert!(connection.link.try_send(message(0)).is_ok());
        let [mut first, mut second] = [1, 2].map(|payload| send_future(&connection.link, payload));
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        let gone = thread::spawn(move || drop(first));
        let sender = thread::spawn(move || assert!(wait_for(second).is_ok()));
        connection.run_until(2);
        gone.join().unwrap();
        sender.join().unwrap();
        assert_eq!(connection.peer.written(), (vec![0, 2], false));
    });
}

#[test]
fn a_waiter_that_is_not_polled_is_passed_over() {
    model(|| {
        let mut connection = narrow();
        assert!(connection.link.try_send(message(0)).is_ok());
        let [mut first, mut second] = [1, 2].map(|payload| send_future(&connection.link, payload));
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        let sender = thread::spawn(move || {
            assert!(wait_for(second).is_ok());
            assert!(wait_for(first).is_ok());
        });
        connection.run_until(3);
        sender.join().unwrap();
        assert_eq!(connection.peer.written(), (vec![0, 2, 1], false));
    });
}

/// What was sent without an error is written before the Close, and nothing else is.
#[test]
fn what_is_sent_against_a_close_is_written_or_refused() {
    model(|| {
        let connection = narrow();
        let link = connection.link();
        let sender = thread::spawn(move || {
            let sent =
                [1, 2].map(|payload| wait_for(link.send(message(payload), Caller::Holder)).is_ok());
            assert_eq!(payload(wait_for(recv(&link))), None);
            sent
        });
        let link = connection.link();
        let closer = thread::spawn(move || close(&link));
        let written = connection.run();
        let sent = sender.join().unwrap();
        closer.join().unwrap();
        let sent = [1, 2].into_iter().zip(sent).filter(|(_, sent)| *sent);
        assert!(sent.map(|(payload, _)| payload).eq(written));
    });
}

/// What is discarded is not told to be flushed, and everybody who waits is woken.
#[test]
fn what_is_sent_against_a_loss_is_written_or_told_to_be_lost() {
    model(|| {
        let mut connection = narrow();
        let link = connection.link();
        let sender = thread::spawn(move || {
            let sent =
                [1, 2].map(|payload| wait_for(link.send(message(payload), Caller::Holder)).is_ok());
            let is_flushed = wait_for(flushed(&link)).is_ok();
            let is_all = wait_for(poll_fn(|cx| link.poll_ended(cx))).is_ok();
            (sent, is_flushed, is_all)
        });
        let link = connection.link();
        let other = thread::spawn(move || {
            assert!(matches!(wait_for(recv(&link)), Err(RecvError::Io(_))));
            assert!(!wait_for(link.wait_closed()).is_clean());
        });
        connection.poll();
        let peer = connection.peer.clone();
        drop(connection);
        let (sent, is_flushed, is_all) = sender.join().unwrap();
        other.join().unwrap();
        let sent = sent.into_iter().filter(|sent| *sent).count();
        assert_eq!(is_flushed, peer.has(sent));
        assert_eq!(is_all, peer.has(sent));
    });
}

#[test]
fn what_cannot_be_written_is_told_to_be_lost() {
    model(|| {
        let connection = detached(config().max_outbox(1, 1024), Peer::default().breaks());
        let link = connection.link();
        let sender = thread::spawn(move || {
            assert!(wait_for(link.send(message(1), Caller::Holder)).is_ok());
            // It waits for room that never comes, or comes too late.
            assert!(wait_for(link.send(message(2), Caller::Holder)).is_err());
            assert!(wait_for(flushed(&link)).is_err());
            assert!(wait_for(poll_fn(|cx| link.poll_ended(cx))).is_err());
        });
        let link = connection.link();
        let other = thread::spawn(move || assert!(!wait_for(link.wait_closed()).is_clean()));
        assert!(connection.run().is_empty());
        sender.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn a_socket_that_is_dropped_lets_the_connection_end() {
    model(|| {
        let peer = Peer::default().sends(1).sends(2).sends(3);
        let connection = detached(config().max_inbox(1, 1024), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            assert_eq!(payload(wait_for(recv(&link))), Some(1));
            link.abandon(false);
            assert!(wait_for(link.wait_closed()).is_clean());
        });
        connection.run();
        holder.join().unwrap();
    });
}

#[test]
fn a_socket_that_ignores_lets_the_connection_read_on() {
    model(|| {
        let peer = Peer::default().sends(1).sends(2).sends(3).closes();
        let connection = detached(config().max_inbox(1, 1024), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            link.ignore_incoming();
            assert!(wait_for(link.wait_closed()).is_clean());
            assert_eq!(payload(wait_for(recv(&link))), None);
            assert_eq!(link.traffic().messages_received, 3);
        });
        connection.run();
        holder.join().unwrap();
    });
}

#[test]
fn the_last_waker_that_waits_for_the_end_is_woken() {
    model(|| {
        let connection = narrow();
        let link = connection.link();
        let holder = thread::spawn(move || {
            let mut ending = pin!(link.wait_closed());
            let _ = poll_once(ending.as_mut());
            assert!(wait_for(ending).is_clean());
        });
        let link = connection.link();
        let closer = thread::spawn(move || close(&link));
        connection.run();
        holder.join().unwrap();
        closer.join().unwrap();
    });
}
