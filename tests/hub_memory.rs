//! The memory of rooms: for a message, for a member, for members that do not read, and after all have left.
//!
//! The allocator counts for the whole process, and a test harness has a thread of its own: so there is none, and the
//! program is the test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{alloc::System, future::Future, time::Duration};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{memory, pipe, settle};
use tokio::{
    io::{AsyncReadExt, DuplexStream},
    time::{Instant, sleep_until},
};
use tower_websocket::{
    Config, WebSocket,
    hub::{History, Hub, HubConfig, Membership, Overflow, RoomConfig},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn main() {
    run("a message", allocations_of_a_message());
    run("members and rooms", members_and_rooms());
    run("parts", parts());
    run("one of 200 stalled", one_of_200_is_stalled());
    run("300 of 1,000 stopped", three_hundred_of_1000_are_stopped());
    run("history", history());
    run("refused joins", refused_joins());
}

fn run(name: &str, part: impl Future<Output = ()>) {
    println!("{name}:");
    memory::run(part);
}

/// Returns the bytes in use since the region began.
fn in_use(region: &Region<'_, System>) -> isize {
    let stats = region.change();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// A connection whose peer is a task that reads, or nobody.
async fn connect(capacity: usize, reads: bool) -> (WebSocket, Option<DuplexStream>) {
    let config = Config::new()
        .without_keepalive()
        .write_timeout(Duration::from_secs(3600));
    let (socket, mut client) = pipe::socket(config, capacity);
    if !reads {
        return (socket, Some(client));
    }
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while client.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    });
    (socket, None)
}

async fn allocations_of_a_message() {
    for members in [3, 100] {
        let hub: Hub = Hub::new();
        let room = hub.room("a");
        let mut joined = Vec::new();
        for _ in 0..members {
            let (socket, client) = connect(64 * KIB, true).await;
            joined.push((room.join(&socket, ()).await.unwrap(), socket, client));
        }
        for len in [10, 10_000] {
            let payload = bytes::Bytes::from(vec![7; len]);
            room.send(payload.clone()).unwrap();
            settle().await;
            let region = Region::new(ALLOCATOR);
            room.send(payload.clone()).unwrap();
            let allocations = region.change().allocations;
            println!("- {allocations} allocations for {len} bytes to {members} members");
            assert!(allocations <= 3, "{allocations}");
            settle().await;
        }
    }
}

async fn members_and_rooms() {
    const MEMBERS: usize = 1000;
    let hub: Hub = Hub::new();
    let mut sockets = Vec::new();
    for _ in 0..MEMBERS {
        sockets.push(connect(16, false).await);
    }
    settle().await;
    let mut joined: Vec<Membership> = Vec::with_capacity(MEMBERS);
    let region = Region::new(ALLOCATOR);
    for (socket, _) in &sockets {
        joined.push(hub.room("one").join(socket, ()).await.unwrap());
    }
    let member = in_use(&region) / MEMBERS as isize;
    println!("- {member} bytes for a member");
    assert!(member <= 160, "{member} bytes for a member");
    joined.clear();
    settle().await;
    let left = in_use(&region);
    println!("- {left} bytes after all have left");
    assert!(left <= 2 * KIB as isize, "{left} bytes");
    for (number, (socket, _)) in sockets.iter().enumerate() {
        joined.push(hub.room(number.to_string()).join(socket, ()).await.unwrap());
    }
    let room = in_use(&region) / MEMBERS as isize - member;
    println!("- {room} bytes for a room");
    assert!(room <= 400, "{room} bytes for a room");
    joined.clear();
    settle().await;
    let left = in_use(&region);
    println!("- {left} bytes after all rooms have ended");
    assert!(left <= 64 * 1024, "{left} bytes");
}

/// The parts of [`members_and_rooms`], one by one.
async fn parts() {
    let hub: Hub<[u64; 4]> = Hub::new();
    let room = hub.room("one");
    let (first, _client) = connect(16, false).await;
    let (second, _client) = connect(16, false).await;
    settle().await;
    // The tables of the hub and of the runtime are there.
    drop(room.join(&first, [0; 4]).await.unwrap());
    let mut region = Region::new(ALLOCATOR);
    let mut part = |name: &str, most: (usize, isize)| {
        let (allocations, bytes) = (region.change().allocations, in_use(&region));
        println!("- {name}: {bytes} bytes, {allocations} allocations");
        assert!(
            allocations <= most.0 && bytes <= most.1,
            "more than {most:?}"
        );
        region.reset();
    };
    let one = room.join(&first, [0; 4]).await.unwrap();
    // Its pointer in the table of the hub is not counted here.
    part(
        "a room and its first member with a value of 32 bytes",
        (6, 528),
    );
    let two = room.join(&second, [0; 4]).await.unwrap();
    part("the second member", (3, 160 + 32));
    let silent = room.join(&first, [0; 4]).silent().await.unwrap();
    part(
        "a silent member of a connection that is one already",
        (3, 208),
    );
    drop(silent);
    region.reset();
    let again = room.join(&second, [0; 4]).await.unwrap();
    drop(again);
    let allocations = region.change().allocations;
    println!("- {allocations} allocations for a join and a leave");
    assert!(allocations <= 3, "{allocations}");
    drop((one, two));
}

fn hub(overflow: Overflow) -> Hub {
    Hub::with(HubConfig::new().rooms(move |_| RoomConfig::new().overflow(overflow)))
}

