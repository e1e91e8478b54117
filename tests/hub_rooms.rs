//! Rooms: joining, leaving, and sending to all, some or nobody.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use support::{
    pipe, settle,
    wire::{self, FIN, TEXT, frame, read_frame, write},
    within,
};
use tokio::{io::DuplexStream, runtime::Handle, time::sleep};
use tower_websocket::{
    BoxError, CloseCode, Config, WebSocket, WebSocketLayer,
    hub::{
        Event, Hub, HubConfig, Join, JoinError, Membership, Publication, PublishError, RoomConfig,
    },
    with_state,
};

fn socket() -> (WebSocket, DuplexStream) {
    pipe::socket(Config::new().without_keepalive(), 64 * 1024)
}

async fn join(hub: &Hub, room: &str) -> (Membership, WebSocket, DuplexStream) {
    let (socket, client) = socket();
    let member = hub.room(room).join(&socket, ()).await.unwrap();
    (member, socket, client)
}

async fn text(client: &mut DuplexStream) -> String {
    let frame = within(read_frame(client)).await.unwrap();
    assert_eq!(frame.first, FIN | TEXT);
    String::from_utf8(frame.payload).unwrap()
}

/// Asserts that nothing has arrived.
async fn assert_silent(client: &mut DuplexStream) {
    settle().await;
    let read = tokio::time::timeout(Duration::from_millis(1), read_frame(client)).await;
    assert!(
        read.is_err(),
        "{:?}",
        read.unwrap().map(|frame| frame.payload)
    );
}

