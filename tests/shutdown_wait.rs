//! A shutdown while a connection is opened, waits for the end of connections, and the shutdown of a
//! whole server.

mod support;

use std::{sync::Arc, time::Duration};

use axum::Router;
use http::request::Parts;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use support::{
    pipe::{knock, open_at, open_many, serve, until, until_open},
    shutdown::{LIMIT, echo, open_echo, shutdown},
    tcp, until_tasks,
    wire::{
        self, FIN, TEXT, answer_close, frame, handshake, read_head, read_payload, status, write,
    },
    within,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    runtime::Handle,
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Connections, Echo, Handler, Refusal, WebSocket,
    WebSocketLayer,
};

const SECOND: Duration = Duration::from_secs(1);

/// Accepts when it gets a permit.
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
async fn refuses_a_handshake_that_is_being_accepted() {
    let gate = Arc::new(Semaphore::new(0));
    let layer = WebSocketLayer::new(Slow(Arc::clone(&gate)));
    let connections = layer.connections();
    let mut client = serve(layer.clone().into_service(), 1024);
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
    // This handler never accepts.
    let layer = WebSocketLayer::new(Slow(Arc::new(Semaphore::new(0))));
    let connections = layer.connections();
    connections.close();
    let start = Instant::now();
    assert_eq!(knock(&layer, "/").await.0, 503);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(connections.counts().refused_as("shutting_down"), 1);
}

