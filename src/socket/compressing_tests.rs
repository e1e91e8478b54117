//! How many bytes one poll inflates and compresses, for each way of receiving and sending.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress};
use futures_util::SinkExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::oneshot,
    task::yield_now,
};

use super::{
    HandshakeInfo, Link, Served, Setup, TrySendError, Values, WebSocket,
    session::{self, Session},
};
use crate::{
    codec::{Decoder, Deflate, Deflation, Event, Outgoing, Role, Rules, counted},
    config::Config,
    handshake::extension::deflate::{Direction, Terms},
    time::Moment,
    words::{BoxError, Message},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The limit for inflating and compressing together in one poll.
const LIMIT: usize = 256 * KIB;

/// The bytes that a task has inflated, joined and compressed.
#[derive(Debug, Default)]
struct Counts {
    most: AtomicUsize,
    total: AtomicUsize,
}

impl Counts {
    /// Asserts that at least `total` bytes were counted, and that no poll exceeded the limit.
    fn assert_spread(&self, total: usize, way: &str) {
        let counted = self.total.swap(0, Ordering::Relaxed);
        let most = self.most.swap(0, Ordering::Relaxed);
        assert!(counted >= total, "{way}: {counted} bytes in all");
        assert!(most <= LIMIT, "{way}: {most} bytes in a poll");
    }
}

/// A future that counts the bytes of each poll separately.
struct Counted<F> {
    future: Pin<Box<F>>,
    counts: Arc<Counts>,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        counted::take();
        let polled = self.future.as_mut().poll(cx);
        let counted = counted::take();
        self.counts.most.fetch_max(counted, Ordering::Relaxed);
        self.counts.total.fetch_add(counted, Ordering::Relaxed);
        polled
    }
}

fn deflation(context_takeover: bool) -> Deflation {
    let direction = Direction {
        window_bits: 15,
        context_takeover,
    };
    Deflate::new().level(1).agreed(Terms {
        send: direction,
        receive: direction,
    })
}

/// Serves one end of a pipe. Returns the other end.
fn serve<F>(
    context_takeover: bool,
    handle: impl FnOnce(WebSocket) -> F,
) -> (DuplexStream, Arc<Counts>)
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let (server, client) = duplex(64 * KIB);
    let config = Config::new().max_message_size(64 * MIB);
    let config = Arc::new(config);
    let link = Arc::new(Link::new(
        Role::Server,
        HandshakeInfo::default(),
        Arc::clone(&config),
    ));
    let served = Served {
        io: server,
        early: Bytes::new(),
        link,
        setup: Setup {
            deflation: Some(deflation(context_takeover)),
            ..Setup::new(config)
        },
    };
    let session: Session<_, F, ()> = session::serve(served, Values::default(), (), None, handle);
    let counts = Arc::<Counts>::default();
    tokio::spawn(Counted {
        future: Box::pin(session),
        counts: Arc::clone(&counts),
    });
    (client, counts)
}

/// Serves a connection whose socket the test holds.
fn serve_held(context_takeover: bool) -> (DuplexStream, Arc<Counts>, oneshot::Receiver<WebSocket>) {
    let (give, held) = oneshot::channel();
    let (client, counts) = serve(context_takeover, move |socket| async move {
        drop(give.send(socket));
        Ok(())
    });
    (client, counts, held)
}

/// The peer: compresses and inflates with zlib, and checks that our decoder agrees.
struct Peer {
    io: DuplexStream,
    compress: Compress,
    decompress: Decompress,
    takeover: bool,
    decoder: Decoder,
}

impl Peer {
    fn new(io: DuplexStream, takeover: bool) -> Self {
        Self {
            io,
            compress: Compress::new(flate2::Compression::new(6), false),
            decompress: Decompress::new(false),
            takeover,
            decoder: Decoder::new(Rules {
                role: Role::Client,
                limits: Config::new().max_message_size(64 * MIB).limits(),
                deflation: Some(deflation(takeover)),
            }),
        }
    }

    /// Reads a frame. Returns its first byte and its payload.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut bytes = vec![0; 2];
        self.io.read_exact(&mut bytes).await.unwrap();
        let width = match bytes[1] {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        bytes.resize(2 + width, 0);
        self.io.read_exact(&mut bytes[2..]).await.unwrap();
        let long = bytes[2..].iter();
        let len = match width {
            0 => usize::from(bytes[1]),
            _ => long.fold(0, |len, &byte| len << 8 | usize::from(byte)),
        };
        let mut payload = vec![0; len];
        self.io.read_exact(&mut payload).await.unwrap();
        bytes.extend_from_slice(&payload);
        self.decoded(&bytes, bytes[0] & 0x0f);
        (bytes[0], payload)
    }

    fn decoded(&mut self, mut bytes: &[u8], opcode: u8) {
        let event = self.decoder.decode(&mut bytes, Moment::now()).unwrap();
        assert_eq!(matches!(event, Some(Event::Message(_))), opcode <= 2);
        assert!(event.is_some() && bytes.is_empty());
    }

