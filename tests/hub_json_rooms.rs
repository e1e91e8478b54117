//! `JsonRooms`: every row of the tables of `rooms.v1.json`, as its clients see them.

#![cfg(all(feature = "hub", feature = "json", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/rooms.rs"]
mod rooms;

use std::time::Duration;

use rooms::{Peer, Rooms};
use serde_json::{Value, json};
use tokio::time::sleep;
use tower_websocket::{
    Message, WebSocketLayer,
    hub::{Admission, HubConfig, JsonRooms, MemberId, Overflow, RoomConfig},
    testing::{self, Request},
};

fn plain() -> Rooms {
    rooms::rooms(|_| RoomConfig::new())
}

fn member(rooms: &Rooms, room: &str, key: &str) -> MemberId {
    let members = rooms.hub().room(room).members_here();
    members.by_key(key).unwrap().id()
}

#[tokio::test(start_paused = true)]
async fn a_join_is_welcomed_before_anything_else_of_the_room() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    ann.say(json!({ "join": "lobby", "id": 1 })).await;
    let welcome = ann.hear().await;
    let me = member(&rooms, "lobby", "ann").to_string();
    assert_eq!(
        welcome,
        json!({ "room": "lobby", "id": 1, "welcome": { "me": me, "recovery": "fresh" } })
    );
    let value = json!({ "name": "ann" });
    assert_eq!(
        ann.hear().await,
        json!({ "room": "lobby", "members": [{ "id": me, "key": "ann", "value": value }] })
    );
}

#[tokio::test(start_paused = true)]
async fn a_join_without_an_id_is_welcomed_without_one() {
    let mut ann = Peer::connect(&plain(), "ann").await;
    let welcome = ann.ask(json!({ "join": "lobby" })).await;
    assert_eq!(welcome["welcome"]["recovery"], "fresh");
    assert_eq!(welcome.get("id"), None);
}

#[tokio::test(start_paused = true)]
async fn members_hear_who_comes_and_goes() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    ann.join("lobby").await;
    assert!(ann.hear().await["members"].is_array());
    sleep(Duration::from_secs(1)).await;
    let mut bob = Peer::connect(&rooms, "bob").await;
    let me = bob.join("lobby").await["me"].take();
    let value = json!({ "name": "bob" });
    assert_eq!(
        ann.hear().await,
        json!({ "room": "lobby", "joined": [{ "id": me, "key": "bob", "value": value }] })
    );
    assert_eq!(bob.hear().await["members"].as_array().unwrap().len(), 2);
    sleep(Duration::from_secs(1)).await;
    drop(bob);
    assert_eq!(
        ann.hear().await,
        json!({ "room": "lobby", "left": [{ "id": me, "key": "bob" }] })
    );
}

