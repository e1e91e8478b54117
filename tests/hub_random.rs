//! Random steps in rooms of every policy, against a model: each member gets the messages between its join and its end
//! in order, and is told of each hole.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use support::{pipe, schedule::Random};
use tokio::{
    io::{AsyncRead, DuplexStream, ReadBuf},
    task::yield_now,
};
use tower_websocket::{
    CloseCode, Config, WebSocket,
    hub::{History, Hub, HubConfig, Json, Membership, Overflow, Publication, Recovery, RoomConfig},
};

const POLICIES: [Overflow; 5] = [
    Overflow::Disconnect(CloseCode::TRY_AGAIN_LATER),
    Overflow::DropOldest,
    Overflow::DropNewest,
    Overflow::Latest,
    Overflow::CatchUp,
];
const SEEDS: u64 = 10;
const STEPS: usize = 100_000;
/// Keys of a room with `Latest`.
const KEYS: usize = 5;

/// Returns the key of a message, if it has one.
const fn key(number: usize) -> Option<usize> {
    let key = number * 7919 % 101 % (2 * KEYS);
    if key < KEYS { Some(key) } else { None }
}

struct Member {
    room: usize,
    membership: Option<Membership>,
    _socket: WebSocket,
    stream: DuplexStream,
    unread: Vec<u8>,
    /// The first number after the join.
    start: usize,
    /// The next number that may come.
    next: usize,
    /// The same with `Latest`: for those without a key, and then for each key.
    latest: [usize; 1 + KEYS],
    /// No number from here on may come.
    end: usize,
    received: usize,
    lost: usize,
    /// The lost ones that are followed by no number yet.
    gap: usize,
    is_closed: bool,
    /// The position of the last message, in a room with history.
    at: Option<String>,
}

impl Member {
    /// Reads up to `most` bytes of what has arrived. Returns whether there were any.
    fn read(&mut self, most: usize) -> bool {
        let mut bytes = vec![0; most];
        let mut buffer = ReadBuf::new(&mut bytes);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(())) = Pin::new(&mut self.stream).poll_read(&mut cx, &mut buffer) else {
            return false;
        };
        self.unread.extend_from_slice(buffer.filled());
        let any = !buffer.filled().is_empty();
        while let Some(frame) = self.frame() {
            self.check(&frame);
        }
        any
    }

    fn frame(&mut self) -> Option<(u8, String)> {
        let (head, len) = match self.unread[..] {
            [_, 126, high, low, ..] => (4, usize::from(high) << 8 | usize::from(low)),
            [_, len, ..] if len < 126 => (2, len.into()),
            _ => return None,
        };
        let payload = self.unread.get(head..head + len)?;
        let payload = String::from_utf8_lossy(payload).into_owned();
        let first = self.unread[0];
        self.unread.drain(..head + len);
        Some((first, payload))
    }

    fn check(&mut self, (first, text): &(u8, String)) {
        if first & 0xf == 8 {
            self.is_closed = true;
            return;
        }
        let number = |field: &str| {
            let (_, rest) = text.split_once(field)?;
            let digits = rest.split(|byte: char| !byte.is_ascii_digit()).next()?;
            digits.parse::<usize>().ok()
        };
        if let Some(lost) = number("\"lost\":") {
            self.gap += lost;
            self.lost += lost;
        } else if let Some(number) = number("\"data\":") {
            assert!(number < self.end, "{number} after the end");
            match POLICIES[self.room] {
                // Superseded ones are not told, and each key has its own order.
                Overflow::Latest => {
                    let next = &mut self.latest[key(number).map_or(0, |key| key + 1)];
                    assert!(number >= *next, "{number}");
                    *next = number + 1;
                }
                _ => assert_eq!(number, self.next + self.gap),
            }
            if let Some((_, at)) = text.split_once("\"at\":\"") {
                self.at = at.split('"').next().map(Into::into);
            }
            self.gap = 0;
            self.next = self.next.max(number + 1);
            self.received += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn members_get_everything_in_order_or_are_told() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        run(seed).await;
    }
}

/// Reads until nothing comes.
async fn read_all(members: &mut [Member]) {
    let mut quiet = 0;
    while quiet < 20 {
        quiet += 1;
        for member in &mut *members {
            if member.read(4096) {
                quiet = 0;
            }
        }
        yield_now().await;
    }
}

