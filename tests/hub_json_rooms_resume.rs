//! `JsonRooms` and clients that come back: the messages that they have missed, or a gap with its reason.

#![cfg(all(feature = "hub", feature = "json", feature = "test-util"))]

#[path = "support/rooms.rs"]
mod rooms;

use std::time::Duration;

use rooms::{Peer, Rooms};
use serde_json::{Value, json};
use tokio::time::sleep;
use tower_websocket::{
    CloseCode, Message,
    hub::{History, Overflow, RoomConfig},
};

fn with_history() -> Rooms {
    rooms::rooms(|_| RoomConfig::new().history(History::new().max_messages(200)))
}

/// Sends numbers as the server.
fn send(rooms: &Rooms, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let message = number.to_string();
        assert!(rooms.hub().room("lobby").send(message).is_ok());
    }
}

async fn resume(peer: &mut Peer, after: &Value) -> Value {
    let join = json!({ "join": "lobby", "after": after, "id": 1 });
    peer.ask(join).await["welcome"].take()
}

async fn hear(peer: &mut Peer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let heard = peer.next().await;
        assert_eq!(heard["data"], number, "{heard}");
        assert!(heard["at"].is_string(), "{heard}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_gets_exactly_what_it_has_missed() {
    let rooms = with_history();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let welcome = ann.join("lobby").await;
    assert_eq!(welcome["recovery"], "fresh");
    // Before the first message there is a position, too.
    let first = welcome["at"].clone();
    ann.client.wire().cut();
    send(&rooms, 0..3);
    let mut ann = Peer::connect(&rooms, "ann").await;
    let welcome = resume(&mut ann, &first).await;
    let at = &welcome["at"];
    let expected = json!({ "me": welcome["me"], "at": at, "recovery": "recovered", "messages": 3 });
    assert_eq!(welcome, expected);
    send(&rooms, 3..5);
    hear(&mut ann, 0..3).await;
    let fourth = ann.next().await;
    hear(&mut ann, 4..5).await;
    // From the middle.
    let mut bob = Peer::connect(&rooms, "bob").await;
    let welcome = resume(&mut bob, &fourth["at"]).await;
    assert_eq!(welcome["messages"], 1);
    hear(&mut bob, 4..5).await;
    // From the end.
    let mut eve = Peer::connect(&rooms, "eve").await;
    let welcome = resume(&mut eve, &welcome["at"]).await;
    assert_eq!(welcome["recovery"], "recovered");
    assert_eq!(welcome.get("messages"), None);
    eve.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_message_has_its_position() {
    let rooms = with_history();
    let mut ann = Peer::connect(&rooms, "ann").await;
    ann.join("lobby").await;
    let send = json!({ "send": "lobby", "data": "mine", "others": true, "id": 2 });
    let mut sent = ann.ask(send).await["sent"].take();
    let at = sent["at"].take();
    assert_eq!(sent, json!({ "at": null, "members": 0 }));
    let mut bob = Peer::connect(&rooms, "bob").await;
    let last = json!({ "join": "lobby", "last": 10, "id": 1 });
    let welcome = bob.ask(last).await["welcome"].take();
    assert_eq!(
        (&welcome["recovery"], &welcome["at"]),
        (&json!("fresh"), &at)
    );
    assert_eq!(welcome["messages"], 1);
    let heard = bob.next().await;
    assert_eq!((&heard["data"], &heard["at"]), (&json!("mine"), &at));
}

#[tokio::test(start_paused = true)]
async fn messages_to_others_are_replayed_with_their_sender() {
    let rooms = with_history();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let mut bob = Peer::connect(&rooms, "bob").await;
    let me = ann.join("lobby").await["me"].take();
    let at = bob.join("lobby").await["at"].take();
    drop(bob);
    let send = json!({ "send": "lobby", "data": 1, "others": true, "id": 2 });
    ann.ask(send).await;
    // Another tab of the same user, and another user.
    for user in ["ann", "bob"] {
        let mut peer = Peer::connect(&rooms, user).await;
        let welcome = resume(&mut peer, &at).await;
        assert_eq!(welcome["messages"], 1, "{welcome}");
        assert_eq!(welcome.get("withheld"), None);
        assert_eq!(peer.next().await["by"], me);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_leaves_out_a_member_is_withheld_from_its_name() {
    let rooms = with_history();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let at = ann.join("lobby").await["at"].take();
    let room = rooms.hub().room("lobby");
    let members = room.members_here();
    let member = members.by_key("ann").map(|member| member.id());
    let Some(member) = member else {
        panic!("ann is there");
    };
    let surprise = tower_websocket::hub::Publication::new("\"surprise\"").except(member);
    assert!(room.publish(surprise).is_ok());
    let mut ann = Peer::connect(&rooms, "ann").await;
    let welcome = resume(&mut ann, &at).await;
    assert_eq!(
        (&welcome["recovery"], &welcome["withheld"]),
        (&json!("recovered"), &json!(1))
    );
    assert_eq!(welcome.get("messages"), None);
    ann.assert_silent().await;
    let mut bob = Peer::connect(&rooms, "bob").await;
    assert_eq!(resume(&mut bob, &at).await["messages"], 1);
    assert_eq!(bob.next().await["data"], "surprise");
}

#[tokio::test(start_paused = true)]
async fn fleeting_messages_are_not_kept() {
    let rooms = with_history();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let mut bob = Peer::connect(&rooms, "bob").await;
    ann.join("lobby").await;
    let at = bob.join("lobby").await["at"].take();
    let typing =
        json!({ "send": "lobby", "data": "typing", "fleeting": true, "others": true, "id": 2 });
    let sent = json!({ "room": "lobby", "id": 2, "sent": { "members": 1 } });
    assert_eq!(ann.ask(typing).await, sent);
    let heard = bob.next().await;
    assert_eq!((&heard["data"], heard.get("at")), (&json!("typing"), None));
    let mut eve = Peer::connect(&rooms, "eve").await;
    let welcome = resume(&mut eve, &at).await;
    assert_eq!(
        (&welcome["recovery"], welcome.get("messages")),
        (&json!("recovered"), None)
    );
}

#[tokio::test(start_paused = true)]
async fn each_gap_has_its_reason() {
    let settings = |name: &str| match name {
        "lobby" => RoomConfig::new().history(History::new().max_messages(400)),
        "short" => RoomConfig::new().history(History::new().max_messages(2)),
        _ => RoomConfig::new(),
    };
    let rooms = rooms::rooms(settings);
    let mut ann = Peer::connect(&rooms, "ann").await;
    let mut first = Vec::new();
    for room in ["lobby", "short", "plain"] {
        first.push(ann.join(room).await["at"].take());
    }
    assert_eq!(first[2], Value::Null);
    for number in 0..350 {
        assert!(rooms.hub().room("lobby").send(number.to_string()).is_ok());
        if number < 3 {
            assert!(rooms.hub().room("short").send(number.to_string()).is_ok());
        }
        sleep(Duration::from_millis(1)).await;
    }
    let cases = [
        ("lobby", &first[0], "too_much"),
        ("short", &first[1], "trimmed"),
        ("lobby", &first[1], "epoch"),
        ("lobby", &json!("nonsense"), "unknown"),
        ("lobby", &json!(""), "unknown"),
        ("lobby", &json!("x".repeat(100_000)), "unknown"),
        ("plain", &first[0], "unknown"),
    ];
    for (room, after, reason) in cases {
        let mut bob = Peer::connect(&rooms, "bob").await;
        let join = json!({ "join": room, "after": after, "last": 1, "id": 1 });
        let welcome = bob.ask(join).await["welcome"].take();
        assert_eq!(welcome["recovery"], "gap", "{welcome}");
        assert_eq!(welcome["reason"], reason, "{welcome}");
        // With `last`, the newest ones come.
        if room != "plain" {
            assert_eq!(welcome["messages"], 1, "{welcome}");
            assert_eq!(bob.next().await["at"], welcome["at"]);
        }
        bob.assert_silent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_of_the_server_there_is_a_gap() {
    let rooms = with_history();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let at = ann.join("lobby").await["at"].take();
    send(&rooms, 0..3);
    drop(rooms);
    let rooms = with_history();
    send(&rooms, 0..3);
    let mut ann = Peer::connect(&rooms, "ann").await;
    let welcome = resume(&mut ann, &at).await;
    assert_eq!(
        (&welcome["recovery"], &welcome["reason"]),
        (&json!("gap"), &json!("epoch"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_closed_and_resumes_without_a_hole() {
    let rooms = rooms::rooms(|_| {
        let history = History::new().max_messages(1000).max_bytes(4 * 1024 * 1024);
        let config = RoomConfig::new().history(history);
        let config = config.overflow(Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER));
        config.max_backlog(50, 1024 * 1024)
    });
    let mut ann = Peer::connect(&rooms, "ann").await;
    let mut at = ann.join("lobby").await["at"].take();
    ann.client.wire().pause_reading();
    for number in 0..400 {
        let data = Message::json(&(number, "x".repeat(1000)));
        assert!(data.is_ok_and(|data| rooms.hub().room("lobby").send(data).is_ok()));
        sleep(Duration::from_millis(1)).await;
    }
    ann.client.wire().resume_reading();
    let mut next = 0;
    loop {
        let Ok(Some(heard)) = ann.client.recv_json::<Value>().await else {
            break;
        };
        if heard.get("data").is_some() {
            assert_eq!(heard["data"][0], next);
            at = heard["at"].clone();
            next += 1;
        }
    }
    assert!(next < 400, "{next}");
    assert_eq!(ann.code().await, Some(1013));
    let mut ann = Peer::connect(&rooms, "ann").await;
    let welcome = resume(&mut ann, &at).await;
    assert_eq!(welcome["recovery"], "recovered", "{welcome}");
    assert_eq!(welcome["messages"], 400 - next);
    for number in next..400 {
        assert_eq!(ann.next().await["data"][0], number);
    }
    ann.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn messages_between_the_welcome_and_the_replay_come_behind_it() {
    let rooms = with_history();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let at = ann.join("lobby").await["at"].take();
    send(&rooms, 0..50);
    for _ in 0..20 {
        let mut bob = Peer::connect(&rooms, "bob").await;
        bob.say(json!({ "join": "lobby", "after": at, "id": 1 }))
            .await;
        let first = rooms.hub().counts().sent;
        send(&rooms, first..first + 5);
        // The first object of the room is the welcome.
        let welcome = bob.hear().await["welcome"].take();
        let messages = welcome["messages"].as_u64().unwrap_or_default();
        assert!((first..=first + 5).contains(&messages), "{welcome}");
        hear(&mut bob, 0..first + 5).await;
        bob.assert_silent().await;
    }
}
