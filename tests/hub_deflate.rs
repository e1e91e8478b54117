//! Rooms whose members agreed on compression: a message is compressed once for all members that refer to no earlier
//! message.

#![cfg(all(feature = "hub", feature = "deflate"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use flate2::{Decompress, FlushDecompress};
use support::{
    handlers::handing_out,
    pipe, settle,
    wire::{BINARY, FIN, TEXT, handshake_with, read_frame, upgrade},
    within,
};
use tokio::{io::DuplexStream, sync::mpsc, task::yield_now};
use tower_websocket::{
    CloseCode, Config, Deflate, Message, Sender, WebSocketLayer,
    hub::{Hub, HubConfig, Membership, Overflow, Publication, RoomConfig},
};

const KIB: usize = 1024;
const RSV1: u8 = 0x40;

/// A connection in a room, and its peer.
struct Peer {
    membership: Membership,
    sender: Sender,
    client: DuplexStream,
    inflater: Decompress,
    /// Later messages refer to earlier ones.
    takeover: bool,
}

/// A message as the peer got it.
#[derive(Debug)]
struct Got {
    is_compressed: bool,
    /// The bytes of the frame's payload.
    raw: Vec<u8>,
    message: Message,
}

impl Peer {
    async fn join(hub: &Hub, deflate: Option<Deflate>, capacity: usize) -> Self {
        let (senders, mut sockets) = mpsc::unbounded_channel();
        let handler = handing_out(senders, async |mut socket: tower_websocket::WebSocket| {
            while socket.recv().await?.is_some() {}
            Ok(())
        });
        let config = Config::new().without_keepalive();
        let config = match deflate {
            Some(deflate) => config.deflate(deflate),
            None => config,
        };
        let layer = WebSocketLayer::new(handler).config(config);
        let mut client = pipe::serve(layer.into_service(), capacity);
        let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let head = upgrade(&mut client, &handshake_with("/", offer)).await;
        assert_eq!(head.contains("permessage-deflate"), deflate.is_some());
        let sender = sockets.recv().await.unwrap();
        Self {
            membership: hub.room("a").join(&sender, ()).await.unwrap(),
            sender,
            client,
            inflater: Decompress::new(false),
            takeover: deflate.is_some() && !head.contains("server_no_context_takeover"),
        }
    }

    async fn got(&mut self) -> Got {
        let frame = within(read_frame(&mut self.client)).await.unwrap();
        let is_compressed = frame.first & RSV1 != 0;
        let payload = match is_compressed {
            true => self.inflate(&frame.payload),
            false => frame.payload.clone(),
        };
        let message = match frame.first & !RSV1 {
            first if first == FIN | TEXT => Message::text(String::from_utf8(payload).unwrap()),
            first if first == FIN | BINARY => Message::binary(payload),
            first => panic!("{first:x}"),
        };
        Got {
            is_compressed,
            raw: frame.payload,
            message,
        }
    }

    fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if !self.takeover {
            self.inflater.reset(false);
        }
        let input = [payload, &[0, 0, 0xff, 0xff]].concat();
        let mut output = Vec::with_capacity(16 * payload.len() + 8 * KIB);
        let read = self.inflater.total_in();
        let status = self
            .inflater
            .decompress_vec(&input, &mut output, FlushDecompress::Sync);
        status.unwrap();
        assert_eq!((self.inflater.total_in() - read) as usize, input.len());
        output
    }
}

/// Deterministic numbers that do not repeat.
fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

/// A text of which deflate saves about half.
fn half(seed: u64, len: usize) -> String {
    let text: String = numbers(seed)
        .take(len / 16 + 1)
        .map(|number| format!("{number:016x}"))
        .collect();
    text[..len].to_owned()
}

/// Bytes of which deflate saves nothing.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let bytes = numbers(seed).flat_map(u64::to_le_bytes);
    bytes.take(len).collect()
}

const fn shared() -> Deflate {
    Deflate::new()
}

