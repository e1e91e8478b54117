//! What operators see: counts that are exact, and a log that tells what happened and no secrets.
//!
//! All of it is served in memory under a stopped clock, where a wait costs no time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/pipe.rs"]
mod pipe;
#[path = "support/wire.rs"]
mod wire;

use std::{collections::BTreeMap, future::pending, net::IpAddr, time::Duration};

use http::{HeaderValue, Request, StatusCode, header, request::Parts};
use pipe::{Served, serve};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    time::{sleep, timeout},
};
use tower::ServiceExt;
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Config, Connections, CountedCode, Counts, Echo,
    Handler, Refusal, Side, WebSocket, WebSocketLayer,
};
use wire::{BINARY, CONTINUATION, FIN, PING, PONG, TEXT, close, frame, read_frame, read_head};

const GUARD: Duration = Duration::from_secs(30);

/// A valid handshake without its last, empty line.
fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
}

/// Sends a request, given without its last line; returns the status and the connection.
async fn ask(service: impl Served, request: &str) -> (u16, DuplexStream) {
    let mut client = serve(service, 64 * 1024);
    let asked = async {
        wire::write(&mut client, format!("{request}\r\n").as_bytes()).await;
        read_head(&mut client).await
    };
    let head = timeout(GUARD, asked).await.expect("no answer");
    let status = head["HTTP/1.1 ".len()..][..3].parse().unwrap();
    (status, client)
}

async fn open<H: Handler>(layer: &WebSocketLayer<H>, path: &str) -> DuplexStream {
    let (status, client) = ask(layer.clone().into_service(), &handshake(path)).await;
    assert_eq!(status, 101, "{path}");
    client
}

/// Writes to a peer that may be gone already.
async fn try_write(client: &mut DuplexStream, bytes: &[u8]) {
    let _ = client.write_all(bytes).await;
}

/// Reads until the server says that it closes, or is gone; answers and leaves.
async fn until_closed(mut client: DuplexStream) -> Option<u16> {
    while let Some(frame) = read_frame(&mut client).await {
        if frame.first == FIN | wire::CLOSE {
            let code = frame.close_code();
            try_write(&mut client, &close(code.unwrap_or(1000), "")).await;
            return code;
        }
    }
    None
}

