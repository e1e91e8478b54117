//! Pings of the application, and their effect on those of the keepalive.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::Future,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use support::{
    pipe,
    schedule::poll_once,
    settle,
    wire::{
        self, BINARY, CLOSE, FIN, Frame, PING, assert_quiet, close, frame, read_frame, write,
        write_pong,
    },
    within,
};
use tokio::{
    io::DuplexStream,
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    Config, Message, WebSocket,
    error::{RecvError, SendError},
};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Pinging = Pin<Box<dyn Future<Output = Result<Duration, SendError>> + Send>>;

async fn read_ping(client: &mut DuplexStream) -> Vec<u8> {
    let payload = within(wire::read_ping(client)).await;
    assert!((1..=125).contains(&payload.len()));
    payload
}

fn begun(socket: &WebSocket) -> Pinging {
    let mut ping: Pinging = Box::pin(socket.ping());
    assert!(poll_once(ping.as_mut()).is_pending());
    ping
}

#[tokio::test(start_paused = true)]
async fn measures_the_round_trip() {
    for config in [Config::new(), Config::new().without_keepalive()] {
        let (socket, mut client) = pipe::socket(config, 1024);
        let ping = tokio::spawn(socket.ping());
        let payload = read_ping(&mut client).await;
        sleep(30 * MILLI).await;
        write_pong(&mut client, &payload).await;
        assert_eq!(within(ping).await.unwrap(), Ok(30 * MILLI));
        assert_eq!(socket.round_trip(), Some(30 * MILLI));
        // The next ping has another payload.
        let ping = tokio::spawn(socket.sender().ping());
        let next = read_ping(&mut client).await;
        assert_ne!(payload, next);
        write_pong(&mut client, &payload).await;
        settle().await;
        assert!(!ping.is_finished(), "an old pong answered the new ping");
        write_pong(&mut client, &next).await;
        within(ping).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn works_in_the_handlers_own_task_and_on_a_half() {
    let (mut client, _connections) = pipe::attach(async |socket: WebSocket| {
        let round_trip = socket.ping().await?;
        let (mut write_half, mut read_half) = socket.into_split();
        let again = write_half.ping().await?;
        write_half.send(format!("{round_trip:?} {again:?}")).await?;
        // A ping and a receive at the same time.
        let ping = write_half.ping();
        let (ping, received) = tokio::join!(ping, read_half.recv());
        assert_eq!(received?, Some(Message::binary("in")));
        write_half.send(format!("{:?}", ping?)).await?;
        Ok::<_, tower_websocket::Error>(())
    })
    .await;
    for wait in [5, 7] {
        let payload = read_ping(&mut client).await;
        sleep(wait * MILLI).await;
        write_pong(&mut client, &payload).await;
    }
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"5ms 7ms");
    let payload = read_ping(&mut client).await;
    write(&mut client, &frame(FIN | BINARY, b"in")).await;
    sleep(9 * MILLI).await;
    write_pong(&mut client, &payload).await;
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"9ms");
}

#[tokio::test(start_paused = true)]
async fn later_calls_share_the_pending_ping() {
    let (socket, mut client) = pipe::socket(Config::new().without_keepalive(), 1024);
    let first = tokio::spawn(socket.ping());
    let payload = read_ping(&mut client).await;
    sleep(10 * MILLI).await;
    let others = [
        tokio::spawn(socket.ping()),
        tokio::spawn(socket.sender().ping()),
    ];
    assert_quiet(&mut client, 10 * MILLI).await;
    write_pong(&mut client, &payload).await;
    assert_eq!(within(first).await.unwrap(), Ok(20 * MILLI));
    for other in others {
        assert_eq!(within(other).await.unwrap(), Ok(20 * MILLI));
    }
    assert_quiet(&mut client, SECOND).await;
}

