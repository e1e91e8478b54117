//! permessage-deflate (RFC 7692) on the wire: what is agreed on, what is compressed, and what a
//! peer may not do with it.
//!
//! ```text
//! cargo test --features deflate --test deflate
//! ```

#![cfg(feature = "deflate")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress};
use futures_util::SinkExt;
use support::{pipe, wire};
use tokio::{
    io::{AsyncReadExt, DuplexStream},
    sync::{mpsc, oneshot},
};
use tower::{Layer, service_fn};
use tower_websocket::{
    BoxError, Config, Deflate, Echo, Handler, IntoHandler, Message, Sender, WebSocket,
    WebSocketLayer,
    error::{RecvError, TrySendError},
};
use wire::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close, frame, handshake_with, header,
    read_close, read_frame, upgrade, write,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Marks the first frame of a compressed message.
const RSV1: u8 = 0x40;

const OFFER: &str = "permessage-deflate; client_max_window_bits";

/// Everything is compressed, and nothing is shared between messages.
fn all() -> Config {
    Config::new().deflate(Deflate::new().min_size(0))
}

/// Messages may refer to each other in both directions.
fn takeover() -> Config {
    let deflate = Deflate::new()
        .min_size(0)
        .send_window_bits(15)
        .send_context_takeover()
        .receive_context_takeover();
    Config::new().deflate(deflate)
}

/// Opens a connection to a handler, and returns it with the extensions that were agreed on.
async fn open<M>(
    config: Config,
    handler: impl IntoHandler<M, Handler: Handler>,
    offers: &[&str],
) -> (DuplexStream, Option<String>) {
    let service = WebSocketLayer::new(handler)
        .config(config)
        .layer(service_fn(async |_| {
            Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
        }));
    let mut client = pipe::serve(service, 64 * KIB);
    let offers = offers.iter();
    let offers = offers.map(|offer| format!("Sec-WebSocket-Extensions: {offer}\r\n"));
    let request = handshake_with("/", &offers.collect::<String>());
    let head = upgrade(&mut client, &request).await;
    let mut answers = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        (name == "sec-websocket-extensions").then(|| value.to_owned())
    });
    let answer = answers.next();
    assert_eq!(answers.next(), None, "{head}");
    (client, answer)
}

/// Opens a connection whose socket and sender the test holds.
async fn open_held(config: Config, offer: &str) -> (DuplexStream, mpsc::UnboundedReceiver<Held>) {
    let (to_test, held) = mpsc::unbounded_channel();
    let handler = move |socket: WebSocket| {
        let to_test = to_test.clone();
        async move {
            let (done, ended) = oneshot::channel();
            let sender = socket.sender();
            drop(to_test.send(Held {
                socket,
                sender,
                _done: done,
            }));
            // Returns when the test has dropped what it holds.
            drop(ended.await);
            Ok::<_, BoxError>(())
        }
    };
    let (client, answer) = open(config, handler, &[offer]).await;
    assert!(answer.is_some());
    (client, held)
}

struct Held {
    socket: WebSocket,
    sender: Sender,
    _done: oneshot::Sender<()>,
}

/// Compresses with zlib, each message by itself.
fn compressed(message: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(flate2::Compression::new(9), false);
    let mut output = Vec::with_capacity(message.len() + 1000);
    compress
        .compress_vec(message, &mut output, FlushCompress::Sync)
        .unwrap();
    assert!(output.ends_with(&[0, 0, 0xff, 0xff]));
    output.truncate(output.len() - 4);
    output
}

/// Inflates with zlib, each message with those before it in sight.
struct Inflater(Decompress);

impl Inflater {
    fn new() -> Self {
        Self(Decompress::new(false))
    }

    fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        let input = [payload, &[0, 0, 0xff, 0xff]].concat();
        let mut output = Vec::with_capacity(2 * MIB);
        let read = self.0.total_in();
        self.0
            .decompress_vec(&input, &mut output, FlushDecompress::Sync)
            .unwrap();
        assert_eq!((self.0.total_in() - read) as usize, input.len());
        output
    }
}

fn inflated(payload: &[u8]) -> Vec<u8> {
    Inflater::new().inflate(payload)
}

