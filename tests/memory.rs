//! What a peer can make the server hold, in resident memory.
//!
//! Each part runs in a process of its own, one after the other, so that neither memory that another
//! part has freed nor one that runs beside it hides or adds anything. What is measured is the
//! anonymous part of the resident set, which the kernel counts page by page in
//! `/proc/self/smaps_rollup`; where there is no such file, nothing is measured. The streams are
//! pipes of a few KiB, and the clock is tokio's paused one.
//!
//! ```text
//! cargo test --test memory -- --nocapture
//! ```

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{io, time::Duration};

use memory::{Growth, KIB, MIB, measure};
use support::{
    handlers::receive,
    memory, pipe,
    tap::{Tap, Tapped},
    wire,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    BoxError, Config, Echo, Message, WebSocket, WebSocketLayer,
    error::{RecvError, SendError},
};
use wire::{
    BINARY, CONTINUATION, FIN, PING, PONG, TEXT, frame, header, read_close, read_frame, write,
};

const SECOND: Duration = Duration::from_secs(1);

/// What a pipe holds, in each direction.
const PIPE: usize = 4 * KIB;

const PARTS: &[(&str, fn())] = &[
    ("pings, nothing read", pings),
    ("pings without a limit, nothing read", unlimited_pings),
    ("pings of 125 bytes, nothing read", long_pings),
    (
        "pings of 125 bytes without a limit, nothing read",
        unlimited_long_pings,
    ),
    ("pongs without a limit", unlimited_pongs),
    ("pings without a limit, pongs swallowed", swallowed_pongs),
    ("32 bytes sent without end", || send_without_end(32, true)),
    ("1000 bytes sent without end, one buffer a write", || {
        send_without_end(1000, false)
    }),
    ("1990 bytes sent without end", || {
        send_without_end(1990, true);
    }),
    ("4 KiB sent without end", || send_without_end(4 * KIB, true)),
    ("4 KiB sent without end, one buffer a write", || {
        send_without_end(4 * KIB, false)
    }),
    ("100 KiB sent without end", || {
        send_without_end(100 * KIB, true);
    }),
    ("100 KiB sent without end, one buffer a write", || {
        send_without_end(100 * KIB, false)
    }),
    ("empty texts echoed behind 64 KiB, nothing read", || {
        echo_behind(64 * KIB, &frame(FIN | TEXT, b""));
    }),
    (
        "empty texts in two frames echoed behind 64 KiB, nothing read",
        || {
            let frames = [frame(TEXT, b""), frame(FIN | CONTINUATION, b"")];
            echo_behind(64 * KIB, &frames.concat());
        },
    ),
    ("32 bytes echoed, nothing read", || {
        echo_behind(0, &frame(FIN | TEXT, &[b'x'; 32]));
    }),
    ("2,000,000 empty fragments", empty_fragments),
    (
        "2,000,000 empty fragments without a limit",
        unlimited_empty_fragments,
    ),
    ("text that never ends, by 1 byte", || endless(TEXT, 1, 1008)),
    ("binary that never ends, by 1 byte", || {
        endless(BINARY, 1, 1008)
    }),
    ("text that never ends, by 100 bytes", || {
        endless(TEXT, 100, 1009)
    }),
    ("binary that never ends, by 100 bytes", || {
        endless(BINARY, 100, 1009)
    }),
    ("text that never ends, by 100 KiB", || {
        endless(TEXT, 100 * KIB, 1009)
    }),
    ("binary that never ends, by 100 KiB", || {
        endless(BINARY, 100 * KIB, 1009)
    }),
    ("frames over the limit", frames_over_the_limit),
    ("a frame by a byte a second", a_byte_a_second),
    ("1,000 frames declared", declared_frames),
    (
        "1,000 frames declared, after a handshake",
        declared_frames_after_a_handshake,
    ),
    ("1,000 idle connections", idle_connections),
];

#[test]
fn holds_no_more_than_it_may_whatever_a_peer_does() {
    measure("holds_no_more_than_it_may_whatever_a_peer_does", PARTS);
}

/// Runs a part after a connection that behaves.
fn run(part: impl Future<Output = ()>) {
    memory::run(async {
        warm_up().await;
        part.await;
    });
}

