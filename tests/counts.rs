//! The counts of a layer's connections, and how its types print.

mod support;

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use support::{
    by_path::{self, try_write, until_closed},
    pipe::{ask, knock, open_at, serve, until_idle},
    raw,
    wire::{
        BINARY, CONTINUATION, FIN, PING, PONG, TEXT, close, frame, handshake, handshake_with,
        read_frame, status, write,
    },
};
use tokio::{sync::mpsc, time::sleep};
use tower::ServiceExt;
use tower_websocket::{
    BoxError, CloseCode, Config, Connections, CountedCode, Counts, Echo, Side, WebSocket,
    WebSocketLayer,
};

fn closed(counts: &Counts) -> BTreeMap<(Side, CountedCode), u64> {
    counts.closed().collect()
}

fn refused(counts: &Counts) -> BTreeMap<&'static str, u64> {
    counts.refused().collect()
}

#[tokio::test(start_paused = true)]
async fn counts_messages_and_bytes_exactly() {
    let layer = WebSocketLayer::new(Echo::prefixed("Echo: "));
    let connections = layer.connections();
    assert_eq!(connections.counts(), Counts::default());
    let mut client = open_at(&layer, "/").await;

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
    write(&mut client, &sent.concat()).await;
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
    assert_eq!(
        (
            open.traffic().messages_received(),
            open.traffic().bytes_received()
        ),
        (4, 319)
    );
    assert_eq!(
        (open.traffic().messages_sent(), open.traffic().bytes_sent()),
        (4, 337)
    );
    assert_eq!(open.closed().count(), 0);

    write(&mut client, &close(1000, "nor this")).await;
    assert_eq!(until_closed(client).await, Some(1000));
    let counts = until_idle(&connections).await;
    assert_eq!((counts.open(), counts.accepted()), (0, 1));
    assert_eq!(counts.traffic(), open.traffic());
    let by_peer = (Side::Remote, CountedCode::Code(CloseCode::NORMAL));
    assert_eq!(closed(&counts), BTreeMap::from([(by_peer, 1)]));
    assert_eq!(counts.refused().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn counts_only_messages_that_were_accepted() {
    let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
        let sender = socket.sender();
        // An empty outbox takes a message of any size. Nothing is written before `recv`.
        sender.try_send(vec![1; 100])?;
        assert!(sender.try_send(vec![2; 100]).is_err());
        assert_eq!(socket.recv().await?, None);
        sender.closed().await;
        assert!(sender.try_send("late").is_err());
        assert!(socket.send("late").await.is_err());
        Ok::<_, BoxError>(())
    });
    let layer = layer.config(Config::new().max_outbox(1, 50));
    let mut client = open_at(&layer, "/").await;
    write(&mut client, &close(1000, "")).await;
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
    let clients = [open_at(&layer, "/").await, open_at(&clone, "/").await];
    for connections in [before, layer.connections(), clone.connections()] {
        let counts = connections.counts();
        assert_eq!((counts.open(), counts.accepted()), (2, 2));
    }
    assert_eq!(other.connections().counts(), Counts::default());
    drop(clients);
}

