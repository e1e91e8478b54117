//! Shutting down: who is refused, what the clients read and when, what is not lost, and what is
//! left afterwards.
//!
//! Most of it is served in memory under a stopped clock, where a wait costs no time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/pipe.rs"]
mod pipe;
#[path = "support/wire.rs"]
mod wire;

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use http::request::Parts;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use pipe::until_open;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{Semaphore, oneshot},
    task::{JoinSet, yield_now},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Config, Connections, CountedCode, Echo, Handler,
    Refusal, Side, WebSocket, WebSocketLayer,
};
use wire::{BINARY, FIN, TEXT, close, frame, handshake, read_close, read_frame, read_head, write};

const GUARD: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
/// More than any of these shutdowns may need.
const LIMIT: Duration = Duration::from_secs(600);

/// Serves one connection in memory, which holds `capacity` bytes in each direction.
fn serve<H: Handler>(layer: &WebSocketLayer<H>, capacity: usize) -> DuplexStream {
    pipe::serve(layer.clone().into_service(), capacity)
}

async fn ask(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let asked = async {
        write(client, handshake("/").as_bytes()).await;
        read_head(client).await
    };
    timeout(GUARD, asked).await.expect("no answer")
}

fn status(head: &str) -> u16 {
    head["HTTP/1.1 ".len()..][..3].parse().unwrap()
}

async fn open<H: Handler>(layer: &WebSocketLayer<H>) -> DuplexStream {
    let mut client = serve(layer, 64 * 1024);
    assert_eq!(status(&ask(&mut client).await), 101);
    client
}

/// The status that one more client is answered with.
async fn knock<H: Handler>(layer: &WebSocketLayer<H>) -> u16 {
    status(&ask(&mut serve(layer, 1024)).await)
}

/// Closes over this time.
fn spread(window: Duration) -> Connections {
    Connections::new().shutdown_spread(window)
}

/// Closes without delay.
fn at_once() -> Connections {
    spread(Duration::ZERO)
}

fn echo() -> WebSocketLayer<Echo> {
    WebSocketLayer::new(Echo::new()).connections_in(&at_once())
}

/// Reads the Close, answers it and leaves.
async fn answer_close(mut client: impl AsyncRead + AsyncWrite + Unpin) -> Option<u16> {
    let code = read_close(&mut client).await;
    write(&mut client, &close(code.unwrap_or(1000), "")).await;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "nothing follows a Close");
    code
}

/// Waits until no more tasks than these are left, which takes no time but that of other threads.
async fn until_tasks(tasks: usize) {
    let alive = || Handle::current().metrics().num_alive_tasks();
    let start = std::time::Instant::now();
    while alive() > tasks {
        assert!(start.elapsed() < GUARD / 6, "{} tasks are left", alive());
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn sends_1001_to_all_and_refuses_new_ones_with_503() {
    let layer = echo();
    let connections = layer.connections();
    let clients = [open(&layer).await, open(&layer).await, open(&layer).await];
    connections.close();

    let mut late = serve(&layer, 1024);
    let head = ask(&mut late).await.to_ascii_lowercase();
    assert_eq!(status(&head), 503);
    assert!(head.contains("\r\nretry-after: 10\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");

    for client in clients {
        assert_eq!(answer_close(client).await, Some(1001));
    }
    let report = connections.shutdown(LIMIT).await;
    assert_eq!((report.clean, report.aborted), (3, 0));
    assert_eq!(knock(&layer).await, 503, "it stays shut");

    let counts = connections.counts();
    assert_eq!((counts.open(), counts.accepted()), (0, 3));
    assert_eq!(counts.refused_as("shutting_down"), 2);
    let going_away = CountedCode::Code(CloseCode::GOING_AWAY);
    assert_eq!(counts.closed_as(Side::Local, going_away), 3);
}

#[tokio::test(start_paused = true)]
async fn passes_plain_requests_on_while_shut_down() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let mut client = serve(&layer, 1024);
    connections.close();
    write(&mut client, b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
    // The answer of a service that has no inner one.
    assert_eq!(status(&read_head(&mut client).await), 426);
}

#[tokio::test(start_paused = true)]
async fn closes_with_the_code_and_reason_of_choice_and_only_the_first_counts() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(open(&layer).await);
    }
    let restart = CloseFrame::new(CloseCode::SERVICE_RESTART, "back soon").unwrap();
    connections.close_with(restart);
    // Most of them are not closed yet.
    connections.close();
    connections.close_with(CloseFrame::new(CloseCode::NORMAL, "too late").unwrap());
    for mut client in clients {
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.close_code(), Some(1012));
        assert_eq!(&frame.payload[2..], b"back soon");
        write(&mut client, &close(1012, "")).await;
    }
    assert_eq!(connections.shutdown(LIMIT).await.clean, 20);
}