/// Waits under a stopped clock until nothing is open.
async fn until_idle(connections: &Connections) -> Counts {
    for _ in 0..1000 {
        let counts = connections.counts();
        if counts.open() == 0 {
            return counts;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("{connections:?}, still open");
}

/// Waits under a stopped clock until so many connections have been accepted and have ended.
#[cfg(feature = "tracing")]
async fn until_ended(connections: &Connections, accepted: u64) {
    for _ in 0..1000 {
        let counts = connections.counts();
        if (counts.open(), counts.accepted()) == (0, accepted) {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("{connections:?}, not {accepted} ended");
}

fn closed(counts: &Counts) -> BTreeMap<(Side, CountedCode), u64> {
    counts.closed().collect()
}

#[tokio::test(start_paused = true)]
async fn counts_messages_and_bytes_exactly() {
    let layer = WebSocketLayer::new(Echo::prefixed("Echo: "));
    let connections = layer.connections();
    assert_eq!(connections.counts(), Counts::default());
    let mut client = open(&layer, "/").await;

    let sent = [
        frame(FIN | TEXT, b"Hello"),
        frame(FIN | PING, b"is not counted"),
        frame(FIN | BINARY, &[7; 300]),
        frame(TEXT, b"in"),
        frame(FIN | PONG, b"neither is this"),
        frame(CONTINUATION, b" three "),
        frame(FIN | CONTINUATION, b"parts"),
        frame(FIN | TEXT, b""),
    ];
    wire::write(&mut client, &sent.concat()).await;
    let mut answers = Vec::new();
    while answers.len() < 4 {
        let answer = read_frame(&mut client).await.unwrap();
        if answer.first != FIN | PONG {
            answers.push(answer.payload.len());
        }
    }
    assert_eq!(answers, [11, 300, 20, 6]);

    let open = connections.counts();
    assert_eq!((open.open(), open.accepted()), (1, 1));
    let traffic = open.traffic();
    assert_eq!(
        (traffic.messages_received(), traffic.bytes_received()),
        (4, 319)
    );
    assert_eq!((traffic.messages_sent(), traffic.bytes_sent()), (4, 337));
    assert_eq!(open.closed().count(), 0);

    wire::write(&mut client, &close(1000, "nor this")).await;
    assert_eq!(until_closed(client).await, Some(1000));
    let counts = until_idle(&connections).await;
    assert_eq!((counts.open(), counts.accepted()), (0, 1));
    assert_eq!(counts.traffic(), traffic);
    let by_peer = (Side::Remote, CountedCode::Code(CloseCode::NORMAL));
    assert_eq!(closed(&counts), BTreeMap::from([(by_peer, 1)]));
    assert_eq!(counts.refused().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn counts_only_what_could_be_sent() {
    let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
        let sender = socket.sender();
        // The first one is taken whatever its size, and nothing is written meanwhile.
        sender.try_send(vec![1; 100])?;
        assert!(sender.try_send(vec![2; 100]).is_err());
        assert_eq!(socket.recv().await?, None);
        sender.closed().await;
        assert!(sender.try_send("late").is_err());
        assert!(socket.send("late").await.is_err());
        Ok::<_, BoxError>(())
    });
    let layer = layer.config(Config::new().max_outbox(1, 50));
    let mut client = open(&layer, "/").await;
    wire::write(&mut client, &close(1000, "")).await;
    assert_eq!(until_closed(client).await, Some(1000));
    let counts = until_idle(&layer.connections()).await;
    assert_eq!(
        (
            counts.traffic().messages_sent(),
            counts.traffic().bytes_sent()
        ),
        (1, 100)
    );
}

#[tokio::test(start_paused = true)]
async fn counts_for_all_clones_of_a_layer_and_for_no_other_layer() {
    let layer = WebSocketLayer::new(Echo::new());
    let other = WebSocketLayer::new(Echo::new());
    let before = layer.connections();
    let clone = layer.clone().path("/").config(Config::new());
    let clients = [open(&layer, "/").await, open(&clone, "/").await];
    for connections in [before, layer.connections(), clone.connections()] {
        let counts = connections.counts();
        assert_eq!((counts.open(), counts.accepted()), (2, 2));
    }
    assert_eq!(other.connections().counts(), Counts::default());
    drop(clients);
}

/// Accepts, refuses and ends as the path says.
struct Wayward;

impl Handler for Wayward {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        match request.uri.path() {
            "/refuse" => {
                let secret = HeaderValue::from_static("Bearer hush-challenge");
                return Err(Refusal::unauthorized()
                    .header(header::WWW_AUTHENTICATE, secret)
                    .message("hush-message"));
            }
            "/panic-in-accept" => panic!("of accept"),
            "/late" => pending().await,
            _ => {}
        }
        let cookie = HeaderValue::from_static("session=hush-set-cookie");
        let accept = Accept::new().header(header::SET_COOKIE, cookie);
        Ok(accept.subprotocol("hush-subprotocol"))
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        let path = socket.request().path().to_owned();
        match path.as_str() {
            "/return" => return Ok(()),
            "/fail" => return Err("no database".into()),
            "/panic" => panic!("of the handler"),
            "/code" => return Err(CloseFrame::new(CloseCode::new(4001)?, "hush-code")?.into()),
            "/close" => socket.close(CloseCode::new(4002)?, "hush-close").await?,
            "/reason" => socket.close(CloseCode::NORMAL, "hush".repeat(99)).await?,
            "/full" => loop {
                socket.sender().try_send("hush-full")?;
            },
            "/closed" => {
                socket.sender().close(CloseCode::NORMAL, "")?;
                socket.sender().try_send("hush-closed")?;
            }
            "/stuck" => loop {
                socket.send("hush-stuck ".repeat(1000)).await?;
            },
            "/wait" => pending().await,
            "/text" => {
                while let Some(message) = socket.recv().await? {
                    socket.send(message.into_text()?).await?;
                }
            }
            _ => {
                while let Some(message) = socket.recv().await? {
                    socket.send(message).await?;
                }
            }
        }
        Ok(())
    }
}

fn wayward() -> WebSocketLayer<Wayward> {
    let config = Config::new()
        .max_message_size(1000)
        .max_fragments(16, 4)
        .max_control_frames(1, 10);
    let layer = WebSocketLayer::new(Wayward).config(config);
    let layer = layer.max_per_key(1, |request| {
        let path = request.uri.path();
        assert_ne!(path, "/panic-in-key");
        (path == "/key").then_some("only one")
    });
    layer.max_per_peer(usize::MAX, |request| {
        let path = request.uri.path();
        (path != "/no-peer").then_some(IpAddr::from([192, 0, 2, 1]))
    })
}

/// A request, changed in one line.
fn changed(line: &str, to: &str) -> String {
    let request = handshake("/?token=hush-query");
    assert!(request.contains(line), "{line}");
    request.replace(line, to)
}

/// Handshakes that are refused, each with its status and the label it is counted under.
fn refusals() -> Vec<(u16, &'static str, String)> {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let with = |line: &str| format!("{}{line}\r\n", handshake("/?token=hush-query"));
    vec![
        (405, "invalid_method", changed("GET", "POST")),
        (400, "invalid_host", changed("example.com", "hush host")),
        (
            400,
            "missing_connection_upgrade",
            changed("Connection: Upgrade", "Connection: hush"),
        ),
        (400, "invalid_key", changed(key, "Sec-WebSocket-Key: hush")),
        (426, "unsupported_version", changed(": 13", ": 8")),
        (400, "unexpected_body", with("Content-Length: 4")),
        (
            431,
            "headers_too_large",
            with(&format!("X-Large: {}", "hush".repeat(5000))),
        ),
        (403, "origin_denied", with("Origin: https://other.example")),
        (
            400,
            "invalid_subprotocols",
            with("Sec-WebSocket-Protocol: hush hush"),
        ),
        (
            400,
            "invalid_extensions",
            with("Sec-WebSocket-Extensions: hush;;=hush"),
        ),
        (401, "refused", handshake("/refuse")),
        (500, "accept_panicked", handshake("/panic-in-accept")),
        (500, "accept_panicked", handshake("/panic-in-key")),
        (500, "unknown_peer", handshake("/no-peer")),
        (503, "accept_timeout", handshake("/late")),
    ]
}

#[tokio::test(start_paused = true)]
async fn counts_refusals_by_their_reason() {
    let layer = wayward();
    let connections = layer.connections();
    let mut expected = BTreeMap::new();
    for (status, label, request) in refusals() {
        let answer = ask(layer.clone().into_service(), &request).await;
        assert_eq!(answer.0, status, "{label}");
        *expected.entry(label).or_insert(0) += 1;
        let counts = connections.counts();
        assert!(counts.refused().eq(expected.clone()), "{label}: {counts:?}");
    }

    let _client = open(&layer, "/key").await;
    let service = layer.clone().into_service();
    assert_eq!(ask(service, &handshake("/key")).await.0, 429);
    let connections = connections.max_connections(1);
    let service = layer.clone().into_service();
    assert_eq!(ask(service, &handshake("/")).await.0, 503);
    let connections = connections.without_max_connections();
    // Straight into the service, so that no server offers its connection.
    let request = Request::get("/")
        .header(header::HOST, "example.com")
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
    let service = layer.clone().into_service();
    let answer = service.oneshot(request.body(()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    connections.close();
    let service = layer.clone().into_service();
    assert_eq!(ask(service, &handshake("/")).await.0, 503);

    for label in [
        "too_many_of_key",
        "too_many_connections",
        "upgrade_unsupported",
        "shutting_down",
    ] {
        expected.insert(label, 1);
    }
    let counts = connections.counts();
    assert!(counts.refused().eq(expected), "{counts:?}");
    assert_eq!(counts.accepted(), 1);
}

/// What clients do, each on a path, before they read until the connection is closed; and who
/// closes it then, with which code.
fn endings() -> Vec<(&'static str, Vec<u8>, Side, Option<u16>)> {
    use Side::{Local, Remote};
    let in_parts = |parts: usize, payload: &[u8]| frame(CONTINUATION, payload).repeat(parts);
    vec![
        ("/", close(1000, "hush-reason"), Remote, Some(1000)),
        ("/", close(4999, "hush-reason"), Remote, Some(4999)),
        ("/", frame(FIN | wire::CLOSE, b""), Remote, None),
        ("/return", Vec::new(), Local, Some(1000)),
        ("/code", Vec::new(), Local, Some(4001)),
        ("/close", Vec::new(), Local, Some(4002)),
        ("/closed", Vec::new(), Local, Some(1000)),
        ("/fail", Vec::new(), Local, Some(1011)),
        ("/panic", Vec::new(), Local, Some(1011)),
        ("/reason", Vec::new(), Local, Some(1011)),
        ("/full", Vec::new(), Local, Some(1011)),
        (
            "/text",
            frame(FIN | BINARY, b"hush-binary"),
            Local,
            Some(1011),
        ),
        // Reserved bits, no mask, an unknown opcode, a ping in parts or too large, no beginning.
        ("/", frame(0xf1, b"hush-reserved"), Local, Some(1002)),
        ("/", b"\x81\x04hush".to_vec(), Local, Some(1002)),
        ("/", frame(FIN | 3, b"hush-opcode"), Local, Some(1002)),
        ("/", frame(PING, b"hush-ping"), Local, Some(1002)),
        (
            "/",
            frame(FIN | PING, &b"hush".repeat(40)),
            Local,
            Some(1002),
        ),
        (
            "/",
            frame(FIN | CONTINUATION, b"hush-end"),
            Local,
            Some(1002),
        ),
        ("/", close(1005, "hush-reason"), Local, Some(1002)),
        ("/", frame(FIN | TEXT, b"hush\xff"), Local, Some(1007)),
        (
            "/",
            frame(FIN | TEXT, &b"hush".repeat(300)),
            Local,
            Some(1009),
        ),
        (
            "/",
            [frame(TEXT, b"hush"), in_parts(16, b"hush")].concat(),
            Local,
            Some(1008),
        ),
        (
            "/",
            [frame(TEXT, b"hush"), in_parts(5, b"")].concat(),
            Local,
            Some(1008),
        ),
        // Never goes on.
        ("/", frame(TEXT, b"hush-begin"), Local, Some(1008)),
        (
            "/",
            frame(FIN | PING, b"hush-flood").repeat(11),
            Local,
            Some(1008),
        ),
        // Says nothing, not even to a ping.
        ("/", frame(FIN | TEXT, b"hush-text"), Local, None),
        ("/wait", frame(FIN | PONG, b"hush-pong"), Local, None),
    ]
}

#[tokio::test(start_paused = true)]
async fn counts_ends_by_side_and_code() {
    let layer = wayward();
    let connections = layer.connections();
    let mut expected = BTreeMap::new();
    for (path, bytes, side, code) in endings() {
        // There the handler goes on after its connection, so a shutdown of its own ends it.
        let waits = path == "/wait";
        let own = wayward();
        let mut client = open(if waits { &own } else { &layer }, path).await;
        try_write(&mut client, &bytes).await;
        let read = until_closed(client).await;
        assert_eq!(read, code, "{path} {}", bytes.escape_ascii());
        let code = code.map(|code| CloseCode::new(code).unwrap());
        if waits {
            let _ = own.connections().shutdown(Duration::ZERO).await;
            let closed: Vec<_> = own.connections().counts().closed().collect();
            assert_eq!(closed, [((side, code.into()), 1)], "{path}");
            continue;
        }
        *expected.entry((side, CountedCode::from(code))).or_insert(0) += 1;
        let counts = until_idle(&connections).await;
        assert_eq!(closed(&counts), expected, "{path} {}", bytes.escape_ascii());
    }

    // Gone without a Close, also in the middle of a message, and before the connection was there.
    drop(open(&layer, "/").await);
    let mut client = open(&layer, "/").await;
    try_write(&mut client, &frame(FIN | TEXT, b"hush")[..7]).await;
    drop(client);
    expected
        .entry((Side::Remote, CountedCode::None))
        .and_modify(|n| *n += 2);
    assert_eq!(closed(&until_idle(&connections).await), expected);
    let mut client = serve(layer.clone().into_service(), 32);
    let request = format!("{}\r\n", handshake("/"));
    wire::write(&mut client, request.as_bytes()).await;
    sleep(Duration::from_secs(1)).await;
    drop(client);
    expected
        .entry((Side::Local, CountedCode::None))
        .and_modify(|n| *n += 1);
    assert_eq!(closed(&until_idle(&connections).await), expected);

    let client = open(&layer, "/").await;
    connections.close();
    assert_eq!(until_closed(client).await, Some(1001));
    let going_away = CountedCode::Code(CloseCode::GOING_AWAY);
    expected.insert((Side::Local, going_away), 1);
    let counts = until_idle(&connections).await;
    assert_eq!(closed(&counts), expected);
    let ended: u64 = counts.closed().map(|(_, count)| count).sum();
    assert_eq!(ended, counts.accepted(), "each ended once");
}

#[tokio::test(start_paused = true)]
async fn shows_the_counts_and_no_secrets_when_it_is_printed() {
    let layer = wayward();
    let client = open(&layer, "/?token=hush-query").await;
    let printed = format!("{:?}", layer.connections());
    assert!(printed.contains("open: 1"), "{printed}");
    assert!(!printed.contains("hush"), "{printed}");
    drop(client);
}

/// The values that count are shown, rather than those that were given.
#[test]
fn shows_what_is_set_when_it_is_printed() {
    let connections = Connections::new().max_connections(7);
    let connections = connections.shutdown_spread(Duration::MAX);
    let printed = format!("{connections:?}");
    assert!(
        printed.starts_with(
            "Connections { max_connections: Some(7), shutdown_spread: unlimited, counts: Counts { "
        ),
        "{printed}"
    );
    let layer = WebSocketLayer::new(Echo::new())
        .accept_timeout(Duration::ZERO)
        .upgrade_timeout(Duration::MAX);
    let printed = format!("{layer:?}");
    let expected = "accept_timeout: 50ms, upgrade_timeout: unlimited, ";
    assert!(printed.contains(expected), "{printed}");
}

/// A handler's arguments end up in a log with `#[tracing::instrument]`, at any level.
#[tokio::test(start_paused = true)]
async fn shows_no_secrets_when_what_a_handler_holds_is_printed() {
    let (printed, mut print) = tokio::sync::mpsc::unbounded_channel();
    let layer = WebSocketLayer::new(move |socket: WebSocket| {
        printed
            .send(format!("{socket:?} {:?}", socket.sender()))
            .unwrap();
        async { Ok::<_, BoxError>(()) }
    });
    let layer = layer.subprotocol("hush-subprotocol");
    let request = format!(
        "{}Authorization: Bearer hush-header\r\nCookie: session=hush-cookie\r\n\
         Sec-WebSocket-Protocol: hush-subprotocol\r\n",
        handshake("/?token=hush-query")
    );
    let (status, client) = ask(layer.into_service(), &request).await;
    assert_eq!(status, 101);
    let printed = print.recv().await.unwrap();
    assert!(!printed.contains("hush"), "{printed}");
    drop(client);
}

#[cfg(feature = "tracing")]
mod traced {
    //! What is told through `tracing`, recorded by a subscriber that listens to everything.

    use std::{cell::RefCell, convert::Infallible, error::Error, fmt::Write, sync::Once};

    use http::Response;
    use hyper::{body::Incoming, server::conn::http1};
    use hyper_util::{rt::TokioIo, service::TowerToHyperService};
    use tokio::io::{AsyncReadExt, duplex};
    use tower::{Service, service_fn};
    use tower_websocket::ResponseBody;
    use tracing::{
        Event, Instrument, Level, Metadata, Subscriber,
        field::{Field, Visit},
        info, info_span,
        span::{Attributes, Id, Record},
    };
    use tracing_subscriber::{
        Layer,
        layer::{Context, SubscriberExt},
        registry::LookupSpan,
        util::SubscriberInitExt,
    };

    use super::*;

    /// One thing that was told.
    #[derive(Clone, Debug)]
    enum Told {
        Began {
            span: u64,
            name: &'static str,
            parent: Option<u64>,
            text: String,
        },
        Follows {
            span: u64,
            from: u64,
        },
        Event {
            level: Level,
            text: String,
            /// The spans around it, from the inside.
            scope: Vec<u64>,
        },
        Ended {
            span: u64,
        },
    }

    thread_local! {
        /// What the test on this thread was told, which is where its tasks run, too.
        static TOLD: RefCell<Vec<Told>> = const { RefCell::new(Vec::new()) };
    }

    fn tell(told: Told) {
        // Spans may end while the thread does.
        let _ = TOLD.try_with(|all| all.borrow_mut().push(told));
    }

    /// Listens from now on. One subscriber for all threads: if one without a subscriber met an
    /// event first, `tracing` may remember for all of them that nobody listens.
    fn listen() {
        static LISTENS: Once = Once::new();
        LISTENS.call_once(|| tracing_subscriber::registry().with(Recorder).init());
        TOLD.take();
    }

    fn told() -> Vec<Told> {
        TOLD.with_borrow(Vec::clone)
    }

    struct Recorder;

    /// Writes down fields in every form in which a subscriber may, errors with all their sources.
    struct Fields(String);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            write!(self.0, "{field}={value:?} {value:#?} ").unwrap();
        }

        fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
            let mut cause = Some(value);
            while let Some(error) = cause {
                write!(self.0, "{field}={error} {error:?} ").unwrap();
                cause = error.source();
            }
        }
    }

    fn text(metadata: &Metadata<'_>, record: impl FnOnce(&mut Fields)) -> String {
        let mut fields = Fields(format!("{} {} ", metadata.target(), metadata.name()));
        record(&mut fields);
        fields.0
    }

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
        fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
            let span = context.span(id).unwrap();
            tell(Told::Began {
                span: id.into_u64(),
                name: span.name(),
                parent: span.parent().map(|parent| parent.id().into_u64()),
                text: text(attributes.metadata(), |fields| attributes.record(fields)),
            });
        }

        fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
            let span = context.span(id).unwrap();
            tell(Told::Event {
                level: *span.metadata().level(),
                text: text(span.metadata(), |fields| values.record(fields)),
                scope: Vec::new(),
            });
        }

        fn on_follows_from(&self, span: &Id, follows: &Id, _: Context<'_, S>) {
            let (span, from) = (span.into_u64(), follows.into_u64());
            tell(Told::Follows { span, from });
        }

        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            let scope = context.event_scope(event).into_iter().flatten();
            tell(Told::Event {
                level: *event.metadata().level(),
                text: text(event.metadata(), |fields| event.record(fields)),
                scope: scope.map(|span| span.id().into_u64()).collect(),
            });
        }

        fn on_close(&self, id: Id, _: Context<'_, S>) {
            let span = id.into_u64();
            tell(Told::Ended { span });
        }
    }

    /// The spans of a name, each with its parent.
    fn spans(wanted: &str) -> Vec<(u64, Option<u64>)> {
        let began = |told| match told {
            Told::Began {
                span, name, parent, ..
            } if name == wanted => Some((span, parent)),
            _ => None,
        };
        told().into_iter().filter_map(began).collect()
    }

    fn has_ended(wanted: u64) -> bool {
        let is_end = |told: &Told| matches!(told, Told::Ended { span } if *span == wanted);
        told().iter().any(is_end)
    }

    fn followed(wanted: u64) -> Vec<u64> {
        let from = |told| match told {
            Told::Follows { span, from } if span == wanted => Some(from),
            _ => None,
        };
        told().into_iter().filter_map(from).collect()
    }

    /// The events with these words, each with its level and the spans around it.
    fn events(words: &str) -> Vec<(Level, Vec<u64>)> {
        let named = |told| match told {
            Told::Event { level, text, scope } if text.contains(words) => Some((level, scope)),
            _ => None,
        };
        told().into_iter().filter_map(named).collect()
    }

    /// The layer's service as it is found behind a layer that makes a span for each request.
    fn in_request_span<H: Handler>(layer: &WebSocketLayer<H>) -> impl Served {
        let inner = layer.clone().into_service();
        service_fn(move |request: Request<Incoming>| {
            let span = info_span!("request");
            let mut inner = inner.clone();
            let answer = async move { Ok::<_, Infallible>(inner.call(request).await.unwrap()) };
            answer.instrument(span)
        })
    }

    /// Tells what it does, and echoes.
    async fn talkative(mut socket: WebSocket) -> Result<(), BoxError> {
        info!("handler begins");
        while let Some(message) = socket.recv().await? {
            info!("handler received");
            socket.send(message).await?;
        }
        info!("handler ends");
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn one_span_covers_a_connection_and_follows_from_its_request() {
        listen();
        let layer = WebSocketLayer::new(talkative);
        let service = in_request_span(&layer);
        let (status, mut client) = ask(service, &handshake("/ws?token=hush")).await;
        assert_eq!(status, 101);
        wire::write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
        assert_eq!(read_frame(&mut client).await.unwrap().payload, b"Hello");

        let requests = spans("request");
        let sockets = spans("websocket");
        let (&[(request, None)], &[(socket, parent)]) = (&requests[..], &sockets[..]) else {
            panic!("{requests:?} {sockets:?}");
        };
        assert_eq!(parent, None, "a child would keep the request's span open");
        assert_eq!(followed(socket), [request]);
        assert!(has_ended(request), "the request is over");
        assert!(!has_ended(socket), "the connection is not");

        wire::write(&mut client, &close(1000, "")).await;
        assert_eq!(until_closed(client).await, Some(1000));
        until_idle(&layer.connections()).await;
        assert!(has_ended(socket));
        for words in [
            "websocket opened",
            "handler begins",
            "handler received",
            "handler ends",
            "websocket closed",
        ] {
            let told = events(words);
            assert_eq!(told.len(), 1, "{words}: {told:?}");
            assert_eq!(told[0].1, [socket], "{words}");
        }
        let path = |told: &Told| match told {
            Told::Began { span, text, .. } if *span == socket => text.contains("/ws"),
            _ => false,
        };
        assert!(told().iter().any(path), "it has the path");
    }

    #[tokio::test(start_paused = true)]
    async fn shows_a_path_as_visible_ascii_and_no_more_than_200_bytes() {
        listen();
        let layer = WebSocketLayer::new(talkative);
        // U+009B begins a command of a terminal, U+202E turns the text around.
        let path = format!("/\u{9b}31m\u{202e}{}", "x".repeat(4096));
        drop(open(&layer, &path).await);
        until_idle(&layer.connections()).await;
        let socket = spans("websocket")[0].0;
        let text = told().into_iter().find_map(|told| match told {
            Told::Began { span, text, .. } if span == socket => Some(text),
            _ => None,
        });
        let text = text.unwrap();
        assert!(text.contains(r"/\xc2\x9b31m\xe2\x80\xaexxx"), "{text}");
        assert!(text.contains("x...") && text.len() < 1000, "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_is_warned_about_is_named_with_a_path_that_is_visible() {
        listen();
        let stuck = async |socket: WebSocket| {
            let _socket = socket;
            pending::<Result<(), BoxError>>().await
        };
        let config = Config::new().handler_grace(Duration::from_secs(1));
        let layer = WebSocketLayer::new(stuck).config(config);
        drop(open(&layer, &format!("/\u{9b}31m{}", "x".repeat(4096))).await);
        layer.connections().wait().await;
        let warned = told().into_iter().find_map(|told| match told {
            Told::Event { text, .. } if text.contains("is dropped; see") => Some(text),
            _ => None,
        });
        let text = warned.unwrap();
        assert!(text.contains(r"/\xc2\x9b31mxxx"), "{text}");
        assert!(text.len() < 2000, "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_connection_has_a_span_of_its_own() {
        listen();
        let layer = WebSocketLayer::new(talkative);
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(ask(in_request_span(&layer), &handshake("/")).await.1);
        }
        for client in &mut clients {
            wire::write(client, &frame(FIN | TEXT, b"Hello")).await;
            assert_eq!(read_frame(client).await.unwrap().payload, b"Hello");
        }
        let mut sockets: Vec<_> = spans("websocket").iter().map(|(span, _)| *span).collect();
        let received = events("handler received").into_iter();
        let mut scopes: Vec<_> = received.flat_map(|(_, scope)| scope).collect();
        sockets.sort_unstable();
        scopes.sort_unstable();
        assert_eq!(sockets.len(), 5);
        assert_eq!(scopes, sockets);
        drop(clients);
        until_idle(&layer.connections()).await;
        assert!(sockets.into_iter().all(has_ended));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_span_follows_from_nothing() {
        listen();
        let layer = WebSocketLayer::new(talkative);
        drop(open(&layer, "/").await);
        until_idle(&layer.connections()).await;
        let sockets = spans("websocket");
        assert_eq!(sockets.len(), 1);
        assert_eq!(followed(sockets[0].0), []);
    }

    #[tokio::test(start_paused = true)]
    async fn the_span_ends_however_the_connection_ends() {
        listen();
        let layer = wayward();
        for path in ["/return", "/fail", "/panic", "/wait"] {
            let client = open(&layer, path).await;
            if path == "/wait" {
                drop(client);
                sleep(Duration::from_secs(1)).await;
                let _ = layer.connections().shutdown(Duration::ZERO).await;
            } else {
                assert!(until_closed(client).await.is_some(), "{path}");
                until_idle(&layer.connections()).await;
            }
            let (socket, _) = *spans("websocket").last().unwrap();
            assert!(has_ended(socket), "{path}");
        }
        let sockets: Vec<_> = spans("websocket").iter().map(|(span, _)| *span).collect();
        assert_eq!(sockets.len(), 4);
        let failed = events("the websocket handler failed");
        assert_eq!(failed, [(Level::WARN, vec![sockets[1]])]);
        let panicked = events("the websocket handler panicked");
        assert_eq!(panicked, [(Level::ERROR, vec![sockets[2]])]);
    }

    #[tokio::test(start_paused = true)]
    async fn limit_without_a_key_or_a_peer_is_reported_once() {
        listen();
        let keyless = WebSocketLayer::new(Echo::new()).max_per_key(1, |_| None::<()>);
        let _clients = [open(&keyless, "/").await, open(&keyless, "/").await];
        let [(Level::WARN, _)] = events("`max_per_key`")[..] else {
            panic!("{:?}", events("`max_per_key`"));
        };
        let peerless = WebSocketLayer::new(Echo::new()).max_per_peer(1, |_| None);
        for _ in 0..2 {
            let service = peerless.clone().into_service();
            assert_eq!(ask(service, &handshake("/")).await.0, 500);
        }
        let [(Level::ERROR, _)] = events("the function of `max_per_peer`")[..] else {
            panic!("{:?}", events("`max_per_peer`"));
        };
        assert_eq!(events("websocket refused").len(), 2);
    }

    /// A key that tells when it is dropped, which is with the task.
    #[derive(Eq, Hash, PartialEq)]
    struct Key;

    impl Drop for Key {
        fn drop(&mut self) {
            info!("place given back");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_is_given_back_in_the_span() {
        async fn assert_in_span(what: &str, layer: WebSocketLayer<impl Handler>) {
            let layer = layer.max_per_key(1, |_| Some(Key));
            for is_aborted in [false, true] {
                listen();
                let mut client = open(&layer, "/").await;
                let (socket, _) = spans("websocket")[0];
                assert!(events("place given back").is_empty(), "{what}");
                if is_aborted {
                    let _ = layer.connections().shutdown(Duration::ZERO).await;
                } else {
                    wire::write(&mut client, &close(1000, "")).await;
                    assert_eq!(until_closed(client).await, Some(1000));
                    until_idle(&layer.connections()).await;
                }
                let told = events("place given back");
                assert!(!told.is_empty(), "{what}, aborted: {is_aborted}");
                for (_, scope) in told {
                    assert_eq!(scope, [socket], "{what}, aborted: {is_aborted}");
                }
                assert!(has_ended(socket), "{what}, aborted: {is_aborted}");
            }
        }
        assert_in_span("a handler", WebSocketLayer::new(talkative)).await;
        assert_in_span("echo", WebSocketLayer::new(Echo::new())).await;
    }

    /// Asserts that nothing above TRACE holds a secret, all of which have `hush` in them.
    fn assert_discreet(doing: &str) {
        let bytes = b"hush".map(|byte| byte.to_string()).join(", ");
        for told in told() {
            let told_text = match &told {
                Told::Event { level, .. } if *level > Level::DEBUG => continue,
                Told::Event { text, .. } | Told::Began { text, .. } => text,
                Told::Follows { .. } | Told::Ended { .. } => continue,
            };
            let discreet = !told_text.contains("hush") && !told_text.contains(&bytes);
            assert!(discreet, "{doing}: {told:?}");
        }
    }

    /// Puts secrets into every header that may have one.
    fn with_secrets(request: &str) -> String {
        format!(
            "{request}Authorization: Bearer hush-header\r\nCookie: session=hush-cookie\r\n\
             User-Agent: hush-agent\r\nX-Custom: hush-custom\r\n\
             Referer: https://example.com/hush-referer\r\n"
        )
    }

    #[tokio::test(start_paused = true)]
    async fn tells_no_secrets_about_handshakes_that_are_refused() {
        listen();
        let layer = wayward();
        let mut refused = 0;
        for (status, label, request) in refusals() {
            let request = with_secrets(&request);
            assert_eq!(ask(in_request_span(&layer), &request).await.0, status);
            assert_discreet(label);
            refused += 1;
            assert_eq!(events("websocket refused").len(), refused, "{label}");
        }
        assert_eq!(events("panicked while accepting").len(), 2 + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn tells_no_secrets_about_connections_however_they_end() {
        listen();
        let secret = |path: &str| {
            let request = handshake(&format!("{path}?token=hush-query"));
            with_secrets(&request)
                + "Sec-WebSocket-Protocol: hush-subprotocol\r\n\
                   Sec-WebSocket-Extensions: hush-extension\r\n"
        };
        for (path, bytes, _, code) in endings() {
            let layer = wayward();
            let connections = layer.connections();
            let (status, mut client) = ask(in_request_span(&layer), &secret(path)).await;
            assert_eq!(status, 101, "{path}");
            try_write(&mut client, &bytes).await;
            assert_eq!(until_closed(client).await, code, "{path}");
            if path == "/wait" {
                let _ = connections.shutdown(Duration::ZERO).await;
            }
            until_idle(&connections).await;
            assert_discreet(&format!("{path} {}", bytes.escape_ascii()));
        }
        let opened = endings().len();
        assert_eq!(events("websocket opened").len(), opened);
        assert_eq!(events("websocket closed").len(), opened);

        let layer = wayward();
        let connections = layer.connections();
        // The peer takes nothing.
        let mut client = serve(layer.clone().into_service(), 1024);
        let request = format!("{}\r\n", secret("/stuck"));
        wire::write(&mut client, request.as_bytes()).await;
        let _ = read_head(&mut client).await;
        until_idle(&connections).await;
        assert_discreet("/stuck");

        // The server is shut down.
        let (_, client) = ask(in_request_span(&layer), &secret("/")).await;
        connections.close_with(CloseFrame::new(CloseCode::SERVICE_RESTART, "hush-down").unwrap());
        assert_eq!(until_closed(client).await, Some(1012));
        until_idle(&connections).await;
        assert_discreet("shutdown");
    }

    #[tokio::test(start_paused = true)]
    async fn tells_no_secrets_about_upgrades_that_fail() {
        listen();
        let layer = wayward();
        let connections = layer.connections();
        let request = with_secrets(&handshake("/?token=hush-query")) + "\r\n";

        // The server hands out no connections.
        let (server, mut client) = duplex(4096);
        let service = TowerToHyperService::new(in_request_span(&layer));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        tokio::spawn(async { drop(connection.await) });
        wire::write(&mut client, request.as_bytes()).await;
        until_ended(&connections, 1).await;
        assert_eq!(events("does not hand out its connections").len(), 1);

        // Another answer is sent in place of the 101.
        let replaced = ServiceExt::<Request<Incoming>>::map_response(
            in_request_span(&layer),
            |_: Response<ResponseBody<String>>| {
                let close = HeaderValue::from_static("close");
                let mut other = Response::new(ResponseBody::default());
                *other.status_mut() = StatusCode::FORBIDDEN;
                other.headers_mut().insert(header::CONNECTION, close);
                other
            },
        );
        let mut client = serve(replaced, 4096);
        wire::write(&mut client, request.as_bytes()).await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        until_ended(&connections, 2).await;
        assert_eq!(events("an outer layer replaced the 101").len(), 1);

        // The 101 cannot be written: in time, or at all.
        let mut client = serve(in_request_span(&layer), 32);
        wire::write(&mut client, request.as_bytes()).await;
        until_ended(&connections, 3).await;
        assert_eq!(events("did not hand over the connection in time").len(), 1);
        drop(client);
        let mut client = serve(in_request_span(&layer), 32);
        wire::write(&mut client, request.as_bytes()).await;
        sleep(Duration::from_secs(1)).await;
        drop(client);
        until_ended(&connections, 4).await;
        assert_eq!(events("broke before the 101 was sent").len(), 1);
        assert_discreet("upgrades");
        assert!(spans("websocket").iter().all(|(span, _)| has_ended(*span)));
    }
}
