//! No setting ends a connection whose peer keeps to the protocol and is a little late: each duration
//! and each count is tried at 0, at 1 and at its maximum.
//!
//! A setting that is added gets a line in [`DURATIONS`] or in [`COUNTS`]. The rates of messages and bytes do
//! not: they bound what a peer may say, however punctual it is (`tests/rates.rs`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{collections::BTreeMap, pin::pin, time::Duration};

use http::request::Parts;
use support::{pipe, wire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tower_websocket::{
    Accept, BoxError, CloseCode, Closed, Config, Connections, Echo, Handler, Refusal, Sender, Side,
    WebSocket, WebSocketLayer,
};
use wire::{CLOSE, CONTINUATION, FIN, Frame, PING, PONG, TEXT, frame, handshake, plain};

/// How late the peer is, with all that it does.
const LATE: Duration = Duration::from_millis(30);
/// How many bytes a stream holds in each direction: less than the head of a 101.
const PIPE: usize = 128;
const SECOND: Duration = Duration::from_secs(1);
/// Far more than a conversation takes, in the time of a clock that is stopped.
const GUARD: Duration = Duration::from_secs(3600);

/// All that can be set.
#[derive(Clone)]
struct Settings {
    config: Config,
    accept_timeout: Duration,
    upgrade_timeout: Duration,
    connections: Connections,
    /// How often the peer says something, when it has nothing to say but control frames.
    rounds: usize,
}

impl Settings {
    fn new() -> Self {
        Self {
            config: Config::new(),
            accept_timeout: 10 * SECOND,
            upgrade_timeout: 10 * SECOND,
            connections: Connections::new(),
            rounds: 15,
        }
    }

    fn config(mut self, set: impl FnOnce(Config) -> Config) -> Self {
        self.config = set(self.config);
        self
    }

    fn connections(mut self, set: impl FnOnce(Connections) -> Connections) -> Self {
        self.connections = set(self.connections);
        self
    }
}

type Set<T> = fn(Settings, T) -> Settings;

/// The settings that are durations. `max_lifetime`, which ends each connection, has a test of its own.
const DURATIONS: [(&str, Set<Duration>); 12] = [
    ("assembly_timeout", |settings, time| {
        settings.config(|config| config.assembly_timeout(time))
    }),
    ("write_timeout", |settings, time| {
        settings.config(|config| config.write_timeout(time))
    }),
    ("receive_timeout", |settings, time| {
        settings.config(|config| config.receive_timeout(time).max_inbox(1, 1))
    }),
    ("handler_grace", |settings, time| {
        settings.config(|config| config.handler_grace(time))
    }),
    ("keepalive, silence", |settings, time| {
        settings.config(|config| config.keepalive(time, 20 * SECOND))
    }),
    ("keepalive, answer", |settings, time| {
        settings.config(|config| config.keepalive(SECOND, time))
    }),
    ("keepalive, both", |settings, time| {
        settings.config(|config| config.keepalive(time, time))
    }),
    ("first_message_timeout", |settings, time| {
        settings.config(|config| config.first_message_timeout(time))
    }),
    ("close_timeout", |settings, time| {
        settings.config(|config| config.close_timeout(time))
    }),
    ("accept_timeout", |mut settings, time| {
        settings.accept_timeout = time;
        settings
    }),
    ("upgrade_timeout", |mut settings, time| {
        settings.upgrade_timeout = time;
        settings
    }),
    ("shutdown_spread", |settings, time| {
        settings.connections(|connections| connections.shutdown_spread(time))
    }),
];

/// The settings that are counts.
const COUNTS: [(&str, Set<usize>); 13] = [
    ("max_fragments, frames", |settings, count| {
        settings.config(|config| config.max_fragments(small(count), 16))
    }),
    ("max_fragments, empty", |settings, count| {
        settings.config(|config| config.max_fragments(16_384, small(count)))
    }),
    ("max_fragments, both", |settings, count| {
        settings.config(|config| config.max_fragments(small(count), small(count)))
    }),
    ("max_control_frames, per_second", |mut settings, count| {
        // More frames than may come at once.
        settings.rounds = 110;
        settings.config(|config| config.max_control_frames(small(count), 200))
    }),
    ("max_control_frames, burst", |settings, count| {
        settings.config(|config| config.max_control_frames(100, small(count)))
    }),
    ("max_control_frames, both", |settings, count| {
        settings.config(|config| config.max_control_frames(small(count), small(count)))
    }),
    ("max_inbox, messages", |settings, count| {
        settings.config(|config| config.max_inbox(count, 64 * 1024))
    }),
    ("max_inbox, bytes", |settings, count| {
        settings.config(|config| config.max_inbox(16, count))
    }),
    ("max_inbox, both", |settings, count| {
        settings.config(|config| config.max_inbox(count, count))
    }),
    ("max_outbox, messages", |settings, count| {
        settings.config(|config| config.max_outbox(count, 64 * 1024))
    }),
    ("max_outbox, bytes", |settings, count| {
        settings.config(|config| config.max_outbox(16, count))
    }),
    ("max_outbox, both", |settings, count| {
        settings.config(|config| config.max_outbox(count, count))
    }),
    // At 0 nobody gets in, which is what it says.
    ("max_connections", |settings, count| {
        settings.connections(|connections| connections.max_connections(count.max(1)))
    }),
];

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

const TIMES: [Duration; 3] = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
const NUMBERS: [usize; 3] = [0, 1, usize::MAX];

/// Who serves the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Host {
    Echo,
    Handler,
    /// A task apart from the connection's.
    Task,
    #[cfg(feature = "client")]
    Client,
}

