//! [`Sender`]: sends from any task or thread, does not deadlock, and loses no message in a race with
//! the end of the connection. Its limits are in `sender_outbox.rs`, its end in `sender_closed.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc as blocking,
    },
    task::Wake,
    thread,
    time::Duration,
};

use bytes::Bytes;
use support::{
    handlers::{echo, handing_out},
    pipe, tcp,
    wakers::{Count, block_on, poll_with},
    wire::{BINARY, CLOSE, FIN, close, frame, read_close, read_frame, write},
    within,
};
use tokio::{
    io::{AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, split},
    runtime,
    sync::{Notify, mpsc},
    task::JoinSet,
    time::timeout,
};
use tower_websocket::{
    CloseCode, Config, Message, Sender, Side, WebSocket, WebSocketLayer,
    error::{SendError, TrySendError},
};

/// A sender can be kept anywhere, and a socket moved.
const _: () = {
    const fn shared<T: Clone + Send + Sync + 'static>() {}
    const fn moved<T: Send + 'static>() {}
    shared::<Sender>();
    moved::<WebSocket>();
};

/// Numbered messages of several senders. Each message is the sender's index and its number.
struct Orders(Vec<u32>);

impl Orders {
    fn new(senders: usize) -> Self {
        Self(vec![0; senders])
    }

    fn message(name: usize, number: u32) -> Vec<u8> {
        [&[u8::try_from(name).unwrap()][..], &number.to_be_bytes()].concat()
    }

    /// Asserts that this is the next message of its sender.
    fn take(&mut self, payload: &[u8]) {
        let next = &mut self.0[usize::from(payload[0])];
        assert_eq!(payload[1..], next.to_be_bytes(), "sender {}", payload[0]);
        *next += 1;
    }
}

// From any task or thread, while the handler does something else.

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
    let mut client = tcp::open(WebSocketLayer::new(handler).into_service()).await;
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
        let frame = within(read_frame(&mut client)).await;
        orders.take(&frame.unwrap().payload);
    }
    assert_eq!(orders.0, [EACH; 6]);
    tasks.join_all().await;

    done.notify_one();
    assert_eq!(read_close(&mut client).await, Some(1000));
    write(&mut client, &close(1000, "")).await;
    let closed = within(sender.closed()).await;
    assert_eq!((closed.side(), closed.is_clean()), (Side::Local, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_while_another_task_receives_on_the_socket() {
    let (senders, mut handed_out) = mpsc::unbounded_channel();
    let handler = handing_out(senders, async |socket| tokio::spawn(echo(socket)).await?);
    let mut client = tcp::open(WebSocketLayer::new(handler).into_service()).await;
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
        let message = Orders::message(0, number);
        write(&mut client, &frame(FIN | BINARY, &message)).await;
    }
    let mut orders = Orders::new(3);
    for _ in 0..3 * 500 {
        let frame = within(read_frame(&mut client)).await;
        orders.take(&frame.unwrap().payload);
    }
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    write(&mut client, &close(3001, "enough")).await;
    assert_eq!(read_close(&mut client).await, Some(3001));
    let closed = within(sender.closed()).await;
    assert_eq!(closed.code(), CloseCode::new(3001).ok());
}

#[tokio::test]
async fn a_sender_does_not_keep_the_connection_open() {
    let (socket, mut client) = pipe::socket(Config::new(), 1024);
    let sender = socket.sender();
    drop(socket);
    assert_eq!(read_close(&mut client).await, Some(1000));
    assert_eq!(sender.send("late").await, Err(SendError::Closed));
}

// Wakers and destructors of other code.

#[tokio::test(start_paused = true)]
async fn keeps_no_wakers_of_dropped_futures() {
    let config = Config::new()
        .max_outbox(1, 100)
        .write_timeout(Duration::MAX);
    let (socket, _client) = pipe::socket(config, 16);
    let sender = socket.sender();
    sender.try_send(vec![0; 100]).unwrap();
    // Each future has its own waker, as when a new task sends for each request.
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
        "{closing} wakers of `closed`, {both} with those of `send`"
    );
}

/// Runs code on a thread, and fails if it deadlocks on a lock that its own thread holds.
fn without_deadlock(run: impl FnOnce(Sender, WebSocket) + Send + 'static) {
    let (done, is_done) = blocking::channel();
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(async move {
            let (socket, _client) = pipe::socket(Config::new(), 64);
            run(socket.sender(), socket);
            done.send(()).unwrap();
        });
    });
    is_done
        .recv_timeout(Duration::from_secs(5))
        .expect("a deadlock, or a panic");
}

#[test]
fn a_payload_may_use_the_sender_in_its_destructor() {
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
fn a_waker_may_use_the_sender_in_its_destructor() {
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
        // Replaces the waker, which drops the task.
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

/// Reads to the Close. Returns the number of messages of each sender, and the code. With `begin`, the
/// client closes first, when it is notified.
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
        let (socket, client) = pipe::socket(config, 100);
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
        let layer = WebSocketLayer::new(handler).config(config);
        pipe::attach_layer(layer, 100).await.0
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
        "all accepted messages have arrived, and no others"
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
async fn delivers_every_accepted_message_before_the_close_whoever_closes_and_when() {
    let last = Arc::new(Mutex::new(None));
    let rounds = async {
        for round in 0..2000 {
            let end = [End::Peer, End::Sender, End::Drop, End::Handler][round % 4];
            // From the first message to some time after the queues are full.
            let moment = round * 31 % 97;
            *last.lock().unwrap() = Some((round, end, moment));
            race(end, moment).await;
        }
    };
    let all = timeout(Duration::from_secs(30), rounds).await;
    assert!(all.is_ok(), "hangs in {:?}", last.lock().unwrap());
}
