//! The time from the end of a peer to the end of its connection, exact to the millisecond and with the default
//! settings. The tests use pipes and tokio's paused clock.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "outlive/mod.rs"]
mod outlive;
mod support;

use std::{future::Future, ops::RangeInclusive, time::Duration};

use outlive::{
    BYE, Bound, Cell, End, Reading, Sent, Stream, assert_none, attempt, cells,
    handler::{Behaviour, handler},
};
#[cfg(feature = "tracing")]
use support::log;
use support::{pipe, wire};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    BoxError, Config, Connections, Side, WebSocket, WebSocketLayer,
    error::{RecvError, SendError},
};
use wire::{close, write};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);
/// Far more than any step takes. The clock is paused, so the wait takes no real time.
const GUARD: Duration = Duration::from_secs(60 * 60);
/// The capacity of a pipe in each direction. It has room for all messages to a peer that does not read.
const PIPE: usize = 1024 * 1024;
/// The interval of handlers that only send, and the time that slow handlers take for a message.
const TICK: Duration = Duration::from_millis(100);

/// The maximum wait for a message in the inbox after an end.
const ANSWER_GRACE: Duration = SECOND;
/// `Config::keepalive`: a silence and an answer.
const KEEPALIVE: Duration = Duration::from_secs(20 + 20);
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const HANDLER_GRACE: Duration = Duration::from_secs(30);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

async fn within<F: Future>(future: F) -> F::Output {
    timeout(GUARD, future).await.unwrap()
}

/// Returns the time from the end of the peer to the end of the connection.
fn over(cell: Cell) -> RangeInclusive<Duration> {
    let messages = u32::try_from(cell.sent.messages()).unwrap();
    let slow = cell.behaviour == Behaviour::Slow;
    // Each message may be a millisecond late.
    let (received, late) = match slow {
        true => (messages * TICK, messages * MILLI),
        false => (Duration::ZERO, Duration::ZERO),
    };
    let (least, most) = match (cell.bound(), cell.end) {
        // The write of a pong or of the next message fails, because the peer is gone.
        (_, End::Reset) if slow => (Duration::ZERO, received + late),
        (_, End::Reset) if cell.behaviour.takes() => (Duration::ZERO, Duration::ZERO),
        (Bound::Read, End::Reset) if cell.behaviour.sends() => (Duration::ZERO, TICK),
        (_, End::Reset) if cell.behaviour.sends() => (Duration::ZERO, ANSWER_GRACE),
        // Counted from the last message that was read, which may have waited.
        (Bound::Keepalive, _) => (KEEPALIVE, KEEPALIVE + received + late),
        (Bound::ReceiveTimeout, End::Silence) => {
            let over = RECEIVE_TIMEOUT + CLOSE_TIMEOUT;
            (over, over)
        }
        (Bound::ReceiveTimeout, _) => (RECEIVE_TIMEOUT, RECEIVE_TIMEOUT),
        (Bound::Read, _) if cell.behaviour.takes() => (received, received + late),
        (Bound::Read, _) => (ANSWER_GRACE, ANSWER_GRACE),
        (Bound::Probe | Bound::ProbeAndGrace, _) => panic!("pipes are not asked"),
    };
    least..=most + 2 * MILLI
}

/// Returns how long the handler runs after that.
fn lingers(cell: Cell) -> RangeInclusive<Duration> {
    let (least, most) = match cell.behaviour {
        // The end of the connection was seen up to a millisecond late.
        Behaviour::NeverReturns => (HANDLER_GRACE - MILLI, HANDLER_GRACE),
        // The handler still receives the messages in the inbox.
        Behaviour::Slow if cell.end == End::Reset => (Duration::ZERO, 17 * TICK),
        _ if cell.behaviour.sends() => (Duration::ZERO, TICK),
        _ => (Duration::ZERO, Duration::ZERO),
    };
    least..=most + 20 * MILLI
}

