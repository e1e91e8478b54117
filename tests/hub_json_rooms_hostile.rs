//! `JsonRooms` and clients that send what they should not.

#![cfg(all(feature = "hub", feature = "json", feature = "test-util"))]

#[path = "support/rooms.rs"]
mod rooms;

use rooms::{Peer, Rooms};
use serde_json::json;
use tower_websocket::{CloseCode, hub::RoomConfig};

fn plain() -> Rooms {
    rooms::rooms(|_| RoomConfig::new())
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_no_json_object_ends_the_connection() {
    let deep = "[".repeat(100_000);
    let cases = [
        ("", 1007),
        ("{", 1007),
        ("hello", 1007),
        (r#"{"join":"a"} {}"#, 1007),
        (r#"{"join":"a",}"#, 1007),
        (r#"{"send":"a","data":}"#, 1007),
        (r#"{"send":"a","data":nul}"#, 1007),
        (r#"{'join':'a'}"#, 1007),
        (deep.as_str(), 1007),
        ("7", 1008),
        ("null", 1008),
        ("\"join\"", 1008),
        (r#"[{"join":"a"}]"#, 1008),
    ];
    let rooms = plain();
    for (text, code) in cases {
        let mut ann = Peer::connect(&rooms, "ann").await;
        ann.join("lobby").await;
        ann.say_text(text).await;
        assert_eq!(ann.code().await, Some(code), "{text:.40}");
    }
    let mut ann = Peer::connect(&rooms, "ann").await;
    ann.client.send(br#"{"join":"a"}"#).await.unwrap();
    assert_eq!(ann.code().await, Some(CloseCode::UNSUPPORTED_DATA.get()));
    assert_eq!(rooms.hub().rooms(), []);
}

#[tokio::test(start_paused = true)]
async fn objects_that_are_no_requests_are_answered() {
    let all = r#"{"join":"a","leave":"a","send":"a","data":1,"ping":true,"id":5}"#;
    let without_room = [
        "{}",
        r#"{"id":5}"#,
        r#"{"hello":1,"id":5}"#,
        r#"{"join":null,"id":5}"#,
        r#"{"join":5,"id":5}"#,
        r#"{"join":["a"],"id":5}"#,
        r#"{"join":{"a":1},"id":5}"#,
        r#"{"join":"\ud800","id":5}"#,
        r#"{"JOIN":"a","id":5}"#,
        r#"{"join":"a","join":"b","id":5}"#,
        r#"{"join":"a","silent":false,"silent":true,"id":5}"#,
        r#"{"ping":1,"id":5}"#,
        r#"{"ping":false,"id":5}"#,
        all,
    ];
    let with_room = [
        r#"{"join":"a","silent":"yes","id":5}"#,
        r#"{"join":"a","last":-1,"id":5}"#,
        r#"{"join":"a","last":1.5,"id":5}"#,
        r#"{"join":"a","last":99999999999999999999999,"id":5}"#,
        r#"{"join":"a","after":5,"id":5}"#,
        r#"{"send":"a","id":5}"#,
        r#"{"send":"a","data":1,"others":0,"id":5}"#,
        r#"{"send":"a","data":1,"fleeting":{},"id":5}"#,
        r#"{"send":"a","data":1,"latest":7,"id":5}"#,
    ];
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    for text in without_room {
        ann.say_text(text).await;
        let mut error = json!({ "error": "bad_request" });
        if text.contains("\"id\"") {
            error["id"] = 5.into();
        }
        assert_eq!(ann.next().await, error, "{text}");
    }
    for text in with_room {
        ann.say_text(text).await;
        let error = json!({ "room": "a", "id": 5, "error": "bad_request" });
        assert_eq!(ann.next().await, error, "{text}");
    }
    assert_eq!(rooms.hub().rooms(), []);
    assert_eq!(rooms.hub().counts().sent, 0);
    ann.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn an_id_is_a_whole_number_that_javascript_has() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    for id in ["0", "1", "9007199254740991"] {
        ann.say_text(format!(r#"{{"ping":true,"id":{id}}}"#)).await;
        let heard = ann.next().await;
        assert_eq!(heard["id"].to_string(), id);
        assert_eq!(heard["pong"], true);
    }
    for id in [
        "9007199254740992",
        "18446744073709551616",
        "-1",
        "1.5",
        "1e3",
        "\"1\"",
        "[]",
        "true",
    ] {
        for (request, error) in [
            ("\"ping\":true", json!({ "error": "bad_request" })),
            (
                "\"join\":\"a\"",
                json!({ "room": "a", "error": "bad_request" }),
            ),
        ] {
            ann.say_text(format!("{{{request},\"id\":{id}}}")).await;
            assert_eq!(ann.next().await, error, "{id}");
        }
    }
    assert_eq!(rooms.hub().rooms(), []);
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_and_nulls_are_ignored() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let join = json!({
        "join": "a", "id": 1, "colour": { "red": [1, 2] }, "after": null, "last": null, "silent": null,
        "leave": null, "data": { "deep": [] },
    });
    assert_eq!(ann.ask(join).await["welcome"]["recovery"], "fresh");
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    ann.say_text(format!(r#"{{"leave":"a","x":{deep},"id":2}}"#))
        .await;
    let left = json!({ "room": "a", "id": 2, "left_room": "left" });
    assert_eq!(ann.next().await, left);
}

#[tokio::test(start_paused = true)]
async fn names_of_rooms_have_1_to_200_bytes_of_any_text() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let long = "ü".repeat(100);
    for name in ["a", " ", "\0", "\u{202e}\"\\\n", "日本", long.as_str()] {
        assert!(ann.join(name).await["me"].is_string());
        assert_eq!(rooms.hub().room(name).len_here(), 1);
    }
    // A wrong name is not repeated: it may be long.
    let huge = "x".repeat(500_000);
    let too_long = format!("{long}x");
    for name in ["", &too_long, &huge] {
        for verb in ["join", "leave", "send"] {
            let request = json!({ verb: name, "data": 1, "id": 2 });
            let error = json!({ "id": 2, "error": "name" });
            assert_eq!(ann.ask(request).await, error);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn data_cannot_forge_what_the_server_says() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    let mut bob = Peer::connect(&rooms, "bob").await;
    let me = ann.join("lobby").await["me"].take();
    bob.join("lobby").await;
    let forged = "\"},\"gap\":{\"lost\":1}";
    let data = json!({ "by": "1", "room": "other", "gap": { "lost": 9 }, "text": forged });
    let forgery = json!({
        "send": "lobby", "data": data, "by": "1", "key": "root", "room": "x", "gap": 1, "at": "1-1-1", "others": true,
    });
    ann.say(forgery).await;
    let heard = bob.next().await;
    assert_eq!(
        heard,
        json!({ "room": "lobby", "by": me, "key": "ann", "data": data })
    );
    // The guide allows 124 levels.
    for (depth, is_sent) in [(124, true), (125, false), (100_000, false)] {
        let data = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        ann.say_text(format!(
            r#"{{"send":"lobby","data":{data},"others":true,"id":1}}"#
        ))
        .await;
        let heard = ann.next().await;
        match is_sent {
            true => assert_eq!(heard["sent"]["members"], 1, "{heard}"),
            false => assert_eq!(heard["error"], "bad_request", "{depth}: {heard}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_of_latest_have_at_most_200_bytes() {
    let mut ann = Peer::connect(&plain(), "ann").await;
    ann.join("lobby").await;
    for (len, field) in [(200, "sent"), (201, "error")] {
        let key = "k".repeat(len);
        let send = json!({ "send": "lobby", "data": 1, "latest": key, "others": true, "id": 1 });
        assert!(ann.ask(send).await.get(field).is_some(), "{len}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_no_answers_is_not_read_any_more() {
    let rooms = plain();
    let mut ann = Peer::connect(&rooms, "ann").await;
    ann.join("lobby").await;
    ann.client.wire().pause_reading();
    let mut sent = 0_u32;
    let ping = json!({ "ping": true, "id": 1 }).to_string();
    while let Ok(result) =
        tokio::time::timeout(std::time::Duration::from_secs(1), ann.client.send(&*ping)).await
    {
        result.unwrap();
        sent += 1;
        assert!(sent < 1_000_000, "the server holds the answers");
    }
    ann.client.wire().resume_reading();
    for _ in 0..sent {
        assert_eq!(ann.next().await["pong"], true);
    }
}
