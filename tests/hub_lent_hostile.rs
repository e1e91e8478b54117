//! Rooms write to the TCP streams of connections that sleep: what may go wrong between the rooms, the connection, its
//! senders and the peer.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "hub_lent_hostile/peer.rs"]
mod peer;
mod support;
#[path = "hub_lent_hostile/threads.rs"]
mod threads;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Sink;
use peer::{Peer, Server, fill, number_of, numbered};
use support::{
    settle,
    wire::{self, CLOSE, FIN, PING, PONG, TEXT, frame, read_frame, write},
    within,
};
use tokio::{
    net::TcpStream,
    task::yield_now,
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    CloseCode, Config, Message, Sender,
    error::RecvError,
    hub::{Hub, Room},
};

#[tokio::test]
async fn the_first_message_of_a_connection_may_be_one_of_a_sender() {
    let hub = Hub::new();
    let mut peer = Peer::join(&hub, Config::new()).await;
    settle().await;
    peer.sender.try_send("from a sender").unwrap();
    assert_eq!(peer.text().await, "from a sender");
    peer.membership.send("from a room").unwrap();
    assert_eq!(peer.text().await, "from a room");
}

/// The system reports a reset once, to the first who writes or reads.
#[tokio::test]
async fn a_handler_learns_of_a_reset_that_a_room_has_met_first() {
    for is_room_first in [false, true] {
        let hub = Hub::new();
        let mut peer = Peer::join(&hub, Config::new()).await;
        peer.sleeps().await;
        peer.client.set_zero_linger().unwrap();
        drop(peer.client);
        if is_room_first {
            // Its task runs before the runtime asks the system what has happened.
            peer.membership.send("nobody reads this").unwrap();
        }
        let end = within(peer.ends.recv()).await.unwrap();
        let Some(RecvError::Io(error)) = end else {
            panic!("{is_room_first}: {end:?}");
        };
        let kind = error.kind();
        assert_eq!(kind, io::ErrorKind::ConnectionReset, "{is_room_first}");
        let closed = within(peer.sender.closed()).await;
        assert!(!closed.is_clean());
    }
}

#[tokio::test]
async fn nothing_comes_between_the_parts_of_a_frame() {
    // Small and large payloads are queued in different ways.
    for words in [400, 7000] {
        let hub = Hub::new();
        let mut peer = Peer::join(&hub, Config::new()).await;
        peer.sleeps().await;
        let mut count = fill(&peer, words).await;
        // The peer reads nothing, but writes.
        write(&mut peer.client, &frame(FIN | PING, b"ping")).await;
        write(&mut peer.client, &frame(FIN | TEXT, b"answer this")).await;
        peer.sender.try_send("from a sender").unwrap();
        peer.membership.send(numbered(count, 1)).unwrap();
        settle().await;
        peer.sender.try_send("from a sender").unwrap();
        count += 1;
        let (mut numbers, mut pongs, mut answers, mut others) = (0, 0, 0, 0);
        while numbers < count || pongs < 1 || answers < 1 || others < 2 {
            let got = peer.frame().await;
            match (got.first, &*got.payload) {
                (first, payload) if first == FIN | PONG => {
                    assert_eq!(payload, b"ping");
                    pongs += 1;
                }
                (_, b"answer this") => answers += 1,
                (_, b"from a sender") => {
                    let before = count - 1 + others;
                    assert_eq!(numbers, before, "a message of a sender is at its place");
                    others += 1;
                }
                (_, payload) => {
                    assert_eq!(number_of(payload), numbers);
                    numbers += 1;
                }
            }
        }
        assert_eq!(peer.sender.buffered().messages, 0);
        peer.sleeps().await;
        peer.membership.send("it goes on").unwrap();
        assert_eq!(peer.text().await, "it goes on");
    }
}