async fn check(cell: Cell) {
    let (handler, mut heard) = handler(cell.behaviour, TICK);
    let connections = Connections::new().max_connections(1);
    let layer = WebSocketLayer::new(handler)
        .connections_in(&connections)
        .max_per_key(1, |_| Some("everybody"));
    let service = layer.into_service();
    let mut client = pipe::open(service.clone(), PIPE).await;
    let sender = within(heard.opened()).await;
    write(&mut client, &cell.sent.bytes()).await;
    let mut reading = Reading::default();
    // A handler that receives finds the end at once. For other handlers, reading has stopped before the
    // end.
    if !cell.behaviour.receives() && cell.end != End::Silence {
        within(reading.until_pong(&mut client)).await;
    }
    let start = Instant::now();
    match cell.end {
        End::Close => write(&mut client, &close(BYE, "")).await,
        End::Fin => client.shutdown().await.unwrap(),
        _ => {}
    }
    let mut client = Some(client).filter(|_| cell.end != End::Reset);
    let reader = client.take_if(|_| cell.end.reads_on()).map(|mut client| {
        tokio::spawn(async move {
            within(reading.until_end(&mut client)).await;
            reading
        })
    });

    let closed = within(sender.closed()).await;
    let drained = Instant::now() + CLOSE_TIMEOUT;
    while connections.counts().open() > 0 && Instant::now() <= drained {
        sleep(MILLI).await;
    }
    let took = start.elapsed();
    assert!(over(cell).contains(&took), "over after {took:?}");
    within(connections.wait()).await;
    let lingered = start.elapsed() - took;
    assert!(lingers(cell).contains(&lingered), "{lingered:?} longer");
    let counts = connections.counts();
    assert_eq!(
        (counts.open(), counts.lingering()),
        (0, 0),
        "open, lingering"
    );

    let read = match reader {
        Some(reader) => Some(reader.await.unwrap()),
        None => None,
    };
    cell.assert_closed(&closed, read.as_ref());
    let seen = within(heard.seen(cell.behaviour)).await;
    cell.assert_seen(&seen, cell.end != End::Reset);
    if let Some(read) = read.filter(|_| cell.behaviour.receives()) {
        assert_eq!(read.answers.len(), cell.sent.messages(), "answers");
    }
    pipe::open(service, PIPE).await;
}

#[tokio::test(start_paused = true)]
async fn connections_end_with_their_peers_within_the_default_bounds() {
    let mut failed = Vec::new();
    for cell in cells(Stream::Pipe) {
        failed.extend(attempt(cell, check(cell)).await);
    }
    assert_none(failed);
}

/// Sends without end, and receives nothing.
async fn flood(mut socket: WebSocket) -> Result<(), BoxError> {
    loop {
        socket.send(vec![0; 1024]).await?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_given_up_however_full_the_inbox_is() {
    for sent in [Sent::Small(15), Sent::Small(16), Sent::Small(17)] {
        let layer = WebSocketLayer::new(async |socket: WebSocket| {
            let sender = socket.sender();
            let error = flood(socket).await.unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&SendError::Closed));
            assert_eq!(sender.closed().await.side(), Side::Local);
            Err::<(), _>(error)
        });
        let connections = layer.connections();
        let mut client = pipe::open(layer.into_service(), 4096).await;
        let start = Instant::now();
        write(&mut client, &sent.bytes()).await;
        within(connections.wait()).await;
        let took = start.elapsed();
        let expected = WRITE_TIMEOUT..=WRITE_TIMEOUT + 2 * MILLI;
        assert!(expected.contains(&took), "{sent:?}: {took:?}");
    }
}