#[tokio::test(start_paused = true)]
async fn does_not_wait_past_the_limit_for_a_handshake() {
    let layer = WebSocketLayer::new(Slow(Arc::new(Semaphore::new(0))));
    let connections = layer.connections();
    let mut client = serve(layer.clone().into_service(), 1024);
    write(&mut client, handshake("/").as_bytes()).await;
    until_open(&connections, 1).await;
    connections.close();
    let start = Instant::now();
    let report = connections.shutdown(2 * SECOND).await;
    assert_eq!((report.clean, report.aborted), (0, 0));
    // Aborted tasks may take a second more.
    assert!(start.elapsed() <= 3 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn closes_a_connection_that_waits_for_its_upgrade() {
    let layer = echo();
    let connections = layer.connections();
    // The 101 does not fit into the pipe, so the server is still writing it.
    let mut client = serve(layer.clone().into_service(), 32);
    write(&mut client, handshake("/").as_bytes()).await;
    until(&connections, |counts| counts.accepted() == 1).await;
    connections.close();
    sleep(SECOND).await;
    assert_eq!(status(&read_head(&mut client).await), 101);
    assert_eq!(answer_close(client).await, Some(1001));
    assert_eq!(shutdown(&connections).await, (1, 0));
}

#[tokio::test(start_paused = true)]
async fn may_begin_outside_a_runtime() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let clients = open_many(&layer, 2).await;
    let outside = connections.clone();
    let start = Instant::now();
    std::thread::spawn(move || outside.close()).join().unwrap();
    for client in clients {
        assert_eq!(answer_close(client).await, Some(1001));
    }
    assert!(start.elapsed() <= Duration::from_millis(2));
    assert_eq!(shutdown(&connections).await, (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_shutdown_aborts_nothing_and_may_be_called_again() {
    let (_layer, connections, client) = open_echo().await;
    connections.close();
    for _ in 0..3 {
        let waiting = timeout(SECOND, connections.shutdown(2 * SECOND)).await;
        assert!(waiting.is_err(), "the peer has not answered yet");
    }
    assert_eq!(connections.counts().open(), 1);
    assert_eq!(answer_close(client).await, Some(1001));
    for _ in 0..2 {
        assert_eq!(shutdown(&connections).await, (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn closes_open_connections_and_waits_for_them() {
    let (layer, connections, client) = open_echo().await;
    let start = Instant::now();
    let ended = tokio::join!(answer_close(client), shutdown(&connections));
    assert_eq!(ended, (Some(1001), (1, 0)));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(knock(&layer, "/").await.0, 503, "it stays shut down");
}

#[tokio::test(start_paused = true)]
async fn keeps_the_frame_of_an_earlier_close() {
    let (_layer, connections, client) = open_echo().await;
    connections.close_with(CloseFrame::new(CloseCode::SERVICE_RESTART, "back soon").unwrap());
    let ended = tokio::join!(answer_close(client), shutdown(&connections));
    assert_eq!(ended, (Some(1012), (1, 0)));
}

#[tokio::test(start_paused = true)]
async fn aborts_nothing_when_the_limit_is_unlimited() {
    let (_layer, connections, client) = open_echo().await;
    let answers = async {
        // The peer is slower than usual, but within `close_timeout`.
        sleep(4 * SECOND).await;
        answer_close(client).await
    };
    let (code, report) = tokio::join!(answers, connections.shutdown(Duration::MAX));
    assert_eq!(code, Some(1001));
    assert_eq!((report.clean, report.aborted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn goes_on_closing_when_the_future_of_a_shutdown_is_dropped() {
    let (layer, connections, client) = open_echo().await;
    let dropped = timeout(SECOND / 2, connections.shutdown(SECOND)).await;
    assert!(dropped.is_err(), "the peer has not answered yet");
    assert_eq!(knock(&layer, "/").await.0, 503);
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
    let mut client = open_at(&layer, "/").await;
    // Less than the time of silence before a ping.
    assert!(timeout(15 * SECOND, connections.wait()).await.is_err());
    write(&mut client, &frame(FIN | TEXT, b"still there")).await;
    assert_eq!(read_payload(&mut client).await, b"still there");
    let late = open_at(&layer, "/").await;
    let waiting = connections.clone();
    let waiting = tokio::spawn(async move { waiting.wait().await });
    drop(client);
    until_open(&connections, 1).await;
    assert!(!waiting.is_finished());
    drop(late);
    timeout(SECOND, waiting).await.unwrap().unwrap();
    assert_eq!(connections.counts().open(), 0);
    assert_eq!(knock(&layer, "/").await.0, 101, "it was not shut down");
}

#[tokio::test(start_paused = true)]
async fn returns_at_once_when_there_is_nothing_to_close() {
    let connections = echo().connections();
    let start = Instant::now();
    connections.close();
    assert_eq!(shutdown(&connections).await, (0, 0));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn closes_connections_of_all_clones_of_a_layer_and_of_no_other_layer() {
    let layer = echo();
    let other = echo();
    let clone = layer.clone().path("/");
    let ours = [open_at(&layer, "/").await, open_at(&clone, "/").await];
    let mut theirs = open_at(&other, "/").await;
    clone.connections().close();
    for client in ours {
        assert_eq!(answer_close(client).await, Some(1001));
    }
    assert_eq!(layer.connections().shutdown(LIMIT).await.clean, 2);
    assert_eq!(knock(&layer, "/").await.0, 503);
    write(&mut theirs, &frame(FIN | TEXT, b"here")).await;
    assert_eq!(read_payload(&mut theirs).await, b"here");
    assert_eq!(knock(&other, "/").await.0, 101);
}

#[tokio::test(start_paused = true)]
async fn leaves_no_task_behind() {
    let before = Handle::current().metrics().num_alive_tasks();
    let layer = WebSocketLayer::new(Echo::new());
    let layer = layer.connections_in(&Connections::new().shutdown_spread(3600 * SECOND));
    let connections = layer.connections();
    let clients = open_many(&layer, 3).await;
    connections.close();
    // The clients leave long before the server would close their connections.
    drop(clients);
    let report = connections.shutdown(LIMIT).await;
    assert_eq!(report.clean + report.aborted, 3);
    until_tasks(before).await;
}

#[tokio::test(start_paused = true)]
async fn leaves_no_task_behind_when_connections_are_aborted_before_their_close() {
    let before = Handle::current().metrics().num_alive_tasks();
    let layer = WebSocketLayer::new(Echo::new());
    let layer = layer.connections_in(&Connections::new().shutdown_spread(3600 * SECOND));
    let connections = layer.connections();
    let mut clients = open_many(&layer, 2).await;
    connections.close();
    let report = connections.shutdown(SECOND).await;
    assert_eq!(report.clean + report.aborted, 2);
    for client in &mut clients {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
    }
    until_tasks(before).await;
}

/// A connection that is accepted during `close` is closed as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closes_or_refuses_connections_that_are_opened_meanwhile() {
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
                let (status, client) = knock(&layer, "/").await;
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
        let report = within(connections.shutdown(LIMIT)).await;
        let codes = within(clients.join_all()).await;
        let closed = codes.iter().flatten().count() as u64;
        assert!(codes.iter().flatten().all(|code| *code == 1001));
        assert_eq!((report.clean, report.aborted), (closed, 0));
        let counts = connections.counts();
        assert_eq!((counts.open(), counts.accepted()), (0, closed));
    }
}

#[tokio::test]
async fn works_with_the_graceful_shutdown_of_axum() {
    let layer = WebSocketLayer::new(Echo::new()).path("/ws");
    let connections = layer.connections();
    let app = Router::new().layer(layer);
    let (listener, address) = tcp::listen().await;
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
    assert_eq!(read_payload(&mut client).await, b"Hello");
    interrupt.send(()).unwrap();
    within(server).await.unwrap().unwrap();
    assert_eq!(connections.counts().open(), 1, "axum does not wait for it");
    let closed = async {
        let ended = tokio::join!(answer_close(client), shutdown(&connections));
        assert_eq!(ended, (Some(1001), (1, 0)));
    };
    within(closed).await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn works_with_the_graceful_shutdown_of_hyper_util() {
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let service = TowerToHyperService::new(layer.into_service());
    let (listener, address) = tcp::listen().await;
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
        tokio::join!(graceful.shutdown(), closing.shutdown(LIMIT)).1
    });

    let mut client = wire::open(address, "/").await;
    write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
    assert_eq!(read_payload(&mut client).await, b"Hello");
    let mut idle = TcpStream::connect(address).await.unwrap();
    interrupt.send(()).unwrap();
    assert_eq!(within(answer_close(client)).await, Some(1001));
    let report = within(server).await.unwrap();
    assert_eq!((report.clean, report.aborted), (1, 0));
    assert_eq!(connections.counts().open(), 0);
    // A connection without a request is closed as well.
    assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0);
}