/// Closes `count` connections, and returns when each of them was, since the first could be.
async fn moments_of_close(count: usize, window: Duration) -> Vec<Duration> {
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&spread(window));
    let connections = layer.connections();
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(open(&layer).await);
    }
    let start = Instant::now();
    connections.close();
    let mut closing = JoinSet::new();
    for mut client in clients {
        closing.spawn(async move {
            assert_eq!(read_close(&mut client).await, Some(1001));
            let moment = start.elapsed();
            write(&mut client, &close(1001, "")).await;
            moment
        });
    }
    let moments = closing.join_all().await;
    let report = connections.shutdown(LIMIT).await;
    assert_eq!((report.clean, report.aborted), (count as u64, 0));
    moments
}

#[tokio::test(start_paused = true)]
async fn spreads_the_closes_over_the_window_and_never_past_it() {
    const WINDOW: Duration = Duration::from_secs(10);
    let moments = moments_of_close(300, WINDOW).await;
    // The timer counts in milliseconds.
    assert!(
        moments
            .iter()
            .all(|moment| *moment <= WINDOW + SECOND / 100)
    );
    for second in 0..10 {
        let is_in = |moment: &&Duration| moment.as_secs() == second;
        let closed = moments.iter().filter(is_in).count();
        // 30 on average; either is more than five deviations away.
        assert!((3..=60).contains(&closed), "{closed} in second {second}");
    }
    let unlike: BTreeSet<_> = moments.iter().map(Duration::as_millis).collect();
    assert!(unlike.len() > 250, "{} different moments", unlike.len());
}

#[tokio::test(start_paused = true)]
async fn spreads_the_closes_differently_each_time() {
    let first = moments_of_close(20, 10 * SECOND).await;
    let second = moments_of_close(20, 10 * SECOND).await;
    assert_ne!(first, second);
}

#[tokio::test(start_paused = true)]
async fn spreads_the_closes_over_a_second_unless_told_otherwise() {
    let layer = WebSocketLayer::new(Echo::new());
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(open(&layer).await);
    }
    let start = Instant::now();
    layer.connections().close();
    for client in clients {
        assert_eq!(answer_close(client).await, Some(1001));
    }
    assert!(start.elapsed() > SECOND / 2, "{:?}", start.elapsed());
    assert!(start.elapsed() <= SECOND + SECOND / 100);
}

