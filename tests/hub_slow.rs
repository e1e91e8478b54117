//! Members that read too slowly: the policies, and members that are not disturbed.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use support::{
    pipe, settle,
    wire::{BINARY, CLOSE, FIN, Frame, PING, PONG, TEXT, frame, read_frame, write},
    within,
};
use tokio::{io::DuplexStream, task::yield_now, time::sleep};
use tower_websocket::{
    CloseCode, Config, WebSocket,
    hub::{Hub, HubConfig, HubCounts, Json, Membership, Overflow, Publication, Room, RoomConfig},
};

/// The share of rooms in an outbox, and the backlog of a room.
const SHARE: usize = 64;
const BACKLOG: usize = 1024;

fn hub(overflow: Overflow) -> Hub {
    Hub::with(HubConfig::new().rooms(move |_| RoomConfig::new().overflow(overflow)))
}

struct Client {
    member: Membership,
    _socket: WebSocket,
    stream: DuplexStream,
}

async fn join(room: &Room, capacity: usize) -> Client {
    let config = Config::new().without_keepalive();
    let (socket, stream) = pipe::socket(config, capacity);
    let member = room.join(&socket, ()).await.unwrap();
    Client {
        member,
        _socket: socket,
        stream,
    }
}

impl Client {
    async fn frame(&mut self) -> Frame {
        within(read_frame(&mut self.stream)).await.unwrap()
    }

    async fn text(&mut self) -> String {
        let frame = self.frame().await;
        assert_eq!(frame.first, FIN | TEXT, "{:?}", frame.payload);
        String::from_utf8(frame.payload).unwrap()
    }

    async fn number(&mut self) -> usize {
        self.text().await.parse().unwrap()
    }
}

/// Sends numbers, and lets the connections run after each.
async fn send(room: &Room, numbers: std::ops::Range<usize>) {
    for number in numbers {
        room.send(number.to_string()).unwrap();
        for _ in 0..3 {
            yield_now().await;
        }
    }
}

/// Reads numbers in a task, and asserts that none is missing.
fn reads_all(
    mut client: Client,
    numbers: std::ops::Range<usize>,
) -> tokio::task::JoinHandle<Client> {
    tokio::spawn(async move {
        for number in numbers {
            assert_eq!(client.number().await, number);
        }
        client
    })
}

