//! The members of a room: lists, watches, keys, and the news that members get of each other.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use support::{
    pipe,
    schedule::Random,
    settle,
    wire::{FIN, TEXT, read_frame},
    within,
};
use tokio::{
    io::DuplexStream,
    time::{sleep, timeout},
};
use tower_websocket::{
    Config, WebSocket,
    hub::{
        Event, Hub, HubConfig, Json, LeaveReason, Membership, PublishError, Room, RoomConfig, Watch,
    },
};

type Value = &'static str;

fn json_hub() -> Hub<Value> {
    let room = |_: &str| RoomConfig::new().envelope(Json::new(|value| format!("\"{value}\"")));
    Hub::with(HubConfig::new().rooms(room))
}

fn socket() -> (WebSocket, DuplexStream) {
    pipe::socket(Config::new().without_keepalive(), 64 * 1024)
}

async fn join(room: &Room<Value>, key: Option<Value>, value: Value) -> (Membership<Value>, Client) {
    let (socket, stream) = socket();
    let join = room.join(&socket, value);
    let join = match key {
        Some(key) => join.key(key),
        None => join,
    };
    let member = join.await.unwrap();
    (member, Client { socket, stream })
}

struct Client {
    socket: WebSocket,
    stream: DuplexStream,
}

impl Client {
    async fn text(&mut self) -> String {
        let frame = within(read_frame(&mut self.stream)).await.unwrap();
        assert_eq!(frame.first, FIN | TEXT);
        String::from_utf8(frame.payload).unwrap()
    }

    /// Returns all texts that have arrived.
    async fn texts(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        settle().await;
        let wait = Duration::from_millis(1);
        while let Ok(Some(frame)) = timeout(wait, read_frame(&mut self.stream)).await {
            texts.push(String::from_utf8(frame.payload).unwrap());
        }
        texts
    }
}

