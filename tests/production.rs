//! The example `production`, run as a process: its metrics, its log, and its end by SIGTERM.

#![cfg(all(unix, feature = "metrics", feature = "tracing"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../examples/production.rs"]
#[allow(dead_code, reason = "main is not called")]
mod production;
mod support;

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{
    by_path, samples,
    samples::{Samples, add, parse},
    wire::{
        BINARY, CLOSE, FIN, PING, TEXT, close, frame, handshake, handshake_with, header,
        read_frame, read_head, read_payload, status, write,
    },
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::ring,
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

/// Runs the example in the process that the test below starts.
#[test]
#[ignore = "runs until SIGTERM"]
fn the_process() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let runs = production::run("127.0.0.1:0", "127.0.0.1:0");
    runtime.block_on(runs).unwrap();
}

/// The example in its own process, which is killed when the test ends.
struct Server {
    child: Child,
    /// Stays open, because the process fails if it cannot print.
    _stdout: BufReader<ChildStdout>,
    log: Option<JoinHandle<String>>,
    public: SocketAddr,
    inside: SocketAddr,
    connector: TlsConnector,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "the_process", "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut log = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            log.read_to_string(&mut text).unwrap();
            text
        });
        let mut address = |scheme: &str| -> SocketAddr {
            loop {
                let mut line = String::new();
                assert!(stdout.read_line(&mut line).unwrap() > 0, "no {scheme}");
                if let Some((_, address)) = line.split_once(scheme) {
                    return address.trim().trim_end_matches('/').parse().unwrap();
                }
            }
        };
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting))
            .with_no_client_auth();
        Self {
            public: address("https://"),
            inside: address("http://"),
            child,
            _stdout: stdout,
            log: Some(log),
            connector: TlsConnector::from(Arc::new(client)),
        }
    }

    /// Sends a request, and returns the status of the answer and the connection.
    async fn ask(&self, request: &str) -> (u16, TlsStream<TcpStream>) {
        let asked = async {
            let stream = TcpStream::connect(self.public).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = self.connector.connect(name, stream).await.unwrap();
            write(&mut stream, request.as_bytes()).await;
            (status(&read_head(&mut stream).await), stream)
        };
        within(asked).await
    }

    async fn open(&self, path: &str) -> TlsStream<TcpStream> {
        let (status, stream) = self.ask(&handshake(path)).await;
        assert_eq!(status, 101, "{path}");
        stream
    }

    /// Gets a page of the internal server.
    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.inside).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Scrapes the metrics. Sums and buckets of histograms are left out, and so are those whose number of samples
    /// depends on timers.
    async fn scrape(&self) -> Samples {
        let answer = self.get("/metrics").await;
        let (_, text) = answer.split_once("\r\n\r\n").unwrap();
        let mut found = parse(text);
        found.retain(|name, _| {
            let is_left_out = name.contains("_sum") || name.contains("_bucket");
            !is_left_out && !name.contains("_queue_") && !name.contains("_round_trip_")
        });
        found
    }

    /// Scrapes until the metrics equal `expected`. The last counts come a moment after a client has seen its end.
    async fn until_scraped(&self, expected: &Samples) {
        let start = Instant::now();
        loop {
            let found = self.scrape().await;
            if found == *expected {
                return;
            }
            if start.elapsed() > Duration::from_secs(10) {
                assert_eq!(found, *expected);
            }
        }
    }

    /// Sends SIGTERM.
    fn terminate(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the process has ended by itself, and returns its log.
    async fn ended(mut self) -> String {
        let log = self.log.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || {
            let status = self.child.wait().unwrap();
            assert!(status.success(), "{status}");
            log.join().unwrap()
        });
        ended.await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Trusts every certificate: the example makes its own.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[tokio::test]
async fn serves_metrics_and_a_log_and_ends_by_sigterm() {
    let server = Server::start();
    assert!(server.get("/ready").await.starts_with("HTTP/1.1 200 "));

    let request = handshake_with("/chat", "X-Request-Id: proxy-7\r\n");
    let (status, mut client) = server.ask(&request).await;
    assert_eq!(status, 101);
    write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
    assert_eq!(read_payload(&mut client).await, b"Hello");
    write(&mut client, &close(1000, "")).await;
    assert_eq!(
        read_frame(&mut client).await.unwrap().close_code(),
        Some(1000)
    );
    drop(client);
    let mut feed = server.open("/feed").await;
    assert_eq!(read_payload(&mut feed).await, b"0");

    server.terminate();
    assert_eq!(until_close(&mut feed).await.2, Some(1012));
    // The connection is not over yet: it waits for our Close.
    let ready = server.get("/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(server.get("/live").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(server.scrape().await["websocket_connections"], 1.0);
    write(&mut feed, &close(1012, "")).await;
    drop(feed);
    let log = server.ended().await;
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_request: Vec<_> = lines
        .filter(|line| line["spans"][0]["request_id"] == "proxy-7")
        .map(|line| line["fields"]["message"].clone())
        .collect();
    assert!(of_request.contains(&"websocket closed".into()), "{log}");
    assert!(log.contains("\"report.clean\":1"), "{log}");
}

/// How a client of `/chat` ends.
enum Ends {
    /// It sends a Close, which may have no code.
    Closes(Option<u16>),
    /// It disconnects without a Close.
    Vanishes,
    /// It sends these bytes, and is closed with this code.
    IsClosed(Vec<u8>, u16),
}

/// Returns every way to end: with every code below 3000 that a peer may send, and some of the higher ones.
fn all_ends() -> Vec<Ends> {
    let codes = (1000..=1003).chain(1007..=1014);
    let codes = codes.chain([3000, 3999, 4000, 4999]).chain(4100..4200);
    let mut ends: Vec<_> = codes.map(|code| Ends::Closes(Some(code))).collect();
    // A message of 2 MiB begins.
    let large = [header(FIN | BINARY, 2 << 20, true), vec![0; 4]].concat();
    ends.extend([
        Ends::Closes(None),
        Ends::Vanishes,
        Ends::IsClosed(frame(FIN | 3, b"opcode"), 1002),
        Ends::IsClosed(close(1005, ""), 1002),
        Ends::IsClosed(close(2999, ""), 1002),
        Ends::IsClosed(frame(FIN | TEXT, b"\xff"), 1007),
        Ends::IsClosed(frame(FIN | PING, b"").repeat(1000), 1008),
        Ends::IsClosed(large, 1009),
    ]);
    ends
}

/// Reads up to the Close. Returns the number of messages before it and of their bytes, and its code.
async fn until_close(client: &mut TlsStream<TcpStream>) -> (usize, usize, Option<u16>) {
    let (mut messages, mut bytes) = (0, 0);
    let closed = async {
        loop {
            let frame = read_frame(client).await.expect("no Close");
            if frame.first == FIN | CLOSE {
                return frame.close_code();
            }
            if [FIN | TEXT, FIN | BINARY].contains(&frame.first) {
                messages += 1;
                bytes += frame.payload.len();
            }
        }
    };
    let code = within(closed).await;
    (messages, bytes, code)
}

fn add_traffic(expected: &mut Samples, direction: &str, messages: usize, bytes: usize) {
    for (what, count) in [("messages", messages), ("bytes", bytes)] {
        let name = format!("websocket_{what}_total{{direction=\"{direction}\"}}");
        add(expected, name, count);
    }
}

/// Ends a connection to `/chat`, and counts the expected end.
async fn end(mut client: TlsStream<TcpStream>, ends: &Ends, expected: &mut Samples) {
    match ends {
        Ends::Closes(code) => {
            let bytes = code.map_or_else(|| frame(FIN | CLOSE, b""), |code| close(code, ""));
            write(&mut client, &bytes).await;
            assert_eq!(until_close(&mut client).await, (0, 0, *code));
            add(expected, samples::closed("remote", *code, &[]), 1);
        }
        Ends::Vanishes => add(expected, samples::closed("remote", None, &[]), 1),
        Ends::IsClosed(bytes, code) => {
            write(&mut client, bytes).await;
            assert_eq!(until_close(&mut client).await, (0, 0, Some(*code)));
            // The server may be gone before it has read our Close.
            let _ = client.write_all(&close(*code, "")).await;
            add(expected, samples::closed("local", Some(*code), &[]), 1);
        }
    }
}

const CONNECTIONS: usize = 1000;

/// The limit of the example for an address and a layer.
const PER_PEER: usize = 100;

/// The refusals that need another application than the example. `tests/metrics.rs` counts them with the same observer.
const ELSEWHERE: [&str; 4] = [
    "refused",
    "accept_panicked",
    "unknown_peer",
    "accept_timeout",
];

#[tokio::test]
async fn a_thousand_connections_are_scraped_as_their_clients_count_them() {
    let server = Server::start();
    let mut expected = Samples::new();
    let ends = all_ends();
    for first in (0..CONNECTIONS).step_by(PER_PEER) {
        let mut open = Vec::new();
        for number in first..first + PER_PEER {
            let mut client = server.open("/chat").await;
            add(&mut expected, samples::handshakes("accepted"), 1);
            for index in 0..number % 4 {
                let len = (number + index) % 126;
                write(&mut client, &frame(FIN | BINARY, &vec![7; len])).await;
                assert_eq!(read_payload(&mut client).await.len(), len);
                add_traffic(&mut expected, "received", 1, len);
                add_traffic(&mut expected, "sent", 1, len);
            }
            open.push((client, &ends[number % ends.len()]));
        }
        assert_eq!(server.ask(&handshake("/chat")).await.0, 429);
        add(&mut expected, samples::handshakes("too_many_of_key"), 1);
        let gauge = server.scrape().await["websocket_connections"];
        assert_eq!(gauge, PER_PEER as f64);
        for (client, ends) in open {
            end(client, ends, &mut expected).await;
        }
        add(&mut expected, "websocket_connections", 0);
        for name in ["handshake", "lifetime"] {
            let name = format!("websocket_{name}_seconds_count");
            add(&mut expected, name, PER_PEER);
        }
        server.until_scraped(&expected).await;
    }
    for (expected_status, label, request) in by_path::refusals() {
        if ELSEWHERE.contains(&label) {
            continue;
        }
        let request = request.replacen(" /?", " /chat?", 1);
        let (status, _) = server.ask(&request).await;
        assert_eq!(status, expected_status, "{label}");
        add(&mut expected, samples::handshakes(label), 1);
    }
    server.until_scraped(&expected).await;

    // The other layer is in the same registry. It sends until it is closed.
    let mut feed = server.open("/feed").await;
    let mut last = server.open("/chat").await;
    add(&mut expected, samples::handshakes("accepted"), 2);
    add(&mut expected, "websocket_handshake_seconds_count", 2);
    assert_eq!(read_payload(&mut feed).await, b"0");
    server.terminate();
    let (messages, bytes, code) = until_close(&mut feed).await;
    assert_eq!(code, Some(1012));
    assert_eq!(until_close(&mut last).await, (0, 0, Some(1012)));
    add_traffic(&mut expected, "sent", 1 + messages, 1 + bytes);
    write(&mut feed, &close(1012, "")).await;
    drop(feed);
    add(&mut expected, samples::closed("local", Some(1012), &[]), 1);
    add(&mut expected, "websocket_lifetime_seconds_count", 1);
    assert_eq!(server.ask(&handshake("/chat")).await.0, 503);
    add(&mut expected, samples::handshakes("shutting_down"), 1);
    add(&mut expected, "websocket_connections", 1);
    server.until_scraped(&expected).await;
    write(&mut last, &close(1012, "")).await;
    let log = server.ended().await;
    assert!(log.contains("\"report.clean\":2"), "{log}");
}
