//! Rooms that many threads use at once: members get all messages of their membership, once and in order.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use futures_util::StreamExt;
use support::{pipe, schedule::Random, wire::read_frame};
use tokio::{
    task::{JoinHandle, yield_now},
    time::{sleep, timeout},
};
use tower_websocket::{
    Config,
    hub::{Event, Hub, HubConfig, MemberId, Overflow, Room, RoomConfig},
};

const PUBLISHERS: usize = 4;
const MESSAGES: usize = 1500;
const LAST: &str = "the last message";

/// The progress of a publisher: how many numbers it has begun to send, and how many it has sent.
#[derive(Debug, Default)]
struct Progress {
    begun: AtomicUsize,
    sent: AtomicUsize,
}

type All = Arc<[Progress; PUBLISHERS]>;

fn publish(all: &All, publisher: usize, room: &Room, number: usize) {
    all[publisher].begun.store(number + 1, SeqCst);
    room.send(format!("{publisher} {number}")).unwrap();
    all[publisher].sent.store(number + 1, SeqCst);
}

/// Reads all messages up to [`LAST`], or until the stream ends: for each publisher its numbers.
fn read(mut stream: tokio::io::DuplexStream) -> JoinHandle<[Vec<usize>; PUBLISHERS]> {
    tokio::spawn(async move {
        let mut all: [Vec<usize>; PUBLISHERS] = Default::default();
        while let Some(frame) = read_frame(&mut stream).await {
            if frame.first & 0xf != 1 {
                break;
            }
            let text = String::from_utf8(frame.payload).unwrap();
            if text == LAST {
                break;
            }
            let (publisher, number) = text.split_once(' ').unwrap();
            all[publisher.parse::<usize>().unwrap()].push(number.parse().unwrap());
        }
        all
    })
}

/// Joins the room, stays for some turns and leaves. Checks the received messages, and returns the member's id.
async fn stay(room: &Room, all: &All, turns: usize, ends: usize) -> MemberId {
    let (socket, stream) = pipe::socket(Config::new().without_keepalive(), 1024);
    let reader = read(stream);
    let sent_before = all.each_ref().map(|progress| progress.sent.load(SeqCst));
    let member = room.join(&socket, ()).await.unwrap();
    let begun_after_join = all.each_ref().map(|progress| progress.begun.load(SeqCst));
    let id = member.id();
    for turn in 0..turns {
        if turn % 3 == 0 {
            member.set(());
        }
        yield_now().await;
    }
    assert_eq!(member.lag().lost, 0);
    match ends {
        0 => member.leave(),
        1 => assert!(room.remove(id)),
        _ => drop(member),
    }
    assert!(!room.remove(id));
    let begun = all.each_ref().map(|progress| progress.begun.load(SeqCst));
    socket
        .sender()
        .close(tower_websocket::CloseCode::NORMAL, "")
        .unwrap();
    drop(socket);
    let got = timeout(Duration::from_secs(30), reader)
        .await
        .unwrap()
        .unwrap();
    for publisher in 0..PUBLISHERS {
        let got = &got[publisher];
        let (Some(first), Some(last)) = (got.first(), got.last()) else {
            continue;
        };
        assert!(*first >= sent_before[publisher], "sent before the join");
        assert!(
            *first <= begun_after_join[publisher],
            "the first ones are missing"
        );
        assert!(*last < begun[publisher], "sent after the leave");
        let expected: Vec<_> = (*first..=*last).collect();
        assert_eq!(*got, expected, "publisher {publisher}");
    }
    id
}

fn hub() -> Hub {
    Hub::with(HubConfig::new().rooms(|_| {
        RoomConfig::new()
            .overflow(Overflow::DropOldest)
            .max_backlog(1_000_000, 1 << 30)
    }))
}