/// Nothing else wakes the connection: no input, no sender and no ping.
#[tokio::test]
async fn the_rest_of_a_frame_is_written_when_the_peer_reads() {
    for words in [400, 7000] {
        let hub = Hub::new();
        let mut peer = Peer::join(&hub, Config::new()).await;
        for _ in 0..3 {
            peer.sleeps().await;
            let count = fill(&peer, words).await;
            for number in 0..count {
                assert_eq!(number_of(&peer.frame().await.payload), number);
            }
            settle().await;
            assert_eq!(peer.sender.buffered().messages, 0);
        }
    }
}

#[tokio::test]
async fn a_close_comes_behind_the_rest_of_a_frame() {
    let hub = Hub::new();
    let mut peer = Peer::join(&hub, Config::new()).await;
    peer.sleeps().await;
    let count = fill(&peer, 7000).await;
    peer.sender.close(CloseCode::NORMAL, "").unwrap();
    peer.membership.send("too late").unwrap();
    let mut next = 0;
    let end = loop {
        let got = peer.frame().await;
        if got.first == FIN | CLOSE {
            break got.close_code();
        }
        assert_eq!(number_of(&got.payload), next);
        next += 1;
    };
    assert_eq!((next, end), (count, Some(1000)));
    write(&mut peer.client, &wire::close(1000, "")).await;
    assert!(within(peer.sender.closed()).await.is_clean());
    assert_eq!(hub.rooms(), []);
}

/// A closing that comes from elsewhere while a delivery has queued a message, and before it is written.
#[tokio::test]
async fn a_message_that_was_sent_just_before_a_close_is_written() {
    let hub = Hub::new();
    let mut peer = Peer::join(&hub, Config::new()).await;
    peer.sleeps().await;
    peer.membership.send("before").unwrap();
    yield_now().await;
    peer.sender.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(peer.text().await, "before");
    assert_eq!(peer.frame().await.close_code(), Some(1000));
}

#[tokio::test]
async fn members_leave_and_come_back_while_their_stream_is_lent() {
    let hub = Hub::new();
    let mut peer = Peer::join(&hub, Config::new()).await;
    for turn in 0..20 {
        peer.sleeps().await;
        let other = hub.room("b").join(&peer.sender, ()).await.unwrap();
        other.send(format!("b {turn}")).unwrap();
        assert_eq!(peer.text().await, format!("b {turn}"));
        other.send(format!("last of b {turn}")).unwrap();
        settle().await;
        other.leave();
        if turn % 2 == 0 {
            // Now it is in no room, and still sleeps.
            let left = hub.room("a").remove(peer.membership.id());
            assert!(left);
        }
        peer.sender.try_send("between").unwrap();
        assert_eq!(peer.text().await, format!("last of b {turn}"));
        assert_eq!(peer.text().await, "between");
        if turn % 2 == 0 {
            peer.membership = hub.room("a").join(&peer.sender, ()).await.unwrap();
        }
        peer.membership.send("again").unwrap();
        assert_eq!(peer.text().await, "again");
        assert_eq!(peer.sender.buffered().messages, 0);
    }
}

/// The peer of a runtime that ends sees the end of its stream, although the socket and its membership are kept.
#[test]
fn a_runtime_that_ends_closes_a_stream_that_is_lent() {
    let hub = Hub::new();
    let own = runtime();
    let other = runtime();
    let Peer {
        client,
        sender,
        membership,
        ..
    } = own.block_on(async {
        let mut peer = Peer::join(&hub, Config::new()).await;
        peer.sleeps().await;
        peer
    });
    let client = client.into_std().unwrap();
    drop(own);
    other.block_on(async {
        let mut client = TcpStream::from_std(client).unwrap();
        drop(membership.send("nobody writes this"));
        assert_eq!(within(read_frame(&mut client)).await, None);
        assert_eq!(hub.rooms(), []);
        assert!(sender.try_send("closed").is_err());
    });
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// The members are on one runtime, and who sends is on another.
#[test]
fn a_room_writes_to_a_stream_of_a_runtime_that_stands_still() {
    let hub = Hub::new();
    let (own, other) = (runtime(), runtime());
    // A room delivers on the runtime of its first member, so this one is first.
    let _first = other.block_on(Peer::join(&hub, Config::new()));
    let mut peer = own.block_on(async {
        let mut peer = Peer::join(&hub, Config::new()).await;
        peer.sleeps().await;
        peer
    });
    other.block_on(async {
        peer.membership.send("without its own runtime").unwrap();
        settle().await;
    });
    assert_eq!(peer.sender.buffered().messages, 0);
    own.block_on(async {
        assert_eq!(peer.text().await, "without its own runtime");
    });
}

/// What rooms write is no sign of life of the peer, and does not put off the ping.
#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_given_up_although_rooms_write() {
    assert_given_up(Config::new(), 10).await;
}