const HOSTS: &[Host] = &[
    Host::Echo,
    Host::Handler,
    Host::Task,
    #[cfg(feature = "client")]
    Host::Client,
];

/// How a conversation ends, and how much of it there is before.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The peer closes.
    Remote,
    /// We close: a shutdown, or the handler.
    Local,
    /// The connection is as old as it may be, which comes in the middle of the conversation.
    Lifetime,
}

/// Repeats what comes, after it has taken its time to accept.
struct Repeats;

impl Handler for Repeats {
    async fn accept(&self, _: &mut Parts) -> Result<Accept, Refusal> {
        sleep(LATE).await;
        Ok(Accept::new())
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        repeat(&mut socket).await
    }
}

async fn repeat(socket: &mut WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// The other end of the peer's stream.
enum Served {
    Layer(Connections),
    Socket(Sender, JoinHandle<Result<(), BoxError>>),
}

impl Served {
    fn layer(handler: impl Handler, settings: Settings) -> (Self, DuplexStream) {
        let layer = WebSocketLayer::new(handler)
            .config(settings.config)
            .accept_timeout(settings.accept_timeout)
            .upgrade_timeout(settings.upgrade_timeout)
            .connections_in(&settings.connections);
        let io = pipe::serve(layer.into_service(), PIPE);
        (Self::Layer(settings.connections), io)
    }

    fn socket(mut socket: WebSocket) -> Self {
        let sender = socket.sender();
        let repeats = tokio::spawn(async move { repeat(&mut socket).await });
        Self::Socket(sender, repeats)
    }

    /// Begins to close from this side; resolves when the connection is over.
    async fn close(&self) {
        match self {
            Self::Layer(connections) => {
                let report = connections.shutdown(GUARD).await;
                assert_eq!((report.clean, report.aborted), (1, 0));
            }
            Self::Socket(sender, _) => {
                sender.close(CloseCode::GOING_AWAY, "").unwrap();
                let _ = sender.closed().await;
            }
        }
    }

    /// Asserts that the connection ends, by which side, with which code, and cleanly.
    async fn assert_ended(self, by: Side, code: u16) {
        let code = Some(CloseCode::new(code).unwrap());
        match self {
            Self::Layer(connections) => {
                connections.wait().await;
                let closed = connections.counts().closed;
                assert_eq!(closed, BTreeMap::from([((by, code), 1)]));
            }
            Self::Socket(sender, repeats) => {
                let closed: Closed = sender.closed().await;
                let is_clean = closed.is_clean();
                assert_eq!((closed.side(), closed.code(), is_clean), (by, code, true));
                repeats.await.unwrap().unwrap();
            }
        }
    }
}

/// The reading side of a peer that is late.
struct Reader {
    io: ReadHalf<DuplexStream>,
    /// What has come and was not looked at.
    bytes: Vec<u8>,
    /// When the rest of what has come is read.
    reads_at: Option<Instant>,
}

impl Reader {
    /// Reads what has come, as late as it is; false at the end of the stream. May be dropped and
    /// called again.
    async fn fill(&mut self) -> bool {
        let at = match self.reads_at {
            Some(at) => at,
            // The rest stays where it is, so that it is in the way of what comes behind it.
            None => match (&mut self.io).take(1).read_buf(&mut self.bytes).await {
                Ok(1) => *self.reads_at.insert(Instant::now() + LATE),
                _ => return false,
            },
        };
        sleep_until(at).await;
        self.reads_at = None;
        let mut rest = [0; PIPE];
        // There need not be any.
        if let Ok(read) = timeout(Duration::ZERO, self.io.read(&mut rest)).await {
            self.bytes.extend(&rest[..read.unwrap_or(0)]);
        }
        true
    }
}

/// Keeps to the protocol, and is late.
struct Peer {
    reader: Reader,
    writer: WriteHalf<DuplexStream>,
    /// Pings that are answered at the end of a frame.
    owed: Vec<Vec<u8>>,
    within_frame: bool,
    /// How many have come, and since when.
    pings: u32,
    since: Instant,
    /// Serves, rather than is served.
    serves: bool,
}

impl Peer {
    fn new(io: DuplexStream) -> Self {
        let (io, writer) = split(io);
        Self {
            reader: Reader {
                io,
                bytes: Vec::new(),
                reads_at: None,
            },
            writer,
            owed: Vec::new(),
            within_frame: false,
            pings: 0,
            since: Instant::now(),
            serves: false,
        }
    }

    fn frame(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        match self.serves {
            true => plain(first, payload),
            false => frame(first, payload),
        }
    }

    /// Writes bytes, and reads while they are not taken.
    async fn write(&mut self, bytes: &[u8]) {
        let mut write = pin!(self.writer.write_all(bytes));
        loop {
            tokio::select! {
                biased;
                written = &mut write => return written.unwrap(),
                more = self.reader.fill() => assert!(more, "the stream ends while it is written to"),
            }
        }
    }

    async fn send(&mut self, first: u8, payload: &[u8]) {
        let frame = self.frame(first, payload);
        self.write(&frame).await;
    }

    /// Reads a head up to the empty line behind it.
    async fn read_head(&mut self) -> String {
        loop {
            if let Some(end) = self
                .reader
                .bytes
                .windows(4)
                .position(|end| end == b"\r\n\r\n")
            {
                let head: Vec<_> = self.reader.bytes.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.reader.fill().await, "the stream ends in a head");
        }
    }

    /// Takes a frame from what was read.
    async fn take(&mut self) -> Option<Frame> {
        let mut rest = &self.reader.bytes[..];
        let frame = match self.serves {
            true => Some(wire::read_masked(&mut rest).await?.0),
            false => wire::read_frame(&mut rest).await,
        };
        let read = self.reader.bytes.len() - rest.len();
        let frame = frame?;
        self.reader.bytes.drain(..read);
        Some(frame)
    }

    /// Reads the next frame that is no ping, and answers those before it. `None` at the end of the
    /// stream. May be dropped and called again.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            let Some(frame) = self.take().await else {
                if !self.reader.fill().await {
                    assert!(self.reader.bytes.is_empty(), "the stream ends in a frame");
                    return None;
                }
                continue;
            };
            if frame.first != FIN | PING {
                return Some(frame);
            }
            self.pings += 1;
            // No more than one in 50 ms, the lowest silence.
            let least = self.pings * Duration::from_millis(50);
            assert!(least < self.since.elapsed() + SECOND, "a flood of pings");
            self.owed.push(frame.payload);
            self.answer().await;
        }
    }

    async fn answer(&mut self) {
        while let (false, Some(ping)) = (self.within_frame, self.owed.pop()) {
            self.send(FIN | PONG, &ping).await;
        }
    }

    /// Says nothing for so long, but for the answers to pings, and expects nothing.
    async fn pause(&mut self, time: Duration) {
        let next = timeout_at(Instant::now() + time, self.next()).await;
        assert!(next.is_err(), "{} in a pause", shown(&next.unwrap()));
    }

    /// Writes bytes in two halves, the second one late.
    async fn write_in_halves(&mut self, bytes: &[u8]) {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        self.within_frame = true;
        self.write(first).await;
        self.pause(LATE).await;
        self.write(second).await;
        self.within_frame = false;
        self.answer().await;
    }

    async fn expect(&mut self, first: u8, payload: &[u8]) {
        let expected = Some(Frame {
            first,
            payload: payload.to_vec(),
        });
        let next = self.next().await;
        assert!(
            next == expected,
            "{} for {}",
            shown(&next),
            shown(&expected)
        );
    }

    /// Asks for a WebSocket.
    async fn ask(&mut self) {
        self.write_in_halves(handshake("/").as_bytes()).await;
        let head = self.read_head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// Sends what a peer may send, and reads what it gets for it.
    async fn converse(&mut self) {
        let hello = self.frame(FIN | TEXT, b"hello");
        self.write_in_halves(&hello).await;
        self.expect(FIN | TEXT, b"hello").await;

        // As many frames as the lowest setting allows, and as many empty ones that are not the last.
        self.send(TEXT, b"").await;
        for payload in ["", "", "", "a", "b", "c", "d"] {
            self.send(CONTINUATION, payload.as_bytes()).await;
        }
        self.send(FIN | PING, b"between").await;
        self.expect(FIN | PONG, b"between").await;
        for payload in ["e", "f", "g", "h", "i", "j", "k"] {
            self.send(CONTINUATION, payload.as_bytes()).await;
        }
        self.send(FIN | CONTINUATION, b"").await;
        self.expect(FIN | TEXT, b"abcdefghijk").await;

        // More than the stream holds comes back.
        let long = self.frame(FIN | TEXT, &[b'x'; 3 * PIPE]);
        self.write(&long).await;
        self.expect(FIN | TEXT, &[b'x'; 3 * PIPE]).await;
        let burst = self.frame(FIN | TEXT, b"one of many").repeat(20);
        self.write(&burst).await;
        for _ in 0..20 {
            self.expect(FIN | TEXT, b"one of many").await;
        }
    }

    /// Is idle, but for control frames now and then.
    async fn rest(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.send(FIN | PONG, b"unasked for").await;
            self.send(FIN | PING, b"there?").await;
            self.expect(FIN | PONG, b"there?").await;
            self.pause(2 * SECOND).await;
        }
    }

    /// Closes behind a last message, which is answered.
    async fn close(&mut self) {
        let close = self.frame(FIN | CLOSE, &1000_u16.to_be_bytes());
        let last = [self.frame(FIN | TEXT, b"last"), close].concat();
        self.write(&last).await;
        self.expect(FIN | TEXT, b"last").await;
        self.expect(FIN | CLOSE, &1000_u16.to_be_bytes()).await;
        self.leave().await;
    }

    /// Waits for a Close with 1001, and answers it.
    async fn is_closed(&mut self) {
        let going_away = 1001_u16.to_be_bytes();
        let next = self.next().await;
        let is_close =
            |next: &Frame| next.first == FIN | CLOSE && next.payload.starts_with(&going_away);
        assert!(
            next.as_ref().is_some_and(is_close),
            "{} for 1001",
            shown(&next)
        );
        self.send(FIN | CLOSE, &going_away).await;
        self.leave().await;
    }

    /// Waits for the end of the stream if it is the server's to come first (RFC 6455 §7.1.1).
    async fn leave(&mut self) {
        if !self.serves {
            let next = self.next().await;
            assert!(next.is_none(), "{} for the end", shown(&next));
        }
    }
}