/// A peer that has ended its half answers no ping.
#[tokio::test(start_paused = true)]
async fn answers_behind_an_end_are_waited_for_however_short_the_keepalive_is() {
    let pause = ANSWER_GRACE - 100 * MILLI;
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| async move {
        while let Some(message) = socket.recv().await? {
            sleep(pause).await;
            socket.send(message).await?;
        }
        Ok::<_, BoxError>(())
    });
    let config = Config::new().keepalive(SECOND, SECOND);
    let connections = layer.connections();
    let mut client = pipe::open(layer.config(config).into_service(), PIPE).await;
    let sent = Sent::Small(16);
    write(&mut client, &sent.bytes()).await;
    client.shutdown().await.unwrap();
    let mut reading = Reading::default();
    within(reading.until_end(&mut client)).await;
    assert_eq!(reading.answers.len(), sent.messages());
    assert_eq!(reading.code, Some(1002));
    within(connections.wait()).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_a_message_now_and_then_is_waited_for() {
    const TAKEN: u32 = 24;
    let pause = RECEIVE_TIMEOUT - SECOND;
    let layer = WebSocketLayer::new(move |mut socket: WebSocket| async move {
        for _ in 0..TAKEN {
            sleep(pause).await;
            assert!(socket.recv().await?.is_some());
        }
        socket.closed().await;
        Ok::<_, RecvError>(())
    });
    let connections = layer.connections();
    let mut client = pipe::open(layer.into_service(), PIPE).await;
    let start = Instant::now();
    write(&mut client, &Sent::Small(40).bytes()).await;
    connections.wait().await;
    let took = start.elapsed();
    // The last 16 have room in the inbox, and from then on the silence of the peer counts.
    let expected = TAKEN * pause + KEEPALIVE;
    let expected = expected..=expected + (TAKEN + 2) * MILLI;
    assert!(expected.contains(&took), "{took:?}");
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn a_warning_names_the_handler_and_the_path() {
    let (mut log, _guard) = log::capture();
    async fn stuck(socket: WebSocket) -> Result<(), BoxError> {
        let _socket = socket;
        std::future::pending().await
    }
    let layer = WebSocketLayer::new(stuck);
    let connections = layer.connections();
    let mut client = pipe::serve(layer.into_service(), PIPE);
    wire::upgrade(&mut client, &wire::handshake("/feed?token=hush")).await;
    write(&mut client, &Sent::Small(17).bytes()).await;
    within(connections.wait()).await;
    let names = "handler=\"outlive_paused::a_warning_names_the_handler_and_the_path::\
                 {{closure}}::stuck\" path=/feed";
    for says in [
        "took no message for 300s while more were waiting: closing with 1008; a handler that only \
         sends should call `WebSocket::ignore_incoming`",
        "went on after its connection was over, and is dropped; see `WebSocket::closed` and \
         `Config::handler_grace`",
    ] {
        log.names("WARN", &format!("{says} {names}")).await;
    }
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn a_handler_that_goes_on_is_a_warning_once_a_minute() {
    let (log, _guard) = log::capture();
    async fn stuck(socket: WebSocket) -> Result<(), BoxError> {
        let _socket = socket;
        std::future::pending().await
    }
    async fn also_stuck(socket: WebSocket) -> Result<(), BoxError> {
        let _socket = socket;
        std::future::pending().await
    }
    let config = Config::new().handler_grace(SECOND);
    let layer = WebSocketLayer::new(stuck).config(config.clone());
    let connections = layer.connections();
    let other = WebSocketLayer::new(also_stuck).config(config);
    let other = other.connections_in(&connections);
    for minute in 1..=2 {
        let clients = [
            pipe::open_many(&layer, 10).await,
            pipe::open_many(&other, 5).await,
        ];
        drop(clients);
        connections.wait().await;
        let outlived = |level: &str| {
            let lines = log.lines_with("went on after its connection was over");
            lines.iter().filter(|line| line.contains(level)).count()
        };
        assert_eq!(
            (outlived("WARN"), outlived("DEBUG")),
            (2 * minute, 13 * minute)
        );
        tokio::time::sleep(61 * SECOND).await;
    }
}