/// The time for a pong depends on the bytes that were written, not on those before the compression.
#[cfg(feature = "deflate")]
#[tokio::test(start_paused = true)]
async fn a_peer_that_gets_compressed_messages_is_given_up_in_time() {
    assert_given_up(Config::new().deflate(tower_websocket::Deflate::new()), 4000).await;
}

/// Asserts that the peer is given up 10 seconds after the first ping, while it gets a message each second.
async fn assert_given_up(config: Config, words: usize) {
    let second = Duration::from_secs(1);
    let hub = Hub::new();
    let mut server = Server::new(&hub, config.keepalive(30 * second, 10 * second)).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let extensions = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let _ = wire::upgrade(&mut client, &wire::handshake_with("/", extensions)).await;
    let (sender, member) = server.member().await;
    let start = Instant::now();
    let reads = tokio::spawn(async move {
        let mut pings = Vec::new();
        while let Some(frame) = read_frame(&mut client).await {
            if frame.first == FIN | PING {
                pings.push(start.elapsed().as_secs());
            }
        }
        pings
    });
    for _ in 0..60 {
        drop(member.send(numbered(1, words)));
        sleep(second).await;
    }
    let closed = timeout(second, sender.closed()).await.unwrap();
    assert!(!closed.is_clean());
    let end = server.ends.recv().await.unwrap();
    assert!(matches!(end, Some(RecvError::Unresponsive)), "{end:?}");
    assert_eq!(reads.await.unwrap(), [30]);
    assert_eq!(hub.rooms(), []);
}

/// A payload that uses the connection and the room when it is dropped.
struct UsesAll(Sender, Room);

impl AsRef<[u8]> for UsesAll {
    fn as_ref(&self) -> &[u8] {
        &[7; 8192]
    }
}

impl Drop for UsesAll {
    fn drop(&mut self) {
        let _ = self.0.buffered();
        drop(self.0.try_send("a payload was dropped"));
        drop(self.1.send("a payload was dropped"));
    }
}

/// It would deadlock if it were dropped under the lock of its connection.
#[tokio::test]
async fn a_payload_that_a_room_writes_may_use_its_connection_when_it_is_dropped() {
    let hub = Hub::new();
    let mut peer = Peer::join(&hub, Config::new()).await;
    for _ in 0..20 {
        peer.sleeps().await;
        let payload = UsesAll(peer.sender.clone(), hub.room("a"));
        peer.membership.send(Bytes::from_owner(payload)).unwrap();
        let mut dropped = 0;
        let mut payloads = 0;
        while dropped < 2 || payloads < 1 {
            match peer.frame().await.payload.len() {
                8192 => payloads += 1,
                _ => dropped += 1,
            }
        }
    }
}