#[tokio::test(start_paused = true)]
async fn a_large_room_has_a_count() {
    let rooms = rooms::rooms(|_| RoomConfig::new().max_listed(1));
    let mut ann = Peer::connect(&rooms, "ann").await;
    let mut bob = Peer::connect(&rooms, "bob").await;
    ann.join("lobby").await;
    bob.join("lobby").await;
    assert_eq!(bob.hear().await, json!({ "room": "lobby", "count": 2 }));
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_not_seen_unless_it_has_to_be() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    for (room, seen) in [("lobby", 0), ("stage", 1)] {
        let answer = ann
            .ask(json!({ "join": room, "silent": true, "id": 1 }))
            .await;
        assert!(answer["welcome"]["me"].is_string(), "{answer}");
        let room = rooms.hub().room(room);
        assert_eq!((room.len_here(), room.members_here().len()), (1, seen));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_goes_to_all_members_with_its_sender() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let mut bob = Peer::connect(&rooms, "bob").await;
    let me = ann.join("lobby").await["me"].take();
    bob.join("lobby").await;
    // The JSON is passed on as it was written.
    let data = r#"{ "text":"héllo \u00e9", "big":123456789012345678901234567890, "a":1,"a":2 }"#;
    ann.say_text(format!(r#"{{"send":"lobby","data":{data},"id":3}}"#))
        .await;
    let mut heard = [ann.next().await, ann.next().await];
    heard.sort_by_key(|object| object.get("sent").is_some());
    let sent = json!({ "room": "lobby", "id": 3, "sent": { "members": 2 } });
    assert_eq!(heard[1], sent);
    let head = json!({ "room": "lobby", "by": me, "key": "ann" });
    for heard in [&heard[0], &bob.next().await] {
        assert_eq!(heard["data"]["text"], "héllo é");
        for (name, value) in head.as_object().unwrap() {
            assert_eq!(heard[name], *value);
        }
    }
    ann.say_text(format!(r#"{{"send":"lobby","data":{data}}}"#))
        .await;
    let is_news = |text: &str| !text.contains("\"data\":");
    let text = loop {
        let text = bob.client.recv().await.unwrap().unwrap();
        let text = text.into_text().unwrap();
        if !is_news(&text) {
            break text;
        }
    };
    assert!(text.ends_with(&format!(",\"data\":{data}}}")), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_message_to_others_does_not_come_back() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let mut bob = Peer::connect(&rooms, "bob").await;
    ann.join("lobby").await;
    bob.join("lobby").await;
    let send = json!({ "send": "lobby", "data": null, "others": true, "id": 0 });
    let sent = json!({ "room": "lobby", "id": 0, "sent": { "members": 1 } });
    assert_eq!(ann.ask(send).await, sent);
    assert_eq!(bob.next().await["data"], Value::Null);
    ann.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_of_the_server_has_no_sender() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    ann.join("lobby").await;
    let message = Message::json(&json!(["hello"])).unwrap();
    rooms.hub().room("lobby").send(message).unwrap();
    assert_eq!(
        ann.next().await,
        json!({ "room": "lobby", "data": ["hello"] })
    );
}

#[tokio::test(start_paused = true)]
async fn requests_without_an_id_have_no_answer() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    ann.join("lobby").await;
    ann.say(json!({ "send": "lobby", "data": 1, "others": true }))
        .await;
    ann.say(json!({ "leave": "lobby" })).await;
    ann.assert_silent().await;
    assert_eq!(rooms.hub().room("lobby").len_here(), 0);
    let error = json!({ "room": "lobby", "error": "not_joined" });
    assert_eq!(
        ann.ask(json!({ "leave": "lobby", "id": null })).await,
        error
    );
}

#[tokio::test(start_paused = true)]
async fn a_member_that_has_left_gets_nothing_more_and_may_come_back() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let first = ann.join("lobby").await["me"].take();
    let left = json!({ "room": "lobby", "id": 2, "left_room": "left" });
    assert_eq!(ann.ask(json!({ "leave": "lobby", "id": 2 })).await, left);
    rooms.hub().room("lobby").send("1").unwrap();
    ann.assert_silent().await;
    assert_ne!(ann.join("lobby").await["me"], first);
    rooms.hub().room("lobby").send("2").unwrap();
    assert_eq!(ann.next().await["data"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_removed_member_is_told_and_cannot_send() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    ann.join("lobby").await;
    let member = member(&rooms, "lobby", "ann");
    assert!(rooms.hub().room("lobby").remove(member));
    let removed = json!({ "room": "lobby", "left_room": "removed" });
    assert_eq!(ann.next().await, removed);
    let send = json!({ "send": "lobby", "data": 1, "id": 3 });
    let error = json!({ "room": "lobby", "id": 3, "error": "not_joined" });
    assert_eq!(ann.ask(send).await, error);
    ann.join("lobby").await;
    ann.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn each_failure_has_a_code_and_changes_nothing() {
    let settings = |name: &str| match name {
        "small" => RoomConfig::new().max_members(1),
        "tiny" => RoomConfig::new().max_message_size(16),
        _ => RoomConfig::new(),
    };
    let config = HubConfig::new().rooms(settings);
    let rooms = rooms::rooms_of(config.max_rooms_per_connection(3).max_rooms(4));
    let mut ann = Peer::connect(&rooms, "ann").await;
    let mut bob = Peer::connect(&rooms, "bob").await;
    for room in ["small", "news", "tiny"] {
        ann.join(room).await;
    }
    let long = "x".repeat(17);
    let cases = [
        (
            &mut ann,
            vec![
                (json!({ "join": "tiny" }), "joined_already"),
                (json!({ "join": "more" }), "too_many_memberships"),
                (json!({ "leave": "more" }), "not_joined"),
                (json!({ "send": "more", "data": 1 }), "not_joined"),
                (json!({ "send": "news", "data": 1 }), "read_only"),
                (json!({ "send": "tiny", "data": long }), "too_large"),
                (json!({ "send": "tiny" }), "bad_request"),
            ],
        ),
        (
            &mut bob,
            vec![
                (json!({ "join": "secret" }), "forbidden"),
                (json!({ "join": "broken" }), "unavailable"),
                (json!({ "join": "small" }), "room_full"),
                (json!({ "leave": "small" }), "not_joined"),
            ],
        ),
    ];
    for (peer, cases) in cases {
        for (mut request, code) in cases {
            request["id"] = 7.into();
            let fields = request.as_object().unwrap();
            let verbs = ["join", "leave", "send"];
            let room = verbs.iter().find_map(|verb| fields.get(*verb));
            let error = json!({ "room": room, "id": 7, "error": code });
            assert_eq!(peer.ask(request.clone()).await, error, "{request}");
        }
    }
    bob.join("fourth").await;
    let error = json!({ "room": "fifth", "error": "too_many_rooms" });
    assert_eq!(bob.ask(json!({ "join": "fifth" })).await, error);
    let hub = rooms.hub();
    let mut names: Vec<_> = hub.rooms().into_iter().map(|room| room.name).collect();
    names.sort();
    assert_eq!(names, ["fourth", "news", "small", "tiny"].map(Into::into));
    assert_eq!(hub.counts().sent, 0);
    ann.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn two_rooms_share_a_connection() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let first = ann.join("a").await["me"].take();
    let second = ann.join("b").await["me"].take();
    assert_ne!(first, second);
    for (room, id) in [("a", 10), ("b", 11), ("a", 12)] {
        let send = json!({ "send": room, "data": id, "others": true, "id": id });
        let sent = json!({ "room": room, "id": id, "sent": { "members": 0 } });
        assert_eq!(ann.ask(send).await, sent);
    }
    let left = json!({ "room": "a", "id": 13, "left_room": "left" });
    assert_eq!(ann.ask(json!({ "leave": "a", "id": 13 })).await, left);
    rooms.hub().room("a").send("1").unwrap();
    rooms.hub().room("b").send("2").unwrap();
    assert_eq!(ann.next().await, json!({ "room": "b", "data": 2 }));
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_told_how_many_messages_it_has_missed() {
    let settings = |_: &str| {
        let config = RoomConfig::new().overflow(Overflow::DropOldest);
        config.max_backlog(10, 1024 * 1024)
    };
    let rooms = rooms::rooms(settings);
    let mut ann = Peer::connect(&rooms, "ann").await;
    ann.join("lobby").await;
    ann.client.wire().pause_reading();
    for number in 0..500 {
        let filler = "x".repeat(1000);
        let message = Message::json(&(number, filler)).unwrap();
        rooms.hub().room("lobby").send(message).unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    ann.client.wire().resume_reading();
    let (mut next, mut gaps) = (0, 0);
    while next < 500 {
        let heard = ann.next().await;
        match heard["gap"]["lost"].as_u64() {
            Some(lost) => {
                assert_eq!(heard["gap"]["reason"], "slow");
                next += lost;
                gaps += 1;
            }
            None => {
                assert_eq!(heard["data"][0], next);
                next += 1;
            }
        }
    }
    assert!(gaps > 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_skips_superseded_messages_of_a_key() {
    let rooms = rooms::rooms(|_| {
        RoomConfig::new()
            .overflow(Overflow::Latest)
            .max_backlog(4, 1024)
    });
    let mut ann = Peer::connect(&rooms, "ann").await;
    let mut bob = Peer::connect(&rooms, "bob").await;
    ann.join("prices").await;
    bob.join("prices").await;
    bob.client.wire().pause_reading();
    for number in 0..1000 {
        let data = json!([number, "x".repeat(500)]);
        let send =
            json!({ "send": "prices", "data": data, "others": true, "latest": "ACME", "id": 1 });
        assert_eq!(ann.ask(send).await["sent"]["members"], 1);
    }
    bob.client.wire().resume_reading();
    let mut heard = 0;
    while bob.next().await["data"][0] != 999 {
        heard += 1;
    }
    assert!(heard < 900, "{heard}");
}

#[tokio::test(start_paused = true)]
async fn the_identity_may_come_from_a_layer() {
    let rooms = JsonRooms::new(HubConfig::new(), async |user: u64, _| {
        Ok(Admission::new(user))
    });
    let service = WebSocketLayer::new(rooms.clone()).into_service();
    let refused = testing::connect(service.clone(), "/").await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().status(), 401);
    let request = Request::new("/").extension(7_u64);
    let mut client = testing::connect(service, request).await.unwrap();
    client.send(r#"{"join":"a"}"#).await.unwrap();
    let welcome: Value = client.recv_json().await.unwrap().unwrap();
    assert_eq!(welcome["welcome"]["recovery"], "fresh");
    let members = rooms.hub().room("a").members_here();
    assert_eq!(members.iter().map(|member| *member.value()).sum::<u64>(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_handshake_is_that_of_the_function() {
    let service = WebSocketLayer::new(plain()).into_service();
    let refused = testing::connect(service, "/").await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().status(), 401);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_connection_leaves_all_rooms() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    for room in ["a", "b"] {
        ann.join(room).await;
    }
    assert_eq!(rooms.hub().rooms().len(), 2);
    ann.client.wire().cut();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rooms.hub().rooms(), []);
}