/// A frame as it is read best.
fn shown(frame: &Option<Frame>) -> String {
    match frame {
        None => "the end".to_owned(),
        Some(Frame { first, payload }) if *first == FIN | CLOSE && payload.len() > 1 => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            format!("Close {code} ({})", payload[2..].escape_ascii())
        }
        Some(Frame { first, payload }) => format!("{first:#x} ({})", payload.escape_ascii()),
    }
}

/// Opens a connection and has it served.
async fn open(host: Host, settings: Settings) -> (Served, Peer) {
    let (served, io) = match host {
        Host::Echo => Served::layer(Echo::new(), settings),
        Host::Handler => Served::layer(Repeats, settings),
        Host::Task => {
            let (near, far) = duplex(PIPE);
            let socket = WebSocket::from_io(near, settings.config);
            return (Served::socket(socket), Peer::new(far));
        }
        #[cfg(feature = "client")]
        Host::Client => return client::open(settings.config).await,
    };
    let mut peer = Peer::new(io);
    peer.ask().await;
    (served, peer)
}

#[cfg(feature = "client")]
mod client {
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
    use tower_websocket::client::{Handshake, connect_with};

    use super::*;

    /// Connects to a peer that serves.
    pub(crate) async fn open(config: Config) -> (Served, Peer) {
        connect(Handshake::new("ws://example.com/").unwrap().config(config)).await
    }