fn json() -> String {
    let rows = (0..2000).map(|id| format!("{{\"id\":{id},\"name\":\"user {id}\",\"on\":true}}"));
    format!("[{}]", rows.collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn answers_what_is_offered() {
    const DEFAULTS: &str = "permessage-deflate; server_no_context_takeover; \
                            client_no_context_takeover; server_max_window_bits=12";
    let plain = || Config::new().deflate(Deflate::new());
    for (config, offers, answer) in [
        (plain(), &[][..], None),
        (plain(), &["permessage-deflate"], Some(DEFAULTS)),
        // Chromium and Firefox, `ws`, Python's websockets.
        (plain(), &[OFFER], Some(DEFAULTS)),
        (plain(), &["foo", OFFER], Some(DEFAULTS)),
        (
            plain(),
            &["permessage-deflate; server_max_window_bits=9; client_max_window_bits=10"],
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=9; client_max_window_bits=10",
            ),
        ),
        (
            takeover(),
            &["permessage-deflate"],
            Some("permessage-deflate"),
        ),
        (takeover(), &[OFFER], Some("permessage-deflate")),
        (
            takeover(),
            &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
        (
            takeover(),
            &[
                "permessage-deflate; server_max_window_bits=8, permessage-deflate; \
               server_max_window_bits=10",
            ],
            Some("permessage-deflate; server_max_window_bits=10"),
        ),
        (
            plain(),
            &["permessage-deflate; server_max_window_bits=8"],
            None,
        ),
        (plain(), &["permessage-deflate; unknown"], None),
        (
            plain(),
            &["permessage-deflate; client_max_window_bits=16"],
            None,
        ),
        (plain(), &["x-webkit-deflate-frame"], None),
        (Config::new(), &[OFFER], None),
    ] {
        let (_client, answered) = open(config, Echo::new(), offers).await;
        assert_eq!(answered.as_deref(), answer, "{offers:?}");
    }
}

#[tokio::test]
async fn refuses_compressed_messages_that_were_not_agreed_on() {
    for (config, offers) in [
        (Config::new(), &[OFFER][..]),
        (all(), &[]),
        (all(), &["permessage-deflate; unknown"]),
    ] {
        let (mut client, answer) = open(config, Echo::new(), offers).await;
        assert_eq!(answer, None);
        write(&mut client, &frame(FIN | TEXT, b"plain")).await;
        let echoed = read_frame(&mut client).await.unwrap();
        assert_eq!(
            (echoed.first, &echoed.payload[..]),
            (FIN | TEXT, &b"plain"[..])
        );
        write(
            &mut client,
            &frame(FIN | RSV1 | TEXT, &compressed(b"small")),
        )
        .await;
        assert_eq!(read_close(&mut client).await, Some(1002));
    }
}

#[tokio::test]
async fn echoes_compressed_messages_compressed() {
    for config in [all(), takeover()] {
        let (mut client, _) = open(config, Echo::new(), &[OFFER]).await;
        let mut inflater = Inflater::new();
        for (opcode, message) in [
            (TEXT, json()),
            (BINARY, json()),
            (TEXT, "wörld ".repeat(100_000)),
            (TEXT, json()),
            (BINARY, "x".repeat(MIB)),
        ] {
            write(
                &mut client,
                &frame(FIN | RSV1 | opcode, &compressed(message.as_bytes())),
            )
            .await;
            let echoed = read_frame(&mut client).await.unwrap();
            assert_eq!(echoed.first, FIN | RSV1 | opcode);
            assert!(echoed.payload.len() < message.len() / 4);
            assert!(inflater.inflate(&echoed.payload) == message.as_bytes());
        }
        write(&mut client, &close(1000, "")).await;
        assert_eq!(read_close(&mut client).await, Some(1000));
    }
}

#[tokio::test]
async fn answers_pings_between_compressed_fragments() {
    let (mut client, _) = open(all(), Echo::new(), &[OFFER]).await;
    let payload = compressed(json().as_bytes());
    let mut first = RSV1 | TEXT;
    for fragment in payload.chunks(payload.len() / 5) {
        write(&mut client, &frame(first, fragment)).await;
        write(&mut client, &frame(FIN | PING, &fragment[..2])).await;
        let pong = read_frame(&mut client).await.unwrap();
        assert_eq!(
            (pong.first, &pong.payload[..]),
            (FIN | PONG, &fragment[..2])
        );
        first = CONTINUATION;
    }
    write(&mut client, &frame(FIN, b"")).await;
    let echoed = read_frame(&mut client).await.unwrap();
    assert_eq!(inflated(&echoed.payload), json().as_bytes());
}

#[tokio::test]
async fn refuses_the_mark_on_anything_but_the_first_frame_of_a_message() {
    let payload = compressed(b"Hello");
    for frames in [
        [
            frame(RSV1 | TEXT, &payload[..2]),
            frame(FIN | RSV1, &payload[2..]),
        ],
        [frame(TEXT, b"He"), frame(FIN | RSV1, b"llo")],
        [frame(FIN | TEXT, b"Hello"), frame(FIN | RSV1 | PING, b"")],
        [frame(FIN | TEXT, b"Hello"), frame(FIN | RSV1 | CLOSE, b"")],
        [
            frame(FIN | TEXT, b"Hello"),
            frame(FIN | 0x20 | TEXT, b"Hello"),
        ],
        [
            frame(FIN | TEXT, b"Hello"),
            frame(FIN | RSV1 | 0x10 | TEXT, &payload),
        ],
    ] {
        let (mut client, _) = open(all(), Echo::new(), &[OFFER]).await;
        write(&mut client, &frames.concat()).await;
        assert_eq!(read_close(&mut client).await, Some(1002), "{frames:x?}");
    }
}

#[tokio::test]
async fn tells_the_peer_what_was_wrong_with_a_compressed_message() {
    for (payload, code) in [
        (b"no deflate stream".to_vec(), 1002),
        (compressed(json().as_bytes())[..100].to_vec(), 1002),
        (compressed(b"caf\xc3"), 1007),
        (compressed(&[b'a', 0xff, b'b']), 1007),
        (compressed(&vec![0; MIB + 1]), 1009),
        // Final blocks that hold nothing (RFC 7692 §7.2.3.4).
        ([3, 0].repeat(500_000), 1008),
    ] {
        let (mut client, mut held) = open_held(all(), OFFER).await;
        let mut held = held.recv().await.unwrap();
        write(&mut client, &frame(FIN | RSV1 | TEXT, &payload)).await;
        assert_eq!(read_close(&mut client).await, Some(code));
        let error = held.socket.recv().await.unwrap_err();
        assert!(
            match error {
                RecvError::Protocol(_) => code == 1002,
                RecvError::InvalidUtf8 => code == 1007,
                RecvError::TooLarge => code == 1009,
                RecvError::TooManyFinalBlocks => code == 1008,
                _ => false,
            },
            "{error:?} with {code}"
        );
    }
}

#[tokio::test]
async fn refuses_a_bomb_before_it_has_arrived() {
    let config = all().max_message_size(100 * KIB);
    let (mut client, _) = open(config, Echo::new(), &[OFFER]).await;
    // The last fragment never comes.
    let bomb = compressed(&vec![0; 4 * MIB]);
    write(&mut client, &frame(RSV1 | BINARY, &bomb[..200])).await;
    assert_eq!(read_close(&mut client).await, Some(1009));
}

#[tokio::test]
async fn refuses_a_frame_that_declares_too_much_at_its_head() {
    let (mut client, _) = open(all(), Echo::new(), &[OFFER]).await;
    write(&mut client, &header(FIN | RSV1 | BINARY, 2 * MIB, true)).await;
    assert_eq!(read_close(&mut client).await, Some(1009));
}

#[tokio::test]
async fn takes_a_message_of_noise_up_to_the_limit() {
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    });
    let noise: Vec<u8> = noise.take(MIB).collect();
    let (mut client, _) = open(all(), Echo::new(), &[OFFER]).await;
    let payload = compressed(&noise);
    assert!(payload.len() > MIB);
    let mut bytes = frame(FIN | RSV1 | BINARY, &payload);
    let (mut reader, mut writer) = tokio::io::split(&mut client);
    let writing = async {
        write(&mut writer, &std::mem::take(&mut bytes)).await;
    };
    let (echoed, ()) = tokio::join!(read_frame(&mut reader), writing);
    // Compressed it would be larger, so it is sent as it is.
    let echoed = echoed.unwrap();
    assert_eq!(echoed.first, FIN | BINARY);
    assert!(echoed.payload == noise);
}