/// Each message for a member is in exactly one of the counts.
fn assert_conserved(counts: HubCounts) {
    let done = counts.delivered + counts.lost + counts.superseded + counts.unsent;
    assert_eq!(counts.addressed, done + counts.waiting, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn disconnect_closes_a_member_that_misses_a_message_with_1013() {
    let hub = hub(Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER));
    let room = hub.room("a");
    let mut slow = join(&room, 1).await;
    let fast = reads_all(join(&room, 4096).await, 0..SHARE + BACKLOG + 2);
    send(&room, 0..SHARE + BACKLOG).await;
    assert_eq!(room.len_here(), 2);
    assert_eq!(slow.member.lag().behind, BACKLOG as u64);
    assert_eq!(hub.counts().behind, 1);
    send(&room, SHARE + BACKLOG..SHARE + BACKLOG + 2).await;
    settle().await;
    // It has left before its Close is read.
    assert_eq!(room.len_here(), 1);
    for number in 0..SHARE {
        assert_eq!(slow.number().await, number);
    }
    let close = slow.frame().await;
    assert_eq!(close.first, FIN | CLOSE);
    assert_eq!(close.close_code(), Some(1013));
    assert_eq!(&close.payload[2..], b"too slow");
    within(fast).await.unwrap();
    let counts = hub.counts();
    // It was closed for the first message that it missed.
    assert_eq!((counts.disconnected, counts.lost), (1, 1));
    assert_eq!((counts.behind, counts.backlog_bytes), (0, 0));
    assert_eq!(counts.unsent as usize, BACKLOG);
    assert_conserved(counts);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_catches_up_in_time_misses_nothing() {
    let hub = hub(Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER));
    let room = hub.room("a");
    let mut slow = join(&room, 1).await;
    let mut next = 0;
    for round in 0..20 {
        let sent = next + 50 * round;
        send(&room, next..sent).await;
        for number in next..sent {
            assert_eq!(slow.number().await, number);
        }
        next = sent;
    }
    settle().await;
    assert_eq!(slow.member.lag(), Default::default());
    let counts = hub.counts();
    assert_eq!(
        (counts.lost, counts.waiting, counts.backlog_bytes),
        (0, 0, 0)
    );
    assert_conserved(counts);
}

/// Returns the data of a message, or the number of lost ones; `None` for a list of members.
fn parse(text: &str) -> Option<Result<usize, usize>> {
    let number = |field: &str| {
        let (_, rest) = text.split_once(field)?;
        let digits = rest.split(|byte: char| !byte.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    number("\"data\":")
        .map(Ok)
        .or_else(|| number("\"lost\":").map(Err))
}

#[tokio::test(start_paused = true)]
async fn gaps_are_told_in_their_place_with_the_exact_number() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::Latest] {
        let config = HubConfig::new().rooms(move |_| {
            RoomConfig::new()
                .overflow(overflow)
                .max_backlog(100, 1024 * 1024)
                .envelope(Json::without_values())
        });
        let hub: Hub = Hub::with(config);
        let room = hub.room("a");
        let mut slow = join(&room, 1).await;
        settle().await;
        let (mut next, mut told, mut read) = (0, 0, 0);
        for (round, sent) in [30, 700, 10, 163, 164, 165, 2000, 1]
            .into_iter()
            .enumerate()
        {
            let before = next;
            send(&room, next..next + sent).await;
            next += sent;
            // The last message of a round is missed by `DropNewest`.
            let mut last = read;
            let mut seen = 0;
            while seen + told < next {
                let text = slow.text().await;
                match parse(&text) {
                    None => {}
                    Some(Ok(number)) => {
                        assert_eq!(number, read, "{overflow:?} round {round}");
                        read += 1;
                        last = number;
                    }
                    Some(Err(lost)) => {
                        read += lost;
                        told += lost;
                    }
                }
                seen = read - told;
            }
            assert!(
                last >= before.saturating_sub(1),
                "{overflow:?} round {round}"
            );
            assert_eq!(read, next, "{overflow:?} round {round}");
        }
        settle().await;
        let counts = hub.counts();
        assert_eq!(counts.lost as usize, told, "{overflow:?}");
        assert_eq!(slow.member.lag().lost as usize, told, "{overflow:?}");
        assert!(told > 1000 && counts.gaps_told >= 2, "{overflow:?}");
        assert_eq!(counts.delivered as usize, next - told, "{overflow:?}");
        assert_eq!(
            (counts.waiting, counts.backlog_bytes),
            (0, 0),
            "{overflow:?}"
        );
        assert_conserved(counts);
    }
}

#[tokio::test(start_paused = true)]
async fn drop_oldest_keeps_the_newest_and_drop_newest_the_oldest() {
    for (overflow, after) in [
        (Overflow::DropOldest, 5000 - BACKLOG..5000),
        (Overflow::DropNewest, 5000..5000),
    ] {
        let hub = hub(overflow);
        let room = hub.room("a");
        let mut slow = join(&room, 1).await;
        let fast = reads_all(join(&room, 4096).await, 0..5001);
        send(&room, 0..5000).await;
        assert_eq!(slow.member.lag().lost as usize, after.start - SHARE);
        assert_eq!(slow.member.lag().behind as usize, after.len());
        for number in (0..SHARE).chain(after) {
            assert_eq!(slow.number().await, number, "{overflow:?}");
        }
        settle().await;
        send(&room, 5000..5001).await;
        assert_eq!(slow.number().await, 5000);
        within(fast).await.unwrap();
        assert_conserved(hub.counts());
    }
}

#[tokio::test(start_paused = true)]
async fn latest_delivers_the_newest_message_of_each_key_in_order() {
    let hub = hub(Overflow::Latest);
    let room = hub.room("a");
    let mut slow = join(&room, 1).await;
    send(&room, 0..SHARE).await;
    let mut fast = join(&room, 64 * 1024).await;
    let mut newest = std::collections::BTreeMap::new();
    for number in 0..10_000_usize {
        let key = number * number % 101 % 50;
        newest.insert(key, number);
        let text = format!("{key}={number}");
        let publication = Publication::new(text.as_str()).latest(key.to_string());
        room.publish(publication).unwrap();
        assert_eq!(fast.text().await, text);
        assert!(hub.counts().backlog_bytes <= 51 * (16 + 128));
    }
    for number in 0..SHARE {
        assert_eq!(slow.number().await, number);
    }
    let mut expected: Vec<_> = newest.into_iter().collect();
    expected.sort_unstable_by_key(|(_, number)| *number);
    for (key, number) in expected {
        assert_eq!(slow.text().await, format!("{key}={number}"));
    }
    settle().await;
    let counts = hub.counts();
    assert_eq!(
        (counts.lost, counts.waiting, counts.backlog_bytes),
        (0, 0, 0)
    );
    assert!(counts.superseded > 9000);
    assert_eq!(slow.member.lag(), Default::default());
    assert_conserved(counts);
}

#[tokio::test(start_paused = true)]
async fn latest_gives_each_key_its_turn_on_a_slow_link() {
    const KEYS: usize = 50;
    let hub = hub(Overflow::Latest);
    let config = Config::new().without_keepalive().max_outbox(16, 64 * 1024);
    let (socket, mut stream) = pipe::socket(config, 1);
    let _member = hub.room("a").join(&socket, ()).await.unwrap();
    let mut got = [0; KEYS];
    // Each key is sent once for ten messages that are read, so the newest ones always are of the same keys.
    for number in 0..2500 {
        let publication = Publication::new(number.to_string()).latest((number % KEYS).to_string());
        hub.room("a").publish(publication).unwrap();
        settle().await;
        if number % 5 == 4 {
            let frame = within(read_frame(&mut stream)).await.unwrap();
            let read: usize = String::from_utf8(frame.payload).unwrap().parse().unwrap();
            assert!(
                got[read % KEYS] <= read,
                "{read} after {}",
                got[read % KEYS]
            );
            got[read % KEYS] = read;
        }
        // 50 messages of a round take the time of 250, the 8 of the outbox that of 40, and a message that is being
        // sent is older by up to a round.
        let oldest = got.iter().min().unwrap();
        assert!(number < oldest + 600, "{number}: {got:?}");
    }
    assert_eq!(hub.counts().lost, 0);
    assert_conserved(hub.counts());
}

#[tokio::test(start_paused = true)]
async fn latest_counts_more_keys_than_it_keeps_as_lost() {
    let hub = hub(Overflow::Latest);
    let room = hub.room("a");
    let mut slow = join(&room, 1).await;
    send(&room, 0..SHARE).await;
    for number in 0..3000 {
        let publication = Publication::new(number.to_string()).latest(number.to_string());
        room.publish(publication).unwrap();
        yield_now().await;
    }
    settle().await;
    assert_eq!(slow.member.lag().lost, 3000 - 2 * BACKLOG as u64);
    for number in (0..SHARE).chain(0..BACKLOG).chain(3000 - BACKLOG..3000) {
        assert_eq!(slow.number().await, number);
    }
    assert_conserved(hub.counts());
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_several_flooded_rooms_gets_messages_of_all() {
    let hub = hub(Overflow::DropOldest);
    let (socket, mut stream) = pipe::socket(Config::new().without_keepalive(), 64);
    let mut members = Vec::new();
    for name in ["0", "1", "2"] {
        members.push(hub.room(name).join(&socket, ()).await.unwrap());
    }
    let mut counts = [0; 3];
    for _ in 0..1000 {
        for (number, name) in ["0", "1", "2"].into_iter().enumerate() {
            for _ in 0..(number + 1) * 3 {
                hub.room(name).send(name).unwrap();
            }
        }
        for _ in 0..6 {
            let frame = within(read_frame(&mut stream)).await.unwrap();
            counts[usize::from(frame.payload[0] - b'0')] += 1;
        }
    }
    assert!(counts.iter().all(|count| *count > 1000), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_has_room_beside_a_flooded_room() {
    let hub = hub(Overflow::DropOldest);
    let room = hub.room("a");
    let config = Config::new().without_keepalive().max_outbox(8, 100_000);
    let (socket, mut stream) = pipe::socket(config, 16);
    let _member = room.join(&socket, ()).await.unwrap();
    for _ in 0..100 {
        room.send("room").unwrap();
        settle().await;
    }
    // Half of the outbox is the room's.
    assert_eq!(socket.sender().buffered().messages, 4);
    for _ in 0..4 {
        socket.sender().try_send(vec![1]).unwrap();
    }
    assert!(socket.sender().try_send(vec![1]).is_err());
    let mut own = 0;
    for _ in 0..104 {
        let frame = within(read_frame(&mut stream)).await.unwrap();
        own += usize::from(frame.first == FIN | BINARY);
    }
    assert_eq!(own, 4);
}

#[tokio::test(start_paused = true)]
async fn pings_of_a_member_in_a_flooded_room_are_answered() {
    let hub = hub(Overflow::DropOldest);
    let room = hub.room("a");
    // The keepalive is on.
    let (socket, mut stream) = pipe::socket(Config::new(), 4096);
    let _member = room.join(&socket, ()).await.unwrap();
    let flood = tokio::spawn(async move {
        for number in 0_u64.. {
            room.send(number.to_string()).unwrap();
            if number % 100 == 0 {
                sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let (mut pinged, mut ponged) = (0, 0);
    let start = tokio::time::Instant::now();
    while start.elapsed() < Duration::from_secs(120) {
        for _ in 0..100 {
            let read = within(read_frame(&mut stream)).await.unwrap();
            match read.first & 0xf {
                PING => write(&mut stream, &frame(FIN | PONG, &read.payload)).await,
                PONG => ponged += 1,
                CLOSE => panic!("closed: {:?}", read.close_code()),
                _ => {}
            }
        }
        write(&mut stream, &frame(FIN | PING, b"?")).await;
        pinged += 1;
    }
    assert!(ponged >= pinged - 1 && ponged > 100, "{ponged} of {pinged}");
    flood.abort();
}

#[tokio::test(start_paused = true)]
async fn a_burst_without_a_pause_makes_members_slow_but_loses_nothing_within_the_backlog() {
    let hub = hub(Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER));
    let room = hub.room("a");
    let mut member = join(&room, 64).await;
    for number in 0..SHARE + BACKLOG {
        room.send(number.to_string()).unwrap();
    }
    for number in 0..SHARE + BACKLOG {
        assert_eq!(member.number().await, number);
    }
    assert_eq!(hub.counts().disconnected, 0);
}

#[tokio::test(start_paused = true)]
async fn all_backlogs_together_are_bounded() {
    let config = HubConfig::new()
        .max_backlog(100_000)
        .rooms(|_| RoomConfig::new().overflow(Overflow::DropOldest));
    let hub: Hub = Hub::with(config);
    let mut clients = Vec::new();
    for number in 0..20 {
        let room = hub.room(number.to_string());
        clients.push((join(&room, 1).await, room));
    }
    for number in 0..500 {
        for (_, room) in &clients {
            room.send(number.to_string()).unwrap();
        }
        settle().await;
        assert!(hub.counts().backlog_bytes <= 100_000, "{:?}", hub.counts());
    }
    let counts = hub.counts();
    assert!(counts.waiting > 5000, "{counts:?}");
    assert_conserved(counts);
    drop(clients);
    let counts = hub.counts();
    assert_eq!((counts.waiting, counts.backlog_bytes), (0, 0));
    assert!(counts.lost > 5000 && counts.unsent > 500, "{counts:?}");
    assert_conserved(counts);
}