#[tokio::test(start_paused = true)]
async fn closes_all_at_once_when_the_window_is_empty() {
    for moment in moments_of_close(50, Duration::ZERO).await {
        assert!(moment <= Duration::from_millis(2), "{moment:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn serves_a_connection_until_its_close_is_due() {
    let layer = WebSocketLayer::new(Echo::new());
    let layer = layer.connections_in(&spread(1000 * SECOND));
    let connections = layer.connections();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(open(&layer).await);
    }
    connections.close();
    let mut echoed = 0;
    for client in &mut clients {
        write(client, &frame(FIN | TEXT, b"still there?")).await;
        let answer = read_frame(client).await.unwrap();
        echoed += usize::from(answer.first == FIN | TEXT);
    }
    assert!(echoed > 10, "{echoed} of 20");
}

#[tokio::test(start_paused = true)]
async fn flushes_everything_that_was_sent_before() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| {
        let counter = Arc::clone(&counter);
        async move {
            for number in 0..500_u32 {
                let message = [&number.to_be_bytes()[..], &[7; 1000]].concat();
                socket.send(message).await?;
                counter.fetch_add(1, Ordering::Relaxed);
            }
            socket.sender().closed().await;
            Ok::<_, BoxError>(())
        }
    });
    let layer = layer.connections_in(&at_once());
    let connections = layer.connections();
    // Nearly nothing is on its way before it is read.
    let mut client = serve(&layer, 512);
    assert_eq!(status(&ask(&mut client).await), 101);
    sleep(SECOND).await;
    assert_eq!(sent.load(Ordering::Relaxed), 500);

    connections.close();
    sleep(SECOND).await;
    for number in 0..500_u32 {
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.payload[..4], number.to_be_bytes(), "in its order");
        assert_eq!(frame.payload.len(), 1004);
    }
    assert_eq!(answer_close(client).await, Some(1001));
    let report = connections.shutdown(LIMIT).await;
    assert_eq!((report.clean, report.aborted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn wakes_a_handler_that_waits_to_receive_or_to_send() {
    let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
        if socket.recv().await?.is_none() {
            return Ok(());
        }
        loop {
            socket.send(vec![1; 1000]).await?;
        }
        #[expect(unreachable_code, reason = "names the type of the error")]
        Ok::<_, BoxError>(())
    });
    let layer = layer
        .config(Config::new().max_outbox(4, 4096))
        .connections_in(&at_once());
    let connections = layer.connections();
    let receiving = open(&layer).await;
    let mut sending = serve(&layer, 256);
    assert_eq!(status(&ask(&mut sending).await), 101);
    write(&mut sending, &frame(FIN | TEXT, b"go")).await;
    sleep(SECOND).await;
    connections.close();
    assert_eq!(answer_close(receiving).await, Some(1001));
    assert_eq!(answer_close(sending).await, Some(1001));
    assert_eq!(connections.shutdown(LIMIT).await.clean, 2);
}

/// Notes that it was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn aborts_a_handler_that_does_not_return_in_time() {
    let dropped = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&dropped);
    let layer = WebSocketLayer::new(move |socket: WebSocket| {
        let note = Arc::clone(&note);
        async move {
            let _held = (socket, Dropped(note));
            pending::<()>().await;
            Ok::<_, BoxError>(())
        }
    });
    let layer = layer.connections_in(&at_once());
    let connections = layer.connections();
    let client = open(&layer).await;
    let start = Instant::now();
    connections.close();
    assert_eq!(answer_close(client).await, Some(1001), "its peer is told");
    assert!(!dropped.load(Ordering::Relaxed));
    let report = connections.shutdown(30 * SECOND).await;
    assert_eq!((report.clean, report.aborted), (0, 1));
    assert_eq!(start.elapsed(), 30 * SECOND);
    assert!(dropped.load(Ordering::Relaxed));
    assert_eq!(connections.counts().open(), 0);
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_a_peer_that_never_answers_and_counts_it_as_aborted() {
    let layer = echo();
    let connections = layer.connections();
    let mut silent = open(&layer).await;
    let polite = open(&layer).await;
    let start = Instant::now();
    connections.close();
    assert_eq!(answer_close(polite).await, Some(1001));
    let report = connections.shutdown(30 * SECOND).await;
    assert_eq!((report.clean, report.aborted), (1, 1));
    // The timer counts in milliseconds.
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(read_close(&mut silent).await, Some(1001));
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "it is gone");
}

#[tokio::test(start_paused = true)]
async fn counts_a_peer_that_left_without_a_close_as_aborted() {
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&at_once());
    let connections = layer.connections();
    let client = open(&layer).await;
    let early = open(&layer).await;
    drop(early);
    until_open(&connections, 1).await;
    connections.close();
    drop(client);
    let report = connections.shutdown(LIMIT).await;
    assert_eq!(
        (report.clean, report.aborted),
        (0, 1),
        "those that ended before are no part of it"
    );
}

#[tokio::test(start_paused = true)]
async fn counts_a_peer_that_closes_at_the_same_time_as_clean() {
    let layer = echo();
    let connections = layer.connections();
    let mut client = open(&layer).await;
    connections.close();
    write(&mut client, &close(1000, "")).await;
    let code = read_close(&mut client).await;
    assert!(matches!(code, Some(1000 | 1001)), "{code:?}");
    drop(client);
    assert_eq!(connections.shutdown(LIMIT).await.clean, 1);
}

/// Accepts when it is let.
struct Slow(Arc<Semaphore>);

