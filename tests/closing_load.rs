//! The ends of 1,000 connections at a time over TCP: no code and no message is lost.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{future::Future, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream};
use support::{
    schedule::Random,
    tcp,
    violations::{EMPTY_FRAGMENTS, INVALID_UTF8, PINGS, TOO_LARGE, UNMASKED},
    wire::{self, BINARY, FIN, close, frame, read_close, read_frame, write},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::yield_now,
};
use tower_websocket::{
    BoxError, CloseCode, Config, CountedCode, Echo, Handler, Side, WebSocket, WebSocketLayer,
};

/// Runs all of the futures, 16 at a time.
async fn run(futures: impl IntoIterator<Item = impl Future<Output = ()>>) {
    let all = stream::iter(futures);
    all.for_each_concurrent(16, within).await;
}

/// Breaks a rule, keeps sending without reading, and then reads the Close.
async fn violate(address: SocketAddr, number: usize) {
    const VIOLATIONS: [(u16, &[u8], usize); 7] = [
        (1002, UNMASKED, 1),
        (1002, &[0x83, 0x80], 1),
        (1002, &[0xc1, 0x80], 1),
        (1007, INVALID_UTF8, 1),
        (1009, TOO_LARGE, 1),
        (1008, EMPTY_FRAGMENTS, 1),
        // The limit is a rate, and these arrive faster.
        (1008, PINGS, 10),
    ];
    let mut random = Random::new(number as u64);
    let (code, violation, times) = VIOLATIONS[number % VIOLATIONS.len()];
    let mut client = wire::open(address, "/").await;
    // A valid message before the violation, and bytes after it that are still in flight.
    let mut bytes = frame(FIN | BINARY, &vec![1; random.below(2000)]);
    bytes.extend(violation.repeat(times));
    bytes.resize(bytes.len() + random.below(400_000), 0);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (piece, left) = rest.split_at(rest.len().min(1 + random.below(100_000)));
        client.write_all(piece).await.unwrap();
        rest = left;
        if random.below(2) == 0 {
            yield_now().await;
        }
    }
    assert_eq!(read_close(&mut client).await, Some(code), "run {number}");
    let end = client.read(&mut [0]).await;
    assert_eq!(end.unwrap(), 0, "run {number}");
}

#[tokio::test]
async fn delivers_the_code_of_a_violation_in_1000_runs_with_data_in_flight() {
    let address = tcp::serve(WebSocketLayer::new(Echo::new()).into_service()).await;
    run((0..1000).map(|number| violate(address, number))).await;
}

/// The place where a handler panics.
#[derive(Clone, Copy, Debug)]
enum Panics {
    Never,
    BeforeItAwaits,
    AtFirst,
    AfterReceiving(usize),
    AfterSending(usize),
    InAnotherTask(usize),
    InADestructor(usize),
}

/// An echo that panics as planned for each connection, by the number in its path.
struct Risky(Vec<Panics>);

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

