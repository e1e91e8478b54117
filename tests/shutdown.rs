//! A shutdown: the code that clients read and when they read it, no lost messages, and the report.
//!
//! Connections are served in memory with a paused clock.

mod support;

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use support::{
    pipe::{self, knock, open_at, open_many, serve, until_open},
    shutdown::{at_once, echo, open_echo, shutdown},
    wire::{
        FIN, TEXT, answer_close, close, frame, handshake, read_close, read_frame, read_head,
        status, write,
    },
};
use tokio::{
    io::AsyncReadExt,
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Config, Connections, CountedCode, Echo, Side, WebSocket,
    WebSocketLayer,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn sends_1001_to_all_and_refuses_new_ones_with_503() {
    let layer = echo();
    let connections = layer.connections();
    let clients = open_many(&layer, 3).await;
    connections.close();

    let (head, _late) = pipe::ask(layer.clone().into_service(), &handshake("/")).await;
    let head = head.to_ascii_lowercase();
    assert_eq!(status(&head), 503);
    assert!(head.contains("\r\nretry-after: 10\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");

    for client in clients {
        assert_eq!(answer_close(client).await, Some(1001));
    }
    assert_eq!(shutdown(&connections).await, (3, 0));
    assert_eq!(knock(&layer, "/").await.0, 503, "it stays shut down");

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
    let mut client = serve(layer.clone().into_service(), 1024);
    connections.close();
    write(&mut client, b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
    // The answer of a layer without an inner service.
    assert_eq!(status(&read_head(&mut client).await), 426);
}

#[tokio::test(start_paused = true)]
async fn closes_with_the_first_chosen_code_and_reason() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let clients = open_many(&layer, 20).await;
    let restart = CloseFrame::new(CloseCode::SERVICE_RESTART, "back soon").unwrap();
    connections.close_with(restart);
    // Most connections are not closed yet.
    connections.close();
    connections.close_with(CloseFrame::new(CloseCode::NORMAL, "too late").unwrap());
    for mut client in clients {
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.close_code(), Some(1012));
        assert_eq!(&frame.payload[2..], b"back soon");
        write(&mut client, &close(1012, "")).await;
    }
    assert_eq!(shutdown(&connections).await, (20, 0));
}

/// Closes `count` connections, and returns when each of them was closed.
async fn moments_of_close(count: usize, window: Duration) -> Vec<Duration> {
    let layer = WebSocketLayer::new(Echo::new())
        .connections_in(&Connections::new().shutdown_spread(window));
    let connections = layer.connections();
    let clients = open_many(&layer, count).await;
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
    assert_eq!(shutdown(&connections).await, (count as u64, 0));
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
        // 30 on average. Both limits are more than five standard deviations away.
        assert!((3..=60).contains(&closed), "{closed} in second {second}");
    }
    let different: BTreeSet<_> = moments.iter().map(Duration::as_millis).collect();
    assert!(
        different.len() > 250,
        "{} different moments",
        different.len()
    );
}

#[tokio::test(start_paused = true)]
async fn spreads_the_closes_differently_each_time() {
    let first = moments_of_close(20, 10 * SECOND).await;
    let second = moments_of_close(20, 10 * SECOND).await;
    assert_ne!(first, second);
}

#[tokio::test(start_paused = true)]
async fn spreads_the_closes_over_a_second_by_default() {
    let layer = WebSocketLayer::new(Echo::new());
    let clients = open_many(&layer, 50).await;
    let start = Instant::now();
    layer.connections().close();
    for client in clients {
        assert_eq!(answer_close(client).await, Some(1001));
    }
    assert!(start.elapsed() > SECOND / 2, "{:?}", start.elapsed());
    assert!(start.elapsed() <= SECOND + SECOND / 100);
}

#[tokio::test(start_paused = true)]
async fn closes_all_at_once_without_a_spread() {
    for moment in moments_of_close(50, Duration::ZERO).await {
        assert!(moment <= Duration::from_millis(2), "{moment:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn serves_a_connection_until_its_close_is_due() {
    let layer = WebSocketLayer::new(Echo::new());
    let layer = layer.connections_in(&Connections::new().shutdown_spread(1000 * SECOND));
    let connections = layer.connections();
    let mut clients = open_many(&layer, 20).await;
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
async fn flushes_all_messages_that_were_sent_before() {
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
    // The pipe holds less than one message.
    let mut client = pipe::open(layer.clone().into_service(), 512).await;
    sleep(SECOND).await;
    assert_eq!(sent.load(Ordering::Relaxed), 500);

    connections.close();
    sleep(SECOND).await;
    for number in 0..500_u32 {
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.payload[..4], number.to_be_bytes(), "out of order");
        assert_eq!(frame.payload.len(), 1004);
    }
    assert_eq!(answer_close(client).await, Some(1001));
    assert_eq!(shutdown(&connections).await, (1, 0));
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
    let receiving = open_at(&layer, "/").await;
    let mut sending = pipe::open(layer.clone().into_service(), 256).await;
    write(&mut sending, &frame(FIN | TEXT, b"go")).await;
    sleep(SECOND).await;
    connections.close();
    assert_eq!(answer_close(receiving).await, Some(1001));
    assert_eq!(answer_close(sending).await, Some(1001));
    assert_eq!(shutdown(&connections).await, (2, 0));
}

/// Sets the flag when it is dropped.
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
    let client = open_at(&layer, "/").await;
    let start = Instant::now();
    connections.close();
    assert_eq!(
        answer_close(client).await,
        Some(1001),
        "the peer gets a Close"
    );
    assert!(!dropped.load(Ordering::Relaxed));
    let report = connections.shutdown(30 * SECOND).await;
    assert_eq!((report.clean, report.aborted), (0, 1));
    assert_eq!(start.elapsed(), 30 * SECOND);
    assert!(dropped.load(Ordering::Relaxed));
    assert_eq!(connections.counts().open(), 0);
}

#[tokio::test(start_paused = true)]
async fn drops_a_peer_that_never_answers_and_counts_it_as_aborted() {
    let layer = echo();
    let connections = layer.connections();
    let mut silent = open_at(&layer, "/").await;
    let polite = open_at(&layer, "/").await;
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
    let (layer, connections, client) = open_echo().await;
    let early = open_at(&layer, "/").await;
    drop(early);
    until_open(&connections, 1).await;
    connections.close();
    drop(client);
    assert_eq!(
        shutdown(&connections).await,
        (0, 1),
        "a connection that ended earlier is not counted"
    );
}

#[tokio::test(start_paused = true)]
async fn counts_a_peer_that_closes_at_the_same_time_as_clean() {
    let (_layer, connections, mut client) = open_echo().await;
    connections.close();
    write(&mut client, &close(1000, "")).await;
    let code = read_close(&mut client).await;
    assert!(matches!(code, Some(1000 | 1001)), "{code:?}");
    drop(client);
    assert_eq!(shutdown(&connections).await, (1, 0));
}