    /// Reads a message. Returns it, and whether it was compressed.
    async fn receive(&mut self) -> (Vec<u8>, bool) {
        let (first, payload) = self.frame().await;
        assert!(matches!(first & 0x8f, 0x81 | 0x82), "{first:x}");
        if first & 0x40 == 0 {
            return (payload, false);
        }
        if !self.takeover {
            self.decompress.reset(false);
        }
        let payload = [&payload[..], &[0, 0, 0xff, 0xff]].concat();
        let (mut inflated, mut rest) = (Vec::new(), &payload[..]);
        loop {
            inflated.reserve(MIB);
            let read = self.decompress.total_in();
            let flush = FlushDecompress::Sync;
            let inflating = self.decompress.decompress_vec(rest, &mut inflated, flush);
            inflating.unwrap();
            rest = &rest[(self.decompress.total_in() - read) as usize..];
            if rest.is_empty() && inflated.len() < inflated.capacity() {
                return (inflated, true);
            }
        }
    }

    async fn send(&mut self, message: &Message) {
        let len = message.len();
        let mut compressed = Vec::with_capacity(len + len / 8 + 64);
        self.compress
            .compress_vec(message.as_bytes(), &mut compressed, FlushCompress::Sync)
            .unwrap();
        compressed.truncate(compressed.len() - 4);
        let mut outgoing = Outgoing::new(Role::Client, true);
        outgoing.push_compressed(message, &compressed.into());
        while !outgoing.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[])];
            let bytes = outgoing.slices(&mut slices)[0].to_vec();
            self.io.write_all(&bytes).await.unwrap();
            let _ = outgoing.advance(bytes.len());
        }
    }
}

fn zeros(len: usize) -> Message {
    Message::binary(vec![0; len])
}

fn text(len: usize) -> Message {
    Message::text("wörd ".repeat(len / 6))
}

#[tokio::test]
async fn inflates_for_a_handler_in_pieces() {
    let (to_test, mut received) = tokio::sync::mpsc::unbounded_channel();
    let (client, counts) = serve(true, move |mut socket| async move {
        while let Some(message) = socket.recv().await? {
            to_test.send(message)?;
        }
        Ok(())
    });
    let mut peer = Peer::new(client, false);
    for message in [
        zeros(64 * MIB),
        text(3 * MIB),
        zeros(10 * KIB),
        text(100 * KIB),
    ] {
        peer.send(&message).await;
        assert!(received.recv().await.unwrap() == message);
        counts.assert_spread(message.len(), "in the connection's own task");
    }
}

#[tokio::test]
async fn inflates_for_another_task_in_pieces() {
    let (client, counts, held) = serve_held(false);
    let mut socket = held.await.unwrap();
    let mut peer = Peer::new(client, false);
    for message in [zeros(3 * MIB), text(3 * MIB)] {
        peer.compress.reset();
        peer.send(&message).await;
        counted::take();
        // Dropping the future loses no bytes.
        for _ in 0..3 {
            tokio::select! {
                biased;
                received = socket.recv() => panic!("all of {} bytes in so few polls", received.unwrap().unwrap().len()),
                () = yield_now() => {}
            }
        }
        assert!(socket.recv().await.unwrap() == Some(message.clone()));
        counts.assert_spread(message.len(), "for another task");
    }
}

/// The methods of sending.
#[derive(Clone, Copy, Debug)]
enum Way {
    Socket,
    Sender,
    Sink,
    Try,
}

const WAYS: [Way; 4] = [Way::Socket, Way::Sender, Way::Sink, Way::Try];

async fn send(way: Way, socket: &mut WebSocket, message: Message) -> Result<(), BoxError> {
    match way {
        Way::Socket => socket.send(message).await?,
        Way::Sender => socket.sender().send(message).await?,
        Way::Sink => socket.feed(message).await?,
        Way::Try => loop {
            match socket.sender().try_send(message.clone()) {
                Err(TrySendError::Full(_)) => yield_now().await,
                sent => break sent?,
            }
        },
    }
    Ok(())
}

/// Messages that compress well, badly and not at all, and whether each is sent compressed.
fn messages(takeover: bool) -> Vec<(Message, bool)> {
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        (state >> 24) as u8
    });
    let noise: Vec<u8> = noise.take(700 * KIB).collect();
    vec![
        (zeros(5 * MIB), true),
        (Message::text("small"), false),
        (text(1500 * KIB), true),
        (Message::binary(noise), takeover),
        (text(2 * KIB), true),
        (text(64 * KIB), true),
        (text(64 * KIB), true),
        (zeros(64 * KIB), true),
        (text(MIB), true),
    ]
}

