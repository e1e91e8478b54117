//! Coming back to a room: exactly the missed messages, or a gap with its reason.

#![cfg(feature = "hub")]

mod support;

use std::time::Duration;

use futures_util::FutureExt;
use support::{
    resume::{Client, hub, join, json, outcome, read, socket},
    settle,
};
use tokio::{
    task::yield_now,
    time::{advance, sleep},
};
use tower_websocket::{
    Message,
    hub::{
        GapReason, History, HistoryError, Hub, HubConfig, JoinError, Json, Position, Publication,
        Recovery, RoomConfig,
    },
};

/// Every place among 200 messages, and every tenth number of messages that a room keeps, through real joins. The unit
/// tests of the history have all numbers.
#[tokio::test(start_paused = true)]
async fn every_place_is_resumed_exactly_or_is_a_gap() {
    for size in (1..=200).step_by(10) {
        let hub = hub(move || json().history(History::new().max_messages(size)));
        let room = hub.room("a");
        let (socket, _stream) = socket();
        let member = room.join(&socket, ()).await.unwrap();
        let mut positions = vec![member.position().unwrap()];
        for number in 1..=200 {
            positions.extend(room.send(number.to_string()).unwrap().position);
        }
        for (offset, position) in positions.iter().enumerate() {
            let join = room.join(&socket, ()).resume(*position, None);
            let mut paused = join.paused().await.unwrap();
            let replay: Vec<_> = paused.replay().collect();
            let is_kept = offset > 200 - size || offset == 200;
            let expected = match is_kept {
                true => Ok(200 - offset),
                false => Err(GapReason::Trimmed),
            };
            assert_eq!(outcome(paused.recovery()), expected, "{size}, {offset}");
            let expected = positions[offset + 1..].iter().filter(|_| is_kept);
            assert!(replay.iter().map(|past| &past.position).eq(expected));
        }
        let counts = hub.counts();
        assert_eq!((counts.waiting, counts.behind, counts.lost), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_phone_in_a_tunnel_gets_exactly_what_it_missed() {
    let hub = hub(|| json().history(History::new()));
    let room = hub.room("a");
    let mut other = join(&room, |join| join).await;
    let mut phone = join(&room, |join| join).await;
    assert_eq!(phone.member.recovery(), Recovery::Fresh);
    assert!(phone.member.position().is_some());
    for number in 0..10 {
        let sent = room.send(number.to_string()).unwrap();
        let (got, at) = phone.message().await;
        assert_eq!((got, Some(at)), (number, sent.position));
        assert_eq!(other.message().await, (number, at));
    }
    room.send("10").unwrap();
    let (_, at) = phone.message().await;
    drop(phone);
    let mut sent = Vec::new();
    for number in 11..20 {
        sent.extend(room.send(number.to_string()).unwrap().position);
    }
    let mut phone = join(&room, |join| join.resume(at.to_string(), None)).await;
    assert_eq!(outcome(phone.member.recovery()), Ok(9));
    assert_eq!(phone.member.position(), sent.last().copied());
    sent.extend(room.send("20").unwrap().position);
    for (number, sent) in (11..).zip(sent) {
        // They carry their positions as they did the first time.
        assert_eq!(phone.message().await, (number, sent));
    }
    other.messages(10..21).await;
    let counts = hub.counts();
    assert_eq!((counts.recovered, counts.not_recovered), (1, 0));
    assert_eq!((counts.lost, counts.waiting, counts.behind), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_position_is_there_before_the_first_message_and_without_members() {
    let hub = hub(|| json().history(History::new()));
    let room = hub.room("a");
    let only = join(&room, |join| join).await;
    let at = only.member.position().unwrap();
    drop(only);
    assert_eq!(room.len_here(), 0);
    for number in 0..3 {
        let sent = room.send(number.to_string()).unwrap();
        assert_eq!(sent.members_here, 0);
        assert!(sent.position.is_some());
    }
    let mut back = join(&room, |join| join.resume(at, None)).await;
    assert_eq!(outcome(back.member.recovery()), Ok(3));
    back.messages(0..3).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_delivered_before_start() {
    let hub = hub(|| json().history(History::new()));
    let room = hub.room("a");
    let first = join(&room, |join| join).await;
    let at = first.member.position().unwrap();
    for number in 0..200 {
        room.send(number.to_string()).unwrap();
    }
    let (socket, mut stream) = socket();
    let (sender, stay) = (socket.sender(), room.clone());
    let mut paused = stay
        .join(&socket, ())
        .with_history(3)
        .paused()
        .await
        .unwrap();
    assert_eq!(paused.recovery(), Recovery::Fresh);
    assert_eq!(paused.members().len(), 2);
    assert_eq!(room.len_here(), 2);
    room.send("200").unwrap();
    settle().await;
    sender.send("welcome").await.unwrap();
    assert_eq!(read(&mut stream).await.payload, b"welcome");
    // Taken out, it is not sent.
    let past: Vec<_> = paused.replay().collect();
    assert_eq!(
        past.iter().map(|past| &past.message).collect::<Vec<_>>(),
        ["197", "198", "199"]
    );
    assert_eq!(past.last().map(|past| past.position), paused.position());
    assert_eq!(paused.replay().len(), 0);
    let member = paused.start();
    let mut client = Client {
        member,
        _socket: socket,
        stream,
    };
    room.send("201").unwrap();
    client.messages(200..202).await;
    assert_eq!(client.member.lag(), Default::default());

    let mut all = join(&room, |join| join.resume(at, None).with_history(5)).await;
    assert_eq!(outcome(all.member.recovery()), Err(GapReason::Trimmed));
    all.messages(197..202).await;
    let counts = hub.counts();
    assert_eq!((counts.lost, counts.waiting, counts.behind), (0, 0, 0));
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn each_gap_has_its_reason() {
    let hub = Hub::with(HubConfig::new().rooms(|name| match name {
        "none" => json(),
        "short" => json().history(History::new().max_messages(2)),
        _ => json().history(History::new().max_messages(1000).max_bytes(1 << 30)),
    }));
    let mut rooms = Vec::new();
    for name in ["a", "b", "short", "none"] {
        let room = hub.room(name);
        let member = join(&room, |join| join).await;
        let mut positions = vec![member.member.position()];
        for number in 0..4 {
            positions.push(room.send(number.to_string()).unwrap().position);
        }
        rooms.push((room, positions, member));
    }
    let at = |room: usize, at: usize| rooms[room].1[at].unwrap().to_string();
    let resume = async |room: usize, at: &str| {
        let client = join(&rooms[room].0, |join| join.resume(at, None)).await;
        outcome(client.member.recovery())
    };
    for offset in 0..5 {
        assert_eq!(resume(0, &at(0, offset)).await, Ok(4 - offset));
        assert_eq!(resume(0, &at(1, offset)).await, Err(GapReason::Epoch));
        let expected = match offset {
            0..=2 => Err(GapReason::Trimmed),
            _ => Ok(4 - offset),
        };
        assert_eq!(resume(2, &at(2, offset)).await, expected);
        assert_eq!(resume(3, &at(0, offset)).await, Err(GapReason::Unknown));
    }
    assert_eq!(rooms[3].1, [None; 5]);
    let last = at(0, 4);
    let [epoch, offset, tag] = last.split('-').collect::<Vec<_>>()[..] else {
        panic!("{last}")
    };
    for (text, expected) in [
        (format!("{epoch}-5-{tag}"), GapReason::Unknown),
        (format!("{epoch}-vvvvvvvvvvvv-{tag}"), GapReason::Unknown),
        (format!("{epoch}-3-{tag}"), GapReason::Diverged),
        (format!("{epoch}-0-{tag}"), GapReason::Diverged),
        (format!("{epoch}-{offset}-1"), GapReason::Diverged),
        (format!("1-{offset}-{tag}"), GapReason::Epoch),
        (format!("{epoch}-{offset}"), GapReason::Unknown),
        (last.to_uppercase(), GapReason::Unknown),
        ("x".repeat(100_000), GapReason::Unknown),
        (String::new(), GapReason::Unknown),
    ] {
        assert_eq!(resume(0, &text).await, Err(expected), "{text:.50}");
    }
    // Cleared.
    rooms[0].0.clear_history().await.unwrap();
    for offset in 0..5 {
        assert_eq!(resume(0, &at(0, offset)).await, Err(GapReason::Epoch));
    }
    // Too much.
    let (room, positions, _) = &rooms[1];
    let top = positions[4].unwrap();
    let mut sent = Vec::new();
    for number in 0..301 {
        sent.extend(room.send(number.to_string()).unwrap().position);
        yield_now().await;
    }
    assert_eq!(resume(1, &top.to_string()).await, Err(GapReason::TooMuch));
    assert_eq!(resume(1, &sent[0].to_string()).await, Ok(300));
    for _ in 0..5 {
        let large = format!("{}1", " ".repeat(250_000));
        room.send(large).unwrap();
    }
    assert_eq!(
        resume(1, &sent[300].to_string()).await,
        Err(GapReason::TooMuch)
    );
    assert_eq!(
        room.history(Some(&Position::from("x")), 1).await,
        Err(HistoryError::Gap {
            reason: GapReason::Unknown
        })
    );
}

#[tokio::test(start_paused = true)]
async fn own_messages_and_those_for_others_are_left_out() {
    let hub = hub(|| json().history(History::new()));
    let room = hub.room("a");
    let ann = join(&room, |join| join.key("ann")).await;
    let bob = join(&room, |join| join.key("bob")).await;
    let at = ann.member.position().unwrap();
    ann.member.send("0").unwrap();
    bob.member.send("1").unwrap();
    ann.member.send_others("2").unwrap();
    bob.member.send_others("3").unwrap();
    let fleeting = Publication::new("4").fleeting();
    assert_eq!(room.publish(fleeting).unwrap().position, None);
    room.send("5").unwrap();
    let resume = async |key: Option<&str>, was| {
        let mut client = join(&room, |join| match key {
            Some(key) => join.key(key).resume(at, was),
            None => join.resume(at, was),
        })
        .await;
        let Recovery::Recovered {
            messages, withheld, ..
        } = client.member.recovery()
        else {
            panic!("{:?}", client.member.recovery());
        };
        let mut got = Vec::new();
        for _ in 0..messages {
            got.push(client.message().await.0);
        }
        (got, withheld)
    };
    // The handler knows who it was.
    assert_eq!(
        resume(None, Some(ann.member.id())).await,
        (vec![1, 3, 5], 0)
    );
    assert_eq!(
        resume(None, Some(bob.member.id())).await,
        (vec![0, 2, 5], 0)
    );
    // In `Json` a message has its sender, so one that left out its sender only is for all.
    for key in [Some("ann"), Some("eve"), None] {
        assert_eq!(resume(key, None).await, (vec![0, 1, 2, 3, 5], 0));
    }
    // The server sees all.
    let past = room.history(Some(&at), 100).await.unwrap();
    let numbers: Vec<_> = past.iter().map(|past| past.message.clone()).collect();
    assert_eq!(numbers, ["0", "1", "2", "3", "5"].map(Message::from));
    assert_eq!(past[2].except, Some(ann.member.id()));
    assert_eq!(past[2].by, Some(ann.member.id()));
    assert_eq!(past[4].by, None);
    let newest = room.history(None, 2).await.unwrap();
    assert_eq!(newest, past[3..]);
    assert_eq!(
        room.history(Some(&past[0].position), 2).await.unwrap(),
        past[1..3]
    );
    // One that left out another member is for those that are known to be others.
    room.publish(Publication::new("6").except(ann.member.id()))
        .unwrap();
    assert_eq!(resume(Some("ann"), None).await, (vec![0, 1, 2, 3, 5], 1));
    assert_eq!(resume(Some("eve"), None).await, (vec![0, 1, 2, 3, 5, 6], 0));
    assert_eq!(resume(None, None).await, (vec![0, 1, 2, 3, 5], 1));
}

#[tokio::test(start_paused = true)]
async fn messages_and_rooms_expire_by_age() {
    let age = Duration::from_secs(60);
    let hub = hub(move || json().history(History::new().max_age(age)));
    let room = hub.room("a");
    let member = join(&room, |join| join).await;
    let start = member.member.position().unwrap();
    let first = room.send("0").unwrap().position.unwrap();
    sleep(age / 2).await;
    room.send("1").unwrap();
    sleep(age / 2 - Duration::from_millis(1)).await;
    let resume = async |at: Position| {
        let client = join(&room, |join| join.resume(at, None)).await;
        outcome(client.member.recovery())
    };
    assert_eq!(resume(first).await, Ok(1));
    advance(Duration::from_millis(1)).await;
    assert_eq!(resume(start).await, Err(GapReason::Trimmed));
    assert_eq!(resume(first).await, Err(GapReason::Trimmed));
    sleep(age).await;
    // The sweeper has removed all.
    assert_eq!(hub.counts().history_bytes, 0);
    let last = room.send("2").unwrap().position.unwrap();
    drop(member);
    sleep(age - Duration::from_secs(1)).await;
    assert_eq!(resume(last).await, Ok(0));
    // That member has left again: the room stays for its age.
    sleep(age - Duration::from_secs(1)).await;
    assert_eq!(hub.counts().history_bytes, 0);
    assert_eq!(resume(last).await, Ok(0));
    sleep(age + Duration::from_secs(2)).await;
    assert_eq!(resume(last).await, Err(GapReason::Epoch));
}

#[tokio::test(start_paused = true)]
async fn rooms_without_members_count_until_they_end() {
    let config = HubConfig::new().max_rooms(2).rooms(|name| match name {
        "c" => RoomConfig::new(),
        _ => RoomConfig::new().history(History::new()),
    });
    let hub: Hub = Hub::with(config);
    drop(join(&hub.room("a"), |join| join).await);
    drop(join(&hub.room("b"), |join| join).await);
    let (socket, _stream) = socket();
    assert!(hub.room("c").join(&socket, ()).await.is_err());
    assert_eq!(hub.rooms(), []);
    sleep(Duration::from_secs(302)).await;
    drop(hub.room("c").join(&socket, ()).await.unwrap());
    // The task has ended, and starts again.
    drop(hub.room("a").join(&socket, ()).await.unwrap());
    assert!(hub.room("a").send("0").unwrap().position.is_some());
    sleep(Duration::from_secs(302)).await;
    assert_eq!(hub.room("a").send("0").unwrap().position, None);
}

#[tokio::test(start_paused = true)]
async fn the_limit_over_all_rooms_is_hard() {
    let config = HubConfig::new().max_history(10_000).rooms(|_| {
        RoomConfig::new()
            .history(History::new())
            .envelope(Json::without_values())
    });
    let hub: Hub = Hub::with(config);
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        members.push(join(&hub.room(name), |join| join).await);
    }
    let at = members[1].member.position().unwrap();
    for number in 0..100 {
        for name in ["a", "b", "c"] {
            hub.room(name).send(number.to_string()).unwrap();
            assert!(hub.counts().history_bytes <= 10_000);
        }
        yield_now().await;
    }
    let counts = hub.counts();
    assert!(counts.history_bytes > 9_000, "{counts:?}");
    assert!(counts.history_refused > 100, "{counts:?}");
    let client = join(&hub.room("b"), |join| join.resume(at, None)).await;
    assert_eq!(outcome(client.member.recovery()), Err(GapReason::Trimmed));
    let history = hub.room("b").history(None, 100).await.unwrap();
    let kept = history.len();
    let numbers = (100 - kept..100).map(|number| Message::from(number.to_string()));
    let messages = history.into_iter().map(|past| past.message);
    assert_eq!(messages.collect::<Vec<_>>(), numbers.collect::<Vec<_>>());
    assert!(kept > 0);
}

#[tokio::test(start_paused = true)]
async fn a_short_message_in_a_history_keeps_no_larger_buffer_alive() {
    let hub = hub(|| RoomConfig::new().history(History::new()));
    let room = hub.room("a");
    drop(join(&room, |join| join).await);
    let buffer = bytes::Bytes::from(vec![b'x'; 1024]);
    let text = tower_websocket::Utf8Bytes::try_from(buffer.slice(0..128)).unwrap();
    room.send(Message::Text(text)).unwrap();
    room.send(Message::Binary(buffer.slice(128..129))).unwrap();
    assert!(buffer.is_unique());
    assert_eq!(room.history(None, 10).await.unwrap().len(), 2);
}

#[test]
fn rooms_that_are_only_kept_end_with_their_runtime() {
    let dropped = std::sync::Arc::new(());
    let hub = {
        let dropped = std::sync::Arc::clone(&dropped);
        HubConfig::new().rooms(move |_| {
            let _own = &dropped;
            json().history(History::new())
        })
    };
    let hub = Hub::with(hub);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = join(&hub.room("a"), |join| join).await;
        client.member.send("0").unwrap();
    });
    assert!(hub.counts().history_bytes > 0);
    drop(runtime);
    assert_eq!(hub.counts().history_bytes, 0);
    drop(hub);
    // Nothing holds the hub any more.
    assert_eq!(std::sync::Arc::strong_count(&dropped), 1);
}

fn paused_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime can be made")
}

#[test]
fn a_join_outside_of_a_runtime_leaves_sweeping_to_the_next_one() {
    let config = HubConfig::new().max_rooms(1);
    let hub: Hub = Hub::with(config.rooms(|_| json().history(History::new())));
    let (first, second) = (paused_runtime(), paused_runtime());
    let one = first.block_on(async { join(&hub.room("a"), |join| join).await });
    let two = second.block_on(async { join(&hub.room("a"), |join| join).await });
    // The task of the first runtime is dropped while the room has a member.
    first.shutdown_background();
    let (socket, _stream) = second.block_on(async { socket() });
    let three = hub.room("a").join(&socket, ()).into_future();
    let three = three.now_or_never().unwrap().unwrap();
    second.block_on(async {
        let four = join(&hub.room("a"), |join| join).await;
        drop((one, two, three, four));
        sleep(Duration::from_secs(602)).await;
        let _member = hub.room("b").join(&socket, ()).await.unwrap();
    });
}

#[test]
fn rooms_are_forgotten_although_the_first_runtime_has_ended() {
    let config = HubConfig::new().max_rooms(1);
    let hub: Hub = Hub::with(config.rooms(|_| json().history(History::new())));
    let (first, second) = (paused_runtime(), paused_runtime());
    let one = first.block_on(async { join(&hub.room("a"), |join| join).await });
    second.block_on(async {
        let two = join(&hub.room("a"), |join| join).await;
        drop(one);
        // The task of the first runtime is dropped while the room has a member.
        first.shutdown_background();
        drop(two);
        sleep(Duration::from_secs(301)).await;
        let (socket, _stream) = socket();
        let refused = hub.room("b").join(&socket, ()).await;
        assert_eq!(refused.err(), Some(JoinError::TooManyRooms));
        sleep(Duration::from_secs(301)).await;
        let _member = hub.room("b").join(&socket, ()).await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn nothing_holds_a_hub_whose_last_room_has_ended() {
    let dropped = std::sync::Arc::new(());
    let own = std::sync::Arc::clone(&dropped);
    let hub = hub(move || {
        let _own = &own;
        json().history(History::new().max_age(Duration::MAX))
    });
    // The first one keeps the task for the second one.
    let first = hub.room("a").watch().unwrap();
    drop(hub.room("b").watch().unwrap());
    settle().await;
    drop(first);
    settle().await;
    // A new task is spawned for a new room.
    drop(hub.room("a").watch().unwrap());
    settle().await;
    drop(hub);
    assert_eq!(std::sync::Arc::strong_count(&dropped), 1);
}

/// 100 members come back while a task publishes as fast as it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_resume_among_live_messages_get_each_once() {
    const MESSAGES: usize = 4000;
    let hub = hub(|| {
        let history = History::new().max_messages(MESSAGES).max_bytes(1 << 30);
        json().history(history)
    });
    let room = hub.room("a");
    let first = join(&room, |join| join).await;
    let start = first.member.position().unwrap();
    // The position of each message, in order. That of the start is in front.
    let sent = std::sync::Arc::new(std::sync::Mutex::new(vec![start]));
    let publishing = {
        let (room, sent) = (room.clone(), std::sync::Arc::clone(&sent));
        tokio::spawn(async move {
            for number in 1..=MESSAGES {
                let position = room.send(number.to_string()).unwrap().position;
                sent.lock().unwrap().extend(position);
                if number % 16 == 0 {
                    yield_now().await;
                }
            }
        })
    };
    let mut members = Vec::new();
    for number in 0..100 {
        let (room, sent) = (room.clone(), std::sync::Arc::clone(&sent));
        members.push(tokio::spawn(async move {
            // Somewhere in the past 300 messages.
            let (offset, at) = {
                let sent = sent.lock().unwrap();
                let offset = sent.len() - 1 - number.min(sent.len() - 1);
                (offset, sent[offset])
            };
            let mut client = join(&room, |join| join.resume(at, None)).await;
            let Recovery::Recovered { messages, .. } = client.member.recovery() else {
                // The task that publishes was faster.
                let recovery = client.member.recovery();
                assert_eq!(outcome(recovery), Err(GapReason::TooMuch));
                return false;
            };
            // The join is between two messages.
            let joined = client.member.position().unwrap();
            for number in offset + 1..=MESSAGES {
                let (got, at) = client.message().await;
                assert_eq!(got, number);
                if number == offset + messages {
                    assert_eq!(at, joined);
                }
            }
            assert_eq!(client.member.lag(), Default::default());
            true
        }));
        if number % 4 == 0 {
            yield_now().await;
        }
    }
    publishing.await.unwrap();
    let mut recovered = 0;
    for member in members {
        recovered += usize::from(member.await.unwrap());
    }
    assert!(recovered >= 50, "{recovered}");
    let counts = hub.counts();
    assert_eq!((counts.lost, counts.gaps_told), (0, 0));
    let positions = sent.lock().unwrap();
    let unique: std::collections::HashSet<_> = positions.iter().collect();
    assert_eq!(unique.len(), MESSAGES + 1);
}
