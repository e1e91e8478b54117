//! The share of rooms in an outbox, also with the smallest outboxes and backlogs.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::sync::Arc;

use futures_util::FutureExt;

use support::{
    pipe, settle,
    wire::{FIN, Frame, TEXT, read_frame},
    within,
};
use tokio::{io::DuplexStream, task::yield_now};
use tower_websocket::{
    CloseCode, Config, WebSocket,
    hub::{Hub, HubConfig, HubCounts, Json, Overflow, Publication, RoomConfig},
};

const POLICIES: [Overflow; 4] = [
    Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER),
    Overflow::DropOldest,
    Overflow::DropNewest,
    Overflow::Latest,
];

fn socket(config: Config, capacity: usize) -> (WebSocket, DuplexStream) {
    pipe::socket(config.without_keepalive(), capacity)
}

async fn frame(client: &mut DuplexStream) -> Frame {
    within(read_frame(client)).await.unwrap()
}

fn assert_conserved(counts: HubCounts) {
    let done = counts.delivered + counts.lost + counts.superseded + counts.unsent;
    assert_eq!(counts.addressed, done + counts.waiting, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_room_stays_in_a_connection_that_is_behind_and_leaves() {
    let owner = Arc::new(());
    let own = Arc::clone(&owner);
    let hub: Hub = Hub::with(HubConfig::new().rooms(move |_| {
        let _own = &own;
        RoomConfig::new()
    }));
    let (socket, _client) = socket(Config::new(), 16);
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        members.push(hub.room(name).join(&socket, ()).await.unwrap());
        for _ in 0..100 {
            hub.room(name).send("x").unwrap();
        }
        settle().await;
    }
    assert_eq!(hub.counts().behind, 3);
    drop(members);
    drop(hub);
    settle().await;
    // The connection is still open, and has nothing of the hub.
    assert!(socket.sender().buffered().messages > 0);
    assert_eq!(Arc::strong_count(&owner), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_joins_again_and_again_has_one_share() {
    for text in ["", "x"] {
        let hub: Hub = Hub::new();
        let room = hub.room("a");
        let (socket, _client) = socket(Config::new(), 16);
        for _ in 0..10 {
            let _member = room.join(&socket, ()).await.unwrap();
            for _ in 0..100 {
                room.send(text).unwrap();
            }
            settle().await;
        }
        let buffered = socket.sender().buffered().messages;
        // Those in the pipe are not the room's any more.
        assert!(buffered <= 64 + 8, "{buffered} of {text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_smallest_outbox_delivers_messages_of_any_size() {
    for overflow in POLICIES {
        for (messages, bytes) in [(1, 1), (1, 100_000), (2, 1), (1000, 1)] {
            let hub: Hub =
                Hub::with(HubConfig::new().rooms(move |_| RoomConfig::new().overflow(overflow)));
            let room = hub.room("a");
            let config = Config::new().max_outbox(messages, bytes);
            let (socket, mut client) = socket(config, 64);
            let member = room.join(&socket, ()).await.unwrap();
            let lens = [0, 1, 100, 5000, 100_000, 0, 0, 70_000, 200_000];
            for len in lens {
                room.send("x".repeat(len)).unwrap();
                settle().await;
            }
            let mut got = Vec::new();
            while got.len() + member.lag().lost as usize != lens.len() {
                let frame = frame(&mut client).await;
                assert_eq!(frame.first, FIN | TEXT, "{overflow:?}");
                got.push(frame.payload.len());
                settle().await;
            }
            if overflow != Overflow::DropNewest {
                assert_eq!(got, lens, "{overflow:?} {messages} {bytes}");
            }
            room.send("last").unwrap();
            assert_eq!(frame(&mut client).await.payload, b"last");
            assert_conserved(hub.counts());
            assert_eq!(hub.counts().backlog_bytes, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_smallest_backlogs_lose_what_they_say_and_hurt_nobody_else() {
    for overflow in POLICIES {
        for (messages, bytes, all) in [
            (0, 0, 0),
            (0, 1 << 20, 1 << 20),
            (1, 1 << 20, 1 << 20),
            (1 << 20, 0, 1 << 20),
            (1 << 20, 1 << 20, 0),
        ] {
            let config = HubConfig::new().max_backlog(all).rooms(move |_| {
                RoomConfig::new()
                    .overflow(overflow)
                    .max_backlog(messages, bytes)
            });
            let hub: Hub = Hub::with(config);
            let room = hub.room("a");
            let (fast, mut fast_client) = socket(Config::new(), 64 * 1024);
            let _fast = room.join(&fast, ()).await.unwrap();
            let (slow, mut client) = socket(Config::new(), 1);
            let member = room.join(&slow, ()).await.unwrap();
            let case = format!("{overflow:?} {messages} {bytes} {all}");
            for number in 0..300 {
                let key = (number % 7).to_string();
                let publication = Publication::new(number.to_string()).latest(key);
                room.publish(publication).unwrap();
                if number % 10 == 0 {
                    settle().await;
                }
                let got = frame(&mut fast_client).await.payload;
                assert_eq!(got, number.to_string().as_bytes(), "{case}");
            }
            settle().await;
            let counts = hub.counts();
            assert_conserved(counts);
            let waiting = member.lag().behind;
            assert!(waiting <= messages.min(300) as u64 + 7, "{case}: {waiting}");
            match overflow {
                Overflow::Disconnect(_) => assert_eq!(counts.disconnected, 1, "{case}"),
                _ => {
                    let lag = member.lag();
                    let (mut last, mut read) = (None, 0);
                    while read + (member.lag().lost + hub.counts().superseded) < 300 {
                        let text = String::from_utf8(frame(&mut client).await.payload).unwrap();
                        let number: u64 = text.parse().unwrap();
                        assert!(last.is_none_or(|last| last < number), "{case}");
                        last = Some(number);
                        read += 1;
                        settle().await;
                    }
                    assert!(lag.lost > 0 || overflow == Overflow::Latest, "{case}");
                }
            }
            drop(member);
            assert_eq!(hub.counts().backlog_bytes, 0, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_numbers_are_no_limits() {
    for overflow in POLICIES {
        let config = HubConfig::new()
            .max_rooms(usize::MAX)
            .max_rooms_per_connection(usize::MAX)
            .max_backlog(usize::MAX)
            .rooms(move |_| {
                RoomConfig::new()
                    .overflow(overflow)
                    .max_backlog(usize::MAX, usize::MAX)
                    .max_members(usize::MAX)
                    .max_message_size(usize::MAX)
            });
        let hub: Hub = Hub::with(config);
        let room = hub.room("a");
        let (socket, mut client) = socket(Config::new(), 1);
        let _member = room.join(&socket, ()).await.unwrap();
        let mut expected = Vec::new();
        for number in 0..1000 {
            let publication = Publication::new(number.to_string());
            // Two of three have a key of their own.
            let publication = match number % 3 {
                0 => publication,
                _ => publication.latest(number.to_string()),
            };
            room.publish(publication).unwrap();
            for _ in 0..3 {
                yield_now().await;
            }
            if overflow != Overflow::DropNewest || number < 64 {
                expected.push(number);
            }
        }
        for number in expected {
            let got = frame(&mut client).await.payload;
            assert_eq!(got, number.to_string().as_bytes(), "{overflow:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_delivered_to_all_take_no_room_of_others() {
    let config = HubConfig::new().rooms(|_| RoomConfig::new().overflow(Overflow::Latest));
    let hub: Hub = Hub::with(config);
    let room = hub.room("a");
    let (fast, mut fast_client) = socket(Config::new(), 1024 * 1024);
    let _fast = room.join(&fast, ()).await.unwrap();
    let mut sent = 0;
    // The log is never empty: a turn of the task delivers 64 of 100 messages, then of 64 more.
    let mut publish = |count: usize, keys: Option<usize>| {
        for _ in 0..count {
            let key = match keys {
                Some(keys) => format!("again {}", sent % keys),
                None => sent.to_string(),
            };
            let publication = Publication::new(sent.to_string()).latest(key);
            room.publish(publication).unwrap();
            sent += 1;
        }
    };
    publish(100, None);
    for _ in 0..40 {
        yield_now().await;
        assert!(hub.counts().backlog_bytes > 0);
        publish(64, None);
    }
    let (slow, mut client) = socket(Config::new(), 1);
    let member = room.join(&slow, ()).await.unwrap();
    for _ in 0..100 {
        yield_now().await;
        assert!(hub.counts().backlog_bytes > 0);
        publish(64, Some(10));
    }
    settle().await;
    assert_eq!(member.lag().lost, 0);
    assert_eq!(member.lag().behind, 10);
    for number in 0..sent {
        let got = frame(&mut fast_client).await.payload;
        assert_eq!(got, number.to_string().as_bytes());
    }
    for _ in 0..64 {
        frame(&mut client).await;
    }
    for number in sent - 10..sent {
        let got = frame(&mut client).await.payload;
        assert_eq!(got, number.to_string().as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_without_a_pause_stays_within_the_backlog() {
    for overflow in POLICIES {
        let config = HubConfig::new().rooms(move |_| {
            RoomConfig::new()
                .overflow(overflow)
                .max_backlog(10, 1 << 20)
        });
        let hub: Hub = Hub::with(config);
        let room = hub.room("a");
        let (fast, mut client) = socket(Config::new().max_outbox(10_000, 1 << 20), 1 << 20);
        let _fast = room.join(&fast, ()).await.unwrap();
        for is_behind in [false, true] {
            let (slow, _client) = socket(Config::new(), 1);
            let _slow = match is_behind {
                true => Some(room.join(&slow, ()).await.unwrap()),
                false => None,
            };
            while is_behind && hub.counts().behind == 0 {
                room.send("x").unwrap();
                settle().await;
                frame(&mut client).await;
            }
            // As many as the share of a connection that does not run in between.
            for number in 0..60 {
                room.send(number.to_string()).unwrap();
                let counts = hub.counts();
                assert!(counts.backlog_bytes <= 11 * 130, "{overflow:?} {counts:?}");
            }
            for number in 0..60 {
                let got = frame(&mut client).await.payload;
                assert_eq!(got, number.to_string().as_bytes(), "{overflow:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_counts_of_a_room_are_those_of_its_hub() {
    for overflow in POLICIES {
        let config = HubConfig::new().rooms(move |_| {
            RoomConfig::new()
                .overflow(overflow)
                .max_backlog(20, 1 << 20)
                .envelope(Json::without_values())
        });
        let hub: Hub = Hub::with(config);
        let room = hub.room("a");
        let (fast, _fast_client) = socket(Config::new(), 1 << 20);
        let _fast = room.join(&fast, ()).await.unwrap();
        for round in 0..4 {
            let (slow, mut client) = socket(Config::new(), 1);
            let member = room.join(&slow, ()).await.unwrap();
            for number in 0..100 {
                let publication = Publication::new(number.to_string()).latest("key");
                room.publish(publication).unwrap();
                settle().await;
            }
            if round % 2 == 0 {
                for _ in 0..70 {
                    if read_frame(&mut client).now_or_never().is_none() {
                        settle().await;
                    }
                }
            }
            if round > 1 {
                drop((slow, client));
            }
            drop(member);
            settle().await;
            assert_eq!(room.counts(), hub.counts(), "{overflow:?} {round}");
            assert_eq!(hub.counts().waiting, 0, "{overflow:?} {round}");
            assert_conserved(room.counts());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn latest_delivers_the_newest_of_a_burst_without_a_pause() {
    let config = HubConfig::new().rooms(|_| RoomConfig::new().overflow(Overflow::Latest));
    let hub: Hub = Hub::with(config);
    let room = hub.room("a");
    let (slow, mut client) = socket(Config::new(), 1);
    let _slow = room.join(&slow, ()).await.unwrap();
    for _ in 0..70 {
        room.send("first").unwrap();
        settle().await;
    }
    for number in 0..60 {
        let key = (number % 3).to_string();
        let publication = Publication::new(number.to_string()).latest(key);
        room.publish(publication).unwrap();
    }
    for _ in 0..70 {
        assert_eq!(frame(&mut client).await.payload, b"first");
    }
    for number in 57..60 {
        let got = frame(&mut client).await.payload;
        assert_eq!(got, number.to_string().as_bytes());
    }
    settle().await;
    assert_eq!((hub.counts().superseded, hub.counts().waiting), (57, 0));
}

#[tokio::test(start_paused = true)]
async fn a_chunk_without_members_keeps_no_message() {
    let hub: Hub = Hub::new();
    let room = hub.room("a");
    let mut members = Vec::new();
    for _ in 0..129 {
        let (socket, client) = socket(Config::new(), 4096);
        members.push((room.join(&socket, ()).await.unwrap(), socket, client));
    }
    room.send("x").unwrap();
    settle().await;
    members.pop();
    for _ in 0..200 {
        room.send("x").unwrap();
    }
    settle().await;
    assert_eq!(hub.counts().backlog_bytes, 0);
}