/// Has what the first connection of a thread costs paid by one that behaves.
async fn warm_up() {
    let (server, mut client) = duplex(PIPE);
    let mut socket = WebSocket::from_io(server, Config::new());
    write(&mut client, &frame(FIN | TEXT, b"warm")).await;
    let message = socket.recv().await.unwrap().unwrap();
    socket.send(message).await.unwrap();
    drop(socket);
    assert_eq!(read_close(&mut client).await, Some(1000));
}

fn unlimited() -> Config {
    Config::new().max_control_frames(u32::MAX, u32::MAX)
}

// ---------------------------------------------------------------------------------------------
// A peer that floods and never reads.

/// What came of a flood.
struct Flooded {
    sent: usize,
    total: usize,
    gone_after: Option<Duration>,
    error: Option<RecvError>,
    growth: Growth,
}

impl Flooded {
    fn assert_within(&self, bound: usize) {
        println!(
            "- sent {} of {} KiB; gone after {:?}: {:?}",
            self.sent / KIB,
            self.total / KIB,
            self.gone_after,
            self.error
        );
        self.growth.assert_within(bound, "growth");
    }
}

/// Sends 200 MiB, one every 40 ms if the server takes them, and reads nothing.
async fn flood(config: Config, frames: &[u8]) -> Flooded {
    let (server, client) = duplex(PIPE);
    flood_through(server, client, config, frames, 200 * MIB).await
}

async fn flood_through(
    server: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut client: DuplexStream,
    config: Config,
    frames: &[u8],
    total: usize,
) -> Flooded {
    let bytes = frames.repeat(64 * KIB / frames.len());
    let mut growth = Growth::start();
    let start = Instant::now();
    let receiver = receive(WebSocket::from_io(server, config));
    let mut sent = 0;
    let mut gone_after = None;
    let mut rest = &*bytes;
    let mut next = MIB;
    while sent < total {
        let most = rest.len().min(total - sent);
        match timeout(60 * SECOND, client.write(&rest[..most]))
            .await
            .unwrap()
        {
            Ok(written) => {
                sent += written;
                rest = &rest[written..];
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
                gone_after = Some(start.elapsed());
                break;
            }
        }
        if rest.is_empty() {
            rest = &bytes;
        }
        if sent >= next {
            next += MIB;
            growth.sample();
            sleep(Duration::from_millis(40)).await;
        }
    }
    growth.sample();
    let error = if gone_after.is_some() {
        receiver.await.unwrap()
    } else {
        receiver.abort();
        None
    };
    Flooded {
        sent,
        total,
        gone_after,
        error,
        growth,
    }
}

/// The limit cuts the peer off, and it is gone when the time for the closing is over.
fn pings() {
    run(async {
        let flooded = flood(Config::new(), &frame(FIN | PING, b"")).await;
        flooded.assert_within(256 * KIB);
        assert!(matches!(
            flooded.error,
            Some(RecvError::TooManyControlFrames)
        ));
        assert!(flooded.gone_after.unwrap() <= 10 * SECOND);
    });
}

/// The pongs block the output before the limit is reached.
fn long_pings() {
    run(async {
        let flooded = flood(Config::new(), &frame(FIN | PING, &[1; 125])).await;
        flooded.assert_within(256 * KIB);
        assert!(flooded.gone_after.unwrap() <= 10 * SECOND);
    });
}

fn unlimited_pings() {
    run(async {
        let flooded = flood(unlimited(), &frame(FIN | PING, b"")).await;
        flooded.assert_within(256 * KIB);
        assert!(matches!(flooded.error, Some(RecvError::Stalled)));
        assert!(flooded.sent < MIB, "reading stops");
        assert_eq!(flooded.gone_after, Some(10 * SECOND));
    });
}

fn unlimited_long_pings() {
    run(async {
        let flooded = flood(unlimited(), &frame(FIN | PING, &[1; 125])).await;
        flooded.assert_within(256 * KIB);
        assert!(matches!(flooded.error, Some(RecvError::Stalled)));
        assert!(flooded.sent < MIB, "reading stops");
        assert_eq!(flooded.gone_after, Some(10 * SECOND));
    });
}

/// What has to be decoded frame by frame, in a build that is not optimized.
const DECODED: usize = 20 * MIB;