const fn takeover() -> Deflate {
    Deflate::new().send_context_takeover()
}

#[tokio::test(start_paused = true)]
async fn one_compression_is_for_all_members_without_context_takeover() {
    let hub = Hub::new();
    let mut peers = Vec::new();
    for number in 0..1000 {
        let deflate = match number % 4 {
            0 | 1 => Some(shared().send_window_bits(12)),
            2 => Some(takeover()),
            _ => None,
        };
        peers.push(Peer::join(&hub, deflate, 64 * KIB).await);
    }
    let text = half(1, 6000);
    assert_eq!(hub.room("a").send(text.clone()).unwrap().members_here, 1000);
    let mut compressed = Vec::new();
    for (number, peer) in peers.iter_mut().enumerate() {
        let got = peer.got().await;
        assert_eq!(got.message, Message::text(text.clone()), "member {number}");
        assert_eq!(got.is_compressed, number % 4 != 3, "member {number}");
        if number % 4 < 2 {
            compressed.push(got.raw);
        }
    }
    compressed.dedup();
    assert_eq!(compressed.len(), 1);
    let counts = hub.counts();
    assert_eq!(counts.compressions, 1);
    assert_eq!((counts.delivered, counts.backlog_bytes), (1000, 0));
    // Members with context takeover have compressed the message themselves: the next one refers to it.
    for peer in peers.iter_mut().skip(2).step_by(4) {
        peer.sender.send(text[4000..].to_owned()).await.unwrap();
        let got = peer.got().await;
        assert_eq!(got.message, Message::text(text[4000..].to_owned()));
        assert!(got.raw.len() < 100, "{} bytes", got.raw.len());
    }
    assert_eq!(hub.room("a").counts().compressions, 1);
}

