//! The counts of hubs and rooms: everything is counted once, also after its room has ended.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use support::{pipe, settle};
use tokio::{io::DuplexStream, task::yield_now};
use tower_websocket::{
    CloseCode, Config, WebSocket,
    hub::{Hub, HubConfig, Membership, Overflow, RoomConfig},
};

/// The share of rooms in an outbox.
const SHARE: u64 = 64;

type Client = (Membership, WebSocket, DuplexStream);

async fn join(hub: &Hub, room: &str, capacity: usize) -> Client {
    let (socket, stream) = pipe::socket(Config::new().without_keepalive(), capacity);
    (
        hub.room(room).join(&socket, ()).await.unwrap(),
        socket,
        stream,
    )
}

async fn send(hub: &Hub, room: &str, messages: u64) {
    for _ in 0..messages {
        hub.room(room).send("x").unwrap();
        yield_now().await;
    }
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_counts_what_rooms_did_that_have_ended() {
    let hub = Hub::new();
    let one = join(&hub, "a", 4096).await;
    let two = join(&hub, "b", 4096).await;
    send(&hub, "a", 2).await;
    send(&hub, "b", 3).await;
    let alive = hub.counts();
    assert_eq!((alive.rooms, alive.members, alive.joined), (2, 2, 2));
    assert_eq!((alive.sent, alive.addressed, alive.delivered), (5, 5, 5));
    drop(one);
    assert_eq!(hub.room("a").counts().sent, 0);
    let again = join(&hub, "a", 4096).await;
    send(&hub, "a", 1).await;
    let counts = hub.room("a").counts();
    assert_eq!((counts.joined, counts.sent, counts.delivered), (1, 1, 1));
    let counts = hub.counts();
    assert_eq!((counts.rooms, counts.members, counts.joined), (2, 2, 3));
    assert_eq!((counts.sent, counts.addressed, counts.delivered), (6, 6, 6));
    drop((again, two));
    let ended = hub.counts();
    assert_eq!((ended.rooms, ended.members), (0, 0));
    assert_eq!((ended.joined, ended.sent, ended.delivered), (3, 6, 6));
    // Nobody is there.
    send(&hub, "a", 1).await;
    assert_eq!(hub.counts(), ended);
}

#[tokio::test(start_paused = true)]
async fn lost_messages_are_counted_by_policy() {
    let room = |name: &str| {
        let overflow = match name {
            "disconnect" => Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER),
            "oldest" => Overflow::DropOldest,
            "newest" => Overflow::DropNewest,
            _ => Overflow::Latest,
        };
        RoomConfig::new()
            .overflow(overflow)
            .max_backlog(10, 1024 * 1024)
    };
    let hub: Hub = Hub::with(HubConfig::new().rooms(room));
    let names = ["disconnect", "oldest", "newest", "latest"];
    for (name, lost) in names.into_iter().zip(1..) {
        let member = join(&hub, name, 1).await;
        let kept = if name == "newest" { 0 } else { 10 };
        send(&hub, name, SHARE + kept + lost).await;
        drop(member);
    }
    let counts = hub.counts();
    let by = counts.lost_by;
    assert_eq!(
        [by.disconnect, by.drop_oldest, by.drop_newest, by.latest],
        [1, 2, 3, 4]
    );
    assert_eq!((counts.lost, counts.disconnected), (10, 1));
    assert_eq!(
        counts.addressed,
        counts.delivered + counts.lost + counts.unsent
    );
}

#[tokio::test(start_paused = true)]
async fn refused_joins_are_counted_by_error() {
    let config = HubConfig::new()
        .max_rooms(2)
        .max_rooms_per_connection(1)
        .rooms(|_| RoomConfig::new().max_members(2));
    let hub: Hub = Hub::with(config);
    let (own, _client) = pipe::socket(Config::new(), 64);
    hub.room("").join(&own, ()).await.unwrap_err();
    let first = join(&hub, "a", 64).await;
    hub.room("b").join(&first.1, ()).await.unwrap_err();
    for _ in 0..2 {
        hub.room("a").join(&first.1, ()).await.unwrap_err();
    }
    let second = join(&hub, "a", 64).await;
    for _ in 0..3 {
        hub.room("a").join(&own, ()).await.unwrap_err();
    }
    let _third = join(&hub, "b", 64).await;
    for _ in 0..4 {
        hub.room("c").join(&own, ()).await.unwrap_err();
    }
    own.sender().close(CloseCode::NORMAL, "").unwrap();
    drop(second);
    for _ in 0..5 {
        hub.room("a").join(&own, ()).await.unwrap_err();
    }
    let figures = |hub: tower_websocket::hub::HubCounts| {
        let by = hub.refused_by;
        [
            by.name,
            by.too_many_memberships,
            by.room_full,
            by.too_many_rooms,
            by.closed,
        ]
    };
    let room = hub.room("a").counts();
    assert_eq!((figures(room), room.refused), ([0, 2, 3, 0, 5], 10));
    let all = hub.counts();
    assert_eq!((figures(all), all.refused), ([1, 3, 3, 4, 5], 16));
    assert_eq!(all.joined, 3);
}