/// Nothing answers a pong, so that all of them are read.
fn unlimited_pongs() {
    run(async {
        let (server, client) = duplex(PIPE);
        let frames = frame(FIN | PONG, &[1; 125]);
        let flooded = flood_through(server, client, unlimited(), &frames, DECODED).await;
        flooded.assert_within(256 * KIB);
        assert_eq!((flooded.gone_after, flooded.sent), (None, DECODED));
    });
}

/// Somebody on the way takes all the pongs, so that nothing blocks the output.
fn swallowed_pongs() {
    run(async {
        let (stream, client) = duplex(PIPE);
        let server = Tapped::new(stream, Swallows(true));
        let frames = frame(FIN | PING, &[1; 125]);
        let flooded = flood_through(server, client, unlimited(), &frames, DECODED).await;
        flooded.assert_within(256 * KIB);
        assert_eq!((flooded.gone_after, flooded.sent), (None, DECODED));
    });
}

// ---------------------------------------------------------------------------------------------
// A peer that has everything echoed, and never reads.

fn echo_behind(prefix: usize, frames: &[u8]) {
    run(async {
        let prefix = "x".repeat(prefix);
        let service = WebSocketLayer::new(Echo::prefixed(prefix)).into_service();
        let (server, mut client) = duplex(PIPE);
        handshake(&service, server, &mut client).await;
        let bytes = frames.repeat(64 * KIB / frames.len());
        let mut growth = Growth::start();
        let start = Instant::now();
        let mut sent = 0;
        while let Ok(Ok(written)) =
            timeout(SECOND, client.write(&bytes[sent % bytes.len()..])).await
        {
            sent += written;
            growth.sample();
        }
        growth.sample();
        println!("- sent {} KiB", sent / KIB);
        growth.assert_within(1088 * KIB, "growth");
        assert!(sent < MIB, "reading stops");
        assert!(start.elapsed() < 3 * SECOND);
    });
}

// ---------------------------------------------------------------------------------------------
// A handler that sends to a peer that never reads.

/// Whether what is written goes nowhere.
struct Swallows(bool);

impl Tap for Swallows {
    fn swallows(&self) -> bool {
        self.0
    }
}