#[tokio::test]
async fn compresses_in_pieces_for_every_way_of_sending() {
    for takeover in [false, true] {
        for way in WAYS {
            for is_own_task in [true, false] {
                let name = format!("{way:?}, takeover {takeover}, own task {is_own_task}");
                let sent = messages(takeover);
                let to_send: Vec<Message> =
                    sent.iter().map(|(message, _)| message.clone()).collect();
                let sending = move |mut socket: WebSocket| async move {
                    for message in to_send {
                        send(way, &mut socket, message).await?;
                    }
                    socket.flush().await?;
                    Ok::<_, BoxError>(())
                };
                let (client, counts, task) = match is_own_task {
                    true => {
                        let (client, counts) = serve(takeover, sending);
                        (client, counts, None)
                    }
                    false => {
                        let (client, counts, held) = serve_held(takeover);
                        let socket = held.await.unwrap();
                        let sending = Counted {
                            future: Box::pin(sending(socket)),
                            counts: Arc::clone(&counts),
                        };
                        (client, counts, Some(tokio::spawn(sending)))
                    }
                };
                let mut peer = Peer::new(client, takeover);
                let mut total = 0;
                for (message, is_compressed) in sent {
                    let received = peer.receive().await;
                    assert!(received.0 == message.as_bytes(), "{name}");
                    assert_eq!(received.1, is_compressed, "{name}, {} bytes", message.len());
                    total += message.len();
                }
                // The Close follows the last message.
                assert_eq!(peer.frame().await.0, 0x88, "{name}");
                counts.assert_spread(total - 10, &name);
                if let Some(task) = task {
                    task.await.unwrap().unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn compresses_in_pieces_for_many_senders_at_once() {
    let (client, counts) = serve(true, move |socket| async move {
        let sender = socket.sender();
        let sendings = (0..10).map(|_| sender.send(zeros(300 * KIB)));
        futures_util::future::try_join_all(sendings).await?;
        Ok(())
    });
    let mut peer = Peer::new(client, true);
    for _ in 0..10 {
        assert!(peer.receive().await.0 == zeros(300 * KIB).as_bytes());
    }
    counts.assert_spread(3000 * KIB, "ten futures");
}

#[tokio::test]
async fn messages_stay_intact_after_sends_are_dropped() {
    for takeover in [false, true] {
        let (client, counts, held) = serve_held(takeover);
        let mut socket = held.await.unwrap();
        let mut peer = Peer::new(client, takeover);
        let sender = socket.sender();
        socket.send(text(3 * MIB)).await.unwrap();
        for _ in 0..5 {
            // The first message leaves no room for these until it is compressed.
            tokio::select! {
                biased;
                sent = socket.send(zeros(2 * MIB)) => panic!("{sent:?}"),
                sent = sender.send(zeros(2 * MIB)) => panic!("{sent:?}"),
                () = yield_now() => {}
            }
        }
        let sending = tokio::spawn(async move { sender.send(text(MIB)).await });
        for message in [text(3 * MIB), text(MIB)] {
            assert!(peer.receive().await.0 == message.as_bytes());
        }
        sending.await.unwrap().unwrap();
        counts.assert_spread(4 * MIB - KIB, "beside futures that were dropped");
        // Dropping a half-used connection does not harm the next one.
        drop(socket);
        assert_eq!(peer.frame().await.0, 0x88);
    }
}

#[tokio::test]
async fn a_lost_connection_leaves_nothing_in_its_compressor() {
    for takeover in [false, true] {
        // The pool lends compressors again that earlier connections have left half-used.
        for _ in 0..4 {
            let (client, counts, held) = serve_held(takeover);
            let mut socket = held.await.unwrap();
            socket.send(text(3 * MIB)).await.unwrap();
            while counts.total.load(Ordering::Relaxed) < MIB {
                yield_now().await;
            }
            drop(client);
            socket.closed().await;
        }
        let (client, _, held) = serve_held(takeover);
        let mut socket = held.await.unwrap();
        let mut peer = Peer::new(client, takeover);
        for message in [text(300 * KIB), text(2 * KIB)] {
            socket.send(message.clone()).await.unwrap();
            let received = peer.receive().await;
            assert!(received.0 == message.as_bytes() && received.1);
        }
    }
}

#[tokio::test]
async fn close_waits_for_compression_and_pings_are_answered_meanwhile() {
    let (client, counts, held) = serve_held(true);
    let mut socket = held.await.unwrap();
    let mut peer = Peer::new(client, true);
    socket.send(text(3 * MIB)).await.unwrap();
    // The peer gets the answer to a ping (masked with zeros) before the message is compressed.
    peer.io.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(peer.frame().await, (0x8a, vec![]));
    assert!(counts.total.load(Ordering::Relaxed) < 2 * MIB);
    let closing =
        tokio::spawn(async move { socket.close(crate::words::CloseCode::NORMAL, "done").await });
    assert!(peer.receive().await.0 == text(3 * MIB).as_bytes());
    assert_eq!(peer.frame().await, (0x88, b"\x03\xe8done".to_vec()));
    counts.assert_spread(3 * MIB - KIB, "while it closes");
    peer.io.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
    closing.await.unwrap().unwrap();
}

#[tokio::test]
async fn flush_waits_for_compression_and_writing() {
    let (client, _, held) = serve_held(false);
    let mut socket = held.await.unwrap();
    let mut peer = Peer::new(client, false);
    socket.feed(text(2 * MIB)).await.unwrap();
    let flushing = tokio::spawn(async move {
        socket.flush().await.unwrap();
        socket
    });
    assert!(peer.receive().await.0 == text(2 * MIB).as_bytes());
    let socket = flushing.await.unwrap();
    assert_eq!(socket.sender().buffered(), super::Buffered::default());
}