    async fn connect(handshake: Handshake) -> (Served, Peer) {
        let (near, far) = duplex(PIPE);
        let mut peer = Peer::new(far);
        peer.serves = true;
        let answer = async {
            let head = peer.read_head().await;
            let key = head
                .lines()
                .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            let accept = derive_accept_key(key.unwrap().as_bytes());
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            let (first, second) = head.as_bytes().split_at(head.len() / 2);
            peer.write(first).await;
            sleep(LATE).await;
            peer.write(second).await;
        };
        let (connected, ()) = tokio::join!(connect_with(handshake, near), answer);
        (Served::socket(connected.unwrap().0), peer)
    }

    #[tokio::test(start_paused = true)]
    async fn no_timeout_of_a_handshake_is_too_short_for_a_server_that_is_a_little_late() {
        for time in TIMES {
            let handshake = Handshake::new("ws://example.com/").unwrap().timeout(time);
            let (_served, mut peer) = connect(handshake).await;
            peer.converse().await;
        }
    }
}

/// Opens a connection, talks on it, and ends it.
async fn play(host: Host, settings: Settings, end: End) {
    let rounds = settings.rounds;
    let (served, mut peer) = open(host, settings).await;
    peer.converse().await;
    match end {
        End::Remote => {
            peer.rest(rounds).await;
            peer.close().await;
            drop(peer);
            served.assert_ended(Side::Remote, 1000).await;
        }
        End::Local => {
            peer.rest(rounds).await;
            let is_closed = async move { peer.is_closed().await };
            tokio::join!(served.close(), is_closed);
            served.assert_ended(Side::Local, 1001).await;
        }
        End::Lifetime => {
            peer.is_closed().await;
            drop(peer);
            served.assert_ended(Side::Local, 1001).await;
        }
    }
}