#[tokio::test]
async fn compresses_from_the_smallest_size_on_unless_told_not_to() {
    let config = Config::new().deflate(Deflate::new().min_size(100));
    let (mut client, mut held) = open_held(config, OFFER).await;
    let mut held = held.recv().await.unwrap();
    let (small, large) = ("x".repeat(99), "x".repeat(100));
    held.socket.send(&*small).await.unwrap();
    held.socket.send(&*large).await.unwrap();
    held.socket.send_uncompressed(&*large).await.unwrap();
    held.sender.send_uncompressed(&*large).await.unwrap();
    held.sender.send(&*large).await.unwrap();
    held.sender
        .try_send(Message::binary(large.clone().into_bytes()))
        .unwrap();
    held.socket.feed(Message::text(&*large)).await.unwrap();
    held.socket.feed(Message::text("")).await.unwrap();
    for (first, expected) in [
        (TEXT, &small),
        (RSV1 | TEXT, &large),
        (TEXT, &large),
        (TEXT, &large),
        (RSV1 | TEXT, &large),
        (RSV1 | BINARY, &large),
        (RSV1 | TEXT, &large),
        (TEXT, &String::new()),
    ] {
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.first, FIN | first);
        let message = if first & RSV1 == 0 {
            frame.payload
        } else {
            inflated(&frame.payload)
        };
        assert_eq!(message, expected.as_bytes());
    }
}