/// Messages that the connection compresses itself are not written by the room, and others do not overtake them.
#[cfg(all(feature = "client", feature = "deflate"))]
#[tokio::test]
async fn compressed_messages_stay_in_order() {
    use tower_websocket::{
        Deflate,
        client::{Handshake, connect_with},
    };

    let own = Deflate::new().min_size(100);
    for deflate in [own, own.send_context_takeover()] {
        let hub = Hub::new();
        let mut server = Server::new(&hub, Config::new().deflate(deflate)).await;
        let stream = TcpStream::connect(server.address).await.unwrap();
        let config = Config::new().deflate(deflate.receive_context_takeover());
        let handshake = Handshake::new("ws://localhost/").unwrap().config(config);
        let (mut client, response) = within(connect_with(handshake, stream)).await.unwrap();
        let extensions = response.headers().get("sec-websocket-extensions");
        assert!(extensions.is_some());
        let (sender, member) = server.member().await;
        let (mut rooms, mut senders, mut seen) = (0, 0, [0; 2]);
        for turn in 0..200 {
            settle().await;
            let words = [1, 1, 40, 1, 700, 8000, 2][turn % 7];
            for step in 0..turn % 5 + 1 {
                if (turn + step) % 3 == 0 {
                    sender.try_send(format!("sender {senders:07}")).unwrap();
                    senders += 1;
                } else {
                    member.send(numbered(rooms, words)).unwrap();
                    rooms += 1;
                }
                if turn % 2 == 0 {
                    settle().await;
                }
            }
            while seen != [rooms, senders] {
                let message = within(client.recv()).await.unwrap().unwrap();
                let (of, number) = match message.as_text().unwrap().strip_prefix("sender ") {
                    Some(number) => (1, number.parse().unwrap()),
                    None => (0, number_of(message.as_bytes())),
                };
                assert_eq!(number, seen[of]);
                seen[of] += 1;
            }
        }
        assert_eq!(sender.buffered().messages, 0);
    }
}

/// A sink that got room for its next message, and sends none. It asked again while its connection slept.
async fn idle_sink(peer: &mut Peer) -> Sender {
    peer.sleeps().await;
    let (mut sent, mut refused) = (0, 0);
    while refused < 20 {
        match peer.sender.try_send(numbered(sent, 1000)) {
            Ok(()) => (sent, refused) = (sent + 1, 0),
            Err(_) => refused += 1,
        }
        settle().await;
    }
    let mut sink = peer.sender.clone();
    let poll = |sink: &mut Sender| {
        let mut cx = Context::from_waker(Waker::noop());
        Sink::<Message>::poll_ready(Pin::new(sink), &mut cx)
    };
    assert!(poll(&mut sink).is_pending());
    for number in 0..sent {
        assert_eq!(number_of(&peer.frame().await.payload), number);
    }
    // The connection gives the room to others, and no timer of the full outbox wakes it later.
    sleep(Duration::from_secs(600)).await;
    settle().await;
    assert!(matches!(poll(&mut sink), Poll::Ready(Ok(()))));
    sink
}

#[tokio::test(start_paused = true)]
async fn a_room_writes_beside_a_sink_that_has_room_and_sends_nothing() {
    for len in [0, 10, 5000] {
        let hub = Hub::new();
        let mut peer = Peer::join(&hub, Config::new().max_outbox(4, 64 * 1024)).await;
        let sink = idle_sink(&mut peer).await;
        for byte in [1, 2] {
            peer.membership.send(vec![byte; len]).unwrap();
            assert_eq!(peer.frame().await.payload, vec![byte; len]);
        }
        drop(sink);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_has_room_and_sends_nothing_keeps_no_sender_waiting() {
    for messages in [0, 2] {
        let hub = Hub::new();
        let mut peer = Peer::join(&hub, Config::new().max_outbox(1, 64 * 1024)).await;
        let sink = idle_sink(&mut peer).await;
        let sender = peer.sender.clone();
        let waiting = tokio::spawn(async move { sender.send("waits").await });
        settle().await;
        for _ in 0..messages {
            peer.membership.send(vec![1; 10]).unwrap();
            settle().await;
        }
        let sent = timeout(Duration::from_secs(3600), waiting).await;
        assert!(matches!(sent, Ok(Ok(Ok(())))), "{messages}: {sent:?}");
        drop(sink);
    }
}