async fn one_of_200_is_stalled() {
    let hub = hub(Overflow::DropOldest);
    let room = hub.room("a");
    let mut members = Vec::new();
    for number in 0..200 {
        let (socket, client) = connect(4 * KIB, number > 0).await;
        members.push((room.join(&socket, ()).await.unwrap(), socket, client));
    }
    for _ in 0..50 {
        room.send(vec![7; 100]).unwrap();
    }
    settle().await;
    let region = Region::new(ALLOCATOR);
    let start = Instant::now();
    let mut most = 0;
    // 5,000 messages a second for 60 s.
    for turn in 1..=6000 {
        for _ in 0..50 {
            room.send(vec![7; 100]).unwrap();
        }
        sleep_until(start + turn * Duration::from_millis(10)).await;
        most = most.max(in_use(&region));
    }
    println!("- {} KiB at most", most / 1024);
    assert!(most <= 3 * MIB as isize / 2, "{most} bytes");
    let lost: Vec<_> = members
        .iter()
        .map(|(member, ..)| member.lag().lost)
        .collect();
    assert!(lost[0] > 290_000);
    assert!(lost[1..].iter().all(|lost| *lost == 0));
}

async fn three_hundred_of_1000_are_stopped() {
    let hub = hub(Overflow::DropOldest);
    let room = hub.room("a");
    let mut members = Vec::new();
    for number in 0..1000 {
        let (socket, client) = connect(4 * KIB, number % 10 >= 3).await;
        members.push((room.join(&socket, ()).await.unwrap(), socket, client));
    }
    // Fills the pipes, whose memory is not that of the connections.
    for _ in 0..3 {
        room.send(vec![7; KIB]).unwrap();
        settle().await;
    }
    let region = Region::new(ALLOCATOR);
    let mut most = 0;
    for _ in 0..3000 {
        let sent = room.send(vec![7; KIB]).unwrap();
        assert_eq!(sent.members_here, 1000);
        settle().await;
        most = most.max(in_use(&region));
    }
    let end = in_use(&region);
    let all = members
        .iter()
        .map(|(_, socket, _)| socket.sender().buffered().bytes);
    println!(
        "- {} KiB queued, {} KiB at the end",
        all.sum::<usize>() / KIB,
        end / 1024
    );
    println!("- {} KiB at most", most / 1024);
    assert!(most <= 24 * MIB as isize, "{most} bytes");
    for (number, (member, ..)) in members.iter().enumerate() {
        assert_eq!(member.lag().lost > 0, number % 10 < 3);
    }
    drop(members);
    settle().await;
    assert_eq!(hub.rooms(), []);
    assert_eq!(hub.counts().backlog_bytes, 0);
}

/// Rooms with history without members; then members that came back and do not read.
async fn history() {
    const ROOMS: usize = 100;
    let config = HubConfig::new().max_history(8 * MIB).rooms(|_| {
        let history = History::new().max_messages(1000).max_bytes(10 * MIB);
        RoomConfig::new().history(history)
    });
    let hub: Hub = Hub::with(config);
    let (socket, _client) = connect(4 * KIB, true).await;
    let mut positions = Vec::new();
    for number in 0..ROOMS {
        let member = hub
            .room(number.to_string())
            .join(&socket, ())
            .await
            .unwrap();
        positions.extend(member.position());
    }
    settle().await;
    let region = Region::new(ALLOCATOR);
    let mut most = 0;
    for turn in 0..1000 {
        for number in 0..ROOMS {
            // Of different lengths.
            let len = (turn * 31 + number) % 300;
            hub.room(number.to_string()).send(vec![7; len]).unwrap();
        }
        let counted = hub.counts().history_bytes;
        assert!(counted <= 8 * MIB, "{counted} bytes counted");
        most = most.max(in_use(&region));
    }
    let counts = hub.counts();
    let kept = counts.history_bytes / KIB;
    println!("- {} KiB at most, {kept} KiB counted", most / 1024);
    assert!(counts.history_refused > 0);
    assert!(most <= 9 * MIB as isize, "{most} bytes");

    // 300 members that came back and read nothing share what is kept.
    let room = hub.room("0");
    let mut members = Vec::new();
    for _ in 0..300 {
        members.push(connect(16, false).await);
    }
    settle().await;
    let before = in_use(&region);
    let mut joined = Vec::new();
    for (socket, _) in &members {
        joined.push(room.join(socket, ()).with_history(50).await.unwrap());
    }
    settle().await;
    let queued = members
        .iter()
        .map(|(socket, _)| socket.sender().buffered().bytes);
    let queued = queued.sum::<usize>() as isize;
    let each = (in_use(&region) - before) / 300;
    println!(
        "- {each} bytes for a member that came back, {} of them queued",
        queued / 300
    );
    assert!(each <= queued / 300 + 20 * KIB as isize, "{each} bytes");
    drop((joined, members));
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(hub.counts().history_bytes, 0);
    let left = in_use(&region);
    println!("- {left} bytes after all has expired");
    assert!(left <= 64 * KIB as isize, "{left} bytes");
}

/// A connection that is in as many rooms as it may be tries further ones, whose messages would be kept for a day.
async fn refused_joins() {
    let config = HubConfig::new().max_rooms_per_connection(1).rooms(|_| {
        let history = History::new().max_age(Duration::from_secs(86_400));
        RoomConfig::new().history(history)
    });
    let hub: Hub = Hub::with(config);
    let (socket, _client) = connect(4 * KIB, true).await;
    let _member = hub.room("a").join(&socket, ()).await.unwrap();
    settle().await;
    let region = Region::new(ALLOCATOR);
    for number in 0..10_000 {
        let room = hub.room(format!("b{number}"));
        assert!(room.join(&socket, ()).await.is_err());
    }
    settle().await;
    let left = in_use(&region);
    println!("- {left} bytes after 10,000 of them");
    assert!(left <= 64 * KIB as isize, "{left} bytes");
}
