//! No setting ends a connection whose peer keeps to the protocol and is a little late: each duration
//! and each count is tried at 0, at 1 and at its maximum.
//!
//! A setting that is added gets a line in [`DURATIONS`] or in [`COUNTS`]. The rates of messages and bytes do
//! not: they limit any peer, even one that is on time (`tests/rates.rs`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "config_matrix/peer.rs"]
mod peer;
#[path = "config_matrix/settings.rs"]
mod settings;
mod support;

use std::time::Duration;

use http::request::Parts;
use peer::Peer;
use settings::{COUNTS, DURATIONS, NUMBERS, Settings, TIMES};
use support::{pipe, wire};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower_websocket::{
    Accept, BoxError, CloseCode, Closed, Config, Connections, CountedCode, Echo, Handler,
    IntoHandler, Refusal, Sender, Side, WebSocket, WebSocketLayer,
};
use wire::{CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, handshake};

/// How late the peer is, with all that it does.
const LATE: Duration = Duration::from_millis(30);
/// How many bytes a stream holds in each direction: less than the head of a 101.
const PIPE: usize = 128;
const SECOND: Duration = Duration::from_secs(1);
/// Far more than a conversation takes. The clock is paused, so the wait takes no real time.
const GUARD: Duration = Duration::from_secs(3600);

/// The code that serves the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Host {
    Echo,
    Handler,
    /// Another task than the connection's.
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
    fn layer<M>(
        handler: impl IntoHandler<M, Handler: Handler>,
        settings: Settings,
    ) -> (Self, DuplexStream) {
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
        let code = CloseCode::new(code).unwrap();
        match self {
            Self::Layer(connections) => {
                connections.wait().await;
                let counts = connections.counts();
                assert_eq!(counts.closed_as(by, CountedCode::Code(code)), 1);
                assert_eq!(counts.closed().count(), 1);
            }
            Self::Socket(sender, repeats) => {
                let closed: Closed = sender.closed().await;
                let is_clean = closed.is_clean();
                assert_eq!(
                    (closed.side(), closed.code(), is_clean),
                    (by, Some(code), true)
                );
                repeats.await.unwrap().unwrap();
            }
        }
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

/// Where the maximum sizes are 0, a peer may send empty messages, also in fragments, and control
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