/// Publishes from tasks and from a thread without a runtime.
fn publishers(all: &All, room: &Room) -> (Vec<JoinHandle<()>>, thread::JoinHandle<()>) {
    let tasks = (1..PUBLISHERS).map(|publisher| {
        let (all, room) = (Arc::clone(all), room.clone());
        tokio::spawn(async move {
            for number in 0..MESSAGES {
                publish(&all, publisher, &room, number);
                if number % (publisher * 5) == 0 {
                    yield_now().await;
                }
            }
        })
    });
    let tasks = tasks.collect();
    let (all, room) = (Arc::clone(all), room.clone());
    let thread = thread::spawn(move || {
        for number in 0..MESSAGES {
            publish(&all, 0, &room, number);
            if number % 20 == 0 {
                thread::sleep(Duration::from_micros(100));
            }
        }
    });
    (tasks, thread)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_of_several_chunks_come_and_go_while_many_threads_publish() {
    let hub = hub();
    let room = hub.room("a");
    let all = All::default();
    let mut base = Vec::new();
    for _ in 0..200 {
        let (socket, stream) = pipe::socket(Config::new().without_keepalive(), 64 * 1024);
        let member = room.join(&socket, ()).await.unwrap();
        base.push((member, socket, read(stream)));
    }
    // The chunks have holes, which others take.
    for at in (0..150).rev().filter(|at| at % 2 == 0) {
        drop(base.swap_remove(at));
    }
    let (tasks, thread) = publishers(&all, &room);
    let ids = Arc::new(Mutex::new(HashSet::new()));
    let mut comers = Vec::new();
    for seed in 0..8 {
        let (room, all, ids) = (room.clone(), Arc::clone(&all), Arc::clone(&ids));
        comers.push(tokio::spawn(async move {
            let mut random = Random::new(seed);
            for _ in 0..100 {
                let id = stay(&room, &all, random.below(100), random.below(3)).await;
                assert!(ids.lock().unwrap().insert(id), "an id was used again");
            }
        }));
    }
    for task in tasks.into_iter().chain(comers) {
        task.await.unwrap();
    }
    thread.join().unwrap();
    assert_eq!(room.len_here(), base.len());
    // It comes after all others, and ends the readers.
    room.send(LAST).unwrap();
    for (member, _socket, reader) in base {
        let got = timeout(Duration::from_secs(30), reader).await;
        assert_eq!(member.lag().lost, 0);
        for numbers in got.unwrap().unwrap() {
            assert!(numbers.iter().copied().eq(0..MESSAGES));
        }
        drop(member);
    }
    // The counts follow the delivery.
    let counted = async {
        while hub.counts().waiting > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(30), counted).await.unwrap();
    let counts = hub.counts();
    assert_eq!((counts.rooms, counts.members, counts.behind), (0, 0, 0));
    assert_eq!(
        (counts.waiting, counts.backlog_bytes, counts.lost),
        (0, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_room_that_ends_and_begins_again_under_its_publishers_keeps_its_order() {
    let hub = hub();
    let room = hub.room("a");
    let all = All::default();
    let (tasks, thread) = publishers(&all, &room);
    let is_over = Arc::new(AtomicBool::new(false));
    let (watching, over) = (room.clone(), Arc::clone(&is_over));
    // Watches begin and end. Each event fits the members that the watch has named.
    let watcher = tokio::spawn(async move {
        while !over.load(SeqCst) {
            let mut watch = watching.watch().unwrap();
            let mut here = HashSet::new();
            for _ in 0..20 {
                match timeout(Duration::from_millis(1), watch.next()).await {
                    Ok(Some(Event::Snapshot(roster))) => {
                        here = roster.iter().map(|member| member.id()).collect();
                    }
                    Ok(Some(Event::Joined(member))) => assert!(here.insert(member.id())),
                    Ok(Some(Event::Updated(member))) => assert!(here.contains(&member.id())),
                    Ok(Some(Event::Left { presence, .. })) => {
                        assert!(here.remove(&presence.id()));
                    }
                    _ => {}
                }
            }
            drop(watch);
            yield_now().await;
        }
    });
    let mut comers = Vec::new();
    for seed in 0..2 {
        let (room, all) = (room.clone(), Arc::clone(&all));
        comers.push(tokio::spawn(async move {
            let mut random = Random::new(seed);
            for _ in 0..400 {
                stay(&room, &all, random.below(20), random.below(3)).await;
            }
        }));
    }
    for task in tasks.into_iter().chain(comers) {
        task.await.unwrap();
    }
    thread.join().unwrap();
    is_over.store(true, SeqCst);
    watcher.await.unwrap();
    assert_eq!(hub.rooms(), []);
    let counts = hub.counts();
    assert_eq!(
        (counts.waiting, counts.backlog_bytes, counts.lost),
        (0, 0, 0)
    );
}