fn send_without_end(len: usize, vectored: bool) {
    /// Enough for the allocator's grain to be small against what each of them holds.
    const CONNECTIONS: usize = 16;

    run(async {
        let (server, mut neighbour) = duplex(PIPE);
        let mut socket = WebSocket::from_io(server, Config::new());
        tokio::spawn(async move {
            while let Ok(Some(message)) = socket.recv().await {
                socket.send(message).await.unwrap();
            }
        });
        let pipes: Vec<_> = (0..CONNECTIONS).map(|_| duplex(PIPE)).collect();

        let mut growth = Growth::start();
        let start = Instant::now();
        let mut clients = Vec::new();
        let mut tasks = Vec::new();
        for (server, client) in pipes {
            let mut socket = if vectored {
                WebSocket::from_io(server, Config::new())
            } else {
                let stream = Tapped::new(server, Swallows(false));
                WebSocket::from_io(stream, Config::new())
            };
            clients.push(client);
            tasks.push(tokio::spawn(async move {
                let mut sent = 0;
                loop {
                    let message = Message::binary(vec![1; len]);
                    match socket.send(message).await {
                        Ok(()) => sent += 1,
                        Err(SendError::Closed) => return (sent, socket.recv().await),
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }));
        }
        for _ in 0..9 {
            sleep(SECOND).await;
            growth.sample();
            // The neighbour is answered without any time passing.
            let asked = Instant::now();
            write(&mut neighbour, &frame(FIN | TEXT, b"there?")).await;
            let answer = read_frame(&mut neighbour).await.unwrap();
            assert_eq!(answer.payload, b"there?");
            assert_eq!(asked.elapsed(), Duration::ZERO);
        }
        assert!(
            tasks.iter().all(|task| !task.is_finished()),
            "all of them wait"
        );
        let mut most = 0;
        for task in tasks {
            let (sent, result) = task.await.unwrap();
            assert!(matches!(result, Err(RecvError::Stalled)), "{result:?}");
            most = most.max(sent);
        }
        assert_eq!(start.elapsed(), 10 * SECOND);
        drop(clients);
        println!("- {most} messages were taken");
        // The message that waits is in the handler's hands, and the pipe's bytes are the pipe's.
        growth.most = (growth.most / CONNECTIONS).saturating_sub(len + PIPE);
        growth.assert_within(MIB + 64 * KIB, "growth a connection");
    });
}

// ---------------------------------------------------------------------------------------------
// Messages that do not end.

/// Sends what `next` says, also after the Close, until it says nothing or the server is gone;
/// returns how much it had sent when the Close came, and its code.
async fn tell<'a>(
    config: Config,
    growth: &mut Growth,
    mut next: impl FnMut(usize) -> Option<&'a [u8]>,
) -> (usize, Option<u16>) {
    let (server, client) = duplex(PIPE);
    let receiver = receive(WebSocket::from_io(server, config));
    let (mut reader, mut writer) = tokio::io::split(client);
    let close = tokio::spawn(async move { read_close(&mut reader).await });
    let mut sent = 0;
    let mut sampled = 0;
    let mut closed_after = None;
    while let Some(bytes) = next(sent) {
        if writer.write_all(bytes).await.is_err() {
            break;
        }
        sent += bytes.len();
        if closed_after.is_none() && close.is_finished() {
            closed_after = Some(sent);
        }
        if sent - sampled >= 256 * KIB || closed_after == Some(sent) {
            sampled = sent;
            growth.sample();
        }
    }
    let code = timeout(120 * SECOND, close).await.unwrap().unwrap();
    growth.sample();
    drop(writer);
    let _ = receiver.await.unwrap();
    (closed_after.unwrap_or(sent), code)
}

fn empty_fragments() {
    run(async {
        let mut growth = Growth::start();
        let first = frame(TEXT, b"");
        let more = frame(CONTINUATION, b"").repeat(1000);
        let (sent, code) = tell(Config::new(), &mut growth, |sent| {
            match sent / first.len() {
                0 => Some(&first),
                1..2_000_000 => Some(&more),
                _ => None,
            }
        })
        .await;
        let fragments = sent / first.len();
        println!("- closed with {code:?} when {fragments} were sent");
        assert_eq!(code, Some(1008));
        // It was 17 that made the server close; the others were on their way.
        assert!(fragments <= 1 + PIPE, "{fragments}");
        growth.assert_within(64 * KIB, "growth");
    });
}

/// Without limits they are a message as any other.
fn unlimited_empty_fragments() {
    run(async {
        let mut growth = Growth::start();
        let (server, mut client) = duplex(PIPE);
        let config = Config::new().max_fragments(u32::MAX, u32::MAX);
        let mut socket = WebSocket::from_io(server, config);
        let receiving = tokio::spawn(async move { socket.recv().await });
        let thousand = frame(CONTINUATION, b"").repeat(1000);
        write(&mut client, &frame(TEXT, b"all")).await;
        for _ in 0..2000 {
            write(&mut client, &thousand).await;
        }
        growth.sample();
        write(&mut client, &frame(FIN | CONTINUATION, b" of it")).await;
        let message = receiving.await.unwrap().unwrap().unwrap();
        assert_eq!(message, Message::from("all of it"));
        growth.assert_within(64 * KIB, "growth");
    });
}

fn endless(opcode: u8, len: usize, code: u16) {
    run(async {
        let fragment = vec![b'x'; len];
        let first = frame(opcode, &fragment);
        let more = frame(CONTINUATION, &fragment);
        let mut growth = Growth::start();
        let (sent, closed) = tell(Config::new(), &mut growth, |sent| {
            (sent < 4 * MIB).then_some(if sent == 0 { &first } else { &more })
        })
        .await;
        println!("- closed with {closed:?} after {sent} bytes");
        assert_eq!(closed, Some(code));
        // What was outgrown stays with the allocator.
        growth.assert_within(MIB + 128 * KIB, "growth");
    });
}

fn frames_over_the_limit() {
    run(async {
        let mut growth = Growth::start();
        for declared in [MIB + 1, 1 << 40, usize::MAX >> 1] {
            let head = header(FIN | BINARY, declared, true);
            let (_, code) = tell(Config::new(), &mut growth, |sent| {
                (sent == 0).then_some(&head)
            })
            .await;
            println!("- a frame of {declared} bytes: closed with {code:?}");
            assert_eq!(code, Some(1009), "{declared}");
        }
        growth.assert_within(64 * KIB, "growth");
    });
}

fn a_byte_a_second() {
    run(async {
        let mut growth = Growth::start();
        let (server, mut client) = duplex(PIPE);
        let start = Instant::now();
        let receiver = receive(WebSocket::from_io(server, Config::new()));
        write(&mut client, &header(FIN | BINARY, MIB, true)).await;
        for _ in 0..59 {
            sleep(SECOND).await;
            write(&mut client, b"x").await;
        }
        assert!(!receiver.is_finished());
        assert_eq!(read_close(&mut client).await, Some(1008));
        assert_eq!(start.elapsed(), 60 * SECOND);
        println!("- closed with 1008 after 60 s");
        growth.sample();
        growth.assert_within(64 * KIB, "growth");
    });
}

// ---------------------------------------------------------------------------------------------
// Many connections.

/// Makes pipes whose memory is there already.
async fn pipes(count: usize) -> Vec<(DuplexStream, DuplexStream)> {
    let mut pipes = Vec::with_capacity(count);
    for _ in 0..count {
        let (mut server, mut client) = duplex(KIB);
        let mut bytes = [1; KIB];
        for _ in 0..2 {
            write(&mut server, &bytes).await;
            write(&mut client, &bytes).await;
            client.read_exact(&mut bytes).await.unwrap();
            server.read_exact(&mut bytes).await.unwrap();
        }
        pipes.push((server, client));
    }
    pipes
}

/// Declares a frame of 1 MiB on every connection, sends one byte of it, and waits for the Closes.
async fn declare(mut clients: Vec<DuplexStream>, mut growth: Growth) {
    let opened = growth.sample();
    let start = Instant::now();
    let mut bytes = header(FIN | BINARY, MIB, true);
    bytes.extend([1, 2, 3, 4, 5]);
    for client in &mut clients {
        write(client, &bytes).await;
    }
    for _ in 0..50 {
        sleep(SECOND).await;
        growth.sample();
    }
    println!("- open: {} bytes a connection", opened / clients.len());
    println!(
        "- declared: {} bytes more",
        (growth.most - opened) / clients.len()
    );
    let count = clients.len();
    for mut client in clients {
        assert_eq!(read_close(&mut client).await, Some(1008));
    }
    assert_eq!(start.elapsed(), 60 * SECOND);
    growth.most /= count;
    growth.assert_within(8 * KIB, "growth a connection");
}

fn declared_frames() {
    run(async {
        let mut sockets = Vec::with_capacity(1000);
        let mut clients = Vec::with_capacity(1000);
        let pipes = pipes(1000).await;
        let growth = Growth::start();
        for (server, client) in pipes {
            sockets.push(WebSocket::from_io(server, Config::new()));
            clients.push(client);
        }
        sleep(SECOND).await;
        declare(clients, growth).await;
    });
}

/// Does the opening handshake on a connection of its own, served by hyper.
async fn handshake(service: &impl pipe::Served, server: DuplexStream, client: &mut DuplexStream) {
    pipe::serve_on(server, service.clone());
    wire::upgrade(client, &wire::handshake("/")).await;
}

async fn opened(count: usize) -> (Vec<DuplexStream>, Growth) {
    let service = WebSocketLayer::new(async |mut socket: WebSocket| {
        while socket.recv().await?.is_some() {}
        Ok::<_, BoxError>(())
    })
    .into_service();
    let mut pipes = pipes(count + 1).await;
    // What the first of them costs is not the others' doing.
    let (server, mut client) = pipes.pop().unwrap();
    handshake(&service, server, &mut client).await;
    let growth = Growth::start();
    let mut clients = Vec::with_capacity(count);
    for (server, mut client) in pipes {
        handshake(&service, server, &mut client).await;
        clients.push(client);
    }
    sleep(SECOND).await;
    (clients, growth)
}

fn declared_frames_after_a_handshake() {
    run(async {
        let (clients, growth) = opened(1000).await;
        declare(clients, growth).await;
    });
}

fn idle_connections() {
    run(async {
        let (clients, mut growth) = opened(1000).await;
        growth.sample();
        growth.most /= clients.len();
        growth.assert_within(8 * KIB, "growth a connection");
    });
}
