//! The resident memory of compressed connections.
//!
//! ```text
//! cargo test --features deflate --test deflate_memory -- --nocapture
//! ```

#![cfg(feature = "deflate")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use flate2::{Compress, FlushCompress};
use memory::{Growth, KIB, MIB, measure, run};
use support::{memory, pipe, wire};
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    time::sleep,
};
use tower_websocket::{Config, Deflate, Echo, UpgradeRequired, WebSocketLayer, WebSocketService};
use wire::{
    BINARY, CONTINUATION, FIN, frame, handshake_with, read_close, read_frame, upgrade, write,
};

const SECOND: Duration = Duration::from_secs(1);
const RSV1: u8 = 0x40;

/// The capacity of a pipe in each direction.
const PIPE: usize = 4 * KIB;

const PARTS: &[(&str, fn())] = &[
    ("200 bombs", bombs),
    ("200 bombs that wait below the limit", waiting_bombs),
    ("1,000 messages that have begun", begun),
    ("1,000 idle connections, nothing agreed on", || {
        idle(None, 8)
    }),
    ("1,000 idle connections after a message", || {
        idle(Some(Deflate::new()), 8);
    }),
    ("100 connections with context takeover to receive", || {
        idle(Some(Deflate::new().receive_context_takeover()), 64);
    }),
    (
        "100 connections with context takeover to send, window 9",
        || {
            idle(
                Some(Deflate::new().send_window_bits(9).send_context_takeover()),
                208,
            );
        },
    ),
    (
        "100 connections with context takeover to send, window 12",
        || {
            idle(Some(Deflate::new().send_context_takeover()), 224);
        },
    ),
    (
        "100 connections with context takeover to send, window 15",
        || {
            idle(
                Some(Deflate::new().send_window_bits(15).send_context_takeover()),
                336,
            );
        },
    ),
];

#[test]
fn holds_no_more_than_it_may_of_compressed_messages() {
    measure("holds_no_more_than_it_may_of_compressed_messages", PARTS);
}

type Service = WebSocketService<UpgradeRequired, Echo>;

fn service(deflate: Option<Deflate>) -> Service {
    let config = Config::new();
    let config = deflate.map_or(config.clone(), |deflate| config.deflate(deflate));
    WebSocketLayer::new(Echo::new())
        .config(config)
        .into_service()
}

/// Opens a connection, served by hyper, which offers compression.
async fn open(
    service: &Service,
    (server, mut client): (DuplexStream, DuplexStream),
) -> DuplexStream {
    pipe::serve_on(server, service.clone());
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    upgrade(&mut client, &handshake_with("/", offer)).await;
    client
}

/// Opens connections, after one for which the thread's and the pool's buffers are made.
async fn opened(service: &Service, count: usize, warm: &[u8]) -> (Vec<DuplexStream>, Growth) {
    let mut pipes = Vec::new();
    for _ in 0..=count {
        let (mut server, mut client) = duplex(PIPE);
        // The pipes' own buffers are there before anything is measured.
        write(&mut server, &[0; PIPE]).await;
        write(&mut client, &[0; PIPE]).await;
        let mut bytes = [0; PIPE];
        client.read_exact(&mut bytes).await.unwrap();
        server.read_exact(&mut bytes).await.unwrap();
        pipes.push((server, client));
    }
    let mut first = open(service, pipes.pop().unwrap()).await;
    write(&mut first, warm).await;
    read_frame(&mut first).await.unwrap();
    drop(first);
    sleep(SECOND).await;
    let growth = Growth::start();
    let mut clients = Vec::with_capacity(count);
    for pipe in pipes {
        clients.push(open(service, pipe).await);
    }
    (clients, growth)
}

/// Returns `len` zeros in compressed form, about a thousandth of their length.
fn zeros(len: usize) -> Vec<u8> {
    let mut compress = Compress::new(flate2::Compression::new(6), false);
    let mut output = Vec::with_capacity(len / 500 + 100);
    compress
        .compress_vec(&vec![0; len], &mut output, FlushCompress::Sync)
        .unwrap();
    assert!(output.ends_with(&[0, 0, 0xff, 0xff]) && output.len() < len / 200);
    output
}

fn small() -> Vec<u8> {
    frame(FIN | BINARY, b"small")
}

/// Whole at once, each of them 16 MiB.
fn bombs() {
    run(async {
        let bomb = frame(FIN | RSV1 | BINARY, &zeros(16 * MIB));
        let (clients, mut growth) = opened(&service(Some(Deflate::new())), 200, &small()).await;
        for mut client in clients {
            write(&mut client, &bomb).await;
            growth.sample();
            assert_eq!(read_close(&mut client).await, Some(1009));
            growth.sample();
        }
        // The connections themselves, and what one message takes at a time.
        growth.assert_within(200 * 8 * KIB + MIB + 320 * KIB, "growth in all");
    });
}

/// All of them have inflated to nearly the limit before the first goes past it.
fn waiting_bombs() {
    run(async {
        let first = frame(RSV1 | BINARY, &zeros(MIB - KIB));
        let last = frame(FIN | CONTINUATION, &zeros(16 * MIB));
        let service = service(Some(Deflate::new()));
        let (mut clients, mut growth) = opened(&service, 200, &small()).await;
        for client in &mut clients {
            write(client, &first).await;
            sleep(Duration::from_millis(1)).await;
            growth.sample();
        }
        for client in &mut clients {
            write(client, &last).await;
            assert_eq!(read_close(client).await, Some(1009));
            growth.sample();
        }
        growth.most /= clients.len();
        growth.assert_within(MIB + 64 * KIB, "growth a connection");
        assert!(growth.most > MIB / 2, "nothing was held");
    });
}

/// One byte of each.
fn begun() {
    run(async {
        let service = service(Some(Deflate::new()));
        let (mut clients, mut growth) = opened(&service, 1000, &small()).await;
        for client in &mut clients {
            write(client, &frame(RSV1 | BINARY, &[0xf2])).await;
        }
        sleep(SECOND).await;
        growth.sample();
        growth.most /= clients.len();
        growth.assert_within(64 * KIB, "growth a connection");
    });
}

/// Idle after each has echoed 4 KiB, and 16 KiB that came compressed if that was agreed on.
fn idle(deflate: Option<Deflate>, bound: usize) {
    run(async {
        let count = if bound <= 16 { 1000 } else { 100 };
        let agreed = deflate.is_some();
        let text: String = (0..400).map(|n| format!("number {n}, ")).collect();
        let message = |len: usize| frame(FIN | BINARY, &text.as_bytes()[..len]);
        let (mut clients, mut growth) = opened(&service(deflate), count, &message(4 * KIB)).await;
        let zeros = zeros(16 * KIB);
        // The tail is not sent.
        let compressed = frame(FIN | RSV1 | BINARY, &zeros[..zeros.len() - 4]);
        for client in &mut clients {
            write(client, &message(4 * KIB)).await;
            let echoed = read_frame(client).await.unwrap();
            assert_eq!(echoed.first & RSV1 != 0, agreed);
            if agreed {
                write(client, &compressed).await;
                assert_ne!(read_frame(client).await.unwrap().first & RSV1, 0);
            }
        }
        sleep(SECOND).await;
        growth.sample();
        growth.most /= clients.len();
        growth.assert_within(bound * KIB, "growth a connection");
    });
}