/// Conversations that failed, each with what was wrong.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    /// Has the same conversation with each host; `settings` are made for each, because they hold the
    /// connections.
    async fn play(&mut self, name: &str, settings: impl Fn() -> Settings, ends: &[End]) {
        for (&host, &end) in HOSTS
            .iter()
            .flat_map(|host| ends.iter().map(move |end| (host, end)))
        {
            let settings = settings();
            let played = tokio::spawn(timeout(GUARD, play(host, settings, end))).await;
            let what = match played {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => "hangs".to_owned(),
                Err(error) => error.to_string(),
            };
            self.0.push(format!("{name}, {host:?}, {end:?}: {what}"));
        }
    }

    fn assert_none(self) {
        assert!(self.0.is_empty(), "{:#?}", self.0);
    }
}

const BOTH: &[End] = &[End::Remote, End::Local];

#[tokio::test(start_paused = true)]
async fn no_duration_ends_a_connection_with_a_peer_that_is_a_little_late() {
    let mut failures = Failures::default();
    failures.play("the defaults", Settings::new, BOTH).await;
    for (name, set) in DURATIONS {
        for time in TIMES {
            let ends = match (name, time) {
                // No Close of ours comes in this life.
                ("shutdown_spread", Duration::MAX) => &[End::Remote],
                _ => BOTH,
            };
            let name = format!("{name} at {time:?}");
            failures
                .play(&name, || set(Settings::new(), time), ends)
                .await;
        }
    }
    failures.assert_none();
}