/// Calls that are dropped share one ping, and their wakers are not kept.
#[tokio::test(start_paused = true)]
async fn dropped_pings_do_not_add_up() {
    let (socket, mut client) = pipe::socket(Config::new().without_keepalive(), 1024);
    for _ in 0..10_000 {
        assert!(poll_once(pin!(socket.ping())).is_pending());
    }
    let payload = read_ping(&mut client).await;
    for _ in 0..100 {
        assert!(timeout(MILLI, socket.ping()).await.is_err());
    }
    assert_quiet(&mut client, MILLI).await;
    write_pong(&mut client, &payload).await;
    settle().await;
    // No call waited for the pong. The next call sends another ping.
    let ping = tokio::spawn(socket.ping());
    let payload = read_ping(&mut client).await;
    write_pong(&mut client, &payload).await;
    assert_eq!(within(ping).await.unwrap(), Ok(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn fails_when_the_connection_ends() {
    // For each end, one ping is pending, and one is called afterwards.
    for end in 0..5 {
        let (mut socket, mut client) = pipe::socket(Config::new().without_keepalive(), 1024);
        let ping = tokio::spawn(socket.ping());
        read_ping(&mut client).await;
        match end {
            0 => drop(client),
            1 => write(&mut client, &close(1000, "")).await,
            2 => write(&mut client, &frame(FIN | 0x7, b"")).await,
            3 => socket.sender().close_without_code(),
            _ => assert!(poll_once(pin!(socket.close_without_code())).is_pending()),
        }
        assert_eq!(within(ping).await.unwrap(), Err(SendError::Closed), "{end}");
        assert_eq!(socket.ping().await, Err(SendError::Closed), "{end}");
    }
}

/// The ping is called, but not written yet.
#[tokio::test(start_paused = true)]
async fn fails_when_the_connection_closes_at_once() {
    let (socket, mut client) = pipe::socket(Config::new(), 1024);
    let ping = begun(&socket);
    socket.sender().close_without_code();
    assert_eq!(ping.await, Err(SendError::Closed));
    let frame = within(read_frame(&mut client)).await.unwrap();
    assert_eq!((frame.first, frame.close_code()), (FIN | CLOSE, None));
}

/// RFC 6455 §5.5.3: a peer may answer only the newest of several pings.
#[tokio::test(start_paused = true)]
async fn a_pong_to_a_later_ping_answers_it() {
    let (socket, mut client) = pipe::socket(Config::new(), 1024);
    let ping = tokio::spawn(socket.ping());
    let asked = read_ping(&mut client).await;
    let silent = Instant::now();
    let keepalive = within_minute(read_frame(&mut client)).await.unwrap();
    assert_eq!((keepalive.first, keepalive.payload.len()), (FIN | PING, 8));
    assert_eq!(silent.elapsed(), 20 * SECOND, "the keepalive pings later");
    write_pong(&mut client, &keepalive.payload).await;
    assert_eq!(within(ping).await.unwrap(), Ok(20 * SECOND));
    // That pong also counts for the keepalive. A late pong to the first ping has no effect.
    write_pong(&mut client, &asked).await;
    assert_eq!(socket.round_trip(), Some(Duration::ZERO));
}

/// The keepalive pings first, then the application. The peer answers only the second ping.
#[tokio::test(start_paused = true)]
async fn its_pong_answers_an_earlier_ping_of_the_keepalive() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
    for _ in 0..3 {
        let keepalive = within_minute(read_frame(&mut client)).await.unwrap();
        assert_eq!(keepalive.payload.len(), 8, "{keepalive:?}");
        let ping = tokio::spawn(socket.ping());
        let payload = read_ping(&mut client).await;
        sleep(19 * SECOND).await;
        write_pong(&mut client, &payload).await;
        assert_eq!(within(ping).await.unwrap(), Ok(19 * SECOND));
    }
    assert!(
        poll_once(pin!(socket.recv())).is_pending(),
        "the peer was dropped"
    );
}

/// Neither a ping of the application nor its pong proves to the keepalive that a later ping arrived.
#[tokio::test(start_paused = true)]
async fn does_not_answer_a_later_ping_of_the_keepalive() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
    let ping = tokio::spawn(socket.ping());
    let payload = read_ping(&mut client).await;
    let keepalive = within_minute(read_frame(&mut client)).await.unwrap();
    assert_eq!(keepalive.payload.len(), 8, "{keepalive:?}");
    let start = Instant::now();
    sleep(10 * SECOND).await;
    write_pong(&mut client, &payload).await;
    assert_eq!(within(ping).await.unwrap(), Ok(30 * SECOND));
    let end = socket.recv().await;
    assert!(matches!(end, Err(RecvError::Unresponsive)), "{end:?}");
    assert_eq!(start.elapsed(), 20 * SECOND);
}

/// The time after which the keepalive drops a peer that answers no ping stays the same.
#[tokio::test(start_paused = true)]
async fn does_not_change_when_the_keepalive_gives_up() {
    let (mut socket, _client) = pipe::socket(Config::new(), 64 * 1024);
    let start = Instant::now();
    let sender = socket.sender();
    let pings = tokio::spawn(async move {
        loop {
            match timeout(SECOND, sender.ping()).await {
                Ok(result) => return result,
                Err(_late) => {}
            }
        }
    });
    let end = socket.recv().await;
    assert!(matches!(end, Err(RecvError::Unresponsive)), "{end:?}");
    assert_eq!(start.elapsed(), 40 * SECOND);
    assert_eq!(within(pings).await.unwrap(), Err(SendError::Closed));
}

/// A ping waits behind output that the peer does not read.
#[tokio::test(start_paused = true)]
async fn waits_for_a_slow_peer() {
    let config = Config::new()
        .write_timeout(Duration::MAX)
        .without_keepalive();
    let (mut socket, mut client) = pipe::socket(config, 16);
    socket.send(vec![1; 200]).await.unwrap();
    settle().await;
    let mut ping = begun(&socket);
    sleep(SECOND).await;
    assert!(poll_once(ping.as_mut()).is_pending());
    assert_eq!(
        within(read_frame(&mut client)).await.unwrap().payload.len(),
        200
    );
    let payload = read_ping(&mut client).await;
    write_pong(&mut client, &payload).await;
    assert!(within(ping).await.is_ok());
}

/// The future is polled by one task, and then moved to another one.
#[tokio::test(start_paused = true)]
async fn wakes_the_last_task_that_polled_it() {
    let (socket, mut client) = pipe::socket(Config::new().without_keepalive(), 1024);
    let moved = begun(&socket);
    let payload = read_ping(&mut client).await;
    let moved = tokio::spawn(moved);
    settle().await;
    write_pong(&mut client, &payload).await;
    assert!(within(moved).await.unwrap().is_ok());
}

/// The first call has its pong, but is not polled until the second call waits.
#[tokio::test(start_paused = true)]
async fn a_late_return_does_not_take_the_waker_of_the_next_ping() {
    for is_polled in [true, false] {
        let (socket, mut client) = pipe::socket(Config::new().without_keepalive(), 1024);
        let mut first = begun(&socket);
        let payload = read_ping(&mut client).await;
        write_pong(&mut client, &payload).await;
        settle().await;
        let second = tokio::spawn(socket.ping());
        let payload = read_ping(&mut client).await;
        if is_polled {
            assert!(poll_once(first.as_mut()).is_ready());
        }
        drop(first);
        write_pong(&mut client, &payload).await;
        assert!(within(second).await.unwrap().is_ok());
    }
}

/// Pongs to our pings are not counted against the peer's limit. Other pongs are.
#[tokio::test(start_paused = true)]
async fn its_pongs_do_not_count_against_the_limit() {
    let config = Config::new().max_control_frames(1, 1).without_keepalive();
    let (mut socket, mut client) = pipe::socket(config, 1024);
    let mut last = Vec::new();
    for _ in 0..100 {
        let ping = tokio::spawn(socket.ping());
        last = read_ping(&mut client).await;
        write_pong(&mut client, &last).await;
        within(ping).await.unwrap().unwrap();
    }
    assert!(matches!(poll_once(pin!(socket.recv())), Poll::Pending));
    for _ in 0..11 {
        write_pong(&mut client, &last).await;
    }
    let end = within(socket.recv()).await;
    assert!(
        matches!(end, Err(RecvError::TooManyControlFrames)),
        "{end:?}"
    );
}

#[cfg(feature = "client")]
#[tokio::test(start_paused = true)]
async fn a_client_pings_a_server() {
    use tower_websocket::{Echo, WebSocketLayer, client::connect_with};
    let io = pipe::serve(WebSocketLayer::new(Echo::new()).into_service(), 4096);
    let (mut socket, _) = within(connect_with("ws://example.com/", io)).await.unwrap();
    assert_eq!(within(socket.ping()).await, Ok(Duration::ZERO));
    socket.send("echo").await.unwrap();
    assert_eq!(
        within(socket.recv()).await.unwrap(),
        Some(Message::text("echo"))
    );
}

async fn within_minute(read: impl Future<Output = Option<Frame>>) -> Option<Frame> {
    timeout(60 * SECOND, read).await.unwrap()
}