async fn event(watch: &mut Watch<Value>) -> Event<Value> {
    within(watch.next()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn json_members_hear_who_is_there_and_who_comes_and_goes() {
    let hub = json_hub();
    let room = hub.room("a");
    let (ann, mut ann_client) = join(&room, Some("ann"), "Ann").await;
    let list = format!(
        r#"{{"room":"a","members":[{{"id":"{}","key":"ann","value":"Ann"}}]}}"#,
        ann.id()
    );
    assert_eq!(ann_client.text().await, list);
    sleep(Duration::from_secs(1)).await;

    let (bob, mut bob_client) = join(&room, None, "Bob").await;
    let joined = format!(
        r#"{{"room":"a","joined":[{{"id":"{}","value":"Bob"}}]}}"#,
        bob.id()
    );
    assert_eq!(ann_client.text().await, joined);
    let list = bob_client.text().await;
    assert!(
        list.contains("\"Ann\"") && list.contains("\"Bob\""),
        "{list}"
    );
    sleep(Duration::from_secs(1)).await;

    bob.send(r#"{"text":"hi"}"#).unwrap();
    let message = format!(
        r#"{{"room":"a","by":"{}","data":{{"text":"hi"}}}}"#,
        bob.id()
    );
    assert_eq!(ann_client.text().await, message);
    assert_eq!(bob_client.text().await, message);

    bob.set("Robert");
    let updated = format!(
        r#"{{"room":"a","updated":[{{"id":"{}","value":"Robert"}}]}}"#,
        bob.id()
    );
    assert_eq!(ann_client.text().await, updated);
    sleep(Duration::from_secs(1)).await;

    let left = format!(r#"{{"room":"a","left":[{{"id":"{}"}}]}}"#, bob.id());
    drop(bob);
    assert_eq!(ann_client.text().await, left);
    assert_eq!(ann_client.texts().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_text_that_could_forge_the_envelope_is_refused() {
    let hub = json_hub();
    let room = hub.room("a");
    let (member, mut client) = join(&room, None, "x").await;
    client.text().await;
    for text in [r#"1},"gap":{"lost":1"#, "", "hello", "{} {}"] {
        assert_eq!(room.send(text), Err(PublishError::NotJson), "{text}");
    }
    // Bytes are passed on as they are.
    room.send(vec![1, 2]).unwrap();
    assert_eq!(
        within(read_frame(&mut client.stream))
            .await
            .unwrap()
            .payload,
        [1, 2]
    );
    drop(member);
}

#[tokio::test(start_paused = true)]
async fn many_joins_make_two_messages_and_a_large_room_only_a_number() {
    let hub = json_hub();
    let room = hub.room("a");
    let (_first, mut first) = join(&room, None, "first").await;
    assert!(first.text().await.contains("members"));
    sleep(Duration::from_secs(1)).await;
    let mut members = Vec::new();
    for number in 0..999 {
        members.push(join(&room, None, "x").await);
        if number % 10 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    sleep(Duration::from_secs(1)).await;
    let texts = first.texts().await;
    assert!(texts.len() <= 2, "{}", texts.len());
    let named: usize = texts
        .iter()
        .map(|text| text.matches("\"id\"").count())
        .sum();
    assert_eq!(named, 999);
    // Each gets one list of all members.
    let list = members[500].1.texts().await;
    assert_eq!(
        list.iter().filter(|text| text.contains("members")).count(),
        1
    );

    members.push(join(&room, None, "one too many").await);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(first.texts().await, [r#"{"room":"a","count":1001}"#]);
    let last = &mut members.last_mut().unwrap().1;
    assert_eq!(last.texts().await, [r#"{"room":"a","count":1001}"#]);
    members.truncate(10);
    sleep(Duration::from_secs(1)).await;
    let texts = first.texts().await;
    assert_eq!(texts.len(), 1);
    assert!(texts[0].contains("members"), "{}", texts[0]);
    assert_eq!(texts[0].matches("\"id\"").count(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_joins_and_leaves_in_between_is_not_named() {
    let hub = json_hub();
    let room = hub.room("a");
    let (_first, mut first) = join(&room, None, "first").await;
    first.text().await;
    for _ in 0..10 {
        drop(join(&room, None, "x").await);
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(first.texts().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn two_tabs_of_a_user_come_and_go_once() {
    let hub = json_hub();
    let room = hub.room("a");
    let mut watch = room.watch().unwrap();
    let (_other, mut other) = join(&room, None, "other").await;
    other.text().await;
    assert!(matches!(event(&mut watch).await, Event::Snapshot(roster) if roster.len() == 1));
    sleep(Duration::from_secs(1)).await;
    let (first, _first) = join(&room, Some("ann"), "Ann 1").await;
    sleep(Duration::from_secs(1)).await;
    let (second, _second) = join(&room, Some("ann"), "Ann 2").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((room.members_here().len(), room.len_here()), (2, 3));
    drop(first);
    sleep(Duration::from_secs(1)).await;
    let ann = room.members_here();
    assert_eq!(*ann.by_key("ann").unwrap().value(), "Ann 2");
    let id = second.id();
    drop(second);
    sleep(Duration::from_secs(1)).await;
    let texts = other.texts().await;
    assert_eq!(texts.len(), 3, "{texts:?}");
    for (text, word) in texts.iter().zip(["joined", "updated", "left"]) {
        assert!(text.contains(word) && text.contains("\"ann\""), "{text}");
    }
    assert!(matches!(event(&mut watch).await, Event::Joined(ann) if *ann.value() == "Ann 1"));
    assert!(matches!(event(&mut watch).await, Event::Updated(ann) if *ann.value() == "Ann 2"));
    let left = event(&mut watch).await;
    assert!(
        matches!(left, Event::Left { presence, reason: LeaveReason::Left } if presence.id() == id)
    );
    assert_eq!(room.members_here().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_of_a_silent_member() {
    let hub = json_hub();
    let room = hub.room("a");
    let (_first, mut first) = join(&room, None, "first").await;
    first.text().await;
    let mut watch = room.watch().unwrap();
    event(&mut watch).await;
    let (socket, stream) = socket();
    let silent = room.join(&socket, "silent").silent().await.unwrap();
    let mut client = Client { socket, stream };
    silent.set("still silent");
    sleep(Duration::from_secs(1)).await;
    assert_eq!((room.members_here().len(), room.len_here()), (1, 2));
    // It hears of the others.
    assert!(client.text().await.contains("\"first\""));
    room.send("1").unwrap();
    assert_eq!(client.text().await, r#"{"room":"a","data":1}"#);
    drop(silent);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(first.texts().await, [r#"{"room":"a","data":1}"#]);
    assert!(timeout(Duration::from_secs(1), watch.next()).await.is_err());
    drop(client.socket);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_behind_gets_a_list_in_the_place_of_old_news() {
    let hub = json_hub();
    let room = hub.room("a");
    let (socket, mut stream) = pipe::socket(Config::new().without_keepalive(), 1);
    let _slow = room.join(&socket, "slow").await.unwrap();
    for number in 0..100 {
        room.send(number.to_string()).unwrap();
        settle().await;
    }
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(join(&room, None, "other").await);
        sleep(Duration::from_millis(300)).await;
    }
    others.truncate(5);
    let (mut numbers, mut lists, mut news) = (0, 0, 0);
    while let Ok(Some(frame)) = timeout(Duration::from_secs(1), read_frame(&mut stream)).await {
        let text = String::from_utf8(frame.payload).unwrap();
        numbers += usize::from(text.contains("data"));
        if text.contains("members") {
            lists += 1;
            // The first one is that of the join.
            assert_eq!(
                text.matches("\"id\"").count(),
                if lists == 1 { 1 } else { 6 }
            );
        }
        news += usize::from(text.contains("joined") || text.contains("left"));
    }
    assert_eq!((numbers, lists), (100, 2));
    assert!(news <= 1, "{news}");
}

/// Follows a watch.
fn follow(model: &mut BTreeMap<String, Value>, event: Event<Value>) {
    match event {
        Event::Snapshot(roster) => {
            *model = roster
                .iter()
                .map(|member| (member.id().to_string(), *member.value()))
                .collect();
        }
        Event::Joined(member) => {
            let old = model.insert(member.id().to_string(), *member.value());
            assert_eq!(old, None, "joined twice");
        }
        Event::Updated(member) => {
            let old = model.insert(member.id().to_string(), *member.value());
            assert!(old.is_some(), "updated, but was not there");
        }
        Event::Left { presence, .. } => {
            let old = model.remove(&presence.id().to_string());
            assert!(old.is_some(), "left, but was not there");
        }
        _ => panic!("an unknown event"),
    }
}

fn present(room: &Room<Value>) -> BTreeMap<String, Value> {
    let roster = room.members_here();
    let members = roster.iter();
    members
        .map(|member| (member.id().to_string(), *member.value()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_and_its_events_are_the_members_at_every_step() {
    let hub = json_hub();
    let room = hub.room("a");
    let (socket, _stream) = socket();
    let mut random = Random::new(7);
    let mut members = Vec::new();
    let mut watches: Vec<(Watch<Value>, BTreeMap<String, Value>)> = Vec::new();
    for step in 0..3000 {
        match random.below(8) {
            0..=2 if members.len() < 100 => members.push(room.join(&socket, "one").await.unwrap()),
            3 | 4 if !members.is_empty() => {
                drop(members.swap_remove(random.below(members.len())));
            }
            5 if !members.is_empty() => {
                members[random.below(members.len())].set(["two", "three"][step % 2]);
            }
            6 if watches.len() < 5 => watches.push((room.watch().unwrap(), BTreeMap::new())),
            7 if watches.len() > 3 => {
                watches.swap_remove(0);
            }
            _ => {}
        }
        let present = present(&room);
        for (watch, model) in &mut watches {
            while let Some(event) = futures_util::FutureExt::now_or_never(watch.next()) {
                follow(model, event.unwrap());
            }
            assert_eq!(*model, present, "step {step}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_not_read_gets_a_snapshot_in_the_place_of_events() {
    let hub = json_hub();
    let room = hub.room("a");
    let mut watch = room.watch().unwrap();
    event(&mut watch).await;
    let (socket, _stream) = socket();
    let mut members = Vec::new();
    for _ in 0..1000 {
        drop(room.join(&socket, "gone").await.unwrap());
        if members.len() < 50 {
            members.push(room.join(&socket, "here").await.unwrap());
        }
    }
    let mut model = BTreeMap::new();
    let first = event(&mut watch).await;
    assert!(matches!(first, Event::Snapshot(_)), "{first:?}");
    follow(&mut model, first);
    assert_eq!(model, present(&room));
    drop(members.pop());
    follow(&mut model, event(&mut watch).await);
    assert_eq!(model, present(&room));
}

#[tokio::test(start_paused = true)]
async fn reasons_say_why_a_member_has_left() {
    let hub: Hub<Value> = Hub::new();
    let room = hub.room("a");
    let mut watch = room.watch().unwrap();
    event(&mut watch).await;
    let (left, _client) = join(&room, None, "left").await;
    let (closed, client) = join(&room, None, "closed").await;
    let (removed, _client2) = join(&room, None, "removed").await;
    for _ in 0..3 {
        event(&mut watch).await;
    }
    drop(left);
    drop(client);
    sleep(Duration::from_secs(10)).await;
    room.remove(removed.id());
    for expected in [LeaveReason::Left, LeaveReason::Closed, LeaveReason::Removed] {
        let event = event(&mut watch).await;
        assert!(
            matches!(event, Event::Left { reason, .. } if reason == expected),
            "{event:?}"
        );
    }
    drop((closed, removed));
    assert!(timeout(Duration::from_secs(1), watch.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_written_is_null() {
    let room = |_: &str| {
        RoomConfig::new().envelope(Json::new(|value: &Value| match *value {
            "panic" => panic!("as the test wants"),
            other => other.into(),
        }))
    };
    let hub = Hub::with(HubConfig::new().rooms(room));
    let room = hub.room("a\"b");
    for value in ["panic", "no json", "1},{"] {
        let (_member, mut client) = join(&room, Some("k\n"), value).await;
        let text = client.text().await;
        assert!(
            text.starts_with(r#"{"room":"a\"b","members":[{"id":""#),
            "{text}"
        );
        assert!(
            text.ends_with(r#""key":"k\u000a","value":null}]}"#),
            "{text}"
        );
    }
}
