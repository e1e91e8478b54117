//! Rooms survive the user's code: values and payloads that panic or call the hub, and runtimes that end.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use futures_util::FutureExt;
use support::{
    pipe, settle,
    wire::{FIN, TEXT, read_frame},
    within,
};
use tokio::{
    io::DuplexStream,
    runtime::{self, Runtime},
};
use tower_websocket::{
    Config, WebSocket,
    hub::{Hub, HubConfig, Json, Membership, Overflow, Room, RoomConfig},
};

fn socket(capacity: usize) -> (WebSocket, DuplexStream) {
    pipe::socket(Config::new().without_keepalive(), capacity)
}

async fn text(client: &mut DuplexStream) -> String {
    let frame = within(read_frame(client)).await.unwrap();
    assert_eq!(frame.first, FIN | TEXT);
    String::from_utf8(frame.payload).unwrap()
}

/// Runs code when it is dropped.
struct OnDrop(Option<Box<dyn FnOnce() + Send + Sync>>);

impl OnDrop {
    fn new(code: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(code)))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(code) = self.0.take() {
            code();
        }
    }
}

impl AsRef<[u8]> for OnDrop {
    fn as_ref(&self) -> &[u8] {
        b"payload"
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_panics_when_it_is_dropped_leaves_no_ghost() {
    let hub: Hub<OnDrop> = Hub::new();
    let (own, client) = socket(4096);
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        let value = OnDrop::new(|| panic!("as the test wants"));
        members.push(hub.room(name).join(&own, value).await.unwrap());
    }
    let (other, _client) = socket(4096);
    let value = OnDrop::new(|| ());
    let _stays = hub.room("b").join(&other, value).await.unwrap();
    drop(client);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let rooms: Vec<_> = hub.rooms();
    assert_eq!(rooms.len(), 1, "{rooms:?}");
    assert_eq!((&*rooms[0].name, rooms[0].members), ("b", 1));
    drop(members);
    // The end of the connection is known to its holder.
    let mut own = own;
    assert!(within(own.recv()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_room_ends_although_the_value_of_its_last_member_panics() {
    let hub: Hub<OnDrop> = Hub::with(HubConfig::new().max_rooms(1));
    for name in ["a", "b"] {
        let (own, _client) = socket(4096);
        let value = OnDrop::new(|| panic!("as the test wants"));
        let member = hub.room(name).join(&own, value).await.unwrap();
        member.leave();
        assert_eq!(hub.rooms(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn payloads_that_panic_when_they_are_dropped_hurt_nobody() {
    let config = HubConfig::new().rooms(|_| {
        RoomConfig::new()
            .overflow(Overflow::DropOldest)
            .max_backlog(3, 1024)
    });
    let hub: Hub = Hub::with(config);
    let room = hub.room("a");
    let (slow, _slow_client) = socket(1);
    let _slow = room.join(&slow, ()).await.unwrap();
    let (fast, mut client) = socket(64 * 1024);
    let _fast = room.join(&fast, ()).await.unwrap();
    for number in 0..200 {
        let payload = OnDrop::new(|| panic!("as the test wants"));
        room.send(bytes::Bytes::from_owner(payload)).unwrap();
        room.send(number.to_string()).unwrap();
        if number % 3 == 0 {
            settle().await;
        }
    }
    settle().await;
    for number in 0..200 {
        let frame = within(read_frame(&mut client)).await.unwrap();
        assert_eq!(frame.payload, b"payload");
        assert_eq!(text(&mut client).await, number.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn values_and_payloads_may_use_the_hub_when_they_are_dropped() {
    let hub: Hub<OnDrop> = Hub::with(HubConfig::new().rooms(|_| {
        RoomConfig::new()
            .overflow(Overflow::DropOldest)
            .max_backlog(3, 1024)
            .envelope(Json::without_values())
    }));
    let room = hub.room("a");
    let (own, client) = socket(1);
    let calls = |room: Room<OnDrop>| {
        move || {
            room.send("1").unwrap();
            drop(room.members_here());
            assert!(room.counts().members <= 2);
            room.watch().unwrap().next_event();
        }
    };
    let member = room
        .join(&own, OnDrop::new(calls(room.clone())))
        .await
        .unwrap();
    let id = member.id();
    let held = Arc::new(Mutex::new(None));
    let (other, _client) = socket(4096);
    *held.lock().unwrap() = Some(room.join(&other, OnDrop::new(|| ())).await.unwrap());
    let leaving = held.clone();
    member.set(OnDrop::new(move || drop(leaving.lock().unwrap().take())));
    for _ in 0..200 {
        let payload = OnDrop::new(calls(room.clone()));
        room.send(bytes::Bytes::from_owner(payload)).unwrap();
        settle().await;
    }
    room.remove(id);
    settle().await;
    assert!(held.lock().unwrap().is_none());
    assert_eq!(room.len_here(), 0);
    drop(client);
}

trait NextEvent {
    fn next_event(self);
}

impl<T: Send + Sync + 'static> NextEvent for tower_websocket::hub::Watch<T> {
    fn next_event(mut self) {
        let event = futures_util::StreamExt::next(&mut self).now_or_never();
        assert!(event.flatten().is_some());
    }
}

/// A value that sends to its room when it is written for the first time.
#[derive(Default)]
struct Sends {
    room: Mutex<Option<Room<Arc<Self>>>>,
    has_sent: AtomicBool,
}

#[test]
fn a_value_may_be_written_by_code_that_sends_to_its_room() {
    let (done, is_done) = mpsc::channel();
    // In a thread of its own, because a deadlock would stop the test.
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let hub: Hub<Arc<Sends>> = Hub::with(HubConfig::new().rooms(|_| {
                let write = |value: &Arc<Sends>| {
                    let room = value.room.lock().unwrap().clone();
                    if let (Some(room), false) = (room, value.has_sent.swap(true, SeqCst)) {
                        for number in 0..20 {
                            room.send(number.to_string()).unwrap();
                        }
                    }
                    "1".to_owned()
                };
                RoomConfig::new()
                    .max_backlog(10, 1024 * 1024)
                    .envelope(Json::new(write))
            }));
            let room = hub.room("a");
            let value = Arc::new(Sends::default());
            *value.room.lock().unwrap() = Some(room.clone());
            let (own, mut client) = socket(64 * 1024);
            let member = room.join(&own, value.clone()).await.unwrap();
            assert!(text(&mut client).await.contains("members"));
            for number in 0..20 {
                let expected = format!(r#"{{"room":"a","data":{number}}}"#);
                assert_eq!(text(&mut client).await, expected);
            }
            value.room.lock().unwrap().take();
            drop(member);
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(10)).unwrap();
}

fn current_thread() -> Runtime {
    runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

async fn join(room: &Room, capacity: usize) -> (Membership, WebSocket, DuplexStream) {
    let (socket, client) = socket(capacity);
    let member = room.join(&socket, ()).await.unwrap();
    (member, socket, client)
}

#[test]
fn a_room_outlives_the_runtime_of_its_first_member() {
    for has_json in [false, true] {
        let hub: Hub = Hub::with(HubConfig::new().rooms(move |_| {
            let config = RoomConfig::new().presence_interval(Duration::from_millis(20));
            match has_json {
                true => config.envelope(Json::without_values()),
                false => config,
            }
        }));
        let room = hub.room("a");
        let (first, second) = (current_thread(), current_thread());
        let kept = first.block_on(join(&room, 4096));
        let (member, _socket, mut client) = second.block_on(join(&room, 64 * 1024));
        // Its task does not run before the end of its runtime.
        room.send("1").unwrap();
        drop(first);
        assert_eq!(room.len_here(), 1);
        drop(kept);
        room.send("2").unwrap();
        second.block_on(async {
            for _ in 0..100 {
                room.send("3").unwrap();
            }
            let mut texts = Vec::new();
            while texts.len() < 102 {
                let text = text(&mut client).await;
                if !text.contains("members") && !text.contains("left") {
                    texts.push(text);
                }
            }
            for (at, text) in texts.iter().enumerate() {
                let number = (at + 1).min(3).to_string();
                assert!(text.contains(&number), "{at}: {text}");
            }
            if has_json {
                let (other, _other, _client) = join(&room, 4096).await;
                let joined = text(&mut client).await;
                assert!(joined.contains("joined"), "{joined}");
                drop(other);
                assert!(text(&mut client).await.contains("left"));
            }
        });
        drop(member);
        assert_eq!(hub.rooms(), []);
        assert_eq!(hub.counts().backlog_bytes, 0);
    }
}

#[test]
fn a_join_outside_of_a_runtime_panics_and_joins_nothing() {
    let hub: Hub = Hub::new();
    let runtime = current_thread();
    let (own, _client) = runtime.block_on(async { socket(4096) });
    let room = hub.room("a");
    let joined = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(std::future::IntoFuture::into_future(room.join(&own, ())).now_or_never());
    }));
    assert!(joined.is_err());
    assert_eq!((hub.rooms().len(), hub.counts().joined), (0, 0));
    // The connection has lost no place.
    let member = runtime
        .block_on(async { room.join(&own, ()).await })
        .unwrap();
    // Leaving and sending need no runtime.
    assert_eq!(room.send("x").unwrap().members_here, 1);
    drop(member);
    assert_eq!(hub.rooms(), []);
}

#[tokio::test(start_paused = true)]
async fn settings_that_panic_leave_no_room() {
    let fails = Arc::new(AtomicBool::new(true));
    let own = fails.clone();
    let hub: Hub = Hub::with(HubConfig::new().max_rooms(1).rooms(move |_| {
        assert!(!own.load(SeqCst), "as the test wants");
        RoomConfig::new()
    }));
    let room = hub.room("a");
    let (own, _client) = socket(4096);
    let joined = std::panic::AssertUnwindSafe(async { drop(room.join(&own, ()).await) });
    assert!(joined.catch_unwind().await.is_err());
    fails.store(false, SeqCst);
    let _member = hub.room("b").join(&own, ()).await.unwrap();
    assert_eq!(hub.rooms().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hub_may_be_dropped_before_its_members() {
    let hub = Hub::new();
    let (member, _socket, mut client) = join(&hub.room("a"), 4096).await;
    drop(hub);
    member.send("still here").unwrap();
    assert_eq!(text(&mut client).await, "still here");
    assert_eq!(member.room().len_here(), 1);
    let room = member.room();
    drop(member);
    assert_eq!(room.len_here(), 0);
}
