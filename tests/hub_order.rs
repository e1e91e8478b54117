//! Rooms keep their promises about order when members come, go and fall behind at bad moments.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use futures_util::FutureExt;
use support::{
    pipe, settle,
    wire::{CLOSE, FIN, TEXT, read_frame},
    within,
};
use tokio::{io::DuplexStream, time::timeout};
use tower_websocket::{
    CloseCode, Config, WebSocket,
    hub::{Hub, HubConfig, Membership, Overflow, RoomConfig},
};

struct Client {
    member: Membership,
    socket: WebSocket,
    stream: DuplexStream,
}

async fn join(hub: &Hub, capacity: usize) -> Client {
    let config = Config::new().without_keepalive();
    let (socket, stream) = pipe::socket(config, capacity);
    let member = hub.room("a").join(&socket, ()).await.unwrap();
    Client {
        member,
        socket,
        stream,
    }
}

impl Client {
    async fn text(&mut self) -> String {
        let frame = within(read_frame(&mut self.stream)).await.unwrap();
        assert_eq!(frame.first, FIN | TEXT, "{:?}", frame.payload);
        String::from_utf8(frame.payload).unwrap()
    }

    async fn is_silent(&mut self) -> bool {
        settle().await;
        let read = timeout(Duration::from_millis(1), read_frame(&mut self.stream));
        read.await.is_err()
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_gets_nothing_that_was_sent_before_its_join() {
    // Those before the join are delivered in one turn of the chunk's task, and in several.
    for before in [1, 63, 64, 65, 100, 1000] {
        let hub = Hub::new();
        let mut first = join(&hub, 64 * 1024).await;
        for number in 0..before {
            hub.room("a").send(number.to_string()).unwrap();
        }
        let mut second = join(&hub, 64 * 1024).await;
        hub.room("a").send("after").unwrap();
        assert_eq!(second.text().await, "after", "{before}");
        assert!(second.is_silent().await);
        for number in 0..before {
            assert_eq!(first.text().await, number.to_string());
        }
        assert_eq!(first.text().await, "after");
        let counts = hub.counts();
        assert_eq!(counts.addressed, before + 2, "{before}");
    }
}

#[tokio::test(start_paused = true)]
async fn disconnect_closes_a_member_that_reads_again_just_after_it_has_missed_a_message() {
    let config = HubConfig::new().rooms(|_| {
        RoomConfig::new()
            .overflow(Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER))
            .max_backlog(10, 1024 * 1024)
    });
    let hub: Hub = Hub::with(config);
    let mut slow = join(&hub, 1024).await;
    let mut sent = 0;
    let mut send = || {
        hub.room("a").send(format!("{sent:0100}")).unwrap();
        sent += 1;
    };
    // Its share of the outbox and the backlog are full.
    while hub.counts().waiting < 10 {
        send();
        settle().await;
    }
    let mut read = 0;
    let mut next = async || {
        let frame = within(read_frame(&mut slow.stream)).await.unwrap();
        if frame.first == FIN | CLOSE {
            return frame.close_code();
        }
        let number: u64 = std::str::from_utf8(&frame.payload)
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(number, read, "a hole");
        read += 1;
        None
    };
    // The pipe holds 10 messages, and the outbox 64. The connection has written all once 64 are read.
    for _ in 0..63 {
        assert_eq!(next().await, None);
        settle().await;
    }
    // Its connection is woken, and runs before the task that delivers the message.
    assert_eq!(next().now_or_never(), Some(None));
    send();
    let code = loop {
        if let Some(code) = next().await {
            break code;
        }
    };
    assert_eq!(code, 1013);
    settle().await;
    assert_eq!(hub.counts().disconnected, 1);
    assert_eq!(hub.counts().lost, 1);
    drop(slow.member);
}
