//! Everybody writes at the same time, on several threads.

use std::{
    str,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::task::{JoinSet, yield_now};
use tower_websocket::{
    CloseCode, Config,
    hub::{Hub, HubConfig, RoomConfig},
};

use crate::{
    peer::{Peer, number_of, numbered},
    support::{
        wire::{self, FIN, PING, PONG, TEXT, frame, read_frame, write},
        within,
    },
};

/// All that may write at the same time: rooms, senders, the handler and pongs, while the peer reads late.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_writes_at_once_and_nothing_is_lost_or_cut() {
    const PEERS: usize = 6;
    const MESSAGES: usize = 400;
    // The number of messages that a peer may not have read yet. With many of them, streams take only parts of frames, and
    // members fall behind.
    for (ahead, words) in [
        (8, [1, 1, 1, 2, 1, 2, 1]),
        (24, [1, 1, 3, 600, 1, 2, 4000]),
        (MESSAGES, [1, 7500, 3, 600, 1, 500, 8000]),
    ] {
        let config = HubConfig::new().rooms(|_| RoomConfig::new().max_backlog(1024, 32 << 20));
        let hub: Hub = Hub::with(config);
        let progress: Arc<[AtomicUsize; PEERS]> = Arc::default();
        let mut tasks = JoinSet::new();
        for place in 0..PEERS {
            let peer = Peer::join(&hub, Config::new().max_outbox(64, 64 * 1024)).await;
            let progress = Arc::clone(&progress);
            tasks.spawn(async move { exchange(peer, place, &*progress, MESSAGES).await });
        }
        for number in 0..MESSAGES {
            let slowest = || progress.iter().map(|read| read.load(SeqCst)).min();
            while slowest().is_some_and(|read| number > read + ahead) {
                yield_now().await;
            }
            let text = numbered(number, words[number % words.len()]);
            hub.room("a").send(text).unwrap();
            if number % 5 == 0 {
                yield_now().await;
            }
        }
        while let Some(done) = within(tasks.join_next()).await {
            done.unwrap();
        }
        assert_eq!(hub.counts().lost, 0);
        assert_eq!(hub.rooms(), []);
    }
}

/// Reads the room's messages, the answers to own texts and pings, and the messages of a sender, each in order.
async fn exchange(peer: Peer, place: usize, progress: &[AtomicUsize], messages: usize) {
    let Peer {
        client,
        sender,
        membership: _membership,
        ends: _ends,
    } = peer;
    let (mut reader, mut writer) = client.into_split();
    let sending = sender.clone();
    let sends = tokio::spawn(async move {
        for number in 0..messages {
            sending.send(format!("sender {number}")).await.unwrap();
            if number % 3 == 0 {
                yield_now().await;
            }
        }
    });
    let writes = tokio::spawn(async move {
        for number in 0..messages {
            let text = format!("text {number}");
            write(&mut writer, &frame(FIN | TEXT, text.as_bytes())).await;
            if number % 40 == 0 {
                let ping = format!("ping {number}");
                write(&mut writer, &frame(FIN | PING, ping.as_bytes())).await;
            }
            if number % 2 == 0 {
                yield_now().await;
            }
        }
        writer
    });
    let (mut room, mut texts, mut pongs, mut own) = (0, 0, 0, 0);
    while room < messages || texts < messages || pongs * 40 < messages || own < messages {
        let got = within(read_frame(&mut reader)).await.unwrap();
        let text = str::from_utf8(&got.payload).unwrap();
        let (kind, number) = text.split_once(' ').unwrap();
        let number = number.trim();
        let (expected, counted) = match kind {
            "sender" => (own, &mut own),
            "text" => (texts, &mut texts),
            "ping" => {
                assert_eq!(got.first, FIN | PONG);
                (pongs * 40, &mut pongs)
            }
            _ => {
                assert_eq!(number_of(&got.payload), room);
                room += 1;
                progress[place].store(room, SeqCst);
                if room % 50 == place {
                    for _ in 0..200 {
                        yield_now().await;
                    }
                }
                continue;
            }
        };
        assert_eq!(number.parse::<usize>().unwrap(), expected, "{kind}");
        *counted += 1;
    }
    sends.await.unwrap();
    let mut writer = writes.await.unwrap();
    sender.close(CloseCode::NORMAL, "").unwrap();
    let last = within(read_frame(&mut reader)).await.unwrap();
    assert_eq!(last.close_code(), Some(1000));
    write(&mut writer, &wire::close(1000, "")).await;
    assert!(within(sender.closed()).await.is_clean());
}
