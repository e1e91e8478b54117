//! The log lines about slow members: at most one a second and room, with the messages lost since the last line.

#![cfg(all(feature = "hub", feature = "tracing"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    formats::{listen, parsed},
    pipe, settle,
};
use tokio::{io::DuplexStream, task::yield_now, time::sleep};
use tower_websocket::{
    CloseCode, Config, WebSocket,
    hub::{Hub, HubConfig, Membership, Overflow, Room, RoomConfig},
};

/// The share of rooms in an outbox.
const SHARE: u64 = 64;

fn hub(overflow: Overflow, backlog: usize) -> Hub {
    let room = move |_: &str| {
        RoomConfig::new()
            .overflow(overflow)
            .max_backlog(backlog, 1024 * 1024)
    };
    Hub::with(HubConfig::new().rooms(room))
}

/// A member that reads nothing.
async fn join(room: &Room) -> (Membership, WebSocket, DuplexStream) {
    let (socket, stream) = pipe::socket(Config::new().without_keepalive(), 1);
    (room.join(&socket, ()).await.unwrap(), socket, stream)
}

async fn send(room: &Room, messages: u64) {
    for _ in 0..messages {
        room.send("a secret").unwrap();
        yield_now().await;
    }
    settle().await;
}

/// Returns the fields of the lines about a room.
fn fields(room: &str) -> Vec<Value> {
    let lines = parsed("members of a room are too slow").into_iter();
    let lines = lines.map(|mut line| {
        assert_eq!(line["level"], "DEBUG");
        assert!(
            line["target"]
                .as_str()
                .unwrap()
                .starts_with("tower_websocket")
        );
        assert!(!line.to_string().contains("secret"), "{line}");
        line["fields"].take()
    });
    lines.filter(|fields| fields["room"] == room).collect()
}

fn line(room: &str, policy: &str, lost: u64, disconnected: u64) -> Value {
    json!({
        "message": "members of a room are too slow",
        "room": room, "policy": policy, "lost": lost, "disconnected": disconnected,
    })
}

#[tokio::test(start_paused = true)]
async fn lost_messages_are_logged_once_a_second_and_room() {
    listen();
    let hub = hub(Overflow::DropNewest, 10);
    let (first, second) = (hub.room("one\n"), hub.room("two"));
    let one = join(&first).await;
    let two = join(&second).await;
    send(&first, SHARE).await;
    assert_eq!(parsed("too slow").len(), 0);
    send(&first, 5).await;
    send(&second, SHARE + 1).await;
    let expected = line("one\\n", "drop_newest", 1, 0);
    assert_eq!(fields("one\\n"), std::slice::from_ref(&expected));
    assert_eq!(fields("two"), [line("two", "drop_newest", 1, 0)]);
    sleep(Duration::from_millis(999)).await;
    send(&first, 2).await;
    assert_eq!(fields("one\\n"), std::slice::from_ref(&expected));
    sleep(Duration::from_millis(1)).await;
    send(&first, 3).await;
    // Losses between two lines are in the next line, or in the last one of the room.
    let next = line("one\\n", "drop_newest", 7, 0);
    assert_eq!(fields("one\\n"), [expected.clone(), next.clone()]);
    drop((one, two));
    settle().await;
    let last = line("one\\n", "drop_newest", 2, 0);
    assert_eq!(fields("one\\n"), [expected, next, last]);
    assert_eq!(fields("two").len(), 1);
    assert_eq!(hub.counts().lost, 11);
}

#[tokio::test(start_paused = true)]
async fn members_that_are_disconnected_are_logged() {
    listen();
    let hub = hub(Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER), 10);
    let room = hub.room("quick");
    let _members = (join(&room).await, join(&room).await);
    send(&room, SHARE + 11).await;
    let lines = fields("quick");
    let sum = |name: &str| lines.iter().map(|line| line[name].as_u64().unwrap()).sum();
    assert_eq!((sum("lost"), sum("disconnected")), (2, 2), "{lines:?}");
    assert_eq!(lines.len(), 2, "one of each, because the room has ended");
    assert_eq!(lines[0]["policy"], "disconnect");
    assert_eq!(hub.rooms(), []);
}
