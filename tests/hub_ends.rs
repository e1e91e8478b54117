//! The end of a membership, as its handler learns of it.

#![cfg(feature = "hub")]

mod support;

use support::{pipe, settle, within};
use tokio::{io::DuplexStream, spawn};
use tower_websocket::{
    Config, WebSocket,
    hub::{Hub, HubConfig, Json, LeaveReason, Plain, RoomConfig},
};

fn socket() -> (WebSocket, DuplexStream) {
    pipe::socket(Config::new().without_keepalive(), 64 * 1024)
}

#[tokio::test(start_paused = true)]
async fn each_end_has_its_reason() {
    let hub = Hub::new();
    let room = hub.room("a");
    let (one, _client) = socket();
    let (two, client) = socket();
    let removed = room.join(&one, ()).await.unwrap();
    let left = room.join(&one, ()).await.unwrap();
    let closed = room.join(&two, ()).await.unwrap();
    let ends: Vec<_> = [&removed, &left, &closed]
        .into_iter()
        .flat_map(|member| [spawn(member.left()), spawn(member.left())])
        .collect();
    settle().await;
    for (member, end) in [&removed, &left, &closed].into_iter().zip(ends.chunks(2)) {
        assert_eq!(member.has_left(), None);
        assert!(end.iter().all(|end| !end.is_finished()));
    }
    room.remove(removed.id());
    assert_eq!(removed.has_left(), Some(LeaveReason::Removed));
    // It has ended before it is asked.
    assert_eq!(within(removed.left()).await, LeaveReason::Removed);
    let late = left.left();
    left.leave();
    assert_eq!(within(late).await, LeaveReason::Left);
    drop((two, client));
    let reasons = [
        LeaveReason::Removed,
        LeaveReason::Removed,
        LeaveReason::Left,
        LeaveReason::Left,
        LeaveReason::Closed,
        LeaveReason::Closed,
    ];
    for (end, reason) in ends.into_iter().zip(reasons) {
        assert_eq!(within(end).await.unwrap(), reason);
    }
    assert_eq!(closed.has_left(), Some(LeaveReason::Closed));
    assert_eq!(hub.rooms(), []);
}

#[tokio::test(start_paused = true)]
async fn the_future_of_the_end_does_not_keep_the_member() {
    let hub = Hub::new();
    let (socket, _client) = socket();
    let member = hub.room("a").join(&socket, ()).await.unwrap();
    let left = member.left();
    drop(member);
    assert_eq!(hub.room("a").len_here(), 0);
    assert_eq!(within(left).await, LeaveReason::Left);
}

#[tokio::test(start_paused = true)]
async fn the_envelope_of_a_hub_counts_in_all_its_rooms() {
    let room = |_: &str| RoomConfig::new().envelope(Plain::new());
    let before: Hub = Hub::with(
        HubConfig::new()
            .envelope(Json::without_values())
            .rooms(room),
    );
    let behind: Hub = Hub::with(
        HubConfig::new()
            .rooms(room)
            .envelope(Json::without_values()),
    );
    for hub in [before, behind] {
        let (socket, _client) = socket();
        let member = hub.room("a").join(&socket, ()).await.unwrap();
        // Only rooms with `Json` refuse it.
        assert!(member.send("not json").is_err());
    }
}