#[tokio::test(start_paused = true)]
async fn sends_to_all_members_once_and_in_order() {
    let hub = Hub::new();
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(join(&hub, "a").await);
    }
    let (_other, _socket, mut stranger) = join(&hub, "b").await;
    for number in 0..5 {
        let sent = hub.room("a").send(number.to_string()).unwrap();
        assert_eq!(sent.members_here, 3);
    }
    for (_, _, client) in &mut members {
        for number in 0..5 {
            assert_eq!(text(client).await, number.to_string());
        }
        assert_silent(client).await;
    }
    assert_silent(&mut stranger).await;
    assert_eq!(hub.room("nobody").send("x").unwrap().members_here, 0);
    let counts = hub.counts();
    assert_eq!(
        (counts.sent, counts.addressed, counts.delivered),
        (5, 15, 15)
    );
    assert_eq!(
        (counts.rooms, counts.members, counts.backlog_bytes),
        (2, 4, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn send_others_and_except_leave_one_member_out() {
    let hub = Hub::new();
    let (first, _first, mut first_client) = join(&hub, "a").await;
    let (second, _second, mut second_client) = join(&hub, "a").await;
    let (stranger, _stranger, _client) = join(&hub, "b").await;
    assert_eq!(first.send_others("from first").unwrap().members_here, 1);
    let publication = Publication::new("not to second").except(second.id());
    assert_eq!(hub.room("a").publish(publication).unwrap().members_here, 1);
    let publication = Publication::new("to both").except(stranger.id());
    assert_eq!(hub.room("a").publish(publication).unwrap().members_here, 2);
    assert_eq!(first.send("all").unwrap().members_here, 2);
    for expected in ["not to second", "to both", "all"] {
        assert_eq!(text(&mut first_client).await, expected);
    }
    for expected in ["from first", "to both", "all"] {
        assert_eq!(text(&mut second_client).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn every_chunk_of_a_large_room_gets_everything() {
    let hub = Hub::new();
    let mut members = Vec::new();
    for _ in 0..300 {
        members.push(join(&hub, "a").await);
    }
    for number in 0..10 {
        assert_eq!(
            hub.room("a").send(number.to_string()).unwrap().members_here,
            300
        );
    }
    for (_, _, client) in &mut members {
        for number in 0..10 {
            assert_eq!(text(client).await, number.to_string());
        }
    }
    // Places in the middle are used again.
    members.drain(100..200);
    for _ in 0..50 {
        members.push(join(&hub, "a").await);
    }
    assert_eq!(hub.room("a").send("again").unwrap().members_here, 250);
    for (_, _, client) in &mut members {
        assert_eq!(text(client).await, "again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_gets_what_is_sent_between_its_join_and_its_end() {
    let hub = Hub::new();
    let (_stays, _socket, _client) = join(&hub, "a").await;
    let room = hub.room("a");
    room.send("before").unwrap();
    let (member, _socket, mut client) = join(&hub, "a").await;
    room.send("during").unwrap();
    settle().await;
    member.leave();
    room.send("after").unwrap();
    assert_eq!(text(&mut client).await, "during");
    assert_silent(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn who_joins_while_others_publish_gets_a_suffix_without_a_hole() {
    const MESSAGES: usize = 10_000;
    let hub = Hub::new();
    let (_first, _socket, mut first) = join(&hub, "a").await;
    let room = hub.room("a");
    let publisher = tokio::spawn(async move {
        for number in 0..MESSAGES {
            room.send(number.to_string()).unwrap();
            if number % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let reader = tokio::spawn(async move {
        for number in 0..MESSAGES {
            assert_eq!(text(&mut first).await, number.to_string());
        }
    });
    let mut readers = Vec::new();
    for joins in 0..50 {
        for _ in 0..joins % 5 {
            tokio::task::yield_now().await;
        }
        let (member, socket, mut client) = join(&hub, "a").await;
        readers.push(tokio::spawn(async move {
            let first: usize = text(&mut client).await.parse().unwrap();
            for number in first + 1..MESSAGES {
                assert_eq!(text(&mut client).await, number.to_string());
            }
            drop((member, socket));
            first
        }));
    }
    publisher.await.unwrap();
    reader.await.unwrap();
    let mut last = 0;
    for reader in readers {
        last = last.max(reader.await.unwrap());
    }
    assert!(last > 0, "all joined before the first message");
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Return,
    Panic,
    Close,
    Cut,
}

#[derive(Clone)]
struct Ending {
    hub: Hub,
    end: End,
}

async fn member_that_ends(ending: Ending, mut socket: WebSocket) -> Result<(), BoxError> {
    let member = ending.hub.room("a").join(&socket, ()).await?;
    let word = socket.recv().await?;
    match ending.end {
        End::Panic => panic!("as the test wants"),
        End::Return => return Ok(()),
        End::Close | End::Cut => assert!(word.is_none()),
    }
    drop(member);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_room_however_its_last_member_ends() {
    for end in [End::Return, End::Panic, End::Close, End::Cut] {
        let hub = Hub::new();
        let tasks = Handle::current().metrics().num_alive_tasks();
        let ending = Ending {
            hub: hub.clone(),
            end,
        };
        let handler = with_state(ending, async |socket, ending: Ending| {
            member_that_ends(ending, socket).await
        });
        let layer = WebSocketLayer::new(handler);
        let mut client = pipe::open(layer.into_service(), 4096).await;
        settle().await;
        assert_eq!(hub.rooms().len(), 1, "{end:?}");
        hub.room("a").send("hello").unwrap();
        assert_eq!(text(&mut client).await, "hello");
        match end {
            End::Return | End::Panic => write(&mut client, &frame(FIN | TEXT, b"end")).await,
            End::Close => write(&mut client, &wire::close(1000, "")).await,
            End::Cut => {}
        }
        if end != End::Cut {
            within(wire::read_close(&mut client)).await;
        }
        drop(client);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(hub.rooms(), [], "{end:?}");
        let left = Handle::current().metrics().num_alive_tasks();
        assert_eq!(left, tasks, "{end:?}");
        let counts = hub.counts();
        assert_eq!((counts.members, counts.backlog_bytes), (0, 0), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_aborted_leaves_its_room() {
    let hub = Hub::new();
    let (socket, _client) = socket();
    let own = hub.clone();
    let task = tokio::spawn(async move {
        let _member = own.room("a").join(&socket, ()).await.unwrap();
        std::future::pending::<()>().await;
    });
    settle().await;
    assert_eq!(hub.room("a").len_here(), 1);
    task.abort();
    settle().await;
    assert_eq!(hub.rooms(), []);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_outlives_its_connection_is_no_member() {
    let hub = Hub::new();
    let (member, _socket, client) = join(&hub, "a").await;
    let (_watching, _other, _client) = join(&hub, "a").await;
    drop(client);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(hub.room("a").len_here(), 1);
    let roster = hub.room("a").members_here();
    assert!(roster.iter().all(|present| present.id() != member.id()));
    // The guard does nothing more, and cannot harm a later member in the same place.
    let (_later, _socket, mut later) = join(&hub, "a").await;
    assert!(!member.set(()));
    drop(member);
    hub.room("a").send("still here").unwrap();
    assert_eq!(text(&mut later).await, "still here");
}

#[tokio::test(start_paused = true)]
async fn keep_ends_with_the_connection_and_remove_before_it() {
    let hub = Hub::new();
    let (member, kept, client) = join(&hub, "a").await;
    member.keep();
    assert_eq!(hub.room("a").len_here(), 1);
    drop((kept, client));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(hub.room("a").len_here(), 0);

    let (member, socket, mut client) = join(&hub, "a").await;
    assert!(hub.room("a").remove(member.id()));
    assert!(!hub.room("a").remove(member.id()));
    assert_eq!(hub.room("a").send("to nobody").unwrap().members_here, 0);
    socket.sender().try_send("still open").unwrap();
    assert_eq!(text(&mut client).await, "still open");
}

#[tokio::test(start_paused = true)]
async fn limits_are_typed_errors_that_change_nothing() {
    let config = HubConfig::new()
        .max_rooms(2)
        .max_rooms_per_connection(128)
        .rooms(|_| RoomConfig::new().max_members(2));
    let hub: Hub = Hub::with(config);
    let long = "x".repeat(201);
    let (own, _client) = socket();
    for name in ["", &long] {
        let joined = hub.room(name).join(&own, ()).await;
        assert_eq!(joined.err(), Some(JoinError::Name));
        assert_eq!(hub.room(name).send("x"), Err(PublishError::Name));
        assert_eq!(hub.room(name).watch().err(), Some(JoinError::Name));
    }
    let (_first, _socket, mut client) = join(&hub, "a").await;
    let (_second, _other, _client) = join(&hub, "a").await;
    let full = hub.room("a").join(&own, ()).await;
    assert_eq!(full.err(), Some(JoinError::RoomFull));
    let (_third, _socket3, _client3) = join(&hub, "b").await;
    let third = hub.room("c").join(&own, ()).await;
    assert_eq!(third.err(), Some(JoinError::TooManyRooms));
    let sent = hub.room("a").send(vec![0; 256 * 1024 + 1]);
    let (len, max) = (256 * 1024 + 1, 256 * 1024);
    assert_eq!(sent, Err(PublishError::TooLarge { len, max }));
    assert_eq!(hub.counts().refused, 4);
    assert_eq!((hub.counts().members, hub.counts().sent), (3, 0));
    assert_silent(&mut client).await;

    let hub = Hub::new();
    let mut members = Vec::new();
    for number in 0..128 {
        members.push(hub.room(number.to_string()).join(&own, ()).await.unwrap());
    }
    let more = hub.room("one more").join(&own, ()).await;
    assert_eq!(more.err(), Some(JoinError::TooManyMemberships));
    assert_eq!(hub.rooms().len(), 128);
    members.pop();
    let _one = hub.room("one more").join(&own, ()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closing_cannot_join() {
    let hub = Hub::new();
    let (socket, _client) = socket();
    socket.sender().close(CloseCode::NORMAL, "").unwrap();
    let joined = hub.room("a").join(&socket.sender(), ()).await;
    assert_eq!(joined.err(), Some(JoinError::Closed));
    assert_eq!(hub.rooms(), []);
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_not_awaited_joins_nothing() {
    let hub: Hub = Hub::new();
    let (socket, _client) = socket();
    let join: Join = hub.room("a").join(&socket, ());
    drop(join);
    assert_eq!(hub.rooms(), []);
    let mut watch = hub.room("a").watch().unwrap();
    let event = within(watch.next()).await;
    assert!(matches!(event, Some(Event::Snapshot(roster)) if roster.is_empty()));
    // It is watched, but has no member.
    assert_eq!(hub.rooms(), []);
}

/// A payload with a count of its owners.
struct Owned(
    Vec<u8>,
    #[expect(dead_code, reason = "it is counted")] Arc<()>,
);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_payload_is_shared_with_the_outboxes_of_all_members() {
    let hub = Hub::new();
    let mut members = Vec::new();
    for _ in 0..100 {
        // The pipe takes less than the message.
        let (socket, client) = pipe::socket(Config::new(), 16);
        let member = hub.room("a").join(&socket, ()).await.unwrap();
        members.push((member, socket, client));
    }
    let owner = Arc::new(());
    let payload = Bytes::from_owner(Owned(vec![7; 4096], owner.clone()));
    hub.room("a").send(payload).unwrap();
    settle().await;
    // One payload, which is still to be written to everybody.
    assert_eq!(Arc::strong_count(&owner), 2);
    for (_, socket, client) in &mut members {
        assert_eq!(socket.sender().buffered().messages, 1);
        assert_eq!(within(read_frame(client)).await.unwrap().payload, [7; 4096]);
    }
    settle().await;
    assert_eq!(Arc::strong_count(&owner), 1);
}
