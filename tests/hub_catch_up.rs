//! Slow members of rooms with a history: they read on from it, or are told a gap.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use support::{
    pipe,
    resume::{Client, field, hub, join, json, outcome, read},
    settle,
    wire::{FIN, TEXT},
};
use tokio::task::yield_now;
use tower_websocket::{
    CloseCode, Config,
    hub::{History, Overflow, Publication, Room, RoomConfig},
};
/// A member whose stream holds one byte.
async fn slow(room: &Room) -> Client {
    let (socket, stream) = pipe::socket(Config::new().without_keepalive(), 1);
    let member = room.join(&socket, ()).await.unwrap();
    Client {
        member,
        _socket: socket,
        stream,
    }
}

async fn send(room: &Room, numbers: std::ops::Range<usize>) {
    for number in numbers {
        room.send(number.to_string()).unwrap();
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_member_reads_on_from_the_history() {
    let hub = hub(|| {
        let history = History::new().max_messages(2000).max_bytes(1 << 20);
        json().history(history).max_backlog(10, 10_000)
    });
    let room = hub.room("a");
    let mut slow = slow(&room).await;
    send(&room, 0..1500).await;
    assert!(slow.member.lag().behind > 1400);
    assert_eq!(slow.member.lag().lost, 0);
    let counts = hub.counts();
    assert!(counts.backlog_bytes <= 10 * (128 + 100), "{counts:?}");
    slow.messages(0..700).await;
    send(&room, 1500..1600).await;
    slow.messages(700..1600).await;
    settle().await;
    assert_eq!(slow.member.lag(), Default::default());
    let counts = hub.counts();
    assert_eq!((counts.lost, counts.waiting, counts.behind), (0, 0, 0));
    assert_eq!((counts.backlog_bytes, counts.gaps_told), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn past_the_history_a_slow_member_is_told_one_gap() {
    let hub = hub(|| json().history(History::new()).max_backlog(10, 10_000));
    let room = hub.room("a");
    let mut slow = slow(&room).await;
    settle().await;
    send(&room, 0..1000).await;
    let (mut next, mut gaps) = (0, 0);
    while next < 1000 {
        let text = String::from_utf8(read(&mut slow.stream).await.payload).unwrap();
        if let Some(lost) = field(&text, "lost") {
            next += lost.parse::<usize>().unwrap();
            gaps += 1;
            assert_eq!(next, 900);
        } else if let Some(data) = field(&text, "data") {
            assert_eq!(data, next.to_string());
            next += 1;
        }
    }
    assert_eq!(gaps, 1);
    send(&room, 1000..1010).await;
    slow.messages(1000..1010).await;
    let counts = hub.counts();
    assert_eq!(counts.lost, slow.member.lag().lost);
    assert_eq!(counts.addressed, counts.delivered + counts.lost);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_cannot_be_told_is_closed_with_4000() {
    let hub = hub(|| {
        RoomConfig::new()
            .history(History::new())
            .max_backlog(10, 10_000)
    });
    let room = hub.room("a");
    let mut slow = slow(&room).await;
    send(&room, 0..1000).await;
    let mut next = 0;
    let close = loop {
        let frame = read(&mut slow.stream).await;
        if frame.first != FIN | TEXT {
            break frame;
        }
        assert_eq!(frame.payload, next.to_string().into_bytes());
        next += 1;
    };
    assert_eq!(close.close_code(), Some(4000));
    assert!(next < 100, "{next}");
    assert_eq!(room.len_here(), 0);
    let counts = hub.counts();
    assert_eq!(
        (counts.disconnected, counts.behind, counts.waiting),
        (1, 0, 0)
    );
    assert_eq!(
        counts.addressed,
        counts.delivered + counts.lost + counts.unsent
    );
}

#[tokio::test(start_paused = true)]
async fn fleeting_messages_are_missed_without_a_gap() {
    let hub = hub(|| json().history(History::new().max_messages(1000)));
    let room = hub.room("a");
    let mut slow = slow(&room).await;
    let mut fast = join(&room, |join| join).await;
    settle().await;
    for number in 0..300 {
        room.send(number.to_string()).unwrap();
        room.publish(Publication::new("\"types\"").fleeting())
            .unwrap();
        yield_now().await;
    }
    let (mut typing, mut next) = (0, 0);
    while next < 300 {
        let text = String::from_utf8(read(&mut slow.stream).await.payload).unwrap();
        match field(&text, "data") {
            Some("types") => typing += 1,
            Some(data) => {
                assert_eq!(data, next.to_string());
                assert!(field(&text, "at").is_some());
                next += 1;
            }
            None => assert_eq!(field(&text, "gap"), None),
        }
    }
    settle().await;
    let lag = slow.member.lag();
    assert!(typing < 100 && lag.lost > 200, "{typing}, {lag:?}");
    let counts = hub.counts();
    assert_eq!(
        (counts.lost, counts.gaps_told, counts.waiting),
        (lag.lost, 0, 0)
    );
    // A member that keeps up gets all.
    for _ in 0..600 {
        let frame = read(&mut fast.stream).await;
        assert_eq!(frame.first, FIN | TEXT);
    }
}

#[tokio::test(start_paused = true)]
async fn every_policy_replays_and_then_does_its_own() {
    for overflow in [
        Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER),
        Overflow::DropOldest,
        Overflow::DropNewest,
        Overflow::Latest,
        Overflow::CatchUp,
    ] {
        let hub = hub(move || {
            let history = History::new().max_messages(500);
            json()
                .history(history)
                .overflow(overflow)
                .max_backlog(10, 10_000)
        });
        let room = hub.room("a");
        let first = join(&room, |join| join).await;
        let at = first.member.position().unwrap();
        drop(first);
        let publish = |number: usize| {
            let publication = Publication::new(number.to_string());
            room.publish(publication.latest((number % 3).to_string()))
                .unwrap();
        };
        (0..200).for_each(publish);
        // Messages that are sent during the replay are not lost either.
        let (socket, stream) = pipe::socket(Config::new().without_keepalive(), 1);
        let member = room.join(&socket, ()).resume(at, None).await.unwrap();
        assert_eq!(outcome(member.recovery()), Ok(200), "{overflow:?}");
        let mut client = Client {
            member,
            _socket: socket,
            stream,
        };
        for number in 200..300 {
            publish(number);
            yield_now().await;
        }
        client.messages(0..300).await;
        settle().await;
        publish(300);
        client.messages(300..301).await;
        let counts = hub.counts();
        assert_eq!((counts.lost, counts.waiting), (0, 0), "{overflow:?}");
        assert_eq!(
            (counts.behind, counts.backlog_bytes),
            (0, 0),
            "{overflow:?}"
        );
        assert_eq!(counts.addressed, counts.delivered, "{overflow:?}");
        // A member that leaves in the middle of a replay leaves nothing behind.
        let mut paused = room
            .join(&client._socket, ())
            .with_history(50)
            .paused()
            .await
            .unwrap();
        assert_eq!(paused.replay().len(), 50);
        drop(paused);
        drop(
            room.join(&client._socket, ())
                .with_history(50)
                .paused()
                .await
                .unwrap(),
        );
        drop(client);
        settle().await;
        let counts = hub.counts();
        let ended = counts.delivered + counts.lost + counts.superseded + counts.unsent;
        assert_eq!(counts.addressed, ended, "{overflow:?}");
        assert_eq!(
            (counts.behind, counts.backlog_bytes),
            (0, 0),
            "{overflow:?}"
        );
    }
}
