//! The metrics that Prometheus scrapes equal the counts of the clients.

#![cfg(feature = "metrics")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use support::{
    by_path::{self, try_write, until_closed},
    pipe::{self, ask, knock, open_at, until_idle},
    raw,
    samples::{self, Samples, add, handshakes, parse},
    wire::{BINARY, CLOSE, FIN, TEXT, close, frame, read_frame, status, write},
};
use tokio::{
    io::DuplexStream,
    time::{advance, sleep},
};
use tower::ServiceExt;
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Config, Connections, Message, WebSocket, WebSocketLayer,
    metrics::MetricsObserver,
};

/// Runs a test with its own recorder, and passes it a function that scrapes.
fn scraped<F: Future<Output = ()>>(test: impl FnOnce(Box<dyn Fn() -> Samples>) -> F) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(test(Box::new(move || parse(&handle.render()))));
    });
}

/// Echoes binary messages. A text message is a command that says how to end.
async fn obedient(mut socket: WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.recv().await? {
        match message {
            Message::Binary(bytes) => socket.send(bytes).await?,
            Message::Text(text) => match &*text {
                "return" => return Ok(()),
                "fail" => return Err("as asked".into()),
                "panic" => panic!("as asked"),
                code => return Err(CloseFrame::new(CloseCode::new(code.parse()?)?, "")?.into()),
            },
        }
    }
    Ok(())
}

/// How a client of [`obedient`] ends its connection.
#[derive(Clone, Debug)]
enum Ends {
    /// It sends a Close.
    Closes(u16),
    /// It sends a Close without a code.
    ClosesWithout,
    /// It disconnects without a Close.
    Vanishes,
    /// It sends these bytes, and is closed with this code. `Some` is the length of the message, if one is counted.
    IsClosed(Vec<u8>, u16, Option<usize>),
}

/// Returns every way to end a connection, with every code.
fn all_ends() -> Vec<Ends> {
    let codes = (1000..=1003).chain(1007..=1014);
    let codes: Vec<u16> = codes.chain([3000, 3999]).chain(4000..=4080).collect();
    let mut ends = vec![Ends::ClosesWithout, Ends::Vanishes];
    let order = |command: &str, code| {
        Ends::IsClosed(
            frame(FIN | TEXT, command.as_bytes()),
            code,
            Some(command.len()),
        )
    };
    for &code in &codes {
        ends.push(Ends::Closes(code));
        ends.push(order(&code.to_string(), code));
    }
    ends.extend([
        order("return", 1000),
        order("fail", 1011),
        order("panic", 1011),
    ]);
    ends.push(Ends::IsClosed(frame(FIN | 3, b"opcode"), 1002, None));
    ends.push(Ends::IsClosed(frame(FIN | TEXT, b"\xff"), 1007, None));
    ends.push(Ends::IsClosed(frame(TEXT, b"never completed"), 1008, None));
    ends.push(Ends::IsClosed(frame(FIN | BINARY, &[7; 2000]), 1009, None));
    ends
}

/// The codes from 3000 on that the metrics count separately.
const KNOWN: [u16; 2] = [3999, 4001];

fn closed(side: &str, code: Option<u16>) -> String {
    samples::closed(side, code, &KNOWN)
}

/// Ends a connection, and counts the expected end.
async fn end(mut client: DuplexStream, ends: Ends, expected: &mut Samples) {
    match ends {
        Ends::Closes(code) => {
            write(&mut client, &close(code, "")).await;
            assert_eq!(until_closed(client).await, Some(code));
            add(expected, closed("remote", Some(code)), 1);
        }
        Ends::ClosesWithout => {
            write(&mut client, &frame(FIN | CLOSE, b"")).await;
            assert_eq!(until_closed(client).await, None);
            add(expected, closed("remote", None), 1);
        }
        Ends::Vanishes => add(expected, closed("remote", None), 1),
        Ends::IsClosed(bytes, code, message) => {
            try_write(&mut client, &bytes).await;
            assert_eq!(until_closed(client).await, Some(code));
            add(expected, closed("local", Some(code)), 1);
            if let Some(len) = message {
                add(
                    expected,
                    "websocket_messages_total{direction=\"received\"}",
                    1,
                );
                add(
                    expected,
                    "websocket_bytes_total{direction=\"received\"}",
                    len,
                );
            }
        }
    }
}