#[tokio::test(start_paused = true)]
async fn counts_refusals_by_their_reason() {
    let layer = by_path::layer();
    let connections = layer.connections();
    let mut expected = BTreeMap::new();
    for (expected_status, label, request) in by_path::refusals() {
        let (head, _client) = ask(layer.clone().into_service(), &request).await;
        assert_eq!(status(&head), expected_status, "{label}");
        *expected.entry(label).or_insert(0) += 1;
        assert_eq!(refused(&connections.counts()), expected, "{label}");
    }

    let _client = open_at(&layer, "/key").await;
    assert_eq!(knock(&layer, "/key").await.0, 429);
    let connections = connections.max_connections(1);
    assert_eq!(knock(&layer, "/").await.0, 503);
    let connections = connections.without_max_connections();
    // The request has no `OnUpgrade` of an HTTP server.
    let service = layer.clone().into_service();
    let answer = service.oneshot(raw::handshake_head()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    connections.close();
    assert_eq!(knock(&layer, "/").await.0, 503);

    for label in [
        "too_many_of_key",
        "too_many_connections",
        "upgrade_unsupported",
        "shutting_down",
    ] {
        expected.insert(label, 1);
    }
    let counts = connections.counts();
    assert_eq!(refused(&counts), expected);
    assert_eq!(counts.accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn counts_endings_by_side_and_code() {
    let layer = by_path::layer();
    let connections = layer.connections();
    let mut expected = BTreeMap::new();
    for (path, bytes, side, code) in by_path::endings() {
        // This handler outlives its connection, so it has its own layer, which is shut down.
        let waits = path == "/wait";
        let own = by_path::layer();
        let mut client = open_at(if waits { &own } else { &layer }, path).await;
        try_write(&mut client, &bytes).await;
        let read = until_closed(client).await;
        assert_eq!(read, code, "{path} {}", bytes.escape_ascii());
        let code = code.map_or(CountedCode::None, |code| {
            CountedCode::Code(CloseCode::new(code).unwrap())
        });
        if waits {
            let _ = own.connections().shutdown(Duration::ZERO).await;
            let closed = closed(&own.connections().counts());
            assert_eq!(closed, BTreeMap::from([((side, code), 1)]), "{path}");
            continue;
        }
        *expected.entry((side, code)).or_insert(0) += 1;
        let counts = until_idle(&connections).await;
        assert_eq!(closed(&counts), expected, "{path} {}", bytes.escape_ascii());
    }

    // The peer leaves: without a Close, in the middle of a message, and before the 101 is written.
    drop(open_at(&layer, "/").await);
    let mut client = open_at(&layer, "/").await;
    try_write(&mut client, &frame(FIN | TEXT, b"hush")[..7]).await;
    drop(client);
    expected
        .entry((Side::Remote, CountedCode::None))
        .and_modify(|n| *n += 2);
    assert_eq!(closed(&until_idle(&connections).await), expected);
    let mut client = serve(layer.clone().into_service(), 32);
    write(&mut client, handshake("/").as_bytes()).await;
    sleep(Duration::from_secs(1)).await;
    drop(client);
    expected
        .entry((Side::Local, CountedCode::None))
        .and_modify(|n| *n += 1);
    assert_eq!(closed(&until_idle(&connections).await), expected);

    let client = open_at(&layer, "/").await;
    connections.close();
    assert_eq!(until_closed(client).await, Some(1001));
    expected.insert((Side::Local, CountedCode::Code(CloseCode::GOING_AWAY)), 1);
    let counts = until_idle(&connections).await;
    assert_eq!(closed(&counts), expected);
    let ended: u64 = counts.closed().map(|(_, count)| count).sum();
    assert_eq!(ended, counts.accepted(), "each ended once");
}

#[tokio::test(start_paused = true)]
async fn connections_print_their_counts_and_no_secrets() {
    let layer = by_path::layer();
    let client = open_at(&layer, "/?token=hush-query").await;
    let printed = format!("{:?}", layer.connections());
    assert!(printed.contains("open: 1"), "{printed}");
    assert!(!printed.contains("hush"), "{printed}");
    drop(client);
}

/// Settings print the values in effect, which are not always those that were passed.
#[test]
fn connections_and_layers_print_their_settings() {
    let connections = Connections::new().max_connections(7);
    let connections = connections.shutdown_spread(Duration::MAX);
    let printed = format!("{connections:?}");
    assert!(
        printed.starts_with(
            "Connections { max_connections: Some(7), shutdown_spread: unlimited, max_buffered: None, \
             counts: Counts { "
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

/// `#[tracing::instrument]`, for example, logs the arguments of a handler.
#[tokio::test(start_paused = true)]
async fn sockets_and_senders_print_no_secrets() {
    let (printed, mut print) = mpsc::unbounded_channel();
    let layer = WebSocketLayer::new(move |socket: WebSocket| {
        printed
            .send(format!("{socket:?} {:?}", socket.sender()))
            .unwrap();
        async { Ok::<_, BoxError>(()) }
    });
    let layer = layer.subprotocol("hush-subprotocol");
    let lines = "Authorization: Bearer hush-header\r\nCookie: session=hush-cookie\r\n\
                 Sec-WebSocket-Protocol: hush-subprotocol\r\n";
    let request = handshake_with("/?token=hush-query", lines);
    let (head, client) = ask(layer.into_service(), &request).await;
    assert_eq!(status(&head), 101);
    let printed = print.recv().await.unwrap();
    assert!(!printed.contains("hush"), "{printed}");
    drop(client);
}
