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
    process::{Child, Command, Stdio},
    sync::Arc,
};

use serde_json::Value;
use support::{
    wire::{
        CLOSE, FIN, TEXT, close, frame, handshake, handshake_with, read_frame, read_head,
        read_payload, status, write,
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

/// A process that is killed when the test ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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

async fn ask(address: SocketAddr, request: &str) -> (String, TlsStream<TcpStream>) {
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    write(&mut stream, request.as_bytes()).await;
    (read_head(&mut stream).await, stream)
}

async fn plain(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Scrapes until a sample has this value.
async fn until_scraped(address: SocketAddr, line: &str) -> String {
    within(async {
        loop {
            let scraped = plain(address, "/metrics").await;
            if scraped.lines().any(|one| one == line) {
                return scraped;
            }
        }
    })
    .await
}

#[tokio::test]
async fn serves_metrics_and_a_log_and_ends_by_sigterm() {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_process", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Process(child.unwrap());
    let mut stdout = BufReader::new(process.0.stdout.take().unwrap());
    let mut log = process.0.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
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
    let (public, inside) = (address("https://"), address("http://"));
    assert!(plain(inside, "/ready").await.starts_with("HTTP/1.1 200 "));

    let request = handshake_with("/chat", "X-Request-Id: proxy-7\r\n");
    let (head, mut client) = ask(public, &request).await;
    assert_eq!(status(&head), 101);
    write(&mut client, &frame(FIN | TEXT, b"Hello")).await;
    assert_eq!(read_payload(&mut client).await, b"Hello");
    write(&mut client, &close(1000, "")).await;
    assert_eq!(
        read_frame(&mut client).await.unwrap().close_code(),
        Some(1000)
    );
    drop(client);
    let (head, _) = ask(public, &handshake("/chat").replace(": 13", ": 8")).await;
    assert_eq!(status(&head), 426);
    let (head, mut feed) = ask(public, &handshake("/feed")).await;
    assert_eq!(status(&head), 101);
    assert_eq!(read_payload(&mut feed).await, b"0");
    let scraped = until_scraped(
        inside,
        "websocket_closed_total{side=\"remote\",code=\"1000\"} 1",
    )
    .await;
    for line in [
        "websocket_connections 1",
        "websocket_handshakes_total{outcome=\"accepted\"} 2",
        "websocket_handshakes_total{outcome=\"unsupported_version\"} 1",
        "websocket_messages_total{direction=\"received\"} 1",
        "websocket_bytes_total{direction=\"sent\"} 5",
        "websocket_lifetime_seconds_bucket{le=\"+Inf\"} 1",
    ] {
        assert!(scraped.lines().any(|one| one == line), "{line}: {scraped}");
    }

    let pid = process.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let code = within(async {
        loop {
            let frame = read_frame(&mut feed).await.unwrap();
            // Updates of the feed may come before the Close.
            if frame.first == FIN | CLOSE {
                return frame.close_code();
            }
        }
    });
    assert_eq!(code.await, Some(1012));
    write(&mut feed, &close(1012, "")).await;
    drop(feed);
    let ended = tokio::task::spawn_blocking(move || process.0.wait()).await;
    assert!(ended.unwrap().unwrap().success());
    let log = log.join().unwrap().unwrap();
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