impl Handler for Slow {
    async fn accept(&self, _: &mut Parts) -> Result<Accept, Refusal> {
        let _ = self.0.acquire().await;
        Ok(Accept::new())
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        while socket.recv().await?.is_some() {}
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_a_handshake_that_was_being_accepted_meanwhile() {
    let gate = Arc::new(Semaphore::new(0));
    let layer = WebSocketLayer::new(Slow(Arc::clone(&gate)));
    let connections = layer.connections();
    let mut client = serve(&layer, 1024);
    write(&mut client, handshake("/").as_bytes()).await;
    until_open(&connections, 1).await;
    connections.close();
    let closing = connections.clone();
    let closed = tokio::spawn(async move { closing.shutdown(LIMIT).await });
    sleep(SECOND).await;
    assert!(!closed.is_finished(), "it may still be accepted");
    gate.add_permits(1);
    assert_eq!(status(&read_head(&mut client).await), 503);
    let report = closed.await.unwrap();
    assert_eq!((report.clean, report.aborted), (0, 0));
    assert_eq!(connections.counts().accepted(), 0);
    assert_eq!(connections.counts().refused_as("shutting_down"), 1);
}

#[tokio::test(start_paused = true)]
async fn asks_no_handler_while_shut_down() {
    // Would never answer.
    let layer = WebSocketLayer::new(Slow(Arc::new(Semaphore::new(0))));
    let connections = layer.connections();
    connections.close();
    let start = Instant::now();
    assert_eq!(knock(&layer).await, 503);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(connections.counts().refused_as("shutting_down"), 1);
}

#[tokio::test(start_paused = true)]
async fn does_not_wait_past_the_limit_for_a_handshake() {
    let layer = WebSocketLayer::new(Slow(Arc::new(Semaphore::new(0))));
    let connections = layer.connections();
    let mut client = serve(&layer, 1024);
    write(&mut client, handshake("/").as_bytes()).await;
    until_open(&connections, 1).await;
    connections.close();
    let start = Instant::now();
    let report = connections.shutdown(2 * SECOND).await;
    assert_eq!((report.clean, report.aborted), (0, 0));
    // A second more is what tasks that are aborted may take.
    assert!(start.elapsed() <= 3 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn closes_a_connection_that_still_waited_for_its_upgrade() {
    let layer = echo();
    let connections = layer.connections();
    // Too little room for the 101, so that the server is still writing it.
    let mut client = serve(&layer, 32);
    write(&mut client, handshake("/").as_bytes()).await;
    for _ in 0..1000 {
        if connections.counts().accepted() == 1 {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(connections.counts().accepted(), 1);
    connections.close();
    sleep(SECOND).await;
    assert_eq!(status(&read_head(&mut client).await), 101);
    assert_eq!(answer_close(client).await, Some(1001));
    let report = connections.shutdown(LIMIT).await;
    assert_eq!((report.clean, report.aborted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn can_be_begun_outside_a_runtime() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let clients = [open(&layer).await, open(&layer).await];
    let outside = connections.clone();
    let start = Instant::now();
    std::thread::spawn(move || outside.close()).join().unwrap();
    for client in clients {
        assert_eq!(answer_close(client).await, Some(1001));
    }
    assert!(start.elapsed() <= Duration::from_millis(2));
    assert_eq!(connections.shutdown(LIMIT).await.clean, 2);
}

#[tokio::test(start_paused = true)]
async fn aborts_nothing_when_the_wait_is_dropped_and_may_be_waited_for_again() {
    let layer = echo();
    let connections = layer.connections();
    let client = open(&layer).await;
    connections.close();
    for _ in 0..3 {
        let waiting = timeout(SECOND, connections.shutdown(2 * SECOND)).await;
        assert!(waiting.is_err(), "the peer has not answered yet");
    }
    assert_eq!(connections.counts().open(), 1);
    assert_eq!(answer_close(client).await, Some(1001));
    for _ in 0..2 {
        let report = connections.shutdown(LIMIT).await;
        assert_eq!((report.clean, report.aborted), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn closes_what_is_open_and_waits_for_it() {
    let layer = echo();
    let connections = layer.connections();
    let client = open(&layer).await;
    let start = Instant::now();
    let (code, report) = tokio::join!(answer_close(client), connections.shutdown(LIMIT));
    assert_eq!(code, Some(1001));
    assert_eq!((report.clean, report.aborted), (1, 0));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(knock(&layer).await, 503, "it stays shut");
}

#[tokio::test(start_paused = true)]
async fn keeps_the_frame_of_an_earlier_close() {
    let layer = echo();
    let connections = layer.connections();
    let client = open(&layer).await;
    connections.close_with(CloseFrame::new(CloseCode::SERVICE_RESTART, "back soon").unwrap());
    let (code, report) = tokio::join!(answer_close(client), connections.shutdown(LIMIT));
    assert_eq!(code, Some(1012));
    assert_eq!((report.clean, report.aborted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn aborts_nothing_however_long_the_grace_is() {
    let layer = echo();
    let connections = layer.connections();
    let client = open(&layer).await;
    let answers = async {
        // A peer that is late by less than `close_timeout`.
        sleep(4 * SECOND).await;
        answer_close(client).await
    };
    let (code, report) = tokio::join!(answers, connections.shutdown(Duration::MAX));
    assert_eq!(code, Some(1001));
    assert_eq!((report.clean, report.aborted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn goes_on_closing_when_the_future_of_a_shutdown_is_dropped() {
    let layer = echo();
    let connections = layer.connections();
    let client = open(&layer).await;
    let dropped = timeout(SECOND / 2, connections.shutdown(SECOND)).await;
    assert!(dropped.is_err(), "the peer has not answered yet");
    assert_eq!(knock(&layer).await, 503);
    sleep(2 * SECOND).await;
    assert_eq!(connections.counts().open(), 1, "nothing is aborted");
    assert_eq!(answer_close(client).await, Some(1001));
    let report = connections.shutdown(SECOND).await;
    assert_eq!((report.clean, report.aborted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn waits_for_connections_and_neither_closes_nor_aborts_any() {
    let layer = echo();
    let connections = layer.connections();
    connections.wait().await;
    let mut client = open(&layer).await;
    // Less than the silence after which it is pinged.
    assert!(timeout(15 * SECOND, connections.wait()).await.is_err());
    write(&mut client, &frame(FIN | TEXT, b"still there")).await;
    let answer = read_frame(&mut client).await.unwrap();
    assert_eq!(answer.payload, b"still there");
    let late = open(&layer).await;
    let waiting = connections.clone();
    let waiting = tokio::spawn(async move { waiting.wait().await });
    drop(client);
    until_open(&connections, 1).await;
    assert!(!waiting.is_finished());
    drop(late);
    timeout(SECOND, waiting).await.unwrap().unwrap();
    assert_eq!(connections.counts().open(), 0);
    assert_eq!(knock(&layer).await, 101, "it was not shut");
}

#[tokio::test(start_paused = true)]
async fn is_done_at_once_when_there_is_nothing_to_close() {
    let connections = echo().connections();
    let start = Instant::now();
    connections.close();
    let report = connections.shutdown(LIMIT).await;
    assert_eq!((report.clean, report.aborted), (0, 0));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn speaks_for_all_clones_of_a_layer_and_for_no_other_layer() {
    let layer = echo();
    let other = echo();
    let clone = layer.clone().path("/");
    let ours = [open(&layer).await, open(&clone).await];
    let mut theirs = open(&other).await;
    clone.connections().close();
    for client in ours {
        assert_eq!(answer_close(client).await, Some(1001));
    }
    assert_eq!(layer.connections().shutdown(LIMIT).await.clean, 2);
    assert_eq!(knock(&layer).await, 503);
    write(&mut theirs, &frame(FIN | TEXT, b"here")).await;
    assert_eq!(read_frame(&mut theirs).await.unwrap().payload, b"here");
    assert_eq!(knock(&other).await, 101);
}

#[tokio::test(start_paused = true)]
async fn leaves_no_task_behind() {
    let before = Handle::current().metrics().num_alive_tasks();
    let layer = WebSocketLayer::new(Echo::new());
    let layer = layer.connections_in(&spread(3600 * SECOND));
    let connections = layer.connections();
    let clients = [open(&layer).await, open(&layer).await, open(&layer).await];
    connections.close();
    // They leave on their own, long before the server would have closed them.
    drop(clients);
    let report = connections.shutdown(LIMIT).await;
    assert_eq!(report.clean + report.aborted, 3);
    until_tasks(before).await;
}

#[tokio::test(start_paused = true)]
async fn leaves_no_task_behind_when_connections_are_aborted_before_their_close() {
    let before = Handle::current().metrics().num_alive_tasks();
    let layer = WebSocketLayer::new(Echo::new());
    let layer = layer.connections_in(&spread(3600 * SECOND));
    let connections = layer.connections();
    let mut clients = [open(&layer).await, open(&layer).await];
    connections.close();
    let report = connections.shutdown(SECOND).await;
    assert_eq!(report.clean + report.aborted, 2);
    for client in &mut clients {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
    }
    until_tasks(before).await;
}

/// Whoever is accepted while it closes is closed as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lets_nobody_slip_through_who_connects_meanwhile() {
    for round in 0..50 {
        let layer = echo();
        let connections = layer.connections();
        let (begun, begin) = oneshot::channel();
        let mut begun = Some(begun);
        let mut clients = JoinSet::new();
        for number in 0..20 {
            let layer = layer.clone();
            let begun = (number == round % 20).then(|| begun.take()).flatten();
            clients.spawn(async move {
                let mut client = serve(&layer, 1024);
                let status = status(&ask(&mut client).await);
                if let Some(begun) = begun {
                    begun.send(()).unwrap();
                }
                match status {
                    101 => answer_close(client).await,
                    503 => None,
                    other => panic!("{other}"),
                }
            });
        }
        begin.await.unwrap();
        connections.close();
        let report = timeout(GUARD, connections.shutdown(GUARD)).await.unwrap();
        let codes = timeout(GUARD, clients.join_all()).await.unwrap();
        let closed = codes.iter().flatten().count() as u64;
        assert!(codes.iter().flatten().all(|code| *code == 1001));
        assert_eq!((report.clean, report.aborted), (closed, 0));
        let counts = connections.counts();
        assert_eq!((counts.open(), counts.accepted()), (0, closed));
    }
}

#[tokio::test]
async fn plugs_into_the_graceful_shutdown_of_axum() {
    let layer = WebSocketLayer::new(Echo::new()).path("/ws");
    let connections = layer.connections();
    let app = Router::new().layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (interrupt, interrupted) = oneshot::channel::<()>();

    let closing = connections.clone();
    let server = tokio::spawn(async move {
        let signal = async move {
            let _ = interrupted.await;
            closing.close();
        };
        axum::serve(listener, app)
            .with_graceful_shutdown(signal)
            .await
    });

    let mut client = wire::open(address, "/ws").await;
    write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"Hello");
    interrupt.send(()).unwrap();
    timeout(GUARD, server).await.unwrap().unwrap().unwrap();
    assert_eq!(connections.counts().open(), 1, "axum does not wait for it");
    let closed = async {
        let (code, report) = tokio::join!(answer_close(client), connections.shutdown(GUARD));
        assert_eq!(code, Some(1001));
        assert_eq!((report.clean, report.aborted), (1, 0));
    };
    timeout(GUARD, closed).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn plugs_into_the_graceful_shutdown_of_hyper_util() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let service = TowerToHyperService::new(layer.into_service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (interrupt, mut interrupted) = oneshot::channel::<()>();

    let closing = connections.clone();
    let server = tokio::spawn(async move {
        let builder = auto::Builder::new(TokioExecutor::new());
        let graceful = GracefulShutdown::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let stream = TokioIo::new(accepted.unwrap().0);
                    let connection = builder
                        .serve_connection_with_upgrades(stream, service.clone())
                        .into_owned();
                    let connection = graceful.watch(connection);
                    tokio::spawn(async { drop(connection.await) });
                }
                _ = &mut interrupted => break,
            }
        }
        closing.close();
        tokio::join!(graceful.shutdown(), closing.shutdown(GUARD)).1
    });

    let mut client = wire::open(address, "/").await;
    write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"Hello");
    let mut idle = TcpStream::connect(address).await.unwrap();
    interrupt.send(()).unwrap();
    assert_eq!(
        timeout(GUARD, answer_close(client)).await.unwrap(),
        Some(1001)
    );
    let report = timeout(GUARD, server).await.unwrap().unwrap();
    assert_eq!((report.clean, report.aborted), (1, 0));
    assert_eq!(connections.counts().open(), 0);
    // One that never sent a request is closed, too.
    assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0);
}

#[cfg(target_os = "linux")]
mod under_load {
    //! 1,000 servers that are shut down while all their connections are busy in both directions.

    use std::{
        env, fs,
        hash::{BuildHasher, RandomState},
        process::Command,
        sync::Mutex,
    };

    use axum::serve::ListenerExt;
    use tokio::{
        io::{AsyncWriteExt, BufReader, BufWriter},
        net::tcp::OwnedWriteHalf,
        runtime::Builder,
    };
    use tower_websocket::{Sender, error::SendError};

    use super::*;

    const ROUNDS: usize = 1000;
    const CLIENTS: usize = 2;
    const ECHO: u8 = b'e';
    const TICK: u8 = b't';

    /// What `send` of the handlers took, by the number that the client gave itself.
    type Taken = Arc<Mutex<Vec<[u64; 2]>>>;

    #[test]
    fn nothing_that_was_sent_is_lost_and_nothing_is_left_in_1000_shutdowns_under_load() {
        const ALONE: &str = "TOWER_WEBSOCKET_TEST_ALONE";
        const NAME: &str = "under_load::\
            nothing_that_was_sent_is_lost_and_nothing_is_left_in_1000_shutdowns_under_load";
        // Open files are counted, so no other test may open any meanwhile.
        if env::var_os(ALONE).is_none() {
            let mut alone = Command::new(env::current_exe().unwrap());
            alone.args(["--exact", NAME, "--nocapture"]).env(ALONE, "1");
            let output = alone.output().unwrap();
            let printed = String::from_utf8_lossy(&output.stderr);
            let result = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{result}{printed}");
            assert!(result.contains("1 passed"), "{result}");
            print!("{result}");
            return;
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            // Whatever is opened once and kept is there after the first round.
            let _ = timeout(GUARD, round(0)).await.unwrap();
            until_tasks(0).await;
            let files = open_files();
            let mut messages = 0;
            for number in 1..=ROUNDS {
                messages += timeout(GUARD, round(number)).await.expect("it hangs");
            }
            until_tasks(0).await;
            assert_eq!(open_files(), files);
            println!("{ROUNDS} shutdowns, {messages} messages, {files} files open");
        });
    }

    fn open_files() -> usize {
        fs::read_dir("/proc/self/fd").unwrap().count()
    }

    /// Small writes leave at once, rather than to wait for the peer's delayed acknowledgements.
    fn no_delay(stream: &mut TcpStream) {
        stream.set_nodelay(true).unwrap();
    }

    /// Serves, shuts down in the middle of it, and returns how many messages were taken.
    async fn round(number: usize) -> u64 {
        let taken: Taken = Arc::new(Mutex::new(vec![[0; 2]; CLIENTS]));
        let layer = WebSocketLayer::new({
            let taken = Arc::clone(&taken);
            move |socket| busy(socket, Arc::clone(&taken))
        });
        // Some are closed at once and some with a spread that is over soon.
        let spread = Duration::from_millis(u64::from(number % 4 == 0));
        let layer = layer
            .config(Config::new().max_outbox(16, 64 * 1024))
            .connections_in(&Connections::new().shutdown_spread(spread));
        let connections = layer.connections();
        let app = Router::new().fallback_service(layer.into_service());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let interrupt = Arc::new(Semaphore::new(0));

        let closing = connections.clone();
        let interrupted = Arc::clone(&interrupt);
        let server = tokio::spawn(async move {
            let signal = async move {
                let _ = interrupted.acquire().await;
                closing.close();
            };
            axum::serve(listener.tap_io(no_delay), app)
                .with_graceful_shutdown(signal)
                .await
        });
        let random = RandomState::new();
        let mut streams = Vec::new();
        for client in 0..CLIENTS {
            streams.push(wire::open(address, &format!("/{client}")).await);
        }
        let mut clients = JoinSet::new();
        for (client, stream) in streams.into_iter().enumerate() {
            // The shutdown begins in the middle of the stream of one of them.
            let begin = (client == number % CLIENTS).then(|| Arc::clone(&interrupt));
            let after = random.hash_one(client) % 40;
            clients.spawn(async move { (client, read_all(stream, begin, after).await) });
        }
        let received = clients.join_all().await;
        server.await.unwrap().unwrap();
        let report = connections.shutdown(GUARD).await;
        assert_eq!((report.clean, report.aborted), (CLIENTS as u64, 0));
        let counts = connections.counts();
        assert_eq!(counts.open(), 0);

        let taken = taken.lock().unwrap().clone();
        for (client, received) in received {
            assert_eq!(received, taken[client], "round {number}, client {client}");
        }
        let all = taken.iter().flatten().sum();
        assert_eq!(counts.traffic().messages_sent(), all);
        all
    }

    /// Echoes, and has another task send besides.
    async fn busy(mut socket: WebSocket, taken: Taken) -> Result<(), BoxError> {
        let client: usize = socket.request().path()[1..].parse()?;
        let pace = Arc::new(Semaphore::new(8));
        let ticking = tokio::spawn(tick(socket.sender(), Arc::clone(&pace)));
        let mut echoed = 0;
        while let Some(message) = socket.recv().await? {
            if socket.send(message).await.is_err() {
                break;
            }
            echoed += 1;
            pace.add_permits(1);
        }
        pace.close();
        let ticked = ticking.await?;
        taken.lock().unwrap()[client] = [echoed, ticked];
        Ok(())
    }

    async fn tick(sender: Sender, pace: Arc<Semaphore>) -> u64 {
        let mut ticks = 0;
        while let Ok(next) = pace.acquire().await {
            next.forget();
            // Some are large enough to be written without being copied.
            let len = if ticks % 16 == 0 { 5000 } else { 40 };
            let mut message = vec![TICK; len];
            message[1..9].copy_from_slice(&u64::to_be_bytes(ticks));
            match sender.send(message).await {
                Ok(()) => ticks += 1,
                Err(SendError::Closed) => break,
                Err(error) => panic!("{error}"),
            }
        }
        ticks
    }

    /// Sends what is to be echoed, a few messages ahead of the echoes.
    async fn write_all(output: OwnedWriteHalf, pace: Arc<Semaphore>) -> OwnedWriteHalf {
        const AT_ONCE: u32 = 8;
        let mut output = BufWriter::new(output);
        let mut number = 0_u64;
        while let Ok(next) = pace.acquire_many(AT_ONCE).await {
            next.forget();
            for _ in 0..AT_ONCE {
                let message = [&[ECHO][..], &number.to_be_bytes()].concat();
                write(&mut output, &frame(FIN | BINARY, &message)).await;
                number += 1;
            }
            output.flush().await.unwrap();
        }
        output.into_inner()
    }

    /// Reads until the Close while it writes, and returns how many echoes and ticks there were.
    async fn read_all(stream: TcpStream, begin: Option<Arc<Semaphore>>, after: u64) -> [u64; 2] {
        let (input, output) = stream.into_split();
        let pace = Arc::new(Semaphore::new(16));
        let writing = tokio::spawn(write_all(output, Arc::clone(&pace)));
        let mut input = BufReader::new(input);
        let mut counts = [0_u64; 2];
        loop {
            let frame = read_frame(&mut input).await.expect("no Close");
            if frame.first != FIN | BINARY {
                assert_eq!(frame.close_code(), Some(1001));
                break;
            }
            let count = match frame.payload[0] {
                ECHO => &mut counts[0],
                TICK => &mut counts[1],
                other => panic!("{other}"),
            };
            assert_eq!(frame.payload[1..9], count.to_be_bytes(), "out of order");
            *count += 1;
            if frame.payload[0] == ECHO {
                pace.add_permits(1);
            }
            if let Some(begin) = begin.as_ref().filter(|_| counts[0] + counts[1] >= after) {
                begin.add_permits(1);
            }
        }
        pace.close();
        let mut output = writing.await.unwrap();
        write(&mut output, &close(1001, "")).await;
        let mut rest = Vec::new();
        input.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
        counts
    }
}
