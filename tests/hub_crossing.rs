//! Rooms that grow past `max_listed` and shrink again: clients know the members, or their number.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{collections::BTreeSet, time::Duration};

use futures_util::{FutureExt, StreamExt};
use serde_json::Value;
use support::{pipe, schedule::Random, settle, wire::read_frame};
use tokio::{io::DuplexStream, time::timeout};
use tower_websocket::{
    Config, WebSocket,
    hub::{Event, Hub, HubConfig, Json, Membership, Room, RoomConfig},
};

const MAX_LISTED: usize = 10;
const INTERVAL: Duration = Duration::from_millis(200);

fn room() -> Room {
    let config = HubConfig::new().rooms(|_| {
        RoomConfig::new()
            .max_listed(MAX_LISTED)
            .presence_interval(INTERVAL)
            .envelope(Json::without_values())
    });
    Hub::with(config).room("a")
}

fn socket(capacity: usize) -> (WebSocket, DuplexStream) {
    pipe::socket(Config::new().without_keepalive(), capacity)
}

/// A client, and the members that it knows.
struct Client {
    _member: Membership,
    _socket: WebSocket,
    stream: DuplexStream,
    known: Known,
}

#[derive(Debug, Eq, PartialEq)]
enum Known {
    Members(BTreeSet<String>),
    Number(u64),
}

fn names(list: &Value) -> impl Iterator<Item = String> {
    let name = |member: &Value| {
        let key = member.get("key").unwrap_or(&member["id"]);
        key.as_str().unwrap().to_owned()
    };
    list.as_array().into_iter().flatten().map(name)
}

impl Client {
    async fn join(room: &Room) -> Self {
        let (socket, stream) = socket(64 * 1024);
        let member = room.join(&socket, ()).await.unwrap();
        Self {
            _member: member,
            _socket: socket,
            stream,
            known: Known::Number(0),
        }
    }

    async fn read(&mut self) {
        settle().await;
        let wait = Duration::from_millis(1);
        while let Ok(Some(frame)) = timeout(wait, read_frame(&mut self.stream)).await {
            let news: Value = serde_json::from_slice(&frame.payload).unwrap();
            if let Some(number) = news["count"].as_u64() {
                self.known = Known::Number(number);
            } else if news["members"].is_array() {
                self.known = Known::Members(names(&news["members"]).collect());
            } else if let Known::Members(members) = &mut self.known {
                members.extend(names(&news["joined"]));
                members.extend(names(&news["updated"]));
                for left in names(&news["left"]) {
                    assert!(members.remove(&left), "{left} has left, and was not there");
                }
            } else {
                panic!("changes of a list that it does not have: {news}");
            }
        }
    }
}

fn present(room: &Room) -> Known {
    let roster = room.members_here();
    if roster.len() > MAX_LISTED {
        return Known::Number(roster.len() as u64);
    }
    let name = |member: &tower_websocket::hub::Presence<()>| match member.key() {
        Some(key) => key.to_string(),
        None => member.id().to_string(),
    };
    Known::Members(roster.iter().map(name).collect())
}

#[tokio::test(start_paused = true)]
async fn a_client_knows_who_is_there_after_a_room_was_large_for_a_while() {
    for seed in 0..20 {
        let room = room();
        let mut random = Random::new(seed);
        let mut clients = vec![Client::join(&room).await];
        let (socket, _stream) = socket(1024 * 1024 * 64);
        let mut others: Vec<Membership> = Vec::new();
        for step in 0..60 {
            for _ in 0..random.below(12) {
                if random.below(20) > others.len() {
                    let join = room.join(&socket, ());
                    let key = random.below(8);
                    others.push(match random.below(4) {
                        0 => join.key(key.to_string()).await.unwrap(),
                        1 => join.key(key.to_string()).silent().await.unwrap(),
                        _ => join.await.unwrap(),
                    });
                } else if !others.is_empty() {
                    drop(others.swap_remove(random.below(others.len())));
                }
            }
            if random.below(10) == 0 {
                clients.push(Client::join(&room).await);
            }
            tokio::time::sleep(2 * INTERVAL).await;
            let present = present(&room);
            for client in &mut clients {
                client.read().await;
                assert_eq!(client.known, present, "seed {seed}, step {step}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_value_of_a_second_tab_is_seen_once_the_first_one_has_left() {
    let hub: Hub<u8> = Hub::new();
    let room = hub.room("a");
    let (socket, _stream) = socket(4096);
    let first = room.join(&socket, 1).key("ann").await.unwrap();
    let second = room.join(&socket, 2).key("ann").await.unwrap();
    let mut watch = room.watch().unwrap();
    let first_event = watch.next().await;
    assert!(matches!(first_event, Some(Event::Snapshot(roster)) if roster.len() == 1));
    second.set(3);
    assert!(watch.next().now_or_never().is_none());
    assert_eq!(*room.members_here().by_key("ann").unwrap().value(), 1);
    drop(first);
    let event = watch.next().await;
    assert!(matches!(event, Some(Event::Updated(ann)) if *ann.value() == 3));
}
