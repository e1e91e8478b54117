//! The events that an observer of a registry gets, and their order.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/pipe.rs"]
mod pipe;
#[path = "support/wire.rs"]
mod wire;

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::request::Parts;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{sleep, timeout},
};
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Config, Connection, ConnectionId, Connections,
    CountedCode, Echo, Ended, Handler, Observer, Refusal, Refused, Side, Traffic, WebSocket,
    WebSocketLayer,
};
use wire::{BINARY, FIN, PING, PONG, TEXT, close, frame, handshake, read_frame, read_head, write};

const GUARD: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
enum Event {
    Refused(&'static str, u16, String),
    Opened(ConnectionId, String, Duration),
    RoundTrip(ConnectionId, Duration),
    Traffic(ConnectionId, Traffic),
    Closed(ConnectionId, Ended),
}

/// Records all events.
#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    fn push(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Observer for Recorder {
    fn refused(&self, refused: &Refused<'_>) {
        let status = refused.status().as_u16();
        assert_eq!(refused.error().label(), refused.label());
        self.push(Event::Refused(
            refused.label(),
            status,
            refused.path().into(),
        ));
    }

    fn opened(&self, connection: &Connection, handshake: Duration) {
        let path = connection.path().to_owned();
        self.push(Event::Opened(connection.id(), path, handshake));
    }

    fn round_trip(&self, connection: &Connection, round_trip: Duration) {
        assert_eq!(connection.round_trip(), Some(round_trip));
        self.push(Event::RoundTrip(connection.id(), round_trip));
    }

    fn traffic(&self, connection: &Connection, traffic: &Traffic) {
        self.push(Event::Traffic(connection.id(), *traffic));
    }

    fn closed(&self, connection: &Connection, ended: &Ended) {
        assert_eq!(connection.traffic(), ended.traffic());
        self.push(Event::Closed(connection.id(), ended.clone()));
    }
}

fn observed() -> (Connections, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let connections = Connections::new().observer(Arc::clone(&recorder));
    (connections.shutdown_spread(Duration::ZERO), recorder)
}

/// Accepts, refuses and ends depending on the path. Echoes one message first, if one arrives.
struct ByPath;

impl Handler for ByPath {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        match request.uri.path() {
            "/refuse" => Err(Refusal::unauthorized()),
            "/refuse-by-close" => {
                let frame = CloseFrame::new(CloseCode::new(4401).unwrap(), "").unwrap();
                Err(Refusal::close(frame))
            }
            "/panic-in-accept" => panic!("of accept"),
            "/late" => pending().await,
            "/slow" => {
                sleep(Duration::from_secs(3)).await;
                Ok(Accept::new())
            }
            _ => Ok(Accept::new()),
        }
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        let path = socket.request().path().to_owned();
        if let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        match path.as_str() {
            "/return" => Ok(()),
            "/fail" => Err("no database".into()),
            "/panic" => panic!("of the handler"),
            "/code" => Err(CloseFrame::new(CloseCode::new(4001)?, "")?.into()),
            _ => {
                while socket.recv().await?.is_some() {}
                Ok(())
            }
        }
    }
}

fn by_path(connections: &Connections) -> WebSocketLayer<ByPath> {
    WebSocketLayer::new(ByPath).connections_in(connections)
}

async fn ask<H: Handler>(layer: &WebSocketLayer<H>, request: &str) -> (u16, DuplexStream) {
    let mut client = pipe::serve(layer.clone().into_service(), 64 * 1024);
    write(&mut client, request.as_bytes()).await;
    let head = timeout(GUARD, read_head(&mut client)).await.unwrap();
    (head["HTTP/1.1 ".len()..][..3].parse().unwrap(), client)
}

async fn open<H: Handler>(layer: &WebSocketLayer<H>, path: &str) -> DuplexStream {
    let (status, client) = ask(layer, &handshake(path)).await;
    assert_eq!(status, 101, "{path}");
    client
}

/// Asserts that one connection was opened and closed, in this order, and that all its messages were
/// reported. Returns its end.
#[track_caller]
fn assert_complete(events: &[Event], path: &str) -> Ended {
    let [
        Event::Opened(id, opened_path, _),
        between @ ..,
        Event::Closed(closed_id, ended),
    ] = events
    else {
        panic!("{path}: {events:?}");
    };
    assert_eq!((opened_path.as_str(), id), (path, closed_id));
    let mut sum = [0; 4];
    for event in between {
        match event {
            Event::Traffic(of, traffic) if of == id => {
                sum[0] += traffic.messages_received();
                sum[1] += traffic.bytes_received();
                sum[2] += traffic.messages_sent();
                sum[3] += traffic.bytes_sent();
            }
            Event::RoundTrip(of, _) if of == id => {}
            other => panic!("{path}: {other:?}"),
        }
    }
    let all = ended.traffic();
    let all = [
        all.messages_received(),
        all.bytes_received(),
        all.messages_sent(),
        all.bytes_sent(),
    ];
    assert_eq!(sum, all, "{path}");
    ended.clone()
}