const CONNECTIONS: usize = 1000;

#[test]
fn the_counts_of_a_thousand_connections_equal_those_of_their_clients() {
    scraped(async |scrape| {
        let observer = KNOWN.iter().fold(MetricsObserver::new(), |observer, code| {
            observer.close_code(CloseCode::new(*code).unwrap())
        });
        let all = Connections::new().observer(observer);
        let config = Config::new()
            .max_message_size(1000)
            .assembly_timeout(Duration::from_secs(5));
        let layer = WebSocketLayer::new(obedient).config(config);
        let layer = layer.connections_in(&all);
        let mut expected = Samples::new();

        let ends = all_ends();
        assert!(ends.len() < CONNECTIONS, "not every end is tried");
        let mut open = Vec::new();
        for (number, ends) in ends.iter().cycle().take(CONNECTIONS).enumerate() {
            let mut client = open_at(&layer, &format!("/{number}")).await;
            add(&mut expected, handshakes("accepted"), 1);
            for index in 0..number % 4 {
                let len = (number + index) % 126;
                write(&mut client, &frame(FIN | BINARY, &vec![7; len])).await;
                let answer = read_frame(&mut client).await.unwrap();
                assert_eq!(answer.payload.len(), len);
                for direction in ["received", "sent"] {
                    let named =
                        |what| format!("websocket_{what}_total{{direction=\"{direction}\"}}");
                    add(&mut expected, named("messages"), 1);
                    add(&mut expected, named("bytes"), len);
                }
            }
            open.push((client, ends.clone()));
        }
        assert_eq!(scrape()["websocket_connections"], CONNECTIONS as f64);
        assert_eq!(
            scrape()["websocket_handshake_seconds_count"],
            CONNECTIONS as f64
        );
        for (client, ends) in open {
            end(client, ends, &mut expected).await;
        }
        until_idle(&all).await;

        refuse(&all, &mut expected).await;
        let opened = expected[&handshakes("accepted")];
        for name in ["handshake", "lifetime"] {
            add(
                &mut expected,
                format!("websocket_{name}_seconds_count"),
                opened as usize,
            );
        }
        add(&mut expected, "websocket_connections", 0);
        let mut found = scrape();
        // Leaves out sums of times, and sampled queue lengths.
        found.retain(|name, _| !name.ends_with("_sum") && !name.contains("_queue_"));
        assert_eq!(found, expected);

        // The registry has the same counts.
        let counts = all.counts();
        assert_eq!(counts.accepted() as f64, opened);
        for (label, count) in counts.refused() {
            assert_eq!(expected[&handshakes(label)], count as f64, "{label}");
        }
        let ended = expected
            .iter()
            .filter(|(name, _)| name.contains("_closed_"));
        assert_eq!(ended.map(|(_, count)| count).sum::<f64>(), opened);
    });
}