#[tokio::test]
async fn does_not_compress_small_messages_by_default() {
    let config = Config::new().deflate(Deflate::new());
    let (mut client, mut held) = open_held(config, OFFER).await;
    let mut held = held.recv().await.unwrap();
    for (len, first) in [(1023, FIN | TEXT), (1024, FIN | RSV1 | TEXT)] {
        held.socket.send("x".repeat(len)).await.unwrap();
        assert_eq!(read_frame(&mut client).await.unwrap().first, first);
    }
}

#[tokio::test]
async fn refers_to_messages_before_only_where_that_was_agreed_on() {
    for (config, offer, refers) in [
        (takeover(), OFFER, true),
        (
            takeover(),
            "permessage-deflate; server_no_context_takeover",
            false,
        ),
        (all(), OFFER, false),
    ] {
        let (mut client, mut held) = open_held(config, offer).await;
        let mut held = held.recv().await.unwrap();
        let mut inflater = Inflater::new();
        let mut sizes = Vec::new();
        for index in 0..3 {
            let message = json();
            // Compressed messages do not refer to uncompressed messages between them.
            held.socket
                .send_uncompressed(format!("{index}"))
                .await
                .unwrap();
            held.socket.send(&*message).await.unwrap();
            assert_eq!(
                read_frame(&mut client).await.unwrap().payload,
                format!("{index}").as_bytes()
            );
            let frame = read_frame(&mut client).await.unwrap();
            sizes.push(frame.payload.len());
            let plain = if refers {
                inflater.inflate(&frame.payload)
            } else {
                inflated(&frame.payload)
            };
            assert!(plain == message.as_bytes());
        }
        if refers {
            assert!(sizes[1] < sizes[0] && sizes[2] == sizes[1], "{sizes:?}");
        } else {
            assert!(sizes[1] == sizes[0] && sizes[2] == sizes[0], "{sizes:?}");
        }
    }
}