#[tokio::test(start_paused = true)]
async fn each_window_and_level_has_a_compression() {
    let hub = Hub::new();
    let mut peers = Vec::new();
    for _ in 0..150 {
        for deflate in [
            shared(),
            shared().send_window_bits(9),
            shared().send_window_bits(9).level(1),
        ] {
            peers.push(Peer::join(&hub, Some(deflate), 64 * KIB).await);
        }
    }
    let text = half(1, 3000) + &half(1, 3000);
    for sent in 1..=2 {
        hub.room("a").send(text.clone()).unwrap();
        let mut compressed = Vec::new();
        for peer in &mut peers {
            let got = peer.got().await;
            assert_eq!(got.message, Message::text(text.clone()));
            assert!(got.is_compressed);
            compressed.push(got.raw.len());
        }
        assert_eq!(hub.counts().compressions, 3 * sent);
        // Only the larger window reaches the first half.
        assert!(compressed[0] + 1000 < compressed[1], "{compressed:?}");
        assert!(
            compressed
                .iter()
                .enumerate()
                .all(|(at, len)| *len == compressed[at % 3])
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_messages_that_some_member_has_compressed_are() {
    let hub = Hub::new();
    let mut usual = Peer::join(&hub, Some(shared()), 64 * KIB).await;
    let mut large = Peer::join(&hub, Some(shared().min_size(4 * KIB)), 64 * KIB).await;
    let mut plain = Peer::join(&hub, None, 64 * KIB).await;
    // The length of the message, and which members compress it.
    let cases = [
        (0, false, false),
        (1023, false, false),
        (1024, true, false),
        (4095, true, false),
        (4096, true, true),
    ];
    let mut compressions = 0;
    for (len, by_usual, by_large) in cases {
        hub.room("a").send(half(7, len)).unwrap();
        for (peer, compresses) in [
            (&mut usual, by_usual),
            (&mut large, by_large),
            (&mut plain, false),
        ] {
            let got = peer.got().await;
            assert_eq!(got.message, Message::text(half(7, len)), "{len} bytes");
            assert_eq!(got.is_compressed, compresses, "{len} bytes");
        }
        compressions += u64::from(by_usual || by_large);
        assert_eq!(hub.counts().compressions, compressions, "{len} bytes");
    }
    // A message that does not become smaller is tried once, and goes out as it is.
    let noise = noise(1, 5000);
    hub.room("a").send(noise.clone()).unwrap();
    for peer in [&mut usual, &mut large, &mut plain] {
        let got = peer.got().await;
        assert_eq!(got.message, Message::binary(noise.clone()));
        assert!(!got.is_compressed);
    }
    assert_eq!(hub.counts().compressions, compressions + 1);
    // Nobody needs it: the only members that compress are left out, or have left.
    drop(large);
    usual.membership.send_others(half(2, 2000)).unwrap();
    assert!(!plain.got().await.is_compressed);
    drop(usual);
    settle().await;
    hub.room("a").send(half(3, 2000)).unwrap();
    assert!(!plain.got().await.is_compressed);
    assert_eq!(hub.counts().compressions, compressions + 1);
}

#[tokio::test(start_paused = true)]
async fn messages_of_the_room_and_own_ones_keep_their_order() {
    let hub = Hub::new();
    let room = hub.room("a");
    let mut peers = Vec::new();
    for deflate in [
        Some(shared().min_size(20)),
        Some(shared().min_size(20).send_window_bits(9)),
        Some(takeover().min_size(20)),
        Some(takeover().min_size(20).send_window_bits(15)),
        None,
    ] {
        // The pipe holds everything: nobody is behind.
        peers.push(Peer::join(&hub, deflate, 4096 * KIB).await);
    }
    let kinds: [fn(u64) -> Message; 7] = [
        |seed| Message::text(half(seed, 3000)),
        |seed| Message::binary(half(seed, 1500)),
        |_| Message::text("short"),
        |seed| Message::binary(noise(seed, 2000)),
        |seed| Message::text(half(seed, 20_000)),
        |_| Message::text(""),
        |seed| Message::binary(half(seed, 256 * KIB)),
    ];
    let mut seed = 0;
    for (at, first) in kinds.into_iter().enumerate() {
        for second in kinds.into_iter().take(if at == 6 { 2 } else { 7 }) {
            seed += 3;
            // The first one is still compressed when the other two are queued, if it is large.
            let messages = [first(seed), second(seed + 1), first(seed + 2)];
            for peer in &peers {
                peer.sender.try_send(messages[0].clone()).unwrap();
            }
            if seed % 2 == 0 {
                yield_now().await;
            }
            room.send(messages[1].clone()).unwrap();
            settle().await;
            for peer in &peers {
                peer.sender.send(messages[2].clone()).await.unwrap();
            }
            for (number, peer) in peers.iter_mut().enumerate() {
                for message in &messages {
                    let got = peer.got().await;
                    assert!(got.message == *message, "member {number}, seed {seed}");
                }
            }
        }
    }
    assert_eq!(hub.counts().lost, 0);
}

/// The first message of the handler takes several polls to compress. Later messages of the room wait behind it.
#[tokio::test(start_paused = true)]
async fn a_compressed_message_waits_for_own_ones_before_it() {
    let hub = Hub::new();
    let mut peer = Peer::join(&hub, Some(shared()), 4096 * KIB).await;
    let own = half(1, 4096 * KIB);
    let texts = [
        half(2, 5000),
        half(3, 40_000),
        "small".to_owned(),
        half(4, 2000),
    ];
    peer.sender.try_send(own.clone()).unwrap();
    yield_now().await;
    for text in &texts {
        hub.room("a").send(text.clone()).unwrap();
    }
    while hub.counts().delivered < texts.len() as u64 {
        yield_now().await;
    }
    // All are queued, and the first one is not compressed yet.
    assert!(peer.sender.buffered().bytes >= own.len());
    let frame = within(read_frame(&mut peer.client)).await.unwrap();
    assert_eq!(frame.first, FIN | TEXT | RSV1);
    for text in texts {
        assert_eq!(peer.got().await.message, Message::text(text));
    }
    assert_eq!(hub.counts().compressions, 3);
}

#[tokio::test(start_paused = true)]
async fn members_that_were_behind_get_the_compressed_messages() {
    const LEN: usize = 8 * KIB;
    const MESSAGES: u64 = 60;
    let config = HubConfig::new().rooms(|_| RoomConfig::new().overflow(Overflow::DropOldest));
    let hub = Hub::with(config);
    let mut peers = Vec::new();
    for deflate in [Some(shared()), Some(shared()), Some(takeover()), None] {
        peers.push(Peer::join(&hub, deflate, KIB).await);
    }
    for number in 0..MESSAGES {
        hub.room("a").send(half(number, LEN)).unwrap();
        settle().await;
    }
    let counts = hub.counts();
    assert_eq!((counts.behind, counts.compressions), (4, MESSAGES));
    // Those that wait count in both forms.
    let waiting = counts.backlog_bytes / (LEN + LEN / 2);
    assert!((45..=MESSAGES as usize).contains(&waiting), "{counts:?}");
    // Compressed, more messages fit into the share of rooms.
    let behind = |peer: &Peer| peer.membership.lag().behind;
    assert!(behind(&peers[0]) + 5 < behind(&peers[3]));
    for number in 0..MESSAGES {
        let expected = Message::text(half(number, LEN));
        for (at, peer) in peers.iter_mut().enumerate() {
            let got = peer.got().await;
            assert!(got.message == expected, "member {at}, message {number}");
            assert_eq!(got.is_compressed, at < 3, "member {at}, message {number}");
        }
    }
    settle().await;
    let counts = hub.counts();
    assert_eq!((counts.behind, counts.backlog_bytes), (0, 0));
    assert_eq!((counts.compressions, counts.lost), (MESSAGES, 0));
    assert_eq!(counts.delivered, 4 * MESSAGES);
}

#[tokio::test(start_paused = true)]
async fn the_counts_of_a_backlog_end_at_nothing() {
    for overflow in [
        Overflow::DropOldest,
        Overflow::DropNewest,
        Overflow::Latest,
        Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER),
    ] {
        let config = HubConfig::new().rooms(move |_| {
            let room = RoomConfig::new().overflow(overflow);
            room.max_backlog(16, 64 * KIB)
        });
        let hub = Hub::with(config);
        let mut peers = Vec::new();
        for deflate in [Some(shared()), Some(shared().level(1)), Some(takeover())] {
            peers.push(Peer::join(&hub, deflate, KIB).await);
        }
        for number in 0..200 {
            let text = half(number, 1500 + number as usize * 30);
            let publication = Publication::new(text).latest((number % 5).to_string());
            hub.room("a").publish(publication).unwrap();
            if number % 3 == 0 {
                settle().await;
            }
            let bytes = hub.counts().backlog_bytes;
            // With `Latest`, keys have the same again. One batch may be on its way.
            assert!(bytes <= 2 * 64 * KIB + 64 * 12 * KIB, "{bytes} bytes");
        }
        drop(peers);
        settle().await;
        let counts = hub.counts();
        assert_eq!(
            (counts.members, counts.backlog_bytes),
            (0, 0),
            "{overflow:?}"
        );
    }
}

/// Chunks that run at the same time share compressions, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn chunks_on_several_threads_compress_each_message_once() {
    const MESSAGES: u64 = 10;
    let hub = Hub::new();
    let mut peers = Vec::new();
    for number in 0..300 {
        let window = 9 + number % 2;
        let deflate = shared().send_window_bits(window as u8);
        peers.push(Peer::join(&hub, Some(deflate), 256 * KIB).await);
    }
    for number in 0..MESSAGES {
        let len = if number % 5 == 4 { 100 * KIB } else { 3000 };
        let message = Message::text(half(number, len));
        hub.room("a").send(message.clone()).unwrap();
        for peer in &mut peers {
            let got = peer.got().await;
            assert!(got.message == message && got.is_compressed);
        }
    }
    assert_eq!(hub.counts().compressions, 2 * MESSAGES);
}