/// Causes every kind of refusal, by layers of the same registry.
async fn refuse(all: &Connections, expected: &mut Samples) {
    let layer = by_path::layer().connections_in(all);
    for (expected_status, label, request) in by_path::refusals() {
        let (head, _client) = ask(layer.clone().into_service(), &request).await;
        assert_eq!(status(&head), expected_status, "{label}");
        add(expected, handshakes(label), 1);
    }
    let picky = WebSocketLayer::new(obedient).connections_in(all);
    let picky = picky.subprotocol("chat").require_subprotocol();
    assert_eq!(knock(&picky, "/").await.0, 400);
    add(expected, handshakes("subprotocol_required"), 1);

    let mut client = open_at(&layer, "/key").await;
    add(expected, handshakes("accepted"), 1);
    assert_eq!(knock(&layer, "/key").await.0, 429);
    add(expected, handshakes("too_many_of_key"), 1);
    let all = all.clone().max_connections(1);
    assert_eq!(knock(&layer, "/").await.0, 503);
    add(expected, handshakes("too_many_connections"), 1);
    let all = all.without_max_connections();
    // The request has no `OnUpgrade` of an HTTP server.
    let service = layer.clone().into_service();
    let answer = service.oneshot(raw::handshake_head()).await.unwrap();
    assert_eq!(answer.status(), 500);
    add(expected, handshakes("upgrade_unsupported"), 1);
    #[cfg(feature = "http2")]
    {
        let service = layer.clone().into_service();
        let request = http::Request::connect("https://example.com/ws")
            .version(http::Version::HTTP_2)
            .extension(hyper::ext::Protocol::from_static("connect-udp"))
            .body(())
            .unwrap();
        let answer = service.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 501);
        add(expected, handshakes("unknown_protocol"), 1);
    }
    write(&mut client, &close(1000, "")).await;
    assert_eq!(until_closed(client).await, Some(1000));
    add(expected, closed("remote", Some(1000)), 1);
    until_idle(&all).await;
    all.close();
    assert_eq!(knock(&layer, "/").await.0, 503);
    add(expected, handshakes("shutting_down"), 1);
}

#[test]
fn times_and_traffic_are_recorded_while_a_connection_is_open() {
    scraped(async |scrape| {
        let all = Connections::new().observer(MetricsObserver::new().label("service", "chat"));
        let layer = WebSocketLayer::new(obedient).connections_in(&all);
        let mut client = open_at(&layer, "/").await;
        write(&mut client, &frame(FIN | BINARY, b"Hello")).await;
        assert_eq!(read_frame(&mut client).await.unwrap().payload, b"Hello");
        let messages = "websocket_messages_total{service=\"chat\",direction=\"sent\"}";
        assert_eq!(
            scrape().get(messages),
            None,
            "a message is counted before the timer fires"
        );
        // Answers the keepalive ping after 250 ms.
        let ping = read_frame(&mut client).await.unwrap();
        sleep(Duration::from_millis(250)).await;
        write(
            &mut client,
            &frame(FIN | support::wire::PONG, &ping.payload),
        )
        .await;
        sleep(Duration::from_millis(1)).await;
        let found = scrape();
        assert_eq!(found[messages], 1.0);
        let labelled = |name: &str| found[&format!("websocket_{name}{{service=\"chat\"}}")];
        assert_eq!(labelled("round_trip_seconds_count"), 1.0);
        assert!(
            (0.25..0.26).contains(&labelled("round_trip_seconds_sum")),
            "{found:?}"
        );
        assert_eq!(labelled("queue_bytes_count"), 1.0);
        advance(Duration::from_secs(5)).await;
        write(&mut client, &close(1000, "")).await;
        assert_eq!(until_closed(client).await, Some(1000));
        until_idle(&all).await;
        let lifetime = scrape()["websocket_lifetime_seconds_sum{service=\"chat\"}"];
        assert!((25.0..26.0).contains(&lifetime), "{lifetime}");
    });
}