async fn run(seed: u64) {
    let mut random = Random::new(seed + 1);
    let config = HubConfig::new().rooms(|name| {
        let policy = POLICIES[name.parse::<usize>().unwrap()];
        let config = RoomConfig::new()
            .overflow(policy)
            .max_backlog(40, 100_000)
            .envelope(Json::without_values());
        match policy {
            Overflow::CatchUp => config.history(History::new().max_messages(60)),
            _ => config,
        }
    });
    let hub: Hub = Hub::with(config);
    let mut sent = [0; POLICIES.len()];
    let mut members: Vec<Member> = Vec::new();
    let mut done = [(0, 0); POLICIES.len()];
    // Where members of the room with history were.
    let mut gone: Vec<(String, usize)> = Vec::new();
    let (mut recovered, mut not_recovered) = (0, 0);
    for _ in 0..STEPS {
        let room = random.below(POLICIES.len());
        match random.below(20) {
            0 if members.len() < 12 => {
                let capacity = [20, 200, 4096][random.below(3)];
                let config = Config::new().without_keepalive();
                let (socket, stream) = pipe::socket(config, capacity);
                let mut join = hub.room(room.to_string()).join(&socket, ());
                if random.below(2) == 0 {
                    join = join.key(random.below(3).to_string());
                }
                let mut next = sent[room];
                let mut was = None;
                if POLICIES[room] == Overflow::CatchUp && !gone.is_empty() {
                    let (at, next) = gone.swap_remove(random.below(gone.len()));
                    was = Some(next);
                    join = join.resume(at, None);
                }
                let membership = match random.below(2) {
                    0 => join.await.unwrap(),
                    _ => join.paused().await.unwrap().start(),
                };
                match membership.recovery() {
                    Recovery::Recovered { messages, .. } => {
                        assert_eq!(next - messages, was.unwrap());
                        next -= messages;
                        recovered += 1;
                    }
                    Recovery::Gap { .. } => {
                        assert!(next - was.unwrap() > 59);
                        not_recovered += 1;
                    }
                    _ => assert_eq!(was, None),
                }
                members.push(Member {
                    room,
                    membership: Some(membership),
                    _socket: socket,
                    stream,
                    unread: Vec::new(),
                    start: next,
                    next,
                    latest: [next; 1 + KEYS],
                    end: usize::MAX,
                    received: 0,
                    lost: 0,
                    gap: 0,
                    is_closed: false,
                    at: None,
                });
            }
            1 if !members.is_empty() && random.below(5) == 0 => {
                let at = random.below(members.len());
                let mut member = members.swap_remove(at);
                let counts = &mut done[member.room];
                match random.below(3) {
                    // The connection ends.
                    0 => {}
                    // It leaves, and reads the earlier messages.
                    _ => {
                        member.membership = None;
                        member.end = sent[member.room];
                        while member.read(4096) {
                            yield_now().await;
                        }
                    }
                }
                counts.0 += member.received;
                counts.1 += member.lost;
                gone.extend(member.at.map(|at| (at, member.next)));
            }
            2 | 3 if !members.is_empty() => {
                let at = random.below(members.len());
                members[at].read([1, 30, 3000][random.below(3)]);
            }
            4..=6 => yield_now().await,
            7 if random.below(50) == 0 => {
                read_all(&mut members).await;
            }
            _ => {
                let text = sent[room].to_string();
                let mut publication = Publication::new(text);
                if let Some(key) = key(sent[room]) {
                    publication = publication.latest(key.to_string());
                }
                let result = hub.room(room.to_string()).publish(publication);
                assert!(result.is_ok());
                sent[room] += 1;
            }
        }
    }
    // Everybody reads to the end.
    read_all(&mut members).await;
    let mut alive = 0;
    for member in &members {
        if !member.is_closed {
            alive += 1;
            let lost = member.membership.as_ref().unwrap().lag();
            assert_eq!((lost.behind, lost.lost as usize), (0, member.lost));
            assert_eq!(member.next + member.gap, sent[member.room]);
            if POLICIES[member.room] == Overflow::Latest {
                // The newest message of each key has come, unless it is from before the join.
                for (at, next) in member.latest.into_iter().enumerate().skip(1) {
                    let newest = (member.start..sent[member.room]).rev();
                    let newest = newest
                        .into_iter()
                        .find(|number| key(*number) == Some(at - 1));
                    assert_eq!(next, newest.map_or(member.start, |number| number + 1));
                }
            }
        }
        let counts = &mut done[member.room];
        counts.0 += member.received;
        counts.1 += member.lost;
    }
    assert_eq!(hub.counts().members, alive);
    drop(members);
    for _ in 0..100 {
        yield_now().await;
    }
    assert_eq!(hub.rooms(), []);
    let counts = hub.counts();
    assert_eq!(
        (counts.waiting, counts.backlog_bytes, counts.behind),
        (0, 0, 0)
    );
    let ended = counts.delivered + counts.lost + counts.superseded + counts.unsent;
    assert_eq!(counts.addressed, ended);
    let (received, lost) = done
        .iter()
        .fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
    assert!(counts.delivered as usize >= received && counts.lost as usize >= lost);
    assert_eq!(counts.recovered, recovered);
    assert_eq!(counts.not_recovered, not_recovered);
    assert!(
        recovered > 10 && not_recovered > 10,
        "{recovered} recovered, {not_recovered} not"
    );
    assert!(
        received > 1000 && lost > 100,
        "{received} received, {lost} lost"
    );
    assert!(
        counts.superseded > 100 && counts.disconnected > 10,
        "{counts:?}"
    );
}