#[tokio::test]
async fn understands_messages_that_refer_to_the_ones_before() {
    let (mut client, _) = open(takeover(), Echo::new(), &[OFFER]).await;
    let mut compress = Compress::new(flate2::Compression::new(6), false);
    let (mut inflater, mut sizes) = (Inflater::new(), Vec::new());
    for _ in 0..4 {
        let mut payload = Vec::with_capacity(MIB);
        compress
            .compress_vec(json().as_bytes(), &mut payload, FlushCompress::Sync)
            .unwrap();
        payload.truncate(payload.len() - 4);
        sizes.push(payload.len());
        write(&mut client, &frame(FIN | RSV1 | TEXT, &payload)).await;
        let echoed = read_frame(&mut client).await.unwrap();
        assert!(inflater.inflate(&echoed.payload) == json().as_bytes());
    }
    assert!(sizes[3] < sizes[0], "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_messages_that_refer_to_each_other_in_the_order_of_compressing() {
    let (mut client, mut held) = open_held(takeover(), OFFER).await;
    let held = held.recv().await.unwrap();
    let mut tasks = Vec::new();
    for task in 0..8 {
        let sender = held.sender.clone();
        tasks.push(tokio::spawn(async move {
            for index in 0..50 {
                let message = format!("task {task} says {index} {}", "and more ".repeat(task * 20));
                match index % 10 {
                    9 => sender.send_uncompressed(message).await.unwrap(),
                    _ => sender.send(message).await.unwrap(),
                }
            }
        }));
    }
    let mut inflater = Inflater::new();
    let mut next = [0; 8];
    for _ in 0..400 {
        let frame = tokio::time::timeout(Duration::from_secs(20), read_frame(&mut client)).await;
        let frame = frame.unwrap().unwrap();
        let message = if frame.first & RSV1 == 0 {
            frame.payload
        } else {
            inflater.inflate(&frame.payload)
        };
        let message = String::from_utf8(message).unwrap();
        let words: Vec<_> = message.split(' ').collect();
        let task: usize = words[1].parse().unwrap();
        assert_eq!(words[3], format!("{}", next[task]), "{message}");
        next[task] += 1;
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn counts_a_message_by_its_length_until_it_is_compressed() {
    let text = "x".repeat(MIB);
    for config in [all(), takeover()] {
        let config = config.max_outbox(1000, 64 * KIB);
        let (mut client, mut held) = open_held(config, OFFER).await;
        let held = held.recv().await.unwrap();
        let mut inflater = Inflater::new();
        for _ in 0..3 {
            // 1 MiB is over the bound, so it is taken when nothing else waits.
            held.sender.try_send(&*text).unwrap();
            let buffered = held.sender.buffered();
            assert_eq!(buffered.messages, 1);
            assert!(buffered.bytes >= MIB, "{buffered:?}");
            let refused = held.sender.try_send("x").unwrap_err();
            assert_eq!(refused, TrySendError::Full(Message::text("x")));
            // Its compressed form is far below the bound, so there is room before it is read.
            held.sender.send("next").await.unwrap();
            let buffered = held.sender.buffered();
            assert!(buffered.bytes < 8 * KIB, "{buffered:?}");
            for expected in [&*text, "next"] {
                let frame = read_frame(&mut client).await.unwrap();
                let message = match frame.first & RSV1 {
                    0 => frame.payload,
                    _ => inflater.inflate(&frame.payload),
                };
                assert!(message == expected.as_bytes());
            }
        }
    }
}

#[tokio::test]
async fn gives_a_message_back_that_finds_no_room() {
    for config in [all(), takeover()] {
        let (mut client, mut held) = open_held(config.max_outbox(3, MIB), OFFER).await;
        let held = held.recv().await.unwrap();
        let mut sent = 0;
        let text = "a text ".repeat(100);
        let refused = loop {
            match held.sender.try_send(&*text) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, TrySendError::Full(Message::text(&*text)));
        assert_eq!(sent, 3);
        // A compressed message does not refer to a message that was refused.
        held.sender.send("the last").await.unwrap();
        let mut inflater = Inflater::new();
        for expected in [&*text, &text, &text, "the last"] {
            let frame = read_frame(&mut client).await.unwrap();
            let message = match frame.first & RSV1 {
                0 => frame.payload,
                _ => inflater.inflate(&frame.payload),
            };
            assert_eq!(message, expected.as_bytes());
        }
    }
}

#[tokio::test]
async fn leaves_connections_alone_that_agreed_on_nothing() {
    let (mut client, answer) = open(all(), Echo::new(), &[]).await;
    assert_eq!(answer, None);
    let text = "x".repeat(5000);
    write(&mut client, &frame(FIN | TEXT, text.as_bytes())).await;
    let echoed = read_frame(&mut client).await.unwrap();
    assert_eq!(
        (echoed.first, echoed.payload),
        (FIN | TEXT, text.into_bytes())
    );
    write(&mut client, &close(1000, "")).await;
    assert_eq!(read_close(&mut client).await, Some(1000));
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}