#[tokio::test(start_paused = true)]
async fn gets_every_end_once_and_all_traffic_before_it() {
    let (connections, recorder) = observed();
    let layer = by_path(&connections);
    let mut expected = BTreeMap::new();
    for (path, bytes, side, code) in [
        (
            "/return",
            frame(FIN | TEXT, b"Hello"),
            Side::Local,
            Some(1000),
        ),
        (
            "/fail",
            frame(FIN | TEXT, b"Hello"),
            Side::Local,
            Some(1011),
        ),
        (
            "/panic",
            frame(FIN | TEXT, b"Hello"),
            Side::Local,
            Some(1011),
        ),
        (
            "/code",
            frame(FIN | BINARY, b"Hello"),
            Side::Local,
            Some(4001),
        ),
        ("/refuse-by-close", close(1000, ""), Side::Local, Some(4401)),
        (
            "/stay",
            [frame(FIN | TEXT, b"Hello"), close(3999, "")].concat(),
            Side::Remote,
            Some(3999),
        ),
        (
            "/stay",
            frame(FIN | 0x70 | TEXT, b"rsv"),
            Side::Local,
            Some(1002),
        ),
        ("/stay", frame(FIN | TEXT, b"\xff"), Side::Local, Some(1007)),
        ("/stay", Vec::new(), Side::Remote, None),
    ] {
        let mut client = open(&layer, path).await;
        write(&mut client, &bytes).await;
        if !bytes.is_empty() {
            // Reads the reply and the Close.
            let _ = timeout(Duration::from_secs(1), client.read_to_end(&mut Vec::new())).await;
        }
        drop(client);
        timeout(GUARD, connections.wait()).await.unwrap();
        let ended = assert_complete(&recorder.take(), path);
        let code = code.map(|code| CloseCode::new(code).unwrap());
        assert_eq!(
            (ended.closed().side(), ended.closed().code()),
            (side, code),
            "{path}"
        );
        assert_eq!(ended.code(), CountedCode::from(code));
        *expected.entry((side, ended.code())).or_insert(0) += 1;
        assert!(connections.counts().closed().eq(expected.clone()), "{path}");
    }

    // The HTTP server never hands over this connection: the client disconnects before the answer is written.
    let mut client = pipe::serve(layer.clone().into_service(), 32);
    let request = handshake("/gone");
    client.write_all(request.as_bytes()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    drop(client);
    timeout(GUARD, connections.wait()).await.unwrap();
    let ended = assert_complete(&recorder.take(), "/gone");
    assert_eq!(
        (ended.closed().side(), ended.code()),
        (Side::Local, CountedCode::None)
    );

    // This connection is aborted, because its handler does not return in time.
    let layer = WebSocketLayer::new(async |_socket: WebSocket| {
        pending::<()>().await;
        Ok::<_, BoxError>(())
    });
    let layer = layer.connections_in(&connections);
    let client = open(&layer, "/aborted").await;
    sleep(Duration::from_secs(7)).await;
    let report = connections.shutdown(Duration::ZERO).await;
    assert_eq!((report.clean, report.aborted), (0, 1));
    let ended = assert_complete(&recorder.take(), "/aborted");
    assert_eq!(ended.closed().side(), Side::Local);
    assert_eq!(ended.lifetime(), Duration::from_secs(7));
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn gets_every_refusal() {
    let (connections, recorder) = observed();
    let layer = by_path(&connections);
    let with = |path: &str, from: &str, to: &str| {
        let request = handshake(path);
        assert!(request.contains(from), "{from}");
        request.replace(from, to)
    };
    let origin = "Sec-WebSocket-Version: 13\r\nOrigin: https://elsewhere.example";
    for (status, label, path, request) in [
        (
            405,
            "invalid_method",
            "/a",
            with("/a?token=hush", "GET", "POST"),
        ),
        (426, "unsupported_version", "/b", with("/b", ": 13", ": 8")),
        (
            403,
            "origin_denied",
            "/c",
            with("/c", "Sec-WebSocket-Version: 13", origin),
        ),
        (401, "refused", "/refuse", handshake("/refuse")),
        (
            500,
            "accept_panicked",
            "/panic-in-accept",
            handshake("/panic-in-accept"),
        ),
        (503, "accept_timeout", "/late", handshake("/late")),
    ] {
        assert_eq!(ask(&layer, &request).await.0, status, "{label}");
        match recorder.take().as_slice() {
            [Event::Refused(seen, with, of)] => {
                assert_eq!((*seen, *with, of.as_str()), (label, status, path));
            }
            other => panic!("{label}: {other:?}"),
        }
    }
    let limited = by_path(&connections.clone().max_connections(0));
    assert_eq!(ask(&limited, &handshake("/")).await.0, 503);
    connections.close();
    assert_eq!(ask(&layer, &handshake("/")).await.0, 503);
    let refusals = recorder.take();
    assert!(
        matches!(
            refusals.as_slice(),
            [
                Event::Refused("too_many_connections", 503, _),
                Event::Refused("shutting_down", 503, _)
            ]
        ),
        "{refusals:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn gets_the_time_of_the_handshake() {
    let (connections, recorder) = observed();
    let _client = open(&by_path(&connections), "/slow").await;
    let events = recorder.take();
    let [Event::Opened(_, path, handshake)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(
        (path.as_str(), *handshake),
        ("/slow", Duration::from_secs(3))
    );
}

#[tokio::test(start_paused = true)]
async fn gets_no_event_for_a_message_and_the_sum_when_the_timer_fires() {
    const MESSAGES: u64 = 10_000;
    let (connections, recorder) = observed();
    let config = Config::new().keepalive(Duration::from_secs(20), Duration::from_secs(20));
    let layer = WebSocketLayer::new(Echo::new())
        .config(config)
        .connections_in(&connections);
    let mut client = open(&layer, "/").await;
    let opened = recorder.take();
    assert!(
        matches!(opened.as_slice(), [Event::Opened(..)]),
        "{opened:?}"
    );
    for _ in 0..MESSAGES {
        write(&mut client, &frame(FIN | TEXT, b"small")).await;
        assert_eq!(read_frame(&mut client).await.unwrap().payload, b"small");
    }
    let events = recorder.take();
    assert!(
        events.is_empty(),
        "{} calls, first {:?}",
        events.len(),
        events[0]
    );

    // After the time of the keepalive without messages, the server sends a ping.
    let ping = read_frame(&mut client).await.unwrap();
    assert_eq!(ping.first, FIN | PING);
    sleep(Duration::from_secs(2)).await;
    write(&mut client, &frame(FIN | PONG, &ping.payload)).await;
    sleep(Duration::from_secs(1)).await;
    let events = recorder.take();
    let [Event::Traffic(_, traffic), Event::RoundTrip(_, round_trip)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(
        (traffic.messages_received(), traffic.messages_sent()),
        (MESSAGES, MESSAGES)
    );
    assert_eq!(
        (traffic.bytes_received(), traffic.bytes_sent()),
        (5 * MESSAGES, 5 * MESSAGES)
    );
    assert_eq!(*round_trip, Duration::from_secs(2));

    // Without traffic there is nothing to report.
    let ping = read_frame(&mut client).await.unwrap();
    write(&mut client, &frame(FIN | PONG, &ping.payload)).await;
    sleep(Duration::from_secs(1)).await;
    let events = recorder.take();
    assert!(
        matches!(events.as_slice(), [Event::RoundTrip(..)]),
        "{events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn gets_the_events_of_streams_and_their_values() {
    struct Value(Mutex<Vec<(ConnectionId, Option<u32>)>>);
    impl Observer for Value {
        fn opened(&self, connection: &Connection, handshake: Duration) {
            assert_eq!(handshake, Duration::ZERO);
            let opened = (connection.id(), connection.value().copied());
            self.0.lock().unwrap().push(opened);
        }
    }
    let value = Arc::new(Value(Mutex::default()));
    let (connections, recorder) = observed();
    let connections = connections.observer(Arc::clone(&value));
    let (io, mut client) = tokio::io::duplex(1024);
    let mut socket = connections.from_io_with(io, Config::new(), 7_u32).unwrap();
    write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
    assert!(socket.recv().await.unwrap().is_some());
    assert_eq!(*value.0.lock().unwrap(), [(socket.id(), Some(7))]);
    drop((socket, client));
    timeout(GUARD, connections.wait()).await.unwrap();
    let ended = assert_complete(&recorder.take(), "");
    assert_eq!(ended.traffic().messages_received(), 1);
}

/// Panics in every call. The payload of the panic panics again when it is dropped.
struct Fails(Arc<AtomicUsize>);

struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("of the payload");
    }
}

impl Fails {
    fn fail(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::panic::panic_any(Payload);
    }
}

impl Observer for Fails {
    fn refused(&self, _: &Refused<'_>) {
        self.fail();
    }

    fn opened(&self, _: &Connection, _: Duration) {
        self.fail();
    }

    fn round_trip(&self, _: &Connection, _: Duration) {
        self.fail();
    }

    fn traffic(&self, _: &Connection, _: &Traffic) {
        self.fail();
    }

    fn closed(&self, _: &Connection, _: &Ended) {
        self.fail();
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_an_observer_has_no_effect_on_connections() {
    let failed = Arc::new(AtomicUsize::new(0));
    let recorder = Arc::new(Recorder::default());
    let connections = Connections::new()
        .observer(Fails(Arc::clone(&failed)))
        .observer(Arc::clone(&recorder));
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&connections);
    assert_eq!(
        ask(&layer, &handshake("/").replace(": 13", ": 8")).await.0,
        426
    );
    let mut client = open(&layer, "/").await;
    write(&mut client, &frame(FIN | TEXT, b"before")).await;
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"before");
    let ping = read_frame(&mut client).await.unwrap();
    write(&mut client, &frame(FIN | PONG, &ping.payload)).await;
    write(&mut client, &frame(FIN | TEXT, b"behind")).await;
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"behind");
    write(&mut client, &close(1000, "")).await;
    assert_eq!(read_frame(&mut client).await.unwrap().first, 0x88);
    timeout(GUARD, connections.wait()).await.unwrap();
    let counts = connections.counts();
    let normal = CountedCode::Code(CloseCode::NORMAL);
    assert_eq!(counts.closed_as(Side::Remote, normal), 1);
    // The next observer is called, too.
    let events = recorder.take();
    assert_eq!(events.len(), failed.load(Ordering::Relaxed));
    assert!(matches!(events[0], Event::Refused(..)), "{events:?}");
    let ended = assert_complete(&events[1..], "/");
    assert_eq!(ended.traffic().messages_received(), 2);
}

#[tokio::test(start_paused = true)]
async fn gets_no_event_of_a_connection_that_was_open_before() {
    let connections = Connections::new();
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&connections);
    let before = open(&layer, "/before").await;
    let recorder = Arc::new(Recorder::default());
    let connections = connections.observer(Arc::clone(&recorder));
    drop(before);
    timeout(GUARD, connections.wait()).await.unwrap();
    assert_eq!(recorder.take().len(), 0);
    drop(open(&layer, "/behind").await);
    timeout(GUARD, connections.wait()).await.unwrap();
    assert_complete(&recorder.take(), "/behind");
}

/// Uses the registry in every call, and closes each connection that is opened.
struct RegistryUser(Mutex<Option<Connections>>);

impl RegistryUser {
    fn look(&self) -> usize {
        let connections = self.0.lock().unwrap().clone().unwrap();
        let _ = connections.clone().observer(Recorder::default());
        connections.counts().open()
    }
}

impl Observer for RegistryUser {
    fn opened(&self, connection: &Connection, _: Duration) {
        assert_eq!(self.look(), 1);
        assert!(connection.close(CloseFrame::new(CloseCode::new(4005).unwrap(), "").unwrap()));
    }

    fn closed(&self, _: &Connection, _: &Ended) {
        assert_eq!(self.look(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn may_call_the_registry_and_close_a_connection_that_is_opened() {
    let user = Arc::new(RegistryUser(Mutex::new(None)));
    let connections = Connections::new().observer(Arc::clone(&user));
    *user.0.lock().unwrap() = Some(connections.clone());
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&connections);
    let mut client = open(&layer, "/").await;
    let end = read_frame(&mut client).await.unwrap();
    assert_eq!(
        (end.first, end.payload.as_slice()),
        (0x88, &4005_u16.to_be_bytes()[..])
    );
    drop(client);
    timeout(GUARD, connections.wait()).await.unwrap();
    let code = CountedCode::Code(CloseCode::new(4005).unwrap());
    assert_eq!(connections.counts().closed_as(Side::Local, code), 1);
    *user.0.lock().unwrap() = None;
}
