//! Tests of a chat with rooms, as an application writes them: several clients of one hub, faults, and lists of members.

use axum::Router;
use futures_util::StreamExt;
use tokio::time::{Instant, sleep};
use tower_websocket::{
    BoxError, WebSocket, WebSocketLayer,
    hub::{Event, Hub, HubConfig, LeaveReason, Overflow, RoomConfig},
    testing::{Client, connect},
    with_state,
};

use super::{
    SECOND,
    client::{code, text},
};

/// The handler under test. The first message is the name of the guest.
async fn chat(mut socket: WebSocket, hub: Hub<String>) -> Result<(), BoxError> {
    let Some(name) = socket.recv().await? else {
        return Ok(());
    };
    let name = name.into_text()?.to_string();
    let join = hub.room("tea").join(&socket, name.clone());
    let tea = join.key(name.as_str()).await?;
    while let Some(message) = socket.recv().await? {
        tea.send(format!("{name}: {}", message.into_text()?))?;
    }
    Ok(())
}

fn app(hub: &Hub<String>) -> Router {
    let layer = WebSocketLayer::new(with_state(hub.clone(), chat));
    Router::new().route_service("/chat", layer.into_service())
}

fn hub(overflow: Overflow) -> Hub<String> {
    Hub::with(HubConfig::new().rooms(move |_| RoomConfig::new().overflow(overflow)))
}

/// Connects a guest, and waits until the guest is in the room.
async fn enter(hub: &Hub<String>, name: &str) -> Client {
    let mut client = connect(app(hub), "/chat").await.unwrap();
    client.send(name).await.unwrap();
    settle().await;
    client
}

/// Lets all tasks finish what they do. The clock is paused, so the time passes when all of them wait.
async fn settle() {
    sleep(SECOND / 1000).await;
}

/// Returns the sorted names of the members.
fn guests(hub: &Hub<String>) -> Vec<String> {
    let members = hub.room("tea").members_here();
    let mut names: Vec<_> = members.iter().map(|guest| guest.value().clone()).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn three_guests_get_each_others_lines_in_one_order() {
    let hub = Hub::new();
    let mut guests = Vec::new();
    for name in ["Ada", "Grace", "Mary"] {
        guests.push(enter(&hub, name).await);
    }
    guests[0].send("hello").await.unwrap();
    guests[2].send("good morning").await.unwrap();
    for guest in &mut guests {
        let mut lines = [text(guest).await, text(guest).await];
        lines.sort();
        assert_eq!(lines, ["Ada: hello", "Mary: good morning"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_who_reads_nothing_is_sent_away_and_the_others_miss_nothing() {
    let hub = Hub::new();
    let mut ada = enter(&hub, "Ada").await;
    let mut grace = enter(&hub, "Grace").await;
    let mut slow = enter(&hub, "slow").await;
    slow.wire().pause_reading();
    let start = Instant::now();
    let mut lines = 0;
    while hub.counts().disconnected == 0 {
        hub.room("tea").send(format!("{lines:01000}")).unwrap();
        for guest in [&mut ada, &mut grace] {
            assert_eq!(text(guest).await, format!("{lines:01000}"));
        }
        lines += 1;
    }
    // The connection, its outbox and the backlog of the room hold some. No time has passed.
    assert!((1024..1300).contains(&lines), "{lines}");
    assert_eq!(start.elapsed().as_secs(), 0);
    assert_eq!(guests(&hub), ["Ada", "Grace"]);
    slow.wire().resume_reading();
    assert_eq!(code(&mut slow).await, Some(1013));
}

#[tokio::test(start_paused = true)]
async fn a_slow_guest_of_a_log_gets_the_newest_lines() {
    let hub = hub(Overflow::DropOldest);
    let mut slow = enter(&hub, "slow").await;
    slow.wire().pause_reading();
    for line in 0..5000 {
        hub.room("tea").send(format!("{line:0100}")).unwrap();
        settle().await;
    }
    slow.wire().resume_reading();
    settle().await;
    let lost = hub.counts().lost;
    assert!((3000..4000).contains(&lost), "{lost}");
    let mut lines = vec![text(&mut slow).await];
    while lines.last() != Some(&format!("{:0100}", 4999)) {
        lines.push(text(&mut slow).await);
    }
    assert_eq!(lines.len() as u64 + lost, 5000);
    assert!(lines.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn a_guest_whose_connection_breaks_has_left_at_once() {
    let hub = Hub::new();
    let ada = enter(&hub, "Ada").await;
    let _grace = enter(&hub, "Grace").await;
    let mut watch = hub.room("tea").watch().unwrap();
    assert!(matches!(watch.next().await, Some(Event::Snapshot(all)) if all.len() == 2));
    let start = Instant::now();
    ada.wire().cut();
    let Some(Event::Left { presence, reason }) = watch.next().await else {
        panic!("nobody has left");
    };
    assert_eq!(presence.value(), "Ada");
    assert_eq!(reason, LeaveReason::Closed);
    assert_eq!(start.elapsed().as_secs(), 0);
    assert_eq!(guests(&hub), ["Grace"]);
}

#[tokio::test(start_paused = true)]
async fn a_guest_who_vanishes_has_left_within_a_minute() {
    let hub = Hub::new();
    let _ada = enter(&hub, "Ada").await;
    let grace = enter(&hub, "Grace").await;
    // No network: nothing is read, and no ping is answered.
    grace.wire().pause_reading();
    sleep(20 * SECOND).await;
    assert_eq!(guests(&hub), ["Ada", "Grace"]);
    sleep(40 * SECOND).await;
    assert_eq!(guests(&hub), ["Ada"]);
}

#[tokio::test(start_paused = true)]
async fn the_second_tab_of_a_guest_is_the_same_guest() {
    let hub = Hub::new();
    let mut first = enter(&hub, "Ada").await;
    let mut second = enter(&hub, "Ada").await;
    assert_eq!(guests(&hub), ["Ada"]);
    first.send("hello").await.unwrap();
    assert_eq!(text(&mut second).await, "Ada: hello");
    drop(second);
    settle().await;
    assert_eq!(guests(&hub), ["Ada"]);
    assert_eq!(text(&mut first).await, "Ada: hello");
    drop(first);
    settle().await;
    assert_eq!(hub.rooms(), []);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_sends_to_a_room_needs_no_handler() {
    let hub: Hub = Hub::new();
    let (socket, mut client) = WebSocket::pair();
    let member = hub.room("prices").join(&socket, ()).await.unwrap();
    assert_eq!(member.send("12.5").unwrap().members_here, 1);
    assert_eq!(text(&mut client).await, "12.5");
    member.leave();
    assert_eq!(hub.room("prices").send("13").unwrap().members_here, 0);
}