impl Handler for Risky {
    fn handle(&self, socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send {
        let number: usize = socket.request().path()[1..].parse().unwrap();
        let plan = self.0[number];
        if let Panics::BeforeItAwaits = plan {
            panic!("before it awaits");
        }
        risky_echo(socket, plan)
    }
}

async fn risky_echo(mut socket: WebSocket, plan: Panics) -> Result<(), BoxError> {
    if let Panics::AtFirst = plan {
        panic!("at first");
    }
    let mut count = 0;
    while let Some(message) = socket.recv().await? {
        count += 1;
        match plan {
            Panics::AfterReceiving(at) if at == count => panic!("after receiving"),
            Panics::InAnotherTask(at) if at == count => {
                tokio::spawn(async { panic!("in another task") }).await?;
            }
            Panics::InADestructor(at) if at == count => {
                let _dropped_here = PanicsInDrop;
                return Ok(());
            }
            _ => {}
        }
        socket.send(message).await?;
        match plan {
            Panics::AfterSending(at) if at == count => panic!("after sending"),
            _ => {}
        }
    }
    Ok(())
}

const MESSAGES: usize = 20;

impl Panics {
    /// Returns the number of messages that are answered before the panic.
    fn answered(self) -> usize {
        match self {
            Self::Never => MESSAGES,
            Self::BeforeItAwaits | Self::AtFirst => 0,
            Self::AfterReceiving(at) | Self::InAnotherTask(at) | Self::InADestructor(at) => at - 1,
            Self::AfterSending(at) => at,
        }
    }
}

/// The messages of a client.
fn messages(number: usize) -> [Vec<u8>; MESSAGES] {
    let mut random = Random::new(number as u64);
    std::array::from_fn(|at| {
        let byte = u8::try_from((number + at) % 256).unwrap();
        vec![byte; random.below(3000)]
    })
}

/// Sends all messages, reads the expected answers and then the end.
async fn converse(mut client: TcpStream, number: usize, plan: Panics) {
    let messages = messages(number);
    let frames: Vec<_> = messages
        .iter()
        .flat_map(|it| frame(FIN | BINARY, it))
        .collect();
    let (mut reader, mut writer) = client.split();
    let sending = async {
        for piece in frames.chunks(1000 + number * 30) {
            writer.write_all(piece).await.unwrap();
            yield_now().await;
        }
    };
    let reading = async {
        for message in &messages[..plan.answered()] {
            let echo = read_frame(&mut reader).await.unwrap();
            assert!(echo.payload == *message, "{number} {plan:?}: {echo:?}");
        }
    };
    tokio::join!(sending, reading);
    let code = if let Panics::Never = plan {
        write(&mut client, &close(1000, "")).await;
        1000
    } else {
        1011
    };
    let end = read_frame(&mut client).await.unwrap();
    assert_eq!(end.close_code(), Some(code), "{number} {plan:?}");
    assert_eq!(
        end.payload.len(),
        2,
        "{number} {plan:?}: the panic is only logged"
    );
    if code == 1011 {
        write(&mut client, &close(1011, "")).await;
    }
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "{number} {plan:?}");
}

#[tokio::test]
async fn loses_nothing_of_900_connections_while_the_handlers_of_100_others_panic() {
    let mut random = Random::new(6455);
    let mut plans = vec![Panics::Never; 900];
    plans.extend((0..100).map(|_| {
        let at = 1 + random.below(MESSAGES);
        match random.below(6) {
            0 => Panics::BeforeItAwaits,
            1 => Panics::AtFirst,
            2 => Panics::AfterReceiving(at),
            3 => Panics::AfterSending(at),
            4 => Panics::InAnotherTask(at),
            _ => Panics::InADestructor(at),
        }
    }));
    random.shuffle(&mut plans);

    // No connection is dropped before the last one is open.
    let config = Config::new().close_timeout(Duration::from_secs(60));
    let layer = WebSocketLayer::new(Risky(plans.clone())).config(config);
    let connections = layer.connections();
    let address = tcp::serve(layer.into_service()).await;
    let mut clients = Vec::new();
    for number in 0..plans.len() {
        clients.push(within(wire::open(address, &format!("/{number}"))).await);
    }
    assert_eq!(connections.counts().open(), 1000);
    let (mut answered, mut bytes) = (0, 0);
    for (number, plan) in plans.iter().enumerate() {
        answered += plan.answered() as u64;
        let answers = messages(number).into_iter().take(plan.answered());
        bytes += answers.map(|message| message.len() as u64).sum::<u64>();
    }
    let all = clients.into_iter().zip(plans).enumerate();
    run(all.map(|(number, (client, plan))| converse(client, number, plan))).await;

    within(connections.wait()).await;
    let counts = connections.counts();
    assert_eq!((counts.open(), counts.accepted()), (0, 1000));
    let closed = [
        (
            (Side::Local, CountedCode::Code(CloseCode::INTERNAL_ERROR)),
            100,
        ),
        ((Side::Remote, CountedCode::Code(CloseCode::NORMAL)), 900),
    ];
    assert_eq!(counts.closed().collect::<Vec<_>>(), closed);
    assert_eq!(counts.refused().count(), 0);
    assert_eq!(
        (
            counts.traffic().messages_sent(),
            counts.traffic().bytes_sent()
        ),
        (answered, bytes)
    );
    assert!(counts.traffic().messages_received() >= 900 * MESSAGES as u64);
}