#[tokio::test(start_paused = true)]
async fn no_count_ends_a_connection_with_a_peer_that_is_a_little_late() {
    let mut failures = Failures::default();
    for (name, set) in COUNTS {
        for count in NUMBERS {
            let name = format!("{name} at {count}");
            failures
                .play(&name, || set(Settings::new(), count), BOTH)
                .await;
        }
    }
    failures.assert_none();
}

#[tokio::test(start_paused = true)]
async fn not_all_settings_together_end_a_connection_with_a_peer_that_is_a_little_late() {
    let mut failures = Failures::default();
    for (time, count) in TIMES.into_iter().zip(NUMBERS) {
        let ends = match time {
            Duration::MAX => &[End::Remote],
            _ => BOTH,
        };
        let all = || {
            let settings = DURATIONS
                .iter()
                .fold(Settings::new(), |settings, (_, set)| set(settings, time));
            let counts = COUNTS.iter();
            let mut settings = counts.fold(settings, |settings, (_, set)| set(settings, count));
            settings.rounds = 15;
            settings
        };
        let name = format!("all at {time:?} and {count}");
        failures.play(&name, all, ends).await;
    }
    failures.assert_none();
}

/// A lifetime ends each connection: here it is long enough for a conversation, and what ends it is a
/// Close with 1001, in time to be answered.
#[tokio::test(start_paused = true)]
async fn no_lifetime_is_too_short_for_a_few_messages_and_the_closing_handshake() {
    let mut failures = Failures::default();
    for time in TIMES {
        let ends = match time {
            Duration::MAX => BOTH,
            _ => &[End::Lifetime],
        };
        let settings = || Settings::new().config(|config| config.max_lifetime(time));
        let name = format!("max_lifetime at {time:?}");
        failures.play(&name, settings, ends).await;
    }
    failures.assert_none();
}

/// What a peer may do where the sizes are 0: send empty messages, in pieces as well, and control
/// frames of any size.
#[tokio::test(start_paused = true)]
async fn takes_empty_messages_and_control_frames_where_sizes_are_zero() {
    for (name, config) in [
        ("max_message_size", Config::new().max_message_size(0)),
        ("max_frame_size", Config::new().max_frame_size(0)),
    ] {
        for &host in HOSTS {
            let settings = || Settings::new().config(|_| config.clone());
            let (served, mut peer) = open(host, settings()).await;
            peer.send(FIN | TEXT, b"").await;
            peer.expect(FIN | TEXT, b"").await;
            peer.send(TEXT, b"").await;
            peer.send(FIN | CONTINUATION, b"").await;
            peer.expect(FIN | TEXT, b"").await;
            peer.send(FIN | PING, &[7; 125]).await;
            peer.expect(FIN | PONG, &[7; 125]).await;
            peer.send(FIN | CLOSE, &1000_u16.to_be_bytes()).await;
            peer.expect(FIN | CLOSE, &1000_u16.to_be_bytes()).await;
            peer.leave().await;
            drop(peer);
            served.assert_ended(Side::Remote, 1000).await;

            // More than that is refused with the code for it, and not by dropping the connection.
            let (_served, mut peer) = open(host, settings()).await;
            peer.send(FIN | TEXT, b"x").await;
            let close = peer.next().await.unwrap();
            assert_eq!(close.close_code(), Some(1009), "{name}, {host:?}");
        }
    }
}

/// A peer whose frames are as small as they have to be gets its whole message through.
#[tokio::test(start_paused = true)]
async fn takes_a_message_in_frames_far_below_its_limit() {
    for &host in HOSTS {
        let settings = Settings::new().config(|config| config.max_frame_size(1));
        let (_served, mut peer) = open(host, settings).await;
        peer.send(TEXT, b"x").await;
        for _ in 0..1000 {
            peer.send(CONTINUATION, b"x").await;
        }
        peer.send(FIN | CONTINUATION, b"").await;
        peer.expect(FIN | TEXT, &[b'x'; 1001]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn lets_nobody_in_where_no_connections_are_allowed() {
    let connections = Connections::new().max_connections(0);
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&connections);
    let mut io = pipe::serve(layer.into_service(), PIPE);
    wire::write(&mut io, handshake("/").as_bytes()).await;
    let head = wire::read_head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}