#[test]
fn a_recorder_that_is_installed_late_counts_the_connections_that_are_open() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let all = Connections::new().observer(MetricsObserver::new());
    let layer = WebSocketLayer::new(obedient).connections_in(&all);
    // Another observer with the same labels: the gauge is the sum.
    let others = Connections::new().observer(MetricsObserver::new());
    let other = WebSocketLayer::new(obedient).connections_in(&others);
    let mut early = runtime.block_on(async {
        let opened = pipe::open_many(&layer, 3).await;
        drop(open_at(&layer, "/").await);
        pipe::until_open(&all, 3).await;
        opened
    });
    let recorders = [(); 2].map(|()| PrometheusBuilder::new().build_recorder());
    for recorder in &recorders {
        let handle = recorder.handle();
        let gauge = || parse(&handle.render())["websocket_connections"];
        metrics::with_local_recorder(recorder, || {
            runtime.block_on(async {
                let open = early.len() as f64;
                drop(early.pop());
                pipe::until_open(&all, early.len()).await;
                assert_eq!(gauge(), open - 1.0);
                let client = open_at(&other, "/").await;
                assert_eq!(gauge(), open);
                drop(client);
                until_idle(&others).await;
                assert_eq!(gauge(), open - 1.0);
            });
        });
    }
}

#[test]
fn the_queue_is_recorded_while_the_connection_is_open_and_not_at_its_end() {
    scraped(async |scrape| {
        let all = Connections::new().observer(MetricsObserver::new());
        let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
            socket.send(vec![7_u8; 100_000]).await?;
            while socket.recv().await?.is_some() {}
            Ok::<_, BoxError>(())
        });
        let layer = layer.connections_in(&all);
        // A short connection, whose timer never fires.
        let mut short = open_at(&layer, "/").await;
        write(&mut short, &close(1000, "")).await;
        assert_eq!(until_closed(short).await, Some(1000));
        until_idle(&all).await;
        assert_eq!(scrape().get("websocket_queue_bytes_count"), None);
        // The pipe holds 64 KiB, so 34 KiB wait when the timer fires.
        let slow = open_at(&layer, "/").await;
        sleep(Duration::from_secs(21)).await;
        let found = scrape();
        let count = found["websocket_queue_bytes_count"];
        assert!(count >= 1.0, "{found:?}");
        let mean = found["websocket_queue_bytes_sum"] / count;
        assert!((30_000.0..70_000.0).contains(&mean), "{found:?}");
        drop(slow);
        until_idle(&all).await;
        assert_eq!(scrape()["websocket_queue_bytes_count"], count);
    });
}

fn read(path: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Returns the name of each metric in the documentation's table, with its type and labels.
fn documented() -> BTreeMap<String, (String, String)> {
    let source = read("src/metrics/mod.rs");
    let rows = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `websocket_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let name = format!("websocket_{}", cells[0].trim_end_matches('`'));
        (name, (cells[1].to_owned(), cells[2].replace('`', "")))
    })
    .collect()
}

/// Collects the texts under the keys `"expr"` and `"query"`.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" => found.push(text.clone()),
                    value => queries(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_uses_every_metric_and_no_unknown_name_or_label() {
    let dashboard = serde_json::from_str(&read("examples/production/dashboard.json")).unwrap();
    let mut asked = Vec::new();
    queries(&dashboard, &mut asked);
    let documented = documented();
    assert_eq!(documented.len(), 9, "{documented:?}");
    let mut unused = documented.clone();
    for query in &asked {
        let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let words = query.split(|char: char| !is_part(char));
        let names: Vec<_> = words
            .filter(|word| word.starts_with("websocket_"))
            .collect();
        assert!(!names.is_empty(), "{query}");
        for name in names {
            let base = name.strip_suffix("_bucket").unwrap_or(name);
            let (kind, labels) = documented
                .get(base)
                .unwrap_or_else(|| panic!("{name} is not documented"));
            assert_eq!(kind == "histogram", base != name, "{query}");
            assert_eq!(
                kind == "counter",
                query.contains("rate(") && base == name,
                "{query}"
            );
            unused.remove(base);
            for part in query.split("by (").skip(1) {
                let by = part.split(')').next().unwrap().split(',').map(str::trim);
                for label in by.filter(|label| *label != "le") {
                    assert!(labels.contains(label), "{query}: {label}");
                }
            }
        }
    }
    assert!(unused.is_empty(), "not on the dashboard: {unused:?}");
}
